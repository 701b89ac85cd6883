package main

// What a stranger or a user can do to others by doing an allowed thing slowly or often.

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestSlowBodyOfEndedSession: who is signed out while the body of a request is on its way does not act by it.
func TestSlowBodyOfEndedSession(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.admin("root@example.org")
	victim, tokens := a.admin("second@example.org")
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	body := `{"scope":["user","admin","extra"]}`
	fmt.Fprintf(conn, "PUT /api/v1/admin/users/%s/scope HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
		victim, tokens.access, len(body))
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
		t.Fatal(err) // the service asks for the body after it has checked the token
	}
	a.want(a.do("DELETE", apiLogout, tokens.access, nil), 204, "")
	io.WriteString(conn, body)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") {
		t.Errorf("got %.40q, %v, want a 401", answer, err)
	}
	if got := a.count(`SELECT count(*) FROM users WHERE 'extra' = ANY (scope)`); got != 0 {
		t.Errorf("changed scopes: got %d, want 0", got)
	}
}

// TestDeniedRequestsAreLimited: denials are on record, so a user must not be able to make them without end.
func TestDeniedRequestsAreLimited(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_RATE_API=10/1h")
	a.register("ada@example.org")
	p := a.login("ada@example.org")
	for i := range 30 {
		want := 403
		if i >= 10 {
			want = 429
		}
		if got := a.do("GET", apiUsers, p.access, nil); got.status != want {
			t.Fatalf("request %d: got %d, want %d", i, got.status, want)
		}
	}
	if got := a.audits("admin.users_list", "denied"); got != 10 {
		t.Errorf("audit rows: got %d, want 10", got)
	}
}

// TestMailsToOneAccountAreBounded, in each of the ways a stranger or a user has to cause them.
func TestMailsToOneAccountAreBounded(t *testing.T) {
	t.Parallel()
	a := newApp(t, "USERSPACE_REGISTRATION=verified")
	register := func(email string) {
		a.want(a.do("POST", apiRegister, "", obj{"email": email, "password": testPassword}), 202, "")
	}
	register("ada@example.org")
	a.want(a.do("POST", apiVerify, "", obj{"token": a.mail().token()}), 204, "")
	queued := func() int { // mails sent or still to be sent, this far
		deadline := time.Now().Add(10 * time.Second)
		for a.count(`SELECT count(*) FROM outbox`) > 0 && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		return len(a.mails)
	}
	var last string
	for range 8 {
		a.want(a.do("POST", apiReset, "", obj{"email": "ada@example.org"}), 202, "")
	}
	if got := queued(); got != maxMails {
		t.Errorf("reset mails: got %d, want %d", got, maxMails)
	}
	for len(a.mails) > 0 {
		last = a.mail().token()
	}
	// The last link outlives the window, and the cleaner does not start the count anew before it is over.
	a.advance(mailWindow - time.Minute)
	if err := a.s.cleanTables(t.Context(), a.s.now()); err != nil {
		t.Fatal(err)
	}
	a.want(a.do("POST", apiReset, "", obj{"email": "ada@example.org"}), 202, "")
	if got := queued(); got != 0 {
		t.Errorf("reset mails within the window: got %d more, want 0", got)
	}
	a.want(a.do("POST", apiConfirm, "", obj{"token": last, "password": testPassword}), 204, "")
	drain(a)

	for range 8 {
		register("ada@example.org")
	}
	if got := queued(); got != maxMails {
		t.Errorf("notices of registrations: got %d, want %d", got, maxMails)
	}
	drain(a)

	a.advance(mailWindow)
	p := a.login("ada@example.org")
	for i := range maxMails + 3 {
		status, code := 200, ""
		if i >= maxMails {
			status, code = 429, "rate_limited"
		}
		body := obj{"email": fmt.Sprintf("ada%d@example.org", i), "current_password": testPassword}
		a.want(a.do("PATCH", apiMe, p.access, body), status, code)
	}
}
