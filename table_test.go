package main

// Properties of the route table: whatever a row is for, who may call it, what it records and what its failure leaves behind.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// obj is a JSON object of a request.
type obj = map[string]any

const someID = "01890a5d-ac96-774b-bcce-b302099a8057"

// target splits a row's pattern into method and a path that can be called.
func (r *route) target() (method, path string) {
	method, path, _ = strings.Cut(r.pattern, " ")
	return method, strings.ReplaceAll(path, "{id}", someID)
}

func scanText(row pgx.CollectableRow) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}

// trail returns the audit rows of one answer as "action status", oldest first.
func (a *app) trail(r reply) []string {
	a.t.Helper()
	rows, err := many(context.Background(), a.s.store.db, scanText, `
		SELECT action || ' ' || status FROM audit_log WHERE trace_id = $1 ORDER BY id, action`, r.header.Get("X-Request-Id"))
	if err != nil {
		a.t.Fatal(err)
	}
	return rows
}

// data is the text of every row that is not audit, once the queued mails are out.
func (a *app) data() string {
	a.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); a.count(`SELECT count(*) FROM outbox`) > 0; {
		if time.Now().After(deadline) {
			a.t.Fatal("the mail queue does not empty")
		}
		time.Sleep(2 * time.Millisecond)
	}
	var selects []string
	for _, table := range []string{"users", "user_profiles", "login_attempts", "sessions", "revoked_tokens", "one_time_tokens", "signing_keys"} {
		selects = append(selects, fmt.Sprintf(`SELECT '%s ' || row::text AS line FROM %[1]s AS row`, table))
	}
	text, err := one(context.Background(), a.s.store.db, scanText,
		`SELECT coalesce(string_agg(line, chr(10) ORDER BY line), '') FROM (`+strings.Join(selects, ` UNION ALL `)+`) AS lines`)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// sql changes the database behind the service's back.
func (a *app) sql(statements ...string) {
	a.t.Helper()
	for _, statement := range statements {
		if _, err := a.s.store.pool.Exec(context.Background(), statement); err != nil {
			a.t.Fatal(err)
		}
	}
}

// refuseAudit makes the database refuse the audit rows of an action and status; the returned function ends it.
func (a *app) refuseAudit(action, status string) (end func()) {
	a.t.Helper()
	a.sql(`CREATE OR REPLACE FUNCTION refuse_audit() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'no audit row for you'; END $$`,
		fmt.Sprintf(`CREATE TRIGGER refuse_audit BEFORE INSERT ON audit_log FOR EACH ROW
			WHEN (NEW.action = '%s' AND NEW.status = '%s') EXECUTE FUNCTION refuse_audit()`, action, status))
	return func() { a.sql(`DROP TRIGGER refuse_audit ON audit_log`) }
}

func TestTableAuthentication(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	bad := a.login("ada@example.org").access + "A"
	for _, row := range a.s.routes(a.health) {
		method, path := row.target()
		nobody, forged := a.do(method, path, "", nil), a.do(method, path, bad, nil)
		if row.access.kind == accessAnonymous {
			if slices.Contains([]string{"missing_token", "invalid_token"}, nobody.code()) || forged.code() != nobody.code() {
				t.Errorf("%s: got %q for nobody and %q with a bad token, want no difference", row.pattern, nobody.code(), forged.code())
			}
			continue
		}
		for _, tt := range []struct {
			got             reply
			code, challenge string
		}{
			{nobody, "missing_token", `Bearer realm="userspace"`},
			{forged, "invalid_token", `Bearer realm="userspace", error="invalid_token"`},
		} {
			if tt.got.status != 401 || tt.got.code() != tt.code || tt.got.header.Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("%s: got %d %q %q, want 401 %q %q", row.pattern, tt.got.status, tt.got.code(),
					tt.got.header.Get("WWW-Authenticate"), tt.code, tt.challenge)
			}
			if rows := a.trail(tt.got); len(rows) > 0 {
				t.Errorf("%s: got audit rows %q for %s, want none", row.pattern, rows, tt.code)
			}
		}
	}
}

