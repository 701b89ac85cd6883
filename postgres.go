package main

// A private PostgreSQL, for `userspace dev` and the tests. Nothing here is used in production.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	osuser "os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// postgresCluster is a running private PostgreSQL that listens on a Unix socket alone.
type postgresCluster struct {
	socketDir string
	cmd       *osexec.Cmd
	done      chan error
}

// url is the connection string of one of its databases.
func (p *postgresCluster) url(database string) string {
	return "postgres:///" + database + "?host=" + p.socketDir + "&user=postgres"
}

// postgresBinaries returns the directory of initdb and postgres: where Debian, Red Hat and Homebrew put them, or PATH.
func postgresBinaries() (string, error) {
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		dirs, _ := filepath.Glob(pattern) // the patterns are well-formed
		found = append(found, dirs...)
	}
	slices.SortFunc(found, func(a, b string) int { return postgresMajor(b) - postgresMajor(a) }) // newest first
	if path, err := osexec.LookPath("initdb"); err == nil {
		found = append(found, filepath.Dir(path))
	}
	for _, dir := range found {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is not installed (no initdb found): run `make postgres`, or set DATABASE_URL (for tests TEST_DATABASE_URL) to a server you have")
}

func postgresMajor(dir string) int {
	digits := strings.TrimLeft(filepath.Base(filepath.Dir(dir)), "abcdefghijklmnopqrstuvwxyz-@")
	n, _ := strconv.Atoi(digits) // a name without number sorts last
	return n
}

// startPostgres runs a cluster in dir, which it creates when there is none. postgres refuses to run as root; then it runs
// as the user postgres or nobody, who must be able to reach dir. settings are postgres -c options.
func startPostgres(ctx context.Context, dir string, settings ...string) (*postgresCluster, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner()
	if err != nil {
		return nil, err
	}
	socketDir, err := os.MkdirTemp("/tmp", "userspace-") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	ok := false
	defer func() {
		if !ok {
			os.RemoveAll(socketDir)
		}
	}()
	data := filepath.Join(dir, "postgres")
	if err := owner.give(dir, socketDir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		os.RemoveAll(data) // an initdb that was cut short
		if err := owner.run(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err == nil {
		// Left by a process that was killed. If it still runs it goes, or it would hold the data.
		owner.run(ctx, filepath.Join(bin, "pg_ctl"), "-D", data, "-m", "fast", "-w", "stop")
	}
	args := []string{"-D", data, "-k", socketDir, "-c", "listen_addresses=", "-c", "logging_collector=off", "-c", "log_min_messages=error"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	p := &postgresCluster{socketDir: socketDir, cmd: osexec.Command(filepath.Join(bin, "postgres"), args...), done: make(chan error, 1)}
	p.cmd.Dir = dir
	var output bytes.Buffer
	p.cmd.Stdout, p.cmd.Stderr = &output, &output
	p.cmd.SysProcAttr = childAttributes(owner.uid, owner.gid)
	started := make(chan error)
	go func() {
		// The parent-death signal is tied to the thread that starts the child, so this thread stays until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.done <- p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := p.waitReady(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("PostgreSQL did not start: %w\n%s", err, output.String())
	}
	ok = true
	return p, nil
}

// waitReady tries to connect until it works, the process ends, or 30 s have passed.
func (p *postgresCluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	st, err := openStore(ctx, p.url("postgres"))
	if err != nil {
		return err
	}
	defer st.close()
	for {
		if err = st.pool.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("it ended: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the cluster: connections are cut, data is safe.
func (p *postgresCluster) stop() {
	p.cmd.Process.Signal(os.Interrupt) // postgres: fast shutdown
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
	os.RemoveAll(p.socketDir)
}

// clusterOwner is the user PostgreSQL runs as; uid -1 is our own.
type clusterOwner struct{ uid, gid int }

func postgresOwner() (clusterOwner, error) {
	if os.Geteuid() != 0 {
		return clusterOwner{-1, -1}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := osuser.Lookup(name); err == nil {
			uid, err1 := strconv.Atoi(u.Uid)
			gid, err2 := strconv.Atoi(u.Gid)
			return clusterOwner{uid, gid}, errors.Join(err1, err2)
		}
	}
	return clusterOwner{}, errors.New("postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// give makes directories the owner's alone.
func (o clusterOwner) give(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if o.uid >= 0 {
			if err := os.Chown(dir, o.uid, o.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o clusterOwner) run(ctx context.Context, name string, args ...string) error {
	cmd := osexec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = childAttributes(o.uid, o.gid)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, out)
	}
	return nil
}
