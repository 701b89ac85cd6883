package main

// Access tokens: what we issue is accepted, and nothing else is. The ids A1 to A10 are those of the attack list.

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	testNow      = int64(1_800_000_000)
	testIssuer   = "https://id.example.com"
	testAudience = "https://api.example.com"
)

func testEdKey() *signingKey { return newEdKey(bytes.Repeat([]byte{7}, 32)) }
func testHMACKey() *signingKey {
	return newHMACKey([]byte("an HMAC secret of thirty-two bytes, or more"))
}

// rulesOf accepts tokens of the given keys.
func rulesOf(keys ...*signingKey) *tokenRules {
	return &tokenRules{testIssuer, testAudience, 900, func(kid string) *signingKey {
		for _, k := range keys {
			if k.kid == kid {
				return k
			}
		}
		return nil
	}}
}

func testClaims() *claims {
	at := time.Unix(testNow, 0)
	return &claims{
		issuer: testIssuer, audience: testAudience, subject: newID(at), token: newID(at), session: newID(at),
		issuedAt: testNow, expires: testNow + 900, scope: []string{"user", "admin"},
	}
}

// rawToken signs any header and payload with a key, so that the signature is not what a refusal is for.
func rawToken(k *signingKey, header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(k.sign(input))
}

func goodHeader(k *signingKey) string {
	return `{"alg":"` + k.alg + `","typ":"at+jwt","kid":"` + k.kid + `"}`
}

// payloadWith is a good payload with one claim replaced by raw JSON, or left out when raw is "", or added.
func payloadWith(name, raw string) string {
	u := `"0190f3a0-0000-7000-8000-000000000001"`
	parts := [][2]string{
		{"iss", `"` + testIssuer + `"`}, {"aud", `"` + testAudience + `"`}, {"sub", u}, {"jti", u}, {"sid", u},
		{"iat", fmt.Sprint(testNow)}, {"exp", fmt.Sprint(testNow + 900)}, {"scope", `["user"]`},
	}
	known := false
	var out []string
	for _, p := range parts {
		if p[0] == name {
			p[1], known = raw, true
		}
		if p[1] != "" {
			out = append(out, `"`+p[0]+`":`+p[1])
		}
	}
	if !known && name != "" {
		out = append(out, `"`+name+`":`+raw)
	}
	return "{" + strings.Join(out, ",") + "}"
}

func wantRefused(t *testing.T, what, token string, rules *tokenRules) {
	t.Helper()
	if c, err := decodeToken(token, rules, testNow); !errors.Is(err, errInvalidToken) || c != nil {
		t.Errorf("%s: got %v, %v, want errInvalidToken", what, c, err)
	}
}

func wantAccepted(t *testing.T, what, token string, rules *tokenRules) {
	t.Helper()
	if _, err := decodeToken(token, rules, testNow); err != nil {
		t.Errorf("%s: got %v, want it accepted", what, err)
	}
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, key := range []*signingKey{testEdKey(), testHMACKey()} {
		for _, scope := range [][]string{{}, {"user"}, {"user", "admin"}, {"<&>", "\u2028", "é"}} {
			want := testClaims()
			want.scope = scope
			token := encodeToken(key, want)
			got, err := decodeToken(token, rulesOf(key), testNow)
			if err != nil {
				t.Fatalf("%s: %v", key.alg, err)
			}
			if fmt.Sprint(*got) != fmt.Sprint(*want) {
				t.Errorf("%s: got %v, want %v", key.alg, *got, *want)
			}
			if again := encodeToken(key, got); again != token {
				t.Errorf("%s: encoding again: got %s, want %s", key.alg, again, token)
			}
			for _, s := range scope {
				if !got.hasScope(s) {
					t.Errorf("hasScope(%q): got false", s)
				}
			}
			if got.hasScope("ADMIN") || got.hasScope("") || got.hasScope("use") {
				t.Error("hasScope: a scope that is not there was found")
			}
		}
	}
}

func TestTokenHeader(t *testing.T) {
	t.Parallel()
	for _, key := range []*signingKey{testEdKey(), testHMACKey()} {
		head, _, _ := strings.Cut(encodeToken(key, testClaims()), ".")
		text, _ := unb64(head)
		var got map[string]string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"alg": key.alg, "typ": "at+jwt", "kid": key.kid}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if bytes.Contains(text, key.secret) && key.secret != nil {
			t.Error("the header holds the secret")
		}
	}
}

// TestTokenBits flips every bit of a token.
func TestTokenBits(t *testing.T) {
	t.Parallel()
	for _, key := range []*signingKey{testEdKey(), testHMACKey()} {
		rules := rulesOf(key)
		token := []byte(encodeToken(key, testClaims()))
		for i := range token {
			for bit := range 8 {
				token[i] ^= 1 << bit
				if _, err := decodeToken(string(token), rules, testNow); !errors.Is(err, errInvalidToken) {
					t.Errorf("%s: byte %d, bit %d flipped: got %v, want errInvalidToken", key.alg, i, bit, err)
				}
				token[i] ^= 1 << bit
			}
		}
		for i := range token {
			wantRefused(t, fmt.Sprintf("cut to %d bytes", i), string(token[:i]), rules)
			wantRefused(t, fmt.Sprintf("without byte %d", i), string(token[:i])+string(token[i+1:]), rules)
		}
	}
}

