package main

// /admin: what administrators do with the accounts of others.

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

const scopeAdmin = "admin"

// adminView is a user as administrators see it.
type adminView struct {
	userView
	FailedAttempts int        `json:"failed_attempts"`
	LockedUntil    *time.Time `json:"locked_until"`
}

func (u *user) adminView() adminView {
	return adminView{u.view(), u.failedAttempts, utc(u.lockedUntil)}
}

type listUsersInput struct {
	Limit  int    `query:"limit"`
	Cursor string `query:"cursor"`
	Status string `query:"status"`
	Email  string `query:"email"`
	Prefix string `query:"q"`
}

// validate has nothing to say: a filter that can't be is a bad query, which listUsers answers with 400.
func (in *listUsersInput) validate(*check) {}

// listUsers pages through the users, newest first, or by email when a prefix is asked for.
func (s *service) listUsers(ctx context.Context, c *call, in listUsersInput) (page[adminView], error) {
	var none page[adminView]
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return none, err
	}
	if in.Status != "" && !isStatus(in.Status) {
		return none, badRequest("status", "invalid")
	}
	if len(in.Email) > maxEmail {
		return none, badRequest("email", "too_long")
	}
	if len(in.Prefix) > maxEmail {
		return none, badRequest("q", "too_long")
	}
	f := userFilter{status: in.Status, email: strings.ToLower(in.Email), prefix: strings.ToLower(in.Prefix), limit: limit + 1}
	key := func(v adminView) string { return v.ID.String() }
	if f.prefix != "" {
		key = func(v adminView) string { return v.Email }
	}
	if in.Cursor != "" {
		if f.after, err = userCursor(in.Cursor, f.prefix != ""); err != nil {
			return none, err
		}
	}
	rows, err := s.store.listUsers(ctx, f)
	if err != nil {
		return none, err
	}
	views := make([]adminView, len(rows))
	for i := range rows {
		views[i] = rows[i].adminView()
	}
	return newPage(views, limit, key), nil
}

// userCursor reads a cursor of either order.
func userCursor(cursor string, byEmail bool) (string, error) {
	if !byEmail {
		u, err := readIDCursor(cursor)
		return u.String(), err
	}
	key, err := readCursor(cursor)
	if err != nil {
		return "", err
	}
	if _, reason := normalEmail(key); reason != "" {
		return "", badRequest("cursor", "invalid")
	}
	return key, nil
}

func isStatus(s string) bool { return s == statusPending || s == statusActive || s == statusSuspended }

type createUserInput struct {
	Email    string          `json:"email"`
	Password *string         `json:"password"`
	Scope    []string        `json:"scope"`
	Profile  json.RawMessage `json:"profile"`
}

func (in *createUserInput) validate(c *check) {
	c.email("email", &in.Email)
	if in.Password != nil {
		c.newPassword("password", *in.Password, in.Email)
	}
	if in.Scope != nil {
		c.scope("scope", in.Scope)
	}
	c.profile("profile", in.Profile)
}

// createdUser adds the link to set a password, when there is no mail to send it by.
type createdUser struct {
	adminView
	SetPasswordLink string `json:"set_password_link,omitempty"`
}

// createUser makes an account: active with a password, else pending until the link is used. Errors: errEmailTaken,
// errOverloaded.
func (s *service) createUser(ctx context.Context, c *call, in createUserInput) (createdUser, error) {
	u := newUser(c.now, in.Email, "", in.Profile)
	u.status = statusPending
	if in.Scope != nil {
		u.scope = in.Scope
	}
	if in.Password != nil {
		hash, err := s.hasher.hash(ctx, *in.Password)
		if err != nil {
			return createdUser{}, err
		}
		u.passwordHash, u.status = hash, statusActive
	}
	var link string
	err := s.store.tx(ctx, func(t db) (err error) {
		if err := t.insertUser(ctx, u); err != nil {
			return err
		}
		switch {
		case in.Password != nil:
		case s.mail != nil:
			err = s.mailToken(ctx, t, c.now, u, purposeReset)
		default:
			link, err = s.newResetLink(ctx, t, c.now, u)
		}
		if err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, u.id, map[string]any{"scope": u.scope}))
	})
	if err != nil {
		return createdUser{}, err
	}
	s.wakeMail()
	return createdUser{u.adminView(), link}, nil
}

type userInput struct {
	ID id `path:"id"`
}

func (in *userInput) validate(*check) {}

func (s *service) getUser(ctx context.Context, c *call, in userInput) (adminView, error) {
	c.subject = &in.ID
	u, err := s.store.userByID(ctx, in.ID)
	return u.adminView(), err
}

func (s *service) deleteUser(ctx context.Context, c *call, in userInput) (nothing, error) {
	c.subject = &in.ID
	return nothing{}, s.eraseUser(ctx, c, in.ID, func(*user) error { return nil })
}

// eraseUser removes an account with its personal data; the audit log keeps the id and the addresses it was used from. confirm sees the locked row and can still
// say no. Errors: errNotFound, errLastAdmin, confirm's.
func (s *service) eraseUser(ctx context.Context, c *call, userID id, confirm func(*user) error) error {
	var ended []id
	err := s.store.tx(ctx, func(t db) (err error) {
		if err := keepAnAdmin(ctx, t, userID); err != nil {
			return err
		}
		u, err := t.lockUser(ctx, userID)
		if err != nil {
			return err
		}
		if err := confirm(&u); err != nil {
			return err
		}
		if ended, err = t.endSessions(ctx, userID, nil, c.now, s.revokedUntil(c.now), c.action); err != nil {
			return err
		}
		if err := t.deleteUser(ctx, userID); err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, userID, nil))
	})
	if err == nil {
		s.revoked.add(ended, s.revokedUntil(c.now))
	}
	return err
}

