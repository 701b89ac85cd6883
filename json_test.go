package main

// The strict JSON reader: what it takes is what encoding/json takes, less what two readers could read differently.

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// readVectors decodes a file of testdata.
func readVectors(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// jsonVector is a text of JSONTestSuite.
type jsonVector struct {
	Name   string
	Expect string
	Base64 []byte
}

func TestJSONTestSuite(t *testing.T) {
	t.Parallel()
	var vectors []jsonVector
	readVectors(t, "json/jsontestsuite_part_a.json", &vectors)
	// Valid JSON that we refuse on purpose.
	refused := map[string]string{
		"y_object_duplicated_key.json":           "duplicate",
		"y_object_duplicated_key_and_value.json": "duplicate",
		"y_object_escaped_null_in_key.json":      "invalid",
		"y_string_null_escape.json":              "invalid",
	}
	accepted, rejected := 0, 0
	for _, v := range vectors {
		text := v.Base64
		object := bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
		if !object && len(text) > 0 {
			if _, err := parseObject(text, 32); err == nil {
				t.Errorf("%s: a text that is no object was accepted", v.Name)
			}
			text = []byte(`{"a":` + string(text) + `}`)
		}
		members, err := parseObject(text, 32)
		if v.Expect == "reject" {
			if err == nil {
				t.Errorf("%s: %q was accepted", v.Name, text)
			}
			rejected++
			continue
		}
		if reason, ok := refused[v.Name]; ok {
			if e, ok := errors.AsType[*nameError](err); !ok || e.reason != reason {
				t.Errorf("%s: got %v, want a nameError %s", v.Name, err, reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %q: %v", v.Name, text, err)
			continue
		}
		sameAsEncodingJSON(t, text, members)
		accepted++
	}
	if accepted < 85 || rejected < 90 {
		t.Errorf("got %d accepted and %d rejected: the vectors are not all there", accepted, rejected)
	}
}

// sameAsEncodingJSON checks that both readers see the same names, and that each raw value is one whole value.
func sameAsEncodingJSON(t testing.TB, text []byte, members []member) {
	t.Helper()
	var want map[string]json.RawMessage
	if err := json.Unmarshal(text, &want); err != nil {
		t.Errorf("encoding/json refuses %q: %v", text, err)
		return
	}
	if len(members) != len(want) {
		t.Errorf("%q: got %d members, want %d", text, len(members), len(want))
	}
	for _, m := range members {
		if got, want := string(m.raw), string(want[m.name]); got != want || !json.Valid(m.raw) {
			t.Errorf("%q: member %q: got %q, want %q", text, m.name, got, want)
		}
	}
}

func TestParseObjectAccepts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, " \t\r\n{ } \n", `{"":""}`, `{"a":null,"A":true,"b":false}`, `{"n":[0,-0,0.5,-1.25e+10,1E-3,12345678901234567890]}`,
		`{"a":{"a":{"a":[]}},"b":[[],[{}]]}`, `{"\u0061b":1,"\"":2,"\\":3,"\/":4}`, `{"\ud83d\ude00":"\uD83D\uDE00"}`,
		`{"s":"\b\f\n\r\t\" é 漢 😀 \u00e9"}`, "{\"\u2028\":\"\u2029\x7f\ufffd\ufffe\"}", `{"\ufffd":"\uFFFF"}`,
	} {
		members, err := parseObject([]byte(text), 8)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		sameAsEncodingJSON(t, []byte(text), members)
	}
	members, err := parseObject([]byte(`{"b":1,"a" : [ 2 ] ,"c":"x"}`), 2)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range members {
		got = append(got, m.name+"="+string(m.raw))
	}
	if got, want := strings.Join(got, " "), `b=1 a=[ 2 ] c="x"`; got != want {
		t.Errorf("order and raw text: got %s, want %s", got, want)
	}
}

func TestParseObjectRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text string }{
		{"nothing", ""}, {"space", "  "}, {"null", "null"}, {"array", "[]"}, {"text", `"{}"`}, {"number", "1"},
		{"byte order mark", "\ufeff{}"}, {"byte order mark behind", "{}\ufeff"}, {"UTF-16", "{\x00}\x00"}, {"UTF-16 with mark", "\xff\xfe{\x00}\x00"},
		{"second object", "{}{}"}, {"second object on a line", "{}\n{}"}, {"trailing comma", `{"a":1},`}, {"trailing NUL", "{}\x00"},
		{"trailing text", "{} x"}, {"trailing brace", "{}}"}, {"comment", "{/**/}"}, {"line comment", "{}//"}, {"vertical tab", "{\v}"},
		{"no-break space", "{\u00a0}"}, {"single quotes", `{'a':1}`}, {"bare name", `{a:1}`}, {"comma before", `{,"a":1}`},
		{"comma behind", `{"a":1,}`}, {"no comma", `{"a":1 "b":2}`}, {"no colon", `{"a" 1}`}, {"no value", `{"a":}`}, {"number name", `{1:1}`},
		{"NaN", `{"a":NaN}`}, {"Infinity", `{"a":-Infinity}`}, {"True", `{"a":True}`}, {"leading zero", `{"a":01}`}, {"plus", `{"a":+1}`},
		{"point", `{"a":.5}`}, {"point at the end", `{"a":5.}`}, {"hex", `{"a":0x1}`}, {"exponent", `{"a":1e}`}, {"minus", `{"a":-}`},
		{"Arabic digit", `{"a":١}`}, {"not UTF-8", "{\"a\":\"\xff\"}"}, {"name not UTF-8", "{\"\xc3\":1}"}, {"overlong slash", "{\"a\":\"\xc0\xaf\"}"},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}"}, {"open text", `{"a":"`}, {"open escape", `{"a":"\`}, {"newline in text", "{\"a\":\"\n\"}"},
		{"tab in text", "{\"a\":\"\t\"}"}, {"tab after escape", "{\"a\":\"\\n\t\"}"}, {"NUL in text", "{\"a\":\"\x00\"}"}, {"escape x", `{"a":"\x41"}`},
		{"escape U", `{"a":"\U0041"}`}, {"short escape", `{"a":"\u004"}`}, {"escape not hex", `{"a":"\u00g0"}`}, {"escape signed", `{"a":"\u+041"}`},
		{"lone high surrogate", `{"a":"\ud800"}`}, {"lone low surrogate", `{"a":"\udc00"}`}, {"surrogates reversed", `{"a":"\udc00\ud800"}`},
		{"two high surrogates", `{"a":"\ud800\ud800"}`}, {"high surrogate and letter", `{"a":"\ud800\u0041"}`}, {"high surrogate and text", `{"a":"\ud800x"}`},
		{"high surrogate and half", `{"a":"\ud800\udc0"}`}, {"high surrogate and other escape", `{"a":"\ud800\n"}`}, {"lone surrogate in name", `{"\udfff":1}`},
		{"open object", `{"a":{}`}, {"open array", `{"a":[`}, {"crossed", `{"a":[}]`},
	} {
		members, err := parseObject([]byte(test.text), 32)
		if !errors.Is(err, errJSON) || members != nil {
			t.Errorf("%s: %q: got %v, %v, want errJSON", test.name, test.text, members, err)
		}
	}
}

func TestParseObjectNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, name, reason string }{
		{`{"a":1,"a":1}`, "a", "duplicate"},
		{`{"a":1,"b":2,"\u0061":3}`, "a", "duplicate"},
		{`{"é":1,"\u00e9":2}`, "é", "duplicate"},
		{`{"😀":1,"\ud83d\ude00":2}`, "😀", "duplicate"},
		{`{"":1,"":2}`, "", "duplicate"},
		{`{"p":{"a":1,"a":2}}`, "p", "duplicate"},
		{`{"p":[0,{"q":{"a":1,"a":2}}]}`, "p", "duplicate"},
		{`{"a":"\u0000"}`, "a", "invalid"},
		{`{"a":["x",{"b":"x\u0000y"}]}`, "a", "invalid"},
		{`{"a":{"\u0000":1}}`, "a", "invalid"},
	} {
		_, err := parseObject([]byte(test.text), 32)
		e, ok := errors.AsType[*nameError](err)
		if !ok || e.name != test.name || e.reason != test.reason {
			t.Errorf("%s: got %v, want %q %s", test.text, err, test.name, test.reason)
		}
	}
	// Names that only look alike are different names: what to do about them is the caller's business.
	if _, err := parseObject([]byte(`{"sub":1,"SUB":2,"ſub":3,"e\u0301":4,"é":5}`), 1); err != nil {
		t.Errorf("twins: got %v", err)
	}
}

func TestParseObjectDepth(t *testing.T) {
	t.Parallel()
	nested := func(open, close string, n int) string {
		return `{"a":` + strings.Repeat(open, n-1) + `1` + strings.Repeat(close, n-1) + `}`
	}
	for _, max := range []int{1, 2, 8, 32} {
		for _, kind := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			if _, err := parseObject([]byte(nested(kind[0], kind[1], max)), max); err != nil {
				t.Errorf("depth %d of %s: %v", max, kind[0], err)
			}
			for _, depth := range []int{max + 1, 1000, 100_000} {
				if _, err := parseObject([]byte(nested(kind[0], kind[1], depth)), max); !errors.Is(err, errJSON) {
					t.Errorf("depth %d of %s with at most %d: got %v, want errJSON", depth, kind[0], max, err)
				}
			}
		}
	}
}

// TestParseObjectDepthMemory is not parallel: it counts allocations.
func TestParseObjectDepthMemory(t *testing.T) {
	open := []byte(`{"a":` + strings.Repeat("[", 1<<20)) // a megabyte, never closed
	if allocs := testing.AllocsPerRun(10, func() { parseObject(open, 32) }); allocs > 20 {
		t.Errorf("a megabyte of brackets: got %v allocations, want few", allocs)
	}
}

func TestParseObjectManyNames(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("{")
	for i := range 100_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strings.Repeat("k", i%7) + string(appendJSON(nil, i)) + `":0`)
	}
	b.WriteString("}")
	members, err := parseObject([]byte(b.String()), 1)
	if err != nil || len(members) != 100_000 {
		t.Errorf("got %d members, %v", len(members), err)
	}
}

// TestNaughtyStrings passes each string through the reader as a name and as a value.
func TestNaughtyStrings(t *testing.T) {
	t.Parallel()
	var blns []string
	readVectors(t, "strings/blns.json", &blns)
	for _, s := range blns {
		text, _ := json.Marshal(map[string]string{"value": s, "x" + s: ""})
		members, err := parseObject(text, 1)
		if err != nil {
			if !strings.Contains(s, "\x00") {
				t.Errorf("%q: %v", s, err)
			}
			continue
		}
		sameAsEncodingJSON(t, text, members)
	}
}