func TestTokenTimes(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	token := encodeToken(key, testClaims())
	for _, test := range []struct {
		name string
		now  int64
		good bool
	}{
		{"at issue", testNow, true},
		{"last second", testNow + 899, true},
		{"at exp", testNow + 900, false}, // RFC 7519 §4.1.4: on or after; no leeway
		{"after", testNow + 901, false},
		{"far after", maxTime, false},
		{"a minute early", testNow - clockLeeway, true},
		{"more than a minute early", testNow - clockLeeway - 1, false},
		{"1970", 0, false},
	} {
		if _, err := decodeToken(token, rulesOf(key), test.now); (err == nil) != test.good {
			t.Errorf("%s: got %v, want good %v", test.name, err, test.good)
		}
	}
}

// TestTokenA1 is alg none in its forms.
func TestTokenA1(t *testing.T) {
	t.Parallel()
	for _, key := range []*signingKey{testEdKey(), testHMACKey()} {
		rules := rulesOf(key)
		algs := []string{
			`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `"none "`, `" none"`, `""`, `"n\u006fne"`, `null`, `0`, `true`, `[]`, `{}`,
			`["` + key.alg + `"]`, `"` + strings.ToLower(key.alg) + `"`, `"` + strings.ToUpper(key.alg) + `x"`, `"` + key.alg + ` "`,
			`"HS384"`, `"HS512"`, `"RS256"`, `"ES256"`, `"PS256"`, `"Ed25519"`, `"EdDSA\n"`, `"ЕdDSA"`, // the last one with a Cyrillic letter
		}
		for _, alg := range algs {
			header := `{"alg":` + alg + `,"typ":"at+jwt","kid":"` + key.kid + `"}`
			signed := rawToken(key, header, payloadWith("", ""))
			unsigned := signed[:strings.LastIndexByte(signed, '.')+1]
			wantRefused(t, "A1 "+alg+" signed", signed, rules)
			wantRefused(t, "A1 "+alg+" unsigned", unsigned, rules)
			wantRefused(t, "A1 "+alg+" empty text", unsigned+b64([]byte("")), rules)
			wantRefused(t, "A1 "+alg+" one byte", unsigned+"AA", rules)
		}
		wantRefused(t, "A1 no alg", rawToken(key, `{"typ":"at+jwt","kid":"`+key.kid+`"}`, payloadWith("", "")), rules)
		wantAccepted(t, "A1 control", rawToken(key, goodHeader(key), payloadWith("", "")), rules)
	}
}

// TestTokenA2 signs with HMAC, using the public key in every form as the secret, and mixes up keys and algorithms.
func TestTokenA2(t *testing.T) {
	t.Parallel()
	ed, mac := testEdKey(), testHMACKey()
	public := ed.public()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	key, _ := json.Marshal(jwk{"OKP", "Ed25519", b64(public), ed.kid, "sig", ed.alg})
	set, _ := json.Marshal(jwkSet{[]jwk{{"OKP", "Ed25519", b64(public), ed.kid, "sig", ed.alg}}})
	secrets := map[string][]byte{
		"raw": public, "base64url": []byte(b64(public)), "base64": []byte(base64.StdEncoding.EncodeToString(public)),
		"base64 raw": []byte(base64.RawStdEncoding.EncodeToString(public)), "hex": []byte(hex.EncodeToString(public)),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString(public))), "DER": der, "DER base64": []byte(base64.StdEncoding.EncodeToString(der)),
		"PEM": block, "PEM trimmed": bytes.TrimSpace(block), "PEM with CRLF": bytes.ReplaceAll(block, []byte("\n"), []byte("\r\n")),
		"JWK": key, "JWK thumbprint input": []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + b64(public) + `"}`), "JWKS": set,
		"kid": []byte(ed.kid), "empty": {}, "zero": make([]byte, 32),
	}
	rules := rulesOf(ed)
	for name, secret := range secrets {
		for _, alg := range []string{algHS256, algEdDSA} {
			forger := newHMACKey(secret)
			header := `{"alg":"` + alg + `","typ":"at+jwt","kid":"` + ed.kid + `"}`
			wantRefused(t, "A2 "+alg+" with "+name, rawToken(forger, header, payloadWith("", "")), rules)
		}
	}
	both := rulesOf(ed, mac) // not a configuration there is; the key alone must decide
	for _, k := range []*signingKey{ed, mac} {
		other := map[*signingKey]*signingKey{ed: mac, mac: ed}[k]
		wantRefused(t, "A2 kid of another key", rawToken(k, goodHeader(other), payloadWith("", "")), both)
		header := `{"alg":"` + other.alg + `","typ":"at+jwt","kid":"` + k.kid + `"}`
		wantRefused(t, "A2 alg of another key", rawToken(k, header, payloadWith("", "")), both)
		wantRefused(t, "A2 alg of another key, signed by that", rawToken(other, header, payloadWith("", "")), both)
		wantRefused(t, "A2 "+k.alg+" where only "+other.alg+" is", encodeToken(k, testClaims()), rulesOf(other))
		wantAccepted(t, "A2 control", encodeToken(k, testClaims()), both)
	}
	// The tag of a good secret, cut: never as good as the whole.
	token := encodeToken(mac, testClaims())
	input, tag := token[:strings.LastIndexByte(token, '.')+1], mac.sign(token[:strings.LastIndexByte(token, '.')])
	for n := range len(tag) {
		wantRefused(t, fmt.Sprintf("A2 tag of %d bytes", n), input+b64(tag[:n]), rulesOf(mac))
	}
	wantRefused(t, "A2 tag and a byte", input+b64(append(tag, 0)), rulesOf(mac))
	for name, h := range map[string]func() hash.Hash{"HS384": sha512.New384, "HS512": sha512.New} {
		m := hmac.New(h, mac.secret)
		m.Write([]byte(input[:len(input)-1]))
		wantRefused(t, "A2 "+name+" tag", input+b64(m.Sum(nil)), rulesOf(mac))
		wantRefused(t, "A2 "+name+" tag cut", input+b64(m.Sum(nil)[:32]), rulesOf(mac))
	}
}

// TestTokenA3 repeats names, and writes them in ways that lax readers take for the same.
func TestTokenA3(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	rules := rulesOf(key)
	good := goodHeader(key)
	for _, header := range []string{
		`{"alg":"EdDSA",` + good[1:], good[:len(good)-1] + `,"alg":"EdDSA"}`, good[:len(good)-1] + `,"alg":"none"}`,
		good[:len(good)-1] + `,"\u0061lg":"none"}`, good[:len(good)-1] + `,"Alg":"none"}`, good[:len(good)-1] + `,"ALG":"EdDSA"}`,
		good[:len(good)-1] + `,"kid":"x"}`, good[:len(good)-1] + `,"KID":"x"}`, good[:len(good)-1] + `,"\u212aid":"x"}`,
		`{"alg":"EdDSA","typ":"at+jwt","\u212aid":"` + key.kid + `"}`, `{"ALG":"EdDSA","typ":"at+jwt","kid":"` + key.kid + `"}`,
		`{"alg":"EdDSA","alg":"EdDSA","kid":"` + key.kid + `"}`, `{"typ":"at+jwt","typ":"at+jwt","alg":"EdDSA","kid":"` + key.kid + `"}`,
	} {
		wantRefused(t, "A3 header "+header, rawToken(key, header, payloadWith("", "")), rules)
	}
	for _, name := range []string{"iss", "aud", "sub", "jti", "sid", "iat", "exp", "scope"} {
		for _, m := range mustParse(t, payloadWith("", "")) {
			if m.name != name {
				continue
			}
			twins := []string{
				name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.ReplaceAll(name, "s", "\u017f"),
				fmt.Sprintf(`\u%04x`, name[0]) + name[1:], strings.ReplaceAll(name, "s", `\u017f`), "x",
			}
			for _, twin := range twins {
				if twin == name && twin != twins[0] {
					continue // the name holds no s
				}
				payload := payloadWith("", "")
				for where, p := range map[string]string{
					"before": `{"` + twin + `":` + string(m.raw) + "," + payload[1:],
					"after":  payload[:len(payload)-1] + `,"` + twin + `":` + string(m.raw) + "}",
				} {
					token := rawToken(key, goodHeader(key), p)
					if twin == "x" {
						wantAccepted(t, "A3 control "+name, token, rules)
					} else {
						wantRefused(t, "A3 "+twin+" "+where+" "+name, token, rules)
					}
				}
				if twin != name && !strings.HasPrefix(twin, `\u00`) { // the twin alone does not stand for the name
					p := strings.Replace(payload, `"`+name+`"`, `"`+twin+`"`, 1)
					wantRefused(t, "A3 "+twin+" for "+name, rawToken(key, goodHeader(key), p), rules)
				}
			}
		}
	}
	for _, p := range []string{
		payloadWith("nbf", `1,"nbf":1`), payloadWith("NBF", "1"), payloadWith("x", `1,"x":2`), payloadWith("x", `{"a":1,"a":2}`),
		payloadWith("x", `"\u0000"`), payloadWith("x", "\"\xff\""), payloadWith("x", `"\ud800"`), payloadWith("x", `[[[]]]`),
	} {
		wantRefused(t, "A3 "+p, rawToken(key, goodHeader(key), p), rules)
	}
	wantAccepted(t, "A3 a claim nobody knows", rawToken(key, goodHeader(key), payloadWith("roles", `["admin"]`)), rules)
	wantAccepted(t, "A3 nbf", rawToken(key, goodHeader(key), payloadWith("nbf", "1")), rules)
	wantAccepted(t, "A3 escaped name", rawToken(key, goodHeader(key), strings.Replace(payloadWith("", ""), `"sub"`, `"\u0073ub"`, 1)), rules)
}

func mustParse(t testing.TB, text string) []member {
	t.Helper()
	members, err := parseObject([]byte(text), 8)
	if err != nil {
		t.Fatal(err)
	}
	return members
}

// TestTokenA4 gives each claim values of the wrong type or out of range.
func TestTokenA4(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	rules := rulesOf(key)
	notTimes := []string{
		"", "null", "true", "false", `""`, `"1800000900"`, "[]", "[1800000900]", "{}", "0", "-0", "-1", "1800000900.0", "1800000900.5",
		"18000009e2", "1.8000009e9", "1e10", "1e308", "1e400", "-1e400", "1E1000000", "9007199254740993e0", "253402300800",
		"9007199254740992", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
		"18446744075509552516", // 2^64 + 1800000900
		strings.Repeat("9", 400), "01800000900", "+1800000900", "NaN", "Infinity", "0x6b49d580", "1800000900 1", "1_800_000_900",
	}
	for _, claim := range []string{"exp", "iat", "nbf"} {
		for _, raw := range notTimes {
			if claim == "nbf" && raw == "" {
				continue // not required
			}
			p := payloadWith(claim, raw)
			wantRefused(t, "A4 "+claim+" "+raw, rawToken(key, goodHeader(key), p), rules)
		}
	}
	texts := []string{"", "null", "1", "true", "{}", `""`, `" "`, `["x"]`, `[]`, `[1]`, `[null]`, `[["` + testAudience + `"]]`}
	for _, claim := range []string{"iss", "aud", "sub", "jti", "sid"} {
		for _, raw := range texts {
			wantRefused(t, "A4 "+claim+" "+raw, rawToken(key, goodHeader(key), payloadWith(claim, raw)), rules)
		}
	}
	for _, row := range [][2]string{
		{"exp", fmt.Sprint(testNow)}, {"exp", fmt.Sprint(testNow - 1)}, {"exp", fmt.Sprint(testNow + 901)}, {"exp", fmt.Sprint(int64(maxTime))},
		{"iat", fmt.Sprint(testNow + clockLeeway + 1)}, {"iat", fmt.Sprint(testNow - 1)}, {"iat", fmt.Sprint(testNow + 900)}, {"iat", "1"},
		{"nbf", fmt.Sprint(testNow + clockLeeway + 1)}, {"nbf", fmt.Sprint(int64(maxTime))},
		{"iss", `"https://id.example.com/"`}, {"iss", `"HTTPS://id.example.com"`}, {"iss", `"https://id.example.com\u0020"`}, {"iss", `"https://evil.example"`},
		{"aud", `"https://api.example.com/"`}, {"aud", `"https://api.example.co"`}, {"aud", `["a","b"]`}, {"aud", `["https://api.example.com",1]`},
		{"sub", `"0190F3A0-0000-7000-8000-000000000001"`}, {"sub", `"0190f3a0000070008000000000000001"`},
		{"sub", `"{0190f3a0-0000-7000-8000-000000000001}"`}, {"sub", `"0190f3a0-0000-7000-8000-000000000001 "`}, {"sub", `"admin"`},
		{"sub", `"0190f3a0-0000-7000-8000-00000000000g"`}, {"sub", `"' OR 1=1 --"`}, {"jti", `"x"`}, {"sid", `"00000000"`},
		{"scope", ""}, {"scope", "null"}, {"scope", `"admin"`}, {"scope", `"user admin"`}, {"scope", "1"}, {"scope", "{}"}, {"scope", "true"},
		{"scope", `[1]`}, {"scope", `["user",null]`}, {"scope", `[["admin"]]`}, {"scope", `{"0":"admin"}`},
	} {
		wantRefused(t, "A4 "+row[0]+" "+row[1], rawToken(key, goodHeader(key), payloadWith(row[0], row[1])), rules)
	}
	for _, row := range [][2]string{
		{"exp", fmt.Sprint(testNow + 1)}, {"nbf", fmt.Sprint(testNow + clockLeeway)}, {"nbf", "1"},
		{"aud", `["` + testAudience + `"]`}, {"aud", `["x","` + testAudience + `"]`}, {"scope", "[]"}, {"scope", `[ "user" , "\u0061dmin" ]`},
	} {
		wantAccepted(t, "A4 "+row[0]+" "+row[1], rawToken(key, goodHeader(key), payloadWith(row[0], row[1])), rules)
	}
	late := strings.Replace(payloadWith("iat", fmt.Sprint(testNow+clockLeeway)), fmt.Sprint(testNow+900), fmt.Sprint(testNow+clockLeeway+900), 1)
	wantAccepted(t, "A4 a clock a minute ahead", rawToken(key, goodHeader(key), late), rules)
	for _, payload := range []string{"", " ", "null", "[]", `""`, "1", "{}", `{"exp":1}`} {
		wantRefused(t, "A4 payload "+payload, rawToken(key, goodHeader(key), payload), rules)
	}
}

// TestTokenA5to7 adds names to the header, and gives typ and kid other values.
func TestTokenA5to7(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	rules := rulesOf(key)
	good := goodHeader(key)
	x := b64(key.public())
	for _, row := range [][2]string{
		{"A5", `"crit":["exp"]`}, {"A5", `"crit":[]`}, {"A5", `"crit":["b64"],"b64":false`}, {"A5", `"crit":["b64"],"b64":true`}, {"A5", `"crit":null`},
		{"A5", `"b64":false`}, {"A5", `"b64":true`}, {"A5", `"zip":"DEF"`}, {"A5", `"enc":"A256GCM"`}, {"A5", `"cty":"JWT"`},
		{"A6", `"jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`}, {"A6", `"jku":"http://127.0.0.1:1/jwks.json"`}, {"A6", `"jku":""`},
		{"A6", `"x5u":"http://127.0.0.1:1/cert.pem"`}, {"A6", `"x5c":["MIIB"]`}, {"A6", `"x5t":"AAAA"`}, {"A6", `"x5t#S256":"AAAA"`},
		{"A6", `"iss":"x"`}, {"A6", `"":""`}, {"A6", `"a":{}`},
	} {
		header := good[:len(good)-1] + "," + row[1] + "}"
		wantRefused(t, row[0]+" "+header, rawToken(key, header, payloadWith("", "")), rules)
		first := "{" + row[1] + "," + good[1:]
		wantRefused(t, row[0]+" "+first, rawToken(key, first, payloadWith("", "")), rules)
	}
	// The forger's own key in the header, with the forger's signature.
	forger := newEdKey(bytes.Repeat([]byte{9}, 32))
	embedded := `{"alg":"EdDSA","typ":"at+jwt","kid":"` + forger.kid + `","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + b64(forger.public()) + `"}}`
	wantRefused(t, "A6 embedded key", rawToken(forger, embedded, payloadWith("", "")), rules)
	wantRefused(t, "A6 foreign key", encodeToken(forger, testClaims()), rules)
	stolen := `{"alg":"EdDSA","typ":"at+jwt","kid":"` + key.kid + `"}`
	wantRefused(t, "A6 our kid, foreign key", rawToken(forger, stolen, payloadWith("", "")), rules)

	for _, kid := range []string{
		"", `""`, "null", "0", "true", "[]", "{}", `["` + key.kid + `"]`, `"../../../dev/null"`, `"/dev/null"`, `"x' UNION SELECT 'k"`, `"' OR '1'='1"`,
		`"\u0000"`, `"` + key.kid + `\u0000"`, `"` + key.kid + ` "`, `" ` + key.kid + `"`, `"` + strings.ToUpper(key.kid) + `"`, `"` + key.kid[1:] + `"`,
		`"` + key.kid + `="`, `"http://127.0.0.1:1/"`, `"| id"`, `"unknown"`,
	} {
		header := `{"alg":"EdDSA","typ":"at+jwt","kid":` + kid + `}`
		if kid == "" {
			header = `{"alg":"EdDSA","typ":"at+jwt"}`
		}
		wantRefused(t, "A7 kid "+kid, rawToken(key, header, payloadWith("", "")), rules)
	}
	for _, typ := range []string{"", `"JWT"`, `"at"`, `"at+jwt "`, `"at+jwt;x=1"`, `"application/jwt"`, `"application/application/at+jwt"`, `"id+jwt"`, "null", "1", "[]", `""`} {
		header := `{"alg":"EdDSA","typ":` + typ + `,"kid":"` + key.kid + `"}`
		if typ == "" {
			header = `{"alg":"EdDSA","kid":"` + key.kid + `"}`
		}
		wantRefused(t, "typ "+typ, rawToken(key, header, payloadWith("", "")), rules)
	}
	for _, typ := range []string{"at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"} {
		wantAccepted(t, "typ "+typ, rawToken(key, `{ "kid":"`+key.kid+`", "typ":"`+typ+`",`+"\r\n"+`"alg":"EdDSA"}`, payloadWith("", "")), rules)
	}
}

// TestTokenA8 writes good tokens in base64url that is not canonical.
func TestTokenA8(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, key := range []*signingKey{testEdKey(), testHMACKey()} {
		rules := rulesOf(key)
		parts := strings.Split(encodeToken(key, testClaims()), ".")
		// join signs the input anew where the part changed is signed, so that the encoding alone is what is wrong.
		join := func(i int, changed string) string {
			p := slices.Clone(parts)
			p[i] = changed
			if i < 2 {
				p[2] = b64(key.sign(p[0] + "." + p[1]))
			}
			return strings.Join(p, ".")
		}
		spare := false
		for i, part := range parts {
			wantAccepted(t, "A8 control", join(i, part), rules)
			middle := len(part) / 2 / 4 * 4
			for _, changed := range []string{
				part + "=", part + "==", part + "\n", part + "\r\n", "\n" + part, part[:4] + "\r\n" + part[4:], part[:middle] + "\r" + part[middle:],
				part + " ", " " + part, part + "\x00", part + "\t", part + "A", part + "AA", part + "AAA", part + "AAAA", part[:len(part)-1],
				part + "%3D", part + "+", part + "/", part + "\u00e9", `"` + part + `"`, part + ".", "." + part, "", "\r\n", part + "\u200b",
			} {
				wantRefused(t, fmt.Sprintf("A8 part %d as %q", i, changed), join(i, changed), rules)
			}
			if lax := strings.NewReplacer("-", "+", "_", "/").Replace(part); lax != part {
				wantRefused(t, fmt.Sprintf("A8 part %d in base64", i), join(i, lax), rules)
			}
			want, _ := base64.RawURLEncoding.DecodeString(part)
			for _, c := range alphabet { // the same bytes with other spare bits
				twin := part[:len(part)-1] + string(c)
				if got, err := base64.RawURLEncoding.DecodeString(twin); err == nil && twin != part && bytes.Equal(got, want) {
					spare = true
					wantRefused(t, fmt.Sprintf("A8 part %d with spare bits", i), join(i, twin), rules)
				}
			}
		}
		if !spare {
			t.Error("no part had spare bits: the test tests nothing")
		}
	}
}

// TestTokenA9 appends things and changes the number of parts.
func TestTokenA9(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	rules := rulesOf(key)
	good := encodeToken(key, testClaims())
	parts := strings.Split(good, ".")
	for _, token := range []string{
		"", ".", "..", "...", "a", "a.b", "a.b.c", good + ".", "." + good, good + "..", good + ".e30", good + ".e30.e30", good + " ", " " + good, good + "\n",
		good + "\x00", good + "," + good, good + good, `"` + good + `"`, "Bearer " + good, parts[0] + "." + parts[1], parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2],
		parts[0] + "." + parts[1] + ".", strings.ReplaceAll(good, ".", "\uff0e"), strings.ReplaceAll(good, ".", "%2E"), strings.ReplaceAll(good, ".", ","),
		`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		`{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		strings.Repeat(".", 1000), strings.Repeat("a.", 1000), strings.Repeat("A", maxToken+1), good + strings.Repeat("A", maxToken),
	} {
		wantRefused(t, fmt.Sprintf("A9 %.60q", token), token, rules)
	}
	for _, tail := range []string{"{}", "x", ",", "}", "\x00", "\ufeff", " null", "[]"} {
		wantRefused(t, "A9 header and "+tail, rawToken(key, goodHeader(key)+tail, payloadWith("", "")), rules)
		wantRefused(t, "A9 payload and "+tail, rawToken(key, goodHeader(key), payloadWith("", "")+tail), rules)
	}
	wantRefused(t, "A9 byte order mark", rawToken(key, goodHeader(key), "\ufeff"+payloadWith("", "")), rules)
	wantAccepted(t, "A9 white space", rawToken(key, " "+goodHeader(key)+"\n", "\t"+payloadWith("", "")+"\r\n"), rules)
	nested := rawToken(key, goodHeader(key), good)
	wantRefused(t, "A9 nested token", nested, rules)
	long := payloadWith("x", `"`+strings.Repeat("x", maxToken)+`"`)
	wantRefused(t, "A9 too long, well signed", rawToken(key, goodHeader(key), long), rules)
}

// TestTokenA9Memory is not parallel: it counts allocations.
func TestTokenA9Memory(t *testing.T) {
	key := testEdKey()
	rules := rulesOf(key)
	good := encodeToken(key, testClaims())
	for name, token := range map[string]string{
		"1 MB":        strings.Repeat("A", 1<<20),
		"1 MB, split": strings.Repeat("A", 1<<19) + "." + strings.Repeat("A", 1<<19) + ".A",
		"good + 1 MB": good + strings.Repeat("A", 1<<20),
		"1000 dots":   strings.Repeat(".", 1000),
		"1e6 dots":    strings.Repeat(".", 1_000_000),
	} {
		if allocs := testing.AllocsPerRun(100, func() { decodeToken(token, rules, testNow) }); allocs != 0 {
			t.Errorf("A9 %s: got %v allocations, want none", name, allocs)
		}
	}
	deep := b64([]byte(strings.Repeat(`{"a":`, 500))) + "." + b64([]byte("{}")) + "." + b64(make([]byte, 64))
	if allocs := testing.AllocsPerRun(100, func() { decodeToken(deep, rules, testNow) }); allocs > 30 {
		t.Errorf("A9 deep header: got %v allocations, want few", allocs)
	}
}

// TestTokenA10 forges Ed25519 signatures.
func TestTokenA10(t *testing.T) {
	t.Parallel()
	key := testEdKey()
	rules := rulesOf(key)
	good := encodeToken(key, testClaims())
	dot := strings.LastIndexByte(good, '.')
	signature, _ := unb64(good[dot+1:])
	with := func(s []byte) string { return good[:dot+1] + b64(s) }
	wantAccepted(t, "A10 control", with(signature), rules)

	// S + L verifies wherever S does, unless S < L is asked for (RFC 8032 §5.1.7).
	l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), l)
	malleable := slices.Clone(signature)
	sum.FillBytes(malleable[32:])
	slices.Reverse(malleable[32:])
	wantRefused(t, "A10 S+L", with(malleable), rules)

	identity := append([]byte{1}, make([]byte, 31)...)
	for name, forged := range map[string][]byte{
		"zeros": make([]byte, 64), "ones": bytes.Repeat([]byte{0xff}, 64), "R is the identity": append(slices.Clone(identity), signature[32:]...),
		"S is zero": append(slices.Clone(signature[:32]), make([]byte, 32)...), "identity and zero": append(slices.Clone(identity), make([]byte, 32)...),
		"63 bytes": signature[:63], "65 bytes": append(slices.Clone(signature), 0), "32 bytes": signature[:32], "twice": append(slices.Clone(signature), signature...),
		"R and S exchanged": append(slices.Clone(signature[32:]), signature[:32]...),
	} {
		wantRefused(t, "A10 "+name, with(forged), rules)
	}
	digest := sha512.Sum512([]byte(good[:dot]))
	prehashed, err := key.private.Sign(nil, digest[:], &ed25519.Options{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "A10 Ed25519ph", with(prehashed), rules)
	context, err := key.private.Sign(nil, []byte(good[:dot]), &ed25519.Options{Context: "jwt"})
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "A10 Ed25519ctx", with(context), rules)
	wantRefused(t, "A10 signed digest", with(key.sign(string(digest[:]))), rules)
	// A public key of small order can't come in: only seeds are keys, and a row whose public key is another's is refused.
	sealKey := bytes.Repeat([]byte{3}, 32)
	row := newKeyRow(sealKey)
	for _, public := range [][]byte{identity, make([]byte, 32), nil, row.publicKey[:31], bytes.Repeat([]byte{0xff}, 32)} {
		bad := row
		bad.publicKey = public
		if _, err := openKeyRow(bad, sealKey); err == nil {
			t.Errorf("A10 a key row with public key %x was opened", public)
		}
	}
	if _, err := openKeyRow(row, sealKey); err != nil {
		t.Errorf("A10 control: %v", err)
	}
}

