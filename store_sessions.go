package main

// Statements on sessions and on what was revoked.

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
)

// session is a row of sessions.
type session struct {
	id         id
	userID     id
	generation uint32
	createdAt  time.Time
	rotatedAt  time.Time
	expiresAt  time.Time
	ip         netip.Addr
	userAgent  string
}

// maxSessions is how many sessions a user can have: a further sign-in ends those with the oldest login. It bounds what
// ending them all costs. Sign-ins at the same moment may go over it; the next one trims.
const maxSessions = 100

// opened is what a sign-in answers with.
type opened struct {
	scope []string
	ended []id // sessions that made room, revoked now
}

// openSession starts a session for a user whose password was just found right: one statement with the counters, the new
// hash (the old one again when it is not stale) and the audit row. It returns errNotFound when the user was suspended,
// locked or deleted, or has another password by now: the check and the session can't come apart.
func (d db) openSession(ctx context.Context, s *session, checkedHash, newHash string, revokedUntil time.Time, e *auditEvent) (opened, error) {
	return one(ctx, d, func(row pgx.CollectableRow) (o opened, err error) {
		err = row.Scan(&o.scope, &o.ended)
		return o, err
	}, `
		WITH signed_in AS (
			UPDATE users
			SET last_login = @now, failed_attempts = 0, failed_at = NULL, locked_until = NULL, password_hash = @new_hash
			WHERE id = @user_id AND status = 'active' AND password_hash = @checked_hash
			  AND (locked_until IS NULL OR locked_until <= @now)
			RETURNING id, scope
		), opened AS (
			INSERT INTO sessions (id, user_id, created_at, rotated_at, expires_at, ip, user_agent)
			SELECT @session_id, id, @now, @now, @expires_at, @ip, @user_agent FROM signed_in
		), surplus AS (
			DELETE FROM sessions WHERE id IN (
				SELECT s.id FROM sessions s JOIN signed_in ON s.user_id = signed_in.id
				ORDER BY s.id DESC OFFSET @max_sessions - 1)
			RETURNING id
		), revoked AS (
			INSERT INTO revoked_tokens (token_id, kind, revoked_at, expires_at, reason)
			SELECT id, 'sid', @now, @revoked_until, 'session.surplus' FROM surplus
			ON CONFLICT (token_id) DO NOTHING
			RETURNING token_id
		), audit AS (
			`+auditInto+`
			SELECT @audit_id, @audit_time, @trace_id, id, id, @ip, @action, @status, @duration_ms, @metadata FROM signed_in
		)
		SELECT scope, ARRAY(SELECT token_id FROM revoked) FROM signed_in`,
		e.args(pgx.NamedArgs{
			"now": s.createdAt, "user_id": s.userID, "checked_hash": checkedHash, "new_hash": newHash,
			"session_id": s.id, "expires_at": s.expiresAt, "user_agent": s.userAgent,
			"max_sessions": maxSessions, "revoked_until": revokedUntil,
		}))
}

// refreshed is what a refresh answers with.
type refreshed struct {
	userID    id
	scope     []string
	rotatedAt time.Time
	expiresAt time.Time
}

