package main

// Mail: what is said in which case, the queue in the database, and delivery by SMTP.
// A mail is queued in the transaction that causes it, so that neither exists without the other; it may arrive twice when an
// instance dies between delivery and taking it off the queue, with one Message-ID.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/url"
	"strings"
	"time"
)

// message is a mail before it is put into its form.
type message struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// mailer queues and delivers.
type mailer struct {
	sealKey []byte
	deliver func(ctx context.Context, mailID id, m message) error
	wake    chan struct{} // told when something was queued here
}

func newMailer(sealKey []byte, deliver func(context.Context, id, message) error) *mailer {
	return &mailer{sealKey, deliver, make(chan struct{}, 1)}
}

// seal makes the queue's row: sealed, because the text holds a one-time token, and a dump of the database must hold nothing
// that can be presented.
func (m *mailer) seal(now time.Time, msg message) outboxRow {
	row := outboxRow{id: newID(now), createdAt: now}
	plain, _ := json.Marshal(msg) // strings can't fail
	row.sealed = seal(m.sealKey, plain, row.id.String())
	return row
}

func (m *mailer) unseal(row *outboxRow) (msg message, err error) {
	plain, err := unseal(m.sealKey, row.sealed, row.id.String())
	if err != nil {
		return msg, err
	}
	return msg, json.Unmarshal(plain, &msg)
}

// enqueue queues a mail to a user in a transaction.
func (m *mailer) enqueue(ctx context.Context, t db, now time.Time, userID id, msg message) error {
	row := m.seal(now, msg)
	row.userID = userID
	return t.insertMail(ctx, &row)
}

// wakeMail starts delivery without waiting for the next look at the queue.
func (s *service) wakeMail() {
	if s.mail == nil {
		return
	}
	select {
	case s.mail.wake <- struct{}{}:
	default: // told already
	}
}

// mailToken stores a one-time token for a user and queues its mail.
func (s *service) mailToken(ctx context.Context, t db, now time.Time, u *user, purpose string) error {
	ttl, words := verifyTTL, tokenMail
	if purpose == purposeReset { // who is mailed one without asking has been invited
		ttl, words = inviteTTL, inviteMail
	}
	token, row := newOneTimeToken(now, purpose, u.id, u.email, ttl)
	if err := t.putOneTimeToken(ctx, row); err != nil {
		return err
	}
	return s.mail.enqueue(ctx, t, now, u.id, words(purpose, u.email, s.link(purpose, token), token))
}

// mailNotice queues a mail that tells of something and asks for nothing.
func (s *service) mailNotice(ctx context.Context, t db, now time.Time, u *user, n notice) error {
	return s.mail.enqueue(ctx, t, now, u.id, message{u.email, n.subject, n.text})
}

// tokenMail words the mail of a one-time token. Nothing a stranger typed is in it but the address.
func tokenMail(purpose, to, link, token string) message {
	if purpose == purposeVerify {
		return message{to, "Confirm your email address", "Somebody, we hope you, gave this address for an account.\n\n" +
			"To confirm it, open:\n\n" + link + "\n\nor use this code: " + token + "\n\n" +
			"If it was not you, do nothing.\n"}
	}
	return message{to, "Set your password", "A new password was asked for, for the account with this address.\n\n" +
		"To set one, open:\n\n" + link + "\n\nor use this code: " + token + "\n\n" +
		"It works once. If it was not you, do nothing: the password stays as it is.\n"}
}

func inviteMail(_, to, link, token string) message {
	return message{to, "An account was made for you", "An administrator made an account with this address.\n\n" +
		"To set its password, open:\n\n" + link + "\n\nor use this code: " + token + "\n\n" +
		"It works once, within 24 hours.\n"}
}

// notice is a mail with fixed words.
type notice struct{ subject, text string }

var (
	noticeRegistered = notice{"You have an account already", "Somebody, perhaps you, tried to register with this address, " +
		"which has an account already.\n\nIf it was you, sign in, or ask for a new password, which also confirms the address.\nIf not, do nothing.\n"}
	noticePasswordChanged = notice{"Your password was changed", "The password of your account was changed, and all its " +
		"sessions were ended.\n\nIf it was not you, ask for a new password at once.\n"}
	noticeEmailChanged = notice{"Your email address was changed", "The account that had this address has another one " +
		"now.\n\nIf it was not you, tell those who run this service.\n"}
)

const (
	mailBatch   = 20
	mailPoll    = 5 * time.Second
	mailLease   = 6 * time.Minute // longer than a batch can take: mailBatch × mailTimeout
	mailTimeout = 15 * time.Second
	mailGiveUp  = 24 * time.Hour
)