func TestTableBearerHeader(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	token := a.login("ada@example.org").access
	for _, tt := range []struct {
		name   string
		values []string
		status int
		code   string
	}{
		{"scheme in any case", []string{"bEARER " + token}, 200, ""},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, 400, "invalid_request"},
		{"other scheme", []string{"Basic " + token}, 401, "missing_token"},
		{"no scheme", []string{token}, 401, "missing_token"},
		{"no token", []string{"Bearer "}, 401, "missing_token"},
		{"two tokens", []string{"Bearer " + token + " " + token}, 401, "invalid_token"},
		{"a comma", []string{"Bearer " + token + ", Bearer " + token}, 401, "invalid_token"},
	} {
		got := a.send("GET", "/api/v1/users/me", http.Header{"Authorization": tt.values}, nil)
		if got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, got.status, got.code(), tt.status, tt.code)
		}
	}
	for _, query := range []string{"access_token=" + token, "token=" + token} { // RFC 9700 §4.3.2: never in the URL
		if got := a.do("GET", "/api/v1/users/me?"+query, "", nil); got.code() != "missing_token" {
			t.Errorf("token in the query: got %q, want missing_token", got.code())
		}
	}
}

func TestTableScope(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	token, rows := a.login("ada@example.org").access, 0
	before := a.data()
	for _, row := range a.s.routes(a.health) {
		if row.access.kind != accessScope {
			continue
		}
		rows++
		method, path := row.target()
		got := a.do(method, path, token, nil)
		challenge := `Bearer realm="userspace", error="insufficient_scope", scope="` + row.access.scope + `"`
		if got.status != 403 || got.code() != "insufficient_scope" || got.header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s: got %d %q %q, want 403 insufficient_scope %q", row.pattern, got.status, got.code(), got.header.Get("WWW-Authenticate"), challenge)
		}
		if trail := a.trail(got); !slices.Equal(trail, []string{row.audit.action + " denied"}) {
			t.Errorf("%s: got audit rows %q, want one denied", row.pattern, trail)
		}
	}
	for _, row := range a.s.routes(a.health) {
		_, path := row.target()
		if strings.HasPrefix(path, "/api/v1/admin/") && (row.access.kind != accessScope || row.access.scope != scopeAdmin) {
			t.Errorf("%s: got access %v, want scope admin", row.pattern, row.access)
		}
	}
	if rows < 8 {
		t.Errorf("got %d rows with a scope, want the 8 of /admin", rows)
	}
	if got := a.data(); got != before {
		t.Errorf("denied calls changed data: got\n%s\nwant\n%s", got, before)
	}
}

// tableChange is a valid request to a row that changes something, and the audit rows it makes.
type tableChange struct {
	pattern, variant string
	make             func() tableRequest
	status           int
	trail            []string // sorted
}

type tableRequest struct {
	path           string // "" is the pattern's
	token          string
	body           any
	subject, actor string // ids in the audit row; "" is not looked at, "-" is NULL
}

