package main

// What request headers say: token, trace id, client address, accepted types. Pure; what follows from it is pipeline.go's.

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// bearerToken returns the token of the Authorization header (RFC 6750 §2.1), the only place where one is looked for.
func bearerToken(h http.Header) (string, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", errMissingToken
	}
	if len(values) > 1 {
		return "", badRequest("Authorization", "duplicate")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errMissingToken
	}
	return token, nil
}

// traceID takes the trace id of a valid W3C traceparent header (version-traceid-parentid-flags), else makes one: 32 hex digits.
func traceID(h http.Header) string {
	if values := h["Traceparent"]; len(values) == 1 {
		v := values[0]
		if len(v) >= 55 && v[2] == '-' && v[35] == '-' && v[52] == '-' && isLowerHex(v[0:2]+v[3:35]+v[36:52]+v[53:55]) &&
			v[0:2] != "ff" && v[3:35] != strings.Repeat("0", 32) && v[36:52] != strings.Repeat("0", 16) &&
			(len(v) == 55 || v[0:2] != "00" && v[55] == '-') {
			return v[3:35]
		}
	}
	return newTraceID()
}

// clientAddr is the address a request comes from: the peer's, or, when the peer is a trusted proxy, the right-most entry of
// X-Forwarded-For that is none. No other header is believed.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return netip.IPv4Unspecified() // a Unix socket or a test
	}
	addr := peer.Unmap().WithZone("")
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if !isTrusted(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break // what a trusted proxy did not write proves nothing
		}
		if addr = a.Unmap().WithZone(""); !isTrusted(addr) {
			break
		}
	}
	return addr
}

// acceptsJSON reads Accept as far as it concerns one type: no header, or a range that holds application/json with q > 0.
func acceptsJSON(h http.Header) bool {
	accept := strings.Join(h.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return true
	}
	for part := range strings.SplitSeq(accept, ",") {
		kind, params, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "*/*", "application/*", "application/json":
			if !refusedByQuality(params) {
				return true
			}
		}
	}
	return false
}

func refusedByQuality(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if q, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && q == 0 {
			return true
		}
	}
	return false
}
