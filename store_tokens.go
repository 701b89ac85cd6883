package main

// Statements on one-time tokens, queued mails and signing keys.

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	purposeReset  = "reset"
	purposeVerify = "verify"
)

// oneTimeToken is a row of one_time_tokens.
type oneTimeToken struct {
	userID    id
	purpose   string
	hash      []byte
	email     string
	createdAt time.Time
	expiresAt time.Time
}

// putOneTimeToken stores a token in place of an older one for the same user and purpose. errNotFound: no such user.
func (d db) putOneTimeToken(ctx context.Context, t *oneTimeToken) error {
	_, err := exec(ctx, d, `
		INSERT INTO one_time_tokens (user_id, purpose, hash, email, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (user_id, purpose) DO UPDATE
		SET hash = excluded.hash, email = excluded.email, created_at = excluded.created_at, expires_at = excluded.expires_at`,
		t.userID, t.purpose, t.hash, t.email, t.createdAt, t.expiresAt)
	return err
}

// maxMails in mailWindow bound what a stranger can send to somebody by asking for it, for each purpose. After that the last
// link stays good until the window is over, so that the owner can't be kept from using it: no link lives shorter.
const (
	maxMails   = 5
	mailWindow = resetTTL
)

// sendOneTimeToken stores a token and its mail if t.email is the address of an account (for purpose verify: of one that has
// not confirmed it) that was not sent too many, and writes the audit row in any case. t.userID is not used.
func (d db) sendOneTimeToken(ctx context.Context, t *oneTimeToken, m *outboxRow, e *auditEvent) error {
	_, err := exec(ctx, d, `
		WITH owner AS (
			SELECT id FROM users WHERE email = @email AND NOT (@purpose = 'verify' AND email_verified)
			FOR KEY SHARE -- users before tokens, as everywhere: no deadlock
		), token AS (
			INSERT INTO one_time_tokens AS t (user_id, purpose, hash, email, created_at, expires_at, sent_since, sent)
			SELECT id, @purpose, @hash, @email, @created_at, @expires_at, @created_at, 1 FROM owner
			ON CONFLICT (user_id, purpose) DO UPDATE
			SET hash = excluded.hash, email = excluded.email, created_at = excluded.created_at, expires_at = excluded.expires_at,
			    sent_since = CASE WHEN t.sent_since > @window_start THEN t.sent_since ELSE excluded.sent_since END,
			    sent = CASE WHEN t.sent_since > @window_start THEN t.sent + 1 ELSE 1 END
			WHERE t.sent < @max_mails OR t.sent_since <= @window_start
			RETURNING user_id
		), mail AS (
			INSERT INTO outbox (id, user_id, message, created_at, next_attempt)
			SELECT @mail_id, user_id, @message, @created_at, @created_at FROM token
		)
		`+auditInto+`
		SELECT @audit_id, @audit_time, @trace_id, (SELECT id FROM owner), @actor_id, @ip, @action, @status, @duration_ms, @metadata`,
		e.args(pgx.NamedArgs{
			"email": t.email, "purpose": t.purpose, "hash": t.hash, "created_at": t.createdAt, "expires_at": t.expiresAt,
			"window_start": t.createdAt.Add(-mailWindow), "max_mails": maxMails, "mail_id": m.id, "message": m.sealed,
		}))
	return err
}

// tokenOwner returns the user a token is for and leaves the token as it is, or errNotFound.
func (d db) tokenOwner(ctx context.Context, purpose string, hash []byte, now time.Time) (user, error) {
	return one(ctx, d, scanUser, `SELECT `+userColumns+userFrom+`
		JOIN one_time_tokens t ON t.user_id = u.id AND t.email = u.email
		WHERE t.hash = $2 AND t.purpose = $1 AND t.expires_at > $3`,
		purpose, hash, now)
}

// takeOneTimeToken uses a token up and returns its user and the address it was sent to, or errNotFound. Of any number
// that try at once, one gets it.
func (d db) takeOneTimeToken(ctx context.Context, purpose string, hash []byte, now time.Time) (userID id, email string, err error) {
	t, err := one(ctx, d, func(row pgx.CollectableRow) (t oneTimeToken, err error) {
		err = row.Scan(&t.userID, &t.email)
		return t, err
	}, `
		DELETE FROM one_time_tokens WHERE hash = $2 AND purpose = $1 AND expires_at > $3
		RETURNING user_id, email`,
		purpose, hash, now)
	return t.userID, t.email, err
}