func tableChanges(a *app) []tableChange {
	adminID, root := a.admin("root@example.org")
	made := 0
	email := func() string { made++; return fmt.Sprintf("user%d@example.org", made) }
	user := func() (userID, address string, p pair) {
		address = email()
		userID = a.register(address)
		a.mail()
		return userID, address, a.login(address)
	}
	self := func(path string, body any) func() tableRequest {
		return func() tableRequest {
			userID, _, p := user()
			return tableRequest{path, p.access, body, userID, userID}
		}
	}
	byAdmin := func(path string, body any) func() tableRequest {
		return func() tableRequest {
			userID, _, _ := user()
			return tableRequest{strings.ReplaceAll(path, "{id}", userID), root.access, body, userID, adminID}
		}
	}
	const users, one = "/api/v1/admin/users", "/api/v1/admin/users/{id}"
	return []tableChange{
		{"POST /api/v1/auth/register", "", func() tableRequest {
			return tableRequest{body: obj{"email": email(), "password": testPassword}}
		}, 201, []string{"auth.register success"}},
		{"POST /api/v1/auth/login", "right", func() tableRequest {
			userID, address, _ := user()
			return tableRequest{"", "", obj{"email": address, "password": testPassword}, userID, userID}
		}, 200, []string{"auth.login success"}},
		{"POST /api/v1/auth/login", "wrong password", func() tableRequest {
			userID, address, _ := user()
			return tableRequest{"", "", obj{"email": address, "password": "wrong"}, userID, "-"}
		}, 401, []string{"auth.login failure"}},
		{"POST /api/v1/auth/login", "unknown email", func() tableRequest {
			return tableRequest{"", "", obj{"email": email(), "password": "wrong"}, "-", "-"}
		}, 401, []string{"auth.login failure"}},
		{"POST /api/v1/auth/refresh", "", func() tableRequest {
			userID, _, p := user()
			return tableRequest{"", "", obj{"refresh_token": p.refresh}, userID, userID}
		}, 200, []string{"auth.refresh success"}},
		{"POST /api/v1/auth/refresh", "reuse", func() tableRequest {
			userID, _, p := user()
			second := a.pair(a.want(a.refresh(p.refresh), 200, ""))
			a.want(a.refresh(second.refresh), 200, "")
			return tableRequest{"", "", obj{"refresh_token": p.refresh}, userID, "-"}
		}, 401, []string{"session.reuse_detected denied"}},
		{"DELETE /api/v1/auth/logout", "Bearer", self("", nil), 204, []string{"auth.logout success"}},
		{"DELETE /api/v1/auth/logout", "refresh token", func() tableRequest {
			userID, _, p := user()
			return tableRequest{"", "", obj{"refresh_token": p.refresh}, userID, userID}
		}, 204, []string{"auth.logout success"}},
		{"POST /api/v1/auth/password/reset", "", func() tableRequest {
			userID, address, _ := user()
			return tableRequest{"", "", obj{"email": address}, userID, "-"}
		}, 202, []string{"auth.password_reset_request success"}},
		{"POST /api/v1/auth/password/reset/confirm", "", func() tableRequest {
			userID, address, _ := user()
			a.want(a.do("POST", "/api/v1/auth/password/reset", "", obj{"email": address}), 202, "")
			return tableRequest{"", "", obj{"token": a.mail().token(), "password": "another fine password"}, userID, userID}
		}, 204, []string{"auth.password_reset success"}},
		{"POST /api/v1/auth/email/verify", "", func() tableRequest {
			userID := a.register(email())
			return tableRequest{"", "", obj{"token": a.mail().token()}, userID, userID}
		}, 204, []string{"auth.email_verify success"}},
		{"POST /api/v1/auth/email/verify/resend", "", func() tableRequest {
			userID, address, _ := user()
			return tableRequest{"", "", obj{"email": address}, userID, "-"}
		}, 202, []string{"auth.email_verify_request success"}},

		{"PATCH /api/v1/users/me", "profile", self("", obj{"profile": obj{"name": "Ada"}}), 200, []string{"user.update success"}},
		{"PATCH /api/v1/users/me", "everything", func() tableRequest {
			userID, _, p := user()
			return tableRequest{"", p.access, obj{"profile": obj{"name": "Ada"}, "email": email(), "password": "another fine password",
				"current_password": testPassword}, userID, userID}
		}, 200, []string{"user.email_change success", "user.password_change success", "user.update success"}},
		{"PATCH /api/v1/users/me", "wrong password", self("", obj{"email": "new@example.org", "current_password": "wrong"}),
			422, []string{"user.update failure"}},
		{"DELETE /api/v1/users/me", "", self("", obj{"current_password": testPassword}), 204, []string{"user.delete success"}},
		{"DELETE /api/v1/users/me", "wrong password", self("", obj{"current_password": "wrong"}), 422, []string{"user.delete failure"}},
		{"DELETE /api/v1/users/me/sessions", "", func() tableRequest {
			userID, address, p := user()
			a.login(address)
			return tableRequest{"", p.access, nil, userID, userID}
		}, 204, []string{"session.revoke success"}},
		{"DELETE /api/v1/users/me/sessions/{id}", "", func() tableRequest {
			userID, address, p := user()
			return tableRequest{"/api/v1/users/me/sessions/" + a.login(address).session, p.access, nil, userID, userID}
		}, 204, []string{"session.revoke success"}},

		{"POST /api/v1/admin/users", "with password", func() tableRequest {
			return tableRequest{users, root.access, obj{"email": email(), "password": testPassword}, "", adminID}
		}, 201, []string{"admin.user_create success"}},
		{"POST /api/v1/admin/users", "invited", func() tableRequest {
			return tableRequest{users, root.access, obj{"email": email()}, "", adminID}
		}, 201, []string{"admin.user_create success"}},
		{"DELETE /api/v1/admin/users/{id}", "", byAdmin(one, nil), 204, []string{"admin.user_delete success"}},
		{"POST /api/v1/admin/users/{id}/status", "", byAdmin(one+"/status", obj{"status": "suspended", "reason": "spam"}),
			200, []string{"admin.user_status success"}},
		{"PUT /api/v1/admin/users/{id}/scope", "", byAdmin(one+"/scope", obj{"scope": []string{"user", "introspect"}}),
			200, []string{"admin.user_scope success"}},
		{"DELETE /api/v1/admin/users/{id}/sessions", "", byAdmin(one+"/sessions", nil), 204, []string{"admin.sessions_revoke success"}},
	}
}

