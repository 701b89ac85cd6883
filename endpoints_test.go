package main

// What each endpoint answers, in success and in every documented refusal, through the handler and a real database.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	otherPassword = "another fine password"
	apiMe         = "/api/v1/users/me"
	apiUsers      = "/api/v1/admin/users"
	apiReset      = "/api/v1/auth/password/reset"
	apiConfirm    = "/api/v1/auth/password/reset/confirm"
	apiVerify     = "/api/v1/auth/email/verify"
	apiResend     = "/api/v1/auth/email/verify/resend"
	apiRegister   = "/api/v1/auth/register"
	apiLogin      = "/api/v1/auth/login"
	apiLogout     = "/api/v1/auth/logout"
)

// exchange is a request and the answer it must get.
type exchange struct {
	name, method, path, token string
	body                      any
	status                    int
	code                      string
	details                   obj // compared when not nil
}

// run sends requests one after the other.
func (a *app) run(exchanges ...exchange) {
	a.t.Helper()
	for _, x := range exchanges {
		got := a.do(x.method, x.path, x.token, x.body)
		if got.status != x.status || got.code() != x.code {
			a.t.Errorf("%s: got %d %q, want %d %q: %s", x.name, got.status, got.code(), x.status, x.code, got.body)
			continue
		}
		if x.details == nil {
			continue
		}
		if details, _ := got.json(a.t)["error"].(obj)["details"].(obj); !reflect.DeepEqual(details, x.details) {
			a.t.Errorf("%s: got details %v, want %v", x.name, details, x.details)
		}
	}
}

// dead checks that none of a pair's tokens is worth anything.
func (a *app) dead(name string, p pair) {
	a.t.Helper()
	a.run(exchange{name + ": access token", "GET", apiMe, p.access, nil, 401, "invalid_token", nil},
		exchange{name + ": refresh token", "POST", "/api/v1/auth/refresh", "", obj{"refresh_token": p.refresh}, 401, "invalid_token", nil})
}

// live checks that an access token is.
func (a *app) live(name string, p pair) {
	a.t.Helper()
	a.run(exchange{name, "GET", apiMe, p.access, nil, 200, "", nil})
}

// wrong tries n wrong passwords, each of which must be refused and counted.
func (a *app) wrong(email string, n int) {
	a.t.Helper()
	for range n {
		a.want(a.tryLogin(email, "wrong password"), 401, "invalid_credentials")
	}
}

// items returns a list's items.
func (r reply) items(t testing.TB) []obj {
	t.Helper()
	list, _ := r.json(t)["items"].([]any)
	items := make([]obj, len(list))
	for i := range list {
		items[i], _ = list[i].(obj)
	}
	return items
}

// fields checks members of a JSON object.
func wantFields(t testing.TB, name string, got, want obj) {
	t.Helper()
	for field, value := range want {
		if !reflect.DeepEqual(got[field], value) {
			t.Errorf("%s: %s: got %v, want %v", name, field, got[field], value)
		}
	}
}

func wantNames(t testing.TB, name string, got obj, want ...string) {
	t.Helper()
	names := []string{}
	for field := range got {
		names = append(names, field)
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("%s: got fields %q, want %q", name, names, want)
	}
}

var userFields = []string{"id", "email", "email_verified", "status", "scope", "profile", "created_at", "updated_at", "last_login"}

func TestEndpointRegister(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	got := a.want(a.do("POST", apiRegister, "", obj{"email": "Ada@Example.ORG", "password": testPassword, "profile": obj{"name": "Ada"}}), 201, "")
	user, _ := got.json(t)["user"].(obj)
	wantNames(t, "user", user, userFields...)
	wantFields(t, "user", user, obj{"email": "ada@example.org", "email_verified": false, "status": "active",
		"scope": []any{"user"}, "profile": obj{"name": "Ada"}, "last_login": nil})
	if _, err := parseID(user["id"].(string)); err != nil {
		t.Errorf("id: got %v, want a UUID", user["id"])
	}
	if m := a.mail(); m.To != "ada@example.org" || !strings.HasPrefix(m.token(), "uspv_") {
		t.Errorf("mail: got %+v, want a link to confirm for ada@example.org", m)
	}
	before := a.data()
	post := func(name string, body obj, status int, code string, details obj) exchange {
		return exchange{name, "POST", apiRegister, "", body, status, code, details}
	}
	a.run(
		post("taken", obj{"email": "ada@example.org", "password": testPassword}, 409, "email_taken", nil),
		post("taken in other case", obj{"email": "ADA@example.org", "password": testPassword}, 409, "email_taken", nil),
		post("nothing", obj{}, 422, "validation_failed", obj{"email": "required", "password": "required"}),
		post("short", obj{"email": "b@example.org", "password": "eleven char"}, 422, "validation_failed", obj{"password": "too_short"}),
		post("long", obj{"email": "b@example.org", "password": strings.Repeat("x7", 129)}, 422, "validation_failed", obj{"password": "too_long"}),
		post("common", obj{"email": "b@example.org", "password": "123456789012"}, 422, "validation_failed", obj{"password": "too_common"}),
		post("email in it", obj{"email": "bert@example.org", "password": "my name is BERT"}, 422, "validation_failed", obj{"password": "contains_email"}),
	)
	for _, address := range []string{"b", "b@localhost", "b@example.o", "b@c@example.org", `"b c"@example.org`, "b@[127.0.0.1]", "<b@example.org>",
		" b@example.org", "b@example.org ", "b@example.org.", "b..c@example.org", "\u212A@example.org", "b@ex\u0131mple.org", "b\uFF20example.org",
		"b\u0301@example.org", "b\u200b@example.org", "b@example.org\r\nBcc: c@example.org", strings.Repeat("b", 65) + "@example.org"} {
		a.run(post(strconv.Quote(address), obj{"email": address, "password": testPassword}, 422, "validation_failed", obj{"email": "invalid"}))
	}
	for _, name := range []string{"scope", "status", "id", "role", "email_verified", "failed_attempts", "locked_until", "password_hash",
		"Scope", "Email", "PASSWORD", "user", "admin", "is_admin", "created_at", "user.scope"} {
		a.run(post("mass assignment "+name, obj{"email": "b@example.org", "password": testPassword, name: "admin"}, 400, "invalid_request", obj{name: "unknown"}))
	}
	if after := a.data(); after != before {
		t.Errorf("refused registrations changed data: got\n%s\nwant\n%s", after, before)
	}
	if strings.Contains(before, testPassword) || strings.Contains(a.log.String(), testPassword) {
		t.Error("the password is in the database or the log")
	}
	// A password is any Unicode, and counts code points.
	unusual := "pä ß 😀 \t\u202e 密码"
	a.want(a.do("POST", apiRegister, "", obj{"email": "c@example.org", "password": unusual}), 201, "")
	a.want(a.tryLogin("c@example.org", unusual), 200, "")
	a.want(a.tryLogin("c@example.org", strings.ToUpper(unusual)), 401, "invalid_credentials")
}

func TestEndpointRegisterClosed(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_REGISTRATION=closed")
	_, root := a.admin("root@example.org")
	for _, address := range []string{"new@example.org", "root@example.org"} {
		a.run(exchange{address, "POST", apiRegister, "", obj{"email": address, "password": testPassword}, 403, "registration_closed", nil})
	}
	if got := a.count(`SELECT count(*) FROM users`); got != 1 {
		t.Errorf("users: got %d, want 1", got)
	}
	a.want(a.do("POST", apiUsers, root.access, obj{"email": "new@example.org", "password": testPassword}), 201, "")
}

