package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// adviceTime bounds what looking for names that are like an unknown one may
// take.
const adviceTime = 3 * time.Second

// advise adds to a command's error what to try next, where the program knows.
func (a *app) advise(ctx context.Context, cmd *cobra.Command, err error) error {
	if err == nil || ctx.Err() != nil || ofAgent(cmd) {
		return err
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if ok {
		e.Fields = flagFields(cmd, e.Fields)
	}
	if _, hinted := errors.AsType[cli.Hinted](err); hinted || !ok {
		return err
	}
	server := ""
	if to, err := a.connect(); err == nil {
		server = to.server
	}
	switch {
	case e.Code == client.CodeUnreachable:
		return cli.Unreachable(err, server, cli.Remedies{
			Refused:   "latchkey serve --data DIR, if the server is to run on this machine",
			Authority: a.loginCommandLine(server) + " --ca-file FILE, with the certificate of the authority that the server's comes from",
			Unknown:   "another address: --server URL, or latchkey profile show for the one that is kept",
			Other:     "latchkey whoami --server URL, to see whether another address answers",
		})
	case e.Code == "http-404" || e.Code == "bad-answer":
		return cli.Hint(err, "latchkey version --check, and the address: --server URL, or latchkey profile show")
	case e.Code == "sign-in-throttled":
		return err
	case errors.Is(e, latchkey.ErrUnauthenticated):
		return cli.Hint(err, a.loginCommandLine(server))
	case errors.Is(e, latchkey.ErrNotFound):
		hinted := cli.Hint(err, "latchkey vault list")
		if e.Code != "VaultNotFound" {
			hinted = adviseNotFound(ctx, cmd, err)
		}
		if err.Error() == e.Error() { // what wraps it has its text already
			nameMissing(e, a.typed(cmd, missing(e)))
		}
		return hinted
	case e.Code == "name-taken":
		if list := listFor(cmd, err); list != nil {
			return cli.Hint(err, filled(list, cmd))
		}
	case e.Code == "in-use" && strings.Contains(e.Msg, "connection"):
		return cli.Hint(err, "latchkey connection list")
	case e.Code == "in-use" && strings.Contains(e.Msg, "credential"):
		return cli.Hint(err, "latchkey credential list")
	case slices.ContainsFunc(e.Fields, func(f latchkey.FieldError) bool {
		return f.Message == "there is no such user, group or service principal"
	}):
		return cli.Hint(err, "latchkey user list, latchkey group list, latchkey service-principal list")
	}
	return err
}

// fieldFlags are the flags for fields of the API that they are not named after.
var fieldFlags = map[string]string{"inputs": "input", "secret.secret": "secret-name", "secret.subscriptionId": "subscription", "defaultValue": "default"}

// flagFields returns faults with the command's flags in place of the fields that
// they set.
func flagFields(cmd *cobra.Command, faults []latchkey.FieldError) []latchkey.FieldError {
	flags := cmd.LocalNonPersistentFlags()
	named := slices.Clone(faults)
	for i, f := range named {
		path := indexRE.ReplaceAllString(f.Field, "")
		head, tail, deep := strings.Cut(path, ".")
		last := path[strings.LastIndexByte(path, '.')+1:]
		dashed := strings.ToLower(capitalRE.ReplaceAllString(last, "$1-$2"))
		for _, name := range []string{fieldFlags[path], dashed, strings.TrimSuffix(dashed, "s"), fieldFlags[head]} {
			if name == "" || flags.Lookup(name) == nil {
				continue
			}
			named[i].Field = "--" + name
			if name == fieldFlags[head] && deep {
				named[i].Field += " " + tail
			}
			break
		}
	}
	return named
}

var (
	indexRE   = regexp.MustCompile(`\[[^\]]*\]`)
	capitalRE = regexp.MustCompile(`([a-z])([A-Z]+)`)
)

// loginCommandLine returns the command that signs in to a server again.
func (a *app) loginCommandLine(server string) string {
	line := "latchkey login"
	if name := firstOf(a.profile, a.Getenv("LATCHKEY_PROFILE")); name != "" {
		line += " --profile " + cli.QuoteWord(name)
	}
	if server != "" {
		line += " --server " + cli.QuoteWord(server)
	}
	return line
}

// noServer is the error when nothing says which server to use.
func (a *app) noServer() error {
	try := "latchkey login --server http://127.0.0.1:8080"
	if infos, err := a.profileInfos(); err == nil && len(infos) > 0 {
		try = "latchkey profile use " + infos[0].Name
	}
	return cli.Hint(errors.New("no server is chosen"), try)
}

// adviseNotFound offers what is like the name that was not found. What a shell
// would be offered for it are the names that there are.
func adviseNotFound(ctx context.Context, cmd *cobra.Command, err error) error {
	ctx, cancel := context.WithTimeout(ctx, adviceTime)
	defer cancel()
	cmd.SetContext(ctx)
	args := cmd.Flags().Args()
	for i, arg := range args {
		if cmd.ValidArgsFunction == nil {
			break
		}
		offered, _ := cmd.ValidArgsFunction(cmd, args[:i], "")
		if near := nearestOffered(arg, offered); near != "" {
			return cli.Hint(err, didYouMean(near))
		}
	}
	near := ""
	cmd.Flags().Visit(func(f *pflag.Flag) {
		complete, ok := cmd.GetFlagCompletionFunc(f.Name)
		if !ok || near != "" {
			return
		}
		values := []string{f.Value.String()}
		if several, ok := f.Value.(pflag.SliceValue); ok {
			values = several.GetSlice()
		}
		offered, _ := complete(cmd, args, "")
		for _, v := range values {
			near = firstOf(near, nearestOffered(v, offered))
		}
	})
	if near != "" {
		return cli.Hint(err, didYouMean(near))
	}
	if list := listFor(cmd, err); list != nil && list != cmd {
		return cli.Hint(err, filled(list, cmd))
	}
	return err
}

// filled returns the line of a command that lists, with the argument that it
// shares with cmd.
func filled(list, cmd *cobra.Command) string {
	line := list.CommandPath()
	_, word, needed := strings.Cut(list.Use, " ")
	if !needed {
		return line
	}
	args := cmd.Flags().Args()
	if words := strings.Fields(cmd.Use); len(args) > 0 && len(words) > 1 && words[1] == word {
		return line + " " + cli.QuoteWord(args[0])
	}
	return line + " " + word
}

// listFor returns the command that lists what was not found: that of its kind,
// else that of the commands beside cmd.
func listFor(cmd *cobra.Command, err error) *cobra.Command {
	find := func(under *cobra.Command, words ...string) *cobra.Command {
		if list, rest, err := under.Find(words); err == nil && len(rest) == 0 && list.Name() == "list" {
			return list
		}
		return nil
	}
	if e, ok := errors.AsType[*latchkey.Error](err); ok && missing(e) != "" {
		if list := find(cmd.Root(), string(missing(e)), "list"); list != nil {
			return list
		}
	}
	for parent := cmd.Parent(); parent != nil && parent.HasParent(); parent = parent.Parent() {
		if list := find(parent, "list"); list != nil {
			return list
		}
	}
	return nil
}

func didYouMean(name string) string { return cli.QuoteWord(name) + ", if that is what you mean" }

// nearestOffered returns the name among completions that a name is probably
// meant to be; "" if it is one of them, or like none.
func nearestOffered(name string, completions []string) string {
	names := make([]string, len(completions))
	for i, c := range completions {
		names[i], _, _ = strings.Cut(c, "\t")
	}
	if name == "" || slices.Contains(names, name) {
		return ""
	}
	return cli.Nearest(name, names)
}

const noSuch = "there is no such "

// missing returns what kind of thing was not found, or "".
func missing(e *latchkey.Error) latchkey.Kind {
	kind, ok := strings.CutPrefix(e.Msg, noSuch)
	if !ok {
		return ""
	}
	kind, _, _ = strings.Cut(kind, ", or you")
	return latchkey.Kind(kind)
}

// nameMissing puts the name that was typed for a thing into the error that there
// is none: a script may have several. A token's name may be the token itself, by
// mistake, and only an id is shown.
func nameMissing(e *latchkey.Error, name string) {
	kind := missing(e)
	if kind == "" || name == "" || (kind == latchkey.KindToken || kind == latchkey.KindEnrolment) && !anyID.MatchString(name) {
		return
	}
	e.Msg = noSuch + string(kind) + " " + strconv.Quote(name) + strings.TrimPrefix(e.Msg, noSuch+string(kind))
}

// typed returns the name by which a command line chose the thing of a kind: an
// argument or a flag; "" if it has neither.
func (a *app) typed(cmd *cobra.Command, kind latchkey.Kind) string {
	word := strings.ToUpper(string(kind))
	switch kind {
	case "":
		return ""
	case latchkey.KindPrincipal, latchkey.KindMember, latchkey.KindShare:
		word = "PRINCIPAL"
	case latchkey.KindEnrolment:
		word = "TOKEN"
	case latchkey.KindRole:
		word = "ASSIGNMENT"
	}
	args := cmd.Flags().Args()
	for i, w := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(w, "-") || i == len(args) {
			break
		}
		if w == word {
			return args[i]
		}
	}
	if kind == latchkey.KindEnvironment {
		return firstOf(a.environment, a.Getenv("LATCHKEY_ENVIRONMENT"), a.profileEnvironment())
	}
	if f := cmd.Flag(string(kind)); f != nil && f.Changed {
		return f.Value.String()
	}
	return ""
}

// profileEnvironment returns the environment that the profile keeps, or "".
func (a *app) profileEnvironment() string {
	p, err := a.loadProfile()
	if err != nil {
		return ""
	}
	return p.Environment
}

// notFound is the error for a name that is none of those that there are.
func notFound(kind latchkey.Kind, name string, names []string) error {
	err := latchkey.NotFound(kind)
	nameMissing(err, name)
	if near := cli.Nearest(name, names); near != "" {
		return cli.Hint(err, didYouMean(near))
	}
	return cli.Hint(err, fmt.Sprintf("latchkey %s list", kind))
}
