package main

// Passwords: the policy, argon2id hashes in PHC form, and the queue that bounds how many are computed at once.
// Who may set which password belongs to auth.go, users.go and recovery.go.

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

const (
	maxPasswordRunes = 256
	maxPasswordBytes = 1024
	// minLocalPart is the shortest local part a password may not hold: shorter ones occur in words by chance.
	minLocalPart = 4
)

// passwordFault returns why a password may not be set, or "". Code points count, not bytes; nothing is folded or trimmed
// before hashing (NIST SP 800-63B §3.1.1).
func passwordFault(password, email string, minRunes int) string {
	runes := utf8.RuneCountInString(password)
	switch {
	case password == "":
		return "required"
	case runes < minRunes:
		return "too_short"
	case runes > maxPasswordRunes || len(password) > maxPasswordBytes:
		return "too_long"
	case holdsEmail(password, email):
		return "contains_email"
	case isCommon(password):
		return "too_common"
	}
	return ""
}

func holdsEmail(password, email string) bool {
	if email == "" {
		return false
	}
	password = strings.ToLower(password)
	local, _, _ := strings.Cut(email, "@")
	return strings.Contains(password, email) || len(local) >= minLocalPart && strings.Contains(password, local)
}

//go:embed passwords/common.txt.gz
var commonPasswordsGz []byte

// commonPasswords is the list in byte order, unpacked once when first asked for.
var commonPasswords = sync.OnceValue(func() []string {
	z, err := gzip.NewReader(bytes.NewReader(commonPasswordsGz))
	if err != nil {
		panic(err) // the file is part of the binary
	}
	text, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return strings.Split(string(text), "\n")
})

// isCommon compares the whole password without case, as it is and without the digits people add at its ends to satisfy a
// rule ("password2024").
func isCommon(password string) bool {
	password = strings.ToLower(password)
	list := commonPasswords()
	for _, p := range [...]string{password, strings.Trim(password, "0123456789")} {
		if i := sort.SearchStrings(list, p); i < len(list) && list[i] == p {
			return true
		}
	}
	return false
}

// argonParams are the costs of argon2id (RFC 9106): memory in KiB, passes, lanes.
type argonParams struct {
	memory uint32
	time   uint32
	lanes  uint8
}

func (p argonParams) String() string { return fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.time, p.lanes) }

const (
	saltBytes = 16
	hashBytes = 32
	// Bounds for what a stored hash or the configuration may ask of us. RFC 9106 §4's first choice is 2 GiB, which no small
	// server can spend on a sign-in.
	maxArgonMemory = 256 * 1024 // KiB
	maxArgonTime   = 16
	maxArgonLanes  = 16
)

var errHashForm = errors.New("not an argon2id hash within bounds")

// parseArgonParams reads "m=…,t=…,p=…" in just this order and form, within bounds; the least memory is 8 KiB a lane
// (RFC 9106 §3.1).
func parseArgonParams(s string) (argonParams, error) {
	var p argonParams
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return p, errHashForm
	}
	var v [3]uint64
	for i, name := range [...]string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(parts[i], name)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(n, 10) != digits { // no sign, no leading zero
			return p, errHashForm
		}
		v[i] = n
	}
	if v[2] < 1 || v[2] > maxArgonLanes || v[1] < 1 || v[1] > maxArgonTime || v[0] < 8*v[2] || v[0] > maxArgonMemory {
		return p, errHashForm
	}
	return argonParams{uint32(v[0]), uint32(v[1]), uint8(v[2])}, nil
}

// phc is a parsed hash in PHC form: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
type phc struct {
	params argonParams
	salt   []byte
	hash   []byte
}

// parsePHC reads a stored hash. The bounds keep a hostile row from costing gigabytes; the error is errHashForm.
func parsePHC(s string) (phc, error) {
	parts := strings.Split(s, "$")
	if len(s) > 512 || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return phc{}, errHashForm
	}
	params, err := parseArgonParams(parts[3])
	if err != nil {
		return phc{}, err
	}
	salt, ok1 := unb64std(parts[4])
	hash, ok2 := unb64std(parts[5])
	if !ok1 || !ok2 || len(salt) < 8 || len(salt) > 64 || len(hash) < 16 || len(hash) > 64 {
		return phc{}, errHashForm
	}
	return phc{params, salt, hash}, nil
}

func (h phc) String() string {
	enc := base64.RawStdEncoding
	return "$argon2id$v=19$" + h.params.String() + "$" + enc.EncodeToString(h.salt) + "$" + enc.EncodeToString(h.hash)
}

func unb64std(s string) ([]byte, bool) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	return b, err == nil && base64.RawStdEncoding.EncodedLen(len(b)) == len(s)
}

func (h phc) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.params.time, h.params.memory, h.params.lanes, uint32(len(h.hash)))
}

const (
	// queuePerWorker bounds the wait: at 30 ms a hash the last in the queue waits about 2 s.
	queuePerWorker = 64
	hashWait       = 3 * time.Second
)

// hasher computes hashes with live parameters, at most as many at once as there are workers.
type hasher struct {
	params argonParams
	slots  chan struct{} // one token a running hash
	queue  chan struct{} // one token a running or waiting hash
	dummy  phc           // compared with when there is no account, so that it costs the same
}

func newHasher(p argonParams, workers int) *hasher {
	dummy := phc{p, make([]byte, saltBytes), make([]byte, hashBytes)}
	rand.Read(dummy.salt)
	rand.Read(dummy.hash)
	return &hasher{p, make(chan struct{}, workers), make(chan struct{}, workers*(1+queuePerWorker)), dummy}
}

// enter waits for a slot; the caller must call leave. The error is errOverloaded: the queue is full or the wait too long.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.queue <- struct{}{}:
	default:
		return errOverloaded
	}
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	<-h.queue
	return errOverloaded
}

func (h *hasher) leave() {
	<-h.slots
	<-h.queue
}

// hash returns the PHC form of a password under the live parameters, or errOverloaded.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	fresh := phc{h.params, make([]byte, saltBytes), make([]byte, hashBytes)}
	rand.Read(fresh.salt)
	fresh.hash = fresh.derive(password)
	return fresh.String(), nil
}

// verify compares a password with a stored hash. With stored == "" (no account, or none set yet) it does the same work
// and reports false. stale is true when the hash holds but has other costs than the live ones. Errors: errOverloaded,
// errHashForm for a damaged row.
func (h *hasher) verify(ctx context.Context, password, stored string) (ok, stale bool, err error) {
	want := h.dummy
	if stored != "" {
		if want, err = parsePHC(stored); err != nil {
			return false, false, err
		}
	}
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	same := subtle.ConstantTimeCompare(want.derive(password), want.hash) == 1
	return same && stored != "", want.params != h.params, nil
}
