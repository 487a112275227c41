// Package archtest checks what holds for the whole repository: which way
// imports may point, and what no file may contain.
package archtest

import (
	"path"
	"slices"
	"strings"
)

// module is the import path of the repository's root.
const module = "latchkey.dev"

// A rule says which imports some packages must not have.
//
// Paths are import paths; those of our own packages are relative to the
// module. Each stands for itself and everything below it.
type rule struct {
	why    string
	in     []string // where the rule holds
	except []string // and where not, although in says so
	ban    []string // what must not be imported
	only   []string // if set: what may be imported, besides the standard library
	tests  bool     // the rule holds for test files too
}

// all stands for every package of ours.
var all = []string{"client", "cmd", "internal", "latchkey"}

var rules = []rule{
	{
		why: "SQL lives in internal/db", in: all,
		except: []string{"internal/db", "internal/latchkeytest"},
		ban:    []string{"database/sql", "github.com/jackc/pgx", "modernc.org/sqlite"},
	},
	{
		why: "HTTP lives in the faces", ban: []string{"net/http"},
		in: []string{"latchkey", "internal/db", "internal/broker", "internal/seal"},
	},
	{
		why: "faces go through the broker", ban: []string{"internal/db"},
		in: []string{"internal/server", "internal/web", "internal/keyvault", "internal/arm", "internal/login"},
	},
	{
		why: "one package speaks to Azure", in: all,
		// Tests of several packages drive the embedded vaults with Microsoft's clients.
		except: []string{"internal/vault/azure", "internal/latchkeytest"}, ban: []string{"github.com/Azure"},
	},
	{
		why: "commands wire, nothing is below them", tests: true,
		in: []string{"client", "internal", "latchkey"}, ban: []string{"cmd"},
	},
	{
		why: "slog, the standard library's testing and fmt.Errorf do it", in: all, tests: true,
		ban: []string{"log", "github.com/stretchr/testify", "github.com/pkg/errors"},
	},
	{why: "the vocabulary stands alone", in: []string{"latchkey"}, only: []string{}},
	{why: "the client is light", in: []string{"client"}, only: []string{"client", "latchkey", "internal/seal"}},
}

// agentBan is what the machine's program must not contain, at any depth.
var agentBan = []string{
	"database/sql", "internal/db", "internal/broker", "internal/server", "internal/web", "internal/keyvault", "internal/arm", "internal/login",
	"internal/vault", "github.com/Azure", "github.com/danielgtaylor/huma",
}

// allows reports whether a file of the package pkg may import imp.
func (r rule) allows(pkg, imp string, test bool) bool {
	if test && !r.tests || !under(pkg, r.in) || under(pkg, r.except) {
		return true
	}
	if r.only != nil {
		return standard(imp) || under(imp, r.only)
	}
	return !under(imp, r.ban)
}

// under reports whether p is one of the paths or below one. Of the standard
// library's packages only log is banned, and log/slog is what to use instead.
func under(p string, paths []string) bool {
	p = strings.TrimPrefix(p, module+"/")
	return slices.ContainsFunc(paths, func(q string) bool {
		return p == q || q != "log" && strings.HasPrefix(p, q+"/")
	})
}

// standard reports whether an import path is of the standard library, which
// has no dot in the first element.
func standard(imp string) bool {
	first, _, _ := strings.Cut(path.Clean(imp), "/")
	return !strings.Contains(first, ".")
}
