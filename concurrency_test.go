package main

// Races on real rows through the real handler: what must hold however requests interleave, on one instance and on two.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// together runs fn n times at once: nobody starts before everybody is ready.
func together(n int, fn func(i int)) {
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	group.Wait()
}

// outcomes counts answers by "status code".
type outcomes struct {
	mu     sync.Mutex
	counts map[string]int
}

func (o *outcomes) add(r reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[string]int{}
	}
	o.counts[strings.TrimSpace(fmt.Sprint(r.status, " ", r.code()))]++
}

// want fails unless the answers are exactly those given.
func (o *outcomes) want(t testing.TB, want map[string]int) {
	t.Helper()
	if got := fmt.Sprint(o.counts); got != fmt.Sprint(want) { // maps print in the order of their keys
		t.Errorf("answers: got %s, want %v", got, want)
	}
}

// wantOnly fails when an answer is none of those allowed.
func (o *outcomes) wantOnly(t testing.TB, allowed ...string) {
	t.Helper()
	for got, n := range o.counts {
		if !strings.Contains("\n"+strings.Join(allowed, "\n")+"\n", "\n"+got+"\n") {
			t.Errorf("answers: got %q %d times, want only %q", got, n, allowed)
		}
	}
}

// wantCount compares the single number of a query.
func (a *app) wantCount(what string, want int, sql string, args ...any) {
	a.t.Helper()
	if got := a.count(sql, args...); got != want {
		a.t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

// eventually polls until ok, or fails after limit.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

func TestParallelRegistrationsOfOneEmail(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	var got outcomes
	together(20, func(int) {
		got.add(a.do("POST", "/api/v1/auth/register", "", map[string]any{"email": "one@example.org", "password": testPassword}))
	})
	got.want(t, map[string]int{"201": 1, "409 email_taken": 19})
	a.wantCount("users", 1, `SELECT count(*) FROM users`)
	a.wantCount("profiles", 1, `SELECT count(*) FROM user_profiles`)
	a.wantCount("tokens", 1, `SELECT count(*) FROM one_time_tokens`)
	a.wantCount("registrations on record", 1, `SELECT count(*) FROM audit_log WHERE action = 'auth.register' AND status = 'success'`)
	a.wantCount("refusals on record", 19, `SELECT count(*) FROM audit_log WHERE action = 'auth.register' AND status = 'failure'`)
}

func TestParallelRefreshesOfOneToken(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	first := a.login("ada@example.org")
	var mu sync.Mutex
	successors := map[string]int{}
	together(20, func(int) {
		r := a.want(a.refresh(first.refresh), 200, "")
		mu.Lock()
		defer mu.Unlock()
		successors[r.text(t, "refresh_token")]++
	})
	if len(successors) != 1 {
		t.Errorf("different successors: got %d, want 1", len(successors))
	}
	a.wantCount("generation", 1, `SELECT generation FROM sessions WHERE id = $1`, first.session)
	for successor := range successors {
		a.want(a.refresh(successor), 200, "")
	}
	a.wantCount("generation after the successor's use", 2, `SELECT generation FROM sessions WHERE id = $1`, first.session)
}

func TestBurstOfWrongPasswordsLocksOnce(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(map[bool]string{true: "known", false: "unknown"}[known], func(t *testing.T) {
			t.Parallel()
			a := newApp(t, "USERSPACE_HASH_WORKERS=2") // their queue holds 130
			row := `FROM login_attempts`
			if known {
				a.register("ada@example.org")
				row = `FROM users`
			}
			var got, right outcomes
			locked := make(chan struct{})
			var once sync.Once
			var meanwhile sync.WaitGroup
			meanwhile.Go(func() {
				<-locked
				r := a.tryLogin("ada@example.org", testPassword)
				for r.status == http.StatusServiceUnavailable {
					r = a.tryLogin("ada@example.org", testPassword)
				}
				right.add(r)
			})
			together(100, func(int) {
				r := a.tryLogin("ada@example.org", "a wrong password")
				for r.status == http.StatusServiceUnavailable { // a busy machine: it was no attempt
					r = a.tryLogin("ada@example.org", "a wrong password")
				}
				got.add(r)
				if r.status == http.StatusTooManyRequests {
					if n := r.header.Get("Retry-After"); n == "" || n == "0" || len(n) > 2 {
						t.Errorf("Retry-After: got %q, want 1 to 30", n)
					}
					once.Do(func() { close(locked) })
				}
			})
			once.Do(func() { close(locked) })
			meanwhile.Wait()
			got.want(t, map[string]int{"401 invalid_credentials": 5, "429 too_many_attempts": 95})
			right.want(t, map[string]int{"429 too_many_attempts": 1})
			a.wantCount("rows with attempts", 1, `SELECT count(*) `+row)
			a.wantCount("failed_attempts", 5, `SELECT failed_attempts `+row)
			a.wantCount("length of the lock in ms", 30_000, `SELECT (extract(epoch FROM locked_until - failed_at) * 1000)::int `+row)
			a.wantCount("failures on record", 5, `SELECT count(*) FROM audit_log WHERE action = 'auth.login' AND status = 'failure'`)
			a.wantCount("denials on record", 96, `SELECT count(*) FROM audit_log WHERE action = 'auth.login' AND status = 'denied'`)

			a.advance(31 * time.Second)
			if known {
				a.want(a.tryLogin("ada@example.org", testPassword), 200, "")
				a.wantCount("failed_attempts after a success", 0, `SELECT failed_attempts `+row)
			} else {
				a.want(a.tryLogin("ada@example.org", testPassword), 401, "invalid_credentials")
				a.wantCount("failed_attempts after the lock", 6, `SELECT failed_attempts `+row)
			}
		})
	}
}

// TestChangesWhileLoginsHash: a sign-in that was hashing when the account changed leaves nothing that still works.
func TestChangesWhileLoginsHash(t *testing.T) {
	t.Parallel()
	const email = "ada@example.org"
	tests := []struct {
		name    string
		change  func(a *app, admin pair, userID string, own pair) reply
		allowed []string
	}{
		{"suspend", func(a *app, admin pair, userID string, _ pair) reply {
			return a.do("POST", "/api/v1/admin/users/"+userID+"/status", admin.access, map[string]any{"status": "suspended", "reason": "test"})
		}, []string{"200", "403 account_suspended"}},
		{"password", func(a *app, _ pair, _ string, own pair) reply {
			return a.do("PATCH", "/api/v1/users/me", own.access, map[string]any{"password": "another long password", "current_password": testPassword})
		}, []string{"200", "401 invalid_credentials", "429 too_many_attempts"}},
		{"scope", func(a *app, admin pair, userID string, _ pair) reply {
			return a.do("PUT", "/api/v1/admin/users/"+userID+"/scope", admin.access, map[string]any{"scope": []string{"user", "introspect"}})
		}, []string{"200"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, "USERSPACE_ARGON2=m=8192,t=2,p=1", "USERSPACE_HASH_WORKERS=2")
			_, root := a.admin("root@example.org")
			userID := a.register(email)
			own := a.login(email)

			var got outcomes
			var mu sync.Mutex
			type handedOut struct {
				pair
				scope string
			}
			var all []handedOut
			var begun sync.Once
			firstLogin, changed := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(changed)
				<-firstLogin
				a.want(test.change(a, root, userID, own), 200, "")
				if test.name == "suspend" { // at the moment of the answer, others are still hashing
					a.wantCount("sessions alive when the suspension is answered", 0, `SELECT count(*) FROM sessions WHERE user_id = $1`, userID)
				}
			}()
			together(10, func(int) {
				for range 5 {
					r := a.tryLogin(email, testPassword)
					got.add(r)
					begun.Do(func() { close(firstLogin) })
					if r.status == http.StatusOK {
						mu.Lock()
						all = append(all, handedOut{a.pair(r), fmt.Sprint(r.json(t)["scope"])})
						mu.Unlock()
					}
				}
			})
			<-changed
			got.wantOnly(t, append(test.allowed, "503 overloaded")...) // the last on a busy machine
			alive := 0
			for _, p := range append(all, handedOut{own, "[user]"}) {
				if p.scope != "[user]" { // opened after the change of scope
					a.want(a.do("GET", "/api/v1/users/me", p.access, nil), 200, "")
					alive++
					continue
				}
				a.want(a.do("GET", "/api/v1/users/me", p.access, nil), 401, "invalid_token")
				a.want(a.refresh(p.refresh), 401, "invalid_token")
			}
			a.wantCount("sessions alive", alive, `SELECT count(*) FROM sessions WHERE user_id = $1`, userID)
			a.wantCount("ended sessions that are revoked", len(all)+1-alive, `
				SELECT count(*) FROM revoked_tokens r JOIN audit_log l ON l.metadata->>'session_id' = r.token_id::text
				WHERE l.action = 'auth.login' AND l.user_id = $1`, userID)
		})
	}
}

