package main

// Access tokens: JWTs (RFC 7519) shaped after RFC 9068, signed with EdDSA (RFC 8037) or HS256 (RFC 7518 §3.2).
// Pure: no I/O, no clock, no key storage. Whether a token was revoked is asked elsewhere.

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
)

const (
	algEdDSA = "EdDSA"
	algHS256 = "HS256"

	// maxToken bounds the work on a hostile token: ours are under 1.5 kB with the longest legal scope.
	maxToken = 4096
	// maxTokenDepth: header and claims are flat; scope and aud are the only arrays.
	maxTokenDepth = 2
	// maxTime is 9999-12-31T23:59:59Z in Unix seconds. Beyond it int64 arithmetic on times stops being obvious.
	maxTime = 253402300799
	// clockLeeway, in seconds, forgives clocks of two instances that differ, for iat and nbf only: exp is never stretched.
	clockLeeway = 60
)

// signingKey signs and checks tokens with one algorithm. Exactly one of seed-derived private key and secret is set.
type signingKey struct {
	kid     string // RFC 7638 thumbprint
	alg     string
	private ed25519.PrivateKey
	secret  []byte
	header  string // the encoded header, the same for every token of this key
}

// newEdKey makes the key of a 32-byte seed. The public key is derived, never taken from outside: ed25519.Verify accepts
// small-order public keys, for which anyone can sign.
func newEdKey(seed []byte) *signingKey {
	k := &signingKey{alg: algEdDSA, private: ed25519.NewKeyFromSeed(seed)}
	// RFC 7638 §3.2, RFC 8037 §2: required members in lexical order, no white space.
	k.kid = thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"` + b64(k.public()) + `"}`)
	k.header = encodeHeader(k)
	return k
}

// newHMACKey makes the key of a shared secret, which the caller has checked for length.
func newHMACKey(secret []byte) *signingKey {
	k := &signingKey{alg: algHS256, secret: secret}
	// Not the thumbprint of the secret itself: kid is public, and a hash of a weak secret would help to guess it.
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("userspace kid"))
	k.kid = b64(mac.Sum(nil))
	k.header = encodeHeader(k)
	return k
}

func (k *signingKey) public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

func (k *signingKey) sign(input string) []byte {
	if k.alg == algEdDSA {
		return ed25519.Sign(k.private, []byte(input))
	}
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(input))
	return mac.Sum(nil)
}

func (k *signingKey) verify(input string, signature []byte) bool {
	if k.alg == algEdDSA {
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(k.public(), []byte(input), signature)
	}
	return hmac.Equal(signature, k.sign(input)) // constant time; a shorter signature is unequal
}

// claims are those of an access token (CONTRACT §2). Times are Unix seconds.
type claims struct {
	issuer   string
	audience string
	subject  id
	token    id // jti
	session  id // sid
	issuedAt int64
	expires  int64
	scope    []string
}

func (c *claims) hasScope(want string) bool {
	for _, s := range c.scope {
		if s == want {
			return true
		}
	}
	return false
}

// encodeToken signs the claims. It can't fail: every value in it was made or checked by us.
func encodeToken(k *signingKey, c *claims) string {
	b := make([]byte, 0, 512)
	b = append(b, `{"iss":`...)
	b = appendJSON(b, c.issuer)
	b = append(b, `,"aud":`...)
	b = appendJSON(b, c.audience)
	b = append(b, `,"sub":"`+c.subject.String()+`","jti":"`+c.token.String()+`","sid":"`+c.session.String()+`","iat":`...)
	b = strconv.AppendInt(b, c.issuedAt, 10)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, c.expires, 10)
	b = append(b, `,"scope":`...)
	b = appendJSON(b, c.scope)
	b = append(b, '}')
	input := k.header + "." + b64(b)
	return input + "." + b64(k.sign(input))
}

func encodeHeader(k *signingKey) string {
	return b64([]byte(`{"alg":"` + k.alg + `","typ":"at+jwt","kid":"` + k.kid + `"}`))
}

// tokenRules are what a token must agree with beside its signature. Times are Unix seconds.
type tokenRules struct {
	issuer   string
	audience string
	maxLife  int64
	keys     func(kid string) *signingKey // nil for an unknown kid
}

// decodeToken returns the claims of a token that one of our keys signed and that is valid at now. Every fault, whatever it
// is, is errInvalidToken: an attacker learns nothing from it. The order is length, shape, header, signature, claims; no
// claim is read before the signature holds (CVE-2024-51744).
func decodeToken(token string, rules *tokenRules, now int64) (*claims, error) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 { // a thousand dots cost nothing (CVE-2025-30204)
		return nil, errInvalidToken
	}
	head, rest, _ := strings.Cut(token, ".")
	body, tail, _ := strings.Cut(rest, ".")
	header, ok := unb64(head)
	if !ok {
		return nil, errInvalidToken
	}
	key := keyOfHeader(header, rules)
	if key == nil {
		return nil, errInvalidToken
	}
	signature, ok := unb64(tail)
	if !ok || !key.verify(token[:len(head)+1+len(body)], signature) {
		return nil, errInvalidToken
	}
	payload, ok := unb64(body)
	if !ok {
		return nil, errInvalidToken
	}
	c, ok := readClaims(payload)
	if !ok || !c.valid(rules, now) {
		return nil, errInvalidToken
	}
	return &c.claims, nil
}

// keyOfHeader returns the key a header asks for, or nil. Names other than alg, typ and kid are refused as a whole: crit,
// b64, zip, enc would change how the token is read, and jwk, jku, x5u, x5c, x5t bring keys of the sender's (RFC 8725 §3).
func keyOfHeader(header []byte, rules *tokenRules) *signingKey {
	members, err := parseObject(header, maxTokenDepth)
	if err != nil || len(members) != 3 {
		return nil
	}
	var alg, kid string
	for _, m := range members {
		v, ok := jsonText(m.raw)
		if !ok {
			return nil
		}
		switch m.name {
		case "alg":
			alg = v
		case "kid":
			kid = v
		case "typ": // a media type, so compared without case (RFC 7515 §4.1.9)
			if !strings.EqualFold(v, "at+jwt") && !strings.EqualFold(v, "application/at+jwt") {
				return nil
			}
		default:
			return nil
		}
	}
	key := rules.keys(kid)
	if key == nil || key.alg != alg { // the algorithm is the key's, never the token's
		return nil
	}
	return key
}

// readClaims reads a payload. All names but nbf are required, each with its type; an unknown name is ignored, unless it is a
// case twin of one we know.
func readClaims(payload []byte) (c tokenClaims, ok bool) {
	members, err := parseObject(payload, maxTokenDepth)
	if err != nil {
		return c, false
	}
	required := 0
	for _, m := range members {
		known := true
		switch m.name {
		case "iss":
			c.issuer, ok = jsonText(m.raw)
		case "aud":
			c.audiences, ok = jsonAudience(m.raw)
		case "sub":
			c.subject, ok = jsonID(m.raw)
		case "jti":
			c.token, ok = jsonID(m.raw)
		case "sid":
			c.session, ok = jsonID(m.raw)
		case "iat":
			c.issuedAt, ok = jsonTime(m.raw)
		case "exp":
			c.expires, ok = jsonTime(m.raw)
		case "scope":
			c.scope, ok = jsonTexts(m.raw)
		case "nbf":
			known = false // optional
			c.notBefore, ok = jsonTime(m.raw)
		default:
			known, ok = false, !isClaimTwin(m.name)
		}
		if !ok {
			return c, false
		}
		if known {
			required++
		}
	}
	return c, required == 8 // duplicates are refused, so eight are all of them
}

// tokenClaims are claims as they stand in a token, before they are checked.
type tokenClaims struct {
	claims
	audiences []string
	notBefore int64 // 0 when absent
}

// valid compares whole seconds as int64: time.Time overflows quietly on hostile values.
func (c *tokenClaims) valid(rules *tokenRules, now int64) bool {
	if c.issuer != rules.issuer || c.expires <= now || c.issuedAt > now+clockLeeway || c.notBefore > now+clockLeeway {
		return false
	}
	if c.expires <= c.issuedAt || c.expires-c.issuedAt > rules.maxLife {
		return false
	}
	for _, a := range c.audiences {
		if a == rules.audience {
			c.audience = a
			return true
		}
	}
	return false
}

func isClaimTwin(name string) bool {
	for _, known := range [...]string{"iss", "aud", "sub", "jti", "sid", "iat", "exp", "nbf", "scope"} {
		if strings.EqualFold(name, known) { // folds the long s and the Kelvin sign as encoding/json does
			return true
		}
	}
	return false
}

// The readers below take a value that parseObject has checked, so only its type can be wrong.

func jsonText(raw []byte) (string, bool) {
	var v string
	return v, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &v) == nil
}

func jsonTexts(raw []byte) ([]string, bool) {
	var values []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &values) != nil {
		return nil, false
	}
	texts := make([]string, len(values))
	for i, v := range values {
		t, ok := jsonText(v)
		if !ok {
			return nil, false
		}
		texts[i] = t
	}
	return texts, true
}

func jsonAudience(raw []byte) ([]string, bool) {
	if v, ok := jsonText(raw); ok {
		return []string{v}, true
	}
	return jsonTexts(raw)
}

func jsonID(raw []byte) (id, bool) {
	v, ok := jsonText(raw)
	if !ok {
		return id{}, false
	}
	u, err := parseID(v)
	return u, err == nil
}

// jsonTime reads a NumericDate: whole seconds in 1..maxTime. Fractions and exponents are refused.
func jsonTime(raw []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil && n >= 1 && n <= maxTime
}

func appendJSON(b []byte, v any) []byte {
	text, _ := json.Marshal(v) // strings and slices of strings can't fail
	return append(b, text...)
}

func thumbprint(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return b64(sum[:])
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// unb64 reads base64url without padding (RFC 7515 §2), canonical form only: one value, one text. Strict
// refuses spare bits; the length refuses the CR and LF that the decoder skips.
func unb64(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0 && base64.RawURLEncoding.EncodedLen(len(b)) == len(s)
}