func TestEndpointRegisterVerified(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_REGISTRATION=verified")
	register := func(email, password string) string {
		t.Helper()
		got := a.want(a.do("POST", apiRegister, "", obj{"email": email, "password": password}), 202, "")
		wantFields(t, "answer", got.json(t), obj{"status": "verification_sent"})
		return got.body
	}
	fresh := register("ada@example.org", testPassword)
	first := a.mail()
	a.want(a.tryLogin("ada@example.org", "wrong password"), 401, "invalid_credentials")
	a.want(a.tryLogin("ada@example.org", testPassword), 403, "email_not_verified")
	// Who registers again with it changes nothing, confirmed or not: only the first password is ever behind the link.
	again := register("Ada@example.org", otherPassword)
	if m := a.mail(); m.To != "ada@example.org" || m.token() != "" {
		t.Errorf("mail: got %+v, want the notice without a token", m)
	}
	a.run(exchange{"token", "POST", apiVerify, "", obj{"token": first.token()}, 204, "", nil},
		exchange{"once", "POST", apiVerify, "", obj{"token": first.token()}, 401, "invalid_token", nil})
	a.want(a.tryLogin("ada@example.org", otherPassword), 401, "invalid_credentials")
	p := a.login("ada@example.org")
	wantFields(t, "user", a.do("GET", apiMe, p.access, nil).json(t), obj{"status": "active", "email_verified": true})
	// Now it is somebody's: the owner hears of it, the stranger does not.
	drain(a)
	before := a.data()
	taken := register("ada@example.org", "a stranger's password")
	if notice := a.mail(); notice.To != "ada@example.org" || notice.Subject != noticeRegistered.subject || notice.token() != "" {
		t.Errorf("mail: got %+v, want the notice without a token", notice)
	}
	if fresh != again || fresh != taken {
		t.Errorf("bodies differ: %s, %s, %s", fresh, again, taken)
	}
	if after := a.data(); after != before {
		t.Errorf("a stranger's registration changed data: got\n%s\nwant\n%s", after, before)
	}
	a.want(a.tryLogin("ada@example.org", "a stranger's password"), 401, "invalid_credentials")
}

// TestEndpointRegisterInvited: an account that an administrator made waits for whom it was made for. A stranger who registers
// with its address must not put a password on it, or confirming the address would hand over its scope.
func TestEndpointRegisterInvited(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_REGISTRATION=verified")
	_, root := a.admin("root@example.org")
	a.want(a.do("POST", apiUsers, root.access, obj{"email": "grace@example.org", "scope": []string{"user", "admin"}, "profile": obj{"name": "Grace"}}), 201, "")
	invitation := a.mail().token()
	before := a.data()
	a.want(a.do("POST", apiRegister, "", obj{"email": "grace@example.org", "password": "a stranger's password", "profile": obj{"name": "Mallory"}}), 202, "")
	if m := a.mail(); m.To != "grace@example.org" || m.token() != "" {
		t.Errorf("mail: got %q to %s with a token, want a notice to grace", m.Subject, m.To)
		a.do("POST", apiVerify, "", obj{"token": m.token()}) // she may well follow it
	}
	if after := a.data(); after != before {
		t.Errorf("a stranger's registration changed data: got\n%s\nwant\n%s", after, before)
	}
	a.want(a.tryLogin("grace@example.org", "a stranger's password"), 401, "invalid_credentials")
	a.want(a.do("POST", apiConfirm, "", obj{"token": invitation, "password": otherPassword}), 204, "")
	p := a.pair(a.want(a.tryLogin("grace@example.org", otherPassword), 200, ""))
	wantFields(t, "user", a.do("GET", apiMe, p.access, nil).json(t), obj{"scope": []any{"user", "admin"}, "profile": obj{"name": "Grace"}})
}

func TestEndpointLogin(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	adminID, root := a.admin("root@example.org")
	adaID := a.register("ada@example.org")
	got := a.want(a.tryLogin("Ada@Example.org", testPassword), 200, "")
	body := got.json(t)
	wantNames(t, "tokens", body, "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "scope", "session_id")
	wantFields(t, "tokens", body, obj{"token_type": "Bearer", "expires_in": 900.0, "refresh_expires_in": 604800.0, "scope": []any{"user"}})
	if !strings.HasPrefix(body["refresh_token"].(string), "usrt_") {
		t.Errorf("refresh_token: got %v, want usrt_…", body["refresh_token"])
	}
	if me := a.do("GET", apiMe, a.pair(got).access, nil); me.text(t, "last_login") == "" || me.text(t, "id") != adaID {
		t.Errorf("me: got %s, want ada with a last_login", me.body)
	}

	normal := func(r reply) string { return strings.ReplaceAll(r.body, r.header.Get("X-Request-Id"), "<trace>") }
	unknown, wrong := a.tryLogin("nobody@example.org", testPassword), a.tryLogin("ada@example.org", "wrong password")
	a.want(unknown, 401, "invalid_credentials")
	if normal(unknown) != normal(wrong) {
		t.Errorf("bodies differ: unknown %s, wrong %s", unknown.body, wrong.body)
	}
	for _, header := range []string{"Www-Authenticate", "Retry-After", "Content-Length"} {
		if unknown.header.Get(header) != wrong.header.Get(header) {
			t.Errorf("%s differs: unknown %q, wrong %q", header, unknown.header.Get(header), wrong.header.Get(header))
		}
	}

	a.run(exchange{"suspend", "POST", apiUsers + "/" + adaID + "/status", root.access, obj{"status": "suspended", "reason": "spam"}, 200, "", nil},
		exchange{"suspended, wrong", "POST", apiLogin, "", obj{"email": "ada@example.org", "password": "wrong"}, 401, "invalid_credentials", nil},
		exchange{"suspended, right", "POST", apiLogin, "", obj{"email": "ada@example.org", "password": testPassword}, 403, "account_suspended", nil},
		exchange{"no fields", "POST", apiLogin, "", obj{}, 422, "validation_failed", obj{"email": "required", "password": "required"}},
		exchange{"other fields", "POST", apiLogin, "", obj{"email": "ada@example.org", "password": testPassword, "scope": "admin"}, 400, "invalid_request", obj{"scope": "unknown"}})
	if got := a.count(`SELECT count(*) FROM sessions WHERE user_id = $1`, adaID); got != 0 {
		t.Errorf("sessions of the suspended user: got %d, want 0", got)
	}
	if got := a.count(`SELECT count(*) FROM audit_log WHERE action = 'auth.login' AND status = 'denied' AND user_id = $1`, adaID); got != 1 {
		t.Errorf("denied sign-ins of the suspended user: got %d, want 1", got)
	}
	if got := a.count(`SELECT count(*) FROM audit_log WHERE actor_id = $1 AND action = 'admin.user_status'`, adminID); got != 1 {
		t.Errorf("status changes by the admin: got %d, want 1", got)
	}
}

func TestEndpointLock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, email string
		known       bool
	}{{"known email", "ada@example.org", true}, {"unknown email", "nobody@example.org", false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.register("ada@example.org")
			p := a.login("ada@example.org")
			a.wrong(tt.email, 4)
			for i, wait := range []int{30, 60, 120, 240, 480, 900, 900} {
				a.wrong(tt.email, 1)
				for range 2 { // the right password is refused as well, and refusals don't prolong
					got := a.want(a.tryLogin(strings.ToUpper(tt.email), testPassword), 429, "too_many_attempts")
					after, _ := strconv.Atoi(got.header.Get("Retry-After"))
					if after > wait || after < wait-5 || got.header.Get("Ratelimit-Limit") != "5" || got.header.Get("Ratelimit-Remaining") != "0" ||
						got.header.Get("Ratelimit-Reset") != got.header.Get("Retry-After") {
						t.Errorf("lock %d: got headers %v, want %d s", i, got.header, wait)
					}
				}
				if i == 0 {
					a.live("a session goes on while its email is locked", p)
					p = a.pair(a.want(a.refresh(p.refresh), 200, ""))
				}
				a.advance(time.Duration(wait) * time.Second)
			}
			if !tt.known {
				return
			}
			a.login(tt.email) // a success clears
			a.wrong(tt.email, 4)
			a.login(tt.email)
			a.wrong(tt.email, 5)
			drain(a)
			a.want(a.do("POST", apiReset, "", obj{"email": tt.email}), 202, "")
			a.want(a.tryLogin(tt.email, testPassword), 429, "too_many_attempts") // asking for a reset clears nothing
			a.want(a.do("POST", apiConfirm, "", obj{"token": a.mail().token(), "password": otherPassword}), 204, "")
			a.want(a.tryLogin(tt.email, otherPassword), 200, "")
			a.wrong(tt.email, 4)
			a.advance(24 * time.Hour) // a day without a failure forgets
			a.wrong(tt.email, 4)
			a.want(a.tryLogin(tt.email, otherPassword), 200, "")
		})
	}
}

