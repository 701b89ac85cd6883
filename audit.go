package main

// The audit log: what an event is, and its list for administrators. A change writes its event in its own transaction;
// reads and failures are written by the pipeline.

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"
)

const (
	auditSuccess = "success"
	auditFailure = "failure" // tried and did not succeed
	auditDenied  = "denied"  // not allowed to try
)

// auditEvent is a row of audit_log. It holds no email and no secret: rows outlive the account.
type auditEvent struct {
	id       id
	at       time.Time
	traceID  string
	userID   *id
	actorID  *id
	ip       netip.Addr
	action   string
	status   string
	duration float64 // milliseconds until the row was made
	metadata map[string]any
	stored   json.RawMessage // metadata as read back
}

// auditItem is an event on the wire.
type auditItem struct {
	ID        id              `json:"id"`
	Timestamp time.Time       `json:"timestamp"`
	TraceID   string          `json:"trace_id"`
	UserID    *id             `json:"user_id"`
	ActorID   *id             `json:"actor_id"`
	IP        *netip.Addr     `json:"ip"`
	Action    string          `json:"action"`
	Status    string          `json:"status"`
	Duration  float64         `json:"duration_ms"`
	Metadata  json.RawMessage `json:"metadata"`
}

func (e *auditEvent) item() auditItem {
	return auditItem{e.id, e.at.UTC(), e.traceID, e.userID, e.actorID, e.address(), e.action, e.status, e.duration, e.stored}
}

func auditItems(events []auditEvent) []auditItem {
	items := make([]auditItem, len(events))
	for i := range events {
		items[i] = events[i].item()
	}
	return items
}

type listAuditInput struct {
	Limit   int         `query:"limit"`
	Cursor  string      `query:"cursor"`
	UserID  *id         `query:"user_id"`
	ActorID *id         `query:"actor_id"`
	Action  string      `query:"action"`
	Status  string      `query:"status"`
	IP      *netip.Addr `query:"ip"`
	TraceID string      `query:"trace_id"`
	From    *time.Time  `query:"from"`
	To      *time.Time  `query:"to"`
}

// validate has nothing to say: a filter that can't be is a bad query, which listAudit answers with 400.
func (in *listAuditInput) validate(*check) {}

func (s *service) listAudit(ctx context.Context, c *call, in listAuditInput) (page[auditItem], error) {
	f := auditFilter{
		userID: in.UserID, actorID: in.ActorID, action: in.Action, status: in.Status, ip: in.IP,
		traceID: in.TraceID, from: in.From, to: in.To,
	}
	var err error
	if f.limit, err = pageLimit(in.Limit); err != nil {
		return page[auditItem]{}, err
	}
	if in.Cursor != "" {
		before, err := readIDCursor(in.Cursor)
		if err != nil {
			return page[auditItem]{}, err
		}
		f.before = &before
	}
	switch {
	case !isActionFilter(in.Action):
		return page[auditItem]{}, badRequest("action", "invalid")
	case in.Status != "" && in.Status != auditSuccess && in.Status != auditFailure && in.Status != auditDenied:
		return page[auditItem]{}, badRequest("status", "invalid")
	case in.TraceID != "" && (len(in.TraceID) != 32 || !isLowerHex(in.TraceID)):
		return page[auditItem]{}, badRequest("trace_id", "invalid")
	case in.From != nil && in.To != nil && in.From.After(*in.To):
		return page[auditItem]{}, badRequest("from", "invalid")
	}
	f.limit++ // one more tells whether there is a next page
	events, err := s.store.listAudit(ctx, f)
	if err != nil {
		return page[auditItem]{}, err
	}
	return newPage(auditItems(events), f.limit-1, func(last auditItem) string { return last.ID.String() }), nil
}

// isActionFilter: the characters of action names, so that a prefix is a plain range.
func isActionFilter(s string) bool {
	if len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
