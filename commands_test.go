package main

// Commands as they are typed, and the configuration: what each setting takes and what it refuses.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// typed is what a command line did.
type typed struct {
	code           int
	stdout, stderr string
}

func typeIn(t testing.TB, env []string, stdin string, args ...string) typed {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	code := run(ctx, args, env, strings.NewReader(stdin), &stdout, &stderr)
	return typed{code, stdout.String(), stderr.String()}
}

// want checks the exit code and that each text is in the output of its stream.
func (r typed) want(t testing.TB, code int, stdout, stderr string) typed {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("got %d, stdout %q, stderr %q; want %d, %q, %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
	if code == 0 && r.stderr != "" && stderr == "" {
		t.Errorf("stderr: got %q, want nothing", r.stderr)
	}
	return r
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args           string
		env            []string
		code           int
		stdout, stderr string
	}{
		{"help", nil, 0, "usage: userspace", ""},
		{"-h", nil, 0, "healthcheck", ""},
		{"--help", nil, 0, "migrate up|down|status", ""},
		{"version", nil, 0, "userspace ", ""},
		{"version 1", nil, 2, "", "usage: userspace version"},
		{"secret now", nil, 2, "", "usage: userspace secret"},
		{"frobnicate", nil, 2, "", "userspace help"},
		{"Serve", nil, 2, "", "userspace help"},
		{"serve now", nil, 2, "", "usage: userspace serve"},
		{"healthcheck now", nil, 2, "", "usage: userspace healthcheck"},
		{"migrate", nil, 2, "", "up|down|status"},
		{"migrate sideways", testEnv("postgres://localhost/x"), 2, "", "up|down|status"},
		{"admin", nil, 2, "", "create|reset EMAIL"},
		{"admin create", nil, 2, "", "create|reset EMAIL"},
		{"admin remove ada@example.org", nil, 2, "", "create|reset EMAIL"},
		{"admin create ada", nil, 2, "", "ada"},
		{"dev now", nil, 2, "", "-data DIR"},
		{"dev -unknown", nil, 2, "", "-data DIR"},
		{"serve", nil, 1, "", "userspace dev"},
		{"serve", []string{"DATABASE_URL=postgres://localhost/x"}, 1, "", "userspace secret"},
		{"migrate status", nil, 1, "", "DATABASE_URL"},
		{"healthcheck", []string{"USERSPACE_INTERNAL_ADDR=127.0.0.1:1"}, 1, "", "USERSPACE_INTERNAL_ADDR"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			typeIn(t, test.env, "", strings.Fields(test.args)...).want(t, test.code, test.stdout, test.stderr)
		})
	}
}

