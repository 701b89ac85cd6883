package main

// Configuration: the environment, checked as a whole. Every fault is reported at once, and a name nobody reads is a fault.
// What a setting does belongs to the file that uses it.

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// config is the checked environment.
type config struct {
	databaseURL  string
	secret       []byte
	url          string // issuer and base of links, without a slash at its end
	listen       listenConfig
	tokens       tokenConfig
	passwords    passwordConfig
	limits       limitConfig
	mail         mailConfig
	registration string // open, verified, closed
	log          logConfig
	migrate      bool
	warnings     []string // settings that work, but should be known about
}

type listenConfig struct {
	addr            string
	internalAddr    string
	tlsCert         string
	tlsKey          string
	trustedProxies  []netip.Prefix
	shutdownTimeout time.Duration
}

type tokenConfig struct {
	issuer       string
	audience     string
	alg          string
	hs256Key     []byte
	accessTTL    time.Duration
	refreshTTL   time.Duration
	sessionTTL   time.Duration
	refreshGrace time.Duration
}

type passwordConfig struct {
	min     int // code points
	argon   argonParams
	workers int
}

type limitConfig struct {
	credentials rate
	api         rate
}

type mailConfig struct {
	smtp       *url.URL // nil: mail is off
	from       string
	resetLink  string // with {token}
	verifyLink string
}

type logConfig struct {
	level  string
	format string
}

// defaultArgon is OWASP's least memory for argon2id with t=2.
var defaultArgon = argonParams{19456, 2, 1}

const minSecretBytes = 32

// environment reads settings and remembers what was asked for and what was wrong.
type environment struct {
	vars     map[string]string
	asked    map[string]bool
	problems []string
}

func newEnvironment(vars []string) *environment {
	e := &environment{vars: map[string]string{}, asked: map[string]bool{}}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		e.vars[name] = value
	}
	return e
}

func (e *environment) problem(name, format string, args ...any) {
	e.problems = append(e.problems, name+": "+fmt.Sprintf(format, args...))
}

// text returns a setting; set to nothing is the same as not set, as compose files do it.
func (e *environment) text(name, fallback string) string {
	e.asked[name] = true
	if v := e.vars[name]; v != "" {
		return v
	}
	return fallback
}

// secret reads NAME, or the file NAME_FILE names, less the line end. The result may be nil.
func (e *environment) secret(name string) []byte {
	value, file := e.text(name, ""), e.text(name+"_FILE", "")
	switch {
	case value != "" && file != "":
		e.problem(name, "set it or %s_FILE, not both", name)
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			e.problem(name+"_FILE", "can't be read: %v", err)
		}
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o002 != 0 {
			e.problem(name+"_FILE", "%s can be written by everybody", file)
		}
		value = strings.TrimRight(string(b), "\r\n")
	}
	if value == "" {
		return nil
	}
	return []byte(value)
}

func (e *environment) oneOf(name, fallback string, allowed ...string) string {
	v := e.text(name, fallback)
	if !slices.Contains(allowed, v) {
		e.problem(name, "%q is none of %s", v, strings.Join(allowed, ", "))
	}
	return v
}

func (e *environment) duration(name, fallback string, least, most time.Duration) time.Duration {
	v := e.text(name, fallback)
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		e.problem(name, "%q is not a duration from %s to %s, such as %s", v, least, most, fallback)
	}
	return d
}

func (e *environment) integer(name string, fallback, least, most int) int {
	v := e.text(name, strconv.Itoa(fallback))
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		e.problem(name, "%q is not a whole number from %d to %d", v, least, most)
	}
	return n
}

// address reads HOST:PORT to listen on; the host may be empty.
func (e *environment) address(name, fallback string) string {
	v := e.text(name, fallback)
	_, port, err := net.SplitHostPort(v)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || strconv.FormatUint(n, 10) != port {
		e.problem(name, "%q is not an address to listen on, such as %s", v, fallback)
	}
	return v
}

