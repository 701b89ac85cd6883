package main

// Passwords: the policy as a table, hashes against published vectors, and the queue.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestArgonVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Vectors []struct{ Password, Salt, PHC string }
	}
	readVectors(t, "argon2/argon2id_phc.json", &file)
	if len(file.Vectors) != 8 {
		t.Errorf("got %d vectors, want 8", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		h, err := parsePHC(v.PHC)
		if err != nil {
			t.Errorf("%s: %v", v.PHC, err)
			continue
		}
		if got := string(h.salt); got != v.Salt {
			t.Errorf("%s: salt: got %q, want %q", v.PHC, got, v.Salt)
		}
		if got := h.String(); got != v.PHC {
			t.Errorf("written again: got %s, want %s", got, v.PHC)
		}
		if int(h.params.memory)*int(h.params.time) > 65536 && raceDetector() {
			continue // slow with the race detector, which has nothing to find in it
		}
		if got := h.derive(v.Password); !bytes.Equal(got, h.hash) {
			t.Errorf("%s: got %x, want %x", v.PHC, got, h.hash)
		}
	}
}

func TestParsePHC(t *testing.T) {
	t.Parallel()
	const salt, hash = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	form := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + hash }
	sized := func(saltLen, hashLen int) string {
		return phc{argonParams{64, 1, 1}, make([]byte, saltLen), make([]byte, hashLen)}.String()
	}
	for _, test := range []struct {
		name, text string
		good       bool
	}{
		{"as it is", form("m=256,t=2,p=1"), true},
		{"least memory", form("m=8,t=1,p=1"), true},
		{"most of all", form("m=262144,t=16,p=16"), true},
		{"least memory of 16 lanes", form("m=128,t=1,p=16"), true},
		{"memory below 8 a lane", form("m=127,t=1,p=16"), false},
		{"memory below 8", form("m=7,t=1,p=1"), false},
		{"no memory", form("m=0,t=1,p=1"), false},
		{"no passes", form("m=64,t=0,p=1"), false}, // x/crypto/argon2 panics
		{"no lanes", form("m=64,t=1,p=0"), false},
		{"4 GiB (A25)", form("m=4194304,t=1,p=1"), false},
		{"memory above", form("m=262145,t=1,p=1"), false},
		{"passes above", form("m=64,t=17,p=1"), false},
		{"lanes above", form("m=256,t=1,p=17"), false},
		{"memory 2^32", form("m=4294967296,t=1,p=1"), false},
		{"lanes 257, 1 as a byte", form("m=4096,t=1,p=257"), false},
		{"leading zero", form("m=064,t=1,p=1"), false},
		{"plus", form("m=+64,t=1,p=1"), false},
		{"minus", form("m=-64,t=1,p=1"), false},
		{"hex", form("m=0x40,t=1,p=1"), false},
		{"space", form("m=64, t=1,p=1"), false},
		{"order", form("t=1,m=64,p=1"), false},
		{"twice", form("m=64,m=64,p=1"), false},
		{"one more", form("m=64,t=1,p=1,x=1"), false},
		{"keyid", form("m=64,t=1,p=1,keyid=AA"), false},
		{"one less", form("m=64,t=1"), false},
		{"no value", form("m=,t=1,p=1"), false},
		{"capital", form("M=64,t=1,p=1"), false},
		{"argon2i", strings.Replace(form("m=64,t=1,p=1"), "argon2id", "argon2i", 1), false},
		{"argon2d", strings.Replace(form("m=64,t=1,p=1"), "argon2id", "argon2d", 1), false},
		{"version 16", strings.Replace(form("m=64,t=1,p=1"), "v=19", "v=16", 1), false},
		{"no version", strings.Replace(form("m=64,t=1,p=1"), "$v=19", "", 1), false},
		{"bcrypt", "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", false},
		{"nothing", "", false},
		{"dollars", "$$$$$", false},
		{"something before", "x" + form("m=64,t=1,p=1"), false},
		{"dollar behind", form("m=64,t=1,p=1") + "$", false},
		{"newline behind", form("m=64,t=1,p=1") + "\n", false},
		{"newline within", strings.Replace(form("m=64,t=1,p=1"), salt, salt[:4]+"\n"+salt[4:], 1), false},
		{"padding", form("m=64,t=1,p=1") + "=", false},
		{"base64url", strings.Replace(form("m=64,t=1,p=1"), "/", "_", 1), false},
		{"spare bits", strings.Replace(form("m=64,t=1,p=1"), "/4", "/5", 1), false},
		{"salt of 7", sized(7, 32), false},
		{"salt of 8", sized(8, 32), true},
		{"salt of 64", sized(64, 32), true},
		{"salt of 65", sized(65, 32), false},
		{"no salt", sized(0, 32), false},
		{"hash of 15", sized(16, 15), false},
		{"hash of 16", sized(16, 16), true},
		{"hash of 64", sized(16, 64), true},
		{"hash of 65", sized(16, 65), false},
		{"no hash", sized(16, 0), false},
		{"a megabyte", form("m=64,t=1,p=1") + strings.Repeat("A", 1<<20), false},
	} {
		h, err := parsePHC(test.text)
		if (err == nil) != test.good || err != nil && !errors.Is(err, errHashForm) {
			t.Errorf("%s: got %v, want good %v", test.name, err, test.good)
		}
		if err == nil && h.String() != test.text {
			t.Errorf("%s: written again: got %s, want %s", test.name, h, test.text)
		}
	}
}

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	const ada = "ada.lovelace@example.org"
	for _, test := range []struct{ name, password, email, want string }{
		{"nothing", "", ada, "required"},
		{"11", "vjkqtbzmwxp", ada, "too_short"},
		{"12", "vjkqtbzmwxpr", ada, ""},
		{"20 lower-case letters", "vjkqtbzmwxprglhnfdcs", ada, ""}, // no rules of composition
		{"one letter", strings.Repeat("q", 20), ada, ""},
		{"words and spaces", "four words of prose", ada, ""},
		{"spaces at the ends", " vjkqtbzmwx ", ada, ""}, // nothing is trimmed
		{"11 code points of 4 bytes", strings.Repeat("🐘", 11), ada, "too_short"},
		{"12 code points of 4 bytes", strings.Repeat("🐘", 12), ada, ""},
		{"12 of 2 bytes", "пароледлинны", ada, ""},
		{"combining marks count", strings.Repeat("e\u0301", 6), ada, ""},
		{"a family is 7 code points", "👨‍👩‍👧‍👦", ada, "too_short"},
		{"256", strings.Repeat("ab", 128), ada, ""},
		{"257", strings.Repeat("ab", 128) + "c", ada, "too_long"},
		{"256 code points, 1 KiB", strings.Repeat("🐘", 256), ada, ""},
		{"257 code points, over 1 KiB", strings.Repeat("🐘", 257), ada, "too_long"},
		{"256 code points of 3 bytes", strings.Repeat("漢", 256), ada, ""},
		{"64 kB", strings.Repeat("x", 64<<10), ada, "too_long"},
		{"the email", ada, ada, "contains_email"},
		{"the email in it", "my " + ada + "!", ada, "contains_email"},
		{"the email in capitals", "ADA.Lovelace@Example.ORG", ada, "contains_email"},
		{"the local part in it", "xx ada.lovelace yy", ada, "contains_email"},
		{"the local part in capitals", "ADA.LOVELACE 1815", ada, "contains_email"},
		{"part of the local part", "lovelace 1815 rules", ada, ""},
		{"the domain", "example.org is mine", ada, ""},
		{"a short local part", "the bob in this one", "bob@example.org", ""},
		{"a local part of four", "the jane in this one", "jane@example.org", "contains_email"},
		{"no email known", "ada.lovelace@example.org", "", ""},
		{"control characters", "vjkq\ttbzm\nwxpr", ada, ""},
	} {
		if got := passwordFault(test.password, test.email, 12); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	for _, test := range []struct {
		password string
		want     string
	}{
		{"password", "too_common"}, {"Password", "too_common"}, {"PASSWORD", "too_common"}, {"password1", "too_common"}, {"password2024", "too_common"},
		{"2024password", "too_common"}, {"99Password99", "too_common"}, {"iloveyou", "too_common"}, {"123456789", "too_common"}, {"qwertyuiop", "too_common"},
		{"0987654321", "too_common"}, {"pass word", ""}, {"p4ssw0rd-vjkq", ""}, {" password", ""}, {"passwordpassword vjkq", ""}, {"vjkqtbzmwx", ""},
		{"84629173550182", ""}, // digits alone: with its ends stripped nothing is left, which is not common
	} {
		if got := passwordFault(test.password, "", 8); got != test.want {
			t.Errorf("%q: got %q, want %q", test.password, got, test.want)
		}
	}
}

