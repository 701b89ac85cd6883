package main

// Mail, to a real SMTP server: a program of its own in testsmtp, built here.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// smtpBinary builds the server once.
var smtpBinary = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(runDir, "testsmtp")
	out, err := osexec.Command("go", "build", "-C", "testsmtp", "-o", binary, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building testsmtp: %w: %s", err, out)
	}
	return binary, nil
})

// receivedMail is a mail as the server took it.
type receivedMail struct {
	From, To, User, Data string
	TLS                  bool
}

// smtpServer is a running server.
type smtpServer struct {
	t     testing.TB
	port  string
	mails chan receivedMail
}

// startSMTP runs the server until the test ends.
func startSMTP(t testing.TB, args ...string) *smtpServer {
	t.Helper()
	binary, err := smtpBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command(binary, args...)
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	cmd.Stderr = io.Discard // what it logs of broken handshakes
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{t: t, mails: make(chan receivedMail, 1000)}
	lines := bufio.NewReader(stdout)
	port, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("testsmtp %v did not start: %v", args, err)
	}
	s.port = strings.TrimSpace(port)
	read := make(chan struct{})
	go func() {
		defer close(read)
		d := json.NewDecoder(lines)
		for {
			var m receivedMail
			if d.Decode(&m) != nil {
				return
			}
			s.mails <- m
		}
	}()
	t.Cleanup(func() {
		stdin.Close() // ends it
		<-read
		cmd.Wait()
	})
	return s
}

// next returns the next mail that arrived.
func (s *smtpServer) next() receivedMail {
	s.t.Helper()
	select {
	case m := <-s.mails:
		return m
	case <-time.After(10 * time.Second):
		s.t.Fatal("no mail arrived")
		return receivedMail{}
	}
}

// none checks that nothing arrived beyond what was read. The server writes a mail's line before it answers, so what was
// sent before this call is on its way; a mail sent now comes behind it.
func (s *smtpServer) none() {
	s.t.Helper()
	marker := "marker@example.org"
	if err := s.sender("smtp://localhost").send(s.t.Context(), newID(time.Now()), message{marker, "m", "m"}); err != nil {
		s.t.Fatal(err)
	}
	if m := s.next(); m.To != marker {
		s.t.Errorf("a mail to %s arrived, want none", m.To)
	}
}

// sender sends to the server under the URL's scheme, user and host; the host's name need not exist.
func (s *smtpServer) sender(address string) *smtpSender {
	s.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	sender, err := newSMTPSender(&mailConfig{smtp: u, from: "Userspace Köln <no-reply@example.com>"})
	if err != nil {
		s.t.Fatal(err)
	}
	sender.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+s.port)
	}
	return sender
}

// authority is a CA and a certificate of it for mail.test, in files.
type authority struct {
	pool      *x509.CertPool
	cert, key string
}

