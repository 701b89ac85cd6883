package main

// Registration and sign-in, and the check of a password on which other changes rest.

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"
)

// service is the domain: everything an endpoint can do. Its methods are the endpoints' functions, in the files of their areas.
type service struct {
	cfg     *config
	store   *store
	keys    *keyRing
	secrets secretKeys
	hasher  *hasher
	revoked *revocations
	mail    *mailer  // nil when mail is off
	costly  *limiter // what one user may ask for that takes a hash or a lot of rows
	mails   *limiter // mails that a stranger or a changed address causes, for each account
	clock   func() time.Time
}

// now reads the clock, in UTC and in the microseconds PostgreSQL keeps, so that an answer and its row agree.
func (s *service) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// lockThreshold is the number of wrong passwords that locks; the rule itself is in the schema (next_failures, lock_until).
const lockThreshold = 5

type registerInput struct {
	Email    string          `json:"email"`
	Password string          `json:"password"`
	Profile  json.RawMessage `json:"profile"`
}

func (in *registerInput) validate(c *check) {
	c.email("email", &in.Email)
	c.newPassword("password", in.Password, in.Email)
	c.profile("profile", in.Profile)
}

// registered is the answer to a registration: the user, or, in mode verified, only that a mail is on its way.
type registered struct {
	User   *userView `json:"user,omitempty"`
	Status string    `json:"status,omitempty"`
}

// register creates an account, or returns errEmailTaken.
func (s *service) register(ctx context.Context, c *call, in registerInput) (registered, error) {
	u, err := s.newAccount(ctx, c, in)
	if err != nil {
		return registered{}, err
	}
	u.status = statusActive
	err = s.store.tx(ctx, func(t db) error {
		if err := t.insertUser(ctx, u); err != nil {
			return err
		}
		if s.mail != nil {
			if err := s.mailToken(ctx, t, c.now, u, purposeVerify); err != nil {
				return err
			}
		}
		return t.insertAudit(ctx, c.event(c.action, u.id, nil))
	})
	if err != nil {
		return registered{}, err
	}
	s.wakeMail()
	view := u.view()
	return registered{User: &view}, nil
}

// registerVerified is register in mode verified: whether the email is taken is told to its owner by mail and to nobody
// else: every case hashes and answers alike.
func (s *service) registerVerified(ctx context.Context, c *call, in registerInput) (registered, error) {
	u, err := s.newAccount(ctx, c, in)
	if err != nil {
		return registered{}, err
	}
	u.status = statusPending
	err = s.store.tx(ctx, func(t db) error {
		owner, err := t.userByEmail(ctx, u.email)
		if err == nil { // confirmed or not: a stranger's registration must not touch an account, nor its password
			if s.mails.allow(limitKey{bytes: owner.id}, c.now) == nil {
				if err := s.mailNotice(ctx, t, c.now, &owner, noticeRegistered); err != nil {
					return err
				}
			}
			return t.insertAudit(ctx, c.newEvent(c.action, auditFailure, &owner.id, nil, map[string]any{"reason": "email_taken"}))
		}
		if !errors.Is(err, errNotFound) {
			return err
		}
		if err := t.insertUser(ctx, u); err != nil {
			return err
		}
		if err := s.mailToken(ctx, t, c.now, u, purposeVerify); err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, u.id, nil))
	})
	if errors.Is(err, errEmailTaken) || errors.Is(err, errNotFound) { // overtaken by a moment, by a registration or a deletion
		err = s.store.insertAudit(ctx, c.newEvent(c.action, auditFailure, nil, nil, map[string]any{"reason": "email_taken"}))
	}
	if err != nil {
		return registered{}, err
	}
	s.wakeMail()
	return registered{Status: "verification_sent"}, nil
}

// newAccount makes the row of a user who is not stored yet, with the hash computed. Errors: errRegistrationClosed,
// errOverloaded.
func (s *service) newAccount(ctx context.Context, c *call, in registerInput) (*user, error) {
	if s.cfg.registration == "closed" {
		return nil, errRegistrationClosed
	}
	hash, err := s.hasher.hash(ctx, in.Password)
	if err != nil {
		return nil, err
	}
	return newUser(c.now, in.Email, hash, in.Profile), nil
}

// newUser makes a row with the defaults of a new account; the status is the caller's to set.
func newUser(now time.Time, email, passwordHash string, profile json.RawMessage) *user {
	if profile == nil {
		profile = json.RawMessage("{}")
	}
	return &user{
		id: newID(now), email: email, passwordHash: passwordHash, profile: profile, scope: []string{"user"},
		createdAt: now, updatedAt: now,
	}
}

type loginInput struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (in *loginInput) validate(c *check) {
	c.email("email", &in.Email)
	c.presentPassword("password", in.Password)
}