// TestTableChanges drives every row that changes something: first with each of its audit rows refused by the database,
// which must undo the change; then, with the same request, for good.
func TestTableChanges(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	driven := map[string]bool{}
	for _, change := range tableChanges(a) {
		driven[change.pattern] = true
		name := strings.TrimSpace(change.pattern + " " + change.variant)
		method, path, _ := strings.Cut(change.pattern, " ")
		request := change.make()
		if request.path != "" {
			path = request.path
		}
		before := a.data()
		for _, row := range change.trail {
			action, status, _ := strings.Cut(row, " ")
			restore := a.refuseAudit(action, status)
			got := a.do(method, path, request.token, request.body)
			restore()
			if got.status != 500 || got.code() != "internal" || strings.Contains(got.body, "no audit row") {
				t.Errorf("%s without its row %s: got %d %s, want 500 internal", name, row, got.status, got.body)
			}
			if trail := a.trail(got); slices.ContainsFunc(trail, func(s string) bool { return strings.HasSuffix(s, " success") }) {
				t.Errorf("%s without its row %s: got audit rows %q, want no success", name, row, trail)
			}
			if after := a.data(); after != before {
				t.Errorf("%s without its row %s changed data: got\n%s\nwant\n%s", name, row, after, before)
			}
		}
		drain(a)
		got := a.do(method, path, request.token, request.body)
		if got.status != change.status {
			t.Errorf("%s: got %d %s, want %d", name, got.status, got.body, change.status)
		}
		trail := a.trail(got)
		slices.Sort(trail)
		if !slices.Equal(trail, change.trail) {
			t.Errorf("%s: got audit rows %q, want %q", name, trail, change.trail)
		}
		for column, want := range map[string]string{"user_id": request.subject, "actor_id": request.actor} {
			if want == "" {
				continue
			}
			others := a.count(`SELECT count(*) FROM audit_log WHERE trace_id = $1 AND coalesce(`+column+`::text, '-') <> $2`,
				got.header.Get("X-Request-Id"), want)
			if others > 0 {
				t.Errorf("%s: got %d audit rows with another %s, want all with %s", name, others, column, want)
			}
		}
		if after := a.data(); after == before && change.pattern != "POST /api/v1/auth/email/verify/resend" {
			t.Errorf("%s: nothing changed", name)
		}
		drain(a)
	}
	for _, row := range a.s.routes(a.health) {
		if row.audit.change && !driven[row.pattern] {
			t.Errorf("%s: changes something and has no case here", row.pattern)
		}
		if method, _ := row.target(); !row.audit.change && method != "GET" {
			t.Errorf("%s: is no GET and leaves no audit row", row.pattern)
		}
	}
}

// drain forgets the mails sent so far.
func drain(a *app) {
	a.data() // waits for those that are queued
	for len(a.mails) > 0 {
		<-a.mails
	}
}

// TestTableReads: a read on record is recorded, or not answered.
func TestTableReads(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	adminID, root := a.admin("root@example.org")
	rows := 0
	for _, row := range a.s.routes(a.health) {
		if !row.audit.read {
			continue
		}
		rows++
		method, path := row.target()
		path = strings.ReplaceAll(path, someID, adminID)
		got := a.do(method, path, root.access, nil)
		if trail := a.trail(got); got.status != 200 || !slices.Equal(trail, []string{row.audit.action + " success"}) {
			t.Errorf("%s: got %d with audit rows %q, want 200 and one success", row.pattern, got.status, trail)
		}
		restore := a.refuseAudit(row.audit.action, auditSuccess)
		got = a.do(method, path, root.access, nil)
		restore()
		if got.status != 500 || strings.Contains(got.body, "root@example.org") {
			t.Errorf("%s without its audit row: got %d %s, want 500 and no data", row.pattern, got.status, got.body)
		}
	}
	if rows < 4 {
		t.Errorf("got %d reads on record, want at least 4", rows)
	}
}

