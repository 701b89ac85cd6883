package main

// Statements on users and their profiles, and on the attempts that lock an email.

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	statusPending   = "pending"
	statusActive    = "active"
	statusSuspended = "suspended"
)

// user is a row of users with its profile.
type user struct {
	id             id
	email          string
	emailVerified  bool
	passwordHash   string // "" until one is set
	status         string
	scope          []string
	createdAt      time.Time
	updatedAt      time.Time
	lastLogin      *time.Time
	failedAttempts int
	lockedUntil    *time.Time
	profile        json.RawMessage
}

const (
	userColumns = `
		u.id, u.email, u.email_verified, coalesce(u.password_hash, ''), u.status, u.scope,
		u.created_at, u.updated_at, u.last_login, u.failed_attempts, u.locked_until, coalesce(p.data, '{}')`
	userFrom = `
		FROM users u LEFT JOIN user_profiles p ON p.user_id = u.id`
)

func scanUser(row pgx.CollectableRow) (u user, err error) {
	err = row.Scan(&u.id, &u.email, &u.emailVerified, &u.passwordHash, &u.status, &u.scope,
		&u.createdAt, &u.updatedAt, &u.lastLogin, &u.failedAttempts, &u.lockedUntil, &u.profile)
	return u, err
}

// userByID returns a user, or errNotFound.
func (d db) userByID(ctx context.Context, userID id) (user, error) {
	return one(ctx, d, scanUser, `SELECT `+userColumns+userFrom+` WHERE u.id = $1`, userID)
}

// userByEmail returns a user, or errNotFound. email is canonical.
func (d db) userByEmail(ctx context.Context, email string) (user, error) {
	return one(ctx, d, scanUser, `SELECT `+userColumns+userFrom+` WHERE u.email = $1`, email)
}

// lockUser returns a user whose row stays locked until the transaction ends, or errNotFound.
func (d db) lockUser(ctx context.Context, userID id) (user, error) {
	// Two statements: after a wait PostgreSQL reads the locked row anew, but not the profile joined with it.
	if _, err := one(ctx, d, pgx.RowTo[id], `SELECT id FROM users WHERE id = $1 FOR UPDATE`, userID); err != nil {
		return user{}, err
	}
	return d.userByID(ctx, userID)
}

// insertUser adds a user and profile, or returns errEmailTaken.
func (d db) insertUser(ctx context.Context, u *user) error {
	_, err := exec(ctx, d, `
		WITH added AS (
			INSERT INTO users (id, email, email_verified, password_hash, status, scope, created_at, updated_at)
			VALUES ($1, $2, $3, nullif($4, ''), $5, $6, $7, $7)
			RETURNING id
		)
		INSERT INTO user_profiles (user_id, data) SELECT id, $8 FROM added`,
		u.id, u.email, u.emailVerified, u.passwordHash, u.status, u.scope, u.createdAt, u.profile)
	return err
}

// updateEmail changes the address, which then is not verified, or returns errEmailTaken.
func (d db) updateEmail(ctx context.Context, userID id, email string, now time.Time) error {
	_, err := exec(ctx, d, `
		UPDATE users SET email = $2, email_verified = false, updated_at = $3 WHERE id = $1`,
		userID, email, now)
	return err
}

// updatePassword sets a password and clears the lock.
func (d db) updatePassword(ctx context.Context, userID id, passwordHash string, now time.Time) error {
	_, err := exec(ctx, d, `
		UPDATE users
		SET password_hash = $2, updated_at = $3, failed_attempts = 0, failed_at = NULL, locked_until = NULL
		WHERE id = $1`,
		userID, passwordHash, now)
	return err
}

// clearLock forgets wrong passwords after a right one.
func (d db) clearLock(ctx context.Context, userID id) error {
	_, err := exec(ctx, d, `
		UPDATE users SET failed_attempts = 0, failed_at = NULL, locked_until = NULL
		WHERE id = $1 AND failed_attempts > 0`,
		userID)
	return err
}

// verifyEmail marks the address as confirmed, if it still is the given one, and makes a pending user active. It returns
// errNotFound when the address has changed.
func (d db) verifyEmail(ctx context.Context, userID id, email string, now time.Time) error {
	_, err := one(ctx, d, pgx.RowTo[id], `
		UPDATE users
		SET email_verified = true, updated_at = $3,
		    status = CASE WHEN status = 'pending' THEN 'active' ELSE status END
		WHERE id = $1 AND email = $2
		RETURNING id`,
		userID, email, now)
	return err
}

// updateProfile replaces the profile. The caller holds the user's row (lockUser).
func (d db) updateProfile(ctx context.Context, userID id, profile json.RawMessage, now time.Time) error {
	_, err := exec(ctx, d, `
		WITH touched AS (UPDATE users SET updated_at = $3 WHERE id = $1)
		UPDATE user_profiles SET data = $2 WHERE user_id = $1`,
		userID, profile, now)
	return err
}

// updateStatus and updateScope are the administrator's changes.
func (d db) updateStatus(ctx context.Context, userID id, status string, now time.Time) error {
	_, err := exec(ctx, d, `UPDATE users SET status = $2, updated_at = $3 WHERE id = $1`, userID, status, now)
	return err
}

func (d db) updateScope(ctx context.Context, userID id, scope []string, now time.Time) error {
	_, err := exec(ctx, d, `UPDATE users SET scope = $2, updated_at = $3 WHERE id = $1`, userID, scope, now)
	return err
}