// TestCommonPasswords checks the list that is part of the binary: in order, folded, and whole.
func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	list := commonPasswords()
	if len(list) < 30_000 {
		t.Errorf("got %d passwords, want the list", len(list))
	}
	for i, p := range list {
		if i > 0 && list[i-1] >= p {
			t.Fatalf("%q stands behind %q", p, list[i-1])
		}
		if !isCommon(p) || !isCommon(strings.ToUpper(p)) {
			t.Errorf("%q is not found", p)
		}
	}
}

var cheap = argonParams{64, 1, 1}

func TestHasher(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := newHasher(cheap, 2)
	long := strings.Repeat("x", 72)
	for _, password := range []string{"correct horse", "pässwörd 🐘", " spaces ", long, "nul\x00in it", ""} {
		stored, err := h.hash(ctx, password)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := h.hash(ctx, password)
		if a, b := mustPHC(t, stored), mustPHC(t, again); bytes.Equal(a.salt, b.salt) || bytes.Equal(a.hash, b.hash) {
			t.Errorf("%q: two hashes share a salt: %s %s", password, stored, again)
		}
		if p := mustPHC(t, stored); len(p.salt) != saltBytes || len(p.hash) != hashBytes || p.params != cheap {
			t.Errorf("got %s, want %d bytes of salt, %d of hash", stored, saltBytes, hashBytes)
		}
		if ok, stale, err := h.verify(ctx, password, stored); !ok || stale || err != nil {
			t.Errorf("%q: got %v, %v, %v, want true", password, ok, stale, err)
		}
		for _, wrong := range []string{password + " ", " " + password, password + "\x00", strings.ToUpper(password) + "x"} {
			if ok, _, err := h.verify(ctx, wrong, stored); ok || err != nil {
				t.Errorf("%q for %q: got %v, %v, want false", wrong, password, ok, err)
			}
		}
	}
	// NFC and NFD are different passwords: nothing is folded.
	stored, _ := h.hash(ctx, "caf\u00e9 caf\u00e9")
	if ok, _, _ := h.verify(ctx, "cafe\u0301 cafe\u0301", stored); ok {
		t.Error("a password in another normal form was accepted")
	}
	old, _ := newHasher(argonParams{128, 1, 1}, 1).hash(ctx, "x")
	if ok, stale, err := h.verify(ctx, "x", old); !ok || !stale || err != nil {
		t.Errorf("other costs: got %v, %v, %v, want true, true", ok, stale, err)
	}
	for _, damaged := range []string{" ", "x", old + "$", strings.Replace(old, "m=128", "m=4194304", 1)} {
		if ok, _, err := h.verify(ctx, "x", damaged); ok || !errors.Is(err, errHashForm) {
			t.Errorf("%q: got %v, %v, want errHashForm", damaged, ok, err)
		}
	}
	if len(h.queue) != 0 || len(h.slots) != 0 {
		t.Errorf("got %d queued, %d running, want none", len(h.queue), len(h.slots))
	}
}

