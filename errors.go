package main

// What can go wrong, and the one table that turns it into a status, a code and words.
// Errors stay values until errorResponse asks this table; detecting them belongs to the layers below.

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

var (
	errInvalidJSON        = errors.New("invalid json")
	errNotAcceptable      = errors.New("not acceptable")
	errBodyTooLarge       = errors.New("body too large")
	errMediaType          = errors.New("unsupported media type")
	errNotFound           = errors.New("not found")
	errMethodNotAllowed   = errors.New("method not allowed")
	errMissingToken       = errors.New("missing token")
	errInvalidToken       = errors.New("invalid token")
	errInvalidCredentials = errors.New("invalid credentials")
	errSuspended          = errors.New("account suspended")
	errEmailNotVerified   = errors.New("email not verified")
	errRegistrationClosed = errors.New("registration closed")
	errEmailTaken         = errors.New("email taken")
	errLastAdmin          = errors.New("last admin")
	errConflict           = errors.New("conflict")
	errUnavailable        = errors.New("unavailable")
	errOverloaded         = errors.New("overloaded")
	errHS256              = errors.New("no public keys in HS256 mode")
)

// requestError is a request that is well-formed but not understood: 400 invalid_request. fields maps a name to a reason.
type requestError struct{ fields map[string]string }

func (e *requestError) Error() string { return fmt.Sprint("invalid request: ", e.fields) }

// invalidError is a request whose values break a rule: 422 validation_failed. fields maps a name to a reason code.
type invalidError struct{ fields map[string]string }

func (e *invalidError) Error() string { return fmt.Sprint("validation failed: ", e.fields) }

// scopeError says which scope was missing: 403 insufficient_scope.
type scopeError struct{ scope string }

func (e *scopeError) Error() string { return "insufficient scope: needs " + e.scope }

// throttleError is a refusal that ends by itself: 429. locked tells a lock on an email from a rate limit on a client.
type throttleError struct {
	locked bool
	limit  int           // attempts or requests allowed
	wait   time.Duration // until the next one may succeed
}

func (e *throttleError) Error() string {
	if e.locked {
		return "too many attempts"
	}
	return "rate limited"
}

// methodError carries the methods a path does answer.
type methodError struct{ allow string }

func (e *methodError) Error() string { return "method not allowed" }
func (e *methodError) Unwrap() error { return errMethodNotAllowed }

// notReadyError says which of the readiness checks failed.
type notReadyError struct{ checks map[string]string }

func (e *notReadyError) Error() string { return fmt.Sprint("not ready: ", e.checks) }
func (e *notReadyError) Unwrap() error {
	if e.checks["draining"] != "ok" {
		return errOverloaded
	}
	return errUnavailable
}

// answer is how an error looks from outside.
type answer struct {
	status  int
	code    string
	message string
	details map[string]string
}

// answers is searched in order with errors.Is. What is not in it is an internal error.
var answers = []struct {
	err error
	answer
}{
	{errInvalidJSON, answer{400, "invalid_json", "The body must be one JSON object in UTF-8.", nil}},
	{errMissingToken, answer{401, "missing_token", "Send an access token in the header: Authorization: Bearer <token>.", nil}},
	{errInvalidToken, answer{401, "invalid_token", "The token is not valid or no longer valid.", nil}},
	{errInvalidCredentials, answer{401, "invalid_credentials", "Email or password is wrong.", nil}},
	{errSuspended, answer{403, "account_suspended", "This account is suspended.", nil}},
	{errEmailNotVerified, answer{403, "email_not_verified", "Confirm the email address first; the link was mailed to it.", nil}},
	{errRegistrationClosed, answer{403, "registration_closed", "Registration is closed; an administrator can create the account.", nil}},
	{errHS256, answer{404, "not_found", "This server signs with a shared secret (HS256), so there are no public keys.", nil}},
	{errNotFound, answer{404, "not_found", "There is nothing here.", nil}},
	{errMethodNotAllowed, answer{405, "method_not_allowed", "The path exists, but not with this method.", nil}},
	{errNotAcceptable, answer{406, "not_acceptable", "Answers are application/json.", nil}},
	{errEmailTaken, answer{409, "email_taken", "There is an account with this email already.", nil}},
	{errLastAdmin, answer{409, "last_admin", "This is the last active administrator; make another one first.", nil}},
	{errConflict, answer{409, "conflict", "Something else changed this meanwhile; read it again and retry.", nil}},
	{errBodyTooLarge, answer{413, "body_too_large", "The body may have at most 64 KiB.", nil}},
	{errMediaType, answer{415, "unsupported_media_type", "Send Content-Type: application/json, not compressed.", nil}},
	{errOverloaded, answer{503, "overloaded", "The server is busy or stopping; try again shortly.", nil}},
	{errUnavailable, answer{503, "unavailable", "The service or its database is not ready; try again shortly.", nil}},
}

// answerFor returns how err is shown. known is false for an error nobody foresaw: it must be logged, and its text stays inside.
func answerFor(err error) (a answer, known bool) {
	if e, ok := errors.AsType[*requestError](err); ok {
		return answer{400, "invalid_request", "A field or parameter is unknown, repeated or of the wrong type.", e.fields}, true
	}
	if e, ok := errors.AsType[*invalidError](err); ok {
		return answer{422, "validation_failed", "Some fields need another value.", e.fields}, true
	}
	if e, ok := errors.AsType[*scopeError](err); ok {
		return answer{403, "insufficient_scope", "This needs the scope " + e.scope + ".", nil}, true
	}
	if e, ok := errors.AsType[*throttleError](err); ok {
		if e.locked {
			return answer{429, "too_many_attempts", "Too many wrong passwords for this email; wait, or reset the password.", nil}, true
		}
		return answer{429, "rate_limited", "Too many requests; wait before the next one.", nil}, true
	}
	for _, row := range answers {
		if errors.Is(err, row.err) {
			a = row.answer
			if e, ok := errors.AsType[*notReadyError](err); ok {
				a.details = e.checks
			}
			return a, true
		}
	}
	return answer{http.StatusInternalServerError, "internal", "Something went wrong on our side; the trace id finds it in the log.", nil}, false
}

// failed makes an invalidError of one field.
func failed(field, reason string) error { return &invalidError{map[string]string{field: reason}} }

// badRequest makes a requestError of one field or parameter.
func badRequest(field, reason string) error { return &requestError{map[string]string{field: reason}} }
