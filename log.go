package main

// The log: one JSON object a line on stderr. What may be logged about a request is decided in pipeline.go.

import (
	"io"
	"log"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// newLogger writes lines after CONTRACT §6, in UTC whatever the process's time zone.
func newLogger(w io.Writer, cfg logConfig) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(cfg.level)) // checked with the configuration
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Time("timestamp", a.Value.Time().UTC())
		}
		return a
	}}
	if cfg.format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// httpErrors takes what net/http has to say into the same log.
func httpErrors(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelWarn) }

// printable makes a client's text fit for a log or a list: valid UTF-8, nothing invisible (escape codes, direction marks),
// at most max code points.
func printable(s string, max int) string {
	if len(s) > 4*max {
		s = s[:4*max]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > max {
		s = string([]rune(s)[:max])
	}
	return s
}
