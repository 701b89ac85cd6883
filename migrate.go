package main

// Migrations: the embedded schema, applied in one transaction under an advisory lock, so that instances that start together
// take turns and a half-done migration leaves nothing behind.

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// migration is one step of the schema.
type migration struct {
	version  int
	name     string
	up, down string
}

// migrations returns the embedded steps; version n is at n-1.
func migrations() []migration {
	names, _ := fs.Glob(schemaFiles, "schema/*.up.sql") // in order: the names begin with the version
	list := make([]migration, 0, len(names))
	for i, name := range names {
		base := strings.TrimSuffix(strings.TrimPrefix(name, "schema/"), ".up.sql")
		number, title, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		up, err1 := schemaFiles.ReadFile(name)
		down, err2 := schemaFiles.ReadFile("schema/" + base + ".down.sql")
		if err := errors.Join(err, err1, err2); err != nil || version != i+1 {
			panic(fmt.Sprint("schema files out of order: ", name, err)) // part of the binary
		}
		list = append(list, migration{version, title, string(up), string(down)})
	}
	return list
}

// schemaVersion returns the version of the database's schema, 0 for an empty one.
func (d db) schemaVersion(ctx context.Context) (int, error) {
	exists, err := one(ctx, d, pgx.RowTo[bool], `SELECT to_regclass('schema_migrations') IS NOT NULL`)
	if err != nil || !exists {
		return 0, err
	}
	return one(ctx, d, pgx.RowTo[int], `SELECT coalesce(max(version), 0) FROM schema_migrations`)
}

// errNewerSchema: going on could destroy what a newer binary relies on.
func errNewerSchema(have, want int) error {
	return fmt.Errorf("the database has schema version %d, this binary knows up to %d: start a newer binary, or go back with the newer one's `userspace migrate down`", have, want)
}

// checkSchema returns an error unless the database has exactly the schema of this binary.
func (st *store) checkSchema(ctx context.Context) error {
	have, err := st.schemaVersion(ctx)
	if err != nil {
		return err
	}
	switch want := len(migrations()); {
	case have > want:
		return errNewerSchema(have, want)
	case have < want:
		return fmt.Errorf("the database has schema version %d, this binary needs %d: run `userspace migrate up` (USERSPACE_MIGRATE is off)", have, want)
	}
	return nil
}

// migrateTo brings the schema to a version, up or down, and returns the steps done. Other instances wait meanwhile.
func (st *store) migrateTo(ctx context.Context, target int, now time.Time) (done []string, err error) {
	steps := migrations()
	err = st.tx(ctx, func(t db) error {
		// No statement timeout here: a migration of a large table takes its time, and so does waiting for another's.
		if _, err := t.q.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockMigrate); err != nil {
			return dbError(err)
		}
		_, err := t.q.Exec(ctx, `
			CREATE TABLE IF NOT EXISTS schema_migrations (
				version    integer     NOT NULL CONSTRAINT schema_migrations_pkey PRIMARY KEY,
				name       text        NOT NULL,
				applied_at timestamptz NOT NULL
			)`)
		if err != nil {
			return dbError(err)
		}
		have, err := t.schemaVersion(ctx)
		if err != nil {
			return err
		}
		if have > len(steps) {
			return errNewerSchema(have, len(steps))
		}
		for ; have < target; have++ {
			m := steps[have]
			if _, err := t.q.Exec(ctx, m.up); err != nil {
				return fmt.Errorf("migration %d %s: %w", m.version, m.name, dbError(err))
			}
			if _, err := exec(ctx, t, `INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)`, m.version, m.name, now); err != nil {
				return err
			}
			done = append(done, fmt.Sprintf("up %d %s", m.version, m.name))
		}
		for ; have > target; have-- {
			m := steps[have-1]
			if _, err := t.q.Exec(ctx, m.down); err != nil {
				return fmt.Errorf("migration %d %s: %w", m.version, m.name, dbError(err))
			}
			if _, err := exec(ctx, t, `DELETE FROM schema_migrations WHERE version = $1`, m.version); err != nil {
				return err
			}
			done = append(done, fmt.Sprintf("down %d %s", m.version, m.name))
		}
		return nil
	})
	if err != nil {
		return nil, err // rolled back
	}
	return done, nil
}