func newAuthority(t testing.TB, host string) authority {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	must(err)
	ca, err := x509.ParseCertificate(der)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	dir := t.TempDir()
	a := authority{x509.NewCertPool(), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	a.pool.AddCert(ca)
	must(os.WriteFile(a.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(a.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return a
}

var testMessage = message{"ada@example.org", "Grüße", "Zeile 1: ä = €\n\n.dot at the start\n..two\nlong " + strings.Repeat("x", 300) + "\ntrailing space \n"}

func TestSendPlain(t *testing.T) {
	t.Parallel()
	server := startSMTP(t, "-auth", "post:s3cret pass")
	sender := server.sender("smtp://post:s3cret%20pass@localhost")
	mailID := newID(time.Now())
	if err := sender.send(t.Context(), mailID, testMessage); err != nil {
		t.Fatal(err)
	}
	got := server.next()
	if got.From != "no-reply@example.com" || got.To != testMessage.To || got.User != "post" || got.TLS {
		t.Errorf("got %+v", got)
	}
	if text := parseMail(t, got.Data, mailID, testMessage); text != testMessage.Text {
		t.Errorf("text: got %q, want %q", text, testMessage.Text)
	}
	if err := server.sender("smtp://post:wrong@localhost").send(t.Context(), mailID, testMessage); err == nil {
		t.Error("a wrong password: got no error")
	}
	if err := server.sender("smtp://localhost").send(t.Context(), mailID, testMessage); err == nil {
		t.Error("no password where one is asked for: got no error")
	}
}

// parseMail reads a mail with the library and checks its headers; it returns the text.
func parseMail(t testing.TB, data string, mailID id, want message) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	from, err := m.Header.AddressList("From")
	if err != nil || len(from) != 1 || from[0].Name != "Userspace Köln" || from[0].Address != "no-reply@example.com" {
		t.Errorf("From: got %v, %v", from, err)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || len(to) != 1 || to[0].Address != want.To {
		t.Errorf("To: got %v, %v, want %s", to, err, want.To)
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); subject != want.Subject || err != nil {
		t.Errorf("Subject: got %q, %v, want %q", subject, err, want.Subject)
	}
	if at, err := m.Header.Date(); err != nil || time.Since(at) > time.Minute {
		t.Errorf("Date: got %v, %v", at, err)
	}
	for name, want := range map[string]string{
		"Message-Id": "<" + mailID.String() + "@example.com>", "Auto-Submitted": "auto-generated", "Mime-Version": "1.0",
		"Content-Type": "text/plain; charset=utf-8", "Content-Transfer-Encoding": "quoted-printable",
	} {
		if got := m.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if len(m.Header) != 9 {
		t.Errorf("got %d headers, want 9: %v", len(m.Header), m.Header)
	}
	for line := range strings.Lines(data) {
		if len(line) > 1000 { // RFC 5321 §4.5.3.1.6
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), map[bool]string{true: "", false: "\n"}[strings.HasSuffix(want.Text, "\n")])
}

// TestHeaderInjection: whatever is in the fields, the mail has our headers and no others, or isn't sent.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	server := startSMTP(t)
	sender := server.sender("smtp://localhost")
	for _, subject := range []string{
		"a\r\nBcc: eve@example.org", "a\nBcc: eve@example.org", "a\rBcc: eve@example.org", "a\r\n\r\nbody", "=?utf-8?q?a=0D=0ABcc:_eve@example.org?=",
		"a\x00b", "a\u2028Bcc: x", strings.Repeat("ü", 100),
	} {
		m := message{"ada@example.org", subject, "text\n"}
		mailID := newID(time.Now())
		if err := sender.send(t.Context(), mailID, m); err != nil {
			t.Errorf("%.40q: %v", subject, err)
			continue
		}
		want := m
		if strings.HasPrefix(subject, "=?") { // an encoded word is shown decoded, in one header
			want.Subject = "a\r\nBcc: eve@example.org"
		}
		if text := parseMail(t, server.next().Data, mailID, want); text != m.Text {
			t.Errorf("%.40q: got %q", subject, text)
		}
	}
	for _, to := range []string{
		"a@example.org\r\nBcc: eve@example.org", "a@example.org>\r\nRCPT TO:<eve@example.org", "a@example.org\nx", "a@example.org\r\nDATA",
	} {
		if _, reason := normalEmail(to); reason == "" { // the first wall
			t.Errorf("%q is an address", to)
		}
		if err := sender.send(t.Context(), newID(time.Now()), message{to, "s", "t"}); err == nil { // the second
			t.Errorf("%q was sent to", to)
		}
	}
	server.none()
}

// recordedConn notes what is written to it.
type recordedConn struct {
	net.Conn
	written *lockedBuffer
}

func (c recordedConn) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

// TestSendTLS: where the server is not this machine, neither password nor mail travels in clear.
func TestSendTLS(t *testing.T) {
	t.Parallel()
	ca, other, wrongName := newAuthority(t, "mail.test"), newAuthority(t, "mail.test"), newAuthority(t, "other.test")
	for _, test := range []struct {
		name   string
		mode   string
		scheme string
		host   string
		server authority
		trust  *x509.CertPool
		good   bool
		tls    bool
	}{
		{"STARTTLS", "starttls", "smtp", "mail.test", ca, ca.pool, true, true},
		{"implicit", "implicit", "smtps", "mail.test", ca, ca.pool, true, true},
		{"no STARTTLS offered", "none", "smtp", "mail.test", ca, ca.pool, false, false},
		{"no TLS behind smtps", "none", "smtps", "mail.test", ca, ca.pool, false, false},
		{"STARTTLS, another CA", "starttls", "smtp", "mail.test", other, ca.pool, false, false},
		{"implicit, another CA", "implicit", "smtps", "mail.test", other, ca.pool, false, false},
		{"STARTTLS, the system's CAs", "starttls", "smtp", "mail.test", ca, nil, false, false},
		{"STARTTLS, another name", "starttls", "smtp", "mail.test", wrongName, wrongName.pool, false, false},
		{"implicit, another name", "implicit", "smtps", "mail.test", wrongName, wrongName.pool, false, false},
		{"smtps on this machine is checked too", "implicit", "smtps", "localhost", ca, ca.pool, false, false},
		{"this machine needs no TLS", "none", "smtp", "127.0.0.1", ca, nil, true, false},
		{"a name that only begins like this machine's", "none", "smtp", "localhost.mail.test", ca, ca.pool, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startSMTP(t, "-tls", test.mode, "-cert", test.server.cert, "-key", test.server.key, "-auth", "post:s3cret")
			sender := server.sender(test.scheme + "://post:s3cret@" + test.host)
			sender.tls = sender.tls.Clone()
			sender.tls.RootCAs = test.trust
			written := &lockedBuffer{}
			dial := sender.dial
			sender.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return recordedConn{conn, written}, err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // smtps to a server that waits for nobody
			if test.name == "no TLS behind smtps" {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			err := sender.send(ctx, newID(time.Now()), testMessage)
			if (err == nil) != test.good {
				t.Errorf("got %v, want good %v", err, test.good)
			}
			clear := written.String()
			if test.good {
				if got := server.next(); got.TLS != test.tls || got.User != "post" || got.To != testMessage.To {
					t.Errorf("got %+v", got)
				}
			}
			if !test.good || test.tls {
				for _, secret := range []string{"AUTH", "MAIL FROM", "RCPT", "DATA", "ada@example.org", "s3cret", "\x00post"} {
					if strings.Contains(clear, secret) {
						t.Errorf("%q went over the wire in clear: %q", secret, clear)
					}
				}
			}
			if test.mode == "none" && test.scheme == "smtp" && !test.good && clear != "EHLO localhost\r\n" {
				t.Errorf("no STARTTLS: got %q sent, want the greeting alone", clear)
			}
		})
	}
	if got := startSMTP(t).sender("smtp://mail.test").tls; got.MinVersion != tls.VersionTLS12 || got.InsecureSkipVerify || got.ServerName != "mail.test" {
		t.Errorf("got %+v, want TLS 1.2 at least, checked against the host's name", got)
	}
}

// mailApp is an app whose mails go to a server. Nothing delivers in the background: a test calls deliver.
func mailApp(t testing.TB, databaseURL string, server *smtpServer) *app {
	t.Helper()
	cfg, err := loadConfig(testEnv(databaseURL), true)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, log: &lockedBuffer{}}
	log := slog.New(newLogger(a.log, logConfig{"debug", "json"}).Handler())
	if a.s, err = openService(t.Context(), cfg, a.clock, log, server.sender("smtp://localhost").send); err != nil {
		t.Fatal(err)
	}
	a.p = newPipeline(a.s, a.s.routes(&health{store: a.s.store}), log)
	http := httptest.NewServer(a.p)
	a.url = http.URL
	t.Cleanup(func() {
		http.Close()
		a.s.store.close()
	})
	return a
}

// deliver sends what is due and returns how much that was.
func (a *app) deliver() int {
	a.t.Helper()
	n, err := a.s.deliverBatch(a.t.Context(), newLogger(a.log, logConfig{"debug", "json"}))
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (a *app) askReset(email string) {
	a.t.Helper()
	a.want(a.do("POST", "/api/v1/auth/password/reset", "", map[string]any{"email": email}), 202, "")
}

func TestOutboxReset(t *testing.T) {
	t.Parallel()
	server := startSMTP(t)
	a := mailApp(t, testDB(t), server)
	a.register("ada@example.org")
	a.deliver()
	server.next() // the one that confirms the address
	a.askReset("Ada@Example.Org")

	var sealed []byte
	if err := a.s.store.pool.QueryRow(t.Context(), `SELECT message FROM outbox`).Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if n := a.deliver(); n != 1 {
		t.Errorf("got %d mails due, want 1", n)
	}
	got := server.next()
	m, err := mail.ReadMessage(strings.NewReader(got.Data))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(quotedprintable.NewReader(m.Body))
	sent := message{got.To, "", strings.ReplaceAll(string(text), "\r\n", "\n")}
	token := sent.token()
	if got.To != "ada@example.org" || !strings.HasPrefix(token, "uspr_") || len(token) < 40 {
		t.Fatalf("got %q to %s", sent.Text, got.To)
	}
	for _, secret := range []string{token, token[5:], "uspr_", "ada@example.org", "password", "http"} {
		if bytes.Contains(sealed, []byte(secret)) {
			t.Errorf("the queued mail held %q in clear", secret)
		}
	}
	if raw, _ := unb64(token[5:]); len(raw) != oneTimeBytes || bytes.Contains(sealed, raw) {
		t.Error("the queued mail held the token's bytes in clear, or they are too few")
	}
	if n := a.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("after delivery: got %d rows, want none", n)
	}
	dump := a.count(`SELECT count(*) FROM one_time_tokens WHERE one_time_tokens::text LIKE '%' || $1 || '%'`, token[5:])
	if dump != 0 || strings.Contains(a.log.String(), token[5:]) {
		t.Error("the token is in a table or the log in clear")
	}
	confirm := map[string]any{"token": token, "password": "another horse battery"}
	a.want(a.do("POST", "/api/v1/auth/password/reset/confirm", "", confirm), 204, "")
	a.want(a.do("POST", "/api/v1/auth/password/reset/confirm", "", confirm), 401, "invalid_token")
	a.want(a.tryLogin("ada@example.org", "another horse battery"), 200, "")
	a.deliver() // the notice that the password was changed
	if got := server.next(); strings.Contains(got.Data, "uspr_") || strings.Contains(got.Data, "uspv_") {
		t.Error("the notice holds a token")
	}
	a.askReset("nobody@example.org")
	if n := a.deliver(); n != 0 {
		t.Errorf("an unknown address: got %d mails, want none", n)
	}
	server.none()
}

// TestOutboxRetry: temporary failures, with the back-off of mailBackOff, and one mail in the end.
func TestOutboxRetry(t *testing.T) {
	t.Parallel()
	server := startSMTP(t, "-fail", "3")
	a := mailApp(t, testDB(t), server)
	at := time.Now()
	a.s.clock = func() time.Time { return at }
	a.register("ada@example.org")
	for attempt, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
		if n := a.deliver(); n != 1 {
			t.Fatalf("attempt %d: got %d due, want 1", attempt+1, n)
		}
		at = at.Add(pause - time.Second)
		if n := a.deliver(); n != 0 {
			t.Errorf("attempt %d: tried again within %v", attempt+1, pause)
		}
		at = at.Add(time.Second)
	}
	if n := a.count(`SELECT count(*) FROM outbox WHERE attempts = 3 AND failed_at IS NULL AND last_error LIKE '%try again later%'`); n != 1 {
		t.Errorf("got %d rows with the failures, want 1", n)
	}
	if n := a.deliver(); n != 1 {
		t.Errorf("got %d due, want 1", n)
	}
	server.next()
	server.none()
	if n := a.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("after delivery: got %d rows, want none", n)
	}
	if log := a.log.String(); strings.Contains(log, "ada@example.org") || !strings.Contains(log, "it will be tried again") {
		t.Errorf("log: %s", log)
	}
	for attempts, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 8: 1280 * time.Second, 9: 30 * time.Minute, 1000: 30 * time.Minute} {
		if got := mailBackOff(attempts); got != want {
			t.Errorf("back-off after %d: got %v, want %v", attempts, got, want)
		}
	}
}

