package main

// Statements on the audit log: rows are added and read, never changed.

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
)

const auditInto = `INSERT INTO audit_log
			(id, timestamp, trace_id, user_id, actor_id, ip, action, status, duration_ms, metadata)`

// args names the event's values for a statement that writes it beside a change, and adds more of the statement's own.
func (e *auditEvent) args(more pgx.NamedArgs) pgx.NamedArgs {
	args := pgx.NamedArgs{
		"audit_id": e.id, "audit_time": e.at, "trace_id": e.traceID, "user_id": e.userID, "actor_id": e.actorID,
		"ip": e.address(), "action": e.action, "status": e.status, "duration_ms": e.duration, "metadata": e.metadata,
	}
	for name, value := range more {
		args[name] = value
	}
	return args
}

// address is nil for what the command line did.
func (e *auditEvent) address() *netip.Addr {
	if !e.ip.IsValid() {
		return nil
	}
	return &e.ip
}

// insertAudit adds a row; in a transaction it commits with the change it tells of.
func (d db) insertAudit(ctx context.Context, e *auditEvent) error {
	_, err := exec(ctx, d, auditInto+`
		VALUES (@audit_id, @audit_time, @trace_id, @user_id, @actor_id, @ip, @action, @status, @duration_ms, @metadata)`,
		e.args(nil))
	return err
}

// auditFilter is what GET /admin/audit-log asks for. Empty fields don't filter.
type auditFilter struct {
	userID  *id
	actorID *id
	action  string // exact, or a prefix when it ends in a dot
	status  string
	ip      *netip.Addr
	traceID string
	from    *time.Time // inclusive
	to      *time.Time // exclusive
	before  *id        // the last row of the page before
	limit   int
}

// listAudit returns a page, newest first. The statement is planned for its parameters, so that each filter finds its index.
func (d db) listAudit(ctx context.Context, f auditFilter) ([]auditEvent, error) {
	return many(ctx, d, func(row pgx.CollectableRow) (e auditEvent, err error) {
		var ip *netip.Addr
		var metadata json.RawMessage
		err = row.Scan(&e.id, &e.at, &e.traceID, &e.userID, &e.actorID, &ip, &e.action, &e.status, &e.duration, &metadata)
		if ip != nil {
			e.ip = *ip
		}
		e.stored = metadata
		return e, err
	}, `
		SELECT id, timestamp, trace_id, user_id, actor_id, ip, action, status, duration_ms, metadata
		FROM audit_log
		WHERE (@user_id::uuid IS NULL OR user_id = @user_id)
		  AND (@actor_id::uuid IS NULL OR actor_id = @actor_id)
		  AND (@action = '' OR action = @action)
		  AND (@prefix = '' OR action >= @prefix AND action < @prefix || '~')
		  AND (@status = '' OR status = @status)
		  AND (@ip::inet IS NULL OR ip = @ip)
		  AND (@trace_id = '' OR trace_id = @trace_id)
		  AND (@from::timestamptz IS NULL OR id >= @from_id AND timestamp >= @from)
		  AND (@to::timestamptz IS NULL OR id < @to_id AND timestamp < @to)
		  AND (@before::uuid IS NULL OR id < @before)
		ORDER BY id DESC LIMIT @limit`,
		pgx.QueryExecModeCacheDescribe, f.args())
}

// args names the filter's values. A time is also a bound on the id, which holds the same time and has the index; a second
// is left for rows whose id and timestamp were taken apart.
func (f *auditFilter) args() pgx.NamedArgs {
	args := pgx.NamedArgs{
		"user_id": f.userID, "actor_id": f.actorID, "action": f.action, "prefix": "", "status": f.status, "ip": f.ip,
		"trace_id": f.traceID, "from": f.from, "to": f.to, "from_id": nil, "to_id": nil, "before": f.before, "limit": f.limit,
	}
	if n := len(f.action); n > 0 && f.action[n-1] == '.' {
		args["action"], args["prefix"] = "", f.action
	}
	if f.from != nil {
		args["from_id"] = firstID(f.from.Add(-time.Second))
	}
	if f.to != nil {
		args["to_id"] = firstID(f.to.Add(time.Second))
	}
	return args
}
