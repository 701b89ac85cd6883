package main

// Fuzz targets for everything that reads what a stranger wrote. Seeds are the vectors of testdata.

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// everyKind is an input with each kind of field there is.
type everyKind struct {
	Text    string          `json:"text"`
	Maybe   *string         `json:"maybe"`
	List    []string        `json:"list"`
	Raw     json.RawMessage `json:"raw"`
	Name    string          `query:"name"`
	Number  int             `query:"number"`
	After   *id             `query:"after"`
	Address *netip.Addr     `query:"address"`
	Since   *time.Time      `query:"since"`
	ID      id              `path:"id"`
}

// FuzzBindBody: binding never panics, and takes no body that encoding/json refuses or reads in another way.
func FuzzBindBody(f *testing.F) {
	const u = "0190f3a0-0000-7000-8000-000000000001"
	var vectors []jsonVector
	readVectors(f, "json/jsontestsuite_part_a.json", &vectors)
	for _, v := range vectors {
		f.Add(v.Base64, "", u)
		f.Add([]byte(`{"raw":`+string(v.Base64)+`}`), "", u)
	}
	f.Add([]byte(`{"text":"a","maybe":"b","list":["c"],"raw":{"d":1e400}}`), "name=x&number=5&after="+u+"&address=::1&since=2026-01-02T03:04:05Z", u)
	f.Add([]byte(`{"Text":"a"}`), "number=0", "x")
	f.Add([]byte(`{"text":null}`), "number=+1", u)
	f.Add([]byte(`{"te\u0078t":"a","text":"b"}`), "name=%00", u)
	f.Add([]byte(`{"text":"\ud800"}`), "address=fe80::1%25eth0", u)
	f.Add([]byte(`{"list":["a",null]}`), "since=9999-01-01T00:00:00Z", u)
	fields := fieldsOf(reflect.TypeFor[everyKind]())
	f.Fuzz(func(t *testing.T, body []byte, query, path string) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.URL.RawQuery = query
		r.SetPathValue("id", path)
		var got everyKind
		if err := bind(fields, reflect.ValueOf(&got).Elem(), httptest.NewRecorder(), r); err != nil {
			if a, known := answerFor(err); !known || a.status >= 500 || a.status < 400 {
				t.Errorf("%q: got %v, which is no answer for a client", body, err)
			}
			return
		}
		var want everyKind
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&want); err != nil || !json.Valid(body) {
			t.Errorf("encoding/json refuses %q: %v", body, err)
		}
		if got.Text != want.Text || !reflect.DeepEqual(got.Maybe, want.Maybe) || !slices.Equal(got.List, want.List) || !bytes.Equal(got.Raw, want.Raw) {
			t.Errorf("%q: got %+v, want %+v", body, got, want)
		}
		if got.ID.String() != path {
			t.Errorf("path: got %s, want %q", got.ID, path)
		}
		if strings.ContainsRune(got.Text+got.Name+strings.Join(got.List, ""), 0) {
			t.Errorf("%q: a NUL came through", body)
		}
	})
}

// FuzzDecodeToken: no panic, and what is accepted is byte for byte a token we issued.
func FuzzDecodeToken(f *testing.F) {
	ed, mac := testEdKey(), testHMACKey()
	rules := rulesOf(ed, mac)
	issued := map[string]bool{}
	for _, key := range []*signingKey{ed, mac} {
		c := testClaims()
		c.subject, c.token, c.session = id{1}, id{2}, id{3}
		token := encodeToken(key, c)
		issued[token] = true
		f.Add(token)
		f.Add(token + "=")
		f.Add(strings.Replace(token, ".", ".\n", 1))
		header, rest, _ := strings.Cut(token, ".")
		f.Add(b64([]byte(`{"alg":"none","typ":"at+jwt","kid":"`+key.kid+`"}`)) + "." + rest)
		f.Add(header + ".." + rest)
	}
	var file struct {
		TestGroups []struct {
			Tests []struct{ JWS json.RawMessage }
		}
	}
	readVectors(f, "jwt/wycheproof/json_web_signature_part_a.json", &file)
	for _, g := range file.TestGroups {
		for _, test := range g.Tests {
			if token, ok := jsonText(test.JWS); ok {
				f.Add(token)
			}
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		if c, err := decodeToken(token, rules, testNow); err == nil && !issued[token] {
			t.Errorf("%q was accepted as %+v", token, c)
		}
		// The readers behind the signature, with the same bytes.
		for part := range strings.SplitSeq(token, ".") {
			if text, ok := unb64(part); ok {
				if b64(text) != part {
					t.Errorf("%q is not the canonical form of %q", part, text)
				}
				keyOfHeader(text, rules)
				readClaims(text)
			}
		}
		keyOfHeader([]byte(token), rules)
		readClaims([]byte(token))
	})
}