func mustPHC(t testing.TB, text string) phc {
	t.Helper()
	h, err := parsePHC(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHasherNoAccount: without a stored hash the same is derived, and never true, not even for the password of the dummy.
func TestHasherNoAccount(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap, 1)
	h.dummy.hash = h.dummy.derive("guessed")
	for _, password := range []string{"guessed", "", "x"} {
		if ok, stale, err := h.verify(context.Background(), password, ""); ok || stale || err != nil {
			t.Errorf("%q: got %v, %v, %v, want false, false", password, ok, stale, err)
		}
	}
	if h.dummy.params != h.params || len(h.dummy.salt) != saltBytes || len(h.dummy.hash) != hashBytes {
		t.Errorf("the dummy costs %v, want %v", h.dummy.params, h.params)
	}
	// It takes a slot like the others: with none to be had it is refused like them.
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap, 1)
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.verify(t.Context(), "x", ""); !errors.Is(err, errOverloaded) {
			t.Errorf("no slot: got %v, want errOverloaded", err)
		}
	})
}

// TestHasherQueue fills the queue. Time is the bubble's, so that the wait takes none.
func TestHasherQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const workers = 3
		h := newHasher(cheap, workers)
		var mu sync.Mutex
		running, most, served, refused := 0, 0, 0, 0
		release := make(chan struct{})
		enter := func() {
			if err := h.enter(t.Context()); err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
				return
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-release
			mu.Lock()
			running, served = running-1, served+1
			mu.Unlock()
			h.leave()
		}
		for range workers * (1 + queuePerWorker) {
			go enter()
		}
		synctest.Wait()
		if running != workers || refused != 0 {
			t.Errorf("full queue: got %d running, %d refused, want %d, 0", running, refused, workers)
		}
		start := time.Now()
		if err := h.enter(t.Context()); !errors.Is(err, errOverloaded) || time.Now() != start {
			t.Errorf("one more: got %v after %v, want errOverloaded at once", err, time.Since(start))
		}
		close(release)
		synctest.Wait()
		if most != workers || served != workers*(1+queuePerWorker) || refused != 0 {
			t.Errorf("got at most %d at once, %d served, %d refused", most, served, refused)
		}
		if len(h.queue) != 0 || len(h.slots) != 0 {
			t.Errorf("after all: got %d queued, %d running", len(h.queue), len(h.slots))
		}
	})
}

