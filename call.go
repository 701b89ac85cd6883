package main

// One request as the domain sees it: who, when, from where. Nothing of HTTP is in it, so the domain can't depend on it.

import (
	"net/netip"
	"time"
)

// call is one use of an endpoint, or of a command that does the same.
type call struct {
	now      time.Time // the one reading of the clock for every decision of the handler
	started  time.Time // with the monotonic clock, for durations
	traceID  string
	ip       netip.Addr // invalid on the command line
	agent    string     // the client's User-Agent, printable and cut
	action   string     // the route's audit name
	caller   *claims    // nil for nobody
	operator bool       // on the command line: no user is the actor

	// What the pipeline needs to write the audit row of a call that failed or only read.
	subject   *id            // whom it concerns, when that is not the caller
	reason    string         // why it failed, in a word, where the error's code does not tell
	offRecord bool           // the pipeline writes no row for the failure: there is one, or it is worth none
	note      map[string]any // metadata for a row of the pipeline's
}

// callerID is the caller's user id, or nil.
func (c *call) callerID() *id {
	if c.caller == nil {
		return nil
	}
	return &c.caller.subject
}

// event makes the audit row of a success: action on the user, by the caller, or by the user when there is none.
func (c *call) event(action string, userID id, metadata map[string]any) *auditEvent {
	actor := &userID
	switch {
	case c.operator:
		actor = nil
	case c.caller != nil:
		actor = &c.caller.subject
	}
	return c.newEvent(action, auditSuccess, &userID, actor, metadata)
}

func (c *call) newEvent(action, status string, userID, actorID *id, metadata map[string]any) *auditEvent {
	if metadata == nil {
		metadata = map[string]any{}
	}
	return &auditEvent{
		id: newID(c.now), at: c.now, traceID: c.traceID, userID: userID, actorID: actorID, ip: c.ip,
		action: action, status: status, duration: milliseconds(time.Since(c.started)), metadata: metadata,
	}
}

// milliseconds with three decimals.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
