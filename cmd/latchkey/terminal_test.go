package main

import (
	"strings"
	"testing"

	"latchkey.dev/internal/cli"
)

const hostile = "a\x1b[31mb\x07\u009b2J\u202ec\u2066\r\n\tlatchkey: done\U000E0041"

func TestNothingActsOnTheTerminal(t *testing.T) {
	a, stdout, stderr := testApp(t, "")
	if err := cli.PrintList(&a.Console, cli.WithoutErrors([]string{hostile}), []string{"NAME", "STATE"}, func(s string) []string { return []string{s, "failed"} }); err != nil {
		t.Fatal(err)
	}
	if err := a.PrintOne(nil, cli.Field{hostile, hostile}); err != nil {
		t.Fatal(err)
	}
	a.Say("%s", hostile)
	a.Report(t.Context(), vaultProblem(403, []byte(`{"error":{"code":"\u001b[2JForbidden","message":"no\u001b]0;title\u0007 `+strings.Repeat("x", 10000)+`"}}`)))
	for name, got := range map[string]string{"standard output": stdout.String(), "standard error": stderr.String()} {
		if cli.Clean(got) != got {
			t.Errorf("%s = %q; want nothing that a terminal acts on", name, got)
		}
	}
	if stderr.Len() > 5000 {
		t.Errorf("%d bytes of messages; want them bounded", stderr.Len())
	}
}
