// Userspace is the user service of a small team: accounts, sessions, tokens.
package main

// Commands and exit codes. What a command does belongs to the files below.

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// terminal is what a command reads and writes.
type terminal struct {
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// errUsage marks an error of the command line: exit 2.
var errUsage = errors.New("wrong usage")

// command is a row of the help.
type command struct {
	name string
	args string
	help string
	run  func(ctx context.Context, t *terminal, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "", "run the service; the default", cmdServe},
		{"dev", "[-reset] [-data DIR]", "run it with a PostgreSQL of its own and a ready-made admin; nothing to configure", cmdDev},
		{"migrate", "up|down|status", "bring the schema up to date, take back its last step, or show where it is", cmdMigrate},
		{"admin", "create|reset EMAIL", "make an administrator, or set a password: read from stdin, or by a printed one-time link", cmdAdmin},
		{"healthcheck", "", "ask the running service on its internal address whether it is ready", cmdHealthcheck},
		{"secret", "", "print a new value for USERSPACE_SECRET", cmdSecret},
		{"version", "", "print the version", cmdVersion},
		{"help", "", "print this", cmdHelp},
	}
}

// run executes a command line and returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name, rest := "serve", args
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	if name == "-h" || name == "--help" {
		name = "help"
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.run(ctx, &terminal{env, stdin, stdout, stderr}, rest)
		switch {
		case err == nil:
			return exitDone
		case errors.Is(err, errUsage):
			fmt.Fprintf(stderr, "userspace %s: %v\nusage: userspace %s %s\n", name, err, c.name, c.args)
			return exitUsage
		}
		fmt.Fprintf(stderr, "userspace %s: %v\n", name, err)
		return exitFailed
	}
	fmt.Fprintf(stderr, "userspace: there is no command %q; see: userspace help\n", name)
	return exitUsage
}

// noArgs returns errUsage if there are any.
func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: it takes no arguments", errUsage)
	}
	return nil
}

func cmdServe(ctx context.Context, t *terminal, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	cfg, err := loadConfig(t.env, true)
	if err != nil {
		return err
	}
	deliver, err := smtpDelivery(cfg)
	if err != nil {
		return err
	}
	log := newLogger(t.stderr, cfg.log)
	s, err := openService(ctx, cfg, time.Now, log, deliver)
	if err != nil {
		return err
	}
	defer s.close()
	return s.serve(ctx, log, func() {})
}

func cmdMigrate(ctx context.Context, t *terminal, args []string) error {
	if len(args) != 1 || !slices.Contains([]string{"up", "down", "status"}, args[0]) {
		return fmt.Errorf("%w: say up, down or status", errUsage)
	}
	cfg, err := loadConfig(t.env, false)
	if err != nil {
		return err
	}
	st, err := openStore(ctx, cfg.databaseURL)
	if err != nil {
		return err
	}
	defer st.close()
	have, err := st.schemaVersion(ctx)
	if err != nil {
		return err
	}
	latest := len(migrations())
	var done []string
	switch args[0] {
	case "status":
		for _, m := range migrations() {
			state := "pending"
			if m.version <= have {
				state = "applied"
			}
			fmt.Fprintf(t.stdout, "%04d %-20s %s\n", m.version, m.name, state)
		}
		if have > latest {
			return errNewerSchema(have, latest)
		}
		return nil
	case "up":
		done, err = st.migrateTo(ctx, latest, time.Now().UTC())
	case "down":
		if have == 0 {
			fmt.Fprintln(t.stdout, "nothing to take back")
			return nil
		}
		done, err = st.migrateTo(ctx, have-1, time.Now().UTC())
	}
	for _, step := range done {
		fmt.Fprintln(t.stdout, step)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(t.stdout, "up to date")
	}
	return err
}

func cmdAdmin(ctx context.Context, t *terminal, args []string) error {
	if len(args) != 2 || args[0] != "create" && args[0] != "reset" {
		return fmt.Errorf("%w: say create or reset, and an email", errUsage)
	}
	email, reason := normalEmail(args[1])
	if reason != "" {
		return fmt.Errorf("%w: %q is not an email of the form local@domain.tld", errUsage, args[1])
	}
	password, err := passwordFromStdin(t.stdin)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(t.env, true)
	if err != nil {
		return err
	}
	s, err := openService(ctx, cfg, time.Now, newLogger(t.stderr, logConfig{"warn", "text"}), nil) // the link is printed, not mailed
	if err != nil {
		return err
	}
	defer s.close()
	return s.administer(ctx, t, args[0], email, password)
}