// TestHasherWait: who gets no slot within hashWait, or gives up, leaves the queue.
func TestHasherWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap, 1)
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := h.hash(t.Context(), "x"); !errors.Is(err, errOverloaded) {
			t.Errorf("got %v, want errOverloaded", err)
		}
		if got := time.Since(start); got != hashWait {
			t.Errorf("waited %v, want %v", got, hashWait)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		if _, err := h.hash(ctx, "x"); !errors.Is(err, errOverloaded) || time.Now() != start {
			t.Errorf("cancelled: got %v after %v", err, time.Since(start))
		}
		if len(h.queue) != 1 {
			t.Errorf("got %d in the queue, want the one that runs", len(h.queue))
		}
		h.leave()
		if _, err := h.hash(t.Context(), "x"); err != nil {
			t.Errorf("free again: %v", err)
		}
	})
}

func TestArgonParamsString(t *testing.T) {
	t.Parallel()
	for _, p := range []argonParams{cheap, defaultArgon, {maxArgonMemory, maxArgonTime, maxArgonLanes}} {
		if got, err := parseArgonParams(p.String()); got != p || err != nil {
			t.Errorf("%s: got %v, %v", p, got, err)
		}
		if got, want := p.String(), fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.time, p.lanes); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// raceDetector tells whether the test runs with -race, where work on memory is ten times slower.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