func TestEndpointRefresh(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	first, other := a.login("ada@example.org"), a.login("ada@example.org")
	second := a.pair(a.want(a.refresh(first.refresh), 200, ""))
	a.advance(9 * time.Second)
	again := a.want(a.refresh(first.refresh), 200, "")
	if got := a.pair(again); got.refresh != second.refresh || got.session != first.session || second.refresh == first.refresh {
		t.Errorf("within the grace: got %s, want the same successor %s", got.refresh, second.refresh)
	}
	wantFields(t, "tokens", again.json(t), obj{"token_type": "Bearer", "expires_in": 900.0, "refresh_expires_in": 604800.0 - 10, "scope": []any{"user"}})
	a.live("first access token", first)
	a.live("second access token", second)
	a.advance(2 * time.Second)
	a.want(a.refresh(first.refresh), 401, "invalid_token") // after the grace: reuse
	a.dead("reused", first)
	a.dead("successor", second)
	a.live("another session", other)
	a.want(a.refresh(other.refresh), 200, "")
	if got := a.audits("session.reuse_detected", "denied"); got != 1 {
		t.Errorf("session.reuse_detected: got %d rows, want 1", got)
	}

	third := a.login("ada@example.org")
	fourth := a.pair(a.want(a.refresh(third.refresh), 200, ""))
	fifth := a.pair(a.want(a.refresh(fourth.refresh), 200, ""))
	a.want(a.refresh(third.refresh), 401, "invalid_token") // two generations old, however fresh
	a.dead("two generations on", fifth)
	if got := a.audits("session.reuse_detected", "denied"); got != 2 {
		t.Errorf("session.reuse_detected: got %d rows, want 2", got)
	}
}

func TestEndpointRefreshLifetimes(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	idle := a.login("ada@example.org")
	busy := a.login("ada@example.org")
	const day = 24 * time.Hour
	a.advance(15*time.Minute + time.Second)
	a.run(exchange{"access token after 15 min", "GET", apiMe, busy.access, nil, 401, "invalid_token", nil})
	a.advance(7*day - 16*time.Minute)
	busy = a.pair(a.want(a.refresh(busy.refresh), 200, ""))
	a.advance(time.Minute)
	a.want(a.refresh(idle.refresh), 401, "invalid_token")
	for range 3 {
		a.advance(6 * day)
		busy = a.pair(a.want(a.refresh(busy.refresh), 200, ""))
	}
	a.advance(5*day - 5*time.Minute) // 30 d less 5 min since the login
	last := a.want(a.refresh(busy.refresh), 200, "")
	busy = a.pair(last)
	for _, lifetime := range []string{"refresh_expires_in", "expires_in"} { // the session's own end bounds both
		if got := last.json(t)[lifetime].(float64); got > 302 || got < 280 {
			t.Errorf("%s 5 min before the session's end: got %v s, want about 300", lifetime, got)
		}
	}
	a.advance(6 * time.Minute)
	a.want(a.refresh(busy.refresh), 401, "invalid_token")
	a.run(exchange{"access token after the session's end", "GET", apiMe, busy.access, nil, 401, "invalid_token", nil})
	if got := a.audits("session.reuse_detected", "denied"); got != 0 {
		t.Errorf("session.reuse_detected: got %d rows, want 0: age is no theft", got)
	}
}

func TestEndpointRefreshForged(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	p := a.login("ada@example.org")
	flip := func(s string, at int) string {
		b := []byte(s)
		if b[at] == 'A' {
			b[at] = 'B'
		} else {
			b[at] = 'A'
		}
		return string(b)
	}
	sessionID, err := parseID(p.session)
	if err != nil {
		t.Fatal(err)
	}
	var secrets secretKeys
	secrets.refresh = []byte(strings.Repeat("guess", 8))
	before, audit := a.data(), a.count(`SELECT count(*) FROM audit_log`)
	for name, token := range map[string]string{
		"mac":          flip(p.refresh, len(p.refresh)-2),
		"generation":   flip(p.refresh, len("usrt_")+25),
		"session":      flip(p.refresh, len("usrt_")+3),
		"other key":    encodeRefresh(secrets.refresh, sessionID, 0),
		"no prefix":    strings.TrimPrefix(p.refresh, "usrt_"),
		"upper prefix": "USRT_" + strings.TrimPrefix(p.refresh, "usrt_"),
		"padding":      p.refresh + "=",
		"newline":      p.refresh + "\n",
		"space":        " " + p.refresh,
		"short":        p.refresh[:20],
		"prefix alone": "usrt_",
		"access token": p.access,
		"long":         "usrt_" + strings.Repeat("A", 60000),
	} {
		a.run(exchange{name, "POST", "/api/v1/auth/refresh", "", obj{"refresh_token": token}, 401, "invalid_token", nil},
			exchange{name + " at logout", "DELETE", apiLogout, "", obj{"refresh_token": token}, 401, "invalid_token", nil})
	}
	if after := a.data(); after != before {
		t.Errorf("forged tokens changed data: got\n%s\nwant\n%s", after, before)
	}
	if got := a.count(`SELECT count(*) FROM audit_log`); got != audit {
		t.Errorf("audit rows: got %d, want %d: forged tokens cost nothing", got, audit)
	}
	a.want(a.refresh(p.refresh), 200, "")
}

func TestEndpointLogout(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	a.register("bert@example.org")
	logout := func(name, token string, body any, status int, code string) exchange {
		return exchange{name, "DELETE", apiLogout, token, body, status, code, nil}
	}
	kept, bert := a.login("ada@example.org"), a.login("bert@example.org")
	one := a.login("ada@example.org")
	a.run(logout("Bearer", one.access, nil, 204, ""), logout("Bearer again", one.access, nil, 401, "invalid_token"))
	a.dead("Bearer", one)
	two := a.login("ada@example.org")
	a.run(logout("refresh token", "", obj{"refresh_token": two.refresh}, 204, ""),
		logout("refresh token again", "", obj{"refresh_token": two.refresh}, 401, "invalid_token"))
	a.dead("refresh token", two)
	three := a.login("ada@example.org")
	a.run(logout("both", three.access, obj{"refresh_token": three.refresh}, 204, ""))
	a.dead("both", three)
	four := a.login("ada@example.org")
	a.run(logout("of two sessions", four.access, obj{"refresh_token": kept.refresh}, 401, "invalid_token"),
		logout("of two users", four.access, obj{"refresh_token": bert.refresh}, 401, "invalid_token"),
		logout("a bad access and a good refresh token", four.access+"A", obj{"refresh_token": four.refresh}, 401, "invalid_token"),
		logout("neither", "", nil, 401, "missing_token"),
		logout("an empty object", "", obj{}, 401, "missing_token"),
		logout("an empty object with Bearer", four.access, obj{}, 204, ""))
	a.live("a session that was not meant", kept)
	a.live("somebody else's", bert)
	if got := a.count(`SELECT count(*) FROM sessions`); got != 2 {
		t.Errorf("sessions: got %d, want 2", got)
	}
}

func TestEndpointMe(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	userID := a.register("ada@example.org")
	p := a.login("ada@example.org")
	me := a.want(a.do("GET", apiMe, p.access, nil), 200, "").json(t)
	wantNames(t, "me", me, userFields...)
	wantFields(t, "me", me, obj{"id": userID, "email": "ada@example.org", "status": "active", "profile": obj{}})
	before := a.data()
	for _, name := range []string{"scope", "status", "id", "role", "email_verified", "failed_attempts", "locked_until", "password_hash", "Profile", "last_login"} {
		a.run(exchange{"mass assignment " + name, "PATCH", apiMe, p.access, obj{"profile": obj{"a": 1}, name: "admin"}, 400, "invalid_request", obj{name: "unknown"}})
	}
	if after := a.data(); after != before {
		t.Errorf("refused changes changed data: got\n%s\nwant\n%s", after, before)
	}
	a.sql(`DELETE FROM users`) // gone, and no instance knows yet
	a.run(exchange{"me of nobody", "GET", apiMe, p.access, nil, 401, "invalid_token", nil},
		exchange{"export of nobody", "GET", apiMe + "/export", p.access, nil, 401, "invalid_token", nil},
		exchange{"change of nobody", "PATCH", apiMe, p.access, obj{"profile": obj{}}, 401, "invalid_token", nil},
		exchange{"deletion of nobody", "DELETE", apiMe, p.access, obj{"current_password": testPassword}, 401, "invalid_token", nil},
		exchange{"end sessions of nobody", "DELETE", apiMe + "/sessions", p.access, nil, 401, "invalid_token", nil})
}