// rotate moves a session from the presented generation to its successor, once, and writes the audit row. Whoever presents
// the same generation again within the grace gets the same successor. "<=" because a fail-over may have lost the commit
// that led to the presented one, whose MAC proves that we issued it. errNotFound: the session has ended or expired, the user is
// not active, or the token was used before; endReused tells.
func (d db) rotate(ctx context.Context, s *session, now, idleSince, graceSince time.Time, e *auditEvent) (refreshed, error) {
	return one(ctx, d, func(row pgx.CollectableRow) (r refreshed, err error) {
		err = row.Scan(&r.userID, &r.scope, &r.rotatedAt, &r.expiresAt)
		return r, err
	}, `
		WITH rotated AS (
			UPDATE sessions s
			SET rotated_at = CASE WHEN s.generation <= @generation THEN @now ELSE s.rotated_at END,
			    generation = greatest(s.generation, @generation + 1),
			    ip = @ip, user_agent = @user_agent
			FROM users u
			WHERE s.id = @session_id AND u.id = s.user_id AND u.status = 'active'
			  AND (s.generation <= @generation OR s.generation = @generation + 1 AND s.rotated_at > @grace_since)
			  AND s.expires_at > @now AND s.rotated_at > @idle_since
			RETURNING u.id, u.scope, s.rotated_at, s.expires_at
		), audit AS (
			`+auditInto+`
			SELECT @audit_id, @audit_time, @trace_id, id, id, @ip, @action, @status, @duration_ms, @metadata FROM rotated
		)
		SELECT id, scope, rotated_at, expires_at FROM rotated`,
		e.args(pgx.NamedArgs{
			"session_id": s.id, "generation": int64(s.generation), "user_agent": s.userAgent,
			"now": now, "idle_since": idleSince, "grace_since": graceSince,
		}))
}

// endReused ends a session of which an old token was presented, with revocation and audit row. It returns errNotFound when
// the session is not there, or when the token is not an old one: then it was refused because of the session's age or the
// user's status.
func (d db) endReused(ctx context.Context, s *session, graceSince, revokedUntil time.Time, e *auditEvent) error {
	_, err := one(ctx, d, pgx.RowTo[id], `
		WITH ended AS (
			DELETE FROM sessions
			WHERE id = @session_id
			  AND (generation > @generation + 1 OR generation = @generation + 1 AND rotated_at <= @grace_since)
			RETURNING id, user_id
		), revoked AS (
			INSERT INTO revoked_tokens (token_id, kind, revoked_at, expires_at, reason)
			SELECT id, 'sid', @audit_time, @revoked_until, @action FROM ended
			ON CONFLICT (token_id) DO NOTHING
		), audit AS (
			`+auditInto+`
			SELECT @audit_id, @audit_time, @trace_id, user_id, NULL, @ip, @action, @status, @duration_ms, @metadata FROM ended
		)
		SELECT id FROM ended`,
		e.args(pgx.NamedArgs{
			"session_id": s.id, "generation": int64(s.generation), "grace_since": graceSince, "revoked_until": revokedUntil,
		}))
	return err
}

// endSession ends one session of a user, revokes it and, when there is one, the access token that asked for it, and writes
// the audit row. It returns the ids that are revoked now, or errNotFound when the user has no such session.
func (d db) endSession(ctx context.Context, userID, sessionID id, token *id, revokedUntil time.Time, e *auditEvent) ([]id, error) {
	return one(ctx, d, pgx.RowTo[[]id], `
		WITH ended AS (
			DELETE FROM sessions WHERE id = @session_id AND user_id = @user_id
			RETURNING id, user_id
		), revoked AS (
			INSERT INTO revoked_tokens (token_id, kind, revoked_at, expires_at, reason)
			SELECT id, 'sid', @audit_time::timestamptz, @revoked_until::timestamptz, @action FROM ended
			UNION ALL
			SELECT @token_id::uuid, 'jti', @audit_time, @revoked_until, @action FROM ended WHERE @token_id::uuid IS NOT NULL
			ON CONFLICT (token_id) DO NOTHING
			RETURNING token_id
		), audit AS (
			`+auditInto+`
			SELECT @audit_id, @audit_time, @trace_id, user_id, @actor_id, @ip, @action, @status, @duration_ms, @metadata FROM ended
		)
		SELECT array_agg(token_id) FROM revoked HAVING count(*) > 0`,
		e.args(pgx.NamedArgs{
			"session_id": sessionID, "user_id": userID, "token_id": token, "revoked_until": revokedUntil,
		}))
}