// TestRefreshLogoutSuspend races the three on one session; afterwards nothing of it works.
func TestRefreshLogoutSuspend(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	userID := a.register("ada@example.org")
	status := func(to string) reply {
		return a.do("POST", "/api/v1/admin/users/"+userID+"/status", root.access, map[string]any{"status": to, "reason": "test"})
	}
	for round := range 12 {
		first := a.login("ada@example.org")
		access, refresh := []string{first.access}, []string{first.refresh}
		var mu sync.Mutex
		var refreshes, logouts outcomes
		together(6, func(i int) {
			switch {
			case i < 4:
				r := a.refresh(first.refresh)
				refreshes.add(r)
				if r.status == http.StatusOK {
					p := a.pair(r)
					mu.Lock()
					access, refresh = append(access, p.access), append(refresh, p.refresh)
					mu.Unlock()
				}
			case i == 4 && round%3 != 1:
				logouts.add(a.do("DELETE", "/api/v1/auth/logout", first.access, nil))
			case i == 5 && round%3 != 0:
				a.want(status("suspended"), 200, "")
			}
		})
		refreshes.wantOnly(t, "200", "401 invalid_token")
		logouts.wantOnly(t, "204", "401 invalid_token")
		a.wantCount("sessions alive", 0, `SELECT count(*) FROM sessions WHERE user_id = $1`, userID)
		if round%3 != 0 {
			a.want(status("active"), 200, "") // nothing comes back to life with the account
		}
		for _, token := range access {
			a.want(a.do("GET", "/api/v1/users/me", token, nil), 401, "invalid_token")
		}
		for _, token := range refresh {
			a.want(a.refresh(token), 401, "invalid_token")
		}
	}
	a.wantCount("reuse found where there was none", 0, `SELECT count(*) FROM audit_log WHERE action = 'session.reuse_detected'`)
}

