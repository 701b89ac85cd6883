package main

// The pipeline: every request passes these stages in this order (ServeHTTP and pass). Nobody else writes to the
// ResponseWriter, so nothing can fail after answering.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// requestTimeout bounds the work on a request once it is read: the longest wait for a hash and a few statements.
const requestTimeout = 10 * time.Second

// pipeline serves the rows of a route table.
type pipeline struct {
	service        *service
	mux            *http.ServeMux
	routes         map[string]*route // by pattern
	log            *slog.Logger
	limiters       map[limit]*limiter
	trustedProxies []netip.Prefix
	tls            bool
}

func newPipeline(s *service, table []route, log *slog.Logger) *pipeline {
	cfg := s.cfg
	p := &pipeline{
		service: s, mux: http.NewServeMux(), routes: map[string]*route{}, log: log,
		limiters: map[limit]*limiter{
			credentials: newLimiter(cfg.limits.credentials),
			perClient:   newLimiter(cfg.limits.api),
			perUser:     newLimiter(cfg.limits.api),
		},
		trustedProxies: cfg.listen.trustedProxies,
		tls:            cfg.listen.tlsCert != "",
	}
	for i := range table {
		row := &table[i]
		if row.access.kind == 0 || row.limit == 0 || row.audit.action == "" || row.endpoint.run == nil {
			panic("route without a policy: " + row.pattern)
		}
		p.routes[row.pattern] = row
		p.mux.Handle(row.pattern, http.NotFoundHandler()) // the mux only matches; pass serves
	}
	return p
}

// sweep forgets rate-limit buckets that are full again.
func (p *pipeline) sweep(now time.Time) {
	for _, l := range p.limiters {
		l.sweep(now)
	}
}

// response is an answer ready to be written.
type response struct {
	status int
	header http.Header
	body   []byte
	err    error // for the log
}

// ServeHTTP records: whatever happens inside becomes one answer, one log line and, where due, one audit row.
func (p *pipeline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		now: p.service.now(), started: time.Now(), traceID: traceID(r.Header), ip: clientAddr(r, p.trustedProxies),
		agent: printable(r.UserAgent(), 256), action: "unmatched",
	}
	setHeaders(w.Header(), c.traceID, p.tls)
	row, res := p.match(w, r)
	if row != nil {
		c.action = row.audit.action
		res = p.serve(w, r, row, c)
	}
	for name, values := range res.header {
		w.Header()[name] = values
	}
	if len(res.body) > 0 {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(res.body)))
	}
	w.WriteHeader(res.status)
	if r.Method != http.MethodHead {
		w.Write(res.body) // a client that went away is no error of ours
	}
	p.logRequest(r, row, c, &res)
}

// serve passes a request through the stages and turns the outcome, a panic included, into a response and an audit row.
func (p *pipeline) serve(w http.ResponseWriter, r *http.Request, row *route, c *call) response {
	// A client that goes away does not stop the work: a cancelled statement would cost its connection.
	ctx := context.WithoutCancel(r.Context())
	body, err := p.guard(ctx, w, r, row, c)
	if auditErr := p.audit(ctx, row, c, err); auditErr != nil {
		if err == nil { // read, but not recorded: not answered
			err = auditErr
		} else {
			p.log.Error("an audit row could not be written", "trace_id", c.traceID, "action", c.action, "error", auditErr)
		}
	}
	if err != nil {
		return errorResponse(err, c.traceID)
	}
	res := response{status: row.endpoint.status, body: body}
	if row.endpoint.maxAge > 0 {
		res.header = http.Header{"Cache-Control": {"public, max-age=" + strconv.Itoa(row.endpoint.maxAge)}}
	}
	return res
}

// guard turns a panic into an error.
func (p *pipeline) guard(ctx context.Context, w http.ResponseWriter, r *http.Request, row *route, c *call) (body []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic", "trace_id", c.traceID, "value", fmt.Sprint(v), "stack", string(debug.Stack()))
			body, err = nil, errors.New("panic")
		}
	}()
	return p.pass(ctx, w, r, row, c)
}