// FuzzParsePHC: no panic, within bounds, and one text for one value.
func FuzzParsePHC(f *testing.F) {
	var file struct{ Vectors []struct{ PHC string } }
	readVectors(f, "argon2/argon2id_phc.json", &file)
	for _, v := range file.Vectors {
		f.Add(v.PHC)
	}
	f.Add("$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parsePHC(text)
		if err != nil {
			return
		}
		p := h.params
		if p.memory < 8 || p.memory > maxArgonMemory || p.time < 1 || p.time > maxArgonTime || p.lanes < 1 || p.lanes > maxArgonLanes || len(h.salt) < 8 || len(h.hash) < 16 {
			t.Errorf("%q is out of bounds", text)
		}
		if got := h.String(); got != text {
			t.Errorf("written again: got %q, want %q", got, text)
		}
		if p.memory <= 64 && p.time == 1 {
			h.derive("x") // no panic in what the bounds let through
		}
	})
}

// FuzzNormalEmail: what is accepted is ASCII, of one form, and its own canonical form.
func FuzzNormalEmail(f *testing.F) {
	var blns []string
	readVectors(f, "strings/blns.json", &blns)
	for i, s := range blns {
		if i%8 == 0 { // the whole list is TestNormalEmail's; running a thousand seeds takes longer than the fuzzing
			f.Add(s)
			f.Add(s + "@example.org")
		}
	}
	for _, s := range []string{"Ada@Example.ORG", "a+b@x-y.co", "\u212a@example.org", "a@b@c.de", `"a"@b.cd`, "a@1.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, email string) {
		canonical, reason := normalEmail(email)
		if reason != "" {
			if canonical != "" {
				t.Errorf("%q: refused as %q", email, canonical)
			}
			return
		}
		for i := range len(canonical) {
			if c := canonical[i]; c <= ' ' || c > '~' || c >= 'A' && c <= 'Z' {
				t.Errorf("%q: got %q", email, canonical)
			}
		}
		if len(canonical) != len(email) || !strings.EqualFold(canonical, email) || strings.Count(canonical, "@") != 1 || len(canonical) > maxEmail {
			t.Errorf("%q: got %q", email, canonical)
		}
		if again, reason := normalEmail(canonical); again != canonical || reason != "" {
			t.Errorf("%q again: got %q, %q", canonical, again, reason)
		}
	})
}

// FuzzCursor: no panic, one text for one place, and the answer to a bad one is the client's.
func FuzzCursor(f *testing.F) {
	u := newID(time.Unix(1_800_000_000, 0))
	for _, s := range []string{"", "AA", writeCursor(u.String()), writeCursor(u.String()) + "=", writeCursor("x"), strings.Repeat("A", 513), "A\nA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		key, err := readCursor(cursor)
		if err == nil && writeCursor(key) != cursor {
			t.Errorf("%q: written again: got %q", cursor, writeCursor(key))
		}
		u, idErr := readIDCursor(cursor)
		if idErr == nil && (err != nil || u.String() != key) {
			t.Errorf("%q: got %v", cursor, u)
		}
		for _, err := range []error{err, idErr} {
			if a, known := answerFor(err); err != nil && (!known || a.status != 400) {
				t.Errorf("%q: got %v, want a 400", cursor, err)
			}
		}
		if back, err := readCursor(writeCursor(cursor)); len(cursor) > 0 && len(cursor) < 300 && (back != cursor || err != nil) {
			t.Errorf("%q through a cursor: got %q, %v", cursor, back, err)
		}
	})
}

// FuzzDecodeRefresh: no panic, and what is accepted is byte for byte a token we made.
func FuzzDecodeRefresh(f *testing.F) {
	key := bytes.Repeat([]byte{5}, 32)
	session := id{1, 2, 3}
	for _, generation := range []uint32{0, 1, 1 << 31, 1<<32 - 2, 1<<32 - 1} {
		token := encodeRefresh(key, session, generation)
		f.Add(token)
		f.Add(token + "=")
		f.Add(token[:len(token)-1])
		f.Add(strings.ToUpper(token))
		f.Add(encodeRefresh(bytes.Repeat([]byte{6}, 32), session, generation))
	}
	f.Fuzz(func(t *testing.T, token string) {
		sessionID, generation, err := decodeRefresh(key, token)
		if err != nil {
			if sessionID != (id{}) || generation != 0 || err != errInvalidToken {
				t.Errorf("%q: got %v, %d, %v, want errInvalidToken alone", token, sessionID, generation, err)
			}
			return
		}
		if encodeRefresh(key, sessionID, generation) != token || generation == 1<<32-1 {
			t.Errorf("%q was accepted", token)
		}
	})
}
