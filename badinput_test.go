package main

// What must be refused: every field of every endpoint with values that don't fit, bodies that are no request, queries and
// ids that can't be. Never a 5xx, always a code, and nothing stored.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// sampleField is a good value for each name that occurs in a body. The tokens are none of ours, so that no request that is
// good in all else changes anything.
var sampleField = map[string]string{
	"email": `"new@example.org"`, "password": `"another fine password"`, "current_password": `"correct horse battery"`,
	"profile": `{"a":1}`, "scope": `["user"]`, "status": `"suspended"`, "reason": `"spam"`,
	"refresh_token": `"usrt_none"`, "token": `"uspr_none"`,
}

// badApp is a service with a user and an administrator, and the requests that its table takes.
type badApp struct {
	*app
	adaID      string
	ada, root  pair
	unchanged  string // data() before
	bodiesRows []route
}

func newBadApp(t *testing.T) *badApp {
	b := &badApp{app: newApp(t)}
	_, b.root = b.admin("root@example.org")
	b.adaID = b.register("ada@example.org")
	b.ada = b.login("ada@example.org")
	b.unchanged = b.data()
	for _, row := range b.s.routes(b.health) {
		if hasSource(row.endpoint.fields, "json") {
			b.bodiesRows = append(b.bodiesRows, row)
		}
	}
	return b
}

// headers are those of a call that the row lets in.
func (b *badApp) headers(row *route) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	switch row.access.kind {
	case accessSignedIn:
		h.Set("Authorization", "Bearer "+b.ada.access)
	case accessScope:
		h.Set("Authorization", "Bearer "+b.root.access)
	}
	return h
}

// call sends a body to a row.
func (b *badApp) call(row *route, query, body string, change func(http.Header)) reply {
	b.t.Helper()
	method, path, _ := strings.Cut(row.pattern, " ")
	h := b.headers(row)
	if change != nil {
		change(h)
	}
	return b.send(method, strings.ReplaceAll(path, "{id}", b.adaID)+query, h, strings.NewReader(body))
}

// refused checks status and code, and that the details name the field alone; field "" is for faults of the whole.
func (b *badApp) refused(name string, got reply, status int, code, field string) {
	b.t.Helper()
	if got.status != status || got.code() != code {
		b.t.Errorf("%s: got %d %q, want %d %q: %s", name, got.status, got.code(), status, code, got.body)
		return
	}
	details, _ := got.json(b.t)["error"].(obj)["details"].(obj)
	if field == "" && details == nil {
		return
	}
	if reason, _ := details[field].(string); reason == "" || len(details) != 1 {
		b.t.Errorf("%s: got details %v, want a reason for %q", name, details, field)
	}
}

// untouched checks that nothing was stored since the start; counted wrong passwords are forgotten first.
func (b *badApp) untouched() {
	b.t.Helper()
	b.sql(`UPDATE users SET failed_attempts = 0, failed_at = NULL, locked_until = NULL`, `DELETE FROM login_attempts`)
	if after := b.data(); after != b.unchanged {
		b.t.Errorf("refused requests changed data: got\n%s\nwant\n%s", after, b.unchanged)
	}
}

