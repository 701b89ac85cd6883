package main

// Rules for single fields, as tables.

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestNormalEmail is A12: no two texts name one mailbox by a trick of folding.
func TestNormalEmail(t *testing.T) {
	t.Parallel()
	l64, l63 := strings.Repeat("l", 64), strings.Repeat("d", 63)
	host := l63 + "." + l63 + "." + l63 // 191
	for _, test := range []struct{ email, want, reason string }{
		{"a@example.org", "a@example.org", ""},
		{"A@EXAMPLE.ORG", "a@example.org", ""},
		{"Ada.Lovelace+Tag@Example.Org", "ada.lovelace+tag@example.org", ""},
		{"o'hara!#$%&*-/=?^_`{|}~@x-y.example", "o'hara!#$%&*-/=?^_`{|}~@x-y.example", ""},
		{"1@2.co", "1@2.co", ""},
		{"a@b.c0", "a@b.c0", ""},
		{"a@xn--bcher-kva.example", "a@xn--bcher-kva.example", ""},
		{"a@example.xn--p1ai", "a@example.xn--p1ai", ""},
		{l64 + "@" + "example.org", l64 + "@" + "example.org", ""},
		{strings.Repeat("l", 62) + "@" + host, strings.Repeat("l", 62) + "@" + host, ""}, // 254
		{strings.Repeat("l", 63) + "@" + host, "", "too_long"},                           // 255
		{strings.Repeat("x", 1<<20), "", "too_long"},
		{"l" + l64 + "@example.org", "", "invalid"},
		{"a@d" + l63 + ".example", "", "invalid"},
		{"", "", "required"},
		{" ", "", "invalid"},
		{"a", "", "invalid"},
		{"@", "", "invalid"},
		{"a@", "", "invalid"},
		{"@example.org", "", "invalid"},
		{"a@b", "", "invalid"},
		{"a@b.c", "", "invalid"}, // no top-level domain has one letter
		{"a@b@example.org", "", "invalid"},
		{"a@@example.org", "", "invalid"},
		{"a@example.org@", "", "invalid"},
		{"a b@example.org", "", "invalid"},
		{" a@example.org", "", "invalid"},
		{"a@example.org ", "", "invalid"},
		{"a@example.org\n", "", "invalid"},
		{"a@example.org\r\nBcc: b@example.org", "", "invalid"},
		{"a\r\n@example.org", "", "invalid"},
		{"a\t@example.org", "", "invalid"},
		{"a\x00@example.org", "", "invalid"},
		{"a\x7f@example.org", "", "invalid"},
		{".a@example.org", "", "invalid"},
		{"a.@example.org", "", "invalid"},
		{"a..b@example.org", "", "invalid"},
		{"a@.example.org", "", "invalid"},
		{"a@example..org", "", "invalid"},
		{"a@example.org.", "", "invalid"},
		{"a@-example.org", "", "invalid"},
		{"a@example-.org", "", "invalid"},
		{"a@exam_ple.org", "", "invalid"},
		{"a@127.0.0.1", "", "invalid"},
		{"a@1.2", "", "invalid"},
		{"a@[127.0.0.1]", "", "invalid"},
		{"a@[IPv6:::1]", "", "invalid"},
		{"a@example.org:25", "", "invalid"},
		{"a@example.org,b@example.org", "", "invalid"},
		{"a@example.org;b@example.org", "", "invalid"},
		{"<a@example.org>", "", "invalid"},
		{"Ada <a@example.org>", "", "invalid"},
		{"mailto:a@example.org", "", "invalid"},
		{`"a"@example.org`, "", "invalid"},
		{`"a b"@example.org`, "", "invalid"},
		{`"a@b"@example.org`, "", "invalid"},
		{`a\@b@example.org`, "", "invalid"},
		{"a(comment)@example.org", "", "invalid"},
		{"a@(comment)example.org", "", "invalid"},
		{"a@example.org(comment)", "", "invalid"},
		{"a%b@example.org", "a%b@example.org", ""},
		{"\u212aelvin@example.org", "", "invalid"}, // KELVIN SIGN folds to k
		{"a@\u212aelvin.example", "", "invalid"},
		{"\u0130nci@example.org", "", "invalid"}, // İ
		{"\u0131nci@example.org", "", "invalid"}, // ı
		{"\u017fam@example.org", "", "invalid"},  // ſ folds to s
		{"a@exa\u017fple.org", "", "invalid"},
		{"a\uff20example.org", "", "invalid"}, // full-width ＠
		{"\uff41@example.org", "", "invalid"},
		{"a@example\uff0eorg", "", "invalid"},
		{"a@example\u3002org", "", "invalid"}, // ideographic full stop
		{"cafe\u0301@example.org", "", "invalid"},
		{"caf\u00e9@example.org", "", "invalid"},
		{"a\u200b@example.org", "", "invalid"}, // zero-width
		{"a\u200d@example.org", "", "invalid"},
		{"a\u00ad@example.org", "", "invalid"}, // soft hyphen
		{"\u202ea@example.org", "", "invalid"}, // right-to-left override
		{"\ufeffa@example.org", "", "invalid"},
		{"a\u00a0@example.org", "", "invalid"},
		{"а@example.org", "", "invalid"}, // Cyrillic
		{"a@bücher.example", "", "invalid"},
		{"a@example.рф", "", "invalid"},
		{"a\xff@example.org", "", "invalid"},
	} {
		got, reason := normalEmail(test.email)
		if got != test.want || reason != test.reason {
			t.Errorf("%.80q: got %.80q, %q, want %.80q, %q", test.email, got, reason, test.want, test.reason)
		}
	}
	var blns []string
	readVectors(t, "strings/blns.json", &blns)
	for _, s := range blns {
		for _, email := range []string{s, s + "@example.org", "a@" + s, "a@" + s + ".org"} {
			if got, reason := normalEmail(email); reason == "" && (got != strings.ToLower(email) || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' })) {
				t.Errorf("%q was accepted as %q", email, got)
			}
		}
	}
}