// administer runs `admin create` or `admin reset` and prints what to do next.
func (s *service) administer(ctx context.Context, t *terminal, action, email, password string) error {
	c := operatorCall(s.now(), map[string]string{"create": "admin.user_create", "reset": "auth.password_reset_request"}[action])
	var link string
	var err error
	switch {
	case action == "create":
		link, err = s.createAdmin(ctx, c, email, password)
	case password != "":
		c.action = "auth.password_reset"
		err = s.setPasswordByOperator(ctx, c, email, password)
	default:
		link, err = s.resetByOperator(ctx, c, email)
	}
	switch {
	case errors.Is(err, errEmailTaken):
		return fmt.Errorf("%s has an account already; an administrator can give it the scope admin, `userspace admin reset` a new password", email)
	case errors.Is(err, errNotFound):
		return fmt.Errorf("%s has no account; `userspace admin create %s` makes one", email, email)
	case err != nil:
		return explainInvalid(err)
	case link == "":
		fmt.Fprintf(t.stdout, "Done: %s can sign in with the given password.\n", email)
	default:
		fmt.Fprintf(t.stdout, `Within 24 hours, once, this link sets the password of %s:
  %s
or, without a page to open, with the token in it:
  curl -X POST %s/api/v1/auth/password/reset/confirm -H 'Content-Type: application/json' -d '{"token":"…","password":"…"}'
`, email, link, s.cfg.url)
	}
	return nil
}

// createAdmin makes an administrator without a caller. Without a password it returns the link to set one. Errors:
// errEmailTaken, *invalidError.
func (s *service) createAdmin(ctx context.Context, c *call, email, password string) (link string, err error) {
	in := createUserInput{Email: email, Scope: []string{"user", scopeAdmin}}
	if password != "" {
		in.Password = &password
	}
	rules := check{passwordMin: s.cfg.passwords.min, fields: map[string]string{}}
	if in.validate(&rules); rules.err() != nil {
		return "", rules.err()
	}
	created, err := s.createUser(ctx, c, in)
	return created.SetPasswordLink, err
}

// operatorCall is a call from the command line.
func operatorCall(now time.Time, action string) *call {
	return &call{now: now, started: time.Now(), traceID: newTraceID(), action: action, operator: true}
}

// explainInvalid puts a field error into words for a terminal.
func explainInvalid(err error) error {
	if e, ok := errors.AsType[*invalidError](err); ok {
		var faults []string
		for field, reason := range e.fields {
			faults = append(faults, "the "+field+" is "+strings.ReplaceAll(reason, "_", " "))
		}
		return errors.New(strings.Join(faults, "; "))
	}
	return err
}

// passwordFromStdin reads a line when stdin is a pipe or file; at a terminal, or with nothing in it, the result is "".
func passwordFromStdin(stdin io.Reader) (string, error) {
	if f, ok := stdin.(*os.File); ok {
		info, err := f.Stat()
		if err != nil || info.Mode()&os.ModeCharDevice != 0 {
			return "", nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(stdin, 4*maxPasswordBytes))
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), err
}

func cmdHealthcheck(ctx context.Context, t *terminal, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	addr := newEnvironment(t.env).text("USERSPACE_INTERNAL_ADDR", "127.0.0.1:9090")
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// By hand: http.Client would make the binary 400 kB larger for one request to ourselves.
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("the service does not answer on USERSPACE_INTERNAL_ADDR: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4096)) // for people; the status decides
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", body)
	}
	fmt.Fprintf(t.stdout, "%s\n", body)
	return nil
}

func cmdSecret(_ context.Context, t *terminal, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, newSecret())
	return nil
}

// newSecret returns 32 random bytes as text.
func newSecret() string {
	b := make([]byte, minSecretBytes)
	rand.Read(b)
	return b64(b)
}

func cmdVersion(_ context.Context, t *terminal, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "userspace", version())
	return nil
}

// version is the module's, with the commit when the build knew it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && !strings.Contains(v, setting.Value[:min(12, len(setting.Value))]) {
			v += " " + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return v + " " + info.GoVersion
}

func cmdHelp(_ context.Context, t *terminal, _ []string) error {
	fmt.Fprint(t.stdout, "Userspace is the user service of a small team: accounts, sessions, tokens.\n\nusage: userspace [command]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(t.stdout, "  %-34s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	fmt.Fprint(t.stdout, "\nIt is configured by environment variables; README.md has the table. Exit codes: 0 done, 1 failed, 2 wrong usage.\n")
	return nil
}