func TestTwoAdminsRemoveEachOther(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		remove func(a *app, token, userID string) reply
	}{
		{"suspend", func(a *app, token, userID string) reply {
			return a.do("POST", "/api/v1/admin/users/"+userID+"/status", token, map[string]any{"status": "suspended", "reason": "test"})
		}},
		{"demote", func(a *app, token, userID string) reply {
			return a.do("PUT", "/api/v1/admin/users/"+userID+"/scope", token, map[string]any{"scope": []string{"user"}})
		}},
		{"delete", func(a *app, token, userID string) reply {
			return a.do("DELETE", "/api/v1/admin/users/"+userID, token, nil)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			for round := range 4 {
				var ids [2]string
				var tokens [2]pair
				for i := range ids {
					ids[i], tokens[i] = a.admin(fmt.Sprintf("admin%d-%d@example.org", round, i))
				}
				var got outcomes
				together(2, func(i int) { got.add(test.remove(a, tokens[i].access, ids[1-i])) })
				done := got.counts["200"] + got.counts["204"]
				if done != 1 {
					t.Errorf("round %d: removals that were done: got %d, want 1: %v", round, done, got.counts)
				}
				got.wantOnly(t, "200", "204", "409 last_admin", "401 invalid_token")
				a.wantCount("active administrators", 1, `SELECT count(*) FROM users WHERE status = 'active' AND 'admin' = ANY (scope)`)
				if _, err := a.s.store.pool.Exec(context.Background(), `DELETE FROM users`); err != nil { // for the next round
					t.Fatal(err)
				}
			}
		})
	}
}

func TestParallelUseOfOneResetToken(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	userID := a.register("ada@example.org")
	a.mail()
	p := a.login("ada@example.org")
	a.want(a.do("POST", "/api/v1/auth/password/reset", "", map[string]any{"email": "ada@example.org"}), 202, "")
	token := a.mail().token()
	var got outcomes
	var winner atomic.Int64
	password := func(i int) string { return fmt.Sprintf("a new long password %d", i) }
	together(20, func(i int) {
		r := a.do("POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": token, "password": password(i)})
		got.add(r)
		if r.status == http.StatusNoContent {
			winner.Store(int64(i))
		}
	})
	got.want(t, map[string]int{"204": 1, "401 invalid_token": 19})
	a.want(a.tryLogin("ada@example.org", password(int(winner.Load()))), 200, "")
	a.want(a.do("GET", "/api/v1/users/me", p.access, nil), 401, "invalid_token")
	a.wantCount("resets on record", 1, `SELECT count(*) FROM audit_log WHERE action = 'auth.password_reset' AND status = 'success' AND user_id = $1`, userID)
	a.wantCount("reset tokens left", 0, `SELECT count(*) FROM one_time_tokens WHERE purpose = 'reset'`)
}