// TestOutboxGivesUp after a day, with a record and a log line that don't tell who it was for.
func TestOutboxGivesUp(t *testing.T) {
	t.Parallel()
	server := startSMTP(t, "-reject")
	a := mailApp(t, testDB(t), server)
	at := time.Now().Truncate(time.Microsecond)
	start := at
	a.s.clock = func() time.Time { return at }
	userID := a.register("ada@example.org")
	attempts := 0
	for at.Sub(start) < mailGiveUp+2*time.Hour {
		attempts += a.deliver()
		if a.count(`SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL`) > 0 {
			break
		}
		at = at.Add(30 * time.Minute)
	}
	if age := at.Sub(start); age < mailGiveUp || age > mailGiveUp+31*time.Minute || attempts < 40 {
		t.Errorf("given up after %v and %d attempts, want a day", age, attempts)
	}
	var failed time.Time
	var reason string
	var size int
	if err := a.s.store.pool.QueryRow(t.Context(), `SELECT failed_at, last_error, length(message) FROM outbox`).Scan(&failed, &reason, &size); err != nil {
		t.Fatal(err)
	}
	if !failed.Equal(at) {
		t.Errorf("failed_at: got %v, want the time it was given up, %v", failed.UTC(), at.UTC())
	}
	if size != 0 || strings.Contains(reason, "ada@") || !strings.Contains(reason, "550") {
		t.Errorf("the record: got %d bytes of content and %q", size, reason)
	}
	log := a.log.String()
	if strings.Contains(log, "ada@example.org") || strings.Count(log, "is given up") != 1 || !strings.Contains(log, userID) {
		t.Errorf("log: %s", log)
	}
	at = at.Add(48 * time.Hour)
	if n := a.deliver(); n != 0 {
		t.Errorf("given up: got %d due, want none", n)
	}
}

