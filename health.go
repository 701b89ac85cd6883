package main

// Probes: does the process live, and should it get requests.

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// readyCache is how long an answer of the database's serves: probes cost it at most one statement a second.
const readyCache = time.Second

// health is the state probes ask for.
type health struct {
	store    *store
	draining atomic.Bool // set when the process was told to stop

	mu      sync.Mutex
	checked time.Time
	checks  map[string]string
}

type liveness struct {
	Status string `json:"status"`
}

func (h *health) live(context.Context, *call, nothing) (liveness, error) { return liveness{"ok"}, nil }

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

// ready reports each check, and a *notReadyError unless all are ok.
func (h *health) ready(ctx context.Context, _ *call, _ nothing) (readiness, error) {
	checks := map[string]string{"draining": "ok"}
	for name, result := range h.database(ctx) {
		checks[name] = result
	}
	if h.draining.Load() {
		checks["draining"] = "stopping"
	}
	for _, result := range checks {
		if result != "ok" {
			return readiness{}, &notReadyError{checks}
		}
	}
	return readiness{"ready", checks}, nil
}

// database returns the checks that ask the database. Those who ask meanwhile wait for the same answer.
func (h *health) database(ctx context.Context) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < readyCache {
		return h.checks
	}
	checks := map[string]string{"database": "ok", "schema": "ok"}
	switch version, err := h.store.schemaVersion(ctx); {
	case err != nil:
		checks["database"], checks["schema"] = "unreachable", "unknown"
	case version != len(migrations()):
		checks["schema"] = "not this binary's"
	}
	h.checks, h.checked = checks, time.Now()
	return checks
}