func TestProfileFault(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	array := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	number := func(n string) string { return `{"a":[{"b":` + n + `}]}` }
	full := `{"a":"` + strings.Repeat("x", maxProfile-8) + `"}`
	for _, test := range []struct{ name, profile, want string }{
		{"empty", "{}", ""},
		{"flat", `{"name":"Ada","n":1,"b":true,"z":null}`, ""},
		{"array", "[]", "invalid"}, {"null", "null", "invalid"}, {"text", `"x"`, "invalid"}, {"number", "1", "invalid"}, {"nothing", "", "invalid"},
		{"depth 8", nested(8), ""}, {"depth 9", nested(9), "too_deep"}, {"arrays 8", array(8), ""}, {"arrays 9", array(9), "too_deep"},
		{"16 KiB", full, ""}, {"one byte more", full[:len(full)-1] + " }", "too_long"}, {"64 KiB", `{"a":"` + strings.Repeat("x", 1<<16) + `"}`, "too_long"},
		{"zero", number("0"), ""}, {"minus zero", number("-0"), ""}, {"fraction", number("-1.25e-7"), ""}, {"greatest double", number("1.7976931348623157e308"), ""},
		{"smallest double", number("5e-324"), ""}, {"20 digits", number("12345678901234567890"), ""}, {"a long fraction", number("0." + strings.Repeat("3", 100)), ""},
		{"1e400", number("1e400"), "invalid"}, {"-1e400", number("-1e400"), "invalid"}, {"1E+400", number("1E+400"), "invalid"},
		{"1e-400000", number("1e-400000"), "invalid"}, {"1e-401", number("1e-401"), "invalid"}, {"0e-400000", number("0e-400000"), "invalid"},
		{"1e400000", number("1e400000"), "invalid"}, {"1e(10^30)", number("1e1" + strings.Repeat("0", 30)), "invalid"}, {"1e-(10^30)", number("1e-1" + strings.Repeat("0", 30)), "invalid"},
		{"10^4 digits", number(strings.Repeat("7", 10_000)), "invalid"}, {"10^5 digits", number(strings.Repeat("7", 100_000)), "too_long"},
		{"10^4 zeros behind the point", number("0." + strings.Repeat("0", 10_000) + "1"), ""},
		{"60 exponents of 300", `{"a":[` + strings.Repeat("1e300,", 60) + `0]}`, "invalid"}, {"50 exponents of 300", `{"a":[` + strings.Repeat("1e300,", 50) + `0]}`, ""},
		{"a name like a number", `{"1e400":"1e400"}`, ""},
	} {
		if got := profileFault([]byte(test.profile)); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	if storableNumbers([]byte(`{"a":` + strings.Repeat("7", 100_000) + `}`)) {
		t.Error("a number of 10^5 digits was accepted")
	}
	c := check{fields: map[string]string{}}
	c.profile("profile", nil) // absent is fine
	if err := c.err(); err != nil {
		t.Errorf("absent: got %v", err)
	}
}

func TestCheckScope(t *testing.T) {
	t.Parallel()
	many := make([]string, maxScopes+1)
	for i := range many {
		many[i] = fmt.Sprintf("s%d", i)
	}
	for _, test := range []struct {
		scope []string
		want  string
	}{
		{[]string{"user"}, ""}, {[]string{"user", "admin"}, ""}, {[]string{"a"}, ""}, {[]string{"a0-_.:z"}, ""}, {[]string{strings.Repeat("s", 32)}, ""}, {many[:maxScopes], ""},
		{nil, "required"}, {[]string{}, "required"}, {many, "too_long"}, {[]string{"user", "user"}, "invalid"}, {[]string{strings.Repeat("s", 33)}, "invalid"},
		{[]string{""}, "invalid"}, {[]string{"Admin"}, "invalid"}, {[]string{"0a"}, "invalid"}, {[]string{"-a"}, "invalid"}, {[]string{"user admin"}, "invalid"},
		{[]string{"user", "a\"b"}, "invalid"}, {[]string{`a\b`}, "invalid"}, {[]string{"a,b"}, "invalid"}, {[]string{"admin "}, "invalid"}, {[]string{"é"}, "invalid"},
		{[]string{"aé"}, "invalid"}, {[]string{"a\x00"}, "invalid"}, {[]string{"a\xff"}, "invalid"}, {[]string{"u\u017fer"}, "invalid"}, {[]string{"a\n"}, "invalid"},
	} {
		c := check{fields: map[string]string{}}
		c.scope("scope", test.scope)
		if got := c.fields["scope"]; got != test.want {
			t.Errorf("%.100q: got %q, want %q", test.scope, got, test.want)
		}
	}
}

func TestCheckText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"x", ""}, {"Grund: 漢 🐘", ""}, {strings.Repeat("🐘", 10), ""}, {strings.Repeat("🐘", 11), "too_long"}, {"", "required"},
		{"a\nb", "invalid"}, {"a\x1b[2J", "invalid"}, {"a\x7f", "invalid"}, {"a\u0085", "invalid"}, {"\x00", "invalid"},
	} {
		c := check{fields: map[string]string{}}
		c.text("reason", test.text, 10)
		if got := c.fields["reason"]; got != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
	c := check{fields: map[string]string{}}
	c.fail("a", "first")
	c.fail("a", "second")
	if got := c.fields["a"]; got != "first" {
		t.Errorf("two faults of one field: got %q, want the first", got)
	}
	for password, want := range map[string]string{"": "required", "x": "", strings.Repeat("x", 1024): "", strings.Repeat("x", 1025): "too_long"} {
		c := check{fields: map[string]string{}}
		c.presentPassword("password", password)
		if got := c.fields["password"]; got != want {
			t.Errorf("a password of %d bytes to compare: got %q, want %q", len(password), got, want)
		}
	}
}

