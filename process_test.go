package main

// The real binary as a process: killed, started twice, stopped under load, and what it logs.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "userspace")
	build := osexec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests := []struct {
		name string
		run  func(t *testing.T, binary string)
	}{
		{"killed under load", testKilled},
		{"two on an empty database", testTwoOnEmptyDatabase},
		{"SIGTERM", testSIGTERM},
		{"wrong secret", testWrongSecret},
		{"log", testLog},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, binary)
		})
	}
}

// process is a running service.
type process struct {
	cmd      *osexec.Cmd
	log      *lockedBuffer
	url      string
	internal string // host:port
	ended    chan struct{}
	err      error // of Wait, once ended is closed
	client   *http.Client
}

// startProcess starts the service on free ports; ready waits until it serves.
func startProcess(t *testing.T, binary, databaseURL string, settings ...string) *process {
	t.Helper()
	p := &process{log: &lockedBuffer{}, ended: make(chan struct{}), cmd: osexec.Command(binary)}
	p.cmd.Env = testEnv(databaseURL, append([]string{
		"USERSPACE_ADDR=127.0.0.1:0", "USERSPACE_INTERNAL_ADDR=127.0.0.1:0",
		"USERSPACE_SMTP_URL=smtp://127.0.0.1:1", // mails stay in the queue
	}, settings...)...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	p.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 20, ExpectContinueTimeout: time.Minute}}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		p.client.CloseIdleConnections()
		if t.Failed() {
			text := p.log.String()
			t.Logf("end of the log:\n%s", text[max(0, len(text)-2000):])
		}
	})
	return p
}

// lines returns the log's complete lines.
func (p *process) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for text := range strings.Lines(p.log.String()) {
		if !strings.HasSuffix(text, "\n") {
			continue
		}
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("not JSON: %q", text)
		}
		lines = append(lines, line)
	}
	return lines
}

// ready waits for the line that says where it serves.
func (p *process) ready(t *testing.T) *process {
	t.Helper()
	eventually(t, 20*time.Second, "serving", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended: %v\n%s", p.err, p.log.String())
		default:
		}
		for _, line := range p.lines(t) {
			if line["msg"] == "serving" {
				p.url, p.internal = "http://"+line["addr"].(string), line["internal_addr"].(string)
				return true
			}
		}
		return false
	})
	return p
}

// exitCode waits for the end.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		t.Fatal("it did not end")
		return -1
	}
}

// do sends a request; the error is the connection's.
func (p *process) do(method, path, token string, body any) (reply, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, p.url+path, reader)
	if err != nil {
		return reply{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return p.send(req)
}

func (p *process) send(req *http.Request) (reply, error) {
	res, err := p.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(text)}, err
}

// must is do for requests that have to be answered with the given status.
func (p *process) must(t *testing.T, status int, method, path, token string, body any) reply {
	t.Helper()
	r, err := p.do(method, path, token, body)
	if err != nil {
		t.Fatal(err)
	}
	if r.status != status {
		t.Fatalf("%s %s: got %d, want %d: %s", method, path, r.status, status, r.body)
	}
	return r
}

// credentialsOf is the body of a registration or sign-in.
func credentialsOf(email, password string) map[string]any {
	return map[string]any{"email": email, "password": password}
}

