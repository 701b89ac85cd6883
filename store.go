package main

// The pool, transactions, and the meaning of database errors. The statements are in store_users.go, store_sessions.go,
// store_tokens.go and store_audit.go: one query, one function.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// statementTimeout bounds the wait for a connection and for one statement together: a stuck database is a 503 in about
// that time, not a pile of goroutines.
const statementTimeout = 2 * time.Second

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// db runs statements, on the pool or inside a transaction.
type db struct{ q querier }

// store is the database. Statements called on it run by themselves; those called on the db that tx hands out run together.
type store struct {
	db
	pool *pgxpool.Pool
}

// checkDatabaseURL returns what is wrong with a connection string; pgx leaves the password out of it.
func checkDatabaseURL(databaseURL string) error {
	_, err := pgxpool.ParseConfig(databaseURL)
	return err
}

// poolSize is how many connections an instance uses unless DATABASE_URL says pool_max_conns: enough to keep the cores of a
// small database busy, few enough for several instances within PostgreSQL's default of 100.
const poolSize = 16

// openStore makes the pool; it connects lazily.
func openStore(ctx context.Context, databaseURL string) (*store, error) {
	return openPool(ctx, databaseURL, poolSize)
}

// openPool is openStore with a number of connections.
func openPool(ctx context.Context, databaseURL string, size int32) (*store, error) {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	if size != poolSize || !strings.Contains(databaseURL, "pool_max_conns") {
		cfg.MaxConns = size
	}
	cfg.ConnConfig.ConnectTimeout = statementTimeout
	if _, set := cfg.ConnConfig.RuntimeParams["application_name"]; !set {
		cfg.ConnConfig.RuntimeParams["application_name"] = "userspace"
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &store{db{pool}, pool}, nil
}

func (st *store) close() { st.pool.Close() }

// tx runs fn in a transaction. An error of fn's rolls back; one that must not (a verdict after a counter moved) has to be
// kept and returned after the commit.
func (st *store) tx(ctx context.Context, fn func(t db) error) error {
	begin, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	t, err := st.pool.Begin(begin)
	if err != nil {
		return dbError(err)
	}
	defer func() { // after a commit it does nothing
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
		defer cancel()
		t.Rollback(end)
	}()
	if err := fn(db{t}); err != nil { // its statements have their own time limits
		return err
	}
	end, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return dbError(t.Commit(end))
}

// exec runs a statement and returns how many rows it changed.
func exec(ctx context.Context, d db, sql string, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	tag, err := d.q.Exec(ctx, sql, args...)
	return tag.RowsAffected(), dbError(err)
}

// one returns the single row of a statement, or errNotFound.
func one[T any](ctx context.Context, d db, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := d.q.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, dbError(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, scan)
	return v, dbError(err)
}

// many returns all rows of a statement; none is an empty slice.
func many[T any](ctx context.Context, d db, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := d.q.Query(ctx, sql, args...)
	if err != nil {
		return nil, dbError(err)
	}
	v, err := pgx.CollectRows(rows, scan)
	return v, dbError(err)
}

// constraintErrors gives the names of constraints their meaning.
var constraintErrors = map[string]error{
	"users_email_key":           errEmailTaken,
	"sessions_user_fkey":        errNotFound, // the user was deleted meanwhile
	"one_time_tokens_user_fkey": errNotFound,
	"outbox_user_fkey":          errNotFound,
}

// dbError gives a database error its meaning: errNotFound, a constraint's sentinel, errUnavailable when trying again may
// help, or the error itself, which is a defect of ours.
func dbError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotFound
	}
	if _, ours := errors.AsType[pgx.ScanArgError](err); ours || errors.Is(err, pgx.ErrTooManyRows) {
		return err
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || connecting { // nearly always no answer: no connection, a broken one, or too slow
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if known := constraintErrors[e.ConstraintName]; known != nil {
		return known
	}
	switch class := e.Code[:min(2, len(e.Code))]; class {
	case "08", "40", "53", "57": // connection, deadlock or serialisation, resources, shutdown or cancel
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if e.Code == "25006" || e.Code == "55P03" { // read-only after a fail-over, lock timeout
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return err
}

// UUIDValue and ScanUUID let pgx send and read an id as uuid.

func (u id) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: u, Valid: true}, nil }

func (u *id) ScanUUID(v pgtype.UUID) error {
	if !v.Valid {
		return errors.New("uuid is NULL")
	}
	*u = v.Bytes
	return nil
}