// rate reads COUNT/DURATION or off.
func (e *environment) rate(name, fallback string) rate {
	v := e.text(name, fallback)
	if v == "off" {
		return rate{}
	}
	count, per, _ := strings.Cut(v, "/")
	n, err1 := strconv.Atoi(count)
	d, err2 := time.ParseDuration(per)
	if err1 != nil || err2 != nil || n < 1 || n > 1_000_000 || d < time.Millisecond || d > 24*time.Hour {
		e.problem(name, "%q is not COUNT/DURATION, such as %s, or off", v, fallback)
		return rate{}
	}
	return rate{n, d}
}

// httpURL reads an absolute http(s) URL without query and fragment, and returns it without a slash at its end.
func (e *environment) httpURL(name, fallback string) string {
	v := e.text(name, fallback)
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		e.problem(name, "%q is not a URL such as https://id.example.com", v)
	}
	return strings.TrimRight(v, "/")
}

// link reads a link with the place of its token marked.
func (e *environment) link(name, fallback string) string {
	v := e.text(name, fallback)
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Count(v, "{token}") != 1 {
		e.problem(name, "%q is not a link with {token} in it, such as https://app.example.com/reset?token={token}", v)
	}
	return v
}

// loadConfig reads the environment. needSecret is false for commands that only touch the schema. The error lists every
// problem, one a line.
func loadConfig(vars []string, needSecret bool) (*config, error) {
	e := newEnvironment(vars)
	cfg := &config{databaseURL: e.text("DATABASE_URL", ""), secret: e.secret("USERSPACE_SECRET")}
	if cfg.databaseURL == "" {
		e.problem("DATABASE_URL", "not set; for a database of its own and nothing to configure run: userspace dev")
	}
	if err := checkDatabaseURL(cfg.databaseURL); cfg.databaseURL != "" && err != nil {
		e.problem("DATABASE_URL", "%v", err)
	}
	switch {
	case len(cfg.secret) == 0 && needSecret:
		e.problem("USERSPACE_SECRET", "not set; make one with: userspace secret")
	case len(cfg.secret) > 0 && len(cfg.secret) < minSecretBytes:
		e.problem("USERSPACE_SECRET", "has %d bytes, needs %d; make one with: userspace secret", len(cfg.secret), minSecretBytes)
	}
	cfg.url = e.httpURL("USERSPACE_URL", "http://localhost:8080")
	cfg.listen = loadListen(e)
	cfg.tokens = loadTokens(e, cfg.url)
	cfg.passwords = loadPasswords(e)
	cfg.limits = limitConfig{
		credentials: e.rate("USERSPACE_RATE_CREDENTIALS", "20/1m"),
		api:         e.rate("USERSPACE_RATE_API", "100/1s"),
	}
	if cfg.tokens.hs256Key != nil && bytes.Equal(cfg.tokens.hs256Key, cfg.secret) {
		e.problem("USERSPACE_HS256_KEY", "is USERSPACE_SECRET, which no other service must hold")
	}
	cfg.mail = loadMail(e, cfg.url)
	cfg.registration = e.oneOf("USERSPACE_REGISTRATION", "open", "open", "verified", "closed")
	if cfg.registration == "verified" && cfg.mail.smtp == nil {
		e.problem("USERSPACE_REGISTRATION", "verified needs mail: set USERSPACE_SMTP_URL and USERSPACE_MAIL_FROM")
	}
	cfg.log = logConfig{
		level:  e.oneOf("USERSPACE_LOG_LEVEL", "info", "debug", "info", "warn", "error"),
		format: e.oneOf("USERSPACE_LOG_FORMAT", "json", "json", "text"),
	}
	cfg.migrate = e.oneOf("USERSPACE_MIGRATE", "on", "on", "off") == "on"
	loadLater(e, cfg)
	e.unknown()
	cfg.warn()
	if len(e.problems) > 0 {
		return nil, errors.New("the configuration has " + plural(len(e.problems), "problem") + ":\n  " + strings.Join(e.problems, "\n  "))
	}
	return cfg, nil
}

