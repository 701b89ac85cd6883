package main

// One-time tokens: resetting a password and confirming an email address, by mail or by a link handed over.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"time"
)

const (
	// oneTimeBytes of randomness: nobody guesses it, so its plain SHA-256 can be stored.
	oneTimeBytes = 32
	resetTTL     = 30 * time.Minute
	// inviteTTL is for links that a person hands over (admin create, admin reset, POST /admin/users).
	inviteTTL = 24 * time.Hour
	verifyTTL = 24 * time.Hour
)

// oneTimePrefix tells people and secret scanners what they found.
var oneTimePrefix = map[string]string{purposeReset: "uspr_", purposeVerify: "uspv_"}

// newOneTimeToken returns a token's text and its row.
func newOneTimeToken(now time.Time, purpose string, userID id, email string, ttl time.Duration) (string, *oneTimeToken) {
	secret := make([]byte, oneTimeBytes)
	rand.Read(secret)
	text := oneTimePrefix[purpose] + b64(secret)
	return text, &oneTimeToken{
		userID: userID, purpose: purpose, hash: hashOneTime(text), email: email, createdAt: now, expiresAt: now.Add(ttl),
	}
}

func hashOneTime(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// link puts a token into the configured link of its purpose. The token's characters need no escaping.
func (s *service) link(purpose, token string) string {
	template := s.cfg.mail.resetLink
	if purpose == purposeVerify {
		template = s.cfg.mail.verifyLink
	}
	return strings.Replace(template, "{token}", token, 1)
}

// newResetLink stores a reset token for a user and returns its link, to be handed over.
func (s *service) newResetLink(ctx context.Context, t db, now time.Time, u *user) (link string, err error) {
	token, row := newOneTimeToken(now, purposeReset, u.id, u.email, inviteTTL)
	return s.link(purposeReset, token), t.putOneTimeToken(ctx, row)
}

type emailInput struct {
	Email string `json:"email"`
}

func (in *emailInput) validate(c *check) { c.email("email", &in.Email) }

// sent is the answer to a request for a mail, whether or not one was sent.
type sent struct {
	Status string `json:"status"`
}

func (s *service) requestReset(ctx context.Context, c *call, in emailInput) (sent, error) {
	return sent{"reset_sent"}, s.requestMail(ctx, c, in.Email, purposeReset, resetTTL)
}

func (s *service) resendVerification(ctx context.Context, c *call, in emailInput) (sent, error) {
	return sent{"verification_sent"}, s.requestMail(ctx, c, in.Email, purposeVerify, verifyTTL)
}

// requestMail sends a one-time token to an address if it is an account's. Token and mail are made in any case, and one
// statement decides whether to keep them, so that every address takes the same time.
func (s *service) requestMail(ctx context.Context, c *call, email, purpose string, ttl time.Duration) error {
	event := c.newEvent(c.action, auditSuccess, nil, nil, map[string]any{"fingerprint": b64(s.fingerprint(email)[:9])})
	if s.mail == nil {
		event.status, event.metadata["reason"] = auditFailure, "mail_off"
		return s.store.insertAudit(ctx, event)
	}
	token, row := newOneTimeToken(c.now, purpose, id{}, email, ttl)
	m := s.mail.seal(c.now, tokenMail(purpose, email, s.link(purpose, token), token))
	if err := s.store.sendOneTimeToken(ctx, row, &m, event); err != nil {
		return err
	}
	s.wakeMail()
	return nil
}

type resetInput struct {
	Token    string `json:"token"`
	Password string `json:"password"`
}

func (in *resetInput) validate(c *check) {
	c.token("token", in.Token)
	c.newPassword("password", in.Password, "")
}

// confirmReset sets a password with a one-time token: all sessions end, the lock is cleared, and the address that got the
// token is confirmed. A suspended account stays so. Errors: errInvalidToken, *invalidError, errOverloaded.
func (s *service) confirmReset(ctx context.Context, c *call, in resetInput) (nothing, error) {
	token := hashOneTime(in.Token)
	u, err := s.store.tokenOwner(ctx, purposeReset, token, c.now)
	if errors.Is(err, errNotFound) {
		return nothing{}, errInvalidToken
	}
	if err != nil {
		return nothing{}, err
	}
	c.subject = &u.id
	if reason := passwordFault(in.Password, u.email, s.cfg.passwords.min); reason != "" {
		return nothing{}, failed("password", reason) // the token stays good for a better one
	}
	hash, err := s.hasher.hash(ctx, in.Password)
	if err != nil {
		return nothing{}, err
	}
	var ended []id
	err = s.store.tx(ctx, func(t db) error {
		if _, err := t.lockUser(ctx, u.id); err != nil {
			return err
		}
		userID, email, err := t.takeOneTimeToken(ctx, purposeReset, token, c.now)
		if err != nil {
			return err
		}
		if err := t.verifyEmail(ctx, userID, email, c.now); err != nil {
			return err
		}
		ended, err = s.changePassword(ctx, t, c, &u, hash, c.event(c.action, userID, nil))
		return err
	})
	if errors.Is(err, errNotFound) { // used, replaced or void since we looked
		err = errInvalidToken
	}
	if err != nil {
		return nothing{}, err
	}
	s.revoked.add(ended, s.revokedUntil(c.now))
	s.wakeMail()
	return nothing{}, nil
}

type verifyInput struct {
	Token string `json:"token"`
}

func (in *verifyInput) validate(c *check) { c.token("token", in.Token) }

// verifyEmail confirms the address a token was sent to. A token for an address that has changed since is errInvalidToken.
func (s *service) verifyEmail(ctx context.Context, c *call, in verifyInput) (nothing, error) {
	token := hashOneTime(in.Token)
	err := s.store.tx(ctx, func(t db) error {
		owner, err := t.tokenOwner(ctx, purposeVerify, token, c.now)
		if err != nil {
			return err
		}
		if _, err := t.lockUser(ctx, owner.id); err != nil { // users before tokens, as everywhere: no deadlock
			return err
		}
		userID, email, err := t.takeOneTimeToken(ctx, purposeVerify, token, c.now)
		if err != nil {
			return err
		}
		if err := t.verifyEmail(ctx, userID, email, c.now); err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, userID, nil))
	})
	if errors.Is(err, errNotFound) {
		err = errInvalidToken
	}
	return nothing{}, err
}