// dropOneTimeTokens voids a user's tokens: all of them, or those of one purpose.
func (d db) dropOneTimeTokens(ctx context.Context, userID id, purpose string) error {
	_, err := exec(ctx, d, `DELETE FROM one_time_tokens WHERE user_id = $1 AND ($2 = '' OR purpose = $2)`, userID, purpose)
	return err
}

func (d db) deleteOldTokens(ctx context.Context, before time.Time, limit int) (int64, error) {
	return exec(ctx, d, `
		DELETE FROM one_time_tokens WHERE hash IN (
			SELECT hash FROM one_time_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		before, limit)
}

// outboxRow is a queued mail.
type outboxRow struct {
	id        id
	userID    id
	sealed    []byte
	createdAt time.Time
	attempts  int
}

func (d db) insertMail(ctx context.Context, m *outboxRow) error {
	_, err := exec(ctx, d, `
		INSERT INTO outbox (id, user_id, message, created_at, next_attempt) VALUES ($1, $2, $3, $4, $4)`,
		m.id, m.userID, m.sealed, m.createdAt)
	return err
}

// claimMails takes up to limit due mails for the time until lease; then they are due again, should the claimer have died.
// Instances don't wait for each other.
func (d db) claimMails(ctx context.Context, now, lease time.Time, limit int) ([]outboxRow, error) {
	return many(ctx, d, func(row pgx.CollectableRow) (m outboxRow, err error) {
		err = row.Scan(&m.id, &m.userID, &m.sealed, &m.createdAt, &m.attempts)
		return m, err
	}, `
		UPDATE outbox SET next_attempt = $2, attempts = attempts + 1
		WHERE id IN (
			SELECT id FROM outbox WHERE next_attempt <= $1 AND failed_at IS NULL
			ORDER BY next_attempt LIMIT $3 FOR UPDATE SKIP LOCKED)
		RETURNING id, user_id, message, created_at, attempts`,
		now, lease, limit)
}

func (d db) deleteMail(ctx context.Context, mailID id) error {
	_, err := exec(ctx, d, `DELETE FROM outbox WHERE id = $1`, mailID)
	return err
}

// postponeMail notes a failed delivery. With giveUp the mail stays as a record without its content.
func (d db) postponeMail(ctx context.Context, mailID id, now, next time.Time, reason string, giveUp bool) error {
	_, err := exec(ctx, d, `
		UPDATE outbox
		SET next_attempt = $3, last_error = $4,
		    failed_at = CASE WHEN $5 THEN $2::timestamptz END,
		    message = CASE WHEN $5 THEN ''::bytea ELSE message END
		WHERE id = $1`,
		mailID, now, next, reason, giveUp)
	return err
}

// ensureSigningKey stores fresh if there is no signing key yet, and returns those that are not retired, newest first. Of
// instances that start together, one stores its key and the others see it.
func (st *store) ensureSigningKey(ctx context.Context, fresh keyRow, now time.Time) (keys []keyRow, err error) {
	err = st.tx(ctx, func(t db) error {
		if err := t.lock(ctx, lockKeys); err != nil {
			return err
		}
		_, err := exec(ctx, t, `
			INSERT INTO signing_keys (kid, alg, public_key, private_key, created_at, not_before)
			SELECT $1, $2, $3, $4, $5, $5 WHERE NOT EXISTS (SELECT FROM signing_keys WHERE retired_at IS NULL)`,
			fresh.kid, fresh.alg, fresh.publicKey, fresh.sealed, now)
		if err != nil {
			return err
		}
		keys, err = many(ctx, t, func(row pgx.CollectableRow) (k keyRow, err error) {
			err = row.Scan(&k.kid, &k.alg, &k.publicKey, &k.sealed)
			return k, err
		}, `
			SELECT kid, alg, public_key, private_key FROM signing_keys
			WHERE retired_at IS NULL ORDER BY not_before DESC, kid`)
		return err
	})
	return keys, err
}

// Advisory locks are taken for a transaction, which works through PgBouncer too. The numbers are ours alone in the database.
const (
	lockMigrate = 0x75737031 // "usp1"
	lockKeys    = 0x75737032
	lockClean   = 0x75737033
)

// lock waits for an advisory lock until the transaction ends.
func (d db) lock(ctx context.Context, key int64) error {
	_, err := exec(ctx, d, `SELECT pg_advisory_xact_lock($1)`, key)
	return err
}

// tryLock takes an advisory lock until the transaction ends, or reports false.
func (d db) tryLock(ctx context.Context, key int64) (bool, error) {
	return one(ctx, d, pgx.RowTo[bool], `SELECT pg_try_advisory_xact_lock($1)`, key)
}
