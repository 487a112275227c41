package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An enumValue is the value of a flag that is one of a few texts. Where the
// default is empty, so may be the value.
type enumValue struct {
	text    *string
	allowed []string
	empty   bool
}

func (v enumValue) String() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// Type is how help shows it.
func (v enumValue) Type() string { return "string" }

func (v enumValue) Set(s string) error {
	if s == "" && v.empty || slices.Contains(v.allowed, s) {
		*v.text = s
		return nil
	}
	msg := "must be " + alternatives(v.allowed)
	if near := Nearest(s, v.allowed); near != "" {
		msg += fmt.Sprintf(" (did you mean %q?)", near)
	}
	return errors.New(msg)
}

// alternatives writes texts of which one is to be chosen.
func alternatives(texts []string) string {
	if len(texts) < 2 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:len(texts)-1], ", ") + " or " + texts[len(texts)-1]
}

// EnumFlag adds a flag that is one of a few texts, which a shell is offered.
func EnumFlag[T ~string](cmd *cobra.Command, text *string, name, def, usage string, allowed ...T) {
	*text = def
	v := enumValue{text: text, empty: def == ""}
	for _, t := range allowed {
		word, _, _ := strings.Cut(string(t), "\t") // what follows a tab describes it to a shell
		v.allowed = append(v.allowed, word)
	}
	cmd.Flags().Var(v, name, usage)
	complete(cmd, name, allowed...)
}

// A countValue is the value of a flag that is a number, 0 or more.
type countValue int

func (v *countValue) String() string { return strconv.Itoa(int(*v)) }

// Type is how help shows it.
func (v *countValue) Type() string { return "int" }

func (v *countValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("must be a whole number, 0 or more")
	}
	*v = countValue(n)
	return nil
}

// LimitFlag adds --limit to a command that lists.
func LimitFlag(cmd *cobra.Command, limit *int, def int) {
	*limit = def
	cmd.Flags().Var((*countValue)(limit), "limit", "how many at most; 0 is all")
}

// complete has a shell offer fixed values for a flag.
func complete[T ~string](cmd *cobra.Command, flag string, values ...T) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the command has no such flag
	}
}

// flagFault says what is wrong with the value of a flag, without the words of
// the packages that read it.
func flagFault(e *pflag.InvalidValueError) error {
	f := e.GetFlag()
	var want string
	switch f.Value.(type) {
	case enumValue, *countValue:
		want = e.Unwrap().Error()
	default:
		switch f.Value.Type() {
		case "int", "int64", "uint", "count":
			want = "must be a whole number"
		case "duration":
			want = "must be a duration such as 90s, 5m or 1h30m"
		case "bool":
			want = "must be true or false"
		default:
			want = e.Unwrap().Error()
		}
	}
	return fmt.Errorf("--%s %s, not %q", f.Name, want, e.GetValue())
}

// IsFileFlag reports whether a flag's value is the name of a file or a folder.
func IsFileFlag(name string) bool {
	return slices.Contains([]string{"data", "dir", "file", "output", "tls-cert", "tls-key", "master-key", "recipient", "identity"}, name) || strings.HasSuffix(name, "-file")
}
