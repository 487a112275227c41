package archtest

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the repository, seen from this package's folder.
const root = "../.."

// A source is one Go file of ours, with every build tag.
type source struct {
	name string // relative to the repository
	test bool
	*ast.File
	fset *token.FileSet
}

// pkg returns the folder, which is the import path relative to the module.
func (s source) pkg() string { return path.Dir(s.name) }

// walk calls f for every file of the repository that is not build output.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a file that another test made and removed
		case err != nil:
			return err
		case slices.Contains([]string{".git", "bin", "dist", "latchkey-data", "latchkey-quickstart"}, name):
			if !d.IsDir() {
				return nil // .git of a work tree is a file; skipping it would skip the rest of the folder
			}
			return fs.SkipDir
		case d.Type().IsRegular():
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	walk(t, func(name string) {
		dir := "/" + path.Dir(name) + "/"
		if path.Ext(name) != ".go" || strings.Contains(dir, "/testdata/") || strings.HasPrefix(dir, "/tools/") {
			return
		}
		file, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		all = append(all, source{name, strings.HasSuffix(name, "_test.go"), file, fset})
	})
	if len(all) < 100 {
		t.Fatalf("found only %d Go files", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				if !r.allows(s.pkg(), imp, s.test) {
					t.Errorf("%s imports %s: %s", s.name, imp, r.why)
				}
			}
		}
	}
}

// TestAgentIsSmall looks at everything that ends up in the machine's program.
func TestAgentIsSmall(t *testing.T) {
	const agent = "cmd/latchkey-agent"
	if files, err := filepath.Glob(filepath.Join(root, agent, "*.go")); err != nil || len(files) == 0 {
		t.Skipf("no Go files in %s: %v", agent, err)
	}
	for _, system := range []string{"linux", "darwin", "windows"} {
		// Packages that do not compile are for the compiler to report.
		cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "./"+agent)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS="+system)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, module+"/"+agent) {
			t.Fatalf("%v does not name the program itself: %q", cmd, out)
		}
		for _, dep := range deps {
			if under(dep, agentBan) {
				t.Errorf("%s contains %s on %s", agent, dep, system)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	type comment struct{ code, inCode, inTests bool }
	packages := map[string]comment{}
	for _, s := range sources(t) {
		c, documented := packages[s.pkg()], s.Doc.Text() != ""
		if s.test {
			c.inTests = c.inTests || documented
		} else {
			c.code, c.inCode = true, c.inCode || documented
		}
		packages[s.pkg()] = c
	}
	for pkg, c := range packages {
		// A package that is only tests has its comment there.
		if !c.inCode && (c.code || !c.inTests) {
			t.Errorf("package %s has no comment", pkg)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && !s.test && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init makes behaviour depend on imports", s.fset.Position(f.Pos()))
			}
		}
	}
}

func TestNoSuppressedFindings(t *testing.T) {
	for _, s := range sources(t) {
		for _, group := range s.Comments {
			for _, c := range group.List {
				if !s.test && strings.HasPrefix(strings.TrimLeft(c.Text, "/* "), "nolint") {
					t.Errorf("%s: mend the finding instead of hiding it", s.fset.Position(c.Pos()))
				}
			}
		}
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		pkg, imp string
		test     bool
		want     bool
	}{
		{"internal/db", "database/sql", false, true},
		{"internal/latchkeytest/pg", "github.com/jackc/pgx/v5", false, true},
		{"internal/server", "database/sql", false, false},
		{"internal/server", "database/sql", true, true},
		{"cmd/latchkey", "database/sql/driver", false, false},
		{"internal/broker", "net/http", false, false},
		{"internal/server", "net/http", false, true},
		{"internal/server", module + "/internal/db", false, false},
		{"internal/keyvault", module + "/internal/db/migrations", false, false},
		{"internal/broker", module + "/internal/db", false, true},
		{"internal/vault", "github.com/Azure/azure-sdk-for-go/sdk/azcore", false, false},
		{"internal/vault/azure", "github.com/Azure/azure-sdk-for-go/sdk/azcore", false, true},
		{"internal/keyvault", "github.com/Azure/azure-sdk-for-go/sdk/azcore", true, true},
		{"internal/agent", module + "/cmd/latchkey-agent", true, false},
		{"internal/agent", "log", true, false},
		{"internal/agent", "log/slog", false, true},
		{"cmd/latchkey", "github.com/pkg/errors", false, false},
		{"cmd/latchkey", "github.com/stretchr/testify/require", true, false},
		{"latchkey", module + "/internal/seal", false, false},
		{"latchkey", "github.com/google/go-cmp/cmp", false, false},
		{"latchkey", "github.com/google/go-cmp/cmp", true, true},
		{"latchkey", "crypto/rand", false, true},
		{"client", module + "/internal/seal", false, true},
		{"client", module + "/internal/agent", false, false},
	}
	for _, tt := range tests {
		got := !slices.ContainsFunc(rules, func(r rule) bool { return !r.allows(tt.pkg, tt.imp, tt.test) })
		if got != tt.want {
			t.Errorf("%s may import %s (test file: %v) = %v; want %v", tt.pkg, tt.imp, tt.test, got, tt.want)
		}
	}
}