func loadListen(e *environment) listenConfig {
	l := listenConfig{
		addr:            e.address("USERSPACE_ADDR", ":8080"),
		internalAddr:    e.address("USERSPACE_INTERNAL_ADDR", "127.0.0.1:9090"),
		tlsCert:         e.text("USERSPACE_TLS_CERT", ""),
		tlsKey:          e.text("USERSPACE_TLS_KEY", ""),
		shutdownTimeout: e.duration("USERSPACE_SHUTDOWN_TIMEOUT", "20s", time.Second, 10*time.Minute),
	}
	if (l.tlsCert == "") != (l.tlsKey == "") {
		e.problem("USERSPACE_TLS_CERT", "set it and USERSPACE_TLS_KEY, or neither")
	}
	for part := range strings.SplitSeq(e.text("USERSPACE_TRUSTED_PROXIES", ""), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if addr, addrErr := netip.ParseAddr(part); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || prefix.Bits() == 0 {
			e.problem("USERSPACE_TRUSTED_PROXIES", "%q is not an address or network such as 10.0.0.0/8", part)
		}
		l.trustedProxies = append(l.trustedProxies, prefix.Masked())
	}
	return l
}

func loadTokens(e *environment, base string) tokenConfig {
	t := tokenConfig{
		issuer:       base,
		audience:     e.text("USERSPACE_AUDIENCE", base),
		alg:          e.oneOf("USERSPACE_JWT_ALG", algEdDSA, algEdDSA, algHS256),
		hs256Key:     e.secret("USERSPACE_HS256_KEY"),
		accessTTL:    e.duration("USERSPACE_ACCESS_TTL", "15m", time.Second, time.Hour),
		refreshTTL:   e.duration("USERSPACE_REFRESH_TTL", "168h", time.Second, 365*24*time.Hour),
		sessionTTL:   e.duration("USERSPACE_SESSION_TTL", "720h", time.Second, 365*24*time.Hour),
		refreshGrace: e.duration("USERSPACE_REFRESH_GRACE", "10s", 0, time.Minute),
	}
	switch {
	case t.alg == algHS256 && len(t.hs256Key) < minSecretBytes:
		e.problem("USERSPACE_HS256_KEY", "has %d bytes, needs %d; make one with: userspace secret", len(t.hs256Key), minSecretBytes)
	case t.alg == algHS256 && isRepetitive(t.hs256Key):
		e.problem("USERSPACE_HS256_KEY", "can be guessed; make one with: userspace secret")
	case t.alg != algHS256 && t.hs256Key != nil:
		e.problem("USERSPACE_HS256_KEY", "is set, but USERSPACE_JWT_ALG is not HS256")
	}
	return t
}

// isRepetitive tells whether a key has so few different bytes that it was not made at random: 32 random bytes have fewer
// than 10 different ones in no case that will ever be seen; 64 hex digits have 16 at most, and nearly always over 10.
func isRepetitive(key []byte) bool {
	different := map[byte]bool{}
	for _, b := range key {
		different[b] = true
	}
	return len(different) < 10
}

func loadPasswords(e *environment) passwordConfig {
	p := passwordConfig{
		min:     e.integer("USERSPACE_PASSWORD_MIN", 12, 8, 64),
		workers: e.integer("USERSPACE_HASH_WORKERS", runtime.GOMAXPROCS(0), 1, 1024), // minds a container's CPU limit,
	}
	v := e.text("USERSPACE_ARGON2", defaultArgon.String())
	var err error
	if p.argon, err = parseArgonParams(v); err != nil {
		e.problem("USERSPACE_ARGON2", "%q is not of the form %s, within m ≤ %d, t ≤ %d, p ≤ %d", v, defaultArgon, maxArgonMemory, maxArgonTime, maxArgonLanes)
	}
	return p
}