// bodyOf writes a body with the row's fields, each with its sample; raw replaces that of one field.
func bodyOf(row *route, field, raw string) string {
	var members []string
	for _, f := range row.endpoint.fields {
		if f.source != "json" {
			continue
		}
		value := sampleField[f.name]
		if f.name == field {
			value = raw
		}
		members = append(members, fmt.Sprintf("%q:%s", f.name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestBadInputFields(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	long := `"` + strings.Repeat("x", 2000) + `@example.org"`
	type fault struct {
		name, raw string
		status    int
		code      string
	}
	const whole = "invalid_json"
	faults := func(f field, pattern string) []fault {
		common := []fault{
			{"null", `null`, 400, "invalid_request"},
			{"number", `1`, 400, "invalid_request"},
			{"float", `1.5`, 400, "invalid_request"},
			{"true", `true`, 400, "invalid_request"},
			{"list of lists", `[["x"]]`, 400, "invalid_request"},
			{"list with null", `[null]`, 400, "invalid_request"},
			{"NUL", `"a\u0000b"`, 400, "invalid_request"},
			{"NUL in an object", `{"a":["b\u0000"]}`, 400, "invalid_request"},
			{"NUL in a name", `{"a\u0000":1}`, 400, "invalid_request"},
			{"duplicates in an object", `{"a":1,"\u0061":2}`, 400, "invalid_request"},
			{"bad UTF-8", "\"a\xffb\"", 400, whole},
			{"overlong UTF-8", "\"\xc0\xaf\"", 400, whole},
			{"surrogate in UTF-8", "\"\xed\xa0\x80\"", 400, whole},
			{"bare control character", "\"a\x01b\"", 400, whole},
			{"bare newline", "\"a\nb\"", 400, whole},
			{"lone high surrogate", `"\ud83d"`, 400, whole},
			{"lone low surrogate", `"\ude00"`, 400, whole},
			{"surrogates in the wrong order", `"\ude00\ud83d"`, 400, whole},
			{"unknown escape", `"\x41"`, 400, whole},
			{"NaN", `NaN`, 400, whole},
			{"nothing", ``, 400, whole},
		}
		text := []fault{{"object", `{}`, 400, "invalid_request"}, {"list", `["x"]`, 400, "invalid_request"}, {"empty list", `[]`, 400, "invalid_request"}}
		const invalid = "validation_failed"
		switch f.name {
		case "email":
			text = append(text, fault{"empty", `""`, 422, invalid}, fault{"long", long, 422, invalid}, fault{"control", `"a\u0001@example.org"`, 422, invalid},
				fault{"newline", `"a@example.org\n"`, 422, invalid}, fault{"emoji", `"\ud83d\ude00@example.org"`, 422, invalid})
		case "password", "current_password":
			text = append(text, fault{"empty", `""`, 422, invalid}, fault{"long", long, 422, invalid})
		case "status", "reason":
			text = append(text, fault{"empty", `""`, 422, invalid}, fault{"long", long, 422, invalid}, fault{"control", `"active\u001b[2J"`, 422, invalid},
				fault{"C1 control", `"active\u0085"`, 422, invalid})
		case "token", "refresh_token":
			text = append(text, fault{"long", long, 401, "invalid_token"}, fault{"control", `"usrt_\u0001"`, 401, "invalid_token"})
			if !strings.HasSuffix(pattern, "/logout") {
				text = append(text, fault{"empty", `""`, 422, invalid})
			}
		case "scope":
			many, _ := json.Marshal(manyScopes(21))
			text = []fault{{"object", `{}`, 400, "invalid_request"}, {"text", `"admin"`, 400, "invalid_request"}, {"empty", `[]`, 422, invalid},
				{"empty text", `[""]`, 422, invalid}, {"long", `["` + strings.Repeat("x", 33) + `"]`, 422, invalid}, {"many", string(many), 422, invalid},
				{"twice", `["user","user"]`, 422, invalid}, {"capital", `["Admin"]`, 422, invalid}, {"space", `["user admin"]`, 422, invalid},
				{"control", `["user\u0001"]`, 422, invalid}, {"mixed", `["user",1]`, 400, "invalid_request"}}
		case "profile": // any value that is not null is well-formed, and only an object is good
			text = []fault{{"text", `"x"`, 422, invalid}, {"empty", `""`, 422, invalid}, {"list", `[]`, 422, invalid},
				{"long", `{"a":` + long + strings.Repeat(" ", 16<<10) + `}`, 422, invalid}, {"deep", strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 9), 422, invalid},
				{"huge number", `{"a":1e400000}`, 422, invalid}, {"many digits", `{"a":` + strings.Repeat("9", 10_000) + `}`, 422, invalid},
				{"huge exponent", `{"a":1e` + strings.Repeat("9", 1000) + `}`, 422, invalid}, {"tiny exponent", `{"a":1e-` + strings.Repeat("9", 1000) + `}`, 422, invalid}}
			for i := range common {
				if common[i].code == "invalid_request" && !strings.HasPrefix(common[i].name, "NUL") && common[i].name != "null" && common[i].name != "duplicates in an object" {
					common[i].status, common[i].code = 422, invalid
				}
			}
		default:
			t.Errorf("%s: the field %s has no bad values here", pattern, f.name)
		}
		return append(common, text...)
	}
	fields := 0
	for i := range b.bodiesRows {
		row := &b.bodiesRows[i]
		for _, f := range row.endpoint.fields {
			if f.source != "json" {
				continue
			}
			fields++
			for _, bad := range faults(f, row.pattern) {
				named := f.name
				if bad.code == whole || bad.status == 401 {
					named = ""
				}
				b.refused(row.pattern+" "+f.name+" "+bad.name, b.call(row, "", bodyOf(row, f.name, bad.raw), nil), bad.status, bad.code, named)
			}
			good := strings.TrimSuffix(bodyOf(row, "", ""), "}")
			for name, twin := range map[string]string{
				"duplicate": f.name, "escaped duplicate": fmt.Sprintf(`\u%04x%s`, f.name[0], f.name[1:]),
			} {
				b.refused(row.pattern+" "+name+" of "+f.name, b.call(row, "", good+`,"`+twin+`":`+sampleField[f.name]+`}`, nil), 400, "invalid_request", f.name)
			}
			for _, twin := range []string{strings.ToUpper(f.name[:1]) + f.name[1:], strings.ToUpper(f.name), f.name + " ", " " + f.name,
				strings.Replace(f.name, "s", "\u017f", 1), strings.Replace(f.name, "k", "\u212a", 1)} {
				if twin == f.name {
					continue
				}
				b.refused(row.pattern+" twin "+twin, b.call(row, "", good+`,"`+twin+`":`+sampleField[f.name]+`}`, nil), 400, "invalid_request", twin)
				alone := strings.Replace(good, `"`+f.name+`"`, `"`+twin+`"`, 1) + `}`
				b.refused(row.pattern+" twin alone "+twin, b.call(row, "", alone, nil), 400, "invalid_request", twin)
			}
		}
	}
	if fields < 20 {
		t.Errorf("got %d fields, want those of the whole table", fields)
	}
	b.untouched()
}

func TestBadInputBodies(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	utf16le := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(`{"email":"new@example.org","password":"another fine password"}`)) {
		utf16le = append(utf16le, byte(unit), byte(unit>>8))
	}
	pad := func(row *route, size int) string {
		body := bodyOf(row, "", "")
		return body + strings.Repeat(" ", size-len(body))
	}
	for i := range b.bodiesRows {
		row := &b.bodiesRows[i]
		good := bodyOf(row, "", "")
		for name, body := range map[string]string{
			"null": `null`, "list": `[` + good + `]`, "text": `"x"`, "number": `1`, "space": ` `, "open": strings.TrimSuffix(good, "}"),
			"two objects": good + good, "object and null": good + "null", "object and bracket": good + "]", "NUL after": good + "\x00", "text after": good + " x",
			"trailing comma": strings.TrimSuffix(good, "}") + ",}", "leading comma": "{," + good[1:], "single quotes": strings.ReplaceAll(good, `"`, `'`),
			"no quotes": `{email:1}`, "comment": "// c\n" + good, "comment inside": "{/* c */" + good[1:], "BOM": "\ufeff" + good, "UTF-16": string(utf16le),
			"form": "email=new@example.org&password=another+fine+password", "no-break space": "\u00a0" + good, "form feed": "\f" + good,
			"30,000 deep":         `{"profile":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`,
			"10,000 objects deep": strings.Repeat(`{"a":`, 10_000) + `1` + strings.Repeat(`}`, 10_000),
			"60,000 open lists":   strings.Repeat("[", 60_000), "bad name": "{\"a\xff\":1}", "lone surrogate in a name": `{"\ud800":1}`,
		} {
			b.refused(row.pattern+" "+name, b.call(row, "", body, nil), 400, "invalid_json", "")
		}
		if method, _ := row.target(); method != "DELETE" {
			b.refused(row.pattern+" empty", b.call(row, "", "", nil), 400, "invalid_json", "")
		}
		var names strings.Builder
		for n := range 5000 {
			fmt.Fprintf(&names, `,"k%d":0`, n)
		}
		b.refused(row.pattern+" many names", b.call(row, "", "{"+names.String()[1:]+"}", nil), 400, "invalid_request", "k0")
		b.refused(row.pattern+" a long name", b.call(row, "", `{"`+strings.Repeat("n", 5000)+`":0}`, nil), 400, "invalid_request", strings.Repeat("n", 64))
		b.refused(row.pattern+" empty name", b.call(row, "", `{"":0}`, nil), 400, "invalid_request", "")

		for name, body := range map[string]string{"64 KiB + 1": pad(row, 64<<10+1), "100,000 deep": strings.Repeat("[", 100_000), "1 MB": pad(row, 1<<20)} {
			got := b.call(row, "", body, nil)
			b.refused(row.pattern+" "+name, got, 413, "body_too_large", "")
		}
		method, path, _ := strings.Cut(row.pattern, " ")
		chunked := b.send(method, strings.ReplaceAll(path, "{id}", b.adaID), b.headers(row), io.MultiReader(strings.NewReader(pad(row, 64<<10+1))))
		b.refused(row.pattern+" 64 KiB + 1 in chunks", chunked, 413, "body_too_large", "")

		for _, kind := range []string{"", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16",
			"application/json; charset=iso-8859-1", "application/jsonx", "application/json; boundary=x", "application/merge-patch+json", "application/json, text/plain", "*/*", "application/json; charset"} {
			got := b.call(row, "", good, func(h http.Header) {
				h.Del("Content-Type")
				if kind != "" {
					h.Set("Content-Type", kind)
				}
			})
			b.refused(row.pattern+" type "+kind, got, 415, "unsupported_media_type", "")
		}
		for _, encoding := range []string{"gzip", "br", "deflate, gzip"} {
			got := b.call(row, "", good, func(h http.Header) { h.Set("Content-Encoding", encoding) })
			b.refused(row.pattern+" "+encoding, got, 415, "unsupported_media_type", "")
		}
	}
	b.untouched()

	login := `{"email":"ada@example.org","password":"` + testPassword + `"}`
	for _, kind := range []string{"application/json", "Application/JSON", "application/json;charset=UTF-8", `application/json; charset="utf-8"`} {
		got := b.send("POST", apiLogin, http.Header{"Content-Type": {kind}}, strings.NewReader(login+strings.Repeat(" ", 64<<10-len(login)))) // 64 KiB
		b.want(got, 200, "")
	}
	for _, body := range []string{"\r\n\t " + login + " \n", `{"\u0065mail":"\u0061da@example.org","password":"` + testPassword + `"}`} {
		b.want(b.do("POST", apiLogin, "", body), 200, "")
	}
	b.want(b.do("GET", apiMe, b.ada.access, `{"profile":{}}`), 400, "invalid_request") // an endpoint without body fields takes none
	b.want(b.do("GET", apiMe, b.ada.access, `{}`), 200, "")
}

// TestBadInputOrder: who may not call learns nothing of what is wrong with the body.
func TestBadInputOrder(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	for i := range b.bodiesRows {
		row := &b.bodiesRows[i]
		if row.access.kind == accessAnonymous || row.access.kind == accessEither {
			continue
		}
		b.refused(row.pattern, b.call(row, "", "{", func(h http.Header) { h.Del("Authorization") }), 401, "missing_token", "")
		if row.access.kind == accessScope {
			ada := func(h http.Header) { h.Set("Authorization", "Bearer "+b.ada.access) }
			b.refused(row.pattern, b.call(row, "", "{", ada), 403, "insufficient_scope", "")
		}
	}
	b.untouched()
}

func TestBadInputQueries(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	cursor := func(key string) string { return url.QueryEscape(writeCursor(key)) }
	const audit = "/api/v1/admin/audit-log"
	for _, tt := range []struct{ path, query, field string }{
		{apiUsers, "status=disabled", "status"},
		{apiUsers, "status=Active", "status"},
		{apiUsers, "status=active'--", "status"},
		{apiUsers, "email=" + strings.Repeat("x", 255), "email"},
		{apiUsers, "q=" + strings.Repeat("x", 255), "q"},
		{apiUsers, "cursor=" + cursor("not an id"), "cursor"},
		{apiUsers, "cursor=" + cursor("ada@example.org"), "cursor"},
		{apiUsers, "q=a&cursor=" + cursor(someID), "cursor"},
		{apiUsers, "q=a&cursor=" + cursor("a\x00@example.org"), "cursor"},
		{apiUsers, "q=a&cursor=" + cursor("a\xff@example.org"), "cursor"},
		{apiUsers, "sort=email", "sort"},
		{apiUsers, "offset=10", "offset"},
		{apiUsers, "Limit=10", "Limit"},
		{audit, "user_id=1", "user_id"},
		{audit, "user_id=", "user_id"},
		{audit, "user_id=" + strings.ToUpper(someID), "user_id"},
		{audit, "user_id=%7B" + someID + "%7D", "user_id"},
		{audit, "actor_id=" + strings.ReplaceAll(someID, "-", ""), "actor_id"},
		{audit, "action=auth.%25", "action"},
		{audit, "action=AUTH.LOGIN", "action"},
		{audit, "action=" + strings.Repeat("a", 65), "action"},
		{audit, "status=ok", "status"},
		{audit, "ip=localhost", "ip"},
		{audit, "ip=127.0.0.1/8", "ip"},
		{audit, "ip=127.1", "ip"},
		{audit, "ip=fe80::1%25eth0", "ip"},
		{audit, "trace_id=abc", "trace_id"},
		{audit, "trace_id=" + strings.Repeat("A", 32), "trace_id"},
		{audit, "from=yesterday", "from"},
		{audit, "from=2026-01-01", "from"},
		{audit, "from=2026-01-01T00:00:00", "from"},
		{audit, "to=99999-01-01T00:00:00Z", "to"},
		{audit, "to=0000-01-01T00:00:00Z", "to"},
		{audit, "to=2026-02-30T00:00:00Z", "to"},
		{audit, "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"},
		{audit, "cursor=" + cursor("ada@example.org"), "cursor"},
	} {
		b.refused(fmt.Sprintf("%s?%.60s", tt.path, tt.query), b.do("GET", tt.path+"?"+tt.query, b.root.access, nil), 400, "invalid_request", tt.field)
	}
	for _, path := range []string{apiUsers, audit} {
		for _, limit := range []string{"-1", "0", "201", "1000000000", "99999999999999999999", "1.5", "1e2", "+1", "01", "0x10", "ten", "", "%20", "%31%00", "1%00", "1,2", "%D9%A1"} {
			b.refused(path+" limit "+limit, b.do("GET", path+"?limit="+limit, b.root.access, nil), 400, "invalid_request", "limit")
		}
		for _, bad := range []string{"A", "====", "%00", "%FF", "a%0Ab", "YWJj%0D%0A", strings.Repeat("A", 600), strings.Repeat("A", 60_000), "null", "..%2F..", "'%20OR%201=1--"} {
			b.refused(path+" cursor "+bad[:min(20, len(bad))], b.do("GET", path+"?cursor="+bad, b.root.access, nil), 400, "invalid_request", "cursor")
		}
		for _, raw := range []string{"limit=%zz", "a;b", "%"} {
			b.refused(path+"?"+raw, b.do("GET", path+"?"+raw, b.root.access, nil), 400, "invalid_request", "query")
		}
	}
	for _, row := range b.s.routes(b.health) { // every parameter of every row
		for _, f := range row.endpoint.fields {
			if f.source != "query" {
				continue
			}
			good := map[string]string{"limit": "1", "status": "active", "user_id": someID, "actor_id": someID, "ip": "127.0.0.1",
				"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "cursor": cursor(someID), "email": "a@example.org",
				"q": "a", "action": "auth.", "trace_id": strings.Repeat("a", 32)}[f.name]
			if good == "" {
				t.Errorf("%s: the parameter %s has no good value here", row.pattern, f.name)
			}
			for name, query := range map[string]string{
				"twice": f.name + "=" + good + "&" + f.name + "=" + good, "NUL": f.name + "=" + good + "%00", "bad UTF-8": f.name + "=" + good + "%FF",
				"surrogate": f.name + "=%ED%A0%80",
			} {
				b.refused(row.pattern+" "+f.name+" "+name, b.call(&row, "?"+query, "", nil), 400, "invalid_request", f.name)
			}
			for _, twin := range []string{strings.ToUpper(f.name), f.name + "%5B%5D", f.name + "%00"} {
				if got := b.call(&row, "?"+twin+"="+good, "", nil); got.status != 400 || got.code() != "invalid_request" {
					t.Errorf("%s: parameter %s: got %d %q, want 400 invalid_request", row.pattern, twin, got.status, got.code())
				}
			}
		}
		body := ""
		if hasSource(row.endpoint.fields, "json") {
			body = bodyOf(&row, "", "")
		}
		b.refused(row.pattern+"?surprise=1", b.call(&row, "?surprise=1", body, func(h http.Header) {
			if row.access.kind == accessEither {
				h.Set("Authorization", "Bearer "+b.ada.access)
			}
		}), 400, "invalid_request", "surprise")
	}
	b.untouched()
}

func TestBadInputIDs(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	ids := []string{"1", "me", "null", "undefined", "-", strings.ToUpper(someID), strings.ReplaceAll(someID, "-", ""), "%7B" + someID + "%7D",
		someID + "%00", "%00", someID + "%0A", "%20" + someID, someID + "x", someID[:35], "%FF", "%ED%A0%80", "..%2F" + someID, someID + "%2Fscope", "urn:uuid:" + someID,
		"'%20OR%20'1'='1", strings.Repeat("0", 8000), "%EF%BC%90" + someID[1:]}
	rows := 0
	for _, row := range b.s.routes(b.health) {
		method, path, _ := strings.Cut(row.pattern, " ")
		if !strings.Contains(path, "{id}") {
			continue
		}
		rows++
		body := ""
		if hasSource(row.endpoint.fields, "json") {
			body = bodyOf(&row, "", "")
		}
		for _, bad := range ids {
			got := b.send(method, strings.ReplaceAll(path, "{id}", bad), b.headers(&row), strings.NewReader(body))
			if got.status == 404 && strings.Contains(bad, "..") {
				continue // no path of ours
			}
			b.refused(row.pattern+" "+bad[:min(60, len(bad))], got, 400, "invalid_request", "id")
		}
	}
	if rows < 6 {
		t.Errorf("got %d rows with an id, want 6", rows)
	}
	b.untouched()
}

// TestBadInputJSONSuite gives every text of JSONTestSuite as a body and as a value in a profile.
func TestBadInputJSONSuite(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	var suite []struct{ Name, Expect, Base64 string }
	readTestdata(t, "testdata/json/jsontestsuite_part_a.json", &suite)
	accepted := 0
	for _, tt := range suite {
		text, err := base64.StdEncoding.DecodeString(tt.Base64)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.do("POST", apiLogin, "", string(text)); got.status < 400 || got.status >= 500 || got.code() == "" ||
			tt.Expect == "reject" && got.code() != "invalid_json" {
			t.Errorf("%s as body: got %d %s, want 4xx with a code (%s)", tt.Name, got.status, got.body, tt.Expect)
		}
		got := b.do("PATCH", apiMe, b.ada.access, `{"profile":{"v":`+string(text)+`}}`)
		if tt.Expect == "reject" {
			b.refused(tt.Name+" in a profile", got, 400, "invalid_json", "")
			continue
		}
		if got.status == 400 || got.status == 422 { // duplicates, NUL, numbers that no double holds
			if got.code() == "invalid_json" {
				t.Errorf("%s in a profile: got %s, want it taken, or refused by name", tt.Name, got.body)
			}
			continue
		}
		b.want(got, 200, "")
		accepted++
		var sent any
		if err := json.Unmarshal(text, &sent); err != nil {
			t.Fatal(err)
		}
		kept := got.json(t)["profile"].(obj)["v"]
		if _, merged := sent.(obj); !merged && !reflect.DeepEqual(kept, sent) {
			t.Errorf("%s in a profile: got %v, want %v", tt.Name, kept, sent)
		}
		b.want(b.do("PATCH", apiMe, b.ada.access, `{"profile":{"v":null}}`), 200, "")
	}
	if len(suite) < 180 || accepted < 80 {
		t.Errorf("got %d texts and %d taken, want the whole suite", len(suite), accepted)
	}
}

// TestBadInputNaughtyStrings sends the Big List of Naughty Strings wherever a text is taken. What is stored comes back as
// it was.
func TestBadInputNaughtyStrings(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	var list []string
	readTestdata(t, "testdata/strings/blns.json", &list)
	if len(list) < 500 {
		t.Fatalf("got %d strings, want all", len(list))
	}
	expect := func(place, s string, got reply, statuses ...int) {
		t.Helper()
		if !slices.Contains(statuses, got.status) || got.status >= 400 && got.code() == "" {
			t.Errorf("%q as %s: got %d %s, want one of %d", s, place, got.status, got.body, statuses)
		}
	}
	for chunk := range slices.Chunk(list, 60) {
		got := b.do("PATCH", apiMe, b.ada.access, obj{"profile": obj{"list": chunk}})
		expect("profile", chunk[0], got, 200)
		kept, _ := b.do("GET", apiMe, b.ada.access, nil).json(t)["profile"].(obj)["list"].([]any)
		for i := range chunk {
			if i >= len(kept) || kept[i] != chunk[i] {
				t.Errorf("%q in a profile: got something else back", chunk[i])
			}
		}
	}
	for i, s := range list {
		if strings.ContainsRune(s, 0) {
			continue
		}
		expect("email", s, b.do("POST", apiReset, "", obj{"email": s}), 202, 422)
		expect("password", s, b.do("POST", apiLogin, "", obj{"email": fmt.Sprintf("u%d@example.org", i), "password": s}), 401, 422)
		expect("token", s, b.do("POST", apiVerify, "", obj{"token": s}), 401, 422)
		expect("q", s, b.do("GET", apiUsers+"?q="+url.QueryEscape(s), b.root.access, nil), 200, 400)
		expect("cursor", s, b.do("GET", apiUsers+"?cursor="+url.QueryEscape(s), b.root.access, nil), 200, 400)
		expect("id", s, b.do("GET", apiUsers+"/"+url.PathEscape(s), b.root.access, nil), 400, 404)
		expect("scope", s, b.do("PUT", apiUsers+"/"+b.adaID+"/scope", b.root.access, obj{"scope": []string{s, "NOT GOOD"}}), 422)
	}
	if users := b.count(`SELECT count(*) FROM users`); users != 2 {
		t.Errorf("users: got %d, want 2", users)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(b.log.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("log: got %q, want JSON in one line", line)
		}
	}
}

// TestBadInputHeaders: what a client calls itself is kept in one printable piece.
func TestBadInputHeaders(t *testing.T) {
	t.Parallel()
	b := newBadApp(t)
	for _, agent := range []string{"", "a\tb", "\x80\xff", "\u202egnp.exe", "\u2028x", `"},"level":"ERROR`, strings.Repeat("x", 10_000), strings.Repeat("ä", 1000)} {
		h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {agent}}
		got := b.send("POST", apiLogin, h, strings.NewReader(`{"email":"ada@example.org","password":"`+testPassword+`"}`))
		b.want(got, 200, "")
		for _, item := range b.do("GET", apiMe+"/sessions", got.text(t, "access_token"), nil).items(t) {
			kept := item["user_agent"].(string)
			odd := strings.ContainsFunc(kept, func(r rune) bool { return !unicode.IsPrint(r) })
			if odd || utf8.RuneCountInString(kept) > 256 {
				t.Errorf("%.40q: got user_agent %.40q (%d bytes), want it printable and short", agent, kept, len(kept))
			}
		}
	}
}

func readTestdata(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
