package main

// What the pipeline reads from headers, as tables. Requests through the whole of it are in the tests of the endpoints.

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTraceID(t *testing.T) {
	t.Parallel()
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	good := "00-" + id + "-" + parent + "-01"
	for _, test := range []struct {
		name   string
		values []string
		taken  bool
	}{
		{"W3C example", []string{good}, true},
		{"not sampled", []string{"00-" + id + "-" + parent + "-00"}, true},
		{"later version with more", []string{"01-" + id + "-" + parent + "-01-what"}, true},
		{"later version as it is", []string{"cc-" + id + "-" + parent + "-01"}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"two", []string{good, good}, false},
		{"version 00 with more", []string{good + "-x"}, false},
		{"later version run on", []string{"01-" + id + "-" + parent + "-01x"}, false},
		{"version ff", []string{"ff-" + id + "-" + parent + "-01"}, false},
		{"version not hex", []string{"0g-" + id + "-" + parent + "-01"}, false},
		{"capitals", []string{strings.ToUpper(good)}, false},
		{"trace of zeros", []string{"00-" + strings.Repeat("0", 32) + "-" + parent + "-01"}, false},
		{"parent of zeros", []string{"00-" + id + "-" + strings.Repeat("0", 16) + "-01"}, false},
		{"short", []string{good[:54]}, false},
		{"space", []string{good + " "}, false},
		{"newline", []string{"00-" + id[:31] + "\n-" + parent + "-01"}, false},
		{"not hex", []string{"00-" + strings.Repeat("z", 32) + "-" + parent + "-01"}, false},
		{"dashes moved", []string{"00-" + id + parent + "--01"}, false},
		{"64 kB", []string{"01-" + id + "-" + parent + "-01" + strings.Repeat("x", 1<<16)}, false},
		{"id alone", []string{id}, false},
	} {
		h := http.Header{"Traceparent": test.values, "X-Request-Id": {id}}
		got := traceID(h)
		if (got == id) != test.taken || len(got) != 32 || !isLowerHex(got) {
			t.Errorf("%s: got %s, want taken %v", test.name, got, test.taken)
		}
	}
	if a, b := traceID(nil), traceID(nil); a == b {
		t.Errorf("two requests share the trace id %s", a)
	}
}

