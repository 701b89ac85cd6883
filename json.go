package main

// A strict reader for JSON objects, used for request bodies and for tokens, so that both agree with every other strict
// parser. encoding/json takes the last of two duplicate names, folds case, repairs bad UTF-8 and ignores what follows the
// value; each of these has been an attack. Decoding the values it hands out belongs to the callers.

import (
	"encoding/json"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

var errJSON = errors.New("not valid JSON")

// nameError says that an object is valid JSON which we refuse: a name stands twice, or a text holds U+0000, which
// PostgreSQL can't store.
type nameError struct{ name, reason string }

func (e *nameError) Error() string { return e.reason + " name in JSON object" }

// member is one name of an object with its value's text.
type member struct {
	name string
	raw  json.RawMessage
}

// parseObject reads data as exactly one JSON object (RFC 8259) in UTF-8 without byte order mark, nested at most maxDepth
// deep (the object itself is 1), and returns its members in order. It returns errJSON, or *nameError for a duplicate name
// at any depth or a NUL character in any text; the error names the top-level member concerned.
func parseObject(data []byte, maxDepth int) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errJSON
	}
	s := jsonScanner{data: data, maxDepth: maxDepth}
	s.space()
	if s.peek() != '{' {
		return nil, errJSON
	}
	members := make([]member, 0, 8)
	err := s.object(1, func(name string, raw []byte) {
		members = append(members, member{name, raw})
	})
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(data) {
		return nil, errJSON
	}
	return members, nil
}

type jsonScanner struct {
	data     []byte
	pos      int
	maxDepth int
}

// peek returns the next byte, or 0 at the end; a NUL byte is no JSON either way.
func (s *jsonScanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *jsonScanner) space() {
	for {
		switch s.peek() {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// take consumes c or reports false.
func (s *jsonScanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object whose opening brace is next. found gets each member; it may be nil.
func (s *jsonScanner) object(depth int, found func(name string, raw []byte)) error {
	if depth > s.maxDepth {
		return errJSON
	}
	s.pos++
	s.space()
	if s.take('}') {
		return nil
	}
	seen := map[string]struct{}{}
	for {
		s.space()
		name, err := s.text()
		if _, nul := errors.AsType[*nameError](err); nul {
			return &nameError{"body", "invalid"}
		}
		if err != nil {
			return err
		}
		if _, twice := seen[name]; twice {
			return &nameError{name, "duplicate"}
		}
		seen[name] = struct{}{}
		s.space()
		if !s.take(':') {
			return errJSON
		}
		s.space()
		from := s.pos
		if err := s.value(depth); err != nil {
			if refused, ok := errors.AsType[*nameError](err); ok {
				return &nameError{name, refused.reason}
			}
			return err
		}
		if found != nil {
			found(name, s.data[from:s.pos])
		}
		s.space()
		if s.take(',') {
			continue
		}
		if s.take('}') {
			return nil
		}
		return errJSON
	}
}

func (s *jsonScanner) array(depth int) error {
	if depth > s.maxDepth {
		return errJSON
	}
	s.pos++
	s.space()
	if s.take(']') {
		return nil
	}
	for {
		s.space()
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take(',') {
			continue
		}
		if s.take(']') {
			return nil
		}
		return errJSON
	}
}

// value reads any value; depth is that of the object or array around it.
func (s *jsonScanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth+1, nil)
	case c == '[':
		return s.array(depth + 1)
	case c == '"':
		_, err := s.text()
		return err
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *jsonScanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return errJSON
	}
	s.pos += len(word)
	return nil
}

func (s *jsonScanner) digits() bool {
	from := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > from
}

func (s *jsonScanner) number() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return errJSON
	}
	if s.take('.') && !s.digits() {
		return errJSON
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return errJSON
		}
	}
	return nil
}

// text reads a string and returns it unescaped. A lone surrogate is refused: there is no text it could stand for.
func (s *jsonScanner) text() (string, error) {
	if !s.take('"') {
		return "", errJSON
	}
	from := s.pos
	for { // most strings hold no escape and can be taken as they are
		c := s.peek()
		if c == '"' {
			s.pos++
			return string(s.data[from : s.pos-1]), nil
		}
		if c == '\\' {
			break
		}
		if c < 0x20 {
			return "", errJSON
		}
		s.pos++
	}
	out := append([]byte(nil), s.data[from:s.pos]...)
	for {
		c := s.peek()
		if c < 0x20 {
			return "", errJSON
		}
		s.pos++
		switch c {
		case '"':
			return string(out), nil
		case '\\':
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
}

// escape reads what follows a backslash.
func (s *jsonScanner) escape() (rune, error) {
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := s.hex4()
		if !ok {
			return 0, errJSON
		}
		if r == 0 {
			return 0, &nameError{"", "invalid"}
		}
		if !utf16.IsSurrogate(r) {
			return r, nil
		}
		if !s.take('\\') || !s.take('u') {
			return 0, errJSON
		}
		low, ok := s.hex4()
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return 0, errJSON
		}
		return r, nil
	default:
		return 0, errJSON
	}
}

func (s *jsonScanner) hex4() (rune, bool) {
	var r rune
	for range 4 {
		c := s.peek()
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
		s.pos++
	}
	return r, true
}