// pass is the order of the stages after matching. TLS is before, writing and the audit row of failures after.
func (p *pipeline) pass(ctx context.Context, w http.ResponseWriter, r *http.Request, row *route, c *call) ([]byte, error) {
	if !acceptsJSON(r.Header) {
		return nil, errNotAcceptable
	}
	if err := p.limitClient(row, c); err != nil {
		return nil, err
	}
	if err := p.authenticate(ctx, row, r, c); err != nil {
		c.offRecord = true
		return nil, err
	}
	if err := p.limitUser(row, c); err != nil { // before the scope: denials make audit rows
		return nil, err
	}
	if err := authorize(row, c); err != nil {
		return nil, err
	}
	input, err := row.endpoint.bind(w, r, p.service.cfg.passwords.min) // reads the body, validates
	if err != nil {
		return nil, err
	}
	c.now = p.service.now() // a body may take its time; what is decided now is decided at this moment
	if err := p.service.stillValid(ctx, c); err != nil {
		c.offRecord = true
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	out, err := row.endpoint.run(ctx, c, input)
	if err != nil {
		return nil, err
	}
	if _, empty := out.(nothing); empty {
		return nil, nil
	}
	return json.Marshal(out) // types made for the wire: what they don't name can't leak
}

// match finds the row of a request, or the answer for a path or method that has none. The mux would redirect paths that
// are not clean; for us they don't exist.
func (p *pipeline) match(w http.ResponseWriter, r *http.Request) (*route, response) {
	trace := w.Header().Get("X-Request-Id")
	if !strings.HasPrefix(r.URL.Path, "/") || r.URL.Path != "/" && path.Clean(r.URL.Path) != r.URL.Path {
		return nil, errorResponse(errNotFound, trace)
	}
	handler, pattern := p.mux.Handler(r)
	if row := p.routes[pattern]; row != nil {
		m := &matched{header: http.Header{}}
		p.mux.ServeHTTP(m, r) // sets r's path values; the registered handler writes nothing we keep
		return row, response{}
	}
	m := &matched{header: http.Header{}}
	handler.ServeHTTP(m, r)
	if m.status == http.StatusMethodNotAllowed {
		return nil, errorResponse(&methodError{m.header.Get("Allow")}, trace)
	}
	return nil, errorResponse(errNotFound, trace)
}

// matched takes what the mux's own handlers answer, so that it can be said in our form.
type matched struct {
	header http.Header
	status int
}

func (m *matched) Header() http.Header         { return m.header }
func (m *matched) Write(b []byte) (int, error) { return len(b), nil }
func (m *matched) WriteHeader(status int)      { m.status = status }

func (p *pipeline) limitClient(row *route, c *call) error {
	if row.limit != credentials && row.limit != perClient {
		return nil
	}
	return p.limiters[row.limit].allow(addressKey(byte(row.limit), c.ip), c.now)
}

func (p *pipeline) limitUser(row *route, c *call) error {
	if row.limit != perUser {
		return nil
	}
	return p.limiters[perUser].allow(limitKey{byte(perUser), c.caller.subject}, c.now)
}

// authenticate reads the access token where the row asks for one.
func (p *pipeline) authenticate(ctx context.Context, row *route, r *http.Request, c *call) (err error) {
	if row.access.kind == accessAnonymous {
		return nil
	}
	token, err := bearerToken(r.Header)
	if errors.Is(err, errMissingToken) && row.access.kind == accessEither {
		return nil
	}
	if err != nil {
		return err
	}
	c.caller, err = p.service.authenticate(ctx, token, c.now)
	return err
}

// authorize compares the token's scope with the row's. What a row does not allow is denied.
func authorize(row *route, c *call) error {
	switch row.access.kind {
	case accessAnonymous, accessEither:
		return nil
	case accessSignedIn:
		if c.caller != nil {
			return nil
		}
	case accessScope:
		if c.caller != nil && c.caller.hasScope(row.access.scope) {
			return nil
		}
		return &scopeError{row.access.scope}
	}
	return errMissingToken
}

// audit writes the row of a call that the domain did not write: of reads on record, and of what failed after the caller
// was known or the handler was reached. Refusals that cost nothing (limits, bad tokens, unreadable requests) are in
// the log alone, or an attacker could fill the table.
func (p *pipeline) audit(ctx context.Context, row *route, c *call, err error) error {
	status := auditSuccess
	if err == nil {
		if !row.audit.read {
			return nil
		}
	} else {
		if c.offRecord || !row.audit.recorded() || !onRecord(err) || isInvalid(err) && c.caller == nil && c.subject == nil {
			return nil
		}
		shown, _ := answerFor(err)
		status = outcome(shown.status)
		if c.note == nil {
			c.note = map[string]any{}
		}
		c.note["code"] = shown.code
		if c.reason != "" {
			c.note["reason"] = c.reason
		}
	}
	subject := c.subject
	if subject == nil {
		subject = c.callerID()
	}
	return p.service.store.insertAudit(ctx, c.newEvent(c.action, status, subject, c.callerID(), c.note))
}

// outcome is the word for a status that is no success, in the log and in the audit log.
func outcome(status int) string {
	if status == http.StatusForbidden || status == http.StatusTooManyRequests {
		return auditDenied
	}
	return auditFailure
}

func isInvalid(err error) bool {
	_, invalid := errors.AsType[*invalidError](err)
	return invalid
}

// onRecord tells which failures make an audit row.
func onRecord(err error) bool {
	if e, ok := errors.AsType[*throttleError](err); ok {
		return e.locked
	}
	if _, ok := errors.AsType[*requestError](err); ok {
		return false
	}
	for _, cheap := range [...]error{errMissingToken, errInvalidJSON, errNotAcceptable, errBodyTooLarge, errMediaType, errOverloaded, errUnavailable} {
		if errors.Is(err, cheap) {
			return false
		}
	}
	return true
}

// errorResponse puts an error into the envelope, with the headers its status asks for.
func errorResponse(err error, trace string) response {
	a, _ := answerFor(err)
	res := response{status: a.status, header: http.Header{}, err: err}
	switch e, throttled := errors.AsType[*throttleError](err); {
	case throttled:
		seconds := strconv.Itoa(max(1, int(math.Ceil(e.wait.Seconds()))))
		res.header.Set("Retry-After", seconds)
		res.header.Set("RateLimit-Limit", strconv.Itoa(e.limit))
		res.header.Set("RateLimit-Remaining", "0")
		res.header.Set("RateLimit-Reset", seconds)
	case a.status == http.StatusServiceUnavailable:
		res.header.Set("Retry-After", "1")
	case a.status == http.StatusUnauthorized:
		challenge := `Bearer realm="userspace"` // RFC 6750 §3: no error code when no token was sent
		if a.code == "invalid_token" {
			challenge += `, error="invalid_token"`
		}
		res.header.Set("WWW-Authenticate", challenge)
	}
	if e, ok := errors.AsType[*scopeError](err); ok {
		res.header.Set("WWW-Authenticate", `Bearer realm="userspace", error="insufficient_scope", scope="`+e.scope+`"`)
	}
	if e, ok := errors.AsType[*methodError](err); ok {
		res.header.Set("Allow", e.allow)
	}
	type envelope struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Details map[string]string `json:"details"`
		TraceID string            `json:"trace_id"`
	}
	res.body, _ = json.Marshal(map[string]envelope{"error": {a.code, a.message, a.details, trace}}) // strings can't fail
	return res
}