func loadMail(e *environment, base string) mailConfig {
	m := mailConfig{
		from:       e.text("USERSPACE_MAIL_FROM", ""),
		resetLink:  e.link("USERSPACE_RESET_LINK", base+"/reset/confirm?token={token}"),
		verifyLink: e.link("USERSPACE_VERIFY_LINK", base+"/verify?token={token}"),
	}
	if m.from != "" {
		if a, err := mail.ParseAddress(m.from); err != nil {
			e.problem("USERSPACE_MAIL_FROM", "%q is not an address such as Accounts <no-reply@example.com>", m.from)
		} else if _, reason := normalEmail(a.Address); reason != "" {
			e.problem("USERSPACE_MAIL_FROM", "%q is not an address of the form local@domain.tld", a.Address)
		}
	}
	v := e.text("USERSPACE_SMTP_URL", "")
	if v == "" {
		return m
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "smtp" && u.Scheme != "smtps") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		e.problem("USERSPACE_SMTP_URL", "is not of the form smtp://user:password@host:587 or smtps://user:password@host:465")
		return m
	}
	if m.from == "" {
		e.problem("USERSPACE_MAIL_FROM", "not set, but USERSPACE_SMTP_URL is")
	}
	m.smtp = u
	return m
}

// loadLater reads the settings of the contract whose features are not in this version. They are checked, so that a
// configuration stays good; that they do nothing yet is said in the log.
func loadLater(e *environment, cfg *config) {
	pages := e.oneOf("USERSPACE_PAGES", "on", "on", "off")
	if v := e.text("USERSPACE_KEY_ROTATION", "2160h"); v != "off" {
		e.duration("USERSPACE_KEY_ROTATION", "2160h", time.Hour, 10*365*24*time.Hour)
	}
	if v := e.text("USERSPACE_AUDIT_RETENTION", "off"); v != "off" {
		e.duration("USERSPACE_AUDIT_RETENTION", "8760h", time.Hour, 100*365*24*time.Hour)
		cfg.warnings = append(cfg.warnings, "USERSPACE_AUDIT_RETENTION has no effect in this version: nothing is removed from the audit log")
	}
	for origin := range strings.SplitSeq(e.text("USERSPACE_CORS_ORIGINS", ""), ",") {
		if origin = strings.TrimSpace(origin); origin == "" {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			e.problem("USERSPACE_CORS_ORIGINS", "%q is not an exact origin such as https://app.example.com", origin)
		}
	}
	if e.vars["USERSPACE_CORS_ORIGINS"] != "" {
		cfg.warnings = append(cfg.warnings, "USERSPACE_CORS_ORIGINS has no effect in this version: browsers of other origins are refused")
	}
	if pages == "on" && e.vars["USERSPACE_PAGES"] != "" {
		cfg.warnings = append(cfg.warnings, "USERSPACE_PAGES=on has no effect in this version: there are no pages yet")
	}
	if e.vars["USERSPACE_KEY_ROTATION"] != "" && e.vars["USERSPACE_KEY_ROTATION"] != "off" {
		cfg.warnings = append(cfg.warnings, "USERSPACE_KEY_ROTATION has no effect in this version: the signing key stays")
	}
}

// unknown reports every USERSPACE_ name that nobody asked for: a misspelled setting must not pass for its default.
func (e *environment) unknown() {
	var names []string
	for name := range e.vars {
		if strings.HasPrefix(name, "USERSPACE_") && !e.asked[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e.problem(name, "there is no such setting; see the table in README.md")
	}
}

func (cfg *config) warn() {
	add := func(s string) { cfg.warnings = append(cfg.warnings, s) }
	p := cfg.passwords.argon
	if p.memory < defaultArgon.memory || p.time < defaultArgon.time {
		add("USERSPACE_ARGON2 is below " + defaultArgon.String() + ": good for tests only")
	}
	if cfg.tokens.alg == algHS256 {
		add("USERSPACE_JWT_ALG=HS256: everyone who holds USERSPACE_HS256_KEY to check tokens can also make them, for any user and scope")
	}
	if cfg.limits.credentials.off() {
		add("USERSPACE_RATE_CREDENTIALS is off: guessing passwords is limited by the lock on each email alone")
	}
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
