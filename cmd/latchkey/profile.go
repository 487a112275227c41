package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A profile is what login keeps for the commands after it.
type profile struct {
	Server      string `json:"server,omitempty"`
	Token       string `json:"token,omitempty"`
	TokenID     string `json:"tokenId,omitempty"` // to revoke it by
	Login       string `json:"login,omitempty"`
	Environment string `json:"environment,omitempty"`
	CAFile      string `json:"caFile,omitempty"`
	Insecure    bool   `json:"insecure,omitempty"`
}

const maxProfile = 64 << 10

func (a *app) profilePath() (string, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			var err error
			if dir, err = os.UserConfigDir(); err != nil {
				return "", fmt.Errorf("find the folder for configuration: %w", err)
			}
		} else {
			dir = filepath.Join(home, ".config")
		}
	}
	return filepath.Join(dir, "latchkey", "config.json"), nil
}

// loadProfile returns the profile, or an empty one.
func (a *app) loadProfile() (profile, error) {
	var p profile
	path, err := a.profilePath()
	if err != nil {
		return p, nil // no home: flags and environment have to say it all
	}
	b, err := readFile(path, maxProfile)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read profile: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, hint(fmt.Errorf("profile %s is not valid JSON", path), "latchkey logout")
	}
	return p, nil
}

// saveProfile writes the profile for its owner only.
func (a *app) saveProfile(p profile) error {
	path, err := a.profilePath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	if err := writeFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// removeProfile forgets the profile.
func (a *app) removeProfile() error {
	path, err := a.profilePath()
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove profile: %w", err)
	}
	return nil
}

// sameServer reports whether two addresses are the same but for a slash at the
// end.
func sameServer(a, b string) bool {
	return a != "" && strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}

// knownVariables are the environment variables that this program reads itself.
var knownVariables = []string{"LATCHKEY_SERVER", "LATCHKEY_TOKEN", "LATCHKEY_TOKEN_FILE", "LATCHKEY_ENVIRONMENT"}

// flowVariables are what the agent sets for a flow, which may well run this
// program.
var flowVariables = []string{"LATCHKEY_RUN", "LATCHKEY_FLOW", "LATCHKEY_REVISION", "LATCHKEY_USERNAME", "LATCHKEY_PASSWORD", "LATCHKEY_MACHINE", "LATCHKEY_CREDENTIALS", "LATCHKEY_CREDENTIAL", "LATCHKEY_INPUT", "LATCHKEY_CONNECTION"}

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
	try := "latchkey --help and latchkey serve --help, for the known ones"
	if near := nearestVariable(unknown[0]); near != "" {
		try = near + " in place of " + unknown[0]
	}
	return hint(usagef("unknown environment variable: %s", strings.Join(unknown, ", ")), try)
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
		if d := editDistance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// editDistance returns how many bytes to insert, remove or replace to make b of
// a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
