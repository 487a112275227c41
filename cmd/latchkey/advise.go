package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	case e.Code == "VaultNotFound":
		return cli.Hint(err, "latchkey vault list")
	case errors.Is(e, latchkey.ErrNotFound):
		return adviseNotFound(ctx, cmd, err)
	case e.Code == "in-use" && strings.Contains(e.Msg, "connection"):
		return cli.Hint(err, "latchkey connection list")
	case e.Code == "in-use" && strings.Contains(e.Msg, "credential"):
		return cli.Hint(err, "latchkey credential list")
	case slices.ContainsFunc(e.Fields, func(f latchkey.FieldError) bool { return f.Message == "there is no such principal" }):
		return cli.Hint(err, "latchkey user list")
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
	if e, ok := errors.AsType[*latchkey.Error](err); ok {
		kind, _ := strings.CutPrefix(e.Msg, "there is no such ")
		kind, _, _ = strings.Cut(kind, ",")
		if list := find(cmd.Root(), kind, "list"); list != nil {
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

// notFound is the error for a name that is none of those that there are.
func notFound(kind latchkey.Kind, name string, names []string) error {
	err := latchkey.NotFound(kind)
	if near := cli.Nearest(name, names); near != "" {
		return cli.Hint(err, didYouMean(near))
	}
	return cli.Hint(err, fmt.Sprintf("latchkey %s list", kind))
}
