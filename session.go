package main

// Sessions: issuing and reading their tokens, the refresh chain, and what people do with their own.

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"time"
)

const (
	refreshPrefix = "usrt_"
	refreshBytes  = 16 + 4 + sha256.Size // session id, generation, MAC
)

// encodeRefresh makes the refresh token of a session's generation. It is a function of both: nothing about it is stored.
func encodeRefresh(key []byte, sessionID id, generation uint32) string {
	b := make([]byte, 0, refreshBytes)
	b = append(b, sessionID[:]...)
	b = binary.BigEndian.AppendUint32(b, generation)
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return refreshPrefix + b64(mac.Sum(b))
}

// decodeRefresh returns what a refresh token says, if we made it; else errInvalidToken, without asking the database.
func decodeRefresh(key []byte, token string) (sessionID id, generation uint32, err error) {
	text, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok || len(text) != (refreshBytes*8+5)/6 {
		return id{}, 0, errInvalidToken
	}
	b, ok := unb64(text)
	if !ok || len(b) != refreshBytes {
		return id{}, 0, errInvalidToken
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b[:20])
	if !hmac.Equal(b[20:], mac.Sum(nil)) {
		return id{}, 0, errInvalidToken
	}
	generation = binary.BigEndian.Uint32(b[16:])
	if generation == math.MaxUint32 { // its successor would not fit; at one a second that is 136 years
		return id{}, 0, errInvalidToken
	}
	return id(b[:16]), generation, nil
}

// tokens is the answer to a sign-in or refresh.
type tokens struct {
	AccessToken      string   `json:"access_token"`
	TokenType        string   `json:"token_type"`
	ExpiresIn        int64    `json:"expires_in"` // seconds
	RefreshToken     string   `json:"refresh_token"`
	RefreshExpiresIn int64    `json:"refresh_expires_in"`
	Scope            []string `json:"scope"`
	SessionID        id       `json:"session_id"`
}

