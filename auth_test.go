package main

import "testing"

// TestFirstDay is the main job, in the order a person does it.
func TestFirstDay(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	userID := a.register("Ada@Example.org")
	verify := a.mail().token()
	a.want(a.do("POST", "/api/v1/auth/email/verify", "", map[string]any{"token": verify}), 204, "")
	first := a.login("ada@example.org")
	me := a.want(a.do("GET", "/api/v1/users/me", first.access, nil), 200, "")
	if got := me.text(t, "id"); got != userID {
		t.Errorf("id: got %s, want %s", got, userID)
	}
	if me.json(t)["email_verified"] != true {
		t.Errorf("email_verified: got %v", me.body)
	}
	second := a.pair(a.want(a.refresh(first.refresh), 200, ""))
	a.want(a.do("PATCH", "/api/v1/users/me", second.access, map[string]any{"profile": map[string]any{"name": "Ada"}}), 200, "")
	a.want(a.do("DELETE", "/api/v1/auth/logout", second.access, nil), 204, "")
	for _, token := range []string{first.access, second.access} {
		a.want(a.do("GET", "/api/v1/users/me", token, nil), 401, "invalid_token")
	}
	a.want(a.refresh(second.refresh), 401, "invalid_token")
	for _, action := range []string{"auth.register", "auth.email_verify", "auth.login", "auth.refresh", "user.update", "auth.logout"} {
		if got := a.audits(action, "success"); got != 1 {
			t.Errorf("audit rows of %s: got %d, want 1", action, got)
		}
	}
}
