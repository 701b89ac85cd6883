package main

// Rate limits: a token bucket as a pure decision, and a bounded table of buckets.
// Which request counts against which bucket is said in the route table and done in pipeline.go.

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// rate is how many requests in which time; the burst is the same count. The zero rate is no limit.
type rate struct {
	count int
	per   time.Duration
}

func (r rate) off() bool { return r.count == 0 }

// interval is the time one token takes to come back.
func (r rate) interval() time.Duration { return r.per / time.Duration(r.count) }

// decide takes one token from a bucket that is full again at the time full. It returns the bucket's new time and, when the
// bucket is empty, how long until a token is there; then the bucket stays as it was. One moment says all of a bucket:
// the later it is full, the fewer tokens are in it.
func (r rate) decide(full, now time.Time) (time.Time, time.Duration) {
	if full.Before(now) {
		full = now
	}
	next := full.Add(r.interval())
	if wait := next.Sub(now) - r.interval()*time.Duration(r.count); wait > 0 {
		return full, wait
	}
	return next, 0
}

// limitKey names a bucket: a client address (IPv6: its /64, which is what one customer gets) or a user.
type limitKey struct {
	kind  byte // apart by row kind and by what the bytes are
	bytes [16]byte
}

func addressKey(kind byte, ip netip.Addr) limitKey {
	if ip.Is6() {
		ip = netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	return limitKey{kind, ip.As16()}
}

const (
	limitShards = 16
	// shardBuckets bounds memory: 16 × 8,192 buckets of about 60 bytes are 8 MB.
	shardBuckets = 8192
	// evictSample is how many buckets are looked at to make room: the fullest of them has the least to lose.
	evictSample = 8
)

// limiter holds the buckets of one rate.
type limiter struct {
	rate   rate
	seed   maphash.Seed
	shards [limitShards]limitShard
}

type limitShard struct {
	mu      sync.Mutex
	buckets map[limitKey]time.Time // when the bucket is full again
}

func newLimiter(r rate) *limiter {
	l := &limiter{rate: r, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].buckets = map[limitKey]time.Time{}
	}
	return l
}

// allow takes a token for key, or returns a *throttleError.
func (l *limiter) allow(key limitKey, now time.Time) error {
	if l.rate.off() {
		return nil
	}
	shard := &l.shards[maphash.Comparable(l.seed, key)%limitShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	full, known := shard.buckets[key]
	if !known && len(shard.buckets) >= shardBuckets {
		shard.evict(now)
	}
	full, wait := l.rate.decide(full, now)
	shard.buckets[key] = full
	if wait > 0 {
		return &throttleError{limit: l.rate.count, wait: wait}
	}
	return nil
}

// evict makes room for one bucket. A million addresses can push each other out, and nobody else is refused for it.
func (s *limitShard) evict(now time.Time) {
	var fullest limitKey
	var soonest time.Time
	seen := 0
	for key, full := range s.buckets { // Go starts a map's iteration at a random place
		if seen == 0 || full.Before(soonest) {
			fullest, soonest = key, full
		}
		if seen++; seen == evictSample || !soonest.After(now) {
			break
		}
	}
	delete(s.buckets, fullest)
}

// sweep drops the buckets that are full again, which are as good as absent.
func (l *limiter) sweep(now time.Time) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for key, full := range s.buckets {
			if !full.After(now) {
				delete(s.buckets, key)
			}
		}
		s.mu.Unlock()
	}
}