// jwsKey is a key as Wycheproof and the cookbook write it.
type jwsKey struct{ Kty, Alg, Kid, K, X, D, N string }

// verifyJWS is decodeToken's first half, up to and with the signature: the vectors' payloads are no claims.
func verifyJWS(token string, key *signingKey) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	header, ok := unb64(parts[0])
	if !ok {
		return false
	}
	members, err := parseObject(header, maxTokenDepth)
	if err != nil {
		return false
	}
	alg := ""
	for _, m := range members {
		switch m.name {
		case "alg":
			alg, _ = jsonText(m.raw)
		case "crit", "b64":
			return false
		}
	}
	signature, ok := unb64(parts[2])
	return ok && alg == key.alg && key.verify(parts[0]+"."+parts[1], signature)
}

func TestWycheproofJWS(t *testing.T) {
	t.Parallel()
	var file struct {
		TestGroups []struct {
			Comment         string
			Private, Public jwsKey
			Tests           []struct {
				TCID    int `json:"tcId"`
				Comment string
				JWS     json.RawMessage
				Result  string
			}
		}
	}
	var errata struct {
		Entries []struct {
			TCID int `json:"tcId"`
		}
	}
	readVectors(t, "jwt/wycheproof/json_web_signature_part_a.json", &file)
	readVectors(t, "jwt/wycheproof/errata.json", &errata)
	wrong := map[int]bool{}
	for _, e := range errata.Entries {
		wrong[e.TCID] = true
	}
	n, valid := 0, 0
	for _, g := range file.TestGroups {
		material := g.Private.K
		if material == "" { // RSA and elliptic curves: what can be had of the public key
			material = g.Private.N + g.Private.X
		}
		secret, ok := unb64(material)
		if !ok {
			t.Fatalf("%s: no key", g.Comment)
		}
		keys := []*signingKey{newHMACKey(secret), testEdKey()}
		for _, test := range g.Tests {
			if wrong[test.TCID] {
				continue
			}
			token, isText := jsonText(test.JWS)
			if !isText {
				token = string(test.JWS)
			}
			n++
			for _, key := range keys {
				want := test.Result == "valid" && g.Private.Alg == algHS256 && key.alg == algHS256
				if got := verifyJWS(token, key); got != want {
					t.Errorf("tcId %d %s (%s): signature by %s: got %v, want %v", test.TCID, test.Comment, g.Private.Alg, key.alg, got, want)
				}
				if want {
					valid++
				}
				any := &tokenRules{testIssuer, testAudience, 900, func(string) *signingKey { return key }}
				wantRefused(t, fmt.Sprintf("tcId %d as an access token", test.TCID), token, any)
			}
		}
	}
	if n != 263 || valid < 3 {
		t.Errorf("got %d tests with %d valid: the vectors are not all there", n, valid)
	}
}