// keepAnAdmin returns errLastAdmin when the user is the only active administrator. Until the transaction ends no other can
// stop being one.
func keepAnAdmin(ctx context.Context, t db, userID id) error {
	admins, err := t.lockActiveAdmins(ctx)
	if err != nil {
		return err
	}
	if len(admins) == 1 && admins[0] == userID {
		return errLastAdmin
	}
	return nil
}

type statusInput struct {
	ID     id     `path:"id"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}

func (in *statusInput) validate(c *check) {
	switch in.Status {
	case statusActive, statusSuspended:
	case "":
		c.fail("status", "required")
	default:
		c.fail("status", "invalid")
	}
	c.text("reason", in.Reason, maxReason)
}

// setStatus suspends an account, which ends its sessions, or makes it active. Errors: errNotFound, errLastAdmin.
func (s *service) setStatus(ctx context.Context, c *call, in statusInput) (adminView, error) {
	suspend := in.Status == statusSuspended
	return s.changeUser(ctx, c, in.ID, suspend, func(t db, u *user) (map[string]any, bool, error) {
		metadata := map[string]any{"from": u.status, "to": in.Status, "reason": in.Reason}
		return metadata, suspend, t.updateStatus(ctx, u.id, in.Status, c.now)
	})
}

type scopeInput struct {
	ID    id       `path:"id"`
	Scope []string `json:"scope"`
}

func (in *scopeInput) validate(c *check) { c.scope("scope", in.Scope) }

// setScope replaces the scope and ends the sessions, whose tokens hold the old one. Errors: errNotFound, errLastAdmin.
func (s *service) setScope(ctx context.Context, c *call, in scopeInput) (adminView, error) {
	demote := !slices.Contains(in.Scope, scopeAdmin)
	return s.changeUser(ctx, c, in.ID, demote, func(t db, u *user) (map[string]any, bool, error) {
		metadata := map[string]any{"from": u.scope, "to": in.Scope}
		return metadata, !slices.Equal(u.scope, in.Scope), t.updateScope(ctx, u.id, in.Scope, c.now)
	})
}

// changeUser runs an administrator's change on a locked row, ends the sessions if the change says so, and writes the audit
// row. removesAdmin: after the change the user is no active administrator.
func (s *service) changeUser(ctx context.Context, c *call, userID id, removesAdmin bool,
	change func(t db, u *user) (metadata map[string]any, endSessions bool, err error)) (adminView, error) {
	c.subject = &userID
	var after user
	var ended []id
	err := s.store.tx(ctx, func(t db) error {
		if removesAdmin {
			if err := keepAnAdmin(ctx, t, userID); err != nil {
				return err
			}
		}
		before, err := t.lockUser(ctx, userID)
		if err != nil {
			return err
		}
		metadata, endSessions, err := change(t, &before)
		if err != nil {
			return err
		}
		if endSessions {
			if ended, err = t.endSessions(ctx, userID, nil, c.now, s.revokedUntil(c.now), c.action); err != nil {
				return err
			}
			metadata["sessions_ended"] = len(ended)
		}
		if err := t.insertAudit(ctx, c.event(c.action, userID, metadata)); err != nil {
			return err
		}
		after, err = t.userByID(ctx, userID)
		return err
	})
	if err == nil {
		s.revoked.add(ended, s.revokedUntil(c.now))
	}
	return after.adminView(), err
}

func (s *service) endUserSessions(ctx context.Context, c *call, in userInput) (nothing, error) {
	_, err := s.changeUser(ctx, c, in.ID, false, func(db, *user) (map[string]any, bool, error) {
		return map[string]any{}, true, nil
	})
	return nothing{}, err
}

// resetByOperator makes a link to set a password, for `admin reset`. Errors: errNotFound.
func (s *service) resetByOperator(ctx context.Context, c *call, email string) (link string, err error) {
	err = s.store.tx(ctx, func(t db) error {
		u, err := t.userByEmail(ctx, email)
		if err != nil {
			return err
		}
		if link, err = s.newResetLink(ctx, t, c.now, &u); err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, u.id, map[string]any{"by": "command line"}))
	})
	return link, err
}

// setPasswordByOperator sets a password, for `admin reset` with one on stdin. Errors: errNotFound, *invalidError.
func (s *service) setPasswordByOperator(ctx context.Context, c *call, email, password string) error {
	if reason := passwordFault(password, email, s.cfg.passwords.min); reason != "" {
		return failed("password", reason)
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.store.tx(ctx, func(t db) error {
		u, err := t.userByEmail(ctx, email)
		if err != nil {
			return err
		}
		if u, err = t.lockUser(ctx, u.id); err != nil {
			return err
		}
		if u.status == statusPending {
			if err := t.updateStatus(ctx, u.id, statusActive, c.now); err != nil {
				return err
			}
		}
		_, err = s.changePassword(ctx, t, c, &u, hash, c.event(c.action, u.id, map[string]any{"by": "command line"}))
		return err
	})
}
