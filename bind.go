package main

// Binding: from a request to an endpoint's input, strictly, and the endpoint type itself.
// The stages before and after are in pipeline.go.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxBody = 64 << 10
	// maxBodyDepth leaves room around the deepest profile; what is deeper is no request of ours.
	maxBodyDepth = 32
)

// nothing is the input or output of an endpoint that has none.
type nothing struct{}

// validator is an input that checks its values. Every input with fields is one.
type validator interface{ validate(*check) }

// endpoint is a typed function made callable: bind the input, validate it, run.
type endpoint struct {
	status int
	maxAge int          // seconds a cache may keep the answer; 0 is no-store
	in     reflect.Type // for the documents derived from the table
	out    reflect.Type
	fields []field
	bind   func(w http.ResponseWriter, r *http.Request, passwordMin int) (input any, err error)
	run    func(ctx context.Context, c *call, input any) (any, error)
}

// handle makes an endpoint that answers status when fn succeeds. In has fields tagged json, query or path.
func handle[In, Out any](status int, fn func(context.Context, *call, In) (Out, error)) endpoint {
	e := endpoint{status: status, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out]()}
	e.fields = fieldsOf(e.in)
	e.bind = func(w http.ResponseWriter, r *http.Request, passwordMin int) (any, error) {
		var in In
		if err := bind(e.fields, reflect.ValueOf(&in).Elem(), w, r); err != nil {
			return nil, err
		}
		if v, ok := any(&in).(validator); ok {
			rules := check{passwordMin: passwordMin, fields: map[string]string{}}
			v.validate(&rules)
			if err := rules.err(); err != nil {
				return nil, err
			}
		}
		return in, nil
	}
	e.run = func(ctx context.Context, c *call, input any) (any, error) { return fn(ctx, c, input.(In)) }
	if _, ok := any(new(In)).(validator); !ok && len(e.fields) > 0 {
		panic(fmt.Sprintf("%s has fields and no validate method", e.in))
	}
	return e
}

// cached lets caches keep the endpoint's answer.
func cached(maxAge int, e endpoint) endpoint {
	e.maxAge = maxAge
	return e
}

// field is one name of an input.
type field struct {
	source string // json, query, path
	name   string
	index  int
	kind   reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		for _, source := range [...]string{"json", "query", "path"} {
			if name := f.Tag.Get(source); name != "" {
				fields = append(fields, field{source, name, i, f.Type})
			}
		}
	}
	return fields
}

func fieldNamed(fields []field, source, name string) (field, bool) {
	for _, f := range fields {
		if f.source == source && f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func hasSource(fields []field, source string) bool {
	for _, f := range fields {
		if f.source == source {
			return true
		}
	}
	return false
}

// bind fills in from path, query and body. Names that are unknown or stand twice, and values of the wrong type, are a
// *requestError; a body that is no JSON object is errInvalidJSON.
func bind(fields []field, in reflect.Value, w http.ResponseWriter, r *http.Request) error {
	for _, f := range fields {
		if f.source == "path" && !setText(in.Field(f.index), r.PathValue(f.name)) {
			return badRequest(f.name, "invalid")
		}
	}
	if err := bindQuery(fields, in, r.URL.RawQuery); err != nil {
		return err
	}
	return bindBody(fields, in, w, r)
}

func bindQuery(fields []field, in reflect.Value, raw string) error {
	if raw == "" {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return badRequest("query", "invalid")
	}
	for name, values := range query {
		f, known := fieldNamed(fields, "query", name)
		switch {
		case !known:
			return badRequest(printable(name, 64), "unknown")
		case len(values) > 1:
			return badRequest(name, "duplicate")
		case !setText(in.Field(f.index), values[0]):
			return badRequest(name, "invalid")
		}
	}
	return nil
}

func bindBody(fields []field, in reflect.Value, w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	wanted := hasSource(fields, "json")
	if len(body) == 0 && (!wanted || r.Method == http.MethodDelete) { // many clients can't send a body with DELETE
		return nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	members, err := parseObject(body, maxBodyDepth)
	if err != nil {
		if refused, ok := errors.AsType[*nameError](err); ok {
			return badRequest(printable(refused.name, 64), refused.reason)
		}
		return errInvalidJSON
	}
	for _, m := range members {
		f, known := fieldNamed(fields, "json", m.name)
		if !known {
			return badRequest(printable(m.name, 64), "unknown")
		}
		if !setJSON(in.Field(f.index), m.raw) {
			return badRequest(m.name, "invalid")
		}
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close") // the rest of the body must not be read as a request
		return nil, errBodyTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		w.Header().Set("Connection", "close")
		return nil, errBodyTooLarge
	}
	if err != nil {
		return nil, badRequest("body", "incomplete")
	}
	return body, nil
}

// checkMediaType asks for application/json in UTF-8, uncompressed. It also stops cross-origin forms, which browsers send
// without asking, but can't give this type.
func checkMediaType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errMediaType
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return errMediaType
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return errMediaType
		}
	}
	return nil
}

// setText sets a field from path or query text and tells whether the text fits its type.
func setText(v reflect.Value, text string) bool {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return false
	}
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || strconv.Itoa(n) != text { // 0 stands for absent
			return false
		}
		*p = n
	case *id:
		return p.UnmarshalText([]byte(text)) == nil
	case **id:
		u, err := parseID(text)
		*p = &u
		return err == nil
	case **netip.Addr:
		a, err := netip.ParseAddr(text)
		*p = &a
		return err == nil && a.Zone() == ""
	case **time.Time:
		t, err := time.Parse(time.RFC3339Nano, text)
		*p = &t
		return err == nil && t.Year() >= 1970 && t.Year() < 9999
	default:
		panic("no text form for a field of type " + v.Type().String())
	}
	return true
}

// setJSON sets a field from a JSON value that parseObject has checked, and tells whether its type fits. null fits nothing.
func setJSON(v reflect.Value, raw json.RawMessage) (ok bool) {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p, ok = jsonText(raw)
	case **string:
		var text string
		text, ok = jsonText(raw)
		*p = &text
	case *[]string:
		*p, ok = jsonTexts(raw)
	case *json.RawMessage:
		*p, ok = raw, string(raw) != "null"
	default:
		panic("no JSON form for a field of type " + v.Type().String())
	}
	return ok
}
