package main

// Rules for single fields: email, profile, scope, plain texts. Pure; passwords have their own file.

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxEmail        = 254       // RFC 5321 §4.5.3.1.3 less the angle brackets
	maxLocalPart    = 64        // RFC 5321 §4.5.3.1.1
	maxProfile      = 16 * 1024 // bytes
	maxProfileDepth = 8
	maxScopes       = 20
	maxReason       = 500 // code points
)

// check gathers what is wrong with an input: field → reason code. Each method records at most one reason for its field.
type check struct {
	passwordMin int
	fields      map[string]string
}

func (c *check) fail(field, reason string) {
	if _, already := c.fields[field]; !already {
		c.fields[field] = reason
	}
}

// err returns an *invalidError if anything was wrong.
func (c *check) err() error {
	if len(c.fields) == 0 {
		return nil
	}
	return &invalidError{c.fields}
}

// email checks an address and brings it to its one canonical form in place.
func (c *check) email(field string, email *string) {
	canonical, reason := normalEmail(*email)
	if reason != "" {
		c.fail(field, reason)
	}
	*email = canonical
}

// text asks for a non-empty text of at most max code points without control characters.
func (c *check) text(field, value string, max int) {
	switch {
	case value == "":
		c.fail(field, "required")
	case utf8.RuneCountInString(value) > max:
		c.fail(field, "too_long")
	case strings.ContainsFunc(value, unicode.IsControl):
		c.fail(field, "invalid")
	}
}

// token asks for something that could be a token. What it is worth is found out later, so that a wrong one is a 401.
func (c *check) token(field, value string) {
	if value == "" {
		c.fail(field, "required")
	}
}

// presentPassword asks for a password to compare with, not to set: only its presence and size matter.
func (c *check) presentPassword(field, value string) {
	switch {
	case value == "":
		c.fail(field, "required")
	case len(value) > maxPasswordBytes:
		c.fail(field, "too_long")
	}
}

// newPassword asks for a password that may be set. email may be empty when it is not known yet.
func (c *check) newPassword(field, value, email string) {
	if reason := passwordFault(value, email, c.passwordMin); reason != "" {
		c.fail(field, reason)
	}
}

// profile asks for a JSON object within bounds; absent is fine.
func (c *check) profile(field string, raw json.RawMessage) {
	if raw == nil {
		return
	}
	if reason := profileFault(raw); reason != "" {
		c.fail(field, reason)
	}
}

// scope asks for a set of well-formed scopes.
func (c *check) scope(field string, scope []string) {
	switch {
	case len(scope) == 0:
		c.fail(field, "required")
	case len(scope) > maxScopes:
		c.fail(field, "too_long")
	}
	seen := map[string]bool{}
	for _, s := range scope {
		if !isScope(s) || seen[s] {
			c.fail(field, "invalid")
		}
		seen[s] = true
	}
}

// isScope: a letter, then letters, digits and -_.: up to 32 characters, lower case, so that it needs no quoting anywhere.
func isScope(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return true
}

// normalEmail returns the canonical form of an address: ASCII, lower case, local@domain.tld. Quoted local parts, comments,
// address literals, white space and everything outside ASCII are refused, so that no two texts name one mailbox by a trick
// of folding. reason is empty when the address is good.
func normalEmail(email string) (canonical, reason string) {
	switch {
	case email == "":
		return "", "required"
	case len(email) > maxEmail:
		return "", "too_long"
	}
	local, domain, ok := strings.Cut(email, "@")
	if !ok || !isLocalPart(local) || !isDomain(domain) {
		return "", "invalid"
	}
	return strings.ToLower(email), "" // both parts are ASCII, so this folds A–Z and nothing else
}

// isLocalPart: a dot-atom (RFC 5322 §3.2.3).
func isLocalPart(s string) bool {
	if len(s) > maxLocalPart {
		return false
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

// isDomain: at least two labels (RFC 1035 §2.3.1), the last not all digits, which would be an address.
func isDomain(s string) bool {
	labels := 0
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' {
				return false
			}
		}
		labels, last = labels+1, label
	}
	return labels >= 2 && len(last) >= 2 && strings.ContainsFunc(last, unicode.IsLetter)
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// profileFault returns a reason code, or "" for a good profile. raw must have passed parseObject as part of a body.
func profileFault(raw []byte) string {
	if len(raw) == 0 || raw[0] != '{' {
		return "invalid"
	}
	if len(raw) > maxProfile {
		return "too_long"
	}
	if _, err := parseObject(raw, maxProfileDepth); err != nil {
		return "too_deep"
	}
	if !storableNumbers(raw) {
		return "invalid"
	}
	return ""
}

// storableNumbers tells whether every number is one a double can hold, which is all most readers of the profile can take, and
// whether the profile stays small: jsonb writes numbers out in full, so that "1e308" comes back as 309 characters.
func storableNumbers(raw []byte) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	written := len(raw)
	for {
		t, err := d.Token()
		if err != nil {
			return true // the end; raw is known to be valid
		}
		n, ok := t.(json.Number)
		if !ok {
			continue
		}
		zeros, ok := exponentSize(n.String())
		if _, err := strconv.ParseFloat(n.String(), 64); err != nil || !ok {
			return false
		}
		if written += zeros; written > maxProfile {
			return false
		}
	}
}

// exponentSize returns how many digits an exponent adds when the number is written out, and false beyond a double's range.
func exponentSize(n string) (int, bool) {
	i := strings.IndexAny(n, "eE")
	if i < 0 {
		return 0, true
	}
	exponent, err := strconv.Atoi(n[i+1:])
	return max(exponent, -exponent), err == nil && exponent >= -400 && exponent <= 400
}

// mergePatch applies patch to target after RFC 7396 and returns the result's text. Both must be JSON objects that
// parseObject accepts. Numbers keep their digits.
func mergePatch(target, patch []byte) []byte {
	merged := mergeValues(decodeObject(target), decodeObject(patch))
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.Encode(merged) // maps of JSON values can't fail
	return bytes.TrimSpace(out.Bytes())
}

func mergeValues(target, patch map[string]any) map[string]any {
	for name, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, ok := target[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
			}
			target[name] = mergeValues(inner, v)
		default:
			target[name] = v
		}
	}
	return target
}

func decodeObject(raw []byte) map[string]any {
	object := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	d.Decode(&object)
	return object
}