func TestTableRefusesRowWithoutPolicy(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	good := a.s.routes(a.health)[0]
	for name, spoil := range map[string]func(*route){
		"access":   func(r *route) { r.access = access{} },
		"limit":    func(r *route) { r.limit = 0 },
		"audit":    func(r *route) { r.audit = auditPolicy{} },
		"endpoint": func(r *route) { r.endpoint = endpoint{} },
	} {
		row := good
		spoil(&row)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a row without %s: got no panic, want one", name)
				}
			}()
			newPipeline(a.s, []route{row}, slog.New(slog.DiscardHandler))
		}()
	}
}

var traceIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// wantHeaders checks what every answer has.
func wantHeaders(t *testing.T, name string, r reply, cache string) {
	t.Helper()
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": cache,
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Location": "", "Server": "", "Strict-Transport-Security": "",
	} {
		if got := strings.Join(r.header.Values(header), " | "); got != want {
			t.Errorf("%s: %s: got %q, want %q", name, header, got, want)
		}
	}
	trace := r.header.Get("X-Request-Id")
	if !traceIDPattern.MatchString(trace) {
		t.Errorf("%s: X-Request-Id: got %q, want 32 hex digits", name, trace)
	}
	if len(r.body) > 0 && r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: Content-Type: got %q, want application/json", name, r.header.Get("Content-Type"))
	}
	if r.status >= 400 && len(r.body) > 0 {
		if got := r.text(t, "error", "trace_id"); got != trace {
			t.Errorf("%s: trace_id: got %q, want %q", name, got, trace)
		}
		if r.text(t, "error", "message") == "" {
			t.Errorf("%s: got no message in %s", name, r.body)
		}
		if _, there := r.json(t)["error"].(map[string]any)["details"]; !there {
			t.Errorf("%s: got no details in %s, want null at least", name, r.body)
		}
	}
}