// issue makes the tokens of a session's generation. The session's own end bounds both lifetimes.
func (s *service) issue(now time.Time, sess *session, scope []string) tokens {
	t := &s.cfg.tokens
	accessUntil := earlier(now.Add(t.accessTTL), sess.expiresAt)
	refreshUntil := earlier(sess.rotatedAt.Add(t.refreshTTL), sess.expiresAt)
	access := claims{
		issuer: t.issuer, audience: t.audience, subject: sess.userID, token: newID(now), session: sess.id,
		issuedAt: now.Unix(), expires: accessUntil.Unix(), scope: scope,
	}
	return tokens{
		AccessToken: encodeToken(s.keys.current, &access), TokenType: "Bearer", ExpiresIn: access.expires - access.issuedAt,
		RefreshToken:     encodeRefresh(s.secrets.refresh, sess.id, sess.generation),
		RefreshExpiresIn: int64(refreshUntil.Sub(now).Seconds()),
		Scope:            scope, SessionID: sess.id,
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// authenticate returns the claims of an access token that is valid and not revoked: errInvalidToken, or errUnavailable.
func (s *service) authenticate(ctx context.Context, token string, now time.Time) (*claims, error) {
	t := &s.cfg.tokens
	rules := tokenRules{t.issuer, t.audience, int64(t.accessTTL.Seconds()), s.keys.find}
	c, err := decodeToken(token, &rules, now.Unix())
	if err != nil {
		return nil, err
	}
	if err := s.revoked.check(ctx, c); err != nil {
		return nil, err
	}
	return c, nil
}

// stillValid asks again whether the caller's token holds, once the request has been read: who was signed out meanwhile must
// not act by a body sent slowly.
func (s *service) stillValid(ctx context.Context, c *call) error {
	if c.caller == nil {
		return nil
	}
	if c.caller.expires <= c.now.Unix() {
		return errInvalidToken
	}
	return s.revoked.check(ctx, c.caller)
}

// revokedUntil is when the last access token of a session that ends now has expired.
func (s *service) revokedUntil(now time.Time) time.Time {
	return now.Add(s.cfg.tokens.accessTTL + skewAllowance)
}

func (s *service) idleSince(now time.Time) time.Time { return now.Add(-s.cfg.tokens.refreshTTL) }

type refreshInput struct {
	RefreshToken string `json:"refresh_token"`
}

func (in *refreshInput) validate(c *check) { c.token("refresh_token", in.RefreshToken) }

// refresh exchanges a refresh token for its successor and a new access token. An old token ends the session.
func (s *service) refresh(ctx context.Context, c *call, in refreshInput) (tokens, error) {
	sessionID, generation, err := decodeRefresh(s.secrets.refresh, in.RefreshToken)
	if err != nil {
		c.offRecord = true // a token we never made is nobody's, and must cost no database work
		return tokens{}, err
	}
	sess := session{id: sessionID, generation: generation, userAgent: c.agent}
	graceSince := c.now.Add(-s.cfg.tokens.refreshGrace)
	metadata := map[string]any{"session_id": sessionID}
	r, err := s.store.rotate(ctx, &sess, c.now, s.idleSince(c.now), graceSince, c.newEvent(c.action, auditSuccess, nil, nil, metadata))
	if errors.Is(err, errNotFound) {
		return tokens{}, s.refuseRefresh(ctx, c, &sess, graceSince)
	}
	if err != nil {
		return tokens{}, err
	}
	sess.userID, sess.generation, sess.rotatedAt, sess.expiresAt = r.userID, generation+1, r.rotatedAt, r.expiresAt
	return s.issue(c.now, &sess, r.scope), nil
}

// refuseRefresh ends the session when the token was used before, and says errInvalidToken in any case.
func (s *service) refuseRefresh(ctx context.Context, c *call, sess *session, graceSince time.Time) error {
	c.note = map[string]any{"session_id": sess.id}
	until := s.revokedUntil(c.now)
	event := c.newEvent("session.reuse_detected", auditDenied, nil, nil, c.note)
	switch err := s.store.endReused(ctx, sess, graceSince, until, event); {
	case err == nil:
		s.revoked.add([]id{sess.id}, until)
		c.offRecord = true
	case !errors.Is(err, errNotFound):
		return err
	}
	return errInvalidToken
}

type logoutInput struct {
	RefreshToken *string `json:"refresh_token"`
}

func (in *logoutInput) validate(*check) {}

// logout ends the session of the access token, or of the refresh token when there is no access token. With both they must
// be of one session, so that nobody ends another's by adding its token.
func (s *service) logout(ctx context.Context, c *call, in logoutInput) (nothing, error) {
	var sessionID id
	if in.RefreshToken != nil {
		var err error
		if sessionID, _, err = decodeRefresh(s.secrets.refresh, *in.RefreshToken); err != nil {
			c.offRecord = true
			return nothing{}, err
		}
	}
	switch {
	case c.caller != nil && in.RefreshToken != nil && sessionID != c.caller.session:
		return nothing{}, errInvalidToken
	case c.caller != nil:
		err := s.endOwnSession(ctx, c, c.caller.subject, c.caller.session, &c.caller.token)
		if errors.Is(err, errNotFound) { // another logout was faster
			err = errInvalidToken
		}
		return nothing{}, err
	case in.RefreshToken == nil:
		return nothing{}, errMissingToken
	}
	sess, err := s.store.sessionByID(ctx, sessionID)
	if err == nil {
		err = s.endOwnSession(ctx, c, sess.userID, sessionID, nil)
	}
	if errors.Is(err, errNotFound) {
		return nothing{}, errInvalidToken
	}
	return nothing{}, err
}

// endOwnSession ends one session of a user with its audit row, and the access token at hand. errNotFound: no such session.
func (s *service) endOwnSession(ctx context.Context, c *call, userID, sessionID id, token *id) error {
	until := s.revokedUntil(c.now)
	ended, err := s.store.endSession(ctx, userID, sessionID, token, until, c.event(c.action, userID, map[string]any{"session_id": sessionID}))
	if err != nil {
		return err
	}
	s.revoked.add(ended, until)
	return nil
}

// sessionView is a session as its owner sees it.
type sessionView struct {
	ID        id         `json:"id"`
	CreatedAt time.Time  `json:"created_at"`
	LastUsed  time.Time  `json:"last_used"`
	ExpiresAt time.Time  `json:"expires_at"`
	IP        netip.Addr `json:"ip"`
	UserAgent string     `json:"user_agent"`
	Current   bool       `json:"current"`
}

type sessionList struct {
	Items []sessionView `json:"items"`
}

func (s *service) listSessions(ctx context.Context, c *call, _ nothing) (sessionList, error) {
	rows, err := s.store.listSessions(ctx, c.caller.subject, c.now, s.idleSince(c.now))
	list := sessionList{make([]sessionView, len(rows))}
	for i, r := range rows {
		list.Items[i] = sessionView{
			r.id, r.createdAt.UTC(), r.rotatedAt.UTC(), r.expiresAt.UTC(), r.ip, r.userAgent, r.id == c.caller.session,
		}
	}
	return list, err
}

type sessionInput struct {
	ID id `path:"id"`
}

func (in *sessionInput) validate(*check) {}

// endSession ends one of the caller's sessions; another's is as absent as one that never was.
func (s *service) endSession(ctx context.Context, c *call, in sessionInput) (nothing, error) {
	return nothing{}, s.endOwnSession(ctx, c, c.caller.subject, in.ID, nil)
}

// endOtherSessions ends all of the caller's sessions but the present one.
func (s *service) endOtherSessions(ctx context.Context, c *call, _ nothing) (nothing, error) {
	until := s.revokedUntil(c.now)
	var ended []id
	err := s.store.tx(ctx, func(t db) error {
		u, err := t.lockUser(ctx, c.caller.subject)
		if err != nil {
			return err
		}
		if ended, err = t.endSessions(ctx, u.id, &c.caller.session, c.now, until, c.action); err != nil {
			return err
		}
		return t.insertAudit(ctx, c.event(c.action, c.caller.subject, map[string]any{"ended": len(ended), "others": true}))
	})
	if errors.Is(err, errNotFound) {
		err = errInvalidToken
	}
	if err == nil {
		s.revoked.add(ended, until)
	}
	return nothing{}, err
}