// checkStore looks at a process's database from outside.
func checkStore(t *testing.T, databaseURL string) *app {
	t.Helper()
	separator := "?"
	if strings.Contains(databaseURL, "?") {
		separator = "&"
	}
	st, err := openStore(context.Background(), databaseURL+separator+"application_name=checker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	return &app{t: t, s: &service{store: st}} // for count
}

func scanMail(row pgx.CollectableRow) (m outboxRow, err error) {
	err = row.Scan(&m.id, &m.userID, &m.sealed, &m.createdAt, &m.attempts)
	return m, err
}

// halfStates are things of which there must be none, whenever the process died.
var halfStates = []struct{ name, sql string }{
	{"user without profile", `
		SELECT count(*) FROM users u WHERE NOT EXISTS (SELECT FROM user_profiles p WHERE p.user_id = u.id)`},
	{"user without registration on record", `
		SELECT count(*) FROM users u WHERE 1 <> (
			SELECT count(*) FROM audit_log a WHERE a.user_id = u.id AND a.action = 'auth.register' AND a.status = 'success')`},
	{"registration or not deleted user on record without user", `
		SELECT count(*) FROM audit_log r WHERE r.action = 'auth.register' AND r.status = 'success'
		AND EXISTS (SELECT FROM users u WHERE u.id = r.user_id)
		  = EXISTS (SELECT FROM audit_log d WHERE d.user_id = r.user_id AND d.action = 'user.delete' AND d.status = 'success')`},
	{"session without sign-in on record", `
		SELECT count(*) FROM sessions s WHERE 1 <> (
			SELECT count(*) FROM audit_log a
			WHERE a.user_id = s.user_id AND a.action = 'auth.login' AND a.status = 'success' AND a.metadata->>'session_id' = s.id::text)`},
	{"generation other than the refreshes on record", `
		SELECT count(*) FROM sessions s WHERE s.generation <> (
			SELECT count(*) FROM audit_log a
			WHERE a.user_id = s.user_id AND a.action = 'auth.refresh' AND a.status = 'success' AND a.metadata->>'session_id' = s.id::text)`},
	{"session on record neither alive nor revoked, or both", `
		SELECT count(*) FROM audit_log a WHERE a.action = 'auth.login' AND a.status = 'success'
		AND EXISTS (SELECT FROM sessions s WHERE s.id::text = a.metadata->>'session_id')
		  = EXISTS (SELECT FROM revoked_tokens r WHERE r.token_id::text = a.metadata->>'session_id')`},
	{"session older than a reset or deletion on record", `
		SELECT count(*) FROM sessions s WHERE EXISTS (
			SELECT FROM audit_log a WHERE a.user_id = s.user_id AND a.timestamp > s.created_at
			AND a.action IN ('auth.password_reset', 'user.delete') AND a.status = 'success')`},
	{"one-time token without its mail", `
		SELECT count(*) FROM one_time_tokens t WHERE NOT EXISTS (
			SELECT FROM outbox o WHERE o.user_id = t.user_id AND o.created_at = t.created_at)`},
	{"mail without its cause on record", `
		SELECT count(*) FROM outbox o WHERE NOT EXISTS (
			SELECT FROM audit_log a WHERE a.user_id = o.user_id AND a.timestamp = o.created_at AND a.status = 'success'
			AND a.action IN ('auth.register', 'auth.password_reset_request', 'auth.password_reset'))`},
	{"cause on record without its mail", `
		SELECT count(*) FROM audit_log a JOIN users u ON u.id = a.user_id
		WHERE a.action IN ('auth.register', 'auth.password_reset_request', 'auth.password_reset') AND a.status = 'success'
		AND NOT EXISTS (SELECT FROM outbox o WHERE o.user_id = a.user_id AND o.created_at = a.timestamp)`},
	{"reset on record with its token still there", `
		SELECT count(*) FROM one_time_tokens t WHERE t.purpose = 'reset' AND EXISTS (
			SELECT FROM audit_log a WHERE a.user_id = t.user_id AND a.action = 'auth.password_reset' AND a.status = 'success'
			AND a.timestamp > t.created_at)`},
	{"reset token used up without a reset on record", `
		SELECT count(*) FROM audit_log a JOIN users u ON u.id = a.user_id
		WHERE a.action = 'auth.password_reset_request' AND a.status = 'success'
		AND NOT EXISTS (SELECT FROM one_time_tokens t WHERE t.user_id = a.user_id AND t.purpose = 'reset')
		AND NOT EXISTS (
			SELECT FROM audit_log r WHERE r.user_id = a.user_id AND r.action = 'auth.password_reset' AND r.status = 'success'
			AND r.timestamp > a.timestamp)`},
	{"signing keys too many or too few", `SELECT count(*) - 1 FROM signing_keys`},
}

// load is what clients do meanwhile, and what they were told.
type load struct {
	p     *process
	check *app // reads reset tokens out of the queue
	mu    sync.Mutex
	acked []string // trace ids of changes that were answered with success
	lost  []string // refresh tokens whose use was not answered
	odd   []string // answers nobody should get
}

// try sends a change and notes its trace id when it was answered with the status it must have.
func (l *load) try(status int, method, path, token string, body any) (reply, bool) {
	r, err := l.p.do(method, path, token, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil: // killed
		return r, false
	case r.status != status:
		l.odd = append(l.odd, fmt.Sprintf("%s %s: got %d, want %d: %s", method, path, r.status, status, r.body))
		return r, false
	}
	l.acked = append(l.acked, r.header.Get("X-Request-Id"))
	return r, true
}

// life is one user's, from registration to deletion. It ends where an answer does not come.
func (l *load) life(t *testing.T, email string) {
	if _, ok := l.try(201, "POST", "/api/v1/auth/register", "", credentialsOf(email, testPassword)); !ok {
		return
	}
	r, ok := l.try(200, "POST", "/api/v1/auth/login", "", credentialsOf(email, testPassword))
	for range 3 {
		if !ok {
			return
		}
		token := r.text(t, "refresh_token")
		if r, ok = l.try(200, "POST", "/api/v1/auth/refresh", "", map[string]any{"refresh_token": token}); !ok {
			l.mu.Lock()
			l.lost = append(l.lost, token)
			l.mu.Unlock()
			return
		}
	}
	if _, ok := l.try(202, "POST", "/api/v1/auth/password/reset", "", map[string]any{"email": email}); !ok {
		return
	}
	token := l.resetToken(t, email)
	if token == "" {
		return
	}
	const changed = "another long password"
	if _, ok := l.try(204, "POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": token, "password": changed}); !ok {
		return
	}
	if r, ok = l.try(200, "POST", "/api/v1/auth/login", "", credentialsOf(email, changed)); !ok || rand.N(2) == 0 {
		return
	}
	l.try(204, "DELETE", "/api/v1/users/me", r.text(t, "access_token"), map[string]any{"current_password": changed})
}

