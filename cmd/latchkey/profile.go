package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"latchkey.dev/internal/cli"
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

// profiles are the content of the file of profiles.
type profiles struct {
	Current string             `json:"current,omitempty"` // name of the one that is used
	Named   map[string]profile `json:"profiles"`
}

const (
	maxProfiles    = 1 << 20 // bytes of the file
	maxProfileName = 64
	defaultProfile = "default"
)

func (a *app) profilePath() (string, error) {
	dir := a.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.Getenv("HOME")
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

// checkProfileName refuses names that are hard to type or to show.
func checkProfileName(name string) error {
	ok := name != "" && len(name) <= maxProfileName && name[0] != '-' && strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}) < 0
	if !ok {
		return cli.Usagef("the name of a profile is made of up to %d letters, digits, dots, hyphens and underscores", maxProfileName)
	}
	return nil
}

// readProfiles returns the profiles that are kept. The file of a version that
// knew one profile only is that profile.
func (a *app) readProfiles() (profiles, error) {
	all := profiles{Named: map[string]profile{}}
	path, err := a.profilePath()
	if err != nil {
		return all, nil // no home: flags and environment have to say it all
	}
	b, err := readFile(path, maxProfiles)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("read profiles: %w", err)
	}
	var file struct {
		profiles
		profile
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return all, cli.Hint(fmt.Errorf("the file of profiles %s is not valid JSON", path), "latchkey logout")
	}
	if file.Named != nil {
		return file.profiles, nil
	}
	if file.profile != (profile{}) {
		all.Current, all.Named[defaultProfile] = defaultProfile, file.profile
	}
	return all, nil
}

// chosenProfile returns the name of the profile to use, and whether it was
// asked for.
func (a *app) chosenProfile(all profiles) (name string, asked bool) {
	if name := firstOf(a.profile, a.Getenv("LATCHKEY_PROFILE")); name != "" {
		return name, true
	}
	return firstOf(all.Current, defaultProfile), false
}

// loadProfile returns the profile to use. It is empty if there is none, unless
// one was asked for.
func (a *app) loadProfile() (profile, error) {
	all, err := a.readProfiles()
	if err != nil {
		return profile{}, err
	}
	name, asked := a.chosenProfile(all)
	p, ok := all.Named[name]
	if asked && !ok && !a.newProfile {
		return p, noProfile(all, name)
	}
	return p, nil
}

func noProfile(all profiles, name string) error {
	if err := checkProfileName(name); err != nil {
		return err
	}
	if near := cli.Nearest(name, slices.Sorted(maps.Keys(all.Named))); near != "" {
		return cli.Hint(cli.Usagef("there is no profile %q; did you mean %q?", name, near), "latchkey profile list")
	}
	return cli.Hint(cli.Usagef("there is no profile %q", name), "latchkey login --profile "+name+" --server URL")
}

// changeProfiles changes the file of profiles, which only its owner can read.
// Commands that do so at the same time wait for each other.
func (a *app) changeProfiles(change func(*profiles) error) (err error) {
	path, err := a.profilePath()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	all, err := a.readProfiles()
	if err != nil {
		return err
	}
	if err := change(&all); err != nil {
		return err
	}
	if len(all.Named) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove profiles: %w", err)
		}
		return nil
	}
	b, err := cli.MarshalJSON(all, "  ")
	if err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	if err := writeFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	return nil
}

// saveProfile keeps a profile under the name of the one to use. It is the
// current one from then on, unless LATCHKEY_PROFILE chose it for one shell.
func (a *app) saveProfile(p profile) error {
	return a.changeProfiles(func(all *profiles) error {
		name, _ := a.chosenProfile(*all)
		if err := checkProfileName(name); err != nil {
			return err
		}
		all.Named[name] = p
		if _, ok := all.Named[all.Current]; !ok || a.profile != "" || a.Getenv("LATCHKEY_PROFILE") == "" {
			all.Current = name
		}
		return nil
	})
}

// removeProfile forgets a profile and returns it; "" is the one to use. A file
// that cannot be understood is removed as a whole.
func (a *app) removeProfile(name string) (p profile, err error) {
	path, err := a.profilePath()
	if err != nil {
		return p, err
	}
	if _, err := a.readProfiles(); err != nil {
		return p, os.Remove(path)
	}
	return p, a.changeProfiles(func(all *profiles) error {
		if name == "" {
			name, _ = a.chosenProfile(*all)
		}
		var ok bool
		if p, ok = all.Named[name]; !ok && len(all.Named) > 0 {
			return noProfile(*all, name)
		}
		delete(all.Named, name)
		if all.Current == name {
			all.Current = ""
		}
		return nil
	})
}

// sameServer reports whether two addresses are the same but for a slash at the
// end.
func sameServer(a, b string) bool {
	return a != "" && strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}
