package main

// The process: from a configuration to listeners, background work and an orderly end.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Limits of a connection: a slow client is cut off after these.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second // header and body
	writeTimeout      = 30 * time.Second // from the end of the header to the end of the answer
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	cleanEvery        = time.Minute
	cleanBatch        = 1000 // rows a statement: short locks, no bloat
)

// openService connects, brings the schema up to date or checks it, and loads the keys. deliver is nil when mail is off.
// The caller closes it.
func openService(ctx context.Context, cfg *config, clock func() time.Time, log *slog.Logger, deliver func(context.Context, id, message) error) (*service, error) {
	st, err := openStore(ctx, cfg.databaseURL)
	if err != nil {
		return nil, err
	}
	// The poll has a connection to itself: it must not wait behind requests for longer than what it is to find out.
	poll, err := openPool(ctx, cfg.databaseURL, 1)
	if err != nil {
		st.close()
		return nil, err
	}
	s := &service{
		cfg: cfg, store: st, secrets: deriveKeys(cfg.secret), hasher: newHasher(cfg.passwords.argon, cfg.passwords.workers),
		revoked: newRevocations(st, poll, log), costly: newLimiter(cfg.limits.credentials), mails: newLimiter(rate{maxMails, mailWindow}), clock: clock,
	}
	if deliver != nil {
		s.mail = newMailer(s.secrets.seal, deliver)
	}
	if err := s.prepare(ctx, log); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close gives the connections back.
func (s *service) close() {
	s.revoked.poller.close()
	s.store.close()
}

func (s *service) prepare(ctx context.Context, log *slog.Logger) (err error) {
	now := s.now()
	if !s.cfg.migrate {
		err = s.store.checkSchema(ctx)
	} else {
		var done []string
		done, err = s.store.migrateTo(ctx, len(migrations()), now)
		for _, step := range done {
			log.Info("migrated", "step", step)
		}
	}
	if err != nil {
		return fmt.Errorf("preparing the database: %w", err)
	}
	if s.keys, err = loadKeyRing(ctx, s.store, s.cfg, s.secrets.seal, now); err != nil {
		return err
	}
	return s.revoked.poll(ctx, now)
}

// smtpDelivery returns how mails leave, or nil when mail is off.
func smtpDelivery(cfg *config) (func(context.Context, id, message) error, error) {
	if cfg.mail.smtp == nil {
		return nil, nil
	}
	sender, err := newSMTPSender(&cfg.mail)
	if err != nil {
		return nil, err
	}
	return sender.send, nil
}

// serve runs the service until ctx ends, then finishes what was accepted. started is called when both listeners accept.
func (s *service) serve(ctx context.Context, log *slog.Logger, started func()) error {
	cfg := s.cfg
	health := &health{store: s.store}
	public := newPipeline(s, s.routes(health), log)
	internal := newPipeline(s, internalRoutes(health), log)

	publicServer, err := listen(cfg.listen.addr, public, log, cfg.listen.tlsCert, cfg.listen.tlsKey)
	if err != nil {
		return fmt.Errorf("USERSPACE_ADDR %s: %w", cfg.listen.addr, err)
	}
	internalServer, err := listen(cfg.listen.internalAddr, internal, log, "", "")
	if err != nil {
		publicServer.listener.Close()
		return fmt.Errorf("USERSPACE_INTERNAL_ADDR %s: %w", cfg.listen.internalAddr, err)
	}

	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { s.revoked.run(work, s.now) })
	background.Go(func() { s.clean(work, log, public) })
	if s.mail != nil {
		background.Go(func() { s.runMail(work, log) })
	}
	failed := make(chan error, 2)
	for _, l := range []*server{publicServer, internalServer} {
		background.Go(func() { failed <- l.serve() })
	}
	for _, warning := range cfg.warnings {
		log.Warn(warning)
	}
	log.Info("serving", "addr", publicServer.listener.Addr().String(), "internal_addr", internalServer.listener.Addr().String(), "url", cfg.url,
		"version", version(), "hash_workers", cfg.passwords.workers,
		"hash_memory_mib", cfg.passwords.workers*int(cfg.passwords.argon.memory)/1024)
	started()

	select {
	case <-ctx.Done():
	case err = <-failed: // a listener ended by itself
	}
	health.draining.Store(true)
	log.Info("stopping", "timeout", cfg.listen.shutdownTimeout.String())
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.listen.shutdownTimeout)
	defer cancel()
	err = errors.Join(err, publicServer.Shutdown(grace), internalServer.Shutdown(grace))
	stopWork()
	done := make(chan struct{})
	go func() {
		background.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-grace.Done(): // a mail server that does not answer; its mail is still in the queue
		err = errors.Join(err, errors.New("background work did not end in time"))
	}
	log.Info("stopped")
	return err
}

// server is an HTTP server with its listener.
type server struct {
	http.Server
	listener net.Listener
}

func listen(addr string, h http.Handler, log *slog.Logger, cert, key string) (*server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &server{listener: l, Server: http.Server{
		Handler: h, ErrorLog: httpErrors(log), DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
	}}
	if cert != "" {
		files := &certFiles{cert: cert, key: key}
		if _, err := files.get(nil); err != nil {
			l.Close()
			return nil, fmt.Errorf("USERSPACE_TLS_CERT, USERSPACE_TLS_KEY: %w", err)
		}
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}
	}
	return s, nil
}

func (s *server) serve() error {
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(s.listener, "", "")
	} else {
		err = s.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// certFiles is a certificate in files, read again when they change.
type certFiles struct {
	cert, key string
	mu        sync.Mutex
	loaded    *tls.Certificate
	stamp     [2]time.Time
}

// get serves tls.Config.GetCertificate. Files that can't be read just now leave the certificate that was good.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var stamp [2]time.Time
	for i, name := range [...]string{f.cert, f.key} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if f.loaded != nil && stamp == f.stamp {
		return f.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil && f.loaded == nil {
		return nil, err
	}
	if err == nil {
		f.loaded, f.stamp = &pair, stamp
	}
	return f.loaded, nil
}

// clean removes what has expired, once a minute, on one instance at a time.
func (s *service) clean(ctx context.Context, log *slog.Logger, p *pipeline) {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.sweep(s.now())
		s.costly.sweep(s.now())
		s.mails.sweep(s.now())
		if err := s.cleanTables(ctx, s.now()); err != nil && ctx.Err() == nil {
			log.Error("clean-up failed; it is tried again", "error", err)
		}
	}
}

// cleanTables deletes one batch of each kind after the other until nothing is left.
func (s *service) cleanTables(ctx context.Context, now time.Time) error {
	for more := true; more; {
		more = false
		err := s.store.tx(ctx, func(t db) error {
			mine, err := t.tryLock(ctx, lockClean)
			if err != nil || !mine {
				return err
			}
			counts := [4]int64{}
			var errs [4]error
			counts[0], errs[0] = t.deleteOldSessions(ctx, firstID(now.Add(-s.cfg.tokens.sessionTTL)), cleanBatch)
			counts[1], errs[1] = t.deleteOldRevocations(ctx, now, cleanBatch)
			counts[2], errs[2] = t.deleteOldTokens(ctx, now, cleanBatch)
			counts[3], errs[3] = t.deleteOldAttempts(ctx, now.Add(-attemptsKept), cleanBatch)
			for _, n := range counts {
				more = more || n == cleanBatch
			}
			return errors.Join(errs[:]...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// attemptsKept is the time after which next_failures forgets a failure, and with it the lock, which is shorter.
const attemptsKept = 24 * time.Hour
