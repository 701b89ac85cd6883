package main

// Rate limits. Every time is given: nothing here waits.

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRateDecide is the decision as a table; times are seconds from a moment. rate is 3 in 30 s: a token each 10 s.
func TestRateDecide(t *testing.T) {
	t.Parallel()
	base := time.Unix(1_800_000_000, 0)
	at := func(seconds float64) time.Time { return base.Add(time.Duration(seconds * float64(time.Second))) }
	r := rate{3, 30 * time.Second}
	for _, test := range []struct {
		name      string
		full, now float64
		next      float64
		wait      float64
	}{
		{"never used", -1e6, 0, 10, 0},
		{"full just now", 0, 0, 10, 0},
		{"one taken", 10, 0, 20, 0},
		{"two taken", 20, 0, 30, 0},
		{"empty", 30, 0, 30, 10},
		{"empty, half a token back", 30, 5, 30, 5},
		{"empty, almost a token back", 30, 9.999, 30, 0.001},
		{"one token back", 30, 10, 40, 0},
		{"two tokens back", 30, 20, 40, 0},
		{"all back", 30, 30, 40, 0},
		{"long ago", 30, 1000, 1010, 0},
		{"the clock went back an hour", 30, -3600, 30, 3610},
	} {
		next, wait := r.decide(at(test.full), at(test.now))
		if want := at(test.next); !next.Equal(want) {
			t.Errorf("%s: full: got %v, want %v", test.name, next.Sub(base), want.Sub(base))
		}
		if want := time.Duration(test.wait * float64(time.Second)); wait != want {
			t.Errorf("%s: wait: got %v, want %v", test.name, wait, want)
		}
	}
	next, wait := rate{1, time.Second}.decide(time.Time{}, base) // the zero time is an unknown bucket
	if !next.Equal(at(1)) || wait != 0 {
		t.Errorf("one a second: got %v, %v", next, wait)
	}
}

func TestLimiterBurst(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	key := addressKey(1, netip.MustParseAddr("192.0.2.1"))
	for _, r := range []rate{{1, time.Second}, {20, time.Minute}, {100, time.Second}, {7, time.Second}, {1_000_000, time.Millisecond * 1000}} {
		l := newLimiter(r)
		n := min(r.count, 2000)
		if r.count <= 2000 {
			for i := range n {
				if err := l.allow(key, now); err != nil {
					t.Fatalf("%v: request %d: got %v", r, i+1, err)
				}
			}
			err := l.allow(key, now)
			e, ok := errors.AsType[*throttleError](err)
			if !ok || e.locked || e.limit != r.count || e.wait != r.interval() {
				t.Fatalf("%v: one more: got %+v, want a wait of %v", r, err, r.interval())
			}
			// Refused requests cost nothing: after the wait exactly one more passes.
			for range 100 {
				l.allow(key, now)
			}
			for step := range 5 {
				later := now.Add(time.Duration(step+1) * r.interval())
				if err := l.allow(key, later.Add(-1)); err == nil {
					t.Errorf("%v: a nanosecond before token %d: got it", r, step+1)
				}
				if err := l.allow(key, later); err != nil {
					t.Errorf("%v: token %d: got %v", r, step+1, err)
				}
				if err := l.allow(key, later); err == nil {
					t.Errorf("%v: token %d twice: got it", r, step+1)
				}
			}
		}
	}
	off := newLimiter(rate{})
	for range 1000 {
		if err := off.allow(key, now); err != nil {
			t.Fatalf("off: got %v", err)
		}
	}
}

// TestLimiterRace lets 50 goroutines ask at one moment: exactly the burst passes.
func TestLimiterRace(t *testing.T) {
	t.Parallel()
	l := newLimiter(rate{20, time.Minute})
	now := time.Unix(1_800_000_000, 0)
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 10 {
				if l.allow(limitKey{1, [16]byte{1}}, now) == nil {
					passed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got := passed.Load(); got != 20 {
		t.Errorf("got %d, want 20", got)
	}
}

// TestLimiterBounded is A22: a million keys neither grow the table nor keep an honest client out.
func TestLimiterBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter(rate{20, time.Minute})
	now := time.Unix(1_800_000_000, 0)
	honest := addressKey(1, netip.MustParseAddr("198.51.100.7"))
	abuser := addressKey(1, netip.MustParseAddr("203.0.113.9"))
	for range 20 {
		l.allow(abuser, now)
	}
	abused := 0
	keys := 1_000_000
	if raceDetector() {
		keys = 200_000 // still more than fit
	}
	for i := range keys {
		var key limitKey
		binary.BigEndian.PutUint64(key.bytes[:], uint64(i)+1)
		if err := l.allow(key, now); err != nil {
			t.Fatalf("key %d: a first request was refused: %v", i, err)
		}
		if i%(keys/10) == 0 {
			if err := l.allow(honest, now); err != nil {
				t.Fatalf("the honest client after %d keys: %v", i, err)
			}
			if l.allow(abuser, now) == nil {
				abused++
			}
		}
	}
	if got, most := buckets(l), limitShards*shardBuckets; got > most || got < most/2 {
		t.Errorf("got %d buckets, want at most %d", got, most)
	}
	// An empty bucket is the last to go: of eight looked at, the fullest goes.
	if abused > 5 {
		t.Errorf("a client at its limit got %d of 10 more", abused)
	}
	l.sweep(now)
	if got := buckets(l); got < limitShards*shardBuckets/2 {
		t.Errorf("sweep too early: %d buckets left", got)
	}
	l.sweep(now.Add(time.Minute))
	if got := buckets(l); got != 0 {
		t.Errorf("sweep when all are full again: got %d buckets, want none", got)
	}
}

func buckets(l *limiter) (n int) {
	for i := range l.shards {
		n += len(l.shards[i].buckets)
	}
	return n
}

func TestAddressKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true}, // a customer's /64
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"::1", "192.0.2.1", false},
		{"::", "0.0.0.0", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true}, // as clientAddr hands it over
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
	} {
		a, b := netip.MustParseAddr(test.a).Unmap(), netip.MustParseAddr(test.b).Unmap()
		if got := addressKey(1, a) == addressKey(1, b); got != test.same {
			t.Errorf("%s and %s: got same %v, want %v", test.a, test.b, got, test.same)
		}
		if addressKey(1, a) == addressKey(2, a) {
			t.Errorf("%s: two kinds share a bucket", test.a)
		}
	}
}