// TestClientAddr is A21: a client can't choose its address.
func TestClientAddr(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}
	list := func(n int, last ...string) string {
		return strings.Repeat("203.0.113.66, ", n) + strings.Join(last, ", ")
	}
	for _, test := range []struct {
		name   string
		remote string
		xff    []string
		want   string
	}{
		{"no header", "198.51.100.1:1234", nil, "198.51.100.1"},
		{"peer not trusted", "198.51.100.1:1234", []string{"203.0.113.5"}, "198.51.100.1"},
		{"peer not trusted, a long list", "198.51.100.1:1234", []string{list(1000, "10.0.0.1")}, "198.51.100.1"},
		{"peer not trusted, claims to be a proxy", "198.51.100.1:1234", []string{"10.0.0.1"}, "198.51.100.1"},
		{"one proxy", "10.0.0.1:1", []string{"203.0.113.5"}, "203.0.113.5"},
		{"one proxy, no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"one proxy, empty header", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"one proxy, commas", "10.0.0.1:1", []string{", ,"}, "10.0.0.1"},
		{"one proxy, what the client said is left of it", "10.0.0.1:1", []string{"1.1.1.1, 203.0.113.5"}, "203.0.113.5"},
		{"one proxy, the client claims to be a proxy", "10.0.0.1:1", []string{"10.9.9.9, 203.0.113.5"}, "203.0.113.5"},
		{"two proxies", "10.0.0.1:1", []string{"1.1.1.1, 203.0.113.5, 10.0.0.2"}, "203.0.113.5"},
		{"three proxies", "10.0.0.1:1", []string{"203.0.113.5,192.0.2.7,10.0.0.2"}, "203.0.113.5"},
		{"proxies only", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"1000 entries", "10.0.0.1:1", []string{list(1000, "203.0.113.5")}, "203.0.113.5"},
		{"1000 entries and a proxy", "10.0.0.1:1", []string{list(1000, "203.0.113.5", "10.0.0.2")}, "203.0.113.5"},
		{"1000 proxies", "10.0.0.1:1", []string{strings.Repeat("10.0.0.2,", 999) + "10.0.0.2"}, "10.0.0.2"},
		{"two headers are one list", "10.0.0.1:1", []string{"1.1.1.1", "203.0.113.5"}, "203.0.113.5"},
		{"two headers, proxy in the second", "10.0.0.1:1", []string{"1.1.1.1, 203.0.113.5", "10.0.0.2"}, "203.0.113.5"},
		{"garbage", "10.0.0.1:1", []string{"garbage"}, "10.0.0.1"},
		{"garbage on the right", "10.0.0.1:1", []string{"203.0.113.5, garbage"}, "10.0.0.1"},
		{"garbage behind a proxy", "10.0.0.1:1", []string{"1.1.1.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"garbage on the left", "10.0.0.1:1", []string{"garbage, 203.0.113.5"}, "203.0.113.5"},
		{"empty entry", "10.0.0.1:1", []string{"1.1.1.1,,10.0.0.2"}, "10.0.0.2"},
		{"control characters", "10.0.0.1:1", []string{"1.1.1.1\r\n"}, "1.1.1.1"}, // net/http lets none through
		{"leading zeros", "10.0.0.1:1", []string{"010.0.0.1"}, "10.0.0.1"},
		{"number", "10.0.0.1:1", []string{"3405803781"}, "10.0.0.1"},
		{"CIDR", "10.0.0.1:1", []string{"203.0.113.0/24"}, "10.0.0.1"},
		{"IPv6", "10.0.0.1:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 written long", "10.0.0.1:1", []string{"2001:0DB8:0:0:0:0:0:1"}, "2001:db8::1"},
		{"IPv6 proxy", "[fd00::1]:1", []string{"2001:db8::1, fd00::2"}, "2001:db8::1"},
		{"IPv6 peer", "[2001:db8::9]:1", []string{"2001:db8::1"}, "2001:db8::9"},
		{"IPv6 zone of the peer", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"IPv6 zone, trusted", "[fe80::1%eth0]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 zones rotated", "10.0.0.1:1", []string{"2001:db8::1%a"}, "2001:db8::1"},
		{"IPv4 in IPv6, peer", "[::ffff:198.51.100.1]:1", []string{"1.1.1.1"}, "198.51.100.1"},
		{"IPv4 in IPv6, trusted", "[::ffff:10.0.0.1]:1", []string{"203.0.113.5"}, "203.0.113.5"},
		{"IPv4 in IPv6, entry", "10.0.0.1:1", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
		{"IPv4 in IPv6, proxy entry", "10.0.0.1:1", []string{"203.0.113.5, ::ffff:10.0.0.2"}, "203.0.113.5"},
		{"Unix socket", "@", []string{"203.0.113.5"}, "0.0.0.0"},
		{"no peer", "", nil, "0.0.0.0"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{}}
		if test.xff != nil {
			r.Header["X-Forwarded-For"] = test.xff
		}
		for _, name := range []string{"Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "Client-Ip", "X-Original-Forwarded-For"} {
			r.Header.Set(name, "9.9.9.9") // nobody believes these
		}
		if got := clientAddr(r, trusted).String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if test.want != "198.51.100.1" {
			continue
		}
		if got := clientAddr(r, nil).String(); got != test.want {
			t.Errorf("%s, no proxies configured: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestAcceptsJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []string
		want   bool
	}{
		{nil, true}, {[]string{""}, true}, {[]string{" "}, true}, {[]string{"*/*"}, true}, {[]string{"application/*"}, true}, {[]string{"application/json"}, true},
		{[]string{"APPLICATION/JSON"}, true}, {[]string{"application/json; charset=utf-8"}, true}, {[]string{"text/html, application/json;q=0.1"}, true},
		{[]string{"text/html", "application/json"}, true}, {[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, true},
		{[]string{"application/json;q=1"}, true}, {[]string{"application/json;q=0.001"}, true}, {[]string{"  application/json  ;  q=0.5 "}, true},
		{[]string{"text/html"}, false}, {[]string{"application/xml"}, false}, {[]string{"application/json;q=0"}, false}, {[]string{"*/*;q=0"}, false},
		{[]string{"application/json; q=0.000"}, false}, {[]string{"application/json;Q=0"}, false}, {[]string{"application/jsonx"}, false}, {[]string{"text/*"}, false},
		{[]string{"application/problem+json"}, false}, {[]string{","}, false}, {[]string{"json"}, false}, {[]string{"*"}, false},
	} {
		if got := acceptsJSON(http.Header{"Accept": test.values}); got != test.want {
			t.Errorf("%q: got %v, want %v", test.values, got, test.want)
		}
	}
}

func TestBearerToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []string
		want   string
		err    error
	}{
		{[]string{"Bearer abc"}, "abc", nil}, {[]string{"bearer abc"}, "abc", nil}, {[]string{"BEARER abc"}, "abc", nil}, {[]string{"Bearer   abc"}, "abc", nil},
		{[]string{"Bearer a b"}, "a b", nil},   // no token of ours: refused as one
		{[]string{"Bearer a, b"}, "a, b", nil}, // likewise
		{nil, "", errMissingToken}, {[]string{""}, "", errMissingToken}, {[]string{"Bearer"}, "", errMissingToken}, {[]string{"Bearer "}, "", errMissingToken},
		{[]string{"Bearer    "}, "", errMissingToken}, {[]string{"Basic YTpi"}, "", errMissingToken}, {[]string{"abc"}, "", errMissingToken},
		{[]string{"Bearerabc"}, "", errMissingToken}, {[]string{"Bearer\tabc"}, "", errMissingToken}, {[]string{"Token abc"}, "", errMissingToken},
		{[]string{"\u212aearer abc"}, "", errMissingToken}, {[]string{"Bearer:abc"}, "", errMissingToken},
	} {
		got, err := bearerToken(http.Header{"Authorization": test.values})
		if test.values == nil {
			got, err = bearerToken(http.Header{"Cookie": {"access_token=abc"}, "X-Access-Token": {"abc"}})
		}
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%q: got %q, %v, want %q, %v", test.values, got, err, test.want, test.err)
		}
	}
	_, err := bearerToken(http.Header{"Authorization": {"Bearer a", "Bearer a"}})
	if _, ok := errors.AsType[*requestError](err); !ok {
		t.Errorf("two headers: got %v, want a requestError", err)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		max  int
		want string
	}{
		{"", 5, ""}, {"curl/8.0", 20, "curl/8.0"}, {"abcdef", 5, "abcde"}, {"äöüäöü", 5, "äöüäö"}, {"🐘🐘🐘", 2, "🐘🐘"},
		{"a\x1b[2Jb", 20, "a\ufffd[2Jb"}, {"a\r\nb", 20, "a\ufffd\ufffdb"}, {"a\u202eb", 20, "a\ufffdb"}, {"a\u200bb", 20, "a\ufffdb"}, {"a\x00b", 20, "a\ufffdb"},
		{"a\xff\xfeb", 20, "a\ufffdb"}, {"a\u2028b", 20, "a\ufffdb"}, {"a\ufeffb", 20, "a\ufffdb"}, {"\"}", 20, "\"}"}, {"\xf0\x9f", 20, "\ufffd"}, {"a b", 3, "a b"},
		{strings.Repeat("x", 1<<20), 3, "xxx"}, {strings.Repeat("漢", 1000), 3, "漢漢漢"}, {"x" + strings.Repeat("漢", 1000), 3, "x漢漢"},
	} {
		if got := printable(test.text, test.max); got != test.want {
			t.Errorf("%.40q: got %q, want %q", test.text, got, test.want)
		}
	}
	var blns []string
	readVectors(t, "strings/blns.json", &blns)
	for _, s := range blns {
		got := printable(s, 50)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 50 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Errorf("%q: got %q", s, got)
		}
		if again := printable(got, 50); again != got {
			t.Errorf("%q: twice: got %q, want %q", s, again, got)
		}
	}
}