// TestMergePatch has the rows of RFC 7396 appendix A whose target and patch are objects, and a few of ours.
func TestMergePatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// RFC 7396 §3.
		{
			`{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}`,
			`{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}`,
			`{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This will be unchanged","phoneNumber":"+01-123-456-7890"}`,
		},
		{`{}`, `{}`, `{}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":"x"}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{`{"a":[1]}`, `{"a":{"b":{"c":null,"d":2}}}`, `{"a":{"b":{"d":2}}}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"a":1}`, `{"a":[null,{"b":null}]}`, `{"a":[null,{"b":null}]}`}, // within an array null is a value
		{`{"n":12345678901234567890}`, `{"m":0.10}`, `{"n":12345678901234567890,"m":0.10}`},
		{`{"":1,"A":2}`, `{"a":3,"":null}`, `{"A":2,"a":3}`},
	} {
		got := mergePatch([]byte(test.target), []byte(test.patch))
		if !reflect.DeepEqual(decodeObject(got), decodeObject([]byte(test.want))) || !json.Valid(got) {
			t.Errorf("%s with %s: got %s, want %s", test.target, test.patch, got, test.want)
		}
	}
	if got, want := string(mergePatch([]byte(`{}`), []byte(`{"a":"<&>\u2028é","n":1.10E+2}`))), `{"a":"<&>\u2028é","n":1.10E+2}`; got != want {
		t.Errorf("got %s, want %s: digits and characters stay", got, want)
	}
}
