package main

// /users/me: what people do with their own account.

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// userView is a user on the wire.
type userView struct {
	ID            id              `json:"id"`
	Email         string          `json:"email"`
	EmailVerified bool            `json:"email_verified"`
	Status        string          `json:"status"`
	Scope         []string        `json:"scope"`
	Profile       json.RawMessage `json:"profile"`
	CreatedAt     time.Time       `json:"created_at"`
	UpdatedAt     time.Time       `json:"updated_at"`
	LastLogin     *time.Time      `json:"last_login"`
}

func (u *user) view() userView {
	return userView{
		u.id, u.email, u.emailVerified, u.status, u.scope, u.profile, u.createdAt.UTC(), u.updatedAt.UTC(), utc(u.lastLogin),
	}
}

// utc shows a time in UTC; nil stays nil.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	v := t.UTC()
	return &v
}

// self returns the caller's row. An account that is gone has no valid token, even before its revocation is known here.
func (s *service) self(ctx context.Context, c *call) (user, error) {
	u, err := s.store.userByID(ctx, c.caller.subject)
	if errors.Is(err, errNotFound) {
		return user{}, errInvalidToken
	}
	return u, err
}

func (s *service) me(ctx context.Context, c *call, _ nothing) (userView, error) {
	u, err := s.self(ctx, c)
	return u.view(), err
}

type updateInput struct {
	Profile         json.RawMessage `json:"profile"`
	Email           *string         `json:"email"`
	Password        *string         `json:"password"`
	CurrentPassword *string         `json:"current_password"`
}