func TestEndpointProfileMerge(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	for i, tt := range []struct{ target, patch, want string }{ // RFC 7396, appendix A: those between objects
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"a":{"b":"c"}}`, `{}`, `{"a":{"b":"c"}}`},
		{`{"a":[1,null]}`, `{"b":[null]}`, `{"a":[1,null],"b":[null]}`},
		{`{"n":12345678901234567890,"m":1.10}`, `{"k":0.1000}`, `{"n":12345678901234567890,"m":1.10,"k":0.1000}`},
		{`{"<script>":"\u2028&"}`, `{"__proto__":{"a":1}}`, `{"<script>":"\u2028&","__proto__":{"a":1}}`},
	} {
		email := fmt.Sprintf("user%d@example.org", i)
		a.want(a.do("POST", apiRegister, "", `{"email":"`+email+`","password":"`+testPassword+`","profile":`+tt.target+`}`), 201, "")
		token := a.login(email).access
		for _, got := range []reply{
			a.want(a.do("PATCH", apiMe, token, `{"profile":`+tt.patch+`}`), 200, ""),
			a.want(a.do("GET", apiMe, token, nil), 200, ""),
		} {
			var body struct{ Profile json.RawMessage }
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(decodeObject(body.Profile), decodeObject([]byte(tt.want))) {
				t.Errorf("%s + %s: got %s, want %s", tt.target, tt.patch, body.Profile, tt.want)
			}
		}
	}
}

func TestEndpointProfileBounds(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	p := a.login("ada@example.org")
	profile := func(name, raw string, status int, code, reason string) exchange {
		details := obj{"profile": reason}
		if reason == "" {
			details = nil
		}
		return exchange{name, "PATCH", apiMe, p.access, `{"profile":` + raw + `}`, status, code, details}
	}
	deep := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	long := func(n int) string { return `{"x":"` + strings.Repeat("x", n-len(`{"x":""}`)) + `"}` }
	a.run(profile("16 KiB", long(16384), 200, "", ""),
		profile("with one more name", `{"y":1}`, 422, "validation_failed", "too_long"),
		profile("emptied", `{"x":null}`, 200, "", ""),
		profile("16 KiB + 1", long(16385), 422, "validation_failed", "too_long"),
		profile("8 deep", deep(8), 200, "", ""),
		profile("9 deep", deep(9), 422, "validation_failed", "too_deep"),
		profile("9 deep by arrays", `{"a":`+strings.Repeat("[", 8)+strings.Repeat("]", 8)+`}`, 422, "validation_failed", "too_deep"),
		profile("a number jsonb can't hold", `{"n":1e400000}`, 422, "validation_failed", "invalid"),
		profile("a number too small", `{"n":1e-400000}`, 422, "validation_failed", "invalid"),
		profile("array", `[]`, 422, "validation_failed", "invalid"),
		profile("text", `"x"`, 422, "validation_failed", "invalid"),
		profile("null", `null`, 400, "invalid_request", "invalid"))
}

func TestEndpointEmailChange(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	link := a.mail().token()
	a.register("bert@example.org")
	drain(a)
	p := a.login("ada@example.org")
	patch := func(name string, body obj, status int, code string, details obj) exchange {
		return exchange{name, "PATCH", apiMe, p.access, body, status, code, details}
	}
	before := a.data()
	a.run(
		patch("no password", obj{"email": "new@example.org"}, 422, "validation_failed", obj{"current_password": "required"}),
		patch("taken", obj{"email": "Bert@example.org", "current_password": testPassword}, 409, "email_taken", nil),
		patch("unchanged", obj{"email": "ADA@example.org", "current_password": testPassword}, 422, "validation_failed", obj{"email": "unchanged"}),
		patch("invalid", obj{"email": "new", "current_password": testPassword}, 422, "validation_failed", obj{"email": "invalid"}),
		patch("all or nothing", obj{"email": "bert@example.org", "profile": obj{"a": 1}, "current_password": testPassword}, 409, "email_taken", nil))
	if after := a.data(); after != before {
		t.Errorf("refused changes changed data: got\n%s\nwant\n%s", after, before)
	}
	for range 4 {
		a.run(patch("wrong", obj{"email": "new@example.org", "current_password": "wrong"}, 422, "validation_failed", obj{"current_password": "wrong"}))
	}
	a.wrong("ada@example.org", 1) // the fifth in a row, counted together
	a.run(patch("locked", obj{"email": "new@example.org", "current_password": testPassword}, 429, "too_many_attempts", nil))
	a.want(a.tryLogin("ada@example.org", testPassword), 429, "too_many_attempts")
	a.advance(30 * time.Second)

	a.exec(`UPDATE users SET email_verified = true WHERE email = 'ada@example.org'`) // only a confirmed address is told
	got := a.want(a.do("PATCH", apiMe, p.access, obj{"email": "New@example.org", "current_password": testPassword}), 200, "")
	wantFields(t, "user", got.json(t), obj{"email": "new@example.org", "email_verified": false, "status": "active"})
	mails := map[string]message{}
	for range 2 {
		m := a.mail()
		mails[m.To] = m
	}
	if mails["ada@example.org"].Subject != noticeEmailChanged.subject {
		t.Errorf("mail to the old address: got %+v, want the notice", mails["ada@example.org"])
	}
	a.run(exchange{"link sent to the old address", "POST", apiVerify, "", obj{"token": link}, 401, "invalid_token", nil},
		exchange{"link sent to the new address", "POST", apiVerify, "", obj{"token": mails["new@example.org"].token()}, 204, "", nil})
	a.want(a.tryLogin("ada@example.org", testPassword), 401, "invalid_credentials")
	wantFields(t, "user", a.do("GET", apiMe, a.login("new@example.org").access, nil).json(t), obj{"email_verified": true})
	a.live("the session goes on", p)
}

func TestEndpointPasswordChange(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	a.register("bert@example.org")
	p, phone, bert := a.login("ada@example.org"), a.login("ada@example.org"), a.login("bert@example.org")
	patch := func(name string, body obj, details obj) exchange {
		return exchange{name, "PATCH", apiMe, p.access, body, 422, "validation_failed", details}
	}
	drain(a)
	a.want(a.do("POST", apiReset, "", obj{"email": "ada@example.org"}), 202, "")
	reset := a.mail().token()
	a.run(patch("no password", obj{"password": otherPassword}, obj{"current_password": "required"}),
		patch("wrong", obj{"password": otherPassword, "current_password": "wrong"}, obj{"current_password": "wrong"}),
		patch("unchanged", obj{"password": testPassword, "current_password": testPassword}, obj{"password": "unchanged"}),
		patch("short", obj{"password": "short", "current_password": testPassword}, obj{"password": "too_short"}),
		patch("the email", obj{"password": "it is ada@example.org", "current_password": testPassword}, obj{"password": "contains_email"}),
		patch("the new email", obj{"password": "it is grace!", "email": "grace@example.org", "current_password": testPassword}, obj{"password": "contains_email"}))
	a.live("after refusals", p)
	a.want(a.do("PATCH", apiMe, p.access, obj{"password": otherPassword, "current_password": testPassword}), 200, "")
	a.dead("the session that changed it", p)
	a.dead("another session", phone)
	a.live("somebody else's", bert)
	if m := a.mail(); m.To != "ada@example.org" || m.Subject != noticePasswordChanged.subject {
		t.Errorf("mail: got %+v, want the notice", m)
	}
	a.run(exchange{"an older reset link", "POST", apiConfirm, "", obj{"token": reset, "password": "yet another password"}, 401, "invalid_token", nil})
	a.want(a.tryLogin("ada@example.org", testPassword), 401, "invalid_credentials")
	a.want(a.tryLogin("ada@example.org", otherPassword), 200, "")
}

func TestEndpointSessions(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	a.register("bert@example.org")
	one, two, three, bert := a.login("ada@example.org"), a.login("ada@example.org"), a.login("ada@example.org"), a.login("bert@example.org")
	list := a.want(a.do("GET", apiMe+"/sessions", two.access, nil), 200, "").items(t)
	current := map[string]bool{}
	for _, item := range list {
		wantNames(t, "session", item, "id", "created_at", "last_used", "expires_at", "ip", "user_agent", "current")
		wantFields(t, "session", item, obj{"ip": "127.0.0.1", "user_agent": "Go-http-client/1.1"})
		current[item["id"].(string)] = item["current"].(bool)
	}
	if want := map[string]bool{one.session: false, two.session: true, three.session: false}; !reflect.DeepEqual(current, want) {
		t.Errorf("sessions: got %v, want %v", current, want)
	}
	end := func(name, sessionID string, status int, code string) exchange {
		return exchange{name, "DELETE", apiMe + "/sessions/" + sessionID, two.access, nil, status, code, nil}
	}
	a.run(end("another's", bert.session, 404, "not_found"), end("nobody's", someID, 404, "not_found"),
		end("one's own", one.session, 204, ""), end("again", one.session, 404, "not_found"))
	a.dead("ended", one)
	a.live("another's", bert)
	a.live("third", three)
	a.want(a.do("DELETE", apiMe+"/sessions", two.access, nil), 204, "")
	a.dead("ended with the others", three)
	a.live("the present one", two)
	a.live("another's", bert)
	a.run(end("the present one", two.session, 204, ""))
	a.dead("the present one", two)
	four := a.login("ada@example.org")
	a.advance(7*24*time.Hour + time.Second)
	five := a.login("ada@example.org")
	if items := a.do("GET", apiMe+"/sessions", five.access, nil).items(t); len(items) != 1 || items[0]["id"] != five.session {
		t.Errorf("sessions: got %v, want %s alone: %s is idle for too long", items, five.session, four.session)
	}
}

func TestEndpointExport(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	userID := a.register("ada@example.org")
	a.register("bert@example.org")
	p := a.login("ada@example.org")
	a.login("bert@example.org")
	got := a.want(a.do("GET", apiMe+"/export", p.access, nil), 200, "")
	body := got.json(t)
	wantNames(t, "export", body, "user", "sessions", "audit_log", "audit_log_complete")
	wantFields(t, "user", body["user"].(obj), obj{"id": userID, "email": "ada@example.org"})
	sessions, audit := body["sessions"].([]any), body["audit_log"].([]any)
	if len(sessions) != 1 || sessions[0].(obj)["id"] != p.session || body["audit_log_complete"] != true {
		t.Errorf("export: got %s, want one session and the whole log", got.body)
	}
	var actions []string
	for _, item := range audit {
		wantFields(t, "audit", item.(obj), obj{"user_id": userID})
		actions = append(actions, item.(obj)["action"].(string))
	}
	if want := []string{"auth.login", "auth.register"}; !slices.Equal(actions, want) {
		t.Errorf("audit: got %q, want %q, newest first", actions, want)
	}
	for _, secret := range []string{"argon2", "password", "bert", p.refresh} {
		if strings.Contains(got.body, secret) {
			t.Errorf("export holds %q: %s", secret, got.body)
		}
	}
}

func TestEndpointDeleteSelf(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	oldID := a.register("ada@example.org")
	drain(a)
	p, phone := a.login("ada@example.org"), a.login("ada@example.org")
	a.want(a.do("POST", apiReset, "", obj{"email": "ada@example.org"}), 202, "")
	reset := a.mail().token()
	del := func(name string, body any, status int, code string, details obj) exchange {
		return exchange{name, "DELETE", apiMe, p.access, body, status, code, details}
	}
	a.run(del("no body", nil, 422, "validation_failed", obj{"current_password": "required"}),
		del("wrong", obj{"current_password": "wrong"}, 422, "validation_failed", obj{"current_password": "wrong"}),
		del("right", obj{"current_password": testPassword}, 204, "", nil))
	a.dead("the session that deleted", p)
	a.dead("another session", phone)
	a.want(a.tryLogin("ada@example.org", testPassword), 401, "invalid_credentials")
	if everything := a.data(); strings.Contains(everything, "ada@example.org") || strings.Count(everything, oldID) > 0 {
		t.Errorf("data of the deleted user is left: %s", everything)
	}
	if got := a.count(`SELECT count(*) FROM audit_log WHERE metadata::text LIKE '%ada@%'`); got != 0 || strings.Contains(a.log.String(), "ada@example.org") {
		t.Errorf("got %d audit rows with the email, or a log that holds it; want none", got)
	}
	newID := a.register("ada@example.org")
	if newID == oldID {
		t.Errorf("registered again: got the old id %s, want a new one", newID)
	}
	a.dead("the session of the old account", p)
	a.run(exchange{"the old account's reset link", "POST", apiConfirm, "", obj{"token": reset, "password": otherPassword}, 401, "invalid_token", nil})
	if got := a.count(`SELECT count(*) FROM audit_log WHERE user_id = $1`, oldID); got < 4 {
		t.Errorf("audit rows of the old id: got %d, want at least 4", got)
	}
	if got := a.count(`SELECT count(*) FROM audit_log WHERE user_id = $1`, newID); got != 1 {
		t.Errorf("audit rows of the new id: got %d, want its registration alone", got)
	}
}

// pages walks a list from its first page and calls between after each page.
func (a *app) pages(token, path string, query url.Values, between func()) (ids []string) {
	a.t.Helper()
	for range 100 {
		got := a.want(a.do("GET", path+"?"+query.Encode(), token, nil), 200, "")
		for _, item := range got.items(a.t) {
			ids = append(ids, item["id"].(string))
		}
		next := got.text(a.t, "next_cursor")
		if next == "" {
			return ids
		}
		query.Set("cursor", next)
		between()
	}
	a.t.Fatal("the list does not end")
	return nil
}

func TestEndpointAdminList(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	adminID, root := a.admin("root@example.org")
	ids := map[string]string{adminID: "root@example.org"}
	for i := range 8 {
		email := fmt.Sprintf("m%d@example.org", i)
		ids[a.register(email)] = email
	}
	for name, query := range map[string]url.Values{"newest first": {"limit": {"3"}}, "by prefix": {"limit": {"2"}, "q": {"M"}}} {
		inserted := 0
		got := a.pages(root.access, apiUsers, query, func() {
			inserted++
			a.register(fmt.Sprintf("a%d-%d@example.org", inserted, len(query.Get("q")))) // before every place in either order
		})
		seen := map[string]bool{}
		for _, userID := range got {
			if seen[userID] {
				t.Errorf("%s: got %s twice", name, userID)
			}
			seen[userID] = true
		}
		for userID, email := range ids {
			if !seen[userID] && (query.Get("q") == "" || strings.HasPrefix(email, "m")) {
				t.Errorf("%s: %s is missing", name, email)
			}
		}
	}
	for _, email := range []string{"a%b@example.org", "a_b@example.org", "axb@example.org"} {
		a.register(email)
	}
	suspended := a.register("zoe@example.org")
	a.want(a.do("POST", apiUsers+"/"+suspended+"/status", root.access, obj{"status": "suspended", "reason": "spam"}), 200, "")
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{"q=a%25", []string{"a%b@example.org"}},
		{"q=a_", []string{"a_b@example.org"}},
		{"q=AX", []string{"axb@example.org"}},
		{"q=xb", nil},
		{"q=%25", nil},
		{"q=%5C", nil},
		{"q='", nil},
		{"email=Zoe@Example.org", []string{"zoe@example.org"}},
		{"email=zoe", nil},
		{"email=%25", nil},
		{"status=suspended", []string{"zoe@example.org"}},
		{"status=suspended&q=zo", []string{"zoe@example.org"}},
		{"status=active&email=zoe@example.org", nil},
		{"status=pending", nil},
	} {
		var got []string
		list := a.want(a.do("GET", apiUsers+"?"+tt.query, root.access, nil), 200, "")
		for _, item := range list.items(t) {
			wantNames(t, "admin user", item, append([]string{"failed_attempts", "locked_until"}, userFields...)...)
			got = append(got, item["email"].(string))
		}
		if !slices.Equal(got, tt.want) || !strings.Contains(list.body, `"next_cursor":null`) || !strings.Contains(list.body, `"items":[`) {
			t.Errorf("%s: got %s, want %q", tt.query, list.body, tt.want)
		}
	}
}

func TestEndpointAdminListLimit(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	a.sql(`INSERT INTO users (id, email, status, scope, created_at, updated_at)
		SELECT gen_random_uuid(), 'u' || n || '@example.org', 'active', '{user}', now(), now() FROM generate_series(1, 209) AS n`)
	for query, want := range map[string]int{"": 50, "?limit=1": 1, "?limit=200": 200, "?limit=200&q=u": 200} {
		if got := len(a.want(a.do("GET", apiUsers+query, root.access, nil), 200, "").items(t)); got != want {
			t.Errorf("%q: got %d, want %d", query, got, want)
		}
	}
	if got := len(a.pages(root.access, apiUsers, url.Values{}, func() {})); got != 210 {
		t.Errorf("all pages: got %d users, want 210", got)
	}
}

func TestEndpointAdminCreate(t *testing.T) {
	t.Parallel()
	for _, mailOn := range []bool{true, false} {
		t.Run(fmt.Sprint("mail ", mailOn), func(t *testing.T) {
			t.Parallel()
			settings := []string{}
			if !mailOn {
				settings = []string{"USERSPACE_SMTP_URL=", "USERSPACE_MAIL_FROM="}
			}
			a := newApp(t, settings...)
			_, root := a.admin("root@example.org")
			create := func(body obj) reply { return a.do("POST", apiUsers, root.access, body) }
			got := a.want(create(obj{"email": "Ada@example.org", "password": testPassword, "scope": []string{"user", "introspect"}, "profile": obj{"a": 1}}), 201, "").json(t)
			wantNames(t, "created", got, append([]string{"failed_attempts", "locked_until"}, userFields...)...)
			wantFields(t, "created", got, obj{"email": "ada@example.org", "status": "active", "email_verified": false,
				"scope": []any{"user", "introspect"}, "profile": obj{"a": 1.0}, "failed_attempts": 0.0, "locked_until": nil})
			a.login("ada@example.org")

			invited := a.want(create(obj{"email": "bert@example.org"}), 201, "")
			wantFields(t, "invited", invited.json(t), obj{"status": "pending", "scope": []any{"user"}})
			a.want(a.tryLogin("bert@example.org", testPassword), 401, "invalid_credentials")
			link := invited.text(t, "set_password_link")
			token := link[strings.LastIndex(link, "=")+1:]
			if mailOn {
				if link != "" {
					t.Errorf("set_password_link: got %q, want none: it was mailed", link)
				}
				token = a.mail().token()
			} else if !strings.HasPrefix(link, "http://localhost:8080/reset") || !strings.HasPrefix(token, "uspr_") {
				t.Errorf("set_password_link: got %q, want one of ours", link)
			}
			a.advance(23 * time.Hour)
			a.want(a.do("POST", apiConfirm, "", obj{"token": token, "password": otherPassword}), 204, "")
			a.want(a.tryLogin("bert@example.org", otherPassword), 200, "")
			root = a.login("root@example.org")

			users := a.count(`SELECT count(*) FROM users`)
			refused := func(name string, body obj, status int, code string, details obj) exchange {
				return exchange{name, "POST", apiUsers, root.access, body, status, code, details}
			}
			a.run(refused("taken", obj{"email": "ADA@example.org"}, 409, "email_taken", nil),
				refused("taken with password", obj{"email": "ada@example.org", "password": testPassword}, 409, "email_taken", nil),
				refused("nothing", obj{}, 422, "validation_failed", obj{"email": "required"}),
				refused("short", obj{"email": "c@example.org", "password": "short"}, 422, "validation_failed", obj{"password": "too_short"}),
				refused("empty password", obj{"email": "c@example.org", "password": ""}, 422, "validation_failed", obj{"password": "required"}),
				refused("no scope", obj{"email": "c@example.org", "scope": []string{}}, 422, "validation_failed", obj{"scope": "required"}),
				refused("bad scope", obj{"email": "c@example.org", "scope": []string{"A b"}}, 422, "validation_failed", obj{"scope": "invalid"}),
				refused("scope twice", obj{"email": "c@example.org", "scope": []string{"user", "user"}}, 422, "validation_failed", obj{"scope": "invalid"}),
				refused("status", obj{"email": "c@example.org", "status": "active"}, 400, "invalid_request", obj{"status": "unknown"}))
			if got := a.count(`SELECT count(*) FROM users`); got != users {
				t.Errorf("users: got %d, want %d", got, users)
			}
		})
	}
}

func TestEndpointAdminUser(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	adaID := a.register("ada@example.org")
	path := apiUsers + "/" + adaID
	p := a.login("ada@example.org")
	a.wrong("ada@example.org", 5)
	got := a.want(a.do("GET", path, root.access, nil), 200, "").json(t)
	wantFields(t, "user", got, obj{"id": adaID, "failed_attempts": 5.0, "status": "active"})
	if got["locked_until"] == nil {
		t.Error("locked_until: got null, want a time")
	}
	a.advance(30 * time.Second)

	a.want(a.do("DELETE", path+"/sessions", root.access, nil), 204, "")
	a.dead("sessions revoked", p)
	p = a.login("ada@example.org")

	got = a.want(a.do("PUT", path+"/scope", root.access, obj{"scope": []string{"user", "introspect"}}), 200, "").json(t)
	wantFields(t, "scope", got, obj{"scope": []any{"user", "introspect"}})
	a.dead("scope changed", p)
	p = a.login("ada@example.org")
	a.want(a.do("PUT", path+"/scope", root.access, obj{"scope": []string{"user", "introspect"}}), 200, "")
	a.live("scope unchanged", p)

	suspend := obj{"status": "suspended", "reason": "spam"}
	got = a.want(a.do("POST", path+"/status", root.access, suspend), 200, "").json(t)
	wantFields(t, "status", got, obj{"status": "suspended"})
	a.dead("suspended", p)
	a.want(a.tryLogin("ada@example.org", testPassword), 403, "account_suspended")
	if got := a.count(`SELECT count(*) FROM audit_log WHERE action = 'admin.user_status' AND user_id = $1 AND metadata->>'reason' = 'spam'
		AND metadata->>'from' = 'active' AND metadata->>'to' = 'suspended'`, adaID); got != 1 {
		t.Errorf("audit rows with the reason: got %d, want 1", got)
	}
	a.want(a.do("POST", path+"/status", root.access, obj{"status": "active", "reason": "sorry"}), 200, "")
	a.dead("active again: the old session stays dead", p)
	p = a.login("ada@example.org")

	admin := func(name, method, path string, body any, status int, code string, details obj) exchange {
		return exchange{name, method, apiUsers + path, root.access, body, status, code, details}
	}
	nobody := "/" + someID
	a.run(
		admin("nobody", "GET", nobody, nil, 404, "not_found", nil),
		admin("delete nobody", "DELETE", nobody, nil, 404, "not_found", nil),
		admin("status of nobody", "POST", nobody+"/status", suspend, 404, "not_found", nil),
		admin("scope of nobody", "PUT", nobody+"/scope", obj{"scope": []string{"user"}}, 404, "not_found", nil),
		admin("sessions of nobody", "DELETE", nobody+"/sessions", nil, 404, "not_found", nil),
		admin("pending", "POST", "/"+adaID+"/status", obj{"status": "pending", "reason": "x"}, 422, "validation_failed", obj{"status": "invalid"}),
		admin("no reason", "POST", "/"+adaID+"/status", obj{"status": "suspended"}, 422, "validation_failed", obj{"reason": "required"}),
		admin("long reason", "POST", "/"+adaID+"/status", obj{"status": "suspended", "reason": strings.Repeat("ä", 501)}, 422, "validation_failed", obj{"reason": "too_long"}),
		admin("empty status", "POST", "/"+adaID+"/status", obj{}, 422, "validation_failed", obj{"status": "required", "reason": "required"}),
		admin("empty scope", "PUT", "/"+adaID+"/scope", obj{"scope": []string{}}, 422, "validation_failed", obj{"scope": "required"}),
		admin("no scope", "PUT", "/"+adaID+"/scope", obj{}, 422, "validation_failed", obj{"scope": "required"}),
		admin("21 scopes", "PUT", "/"+adaID+"/scope", obj{"scope": manyScopes(21)}, 422, "validation_failed", obj{"scope": "too_long"}),
		admin("id in the body", "PUT", "/"+adaID+"/scope", obj{"scope": []string{"user"}, "id": someID}, 400, "invalid_request", obj{"id": "unknown"}),
		admin("delete", "DELETE", "/"+adaID, nil, 204, "", nil),
		admin("deleted", "GET", "/"+adaID, nil, 404, "not_found", nil))
	a.dead("deleted", p)
}

func manyScopes(n int) []string {
	scopes := make([]string, n)
	for i := range scopes {
		scopes[i] = fmt.Sprintf("scope%d", i)
	}
	return scopes
}

func TestEndpointLastAdmin(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	firstID, first := a.admin("root@example.org")
	a.register("ada@example.org")
	path := apiUsers + "/" + firstID
	removals := func(token string, status int, code string) []exchange {
		return []exchange{
			{"delete", "DELETE", path, token, nil, status, code, nil},
			{"suspend", "POST", path + "/status", token, obj{"status": "suspended", "reason": "x"}, status, code, nil},
			{"demote", "PUT", path + "/scope", token, obj{"scope": []string{"user"}}, status, code, nil},
			{"delete self", "DELETE", apiMe, token, obj{"current_password": testPassword}, status, code, nil},
		}
	}
	before := a.data()
	a.run(removals(first.access, 409, "last_admin")...)
	secondID, second := a.admin("second@example.org")
	a.want(a.do("POST", apiUsers+"/"+secondID+"/status", first.access, obj{"status": "suspended", "reason": "x"}), 200, "")
	a.run(removals(first.access, 409, "last_admin")...) // one who is suspended does not count
	a.want(a.do("DELETE", apiUsers+"/"+secondID, first.access, nil), 204, "")
	a.dead("second", second)
	a.sql(`DELETE FROM revoked_tokens`)
	if after := a.data(); after != before {
		t.Errorf("refused removals changed data: got\n%s\nwant\n%s", after, before)
	}
	a.live("the session of the one who tried", first)
	a.want(a.do("PUT", path+"/scope", first.access, obj{"scope": []string{"admin", "user"}}), 200, "")
	a.dead("scope in another order is another scope", first)
	first = a.login("root@example.org")
	_, third := a.admin("third@example.org")
	a.run(removals(third.access, 200, "")[2])
	a.dead("demoted by the other", first)
}

func TestEndpointAuditLog(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	adminID, root := a.admin("root@example.org")
	adaID := a.register("ada@example.org")
	p := a.login("ada@example.org")
	a.wrong("ada@example.org", 1)
	denied := a.want(a.do("GET", apiUsers, p.access, nil), 403, "insufficient_scope")
	middle := a.clock().UTC()
	a.advance(time.Hour)
	root = a.login("root@example.org")
	a.want(a.do("POST", apiUsers+"/"+adaID+"/status", root.access, obj{"status": "suspended", "reason": "line\u2028 <b>\u202e\""}), 200, "")
	at := middle.Add(30 * time.Minute).Format(time.RFC3339Nano)
	list := func(query string) reply {
		t.Helper()
		return a.want(a.do("GET", "/api/v1/admin/audit-log?"+query, root.access, nil), 200, "")
	}
	for query, condition := range map[string]string{
		"":                    "true",
		"limit=200":           "true",
		"user_id=" + adaID:    "user_id = '" + adaID + "'",
		"actor_id=" + adminID: "actor_id = '" + adminID + "'",
		"action=auth.login":   "action = 'auth.login'",
		"action=auth.":        "action LIKE 'auth.%'",
		"action=auth":         "false",
		"action=admin.":       "action LIKE 'admin.%'",
		"status=denied":       "status = 'denied'",
		"status=failure":      "status = 'failure'",
		"ip=127.0.0.1":        "ip = '127.0.0.1'",
		"ip=127.0.0.2":        "false",
		"ip=%3A%3A1":          "false",
		"trace_id=" + denied.header.Get("X-Request-Id"): "trace_id = '" + denied.header.Get("X-Request-Id") + "'",
		"from=" + at:               "timestamp >= '" + at + "'",
		"to=" + at:                 "timestamp < '" + at + "'",
		"from=" + at + "&to=" + at: "false",
		"user_id=" + adaID + "&actor_id=" + adminID + "&action=admin.user_status&status=success&from=" + at: "action = 'admin.user_status'",
	} {
		want := a.count(`SELECT count(*) FROM audit_log WHERE ` + condition)
		got := list(query)
		items := got.items(t)
		if len(items) != want || want == 0 && condition != "false" {
			t.Errorf("%s: got %d rows, want %d (and some)", query, len(items), want)
		}
		for i, item := range items {
			wantNames(t, "audit item", item, "id", "timestamp", "trace_id", "user_id", "actor_id", "ip", "action", "status", "duration_ms", "metadata")
			if i > 0 && items[i-1]["id"].(string) <= item["id"].(string) {
				t.Errorf("%s: got %v after %v, want the newest first", query, item["id"], items[i-1]["id"])
			}
			if a.count(`SELECT count(*) FROM audit_log WHERE id = $1::text::uuid AND `+condition, item["id"]) != 1 {
				t.Errorf("%s: got %v, which does not fit", query, item)
			}
		}
	}
	before := a.count(`SELECT count(*) FROM audit_log`)
	seen := map[string]bool{}
	for _, auditID := range a.pages(root.access, "/api/v1/admin/audit-log", url.Values{"limit": {"7"}}, func() {}) { // each page adds a row
		if seen[auditID] {
			t.Errorf("pages: got %s twice", auditID)
		}
		seen[auditID] = true
	}
	if len(seen) != before {
		t.Errorf("pages: got %d rows, want %d", len(seen), before)
	}
	if got := list("action=admin.user_status").items(t); got[0]["metadata"].(obj)["reason"] != "line\u2028 <b>\u202e\"" {
		t.Errorf("reason: got %v, want it as it was given", got[0]["metadata"])
	}
}

func TestEndpointReset(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	_, root := a.admin("root@example.org")
	adaID := a.register("ada@example.org")
	drain(a)
	p := a.login("ada@example.org")
	ask := func(email string) reply { return a.want(a.do("POST", apiReset, "", obj{"email": email}), 202, "") }
	confirm := func(name, token, password string, status int, code string, details obj) exchange {
		return exchange{name, "POST", apiConfirm, "", obj{"token": token, "password": password}, status, code, details}
	}
	known, unknown := ask("ADA@example.org"), ask("nobody@example.org")
	wantFields(t, "answer", known.json(t), obj{"status": "reset_sent"})
	if known.body != unknown.body || len(known.header) != len(unknown.header) {
		t.Errorf("answers differ: known %v %s, unknown %v %s", known.header, known.body, unknown.header, unknown.body)
	}
	old := a.mail()
	if old.To != "ada@example.org" || !strings.HasPrefix(old.token(), "uspr_") || !strings.Contains(old.Text, "http://localhost:8080/") {
		t.Errorf("mail: got %+v, want a link of ours to ada@example.org", old)
	}
	ask("ada@example.org")
	token := a.mail().token()
	if a.data(); len(a.mails) != 0 {
		t.Errorf("mails: got %d more, want none: nobody@example.org has no account", len(a.mails))
	}
	if strings.Contains(a.data(), token) || strings.Contains(a.log.String(), token) {
		t.Error("the token is in the database or the log")
	}
	a.run(confirm("an older one", old.token(), otherPassword, 401, "invalid_token", nil),
		confirm("space", token+" ", otherPassword, 401, "invalid_token", nil),
		confirm("other case", strings.ToUpper(token), otherPassword, 401, "invalid_token", nil),
		confirm("no prefix", strings.TrimPrefix(token, "uspr_"), otherPassword, 401, "invalid_token", nil),
		confirm("short password", token, "short", 422, "validation_failed", obj{"password": "too_short"}),
		confirm("password with the email", token, "i am ada@example.org", 422, "validation_failed", obj{"password": "contains_email"}),
		exchange{"as a verify token", "POST", apiVerify, "", obj{"token": token}, 401, "invalid_token", nil},
		confirm("good", token, otherPassword, 204, "", nil),
		confirm("again", token, "yet another password", 401, "invalid_token", nil))
	a.dead("sessions from before", p)
	a.want(a.tryLogin("ada@example.org", testPassword), 401, "invalid_credentials")
	p = a.pair(a.want(a.tryLogin("ada@example.org", otherPassword), 200, ""))
	wantFields(t, "user", a.do("GET", apiMe, p.access, nil).json(t), obj{"email_verified": true}) // the link came by mail
	if m := a.mail(); m.Subject != noticePasswordChanged.subject {
		t.Errorf("mail: got %+v, want the notice", m)
	}

	ask("ada@example.org")
	late := a.mail().token()
	a.advance(30*time.Minute + time.Second)
	a.run(confirm("after 30 min", late, testPassword, 401, "invalid_token", nil))
	ask("ada@example.org")
	timely := a.mail().token()
	a.advance(29 * time.Minute)
	root = a.login("root@example.org")
	a.want(a.do("POST", apiUsers+"/"+adaID+"/status", root.access, obj{"status": "suspended", "reason": "spam"}), 200, "")
	a.run(confirm("before 30 min, suspended", timely, testPassword, 204, "", nil))
	a.want(a.tryLogin("ada@example.org", testPassword), 403, "account_suspended")
}

func TestEndpointVerify(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.register("ada@example.org")
	first := a.mail().token()
	resend := func(email string) string {
		t.Helper()
		got := a.want(a.do("POST", apiResend, "", obj{"email": email}), 202, "")
		wantFields(t, "answer", got.json(t), obj{"status": "verification_sent"})
		return got.body
	}
	known := resend("Ada@example.org")
	second := a.mail()
	if unknown := resend("nobody@example.org"); unknown != known || second.To != "ada@example.org" {
		t.Errorf("got %s and %s with mail to %s, want one answer and a mail to ada", known, unknown, second.To)
	}
	verify := func(name, token string, status int, code string) exchange {
		return exchange{name, "POST", apiVerify, "", obj{"token": token}, status, code, nil}
	}
	a.run(verify("older", first, 401, "invalid_token"),
		exchange{"as a reset token", "POST", apiConfirm, "", obj{"token": second.token(), "password": otherPassword}, 401, "invalid_token", nil},
		verify("good", second.token(), 204, ""), verify("again", second.token(), 401, "invalid_token"))
	resend("ada@example.org") // confirmed already
	if a.data(); len(a.mails) != 0 {
		t.Errorf("mails: got %d more, want none", len(a.mails))
	}
	a.register("bert@example.org")
	late := a.mail().token()
	a.advance(24*time.Hour + time.Second)
	a.run(verify("after a day", late, 401, "invalid_token"))
	wantFields(t, "user", a.do("GET", apiMe, a.login("bert@example.org").access, nil).json(t), obj{"email_verified": false})
}

func TestEndpointMailOff(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_SMTP_URL=", "USERSPACE_MAIL_FROM=")
	a.register("ada@example.org")
	p := a.login("ada@example.org")
	before := a.data()
	for _, email := range []string{"ada@example.org", "nobody@example.org"} {
		a.run(exchange{"reset", "POST", apiReset, "", obj{"email": email}, 202, "", nil},
			exchange{"resend", "POST", apiResend, "", obj{"email": email}, 202, "", nil})
	}
	if after := a.data(); after != before {
		t.Errorf("asking for mail with mail off changed data: got\n%s\nwant\n%s", after, before)
	}
	a.want(a.do("PATCH", apiMe, p.access, obj{"email": "new@example.org", "password": otherPassword, "current_password": testPassword}), 200, "")
	a.want(a.tryLogin("new@example.org", otherPassword), 200, "")
}

func TestEndpointDocuments(t *testing.T) {
	t.Parallel()
	const issuer, key = "https://id.example.org", "a shared secret of more than thirty-two bytes"
	for _, tt := range []struct {
		name     string
		settings []string
		alg      string
	}{
		{"EdDSA", nil, "EdDSA"},
		{"HS256", []string{"USERSPACE_JWT_ALG=HS256", "USERSPACE_HS256_KEY=" + key}, "HS256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, append([]string{"USERSPACE_URL=" + issuer}, tt.settings...)...)
			a.register("ada@example.org")
			p := a.login("ada@example.org")
			a.live("a token of its own", p)
			head, _ := unb64(strings.Split(p.access, ".")[0])
			var header struct{ Alg, Typ, Kid string }
			if err := json.Unmarshal(head, &header); err != nil || header.Alg != tt.alg || header.Typ != "at+jwt" || header.Kid == "" {
				t.Errorf("token header: got %s, want %s, at+jwt and a kid", head, tt.alg)
			}
			meta := a.want(a.do("GET", "/.well-known/oauth-authorization-server", "", nil), 200, "").json(t)
			wantFields(t, "metadata", meta, obj{"issuer": issuer, "access_token_signing_alg_values_supported": []any{tt.alg}})
			jwks := a.do("GET", "/.well-known/jwks.json", "", nil)
			if tt.alg == "HS256" {
				a.want(jwks, 404, "not_found")
				if !strings.Contains(jwks.text(t, "error", "message"), "HS256") || strings.Contains(jwks.body, key) || meta["jwks_uri"] != nil {
					t.Errorf("got %s and jwks_uri %v, want a message that says why, and no address", jwks.body, meta["jwks_uri"])
				}
				return
			}
			wantFields(t, "metadata", meta, obj{"jwks_uri": issuer + "/.well-known/jwks.json"})
			keys, _ := jwks.json(t)["keys"].([]any)
			if len(keys) != 1 {
				t.Fatalf("keys: got %s, want 1", jwks.body)
			}
			wantNames(t, "key", keys[0].(obj), "kty", "crv", "x", "kid", "use", "alg") // and no d
			wantFields(t, "key", keys[0].(obj), obj{"kty": "OKP", "crv": "Ed25519", "kid": header.Kid, "use": "sig", "alg": "EdDSA"})
		})
	}
}

func TestEndpointHealth(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	wantFields(t, "healthz", a.want(a.do("GET", "/healthz", "", nil), 200, "").json(t), obj{"status": "ok"})
	ready := a.want(a.do("GET", "/readyz", "", nil), 200, "").json(t)
	wantFields(t, "readyz", ready, obj{"status": "ready", "checks": obj{"database": "ok", "schema": "ok", "draining": "ok"}})
	a.health.draining.Store(true)
	got := a.do("GET", "/readyz", "", nil)
	a.run(exchange{"draining", "GET", "/readyz", "", nil, 503, "overloaded", obj{"database": "ok", "schema": "ok", "draining": "stopping"}},
		exchange{"alive while draining", "GET", "/healthz", "", nil, 200, "", nil})
	if got.header.Get("Retry-After") == "" {
		t.Error("Retry-After: got none on 503")
	}
	a.health.draining.Store(false)
	a.sql(`UPDATE schema_migrations SET version = version + 100 WHERE version = (SELECT max(version) FROM schema_migrations)`)
	old := &health{store: a.s.store}
	if _, err := old.ready(context.Background(), nil, nothing{}); err == nil {
		t.Error("readyz with another schema: got no error, want one")
	}
}

func TestEndpointRateLimit(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_RATE_CREDENTIALS=3/1m", "USERSPACE_RATE_API=5/1s")
	_, root := a.admin("root@example.org") // one of the three
	a.want(a.tryLogin("a@example.org", "wrong"), 401, "invalid_credentials")
	a.want(a.do("POST", apiReset, "", obj{"email": "a@example.org"}), 202, "") // one bucket for all that takes credentials
	before := a.count(`SELECT count(*) FROM audit_log`)
	for _, forwarded := range []string{"", "192.0.2.1", "192.0.2.2, 192.0.2.3"} { // nobody is trusted to say where it is from
		got := a.send("POST", apiLogin, map[string][]string{"Content-Type": {"application/json"}, "X-Forwarded-For": {forwarded},
			"X-Real-Ip": {forwarded}, "Forwarded": {"for=" + forwarded}}, strings.NewReader(`{"email":"root@example.org","password":"`+testPassword+`"}`))
		a.want(got, 429, "rate_limited")
		after, _ := strconv.Atoi(got.header.Get("Retry-After"))
		if after < 1 || after > 20 || got.header.Get("Ratelimit-Limit") != "3" || got.header.Get("Ratelimit-Remaining") != "0" ||
			got.header.Get("Ratelimit-Reset") != got.header.Get("Retry-After") {
			t.Errorf("got headers %v, want 3 in 60 s", got.header)
		}
	}
	if got := a.count(`SELECT count(*) FROM audit_log`); got != before {
		t.Errorf("audit rows: got %d, want %d: refusals by rate are in the log alone", got, before)
	}
	a.advance(20 * time.Second)
	a.want(a.tryLogin("root@example.org", testPassword), 200, "")
	a.want(a.tryLogin("root@example.org", testPassword), 429, "rate_limited")
	limited := 0
	for range 8 { // within a second, or a slow machine gets a few more
		if a.do("GET", apiMe, root.access, nil).code() == "rate_limited" {
			limited++
		}
	}
	if limited == 0 {
		t.Error("8 requests of one user at once: got none limited, want some of them")
	}
	a.want(a.do("GET", "/healthz", "", nil), 200, "")
}

func TestEndpointRehash(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	a := newAppOn(t, database)
	a.register("ada@example.org")
	stronger := newAppOn(t, database, "USERSPACE_ARGON2=m=128,t=1,p=1")
	costs := func() int {
		return a.count(`SELECT count(*) FROM users WHERE password_hash LIKE '$argon2id$v=19$m=128,t=1,p=1$%'`)
	}
	stronger.want(stronger.tryLogin("ada@example.org", "wrong"), 401, "invalid_credentials")
	if costs() != 0 {
		t.Error("a wrong password was hashed anew")
	}
	stronger.login("ada@example.org")
	if costs() != 1 {
		t.Error("the hash keeps its old costs after a sign-in")
	}
	a.login("ada@example.org") // and an instance with the old settings takes it
}