// resetToken opens the queued mail as the service would.
func (l *load) resetToken(t *testing.T, email string) string {
	rows, err := many(context.Background(), l.check.s.store.db, scanMail, `
		SELECT o.id, o.user_id, o.message, o.created_at, o.attempts
		FROM outbox o JOIN users u ON u.id = o.user_id WHERE u.email = $1 ORDER BY o.created_at DESC LIMIT 1`, email)
	if err != nil || len(rows) != 1 {
		t.Errorf("queued mails: got %d, %v, want 1", len(rows), err)
		return ""
	}
	m, err := newMailer(deriveKeys([]byte(testSecret)).seal, nil).unseal(&rows[0])
	if err != nil {
		t.Error(err)
	}
	return m.token()
}

// testKilled kills the process at random moments; after each restart there is no half state, and what was answered is there.
func testKilled(t *testing.T, binary string) {
	database := testDB(t)
	check := checkStore(t, database)
	l := &load{check: check}
	l.p = startProcess(t, binary, database).ready(t)
	for kill := range 8 {
		l.lost = nil
		stop := make(chan struct{})
		var workers sync.WaitGroup
		for worker := range 6 {
			workers.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
						l.life(t, fmt.Sprintf("user%d-%d-%d@example.org", kill, worker, n))
					}
				}
			})
		}
		select {
		case <-time.After(100*time.Millisecond + rand.N(500*time.Millisecond)): // the random moment
		case <-l.p.ended:
			t.Fatal("it ended by itself")
		}
		if err := l.p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-l.p.ended
		close(stop)
		workers.Wait()
		// What the process had sent before it died still runs.
		eventually(t, 10*time.Second, "the end of its statements", func() bool {
			return check.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'userspace'`) == 0
		})
		for _, half := range halfStates {
			if n := check.count(half.sql); n != 0 {
				t.Errorf("kill %d: %s: got %d, want 0", kill, half.name, n)
			}
		}
		check.wantCount("answered changes on record", len(l.acked),
			`SELECT count(DISTINCT trace_id) FROM audit_log WHERE status = 'success' AND trace_id = ANY ($1)`, l.acked)
		for _, answer := range l.odd {
			t.Error(answer)
		}
		l.p = startProcess(t, binary, database).ready(t)
		if t.Failed() {
			return
		}
	}
	if len(l.acked) < 50 {
		t.Errorf("answered changes: got %d, want 50 or more for the test to mean something", len(l.acked))
	}
	// Who got no answer from the process that was killed last asks again, and goes on.
	for _, token := range l.lost {
		r := l.p.must(t, 200, "POST", "/api/v1/auth/refresh", "", map[string]any{"refresh_token": token})
		l.p.must(t, 200, "GET", "/api/v1/users/me", r.text(t, "access_token"), nil)
	}
}

func testTwoOnEmptyDatabase(t *testing.T, binary string) {
	database := emptyDB(t)
	here, there := startProcess(t, binary, database), startProcess(t, binary, database)
	here.ready(t)
	there.ready(t)
	check := checkStore(t, database)
	check.wantCount("migrations", len(migrations()), `SELECT count(*) FROM schema_migrations`)
	check.wantCount("signing keys", 1, `SELECT count(*) FROM signing_keys`)
	steps := 0
	for _, p := range []*process{here, there} {
		for _, line := range p.lines(t) {
			if line["msg"] == "migrated" {
				steps++
			}
		}
	}
	if steps != len(migrations()) {
		t.Errorf("migrations in both logs: got %d, want %d", steps, len(migrations()))
	}
	here.must(t, 201, "POST", "/api/v1/auth/register", "", credentialsOf("ada@example.org", testPassword))
	r := there.must(t, 200, "POST", "/api/v1/auth/login", "", credentialsOf("ada@example.org", testPassword))
	here.must(t, 200, "GET", "/api/v1/users/me", r.text(t, "access_token"), nil)
	there.must(t, 200, "GET", "/api/v1/users/me", here.must(t, 200, "POST", "/api/v1/auth/refresh", "",
		map[string]any{"refresh_token": r.text(t, "refresh_token")}).text(t, "access_token"), nil)
	if a, b := here.must(t, 200, "GET", "/.well-known/jwks.json", "", nil), there.must(t, 200, "GET", "/.well-known/jwks.json", "", nil); a.body != b.body {
		t.Errorf("key sets differ: %s and %s", a.body, b.body)
	}
}

// testSIGTERM stops a process that has accepted requests: they are answered, and it exits with 0.
func testSIGTERM(t *testing.T, binary string) {
	p := startProcess(t, binary, testDB(t)).ready(t)
	p.must(t, 201, "POST", "/api/v1/auth/register", "", credentialsOf("ada@example.org", testPassword))
	if code := run(t.Context(), []string{"healthcheck"}, []string{"USERSPACE_INTERNAL_ADDR=" + p.internal}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Errorf("healthcheck of a running service: got %d, want 0", code)
	}

	const requests = 10
	body, err := json.Marshal(credentialsOf("ada@example.org", testPassword))
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{}, requests)
	release := make(chan struct{})
	var got outcomes
	var clients sync.WaitGroup
	for range requests {
		clients.Go(func() {
			// The server asks for the body (100 Continue) once the handler reads it: the request is accepted then.
			trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { accepted <- struct{}{} }})
			held, send := io.Pipe()
			go func() {
				<-release
				send.Write(body)
				send.Close()
			}()
			req, err := http.NewRequestWithContext(trace, "POST", p.url+"/api/v1/auth/login", held)
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = int64(len(body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Expect", "100-continue")
			r, err := p.send(req)
			if err != nil {
				t.Error(err)
				return
			}
			got.add(r)
		})
	}
	for range requests {
		select {
		case <-accepted:
		case <-time.After(10 * time.Second):
			t.Error("a request was not accepted")
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "stopping", func() bool {
		return slices.ContainsFunc(p.lines(t), func(line map[string]any) bool { return line["msg"] == "stopping" })
	})
	eventually(t, 10*time.Second, "refusing new connections", func() bool {
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
		res, err := fresh.Get(p.url + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err != nil
	})
	close(release)
	clients.Wait()
	got.want(t, map[string]int{"200": requests})
	if code := p.exitCode(t); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	lines := p.lines(t)
	if last := lines[len(lines)-1]["msg"]; last != "stopped" {
		t.Errorf("last line: got %q, want %q", last, "stopped")
	}
	var stderr lockedBuffer
	if code := run(t.Context(), []string{"healthcheck"}, []string{"USERSPACE_INTERNAL_ADDR=" + p.internal}, strings.NewReader(""), io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "USERSPACE_INTERNAL_ADDR") {
		t.Errorf("healthcheck of a stopped service: got %d %q, want 1 and the name of the setting", code, stderr.String())
	}
}

func testWrongSecret(t *testing.T, binary string) {
	database := testDB(t)
	first := startProcess(t, binary, database).ready(t)
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := first.exitCode(t); code != 0 {
		t.Fatalf("exit code: got %d, want 0", code)
	}
	const other = "another secret of thirty-two bytes and more"
	p := startProcess(t, binary, database, "USERSPACE_SECRET="+other)
	if code := p.exitCode(t); code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	text := p.log.String()
	if !strings.Contains(text, "USERSPACE_SECRET") || strings.Contains(text, "goroutine") || strings.Contains(text, other) {
		t.Errorf("got %q, want an error that names USERSPACE_SECRET and does not show it", text)
	}
	checkStore(t, database).wantCount("signing keys", 1, `SELECT count(*) FROM signing_keys`)
}

// testLog drives every kind of request with marked secrets and reads the log.
func testLog(t *testing.T, binary string) {
	database := testDB(t)
	p := startProcess(t, binary, database, "USERSPACE_LOG_LEVEL=debug").ready(t)
	const email, password, other = "marked.address@example.org", "marked-password-one", "marked-password-two"
	secrets := []string{testSecret, email, "marked.address", password, other, "marked-in-query", "marked-in-path", "marked-in-json", "marked-in-header"}
	var traces []string
	request := func(status int, method, path, token string, body any) reply {
		r := p.must(t, status, method, path, token, body)
		traces = append(traces, r.header.Get("X-Request-Id"))
		return r
	}
	request(201, "POST", "/api/v1/auth/register", "", map[string]any{"email": email, "password": password, "profile": map[string]any{"note": "marked-in-json"}})
	request(409, "POST", "/api/v1/auth/register", "", credentialsOf(email, password))
	request(401, "POST", "/api/v1/auth/login", "", credentialsOf(email, other))
	request(401, "POST", "/api/v1/auth/login", "", credentialsOf("marked.address2@example.org", other))
	request(422, "POST", "/api/v1/auth/login", "", credentialsOf(password, password)) // the password in the wrong field
	first := request(200, "POST", "/api/v1/auth/login", "", credentialsOf(email, password))
	next := request(200, "POST", "/api/v1/auth/refresh", "", map[string]any{"refresh_token": first.text(t, "refresh_token")})
	request(401, "POST", "/api/v1/auth/refresh", "", map[string]any{"refresh_token": "usrt_marked-in-json"})
	request(400, "POST", "/api/v1/auth/login?password=marked-in-query", "", credentialsOf(email, password))
	request(400, "POST", "/api/v1/auth/login", "", `{"email":"marked-in-json`)
	request(400, "POST", "/api/v1/auth/login", "", `{"marked-in-json":1}`)
	request(404, "GET", "/marked-in-path?token=marked-in-query", "", nil)
	request(405, "PUT", "/api/v1/auth/login", "", nil)
	request(401, "GET", "/api/v1/users/me", "marked-in-header", nil)
	access := next.text(t, "access_token")
	userID := request(200, "GET", "/api/v1/users/me", access, nil).text(t, "id")
	request(403, "GET", "/api/v1/admin/users?email="+email, access, nil)
	request(202, "POST", "/api/v1/auth/password/reset", "", map[string]any{"email": email})
	token := (&load{check: checkStore(t, database)}).resetToken(t, email)
	request(422, "POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": token, "password": "short"})
	request(422, "PATCH", "/api/v1/users/me", access, map[string]any{"email": "marked.address3@example.org", "current_password": other})
	request(204, "POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": token, "password": other})
	request(401, "GET", "/api/v1/users/me", access, nil)
	for _, r := range []reply{first, next} {
		secrets = append(secrets, r.text(t, "access_token"), r.text(t, "refresh_token"))
	}
	secrets = append(secrets, token, first.text(t, "access_token")[:40])

	// Once more with a mail server that does not answer: the queue's complaints are in the log too.
	eventually(t, 10*time.Second, "a complaint about the mail", func() bool { return strings.Contains(p.log.String(), `"mail_id"`) })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.exitCode(t)
	for _, secret := range secrets {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	byTrace := map[string]map[string]any{}
	requests := 0
	for _, line := range p.lines(t) {
		if line["msg"] != "request" {
			continue
		}
		requests++
		byTrace[fmt.Sprint(line["trace_id"])] = line
		for _, name := range []string{"timestamp", "level", "msg", "trace_id", "user_id", "ip", "action", "status"} {
			if _, ok := line[name].(string); !ok {
				t.Errorf("%s: got %v, want a text in %v", name, line[name], line)
			}
		}
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["timestamp"])); err != nil || !strings.HasSuffix(fmt.Sprint(line["timestamp"]), "Z") {
			t.Errorf("timestamp: got %v, want RFC 3339 in UTC", line["timestamp"])
		}
		if ms, ok := line["duration_ms"].(float64); !ok || ms < 0 {
			t.Errorf("duration_ms: got %v", line["duration_ms"])
		}
		metadata, _ := line["metadata"].(map[string]any)
		for _, name := range []string{"method", "route", "user_agent"} {
			if text, _ := metadata[name].(string); text == "" {
				t.Errorf("metadata.%s: got %v, want a text in %v", name, metadata[name], line)
			}
		}
		if _, ok := metadata["bytes"].(float64); !ok {
			t.Errorf("metadata.bytes: got %v", metadata["bytes"])
		}
		if _, shown := metadata["error"]; shown == (line["status"] == auditSuccess) {
			t.Errorf("metadata.error and status do not agree: %v", line)
		}
	}
	if requests != len(traces) {
		t.Errorf("request lines: got %d, want %d", requests, len(traces))
	}
	for _, trace := range traces {
		if byTrace[trace] == nil {
			t.Errorf("request %s has no line", trace)
		}
	}
	if got := byTrace[traces[14]]; got["user_id"] != userID || got["action"] != "user.read" || got["ip"] != "127.0.0.1" {
		t.Errorf("line of GET /users/me: got %v, want user_id %s, action user.read, ip 127.0.0.1", got, userID)
	}
}
