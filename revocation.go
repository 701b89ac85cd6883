package main

// The live set of revoked tokens and sessions: asked on every request without a round trip, fed by a poll of the
// database. When it is stale the database itself is asked, and when that fails too, nothing is let through.

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// pollEvery: what another instance revoked is refused here within this and a round trip; the contract allows 1 s.
	pollEvery = 500 * time.Millisecond
	// staleAfter is how long the set is trusted without news from the database.
	staleAfter = 5 * time.Second
	// skewAllowance keeps a revocation longer than any token it is about, should clocks of instances differ.
	skewAllowance = 2 * time.Minute
)

// revocations holds what was revoked and has not expired. It is safe for concurrent use.
type revocations struct {
	store  *store // asked when the set is stale
	poller *store // with a connection to itself
	log    *slog.Logger

	mu      sync.RWMutex
	expires map[id]time.Time
	heard   time.Time // monotonic: when the database last answered

	horizon string // of the last poll; used by the polling goroutine alone
}

func newRevocations(st, poller *store, log *slog.Logger) *revocations {
	return &revocations{store: st, poller: poller, log: log, expires: map[id]time.Time{}, horizon: "0"}
}

// add puts in what this instance has just revoked, so that it is refused here at once.
func (r *revocations) add(ids []id, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range ids {
		r.expires[u] = until
	}
}

// check returns errInvalidToken for a token that was revoked itself or with its session, and errUnavailable when that
// can't be found out.
func (r *revocations) check(ctx context.Context, c *claims) error {
	r.mu.RLock()
	_, token := r.expires[c.token]
	_, session := r.expires[c.session]
	stale := time.Since(r.heard) > staleAfter
	r.mu.RUnlock()
	if token || session {
		return errInvalidToken
	}
	if !stale {
		return nil
	}
	revoked, err := r.store.anyRevoked(ctx, c.token, c.session)
	if err != nil {
		return err
	}
	if revoked {
		return errInvalidToken
	}
	return nil
}

// poll reads what is new. It is called by run and, once, at start.
func (r *revocations) poll(ctx context.Context, now time.Time) error {
	asked := time.Now()
	rows, next, err := r.poller.revocationsSince(ctx, r.horizon, now)
	if err != nil {
		return err
	}
	if xidBefore(next, r.horizon) { // another cluster, restored from a backup: its numbers start anew
		r.horizon = "0"
		return r.poll(ctx, now)
	}
	r.horizon = next
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range rows {
		r.expires[row.tokenID] = row.expiresAt
	}
	r.heard = asked
	return nil
}

// xidBefore compares two transaction ids in decimal without leading zeros.
func xidBefore(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

// sweep forgets what has expired.
func (r *revocations) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for u, until := range r.expires {
		if until.Before(now) {
			delete(r.expires, u)
		}
	}
}

// run polls until ctx ends. It says once when the database is lost and once when it is back.
func (r *revocations) run(ctx context.Context, clock func() time.Time) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	lost := false
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.poll(ctx, clock())
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != lost {
			if lost = err != nil; lost {
				r.log.Error("the database does not answer; tokens will be refused with 503 when it stays so", "error", err)
			} else {
				r.log.Info("the database answers again")
			}
		}
		if n%120 == 0 {
			r.sweep(clock())
		}
	}
}
