package main

// The route table: who may call what, how often, and under which audit name. Reading it is the review of access.

// route is a row of the table. The zero access, limit and audit are no policy, and the start refuses them.
type route struct {
	pattern  string // method and path, as http.ServeMux matches them
	access   access
	limit    limit
	audit    auditPolicy
	endpoint endpoint
}

// access says who may call.
type access struct {
	kind  accessKind
	scope string
}

type accessKind int

const (
	accessAnonymous accessKind = iota + 1
	accessSignedIn             // an access token
	accessEither               // an access token, or none and a refresh token in the body
	accessScope                // an access token with a scope
)

var (
	anonymous = access{kind: accessAnonymous}
	signedIn  = access{kind: accessSignedIn}
	either    = access{kind: accessEither}
	admin     = access{accessScope, scopeAdmin}
)

// limit says how often: which rate, and counted for whom.
type limit int

const (
	credentials limit = iota + 1 // USERSPACE_RATE_CREDENTIALS, for each client address
	perClient                    // USERSPACE_RATE_API, for each client address
	perUser                      // USERSPACE_RATE_API, for each user
	unlimited                    // probes
)

// auditPolicy names what a call does and says what makes an audit row. Failures that reach the handler and denials make one
// in both recorded kinds.
type auditPolicy struct {
	action string
	change bool // the handler writes the row in its transaction
	read   bool // the pipeline writes a row
}

func (a auditPolicy) recorded() bool { return a.change || a.read }

func change(action string) auditPolicy    { return auditPolicy{action: action, change: true} }
func onRead(action string) auditPolicy    { return auditPolicy{action: action, read: true} }
func unaudited(action string) auditPolicy { return auditPolicy{action: action} } // the log line alone

// routes is the table of the public listener.
func (s *service) routes(health *health) []route {
	register := handle(201, s.register)
	if s.cfg.registration == "verified" {
		register = handle(202, s.registerVerified)
	}
	return []route{
		{"POST /api/v1/auth/register", anonymous, credentials, change("auth.register"), register},
		{"POST /api/v1/auth/login", anonymous, credentials, change("auth.login"), handle(200, s.login)},
		{"POST /api/v1/auth/refresh", anonymous, perClient, change("auth.refresh"), handle(200, s.refresh)},
		{"DELETE /api/v1/auth/logout", either, perClient, change("auth.logout"), handle(204, s.logout)},
		{"POST /api/v1/auth/password/reset", anonymous, credentials, change("auth.password_reset_request"), handle(202, s.requestReset)},
		{"POST /api/v1/auth/password/reset/confirm", anonymous, credentials, change("auth.password_reset"), handle(204, s.confirmReset)},
		{"POST /api/v1/auth/email/verify", anonymous, credentials, change("auth.email_verify"), handle(204, s.verifyEmail)},
		{"POST /api/v1/auth/email/verify/resend", anonymous, credentials, change("auth.email_verify_request"), handle(202, s.resendVerification)},

		{"GET /api/v1/users/me", signedIn, perUser, unaudited("user.read"), handle(200, s.me)},
		{"PATCH /api/v1/users/me", signedIn, perUser, change("user.update"), handle(200, s.update)},
		{"DELETE /api/v1/users/me", signedIn, perUser, change("user.delete"), handle(204, s.deleteSelf)},
		{"GET /api/v1/users/me/sessions", signedIn, perUser, unaudited("user.sessions_list"), handle(200, s.listSessions)},
		{"DELETE /api/v1/users/me/sessions", signedIn, perUser, change("session.revoke"), handle(204, s.endOtherSessions)},
		{"DELETE /api/v1/users/me/sessions/{id}", signedIn, perUser, change("session.revoke"), handle(204, s.endSession)},
		{"GET /api/v1/users/me/export", signedIn, perUser, onRead("user.export"), handle(200, s.exportSelf)},

		{"GET /api/v1/admin/users", admin, perUser, onRead("admin.users_list"), handle(200, s.listUsers)},
		{"POST /api/v1/admin/users", admin, perUser, change("admin.user_create"), handle(201, s.createUser)},
		{"GET /api/v1/admin/users/{id}", admin, perUser, onRead("admin.user_read"), handle(200, s.getUser)},
		{"DELETE /api/v1/admin/users/{id}", admin, perUser, change("admin.user_delete"), handle(204, s.deleteUser)},
		{"POST /api/v1/admin/users/{id}/status", admin, perUser, change("admin.user_status"), handle(200, s.setStatus)},
		{"PUT /api/v1/admin/users/{id}/scope", admin, perUser, change("admin.user_scope"), handle(200, s.setScope)},
		{"DELETE /api/v1/admin/users/{id}/sessions", admin, perUser, change("admin.sessions_revoke"), handle(204, s.endUserSessions)},
		{"GET /api/v1/admin/audit-log", admin, perUser, onRead("admin.audit_read"), handle(200, s.listAudit)},

		{"GET /.well-known/jwks.json", anonymous, perClient, unaudited("key.list"), cached(300, handle(200, s.publicKeys))},
		{"GET /.well-known/oauth-authorization-server", anonymous, perClient, unaudited("server.metadata"), cached(300, handle(200, s.metadata))},
		{"GET /healthz", anonymous, unlimited, unaudited("server.health"), handle(200, health.live)},
		{"GET /readyz", anonymous, unlimited, unaudited("server.ready"), handle(200, health.ready)},
	}
}

// internalRoutes is the table of the internal listener.
func internalRoutes(health *health) []route {
	return []route{
		{"GET /healthz", anonymous, unlimited, unaudited("server.health"), handle(200, health.live)},
		{"GET /readyz", anonymous, unlimited, unaudited("server.ready"), handle(200, health.ready)},
	}
}