// endSessions ends all sessions of a user except one, if given, and returns their ids, which are revoked now. In a
// transaction it must come after the statement that changed the user's row: that one waited for a sign-in under way, and
// only a later statement sees its session.
func (d db) endSessions(ctx context.Context, userID id, except *id, now, revokedUntil time.Time, reason string) ([]id, error) {
	return many(ctx, d, pgx.RowTo[id], `
		WITH ended AS (
			DELETE FROM sessions WHERE user_id = $1 AND ($2::uuid IS NULL OR id <> $2)
			RETURNING id
		)
		INSERT INTO revoked_tokens (token_id, kind, revoked_at, expires_at, reason)
		SELECT id, 'sid', $3, $4, $5 FROM ended
		ON CONFLICT (token_id) DO NOTHING
		RETURNING token_id`,
		userID, except, now, revokedUntil, reason)
}

func scanSession(row pgx.CollectableRow) (s session, err error) {
	err = row.Scan(&s.id, &s.userID, &s.generation, &s.createdAt, &s.rotatedAt, &s.expiresAt, &s.ip, &s.userAgent)
	return s, err
}

// sessionByID returns a session, or errNotFound.
func (d db) sessionByID(ctx context.Context, sessionID id) (session, error) {
	return one(ctx, d, scanSession, `
		SELECT id, user_id, generation, created_at, rotated_at, expires_at, ip, user_agent
		FROM sessions WHERE id = $1`,
		sessionID)
}

// listSessions returns a user's live sessions, the last used first.
func (d db) listSessions(ctx context.Context, userID id, now, idleSince time.Time) ([]session, error) {
	return many(ctx, d, scanSession, `
		SELECT id, user_id, generation, created_at, rotated_at, expires_at, ip, user_agent
		FROM sessions
		WHERE user_id = $1 AND expires_at > $2 AND rotated_at > $3
		ORDER BY rotated_at DESC, id DESC`,
		userID, now, idleSince)
}

// deleteOldSessions removes sessions that began before the given id's moment, at most limit rows.
func (d db) deleteOldSessions(ctx context.Context, before id, limit int) (int64, error) {
	return exec(ctx, d, `
		DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE id < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		before, limit)
}

// revocation is a row of revoked_tokens as the live set needs it.
type revocation struct {
	tokenID   id
	expiresAt time.Time
}

// revocationsSince returns what was revoked since a horizon that an earlier call returned ("0" for everything), and the
// next horizon. Transactions that were open at the earlier call have ids at or above its horizon, so nothing is missed however
// late they committed; some rows come twice.
func (d db) revocationsSince(ctx context.Context, horizon string, now time.Time) ([]revocation, string, error) {
	next := horizon
	rows, err := many(ctx, d, func(row pgx.CollectableRow) (r revocation, err error) {
		var tokenID *id
		var expiresAt *time.Time
		err = row.Scan(&next, &tokenID, &expiresAt)
		if tokenID != nil {
			r = revocation{*tokenID, *expiresAt}
		}
		return r, err
	}, `
		SELECT snapshot.xmin::text, r.token_id, r.expires_at
		FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) AS snapshot
		LEFT JOIN revoked_tokens r ON r.xid >= $1::text::xid8 AND r.expires_at > $2`,
		horizon, now)
	if len(rows) == 1 && rows[0] == (revocation{}) {
		rows = nil // the join's empty row
	}
	return rows, next, err
}

// anyRevoked asks the table itself.
func (d db) anyRevoked(ctx context.Context, token, session id) (bool, error) {
	return one(ctx, d, pgx.RowTo[bool], `
		SELECT EXISTS (SELECT FROM revoked_tokens WHERE token_id IN ($1, $2))`, token, session)
}

// deleteOldRevocations removes what has expired, at most limit rows.
func (d db) deleteOldRevocations(ctx context.Context, before time.Time, limit int) (int64, error) {
	return exec(ctx, d, `
		DELETE FROM revoked_tokens WHERE token_id IN (
			SELECT token_id FROM revoked_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		before, limit)
}
