package main

// The layers of a flat package, kept by a test: which files may import what.

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers says which files may use an import, by glob; what is not in the list is free. A new file that speaks HTTP or SQL
// has to be entered here, and that is the moment to ask whether it should.
var layers = []struct {
	imports string // this package and those below it
	files   []string
}{
	// Requests and answers. Services, rules and statements know nothing of HTTP.
	{"net/http", []string{"bind.go", "errors.go", "headers.go", "main.go", "pipeline.go", "server.go"}},
	// Statements are beside their scans in store files; migrate.go runs the schema's own.
	{"github.com/jackc/pgx", []string{"migrate.go", "store*.go"}},
	{"database/sql", nil},
	// Everything random here is a secret or becomes an id.
	{"math/rand", nil},
	// The development database is the only other program we start.
	{"os/exec", []string{"postgres.go"}},
	{"unsafe", nil},
	{"plugin", nil},
	{"C", nil},
	// Hashes: one file for passwords.
	{"golang.org/x/crypto", []string{"password.go"}},
	{"net/smtp", []string{"mail.go"}},
	// Broken ciphers and hashes.
	{"crypto/md5", nil}, {"crypto/sha1", nil}, {"crypto/des", nil}, {"crypto/rc4", nil},
}

func TestLayers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	checked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		checked++
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			for _, layer := range layers {
				if path != layer.imports && !strings.HasPrefix(path, layer.imports+"/") {
					continue
				}
				allowed := slices.ContainsFunc(layer.files, func(glob string) bool {
					ok, _ := filepath.Match(glob, name)
					if ok {
						used[layer.imports+" "+glob] = true
					}
					return ok
				})
				if !allowed {
					t.Errorf("%s imports %s: got a file that is none of %v", name, path, layer.files)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("got %d files: the test looks in the wrong place", checked)
	}
	for _, layer := range layers {
		for _, glob := range layer.files {
			if !used[layer.imports+" "+glob] {
				t.Errorf("%s may import %s and does not: take it off the list", glob, layer.imports)
			}
		}
	}
}

// TestDependencies: two modules, each chosen on purpose. A third is a decision, not an import.
func TestDependencies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	block := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "require (":
			block = true
			continue
		case line == ")":
			block = false
		}
		requirement, single := strings.CutPrefix(line, "require ")
		if (block || single) && requirement != "" && !strings.HasPrefix(requirement, "//") && !strings.HasSuffix(line, "// indirect") {
			got = append(got, strings.Fields(requirement)[0])
		}
		if strings.HasPrefix(line, "replace") {
			t.Errorf("go.mod has a %q", line)
		}
	}
	if want := []string{"github.com/jackc/pgx/v5", "golang.org/x/crypto"}; !slices.Equal(got, want) {
		t.Errorf("direct requirements: got %v, want %v", got, want)
	}
}