// runMail delivers queued mails until ctx ends.
func (s *service) runMail(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(mailPoll)
	defer tick.Stop()
	for {
		sent, err := s.deliverBatch(ctx, log)
		if err != nil && ctx.Err() == nil {
			log.Error("the mail queue can't be read", "error", err)
		}
		if sent == mailBatch && err == nil {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.mail.wake:
		}
	}
}

// deliverBatch claims due mails and sends them; it returns how many it claimed. What is under way when ctx ends goes on to
// its own time limit.
func (s *service) deliverBatch(ctx context.Context, log *slog.Logger) (int, error) {
	if ctx.Err() != nil {
		return 0, nil
	}
	now := s.now()
	rows, err := s.store.claimMails(ctx, now, now.Add(mailLease), mailBatch)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		if ctx.Err() != nil {
			return i, nil // the rest is due again when the lease is over
		}
		if err := s.deliverOne(context.WithoutCancel(ctx), &rows[i], log); err != nil {
			return len(rows), err
		}
	}
	return len(rows), nil
}

func (s *service) deliverOne(ctx context.Context, row *outboxRow, log *slog.Logger) error {
	msg, err := s.mail.unseal(row)
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, mailTimeout)
		err = s.mail.deliver(limited, row.id, msg)
		cancel()
	}
	if err == nil {
		return s.store.deleteMail(ctx, row.id)
	}
	now := s.now()
	giveUp := errors.Is(err, errSeal) || now.Sub(row.createdAt) >= mailGiveUp
	text := err.Error()
	if msg.To != "" { // a mail that could not be opened names nobody
		text = strings.ReplaceAll(text, msg.To, "<recipient>")
	}
	text = printable(text, 300)
	if giveUp {
		log.Error("a mail could not be delivered and is given up", "mail_id", row.id, "user_id", row.userID, "attempts", row.attempts, "error", text)
	} else {
		log.Warn("a mail could not be delivered; it will be tried again", "mail_id", row.id, "user_id", row.userID, "attempts", row.attempts, "error", text)
	}
	return s.store.postponeMail(ctx, row.id, now, now.Add(mailBackOff(row.attempts)), text, giveUp)
}

// mailBackOff doubles from 10 s to 30 min.
func mailBackOff(attempts int) time.Duration {
	return min(10*time.Second<<min(attempts-1, 10), 30*time.Minute)
}

// smtpSender delivers to one SMTP server.
type smtpSender struct {
	server *url.URL // smtp:// or smtps://, with user and password if the server asks
	from   *mail.Address
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	tls    *tls.Config
}

func newSMTPSender(cfg *mailConfig) (*smtpSender, error) {
	from, err := mail.ParseAddress(cfg.from)
	if err != nil {
		return nil, fmt.Errorf("USERSPACE_MAIL_FROM: %w", err)
	}
	host := cfg.smtp.Hostname()
	return &smtpSender{cfg.smtp, from, (&net.Dialer{}).DialContext, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}, nil
}

// isLoopbackHost: mail to a server on this machine needs no TLS; to any other it does, always.
func isLoopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// send delivers one mail. A server that offers no TLS where it is required gets neither password nor mail.
func (s *smtpSender) send(ctx context.Context, mailID id, m message) error {
	host, port := s.server.Hostname(), s.server.Port()
	implicit := s.server.Scheme == "smtps"
	if port == "" {
		port = map[bool]string{true: "465", false: "587"}[implicit]
	}
	conn, err := s.dial(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if implicit {
		conn = tls.Client(conn, s.tls)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	defer client.Close()
	if !implicit && !isLoopbackHost(host) {
		if offered, _ := client.Extension("STARTTLS"); !offered {
			return errors.New("the server offers no STARTTLS, which is required for a host that is not this machine")
		}
		if err := client.StartTLS(s.tls); err != nil {
			return err
		}
	}
	if password, set := s.server.User.Password(); set {
		if err := client.Auth(smtp.PlainAuth("", s.server.User.Username(), password, host)); err != nil {
			return err
		}
	}
	if err := client.Mail(s.from.Address); err != nil {
		return err
	}
	if err := client.Rcpt(m.To); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(s.compose(mailID, m)); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // here the server takes it or not
		return err
	}
	client.Quit() // it has the mail; how it says good-bye changes nothing
	return nil
}

// compose puts a mail into RFC 5322 form. The address was checked to be plain ASCII without white space, so that it can't
// add a header.
func (s *smtpSender) compose(mailID id, m message) []byte {
	_, domain, _ := strings.Cut(s.from.Address, "@")
	var b bytes.Buffer
	for _, h := range [...][2]string{
		{"From", s.from.String()},
		{"To", "<" + m.To + ">"},
		{"Subject", mime.QEncoding.Encode("utf-8", m.Subject)},
		{"Date", time.Now().UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + mailID.String() + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834: no out-of-office replies
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	body.Write([]byte(m.Text)) // into memory
	body.Close()
	return b.Bytes()
}
