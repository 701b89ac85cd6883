package main

// The schema's way up and down, and what refuses to go on.

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// openTest opens a store that is closed with the test.
func openTest(t *testing.T, databaseURL string) *store {
	t.Helper()
	st, err := openStore(context.Background(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	return st
}

// sql runs a statement of a test's own.
func (st *store) sql(t *testing.T, statement string) {
	t.Helper()
	if _, err := st.pool.Exec(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}

// objects lists what is in the schema public: tables, indexes, functions, types, constraints.
func (st *store) objects(t *testing.T) string {
	t.Helper()
	names, err := many(context.Background(), st.db, pgx.RowTo[string], `
		SELECT format('%s %s', c.relkind, c.relname) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		UNION ALL
		SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
		UNION ALL
		SELECT format('type %s', t.typname) FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd')
		UNION ALL
		SELECT format('constraint %s', n.conname) FROM pg_constraint n
		WHERE n.connamespace = 'public'::regnamespace AND n.contype <> 'n'
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

func TestMigrationsUpAndDown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	st := openTest(t, emptyDB(t))
	latest := len(migrations())
	if _, err := st.migrateTo(ctx, latest, time.Now()); err != nil {
		t.Fatal(err)
	}
	first := st.objects(t)
	if !strings.Contains(first, "audit_log") {
		t.Errorf("objects: got %q, want audit_log among them", first)
	}
	if err := st.checkSchema(ctx); err != nil {
		t.Error(err)
	}
	done, err := st.migrateTo(ctx, 0, time.Now())
	if err != nil || len(done) != latest {
		t.Fatalf("down: got %q, %v, want %d steps", done, err, latest)
	}
	const want = "constraint schema_migrations_pkey\ni schema_migrations_pkey\nr schema_migrations"
	if got := st.objects(t); got != want {
		t.Errorf("after down: got\n%s\nwant\n%s", got, want)
	}
	if version, err := st.schemaVersion(ctx); err != nil || version != 0 {
		t.Errorf("version after down: got %d, %v, want 0", version, err)
	}
	if _, err := st.migrateTo(ctx, latest, time.Now()); err != nil {
		t.Fatal(err)
	}
	if again := st.objects(t); again != first {
		t.Errorf("up again: got\n%s\nwant\n%s", again, first)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	st := openTest(t, database)
	newer := len(migrations()) + 1
	st.sql(t, fmt.Sprintf(`INSERT INTO schema_migrations (version, name, applied_at) VALUES (%d, 'later', now())`, newer))
	before := st.objects(t)
	message := fmt.Sprintf("schema version %d, this binary knows up to %d", newer, newer-1)
	env := testEnv(database, "USERSPACE_ADDR=127.0.0.1:0", "USERSPACE_INTERNAL_ADDR=127.0.0.1:0")
	for _, args := range []string{"serve", "migrate up", "migrate status", "admin create ada@example.org"} {
		typeIn(t, env, "", strings.Fields(args)...).want(t, 1, "", message)
	}
	typeIn(t, append(env, "USERSPACE_MIGRATE=off"), "", "serve").want(t, 1, "", message)
	typeIn(t, env, "", "migrate", "down").want(t, 1, "", message)
	if after := st.objects(t); after != before {
		t.Errorf("the schema was changed: got\n%s\nwant\n%s", after, before)
	}
}

func TestOldSchemaIsRefusedWithMigrateOff(t *testing.T) {
	t.Parallel()
	database := emptyDB(t)
	st := openTest(t, database)
	env := testEnv(database, "USERSPACE_MIGRATE=off", "USERSPACE_ADDR=127.0.0.1:0", "USERSPACE_INTERNAL_ADDR=127.0.0.1:0")
	typeIn(t, env, "", "serve").want(t, 1, "", "userspace migrate up")
	if got := st.objects(t); got != "" {
		t.Errorf("objects: got %q, want none", got)
	}
	if _, err := st.migrateTo(context.Background(), len(migrations())-1, time.Now()); err != nil {
		t.Fatal(err)
	}
	typeIn(t, env, "", "serve").want(t, 1, "", "userspace migrate up")
}

// TestFailingMigrationRollsBack: something in the way of the last step leaves nothing of the steps before it.
func TestFailingMigrationRollsBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	latest := len(migrations())
	t.Run("up", func(t *testing.T) {
		t.Parallel()
		database := emptyDB(t)
		st := openTest(t, database)
		st.sql(t, `CREATE TABLE outbox (mine text)`) // the last table of the first step
		before := st.objects(t)
		if done, err := st.migrateTo(ctx, latest, time.Now()); err == nil {
			t.Errorf("got %q and no error", done)
		}
		typeIn(t, []string{"DATABASE_URL=" + database}, "", "migrate", "up").want(t, 1, "", "migration 1 accounts")
		if after := st.objects(t); after != before {
			t.Errorf("left behind: got\n%s\nwant\n%s", after, before)
		}
		st.sql(t, `DROP TABLE outbox`)
		if _, err := st.migrateTo(ctx, latest, time.Now()); err != nil {
			t.Errorf("once the way is free: %v", err)
		}
	})
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		database := testDB(t)
		st := openTest(t, database)
		st.sql(t, `CREATE VIEW mine AS SELECT id FROM users`)
		before := st.objects(t)
		if done, err := st.migrateTo(ctx, 0, time.Now()); err == nil {
			t.Errorf("got %q and no error", done)
		}
		if after := st.objects(t); after != before {
			t.Errorf("lost: got\n%s\nwant\n%s", after, before)
		}
		if version, err := st.schemaVersion(ctx); err != nil || version != latest {
			t.Errorf("version: got %d, %v, want %d", version, err, latest)
		}
	})
}

// TestMigrationWaitsForAnother: an instance that starts while another migrates a large table waits as long as that takes,
// which is longer than a statement may.
func TestMigrationWaitsForAnother(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	database := emptyDB(t)
	st, other := openTest(t, database), openTest(t, database)
	tx, err := other.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockMigrate)); err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	go func() {
		_, err := st.migrateTo(ctx, len(migrations()), time.Now())
		migrated <- err
	}()
	select {
	case err := <-migrated:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(5*statementTimeout + time.Second): // beyond every time limit of a usual transaction
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if err := st.checkSchema(ctx); err != nil {
		t.Error(err)
	}
}
