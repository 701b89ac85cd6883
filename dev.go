package main

// The dev command: a private PostgreSQL, an admin made ready, mails on the terminal, and what to do next.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// devState is what dev keeps beside the cluster, so that a restart finds everything as it was.
type devState struct {
	Secret   string `json:"secret"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

// loadDevState reads the state, or makes it.
func loadDevState(dir string) (state devState, err error) {
	file := filepath.Join(dir, "dev.json")
	b, err := os.ReadFile(file)
	if err == nil {
		return state, json.Unmarshal(b, &state)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return state, err
	}
	state = devState{newSecret(), "admin@example.com", strings.ToLower(rand.Text()[:20])}
	b, _ = json.Marshal(state) // strings can't fail
	return state, os.WriteFile(file, b, 0o600)
}

// devDir is where dev keeps its data: apart for each working directory, where PostgreSQL's user can reach it.
func devDir() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(wd))
	base := "/var/lib"
	if os.Geteuid() != 0 {
		if base = os.Getenv("XDG_STATE_HOME"); base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("%w; say where to keep the data: userspace dev -data DIR", err)
			}
			base = filepath.Join(home, ".local", "state")
		}
	}
	return filepath.Join(base, "userspace-dev", hex.EncodeToString(sum[:6])), nil
}

func cmdDev(ctx context.Context, t *terminal, args []string) (err error) {
	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	reset := flags.Bool("reset", false, "")
	dir := flags.String("data", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if *dir == "" {
		if *dir, err = devDir(); err != nil {
			return err
		}
	}
	if *dir, err = filepath.Abs(*dir); err != nil { // PostgreSQL runs in another directory
		return err
	}
	if entries, err := os.ReadDir(*dir); err == nil && len(entries) > 0 && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "lock" }) {
		return fmt.Errorf("%s holds something else; its owner and rights would be changed", *dir)
	}
	if err := os.MkdirAll(filepath.Dir(*dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(*dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(*dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := lockFile(lock); err != nil {
		return fmt.Errorf("another `userspace dev` runs with the data in %s: stop it, or say -data DIR", *dir)
	}
	if *reset {
		if err := removeDevData(*dir); err != nil {
			return err
		}
	}
	state, err := loadDevState(*dir)
	if err != nil {
		return err
	}
	env, err := devEnvironment(t.env, state)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") && v != "DATABASE_URL=" }) {
		cluster, err := startPostgres(ctx, *dir)
		if err != nil {
			return err
		}
		defer cluster.stop()
		env = append(env, "DATABASE_URL="+cluster.url("postgres"))
	}
	cfg, err := loadConfig(env, true)
	if err != nil {
		return err
	}
	return runDev(ctx, t, cfg, state)
}

// removeDevData deletes what dev made, and nothing else.
func removeDevData(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil {
		return nil // not ours, or not there
	}
	if err := os.RemoveAll(filepath.Join(dir, "postgres")); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, "dev.json"))
}

// devEnvironment adds what is not set: the kept secret, this machine's address, free ports, a log people can read.
func devEnvironment(env []string, state devState) ([]string, error) {
	given := newEnvironment(env)
	add := func(name, value string) {
		if given.vars[name] == "" {
			env = append(env, name+"="+value)
		}
	}
	public, err := freePort(8080)
	if err != nil {
		return nil, err
	}
	internal, err := freePort(9090)
	if err != nil {
		return nil, err
	}
	add("USERSPACE_ADDR", "127.0.0.1:"+public)
	add("USERSPACE_INTERNAL_ADDR", "127.0.0.1:"+internal)
	add("USERSPACE_URL", "http://localhost:"+public)
	add("USERSPACE_LOG_FORMAT", "text")
	add("USERSPACE_MAIL_FROM", "Userspace <no-reply@example.com>")
	add("USERSPACE_SMTP_URL", "smtp://localhost") // mail is on; it goes to the terminal instead
	if given.vars["USERSPACE_SECRET_FILE"] == "" {
		add("USERSPACE_SECRET", state.Secret)
	}
	return env, nil
}

// freePort returns the first free port of twenty, so that something else on 8080 is no obstacle.
func freePort(first int) (string, error) {
	for port := first; port < first+20; port++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return strconv.Itoa(port), l.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d; set USERSPACE_ADDR and USERSPACE_INTERNAL_ADDR", first, first+19)
}

// runDev serves with an admin made ready, and prints what to do next.
func runDev(ctx context.Context, t *terminal, cfg *config, state devState) error {
	log := newLogger(t.stderr, cfg.log)
	deliver := printMail(t.stdout)
	if newEnvironment(t.env).vars["USERSPACE_SMTP_URL"] != "" {
		var err error
		if deliver, err = smtpDelivery(cfg); err != nil {
			return err
		}
	}
	s, err := openService(ctx, cfg, time.Now, log, deliver)
	if err != nil {
		return err
	}
	defer s.close()
	password := state.Password
	_, err = s.createAdmin(ctx, operatorCall(s.now(), "admin.user_create"), state.Email, state.Password)
	if errors.Is(err, errEmailTaken) {
		u, findErr := s.store.userByEmail(ctx, state.Email)
		if findErr != nil {
			return findErr
		}
		right, _, verifyErr := s.hasher.verify(ctx, state.Password, u.passwordHash)
		if err = verifyErr; err == nil && !right {
			password = "(the one you gave it)"
		}
	}
	if err != nil {
		return explainInvalid(err)
	}
	return s.serve(ctx, log, func() { fmt.Fprintf(t.stdout, devPage, cfg.url, state.Email, password) })
}

// devPage takes the URL, the admin's email and the password.
const devPage = `
Userspace is running at %[1]s. Ctrl-C stops it; the data stays, "userspace dev -reset" starts over.

  admin     %[2]s
  password  %[3]s
  keys      %[1]s/.well-known/jwks.json
  mails     are printed here

Paste these, in another terminal:

  TOKEN=$(curl -s %[1]s/api/v1/auth/login -H 'Content-Type: application/json' -d '{"email":"%[2]s","password":"%[3]s"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -s %[1]s/api/v1/users/me -H "Authorization: Bearer $TOKEN"
  curl -s %[1]s/api/v1/admin/users -H "Authorization: Bearer $TOKEN"

`

// printMail delivers to a terminal.
func printMail(w io.Writer) func(context.Context, id, message) error {
	return func(_ context.Context, _ id, m message) error {
		_, err := fmt.Fprintf(w, "\n--- mail to %s: %s\n%s---\n", m.To, m.Subject, m.Text)
		return err
	}
}
