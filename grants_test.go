package main

// Least privilege: the service runs as a role that schema/grants.sql made fit, and that role can't rewrite the audit log.

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// psqlPath is psql from PATH, or where PostgreSQL's other programs are.
func psqlPath(t *testing.T) string {
	t.Helper()
	if path, err := osexec.LookPath("psql"); err == nil {
		return path
	}
	bin, err := postgresBinaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bin, "psql")
}

// asRole is the connection string of the same database for another role.
func asRole(t *testing.T, databaseURL, role, password string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	if query.Has("user") { // the private cluster
		query.Set("user", role)
		u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // what libpq and pgx read as a space
	} else {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

func TestGrants(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	database := testDB(t)
	owner := openTest(t, database)
	role := fmt.Sprintf("Userspace app %d", os.Getpid()) // a name that has to be quoted
	password := newSecret()
	if err := adminExec(ctx, `CREATE ROLE "`+role+`" LOGIN PASSWORD '`+password+`'`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		owner.sql(t, `DROP OWNED BY "`+role+`"`)
		if err := adminExec(ctx, `DROP ROLE "`+role+`"`); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // it is run after every migration
		psql := osexec.Command(psqlPath(t), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "app="+role, "-f", "schema/grants.sql", database)
		if out, err := psql.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	a := newAppOn(t, asRole(t, database, role, password), "USERSPACE_MIGRATE=off")
	var user string
	if err := a.s.store.pool.QueryRow(ctx, `SELECT current_user`).Scan(&user); err != nil || user != role {
		t.Fatalf("role: got %q, %v, want %q", user, err, role)
	}
	_, root := a.admin("root@example.org")
	userID := a.register("ada@example.org")
	a.want(a.do("POST", "/api/v1/auth/email/verify", "", map[string]any{"token": a.mail().token()}), 204, "")
	first := a.login("ada@example.org")
	a.want(a.tryLogin("ada@example.org", "a wrong password"), 401, "invalid_credentials")
	a.want(a.tryLogin("nobody@example.org", "a wrong password"), 401, "invalid_credentials")
	second := a.pair(a.want(a.refresh(first.refresh), 200, ""))
	a.want(a.do("PATCH", "/api/v1/users/me", second.access, map[string]any{"profile": map[string]any{"name": "Ada"}}), 200, "")
	a.want(a.do("GET", "/api/v1/users/me/export", second.access, nil), 200, "")
	a.want(a.do("DELETE", "/api/v1/auth/logout", second.access, nil), 204, "")
	a.want(a.do("POST", "/api/v1/auth/password/reset", "", map[string]any{"email": "ada@example.org"}), 202, "")
	a.want(a.do("POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": a.mail().token(), "password": testPassword}), 204, "")
	for _, status := range []string{"suspended", "active"} {
		a.want(a.do("POST", "/api/v1/admin/users/"+userID+"/status", root.access, map[string]any{"status": status, "reason": "test"}), 200, "")
	}
	a.want(a.do("PUT", "/api/v1/admin/users/"+userID+"/scope", root.access, map[string]any{"scope": []string{"user", "introspect"}}), 200, "")
	a.want(a.do("GET", "/api/v1/admin/users?q=a", root.access, nil), 200, "")
	a.want(a.do("GET", "/api/v1/admin/audit-log", root.access, nil), 200, "")
	a.want(a.do("DELETE", "/api/v1/users/me", a.login("ada@example.org").access, map[string]any{"current_password": testPassword}), 204, "")
	a.want(a.do("GET", "/readyz", "", nil), 200, "")
	if err := a.s.cleanTables(ctx, time.Now().Add(10*365*24*time.Hour)); err != nil {
		t.Errorf("clean-up: %v", err)
	}

	if _, err := a.s.store.pool.Exec(ctx, `GRANT ALL ON audit_log TO CURRENT_USER`); err != nil { // a warning, and it gives nothing
		t.Error(err)
	}
	denied := []string{
		`UPDATE audit_log SET status = 'success'`,
		`DELETE FROM audit_log`,
		`TRUNCATE audit_log`,
		`DROP TABLE audit_log`,
		`ALTER TABLE audit_log ADD COLUMN more text`,
		`CREATE RULE quiet AS ON INSERT TO audit_log DO INSTEAD NOTHING`,
		`CREATE TRIGGER quiet BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
		`TRUNCATE users CASCADE`,
		`DELETE FROM schema_migrations`,
		`INSERT INTO schema_migrations (version, name, applied_at) VALUES (99, 'mine', now())`,
		`CREATE TABLE mine (a text)`,
	}
	rows := a.count(`SELECT count(*) FROM audit_log`)
	for _, statement := range denied {
		_, err := a.s.store.pool.Exec(ctx, statement)
		var state interface{ SQLState() string }
		if !errors.As(err, &state) || state.SQLState() != "42501" { // insufficient_privilege
			t.Errorf("%s: got %v, want permission denied", statement, err)
		}
	}
	a.wantCount("audit rows after the attempts", rows, `SELECT count(*) FROM audit_log`)
}