func TestTableUnmatched(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	for _, tt := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/nothing", 404, "not_found", ""},
		{"GET", "/", 404, "not_found", ""},
		{"GET", "/api/v1", 404, "not_found", ""},
		{"GET", "//healthz", 404, "not_found", ""},
		{"GET", "//x", 404, "not_found", ""},
		{"GET", "//evil.example/healthz", 404, "not_found", ""},
		{"GET", "/./healthz", 404, "not_found", ""},
		{"GET", "/api/v1/../healthz", 404, "not_found", ""},
		{"GET", "/api/../healthz", 404, "not_found", ""},
		{"GET", "/%2e%2e/healthz", 404, "not_found", ""},
		{"GET", "/api/v1/users/%2e%2e/admin/users", 404, "not_found", ""},
		{"GET", "/healthz/", 404, "not_found", ""},
		{"GET", "/api/v1/users/me/", 404, "not_found", ""},
		{"GET", "/api/v1//users/me", 404, "not_found", ""},
		{"GET", "/api/v1/admin/users/", 404, "not_found", ""},
		{"GET", "/HEALTHZ", 404, "not_found", ""},
		{"GET", "/healthz;x", 404, "not_found", ""},
		{"GET", `/healthz\`, 404, "not_found", ""},
		{"GET", "/healthz%00", 404, "not_found", ""},
		{"GET", "/api/v1%2fusers/me", 404, "not_found", ""},
		{"POST", "/healthz", 405, "method_not_allowed", "GET, HEAD"},
		{"OPTIONS", "/healthz", 405, "method_not_allowed", "GET, HEAD"},
		{"TRACE", "/healthz", 405, "method_not_allowed", "GET, HEAD"},
		{"get", "/healthz", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", "/api/v1/auth/login", 405, "method_not_allowed", "POST"},
		{"HEAD", "/api/v1/auth/login", 405, "", "POST"},
		{"GET", "/api/v1/auth/logout", 405, "method_not_allowed", "DELETE"},
		{"PUT", "/api/v1/users/me", 405, "method_not_allowed", "DELETE, GET, HEAD, PATCH"},
		{"POST", "/api/v1/admin/users/" + someID + "/scope", 405, "method_not_allowed", "PUT"},
	} {
		name := tt.method + " " + tt.path
		got := a.send(tt.method, tt.path, http.Header{"X-Marker": {"echo me"}}, nil)
		if got.status != tt.status || got.code() != tt.code || got.header.Get("Allow") != tt.allow {
			t.Errorf("%s: got %d %q Allow %q, want %d %q Allow %q", name, got.status, got.code(), got.header.Get("Allow"), tt.status, tt.code, tt.allow)
		}
		if strings.Contains(got.body, "echo me") {
			t.Errorf("%s: the answer echoes the request", name)
		}
		wantHeaders(t, name, got, "no-store")
	}
	got := a.send("DELETE", "/healthz", http.Header{"X-Http-Method-Override": {"GET"}}, nil)
	a.want(got, 405, "method_not_allowed")
}

func TestTableHeaders(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	cached := map[string]bool{"/.well-known/jwks.json": true, "/.well-known/oauth-authorization-server": true}
	for _, row := range a.s.routes(a.health) {
		method, path := row.target()
		if method != "GET" {
			continue
		}
		cache := "no-store"
		if cached[path] {
			cache = "public, max-age=300"
		}
		if strings.HasSuffix(path, someID) { // nobody has this id
			wantHeaders(t, row.pattern, a.want(a.do(method, path, root.access, nil), 404, "not_found"), cache)
			continue
		}
		got := a.want(a.do(method, path, root.access, nil), 200, "")
		wantHeaders(t, row.pattern, got, cache)
		head := a.do("HEAD", path, root.access, nil)
		wantHeaders(t, "HEAD "+path, head, cache)
		if head.status != 200 || head.body != "" || head.header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD %s: got %d %q %q, want 200 without a body", path, head.status, head.header.Get("Content-Type"), head.body)
		}
		for accept, status := range map[string]int{
			"text/html": 406, "application/json;q=0": 406, "text/html, */*;q=0.1": 200, "application/*": 200, "application/json; charset=utf-8": 200,
		} {
			got := a.send(method, path, http.Header{"Accept": {accept}, "Authorization": {"Bearer " + root.access}}, nil)
			if got.status != status {
				t.Errorf("%s with Accept %s: got %d, want %d", row.pattern, accept, got.status, status)
			}
		}
	}
}

func TestTableTraceID(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, tt := range []struct {
		name    string
		headers []string
		taken   bool
	}{
		{"valid", []string{"00-" + trace + "-" + parent + "-01"}, true},
		{"a later version with more", []string{"01-" + trace + "-" + parent + "-01-more"}, true},
		{"version 00 with more", []string{"00-" + trace + "-" + parent + "-01-more"}, false},
		{"version ff", []string{"ff-" + trace + "-" + parent + "-01"}, false},
		{"upper case", []string{"00-" + strings.ToUpper(trace) + "-" + parent + "-01"}, false},
		{"zero trace", []string{"00-" + strings.Repeat("0", 32) + "-" + parent + "-01"}, false},
		{"zero parent", []string{"00-" + trace + "-" + strings.Repeat("0", 16) + "-01"}, false},
		{"short", []string{"00-" + trace}, false},
		{"twice", []string{"00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-01"}, false},
	} {
		got := a.send("GET", "/nothing", http.Header{"Traceparent": tt.headers, "X-Request-Id": {"mine"}}, nil)
		if id := got.header.Get("X-Request-Id"); (id == trace) != tt.taken || !traceIDPattern.MatchString(id) {
			t.Errorf("%s: got %q, want taken: %v", tt.name, id, tt.taken)
		}
	}
}

func TestTableInternalListener(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	server := httptest.NewServer(newPipeline(a.s, internalRoutes(a.health), slog.New(slog.NewTextHandler(io.Discard, nil))))
	t.Cleanup(server.Close)
	inside := &app{t: t, url: server.URL}
	for _, row := range internalRoutes(a.health) {
		method, path := row.target()
		got := inside.do(method, path, "", nil)
		if got.status != 200 {
			t.Errorf("%s: got %d %s, want 200", row.pattern, got.status, got.body)
		}
		wantHeaders(t, row.pattern, got, "no-store")
	}
	for _, row := range a.s.routes(a.health) {
		if method, path := row.target(); strings.HasPrefix(path, "/api/") {
			inside.want(inside.do(method, path, root.access, nil), 404, "not_found")
		}
	}
	a.want(a.do("GET", "/metrics", root.access, nil), 404, "not_found") // on the internal listener alone, if anywhere
}
