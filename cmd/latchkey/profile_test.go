package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/cli"
)

// writeProfiles puts a file of profiles where an invocation looks for it.
func writeProfiles(t *testing.T, a *app, content string) {
	t.Helper()
	path, err := a.profilePath()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProfileOfBefore(t *testing.T) {
	a, _, _ := testApp(t, "")
	writeProfiles(t, a, `{"server":"https://one.example.org","token":"lk_one","tokenId":"tok_1","login":"ann","environment":"erp","insecure":true}`)
	want := profile{Server: "https://one.example.org", Token: "lk_one", TokenID: "tok_1", Login: "ann", Environment: "erp", Insecure: true}
	got, err := a.loadProfile()
	if err != nil || got != want {
		t.Errorf("loadProfile = %+v, %v; want %+v", got, err, want)
	}
	a.profile = "two"
	if err := a.saveProfile(profile{Server: "https://two.example.org"}); err != nil {
		t.Fatal(err)
	}
	a.profile = defaultProfile
	if got, err = a.loadProfile(); err != nil || got != want {
		t.Errorf("after another was added: %+v, %v; want %+v", got, err, want)
	}
}

func TestWhichProfile(t *testing.T) {
	const file = `{"current":"b","profiles":{"a":{"server":"https://a.example.org"},"b":{"server":"https://b.example.org"},"c":{"server":"https://c.example.org"}}}`
	tests := []struct {
		name, flag, variable, want, fault string
	}{
		{"the current one", "", "", "https://b.example.org", ""},
		{"by variable", "", "a", "https://a.example.org", ""},
		{"the flag comes first", "c", "a", "https://c.example.org", ""},
		{"unknown", "nobody", "", "", "there is no profile"},
		{"not a name", "../x", "", "", "letters, digits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, _ := testApp(t, "", "LATCHKEY_PROFILE="+tt.variable)
			writeProfiles(t, a, file)
			a.profile = tt.flag
			got, err := a.loadProfile()
			if got.Server != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("loadProfile = %q, %v; want %q, %q", got.Server, err, tt.want, tt.fault)
			}
		})
	}
}

func TestProfilesTogether(t *testing.T) {
	first, _, _ := testApp(t, "")
	var wg sync.WaitGroup
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("p%02d", i)
		want = append(want, name)
		wg.Go(func() {
			a := newApp(stdio{}, first.Environ)
			a.profile = name
			if err := a.saveProfile(profile{Server: "https://" + name + ".example.org"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := first.readProfiles()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(all.Named))); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
}

func TestLastProfileRemoved(t *testing.T) {
	a, _, _ := testApp(t, "")
	for _, name := range []string{"one", "two"} {
		a.profile = name
		if err := a.saveProfile(profile{Server: "https://" + name + ".example.org"}); err != nil {
			t.Fatal(err)
		}
	}
	a.profile = ""
	if p, err := a.removeProfile(""); err != nil || p.Server != "https://two.example.org" {
		t.Errorf("removed %+v, %v; want the last one that was saved", p, err)
	}
	if _, err := a.removeProfile("three"); err == nil {
		t.Error("a profile that is not there was removed")
	}
	if _, err := a.connect(); err == nil || !strings.Contains(a.noServer().(cli.Hinted).Try, "profile use one") {
		t.Errorf("connect = %v; want the other profile offered", err)
	}
	if _, err := a.removeProfile("one"); err != nil {
		t.Error(err)
	}
	path, err := a.profilePath()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file of no profiles: %v; want none", err)
	}
	writeProfiles(t, a, "{")
	if _, err := a.removeProfile(""); err != nil {
		t.Errorf("remove a file that nobody understands: %v", err)
	}
}