// TestOutboxDamaged: a mail that can't be opened, because the secret is another or the row was changed, is given up at once.
func TestOutboxDamaged(t *testing.T) {
	t.Parallel()
	server := startSMTP(t)
	a := mailApp(t, testDB(t), server)
	a.register("ada@example.org")
	if _, err := a.s.store.pool.Exec(t.Context(), `UPDATE outbox SET message = set_byte(message, 20, get_byte(message, 20) # 1)`); err != nil {
		t.Fatal(err)
	}
	a.deliver()
	var reason string
	if err := a.s.store.pool.QueryRow(t.Context(), `SELECT last_error FROM outbox WHERE failed_at IS NOT NULL`).Scan(&reason); err != nil {
		t.Fatal(err)
	}
	if want := errSeal.Error(); reason != want {
		t.Errorf("reason: got %q, want %q", reason, want)
	}
	server.none()
}

// TestOutboxWorkers: two instances share a queue, and each mail is sent once.
func TestOutboxWorkers(t *testing.T) {
	t.Parallel()
	server := startSMTP(t)
	url := testDB(t)
	one, two := mailApp(t, url, server), mailApp(t, url, server)
	const users = 30
	for i := range users {
		one.register(fmt.Sprintf("user%d@example.org", i))
	}
	var workers sync.WaitGroup
	for _, a := range []*app{one, two, one, two} {
		workers.Go(func() {
			log := newLogger(a.log, logConfig{"debug", "json"})
			for range 5 {
				if _, err := a.s.deliverBatch(t.Context(), log); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	seen := map[string]bool{}
	for range users {
		m := server.next()
		if seen[m.To] {
			t.Errorf("%s got two", m.To)
		}
		seen[m.To] = true
	}
	server.none()
	if n := one.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("got %d rows left, want none", n)
	}
}

// TestOutboxLoop is the loop of a running service: told of a mail, it sends it without waiting for its next look.
func TestOutboxLoop(t *testing.T) {
	t.Parallel()
	server := startSMTP(t)
	a := mailApp(t, testDB(t), server)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		a.s.runMail(ctx, newLogger(a.log, logConfig{"debug", "json"}))
		close(done)
	}()
	a.register("ada@example.org")
	a.askReset("ada@example.org")
	server.next()
	server.next()
	stop()
	<-done
}