// login opens a session. Unknown email, wrong password and locked email look the same for every email; the state of an
// account is told only after its password. Errors: errInvalidCredentials, *throttleError, errSuspended,
// errEmailNotVerified, errOverloaded.
func (s *service) login(ctx context.Context, c *call, in loginInput) (tokens, error) {
	t, err := s.tryLogin(ctx, c, in)
	if errors.Is(err, errConflict) { // another sign-in has just rehashed the password: what we compared with is gone
		t, err = s.tryLogin(ctx, c, in)
	}
	if errors.Is(err, errConflict) {
		c.reason, err = "changed_meanwhile", errInvalidCredentials
	}
	return t, err
}

// tryLogin is login, but for errConflict: the stored hash changed while we computed.
func (s *service) tryLogin(ctx context.Context, c *call, in loginInput) (tokens, error) {
	found, stale, err := s.checkPassword(ctx, c, in.Email, in.Password)
	if err != nil {
		return tokens{}, err
	}
	if err := statusError(found.status); err != nil {
		return tokens{}, err
	}
	hash := found.passwordHash
	if stale { // the costs were changed since it was computed
		if hash, err = s.hasher.hash(ctx, in.Password); err != nil {
			return tokens{}, err
		}
	}
	sess := &session{
		id: newID(c.now), userID: found.userID, createdAt: c.now, rotatedAt: c.now,
		expiresAt: c.now.Add(s.cfg.tokens.sessionTTL), userAgent: c.agent,
	}
	event := c.newEvent(c.action, auditSuccess, nil, nil, map[string]any{"session_id": sess.id})
	o, err := s.store.openSession(ctx, sess, found.passwordHash, hash, s.revokedUntil(c.now), event)
	if errors.Is(err, errNotFound) {
		return tokens{}, s.overtaken(ctx, c, in.Email, found.passwordHash)
	}
	if err != nil {
		return tokens{}, err
	}
	s.revoked.add(o.ended, s.revokedUntil(c.now))
	return s.issue(c.now, sess, o.scope), nil
}

// overtaken says why a sign-in with the right password found no row to open a session on; errConflict when the password is
// another one now.
func (s *service) overtaken(ctx context.Context, c *call, email, checkedHash string) error {
	found, err := s.store.findAttempt(ctx, email, s.fingerprint(email))
	switch {
	case err != nil:
		return err
	case lockWait(found.lockedUntil, c.now) > 0:
		return &throttleError{locked: true, limit: lockThreshold, wait: lockWait(found.lockedUntil, c.now)}
	case found.passwordHash == checkedHash && statusError(found.status) != nil:
		return statusError(found.status)
	}
	return errConflict
}

// statusError is what the status of an account has to say to the owner of its password.
func statusError(status string) error {
	switch status {
	case statusActive:
		return nil
	case statusPending:
		return errEmailNotVerified
	}
	return errSuspended
}

// checkPassword compares a password with the one of an email and counts it when it is wrong. A locked email is refused
// without a look at the password. stale: the hash has other costs than new ones get. Errors: errInvalidCredentials,
// *throttleError, errOverloaded.
func (s *service) checkPassword(ctx context.Context, c *call, email, password string) (found attempt, stale bool, err error) {
	fingerprint := s.fingerprint(email)
	if found, err = s.store.findAttempt(ctx, email, fingerprint); err != nil {
		return found, false, err
	}
	if found.status != "" {
		c.subject = &found.userID
	}
	if wait := lockWait(found.lockedUntil, c.now); wait > 0 {
		return found, false, &throttleError{locked: true, limit: lockThreshold, wait: wait}
	}
	right, stale, err := s.hasher.verify(ctx, password, found.passwordHash)
	if err != nil || right {
		return found, stale, err
	}
	// The row is the same for every email, but for the id: an unknown one is known by its fingerprint, so that a password
	// typed into the wrong field is not kept.
	metadata := map[string]any{"reason": "wrong_password"}
	if found.status == "" {
		metadata = map[string]any{"reason": "unknown_email", "fingerprint": b64(fingerprint[:9])}
	}
	counted, err := s.store.countFailure(ctx, email, fingerprint, c.newEvent(c.action, auditFailure, nil, c.callerID(), metadata))
	if err != nil {
		return found, false, err
	}
	if !counted { // others used the attempts up while this one was hashing
		if found, err = s.store.findAttempt(ctx, email, fingerprint); err != nil {
			return found, false, err
		}
		return found, false, &throttleError{locked: true, limit: lockThreshold, wait: max(time.Second, lockWait(found.lockedUntil, c.now))}
	}
	c.offRecord = true
	return found, false, errInvalidCredentials
}

// lockWait is how long a lock still holds; 0 or less when it does not.
func lockWait(until *time.Time, now time.Time) time.Duration {
	if until == nil {
		return 0
	}
	return until.Sub(now)
}

// fingerprint stands for an email that may have no account: keyed, so that a dump of the table does not give it away.
func (s *service) fingerprint(email string) []byte {
	mac := hmac.New(sha256.New, s.secrets.fingerprint)
	mac.Write([]byte(email))
	return mac.Sum(nil)
}