// deleteUser removes the user with everything that refers to it, the audit log excepted.
func (d db) deleteUser(ctx context.Context, userID id) error {
	_, err := exec(ctx, d, `DELETE FROM users WHERE id = $1`, userID)
	return err
}

// lockActiveAdmins locks the rows of all active administrators who have a password, in one order, and returns their ids. Two administrators
// who remove each other at the same time take turns here.
func (d db) lockActiveAdmins(ctx context.Context) ([]id, error) {
	return many(ctx, d, pgx.RowTo[id], `
		SELECT id FROM users
		WHERE status = 'active' AND 'admin' = ANY (scope) AND password_hash IS NOT NULL
		ORDER BY id FOR UPDATE`)
}

// userFilter is what GET /admin/users asks for. Empty fields don't filter.
type userFilter struct {
	email  string // exact
	prefix string // of the email
	status string
	after  string // id or, with a prefix, email of the last row seen
	limit  int
}

// listUsers returns a page, newest first, or by email when a prefix is asked for: each order has an index that yields it.
// The statement is planned for its parameters, so a filter that is not used costs nothing.
func (d db) listUsers(ctx context.Context, f userFilter) ([]user, error) {
	if f.prefix != "" {
		return many(ctx, d, scanUser, `SELECT `+userColumns+userFrom+`
			WHERE u.email >= $1 AND u.email < $1 || chr(127)
			  AND u.email > $2
			  AND ($3 = '' OR u.status = nullif($3, '')::user_status)
			  AND ($4 = '' OR u.email = $4)
			ORDER BY u.email LIMIT $5`,
			pgx.QueryExecModeCacheDescribe, f.prefix, f.after, f.status, f.email, f.limit)
	}
	return many(ctx, d, scanUser, `SELECT `+userColumns+userFrom+`
		WHERE ($1 = '' OR u.id < nullif($1, '')::uuid)
		  AND ($2 = '' OR u.status = nullif($2, '')::user_status)
		  AND ($3 = '' OR u.email = $3)
		ORDER BY u.id DESC LIMIT $4`,
		pgx.QueryExecModeCacheDescribe, f.after, f.status, f.email, f.limit)
}

// attempt is what a sign-in finds out before it computes a hash. An email without account has status "".
type attempt struct {
	userID       id
	passwordHash string
	status       string
	lockedUntil  *time.Time
}

// findAttempt looks an email up, with or without account, in one statement of the same shape.
func (d db) findAttempt(ctx context.Context, email string, fingerprint []byte) (attempt, error) {
	return one(ctx, d, func(row pgx.CollectableRow) (a attempt, err error) {
		var userID *id
		err = row.Scan(&userID, &a.passwordHash, &a.status, &a.lockedUntil)
		if userID != nil {
			a.userID = *userID
		}
		return a, err
	}, `
		SELECT u.id, coalesce(u.password_hash, ''), coalesce(u.status::text, ''), coalesce(u.locked_until, a.locked_until)
		FROM (SELECT) AS always
		LEFT JOIN users u ON u.email = $1
		LEFT JOIN login_attempts a ON a.fingerprint = $2 AND u.id IS NULL`,
		email, fingerprint)
}

// countFailure counts a wrong password for an email, with or without account, and writes its audit row. counted is false
// when the email is locked by now: then nothing changed, so that a burst can't get past the lock or prolong it.
func (d db) countFailure(ctx context.Context, email string, fingerprint []byte, e *auditEvent) (counted bool, err error) {
	return one(ctx, d, pgx.RowTo[bool], `
		WITH known AS (
			UPDATE users
			SET failed_attempts = next_failures(failed_attempts, failed_at, @now),
			    locked_until = lock_until(next_failures(failed_attempts, failed_at, @now), @now),
			    failed_at = @now
			WHERE email = @email AND (locked_until IS NULL OR locked_until <= @now)
			RETURNING id
		), unknown AS (
			INSERT INTO login_attempts AS a (fingerprint, failed_attempts, failed_at)
			SELECT @fingerprint, 1, @now WHERE NOT EXISTS (SELECT FROM users WHERE email = @email)
			ON CONFLICT (fingerprint) DO UPDATE
			SET failed_attempts = next_failures(a.failed_attempts, a.failed_at, @now),
			    locked_until = lock_until(next_failures(a.failed_attempts, a.failed_at, @now), @now),
			    failed_at = @now
			WHERE a.locked_until IS NULL OR a.locked_until <= @now
			RETURNING NULL::uuid AS id
		), counted AS (
			SELECT id FROM known UNION ALL SELECT id FROM unknown
		), audit AS (
			`+auditInto+`
			SELECT @audit_id, @audit_time, @trace_id, id, @actor_id, @ip, @action, @status, @duration_ms, @metadata FROM counted
		)
		SELECT EXISTS (SELECT FROM counted)`,
		e.args(pgx.NamedArgs{"now": e.at, "email": email, "fingerprint": fingerprint}))
}

// deleteOldAttempts forgets attempts on emails without account once they don't count any more, at most limit rows.
func (d db) deleteOldAttempts(ctx context.Context, before time.Time, limit int) (int64, error) {
	return exec(ctx, d, `
		DELETE FROM login_attempts WHERE fingerprint IN (
			SELECT fingerprint FROM login_attempts WHERE failed_at < $1 ORDER BY failed_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		before, limit)
}
