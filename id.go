package main

// Identifiers: UUIDv7 values made here, and their one accepted text form.
// What an identifier names, and who may use it, belongs to the callers.

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// id is a UUID. New ones are version 7 (RFC 9562 §5.7): they sort by creation time, so lists page by them.
type id [16]byte

var errID = errors.New("not a lower-case UUID")

// newID returns a UUIDv7 for the given moment: 48 bits of milliseconds, 74 random bits.
func newID(now time.Time) id {
	var u id
	rand.Read(u[6:]) // never fails: the runtime ends the program instead (crypto/rand, Go 1.24)
	ms := uint64(max(0, now.UnixMilli()))
	binary.BigEndian.PutUint16(u[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(u[2:], uint32(ms))
	u[6] = 0x70 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// firstID returns the smallest UUIDv7 of the given moment: rows with a smaller id are older.
func firstID(at time.Time) id {
	u := newID(at)
	clear(u[6:])
	u[6], u[8] = 0x70, 0x80
	return u
}

// parseID reads the canonical form only: 36 characters, lower-case hex, four dashes. PostgreSQL would also take braces,
// capitals and missing dashes; one form means that comparing ids as text can't go wrong. The error is errID.
func parseID(s string) (id, error) {
	var u id
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id{}, errID
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if !isLowerHex(digits) {
		return id{}, errID
	}
	hex.Decode(u[:], []byte(digits)) // checked above
	return u, nil
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (u id) String() string {
	b, _ := u.MarshalText()
	return string(b)
}

// MarshalText writes the canonical form; encoding/json uses it.
func (u id) MarshalText() ([]byte, error) {
	b := make([]byte, 36)
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return b, nil
}

// UnmarshalText reads the canonical form only.
func (u *id) UnmarshalText(b []byte) error {
	v, err := parseID(string(b))
	*u = v
	return err
}

// newTraceID returns 32 random hex digits, as W3C Trace Context has them.
func newTraceID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
