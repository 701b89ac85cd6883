package main

// What the tests share: a private PostgreSQL, a database of its own for each test, the real handler, a small client.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testDatabases hands out databases on one server: TEST_DATABASE_URL, or a private cluster.
var testDatabases struct {
	sync.Once
	err     error
	base    string // connection string with %s for the database
	cluster *postgresCluster
	count   atomic.Int64
	cloning sync.Mutex // CREATE DATABASE … TEMPLATE wants the template to itself
}

// runDir holds what one run of the tests makes: the cluster's data, the programs it builds. PostgreSQL's user can enter it.
var runDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("/tmp", "userspace-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	runDir = dir
	code := m.Run()
	if testDatabases.cluster != nil {
		testDatabases.cluster.stop()
	}
	os.RemoveAll(runDir)
	os.Exit(code)
}

const templateDB = "userspace_test_template"

// startTestDatabases makes the server ready and the migrated template.
func startTestDatabases(ctx context.Context) error {
	d := &testDatabases
	if given := os.Getenv("TEST_DATABASE_URL"); given != "" {
		u, err := url.Parse(given)
		if err != nil {
			return err
		}
		u.Path = "/%s"
		d.base = strings.Replace(u.String(), "%25s", "%s", 1)
	} else {
		dir := filepath.Join(runDir, "cluster")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		var err error
		// Nothing a test writes must survive a power cut.
		d.cluster, err = startPostgres(ctx, dir, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")
		if err != nil {
			return err
		}
		d.base = d.cluster.url("%s")
	}
	if err := adminExec(ctx, `DROP DATABASE IF EXISTS `+templateDB, `CREATE DATABASE `+templateDB); err != nil {
		return err
	}
	st, err := openStore(ctx, fmt.Sprintf(d.base, templateDB))
	if err != nil {
		return err
	}
	defer st.close()
	_, err = st.migrateTo(ctx, len(migrations()), time.Now())
	return err
}

func adminExec(ctx context.Context, statements ...string) error {
	st, err := openStore(ctx, fmt.Sprintf(testDatabases.base, "postgres"))
	if err != nil {
		return err
	}
	defer st.close()
	for _, sql := range statements {
		if _, err := st.pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// testDB returns the connection string of a database that is the test's own, with the schema in place. A missing
// PostgreSQL fails the test.
func testDB(t testing.TB) string {
	t.Helper()
	return newTestDB(t, ` TEMPLATE `+templateDB)
}

// emptyDB is testDB without the schema.
func emptyDB(t testing.TB) string {
	t.Helper()
	return newTestDB(t, "")
}

func newTestDB(t testing.TB, template string) string {
	d := &testDatabases
	d.Do(func() { d.err = startTestDatabases(context.Background()) })
	if d.err != nil {
		t.Fatalf("no test database: %v", d.err)
	}
	name := fmt.Sprintf("userspace_test_%d_%d", os.Getpid(), d.count.Add(1))
	d.cloning.Lock()
	defer d.cloning.Unlock()
	if err := adminExec(context.Background(), `CREATE DATABASE `+name+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := adminExec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf(d.base, name)
}

// app is a service under test behind a real listener, with the mails it sent and the lines it logged.
type app struct {
	t        testing.TB
	s        *service
	p        *pipeline
	health   *health
	url      string
	log      *lockedBuffer
	mails    chan message
	clockAdd atomic.Int64 // nanoseconds added to the real time
}

// lockedBuffer is a log that goroutines share.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const testSecret = "test secret of thirty-two bytes and more"

// testEnv are settings for tests: cheap hashes, no limits, mail on. Later entries win.
func testEnv(databaseURL string, more ...string) []string {
	return append([]string{
		"DATABASE_URL=" + databaseURL, "USERSPACE_SECRET=" + testSecret, "USERSPACE_ARGON2=m=64,t=1,p=1",
		"USERSPACE_RATE_CREDENTIALS=off", "USERSPACE_RATE_API=off",
		"USERSPACE_SMTP_URL=smtp://localhost:2525", "USERSPACE_MAIL_FROM=Userspace <no-reply@example.com>",
	}, more...)
}

// newApp starts a service on a database of its own; settings are USERSPACE_NAME=value.
func newApp(t testing.TB, settings ...string) *app {
	t.Helper()
	return newAppOn(t, testDB(t), settings...)
}

// newAppOn starts a service on a given database: a second instance.
func newAppOn(t testing.TB, databaseURL string, settings ...string) *app {
	t.Helper()
	cfg, err := loadConfig(testEnv(databaseURL, settings...), true)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, log: &lockedBuffer{}, mails: make(chan message, 1000)}
	log := slog.New(newLogger(a.log, logConfig{"debug", "json"}).Handler())
	deliver := func(_ context.Context, _ id, m message) error {
		a.mails <- m
		return nil
	}
	if cfg.mail.smtp == nil {
		deliver = nil
	}
	ctx := context.Background()
	a.s, err = openService(ctx, cfg, a.clock, log, deliver)
	if err != nil {
		t.Fatal(err)
	}
	a.health = &health{store: a.s.store}
	a.p = newPipeline(a.s, a.s.routes(a.health), log)
	server := httptest.NewServer(a.p)
	a.url = server.URL
	work, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { a.s.revoked.run(work, a.s.now) })
	if a.s.mail != nil {
		background.Go(func() { a.s.runMail(work, log) })
	}
	t.Cleanup(func() {
		server.Close()
		stop()
		background.Wait()
		a.s.close()
	})
	return a
}

func (a *app) clock() time.Time { return time.Now().Add(time.Duration(a.clockAdd.Load())) }

// advance moves the service's clock.
func (a *app) advance(d time.Duration) { a.clockAdd.Add(int64(d)) }

// mail returns the next mail, which must come within a few seconds.
func (a *app) mail() message {
	a.t.Helper()
	select {
	case m := <-a.mails:
		return m
	case <-time.After(10 * time.Second):
		a.t.Fatal("no mail came")
		return message{}
	}
}

// token cuts the one-time token out of a mail.
func (m message) token() string {
	_, code, _ := strings.Cut(m.Text, "or use this code: ")
	code, _, _ = strings.Cut(code, "\n")
	return code
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

// json decodes the body, numbers as float64.
func (r reply) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	return v
}

// text returns a string of the body by its path of names, "" when it is not there.
func (r reply) text(t testing.TB, path ...string) string {
	t.Helper()
	var v any = r.json(t)
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	s, _ := v.(string)
	return s
}

// code is the error code of the envelope, "" when the answer is no error.
func (r reply) code() string {
	var e struct{ Error struct{ Code string } }
	json.Unmarshal([]byte(r.body), &e) // no envelope, no code
	return e.Error.Code
}

// do sends a request. body is sent as it is when a string, else as JSON, and not at all when nil. token may be "".
func (a *app) do(method, path, token string, body any) reply {
	a.t.Helper()
	h := http.Header{}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			a.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	if reader != nil {
		h.Set("Content-Type", "application/json")
	}
	return a.send(method, path, h, reader)
}

// send is do with the headers given.
func (a *app) send(method, path string, h http.Header, body io.Reader) reply {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = h
	res, err := http.DefaultTransport.RoundTrip(req) // no redirects, no cookies
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

// want checks status and error code ("" for none) and returns the reply.
func (a *app) want(r reply, status int, code string) reply {
	a.t.Helper()
	if r.status != status || r.code() != code {
		a.t.Fatalf("got %d %q, want %d %q: %s", r.status, r.code(), status, code, r.body)
	}
	return r
}

const testPassword = "correct horse battery"

// register makes an active user and returns the id.
func (a *app) register(email string) string {
	a.t.Helper()
	r := a.want(a.do("POST", "/api/v1/auth/register", "", map[string]any{"email": email, "password": testPassword}), 201, "")
	return r.text(a.t, "user", "id")
}

// pair is what a sign-in gives.
type pair struct{ access, refresh, session string }

func (a *app) login(email string) pair {
	a.t.Helper()
	return a.pair(a.want(a.tryLogin(email, testPassword), 200, ""))
}

func (a *app) tryLogin(email, password string) reply {
	a.t.Helper()
	return a.do("POST", "/api/v1/auth/login", "", map[string]any{"email": email, "password": password})
}

func (a *app) pair(r reply) pair {
	a.t.Helper()
	return pair{r.text(a.t, "access_token"), r.text(a.t, "refresh_token"), r.text(a.t, "session_id")}
}

func (a *app) refresh(token string) reply {
	a.t.Helper()
	return a.do("POST", "/api/v1/auth/refresh", "", map[string]any{"refresh_token": token})
}

// admin makes an administrator with the test password and signs in.
func (a *app) admin(email string) (userID string, tokens pair) {
	a.t.Helper()
	if _, err := a.s.createAdmin(context.Background(), operatorCall(a.s.now(), "admin.user_create"), email, testPassword); err != nil {
		a.t.Fatal(err)
	}
	tokens = a.login(email)
	return a.do("GET", "/api/v1/users/me", tokens.access, nil).text(a.t, "id"), tokens
}

// count returns the single number of a query.
func (a *app) count(sql string, args ...any) int {
	a.t.Helper()
	var n int
	if err := a.s.store.pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		a.t.Fatal(err)
	}
	return n
}

// exec runs a statement on the app's database.
func (a *app) exec(sql string, args ...any) {
	a.t.Helper()
	if _, err := a.s.store.pool.Exec(context.Background(), sql, args...); err != nil {
		a.t.Fatal(err)
	}
}

// audits counts audit rows of an action and status.
func (a *app) audits(action, status string) int {
	a.t.Helper()
	return a.count(`SELECT count(*) FROM audit_log WHERE action = $1 AND status = $2`, action, status)
}