// setHeaders sets what every answer has.
func setHeaders(h http.Header, trace string, tls bool) {
	h.Set("X-Request-Id", trace)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if tls {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// logRequest writes the one line of a request. It holds the route and never the path or query: tokens end up in those.
func (p *pipeline) logRequest(r *http.Request, row *route, c *call, res *response) {
	level, status := slog.LevelInfo, auditSuccess
	metadata := []any{
		slog.String("method", printable(r.Method, 16)), slog.String("route", "unmatched"), slog.Int("status_code", res.status),
		slog.Int("bytes", len(res.body)), slog.String("user_agent", c.agent),
	}
	if row != nil {
		metadata[1] = slog.String("route", row.pattern)
	}
	if res.err != nil {
		status = outcome(res.status)
		shown, known := answerFor(res.err)
		metadata = append(metadata, slog.String("error", shown.code))
		if res.status >= 500 {
			level = slog.LevelError
			metadata = append(metadata, slog.String("cause", printable(res.err.Error(), 500)), slog.Bool("foreseen", known))
		}
	}
	userID := ""
	if u := c.callerID(); u != nil {
		userID = u.String()
	}
	p.log.LogAttrs(context.Background(), level, "request",
		slog.String("trace_id", c.traceID), slog.String("user_id", userID), slog.String("ip", c.ip.String()),
		slog.String("action", c.action), slog.String("status", status),
		slog.Float64("duration_ms", milliseconds(time.Since(c.started))), slog.Group("metadata", metadata...))
}