func TestParallelPatchesOfTheProfile(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	p := a.login("ada@example.org")
	const patches = 20
	together(patches, func(i int) {
		body := map[string]any{"profile": map[string]any{fmt.Sprint("key", i): i}}
		a.want(a.do("PATCH", "/api/v1/users/me", p.access, body), 200, "")
	})
	profile, _ := a.do("GET", "/api/v1/users/me", p.access, nil).json(t)["profile"].(map[string]any)
	for i := range patches {
		if got := profile[fmt.Sprint("key", i)]; got != float64(i) {
			t.Errorf("key%d: got %v, want %d", i, got, i)
		}
	}
	a.wantCount("updates on record", patches, `SELECT count(*) FROM audit_log WHERE action = 'user.update' AND status = 'success'`)
}

// endings are the ways a session ends, as a request to an instance.
var endings = []struct {
	name string
	end  func(a *app, root pair, userID string, p pair) reply
}{
	{"logout", func(a *app, _ pair, _ string, p pair) reply {
		return a.do("DELETE", "/api/v1/auth/logout", p.access, nil)
	}},
	{"suspend", func(a *app, root pair, userID string, _ pair) reply {
		return a.do("POST", "/api/v1/admin/users/"+userID+"/status", root.access, map[string]any{"status": "suspended", "reason": "test"})
	}},
	{"password", func(a *app, _ pair, _ string, p pair) reply {
		return a.do("PATCH", "/api/v1/users/me", p.access, map[string]any{"password": "another long password", "current_password": testPassword})
	}},
	{"scope", func(a *app, root pair, userID string, _ pair) reply {
		return a.do("PUT", "/api/v1/admin/users/"+userID+"/scope", root.access, map[string]any{"scope": []string{"user", "introspect"}})
	}},
	{"delete", func(a *app, _ pair, _ string, p pair) reply {
		return a.do("DELETE", "/api/v1/users/me", p.access, map[string]any{"current_password": testPassword})
	}},
}

// TestEndedSessionsOnTwoInstances is not parallel: it measures the second that the contract promises.
func TestEndedSessionsOnTwoInstances(t *testing.T) {
	database := testDB(t)
	here, there := newAppOn(t, database), newAppOn(t, database)
	_, root := here.admin("root@example.org")
	for i, ending := range endings {
		t.Run(ending.name, func(t *testing.T) {
			email := fmt.Sprintf("ada%d@example.org", i)
			userID := here.register(email)
			p := here.login(email)
			there.want(there.do("GET", "/api/v1/users/me/sessions", p.access, nil), 200, "")
			if r := ending.end(here, root, userID, p); r.status/100 != 2 {
				t.Fatalf("got %d: %s", r.status, r.body)
			}
			ended := time.Now()
			here.want(here.do("GET", "/api/v1/users/me/sessions", p.access, nil), 401, "invalid_token")
			for {
				asked := time.Now() // a request sent after the second must be refused
				r := there.do("GET", "/api/v1/users/me/sessions", p.access, nil)
				if r.status == http.StatusUnauthorized && r.code() == "invalid_token" {
					break
				}
				if asked.Sub(ended) > time.Second {
					t.Fatalf("after %s: got %d, want 401: %s", asked.Sub(ended), r.status, r.body)
				}
				time.Sleep(5 * time.Millisecond)
			}
			there.want(there.refresh(p.refresh), 401, "invalid_token")
		})
	}
}

// deafService is an instance that does not poll: it knows what it knew at its start.
func deafService(t *testing.T, databaseURL string) *app {
	t.Helper()
	cfg, err := loadConfig(testEnv(databaseURL), true)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, log: &lockedBuffer{}}
	log := slog.New(newLogger(a.log, logConfig{"debug", "json"}).Handler())
	if a.s, err = openService(context.Background(), cfg, a.clock, log, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.s.store.close)
	a.health = &health{store: a.s.store}
	a.p = newPipeline(a.s, a.s.routes(a.health), log)
	server := httptest.NewServer(a.p)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// forget makes the instance's news from the database too old to be trusted.