func TestWycheproofEd25519(t *testing.T) {
	t.Parallel()
	var file struct {
		TestGroups []struct {
			PublicKey struct{ PK string }
			Tests     []struct {
				TCID             int `json:"tcId"`
				Comment          string
				Msg, Sig, Result string
			}
		}
	}
	readVectors(t, "jwt/wycheproof/ed25519_part_a.json", &file)
	n := 0
	for _, g := range file.TestGroups {
		public := unhex(t, g.PublicKey.PK)
		key := &signingKey{alg: algEdDSA, private: append(make([]byte, 32), public...)} // only its public half is used
		for _, test := range g.Tests {
			n++
			got := key.verify(string(unhex(t, test.Msg)), unhex(t, test.Sig))
			if want := test.Result == "valid"; got != want {
				t.Errorf("tcId %d %s: got %v, want %v", test.TCID, test.Comment, got, want)
			}
		}
	}
	if n != 65 {
		t.Errorf("got %d tests, want 65", n)
	}
}

func TestWycheproofHMAC(t *testing.T) {
	t.Parallel()
	var file struct {
		TestGroups []struct {
			TagSize int
			Tests   []struct {
				TCID                  int `json:"tcId"`
				Comment               string
				Key, Msg, Tag, Result string
			}
		}
	}
	readVectors(t, "jwt/wycheproof/hmac_sha256_part_a.json", &file)
	n := 0
	for _, g := range file.TestGroups {
		for _, test := range g.Tests {
			n++
			key := newHMACKey(unhex(t, test.Key))
			got := key.verify(string(unhex(t, test.Msg)), unhex(t, test.Tag))
			if want := test.Result == "valid" && g.TagSize == 256; got != want { // a tag that was cut is none
				t.Errorf("tcId %d %s: got %v, want %v", test.TCID, test.Comment, got, want)
			}
		}
	}
	if n != 87 {
		t.Errorf("got %d tests, want 87", n)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRFCTokens runs the examples of RFC 7515, 7520, 7797 and 8037.
func TestRFCTokens(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file string
		good bool // the signature
	}{
		{"rfc8037_ed25519_jws.json", true},
		{"rfc7520_4_4_hs256.json", true},
		{"rfc7520_4_1_rs256.json", false},
		{"rfc7520_4_5_detached.json", false},
		{"rfc7797_b64_false.json", false},
	} {
		var example struct {
			Input  struct{ Key jwsKey }
			Output struct {
				Compact string
				JSON    json.RawMessage
				Flat    json.RawMessage `json:"json_flat"`
			}
		}
		readVectors(t, "jwt/rfc/"+test.file, &example)
		k := example.Input.Key
		var key *signingKey
		if k.Kty == "OKP" {
			seed, _ := unb64(k.D)
			key = newEdKey(seed)
			if got := b64(key.public()); got != k.X {
				t.Errorf("%s: public key: got %s, want %s", test.file, got, k.X)
			}
			input, want := example.Output.Compact[:strings.LastIndexByte(example.Output.Compact, '.')], example.Output.Compact
			if got := input + "." + b64(key.sign(input)); got != want {
				t.Errorf("%s: signing: got %s, want %s", test.file, got, want)
			}
		} else {
			secret, _ := unb64(k.K + k.N)
			key = newHMACKey(secret)
		}
		if got := verifyJWS(example.Output.Compact, key); got != test.good {
			t.Errorf("%s: signature: got %v, want %v", test.file, got, test.good)
		}
		any := &tokenRules{testIssuer, testAudience, 900, func(string) *signingKey { return key }}
		for _, token := range []string{example.Output.Compact, string(example.Output.JSON), string(example.Output.Flat)} {
			wantRefused(t, test.file, token, any)
		}
	}
	var appendix struct {
		Vectors []struct {
			Ref, Alg, K, Token string
			JWK                jwsKey
			Thumbprint         string `json:"rfc7638_sha256_thumbprint"`
		}
	}
	readVectors(t, "jwt/rfc/rfc_jose_appendix.json", &appendix)
	thumbprints := 0
	for _, v := range appendix.Vectors {
		if v.Thumbprint != "" {
			thumbprints++
			if got := thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"` + v.JWK.X + `"}`); got != v.Thumbprint {
				t.Errorf("%s: got %s, want %s", v.Ref, got, v.Thumbprint)
			}
			continue
		}
		secret, _ := unb64(v.K)
		key := newHMACKey(secret)
		if got, want := verifyJWS(v.Token, key), v.Alg == algHS256; got != want {
			t.Errorf("%s: signature: got %v, want %v", v.Ref, got, want)
		}
		any := &tokenRules{"joe", testAudience, 900, func(string) *signingKey { return key }}
		wantRefused(t, v.Ref, v.Token, any)
	}
	if thumbprints != 1 {
		t.Errorf("got %d thumbprints, want 1", thumbprints)
	}
}

// TestKeyIDs: RFC 8037 A.3 for the key of A.1, and an HMAC key's id tells nothing of it.
func TestKeyIDs(t *testing.T) {
	t.Parallel()
	seed, _ := unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if got, want := newEdKey(seed).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	secret := []byte("secret")
	sum := sha256.Sum256(secret)
	if got := newHMACKey(secret).kid; got == b64(sum[:]) || got == b64(secret) || got == newHMACKey([]byte("secreT")).kid {
		t.Errorf("kid of an HMAC key: got %s", got)
	}
}
