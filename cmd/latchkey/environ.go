package main

import (
	"slices"
	"strings"

	"latchkey.dev/internal/cli"
)

// knownVariables are the environment variables that this program reads itself.
var knownVariables = []string{"LATCHKEY_SERVER", "LATCHKEY_TOKEN", "LATCHKEY_TOKEN_FILE", "LATCHKEY_ENVIRONMENT", "LATCHKEY_PROFILE"}

// flowVariables are what the agent sets for a flow, which may well run this
// program.
var flowVariables = []string{"LATCHKEY_RUN", "LATCHKEY_FLOW", "LATCHKEY_REVISION", "LATCHKEY_USERNAME", "LATCHKEY_PASSWORD", "LATCHKEY_MACHINE", "LATCHKEY_CREDENTIALS", "LATCHKEY_CREDENTIAL", "LATCHKEY_CERTIFICATE", "LATCHKEY_PRIVATE_KEY", "LATCHKEY_INPUT", "LATCHKEY_CONNECTION"}

// ofFlow reports whether the agent may have set a variable.
func ofFlow(name string) bool {
	return slices.ContainsFunc(flowVariables, func(v string) bool { return name == v || strings.HasPrefix(name, v+"_") })
}

// checkEnviron refuses variables that look like ours and are not: a misspelt
// one would otherwise do nothing, silently.
func checkEnviron(environ []string) error {
	var unknown []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if value == "" || !strings.HasPrefix(name, "LATCHKEY_") || slices.Contains(knownVariables, name) ||
			slices.ContainsFunc(serveSettings, func(s setting) bool { return s.variable() == name }) ||
			ofFlow(name) || strings.HasPrefix(name, "LATCHKEY_TEST_") {
			continue
		}
		unknown = append(unknown, name)
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	try := "latchkey help environment-variables, for the known ones"
	if near := nearestVariable(unknown[0]); near != "" {
		try = near + " in place of " + unknown[0]
	}
	return cli.Hint(cli.Usagef("unknown environment variable: %s", strings.Join(unknown, ", ")), try)
}

// nearestVariable returns the known variable that a name is probably meant to
// be, or "".
func nearestVariable(name string) string {
	known := slices.Clone(knownVariables)
	for _, s := range serveSettings {
		known = append(known, s.variable())
	}
	const near = 2 // two letters in the wrong order are two edits
	best, least := "", near+1
	for _, k := range known {
		if d := cli.EditDistance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}