func TestHelpNamesEveryCommandOnce(t *testing.T) {
	t.Parallel()
	help := typeIn(t, nil, "", "help").want(t, 0, "", "").stdout
	for _, c := range commands() {
		lines := 0
		for line := range strings.Lines(help) {
			if strings.HasPrefix(line, "  "+c.name+" ") {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%s: got %d lines, want 1", c.name, lines)
		}
	}
}

func TestSecretCommand(t *testing.T) {
	t.Parallel()
	first := strings.TrimSpace(typeIn(t, nil, "", "secret").want(t, 0, "", "").stdout)
	second := strings.TrimSpace(typeIn(t, nil, "", "secret").want(t, 0, "", "").stdout)
	if first == second {
		t.Errorf("twice the same: %q", first)
	}
	for _, secret := range []string{first, second} {
		if b, ok := unb64(secret); !ok || len(b) < minSecretBytes {
			t.Errorf("%q has %d random bytes, want %d or more", secret, len(b), minSecretBytes)
		}
		for _, name := range []string{"USERSPACE_SECRET", "USERSPACE_HS256_KEY"} {
			if _, err := loadConfig(testEnv("postgres://localhost/x", "USERSPACE_JWT_ALG=HS256", "USERSPACE_HS256_KEY=0123456789abcdef0123456789abcdef", name+"="+secret), true); err != nil {
				t.Errorf("as %s: %v", name, err)
			}
		}
	}
}

// TestConfigurationErrorsComeTogether: the start reports everything at once, before it touches the database.
func TestConfigurationErrorsComeTogether(t *testing.T) {
	t.Parallel()
	bad := []string{
		"DATABASE_URL=postgres://ada:swordfish@localhost:notaport/x", "USERSPACE_SECRET=short", "USERSPACE_URL=localhost", "USERSPACE_ADDR=nonsense",
		"USERSPACE_INTERNAL_ADDR=127.0.0.1:99999", "USERSPACE_TLS_CERT=/nonexistent", "USERSPACE_TRUSTED_PROXIES=10.0.0.0/99",
		"USERSPACE_JWT_ALG=none", "USERSPACE_ACCESS_TTL=forever", "USERSPACE_REFRESH_TTL=-1s", "USERSPACE_REGISTRATION=ajar",
		"USERSPACE_PASSWORD_MIN=3", "USERSPACE_ARGON2=fast", "USERSPACE_HASH_WORKERS=0", "USERSPACE_RATE_API=many",
		"USERSPACE_SMTP_URL=http://localhost", "USERSPACE_MAIL_FROM=nobody", "USERSPACE_RESET_LINK=https://app.example.com/reset",
		"USERSPACE_LOG_LEVEL=loud", "USERSPACE_MIGRATE=maybe", "USERSPACE_SHUTDOWN_TIMEOUT=0s",
		"USERSPACE_SECRTE=misspelled", "USERSPACE_X=1",
	}
	stderr := typeIn(t, bad, "", "serve").want(t, 1, "", "problems").stderr
	for _, setting := range bad {
		name, value, _ := strings.Cut(setting, "=")
		if !strings.Contains(stderr, "\n  "+name+": ") {
			t.Errorf("%s is not reported", setting)
		}
		if name == "USERSPACE_SECRET" && strings.Contains(stderr, value) || strings.Contains(stderr, "swordfish") {
			t.Errorf("a secret is shown: %s", stderr)
		}
	}
}

func TestConfigSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	const strong = "k3Jx9-QvT7mZ_aL0pW5sYd8RbN2hGcUf4EoI6tXyVwB"
	goodFile, emptyFile := file("good", strong+"\n", 0o600), file("empty", "\n", 0o600)
	shortFile, openFile := file("short", "short\n", 0o600), file("open", strong, 0o666)

	// Each row changes a good configuration; wantErr is the setting the error has to name, "" for none.
	tests := []struct {
		set     string // NAME=value, several with a space between
		wantErr string
	}{
		{"DATABASE_URL=", "DATABASE_URL"},
		{"DATABASE_URL=postgres://a:5432,b:5432/x?target_session_attrs=read-write", ""},
		{"USERSPACE_SECRET=", "USERSPACE_SECRET"},
		{"USERSPACE_SECRET=" + strong[:31], "USERSPACE_SECRET"},
		{"USERSPACE_SECRET=" + strong[:32], ""},
		{"USERSPACE_SECRET= USERSPACE_SECRET_FILE=" + goodFile, ""},
		{"USERSPACE_SECRET_FILE=" + goodFile, "USERSPACE_SECRET"}, // both
		{"USERSPACE_SECRET= USERSPACE_SECRET_FILE=" + emptyFile, "USERSPACE_SECRET"},
		{"USERSPACE_SECRET= USERSPACE_SECRET_FILE=" + shortFile, "USERSPACE_SECRET"},
		{"USERSPACE_SECRET= USERSPACE_SECRET_FILE=" + openFile, "USERSPACE_SECRET_FILE"},
		{"USERSPACE_SECRET= USERSPACE_SECRET_FILE=" + dir + "/absent", "USERSPACE_SECRET_FILE"},
		{"USERSPACE_URL=https://id.example.com", ""},
		{"USERSPACE_URL=https://id.example.com/accounts/", ""},
		{"USERSPACE_URL=ftp://id.example.com", "USERSPACE_URL"},
		{"USERSPACE_URL=https://id.example.com/?a=b", "USERSPACE_URL"},
		{"USERSPACE_URL=https://user@id.example.com", "USERSPACE_URL"},
		{"USERSPACE_URL=id.example.com", "USERSPACE_URL"},
		{"USERSPACE_AUDIENCE=team", ""},
		{"USERSPACE_ADDR=127.0.0.1:0", ""},
		{"USERSPACE_ADDR=[::1]:8080", ""},
		{"USERSPACE_ADDR=8080", "USERSPACE_ADDR"},
		{"USERSPACE_INTERNAL_ADDR=:9090", ""},
		{"USERSPACE_INTERNAL_ADDR=localhost", "USERSPACE_INTERNAL_ADDR"},
		{"USERSPACE_TLS_CERT=/cert", "USERSPACE_TLS_CERT"},
		{"USERSPACE_TLS_KEY=/key", "USERSPACE_TLS_CERT"},
		{"USERSPACE_TLS_CERT=/cert USERSPACE_TLS_KEY=/key", ""}, // read by serve
		{"USERSPACE_TRUSTED_PROXIES=10.0.0.0/8,::1", ""},
		{"USERSPACE_TRUSTED_PROXIES=10.0.0.0/8,proxy", "USERSPACE_TRUSTED_PROXIES"},
		{"USERSPACE_TRUSTED_PROXIES=0.0.0.0/0", "USERSPACE_TRUSTED_PROXIES"},
		{"USERSPACE_CORS_ORIGINS=https://app.example.com,http://localhost:3000", ""},
		{"USERSPACE_CORS_ORIGINS=*", "USERSPACE_CORS_ORIGINS"},
		{"USERSPACE_CORS_ORIGINS=https://app.example.com/", "USERSPACE_CORS_ORIGINS"},
		{"USERSPACE_JWT_ALG=EdDSA", ""},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY=" + strong, ""},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY_FILE=" + goodFile, ""},
		{"USERSPACE_JWT_ALG=HS256", "USERSPACE_HS256_KEY"},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY=" + strong[:31], "USERSPACE_HS256_KEY"},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY=" + strings.Repeat("a", 64), "USERSPACE_HS256_KEY"},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY=" + strings.Repeat("secret", 8), "USERSPACE_HS256_KEY"},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY=" + strings.Repeat("0123", 16), "USERSPACE_HS256_KEY"},
		{"USERSPACE_JWT_ALG=HS256 USERSPACE_HS256_KEY_FILE=" + shortFile, "USERSPACE_HS256_KEY"},
		{"USERSPACE_HS256_KEY=" + strong, "USERSPACE_HS256_KEY"}, // set, but not used
		{"USERSPACE_JWT_ALG=none", "USERSPACE_JWT_ALG"},
		{"USERSPACE_JWT_ALG=RS256", "USERSPACE_JWT_ALG"},
		{"USERSPACE_ACCESS_TTL=5m", ""},
		{"USERSPACE_ACCESS_TTL=0s", "USERSPACE_ACCESS_TTL"},
		{"USERSPACE_ACCESS_TTL=15", "USERSPACE_ACCESS_TTL"},
		{"USERSPACE_REFRESH_TTL=24h", ""},
		{"USERSPACE_REFRESH_TTL=7d", "USERSPACE_REFRESH_TTL"},
		{"USERSPACE_SESSION_TTL=48h", ""},
		{"USERSPACE_SESSION_TTL=0", "USERSPACE_SESSION_TTL"},
		{"USERSPACE_REFRESH_GRACE=0s", ""},
		{"USERSPACE_REFRESH_GRACE=1h", "USERSPACE_REFRESH_GRACE"},
		{"USERSPACE_KEY_ROTATION=off", ""},
		{"USERSPACE_KEY_ROTATION=720h", ""},
		{"USERSPACE_KEY_ROTATION=never", "USERSPACE_KEY_ROTATION"},
		{"USERSPACE_REGISTRATION=closed", ""},
		{"USERSPACE_REGISTRATION=verified", ""},
		{"USERSPACE_REGISTRATION=verified USERSPACE_SMTP_URL=", "USERSPACE_REGISTRATION"},
		{"USERSPACE_REGISTRATION=Open", "USERSPACE_REGISTRATION"},
		{"USERSPACE_PASSWORD_MIN=8", ""},
		{"USERSPACE_PASSWORD_MIN=7", "USERSPACE_PASSWORD_MIN"},
		{"USERSPACE_PASSWORD_MIN=65", "USERSPACE_PASSWORD_MIN"},
		{"USERSPACE_ARGON2=m=65536,t=3,p=4", ""},
		{"USERSPACE_ARGON2=m=4,t=1,p=1", "USERSPACE_ARGON2"},
		{"USERSPACE_ARGON2=m=99999999,t=1,p=1", "USERSPACE_ARGON2"},
		{"USERSPACE_ARGON2=t=1,m=64,p=1", "USERSPACE_ARGON2"},
		{"USERSPACE_HASH_WORKERS=4", ""},
		{"USERSPACE_HASH_WORKERS=two", "USERSPACE_HASH_WORKERS"},
		{"USERSPACE_RATE_CREDENTIALS=5/1m", ""},
		{"USERSPACE_RATE_CREDENTIALS=0/1m", "USERSPACE_RATE_CREDENTIALS"},
		{"USERSPACE_RATE_API=1000/1s", ""},
		{"USERSPACE_RATE_API=1000", "USERSPACE_RATE_API"},
		{"USERSPACE_SMTP_URL=smtps://user:secret@mail.example.com:465", ""},
		{"USERSPACE_SMTP_URL=mail.example.com", "USERSPACE_SMTP_URL"},
		{"USERSPACE_MAIL_FROM=", "USERSPACE_MAIL_FROM"},
		{"USERSPACE_MAIL_FROM=nobody", "USERSPACE_MAIL_FROM"},
		{"USERSPACE_RESET_LINK=https://app.example.com/reset?token={token}", ""},
		{"USERSPACE_RESET_LINK=https://app.example.com/reset", "USERSPACE_RESET_LINK"},
		{"USERSPACE_VERIFY_LINK=javascript:{token}", "USERSPACE_VERIFY_LINK"},
		{"USERSPACE_PAGES=off", ""},
		{"USERSPACE_PAGES=no", "USERSPACE_PAGES"},
		{"USERSPACE_LOG_LEVEL=debug", ""},
		{"USERSPACE_LOG_LEVEL=trace", "USERSPACE_LOG_LEVEL"},
		{"USERSPACE_LOG_FORMAT=text", ""},
		{"USERSPACE_LOG_FORMAT=xml", "USERSPACE_LOG_FORMAT"},
		{"USERSPACE_MIGRATE=off", ""},
		{"USERSPACE_MIGRATE=0", "USERSPACE_MIGRATE"},
		{"USERSPACE_AUDIT_RETENTION=8760h", ""},
		{"USERSPACE_AUDIT_RETENTION=1y", "USERSPACE_AUDIT_RETENTION"},
		{"USERSPACE_SHUTDOWN_TIMEOUT=5s", ""},
		{"USERSPACE_SHUTDOWN_TIMEOUT=never", "USERSPACE_SHUTDOWN_TIMEOUT"},
		{"USERSPACE_ACESS_TTL=5m", "USERSPACE_ACESS_TTL"},
		{"USERSPACE_=1", "USERSPACE_"},
		{"OTHER_SETTING=1", ""},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.set, dir, ""), func(t *testing.T) {
			t.Parallel()
			cfg, err := loadConfig(testEnv("postgres://localhost/x", strings.Fields(test.set)...), true)
			switch {
			case test.wantErr == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case test.wantErr != "" && err == nil:
				t.Errorf("got no error, want one that names %s", test.wantErr)
			case test.wantErr != "" && !strings.Contains(err.Error(), "\n  "+test.wantErr+": "):
				t.Errorf("got %v, want an error that names %s", err, test.wantErr)
			case (cfg == nil) != (err != nil):
				t.Error("a configuration and an error")
			}
			if err != nil && (strings.Contains(err.Error(), strong[:31]) || strings.Contains(err.Error(), testSecret)) {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	cfg, err := loadConfig([]string{"DATABASE_URL=postgres://localhost/x", "USERSPACE_SECRET=" + testSecret, "USERSPACE_PAGES="}, true)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		got, want any
	}{
		{"URL", cfg.url, "http://localhost:8080"},
		{"issuer", cfg.tokens.issuer, "http://localhost:8080"},
		{"audience", cfg.tokens.audience, "http://localhost:8080"},
		{"alg", cfg.tokens.alg, "EdDSA"},
		{"addr", cfg.listen.addr, ":8080"},
		{"internal addr", cfg.listen.internalAddr, "127.0.0.1:9090"},
		{"access TTL", cfg.tokens.accessTTL, 15 * time.Minute},
		{"refresh TTL", cfg.tokens.refreshTTL, 168 * time.Hour},
		{"session TTL", cfg.tokens.sessionTTL, 720 * time.Hour},
		{"grace", cfg.tokens.refreshGrace, 10 * time.Second},
		{"registration", cfg.registration, "open"},
		{"password min", cfg.passwords.min, 12},
		{"argon2", cfg.passwords.argon.String(), "m=19456,t=2,p=1"},
		{"rate of credentials", cfg.limits.credentials, rate{20, time.Minute}},
		{"rate of the API", cfg.limits.api, rate{100, time.Second}},
		{"mail", cfg.mail.smtp == nil, true},
		{"log", cfg.log, logConfig{"info", "json"}},
		{"migrate", cfg.migrate, true},
		{"shutdown timeout", cfg.listen.shutdownTimeout, 20 * time.Second},
		{"warnings", len(cfg.warnings), 0},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
}

func TestConfigWarnings(t *testing.T) {
	t.Parallel()
	cfg, err := loadConfig(testEnv("postgres://localhost/x", "USERSPACE_JWT_ALG=HS256", "USERSPACE_HS256_KEY="+newSecret()), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"USERSPACE_ARGON2", "USERSPACE_JWT_ALG", "USERSPACE_RATE_CREDENTIALS"} {
		if !slices.ContainsFunc(cfg.warnings, func(w string) bool { return strings.HasPrefix(w, name) }) {
			t.Errorf("no warning about %s in %q", name, cfg.warnings)
		}
	}
}

// cutToken returns the reset token in what a command printed.
func cutToken(t testing.TB, printed string) string {
	t.Helper()
	_, rest, ok := strings.Cut(printed, "/reset/confirm?token=")
	token, _, _ := strings.Cut(rest, "\n")
	if !ok || token == "" {
		t.Fatalf("no link in %q", printed)
	}
	return token
}

func TestAdminCommand(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	env := testEnv(database)
	a := newAppOn(t, database)
	confirm := func(token, password string) reply {
		return a.do("POST", "/api/v1/auth/password/reset/confirm", "", map[string]any{"token": token, "password": password})
	}
	scopeOf := func(p pair) string {
		return fmt.Sprint(a.want(a.do("GET", "/api/v1/users/me", p.access, nil), 200, "").json(t)["scope"])
	}

	// With a password on stdin.
	r := typeIn(t, env, testPassword+"\r\n", "admin", "create", "Root@Example.org").want(t, 0, "root@example.org can sign in", "")
	if strings.Contains(r.stdout, testPassword) {
		t.Errorf("the password is printed: %q", r.stdout)
	}
	root := a.login("root@example.org")
	if got := scopeOf(root); got != "[user admin]" {
		t.Errorf("scope: got %s, want [user admin]", got)
	}
	a.want(a.do("GET", "/api/v1/admin/users", root.access, nil), 200, "")
	typeIn(t, env, "short\n", "admin", "create", "other@example.org").want(t, 1, "", "password is too short")
	typeIn(t, env, testPassword, "admin", "create", "root@example.org").want(t, 1, "", "userspace admin reset")
	typeIn(t, env, "", "admin", "create", "root@example.org").want(t, 1, "", "userspace admin reset")
	a.login("root@example.org") // the password is still the first one

	// Without: a link, usable once.
	token := cutToken(t, typeIn(t, env, "", "admin", "create", "second@example.org").want(t, 0, "second@example.org", "").stdout)
	a.want(a.tryLogin("second@example.org", testPassword), 401, "invalid_credentials")
	a.want(confirm(token, testPassword), 204, "")
	a.want(confirm(token, testPassword), 401, "invalid_token")
	if got := scopeOf(a.login("second@example.org")); got != "[user admin]" {
		t.Errorf("scope: got %s, want [user admin]", got)
	}

	// Reset, both ways; each ends the sessions.
	const changed = "another long phrase"
	typeIn(t, env, changed+"\n", "admin", "reset", "root@example.org").want(t, 0, "root@example.org can sign in", "")
	eventually(t, 2*time.Second, "the end of the session", func() bool {
		return a.do("GET", "/api/v1/users/me/sessions", root.access, nil).status == 401
	})
	a.want(a.refresh(root.refresh), 401, "invalid_token")
	a.want(a.tryLogin("root@example.org", testPassword), 401, "invalid_credentials")
	a.want(a.tryLogin("root@example.org", changed), 200, "")
	token = cutToken(t, typeIn(t, env, "", "admin", "reset", "root@example.org").want(t, 0, "24 hours", "").stdout)
	a.want(a.tryLogin("root@example.org", changed), 200, "") // until the link is used
	a.advance(23 * time.Hour)
	a.want(confirm(token, testPassword), 204, "")
	a.want(a.tryLogin("root@example.org", testPassword), 200, "")
	typeIn(t, env, "short\n", "admin", "reset", "root@example.org").want(t, 1, "", "password is too short")
	typeIn(t, env, testPassword, "admin", "reset", "nobody@example.org").want(t, 1, "", "userspace admin create nobody@example.org")
	typeIn(t, env, "", "admin", "reset", "nobody@example.org").want(t, 1, "", "userspace admin create nobody@example.org")

	a.wantCount("administrators made on record", 2, `SELECT count(*) FROM audit_log WHERE action = 'admin.user_create' AND status = 'success' AND actor_id IS NULL AND ip IS NULL`)
	a.wantCount("resets on record", 3, `SELECT count(*) FROM audit_log WHERE action = 'auth.password_reset' AND status = 'success'`)
	a.wantCount("users", 2, `SELECT count(*) FROM users`)
}

// TestAdminResetActivates: whoever was invited, and never confirmed, can sign in with the password the operator sets.
func TestAdminResetActivates(t *testing.T) {
	t.Parallel()
	database := testDB(t)
	a := newAppOn(t, database)
	typeIn(t, testEnv(database), "", "admin", "create", "ada@example.org").want(t, 0, "/reset/confirm", "")
	a.wantCount("pending", 1, `SELECT count(*) FROM users WHERE status = 'pending'`)
	typeIn(t, testEnv(database), testPassword, "admin", "reset", "ada@example.org").want(t, 0, "can sign in", "")
	a.want(a.tryLogin("ada@example.org", testPassword), 200, "")
	a.wantCount("links that still work", 0, `SELECT count(*) FROM one_time_tokens WHERE purpose = 'reset'`)
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + emptyDB(t)} // no secret needed
	latest := len(migrations())
	typeIn(t, env, "", "migrate", "status").want(t, 0, "pending", "")
	typeIn(t, env, "", "migrate", "down").want(t, 0, "nothing to take back", "")
	up := typeIn(t, env, "", "migrate", "up").want(t, 0, "up 1 ", "").stdout
	if got := strings.Count(up, "\n"); got != latest {
		t.Errorf("steps up: got %d, want %d: %q", got, latest, up)
	}
	typeIn(t, env, "", "migrate", "up").want(t, 0, "up to date", "")
	status := typeIn(t, env, "", "migrate", "status").want(t, 0, "0001", "").stdout
	if got := strings.Count(status, " applied\n"); got != latest || strings.Contains(status, "pending") {
		t.Errorf("status: got %q, want %d lines, all applied", status, latest)
	}
	for version := latest; version > 0; version-- {
		typeIn(t, env, "", "migrate", "down").want(t, 0, fmt.Sprintf("down %d ", version), "")
	}
	typeIn(t, env, "", "migrate", "down").want(t, 0, "nothing to take back", "")
	typeIn(t, env, "", "migrate", "up").want(t, 0, fmt.Sprintf("up %d ", latest), "")
}