func (a *app) forget() {
	a.s.revoked.mu.Lock()
	defer a.s.revoked.mu.Unlock()
	a.s.revoked.heard = time.Now().Add(-2 * staleAfter)
}

// authenticated asks what every signed-in request asks first.
func (a *app) authenticated(token string) error {
	_, err := a.s.authenticate(context.Background(), token, a.s.now())
	return err
}

func TestRevocationsFailClosed(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	here, deaf := newAppOn(t, database), deafService(t, database)
	here.register("ada@example.org")
	ended, alive := here.login("ada@example.org"), here.login("ada@example.org")
	here.want(here.do("DELETE", "/api/v1/auth/logout", ended.access, nil), 204, "")

	deaf.forget()
	if err := deaf.authenticated(ended.access); !errors.Is(err, errInvalidToken) {
		t.Errorf("stale, revoked elsewhere: got %v, want errInvalidToken from the database", err)
	}
	if err := deaf.authenticated(alive.access); err != nil {
		t.Errorf("stale, alive: got %v, want nil from the database", err)
	}
	deaf.s.store.close()
	for _, token := range []string{ended.access, alive.access} {
		if err := deaf.authenticated(token); !errors.Is(err, errUnavailable) {
			t.Errorf("stale, no database: got %v, want errUnavailable", err)
		}
	}
	deaf.s.revoked.add([]id{mustID(t, ended.session)}, time.Now().Add(time.Hour))
	if err := deaf.authenticated(ended.access); !errors.Is(err, errInvalidToken) {
		t.Errorf("known to be revoked, no database: got %v, want errInvalidToken", err)
	}
}

func mustID(t *testing.T, text string) id {
	t.Helper()
	u, err := parseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestDatabaseOutage takes the database away from a running instance and gives it back.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	a := newAppOn(t, database)
	a.register("ada@example.org")
	ended, alive := a.login("ada@example.org"), a.login("ada@example.org")
	a.want(a.do("DELETE", "/api/v1/auth/logout", ended.access, nil), 204, "")
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	ctx := context.Background()
	if err := adminExec(ctx, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+name+`'`); err != nil {
		t.Fatal(err)
	}
	// Connections of the pool may still look good: the first use of each tells.
	eventually(t, 10*time.Second, "no use of a dead connection", func() bool {
		return a.do("GET", "/api/v1/users/me", alive.access, nil).code() == "unavailable"
	})
	a.forget()
	for _, request := range []struct{ method, path, token, code string }{
		{"GET", "/api/v1/users/me", alive.access, "503 unavailable"},
		{"GET", "/api/v1/users/me", ended.access, "401 invalid_token"}, // known here
		{"DELETE", "/api/v1/auth/logout", alive.access, "503 unavailable"},
		{"GET", "/readyz", "", "503 unavailable"},
		{"GET", "/healthz", "", "200"},
	} {
		r := a.do(request.method, request.path, request.token, nil)
		if got := strings.TrimSpace(fmt.Sprint(r.status, " ", r.code())); got != request.code {
			t.Errorf("%s %s: got %s, want %s", request.method, request.path, got, request.code)
		}
		if r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", request.method, request.path)
		}
	}
	if r := a.tryLogin("ada@example.org", testPassword); r.status != 503 || r.code() != "unavailable" {
		t.Errorf("login: got %d %s, want 503 unavailable", r.status, r.code())
	}
	if r := a.refresh(alive.refresh); r.status != 503 || r.code() != "unavailable" {
		t.Errorf("refresh: got %d %s, want 503 unavailable", r.status, r.code())
	}
	if err := adminExec(ctx, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "serving again", func() bool {
		return a.do("GET", "/api/v1/users/me", alive.access, nil).status == http.StatusOK
	})
	a.want(a.do("GET", "/api/v1/users/me", ended.access, nil), 401, "invalid_token")
	a.want(a.refresh(alive.refresh), 200, "")
}

// TestLogoutOnTheOtherInstance: a token whose session ended a moment ago elsewhere is not valid, whatever is known here.
func TestLogoutOnTheOtherInstance(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	here, deaf := newAppOn(t, database), deafService(t, database)
	here.register("ada@example.org")
	p := here.login("ada@example.org")
	here.want(here.do("DELETE", "/api/v1/auth/logout", p.access, nil), 204, "")
	deaf.want(deaf.do("DELETE", "/api/v1/auth/logout", p.access, nil), 401, "invalid_token")
}
