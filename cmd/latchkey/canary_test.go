package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// forms are the ways in which a value may show.
func forms(value string) map[string][]byte {
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err) // texts always marshal
	}
	reversed := []byte(value)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	return map[string][]byte{
		"as it is":   []byte(value),
		"in JSON":    bytes.Trim(quoted, `"`),
		"in base64":  []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value)), "=")),
		"in an URL":  []byte(url.QueryEscape(value)),
		"in hex":     []byte(hex.EncodeToString([]byte(value))),
		"in UTF-16":  inUTF16(value),
		"backwards":  reversed,
		"URL base64": []byte(base64.RawURLEncoding.EncodeToString([]byte(value))),
	}
}

func inUTF16(s string) []byte {
	var b []byte
	for _, r := range []byte(s) {
		b = append(b, r, 0)
	}
	return b
}

// cmdCanary fails if the value in a file shows in files, in whole folders, in
// the arguments of any process, or in what the last commands
// printed. With ! it must be there: a canary that is never found proves nothing.
//
//	canary VALUE-FILE PATH…
func cmdCanary(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: canary VALUE-FILE PATH…")
	}
	value := strings.TrimSpace(ts.ReadFile(args[0]))
	if len(value) < 16 {
		ts.Fatalf("the value is too short to be looked for")
	}
	all := forms(value)
	found, searched := "", 0
	look := func(name string, b []byte) {
		searched++
		for how, form := range all {
			if bytes.Contains(b, form) {
				found = name + " holds it " + how
			}
		}
	}
	for _, path := range args[1:] {
		if path == "stdout" || path == "stderr" {
			look(path, []byte(ts.ReadFile(path)))
			continue
		}
		err := filepath.WalkDir(ts.MkAbs(path), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			look(path, b)
			return err
		})
		ts.Check(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, path := range processes {
		// Processes come and go, and those of others may be closed to us.
		if b, err := os.ReadFile(path); err == nil {
			look(path, b)
		}
	}
	switch {
	case searched == 0:
		ts.Fatalf("nothing was searched")
	case neg && found == "":
		ts.Fatalf("the value is nowhere to be found")
	case !neg && found != "":
		ts.Fatalf("%s", found)
	}
}