func (in *updateInput) validate(c *check) {
	c.profile("profile", in.Profile)
	if in.Email != nil {
		c.email("email", in.Email)
	}
	if in.Password != nil {
		c.newPassword("password", *in.Password, "")
		if in.CurrentPassword != nil && *in.CurrentPassword == *in.Password {
			c.fail("password", "unchanged")
		}
	}
	if in.Email != nil || in.Password != nil {
		c.presentPassword("current_password", deref(in.CurrentPassword))
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// update changes profile, email and password, all that are given or none. Email and password ask for the present
// password, and a new password ends all sessions, this one included. Errors: *invalidError, *throttleError, errEmailTaken.
func (s *service) update(ctx context.Context, c *call, in updateInput) (userView, error) {
	before, err := s.self(ctx, c)
	if err != nil {
		return userView{}, err
	}
	var newHash string
	if in.Email != nil || in.Password != nil {
		if newHash, err = s.authorizeChange(ctx, c, &before, in); err != nil {
			return userView{}, err
		}
	}
	if in.Email != nil { // each change mails two addresses that need not be the caller's
		if err := s.mails.allow(limitKey{bytes: before.id}, c.now); err != nil {
			return userView{}, err
		}
	}
	until := s.revokedUntil(c.now)
	var after user
	var ended []id
	err = s.store.tx(ctx, func(t db) error {
		u, err := t.lockUser(ctx, before.id)
		if err != nil {
			return err
		}
		if newHash != "" || in.Email != nil {
			if err := stillAllowed(c, &u, before.passwordHash); err != nil {
				return err
			}
			if err := t.clearLock(ctx, u.id); err != nil {
				return err
			}
		}
		if in.Profile != nil {
			if err := s.changeProfile(ctx, t, c, &u, in.Profile); err != nil {
				return err
			}
		}
		if in.Email != nil {
			if err := s.changeEmail(ctx, t, c, &u, *in.Email); err != nil {
				return err
			}
		}
		if newHash != "" {
			if ended, err = s.changePassword(ctx, t, c, &u, newHash, c.event("user.password_change", u.id, nil)); err != nil {
				return err
			}
		}
		after, err = t.userByID(ctx, u.id)
		return err
	})
	if errors.Is(err, errNotFound) {
		err = errInvalidToken
	}
	if err != nil {
		return userView{}, err
	}
	s.revoked.add(ended, until)
	s.wakeMail()
	return after.view(), nil
}

// authorizeChange checks the present password and the rules that need the account, and returns the new password's hash, ""
// when there is none.
func (s *service) authorizeChange(ctx context.Context, c *call, u *user, in updateInput) (newHash string, err error) {
	email := u.email
	if in.Email != nil {
		if *in.Email == u.email {
			return "", failed("email", "unchanged")
		}
		email = *in.Email
	}
	if in.Password != nil {
		if reason := passwordFault(*in.Password, email, s.cfg.passwords.min); reason != "" {
			return "", failed("password", reason)
		}
	}
	if err := s.checkOwnPassword(ctx, c, u.email, *in.CurrentPassword); err != nil || in.Password == nil {
		return "", err
	}
	return s.hasher.hash(ctx, *in.Password)
}

// allowCostly limits what a signed-in user may ask for that costs a hash or many rows, at the rate of credential requests.
func (s *service) allowCostly(c *call) error {
	return s.costly.allow(limitKey{byte(credentials), c.caller.subject}, c.now)
}

// checkOwnPassword is checkPassword for somebody who is signed in: a wrong password is a field error, and counts.
func (s *service) checkOwnPassword(ctx context.Context, c *call, email, password string) error {
	if err := s.allowCostly(c); err != nil {
		return err
	}
	_, _, err := s.checkPassword(ctx, c, email, password)
	if errors.Is(err, errInvalidCredentials) {
		return failed("current_password", "wrong")
	}
	return err
}

// stillAllowed asks the locked row whether what was found right before the hash still is: errConflict, or *throttleError when
// others used the attempts up meanwhile.
func stillAllowed(c *call, u *user, checkedHash string) error {
	if u.passwordHash != checkedHash || u.status != statusActive {
		return errConflict
	}
	if wait := lockWait(u.lockedUntil, c.now); wait > 0 {
		return &throttleError{locked: true, limit: lockThreshold, wait: wait}
	}
	return nil
}

// changeProfile merges a patch (RFC 7396) into the profile of a user whose row is locked, so that patches at the same time
// both hold.
func (s *service) changeProfile(ctx context.Context, t db, c *call, u *user, patch json.RawMessage) error {
	merged := mergePatch(u.profile, patch)
	if reason := profileFault(merged); reason != "" {
		return failed("profile", reason)
	}
	if err := t.updateProfile(ctx, u.id, merged, c.now); err != nil {
		return err
	}
	return t.insertAudit(ctx, c.event("user.update", u.id, nil))
}

// changeEmail sets a new address, not verified yet. The old one is told, and links that were sent to it are void.
func (s *service) changeEmail(ctx context.Context, t db, c *call, u *user, email string) error {
	if err := t.updateEmail(ctx, u.id, email, c.now); err != nil {
		return err
	}
	if err := t.dropOneTimeTokens(ctx, u.id, ""); err != nil {
		return err
	}
	if s.mail != nil {
		if u.emailVerified { // to the old address, if it ever was the user's
			if err := s.mailNotice(ctx, t, c.now, u, noticeEmailChanged); err != nil {
				return err
			}
		}
		renamed := *u
		renamed.email = email
		if err := s.mailToken(ctx, t, c.now, &renamed, purposeVerify); err != nil {
			return err
		}
	}
	return t.insertAudit(ctx, c.event("user.email_change", u.id, nil))
}

// changePassword sets a hash, ends all sessions, voids reset links and tells the owner. It returns the sessions that ended.
func (s *service) changePassword(ctx context.Context, t db, c *call, u *user, hash string, event *auditEvent) ([]id, error) {
	if err := t.updatePassword(ctx, u.id, hash, c.now); err != nil {
		return nil, err
	}
	if err := t.dropOneTimeTokens(ctx, u.id, purposeReset); err != nil {
		return nil, err
	}
	ended, err := t.endSessions(ctx, u.id, nil, c.now, s.revokedUntil(c.now), event.action)
	if err != nil {
		return nil, err
	}
	if s.mail != nil {
		if err := s.mailNotice(ctx, t, c.now, u, noticePasswordChanged); err != nil {
			return nil, err
		}
	}
	return ended, t.insertAudit(ctx, event)
}

type deleteSelfInput struct {
	CurrentPassword string `json:"current_password"`
}

func (in *deleteSelfInput) validate(c *check) {
	c.presentPassword("current_password", in.CurrentPassword)
}

// deleteSelf erases the caller's account. Errors: *invalidError, *throttleError, errLastAdmin.
func (s *service) deleteSelf(ctx context.Context, c *call, in deleteSelfInput) (nothing, error) {
	u, err := s.self(ctx, c)
	if err != nil {
		return nothing{}, err
	}
	if err := s.checkOwnPassword(ctx, c, u.email, in.CurrentPassword); err != nil {
		return nothing{}, err
	}
	err = s.eraseUser(ctx, c, u.id, func(now *user) error {
		return stillAllowed(c, now, u.passwordHash)
	})
	if errors.Is(err, errNotFound) {
		err = errInvalidToken
	}
	return nothing{}, err
}

// export is what is held about a user: the account, its sessions, and the audit rows that concern it.
type export struct {
	User     adminView     `json:"user"`
	Sessions []sessionView `json:"sessions"`
	Audit    []auditItem   `json:"audit_log"` // newest first
	Complete bool          `json:"audit_log_complete"`
}

// maxExportAudit bounds the memory of one export; older rows can be asked of an administrator.
const maxExportAudit = 10_000

func (s *service) exportSelf(ctx context.Context, c *call, _ nothing) (export, error) {
	if err := s.allowCostly(c); err != nil {
		return export{}, err
	}
	u, err := s.self(ctx, c)
	if err != nil {
		return export{}, err
	}
	sessions, err := s.listSessions(ctx, c, nothing{})
	if err != nil {
		return export{}, err
	}
	events, err := s.store.listAudit(ctx, auditFilter{userID: &u.id, limit: maxExportAudit + 1})
	if err != nil {
		return export{}, err
	}
	complete := len(events) <= maxExportAudit
	items := auditItems(events[:min(len(events), maxExportAudit)])
	for i := range items {
		if actor := items[i].ActorID; actor != nil && *actor != u.id { // an administrator's data is not the user's
			items[i].ActorID, items[i].IP = nil, nil
		}
	}
	return export{u.adminView(), sessions.Items, items, complete}, nil
}
