package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// auditID returns the id of the nth entry of a log that tests make up.
func auditID(n int) latchkey.AuditID {
	return latchkey.AuditID(fmt.Sprintf("aud_%026d", n))
}

// anything is the check of flags that choose everything.
func anything(latchkey.AuditEvent) error { return nil }

// A madeUpLog answers as a server with so many entries does.
type madeUpLog struct {
	entries int
	page    int
	fail    func(asked int) error
	asked   int
}

func (l *madeUpLog) next(_ context.Context, _ client.AuditFilter, after latchkey.AuditID) (p latchkey.Page[latchkey.AuditEvent], err error) {
	l.asked++
	if l.fail != nil {
		if err := l.fail(l.asked); err != nil {
			return p, err
		}
	}
	n := 0
	if after != "" {
		if _, err := fmt.Sscanf(string(after), "aud_%d", &n); err != nil || n > l.entries {
			return p, latchkey.Conflict("audit-entry-unknown", "the audit log has no such entry")
		}
	}
	for i := n + 1; i <= min(n+l.page, l.entries); i++ {
		p.Items = append(p.Items, latchkey.AuditEvent{ID: auditID(i), Reason: strings.Repeat("r", i%50)})
	}
	if n+l.page < l.entries {
		p.Next = "more"
	}
	return p, nil
}

// exported returns the numbers of the entries of a file, which must be from 1 on
// without a gap.
func exported(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		n++
		var e latchkey.AuditEvent
		if err := json.Unmarshal(s.Bytes(), &e); err != nil || e.ID != auditID(n) {
			t.Fatalf("line %d is %q, %v; want entry %d", n, s.Text(), err, n)
		}
	}
	return n
}

func (l *madeUpLog) export(t *testing.T, ctx context.Context, path string, follow bool) error {
	t.Helper()
	a, _, _ := testApp(t, "")
	file, last, err := openExport(path, anything)
	if err != nil {
		return err
	}
	e := exporter{app: a, next: l.next, follow: follow, out: file, last: last, sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	return errors.Join(e.run(ctx), file.Close())
}

// TestExportGoesOn cuts a file off at many places, and exports again.
func TestExportGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := &madeUpLog{entries: 7, page: 3}
	if err := l.export(t, t.Context(), path, false); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l.entries = 9
	for size := range len(whole) + 1 {
		if near := whole[max(0, size-2):min(len(whole), size+2)]; size%37 != 0 && !bytes.ContainsRune(near, '\n') {
			continue // each look takes a few writes to the disk
		}
		for _, tail := range []string{"", "\x00\x00\x00", "\x00\n{}\n"} {
			if size == 0 && tail != "" {
				continue // that is no export any more
			}
			if err := os.WriteFile(path, append(whole[:size:size], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			err := l.export(t, t.Context(), path, false)
			if size < len(`{"id":"aud_`) && tail != "" {
				if !errors.Is(err, errNoExport) {
					t.Fatalf("cut off after %d bytes: %v; want it refused", size, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("cut off after %d bytes, then %q: %v", size, tail, err)
			}
			if got := exported(t, path); got != 9 {
				t.Fatalf("cut off after %d bytes: %d entries; want 9", size, got)
			}
		}
	}
}

func TestExportTriesAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	away := &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: client.CodeUnreachable, Msg: "the server cannot be reached"}
	l := &madeUpLog{entries: 100, page: 10, fail: func(asked int) error {
		if asked%3 != 0 {
			return away
		}
		return nil
	}}
	if err := l.export(t, t.Context(), path, false); err != nil || exported(t, path) != 100 {
		t.Errorf("export = %v, %d entries; want 100", err, exported(t, path))
	}
	l = &madeUpLog{entries: 200, page: 10, fail: func(int) error { return away }}
	if err := l.export(t, t.Context(), path, false); !errors.Is(err, latchkey.ErrUnavailable) || l.asked != exportFailures {
		t.Errorf("export = %v after %d questions; want it given up after %d", err, l.asked, exportFailures)
	}
	l = &madeUpLog{entries: 200, page: 10, fail: func(int) error { return &latchkey.Error{Kind: latchkey.ErrDenied, Msg: "no"} }}
	if err := l.export(t, t.Context(), path, false); !errors.Is(err, latchkey.ErrDenied) || l.asked != 1 {
		t.Errorf("export = %v after %d questions; want a refusal at once", err, l.asked)
	}
	if n := exported(t, path); n != 100 {
		t.Errorf("%d entries; want those that were there", n)
	}
}

func TestExportFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	l := &madeUpLog{page: 3}
	l.fail = func(asked int) error {
		l.entries += 2
		if asked == 20 {
			cancel()
		}
		return nil
	}
	if err := l.export(t, ctx, path, true); err != nil {
		t.Errorf("export = %v; want none when it is interrupted", err)
	}
	if n := exported(t, path); n < 30 {
		t.Errorf("%d entries; want those that came", n)
	}
}

func TestExportLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"text": "hello\n", "json": `{"id":"user_1"}` + "\n", "array": `[{"id":"aud_1"}]`, "zeros": "\x00\x00\x00\x00",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openExport(path, anything); !errors.Is(err, errNoExport) {
			t.Errorf("%s: %v; want it refused", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%s is %q now, %v", name, b, err)
		}
	}
	path := filepath.Join(dir, "used")
	first, _, err := openExport(path, anything)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	if _, _, err := openExport(path, anything); err == nil || !strings.Contains(err.Error(), "another export") {
		t.Errorf("a second export of the same file: %v; want it refused", err)
	}
	if _, _, err := openExport(dir, anything); err == nil {
		t.Error("a folder is taken for a file")
	}
}

// TestExportWithOtherFlags goes on with a file that was made with other flags:
// what they leave out would be missing in it.
func TestExportWithOtherFlags(t *testing.T) {
	const env = "env_06h0e9ar16009rtdky4ekg8gnr"
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	entry := func(n int) latchkey.AuditEvent {
		return latchkey.AuditEvent{
			ID: auditID(n), At: at, Environment: env, Action: latchkey.ActReleaseGranted, Outcome: latchkey.OutcomeOK,
			Actor: "user_1", Subject: "cred_1", Run: "run_1", Machine: "mach_1", Credential: "cred_1",
		}
	}
	tests := []struct {
		flags  auditFlags
		env    string
		change func(*latchkey.AuditEvent) // of the entry before the last
		fault  string                     // the flag that is to blame
	}{
		{auditFlags{}, "", func(e *latchkey.AuditEvent) { *e = latchkey.AuditEvent{ID: e.ID} }, ""},
		{auditFlags{since: "2027-01-01T00:00:00Z"}, "", nil, ""},
		{auditFlags{}, env, nil, ""},
		{auditFlags{}, env, func(e *latchkey.AuditEvent) { e.Environment = "" }, "--environment " + env},
		{auditFlags{action: "release."}, "", func(e *latchkey.AuditEvent) { e.Action = latchkey.ActReleaseDenied }, ""},
		{auditFlags{action: "release."}, "", func(e *latchkey.AuditEvent) { e.Action = latchkey.ActRunStart }, "--action release."},
		{auditFlags{action: "release.granted"}, "", func(e *latchkey.AuditEvent) { e.Action = latchkey.ActReleaseDenied }, "--action release.granted"},
		{auditFlags{outcome: "ok"}, "", nil, ""},
		{auditFlags{outcome: "ok"}, "", func(e *latchkey.AuditEvent) { e.Outcome = latchkey.OutcomeFailed }, "--outcome ok"},
		{auditFlags{actor: "ann"}, "", nil, ""},
		{auditFlags{actor: "ann"}, "", func(e *latchkey.AuditEvent) { e.Actor = "user_2" }, "--actor ann"},
		{auditFlags{subject: "cred_1"}, "", nil, ""},
		{auditFlags{subject: "cred_1"}, "", func(e *latchkey.AuditEvent) { e.Subject = "" }, "--subject cred_1"},
		{auditFlags{run: "run_1"}, "", func(e *latchkey.AuditEvent) { e.Run = "run_2" }, "--run run_1"},
		{auditFlags{machine: "the desk"}, "", func(e *latchkey.AuditEvent) { e.Machine = "mach_2" }, "--machine 'the desk'"},
		{auditFlags{credential: "bot"}, "", func(e *latchkey.AuditEvent) { e.Credential = "cred_2" }, "--credential bot"},
		{auditFlags{until: "2026-11-24T00:00:00Z"}, "", nil, ""},
		{auditFlags{until: "2026-11-24T00:00:00Z"}, "", func(e *latchkey.AuditEvent) { e.At = at.Add(48 * time.Hour) }, "--until 2026-11-24T00:00:00Z"},
	}
	for _, tt := range tests {
		entries := []latchkey.AuditEvent{entry(1), entry(2), entry(3)}
		if tt.change != nil {
			tt.change(&entries[1])
		}
		var b bytes.Buffer
		for _, e := range entries {
			line, err := cli.MarshalJSON(e, "")
			if err != nil {
				t.Fatal(err)
			}
			b.Write(line)
		}
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		// As fill does it, which asks the server for ids.
		f := client.AuditFilter{
			Environment: tt.env, Action: latchkey.Action(tt.flags.action), Outcome: latchkey.Outcome(tt.flags.outcome), Actor: "user_1",
			Subject: tt.flags.subject, Run: latchkey.RunID(tt.flags.run), Machine: "mach_1", Credential: "cred_1", Until: at.Add(24 * time.Hour),
		}
		chose, err := tt.flags.chose(t.Context(), nil, f)
		if err != nil {
			t.Fatal(err)
		}
		file, last, err := openExport(path, chose)
		if tt.fault == "" {
			if err != nil || last != auditID(3) {
				t.Errorf("%+v: %q, %v; want it gone on with", tt.flags, last, err)
			}
			if err == nil {
				file.Close()
			}
			continue
		}
		if _, usage := errors.AsType[cli.UsageError](err); !usage || !strings.Contains(err.Error(), tt.fault+" does not choose") || !strings.Contains(err.Error(), string(auditID(2))) {
			t.Errorf("%+v: %v; want %s refused", tt.flags, err, tt.fault)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b.Bytes()) {
			t.Errorf("%+v: the file is %q now, %v", tt.flags, got, err)
		}
	}
}

// TestExportOfALongFile looks at the end of a file only.
func TestExportOfALongFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var b bytes.Buffer
	n := 0
	for b.Len() < exportTail+1<<20 {
		n++
		fmt.Fprintf(&b, `{"id":%q,"reason":%q}`+"\n", auditID(n), strings.Repeat("x", 2000))
	}
	b.WriteString(`{"id":"aud_000`)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &madeUpLog{entries: n + 5, page: 3}
	if err := l.export(t, t.Context(), path, false); err != nil || exported(t, path) != n+5 {
		t.Errorf("export = %v, %d entries; want %d", err, exported(t, path), n+5)
	}
}

func FuzzCompleteLines(f *testing.F) {
	f.Add([]byte(`{"id":"aud_00000000000000000000000001"}` + "\n" + `{"id":"au`))
	f.Add([]byte("{\"id\":\"aud_\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		size, last, err := completeLines(bytes.NewReader(b), int64(len(b)), anything)
		if err != nil {
			return
		}
		if size < 0 || size > int64(len(b)) || size > 0 && b[size-1] != '\n' || (size == 0) != (last == "") {
			t.Errorf("completeLines(%q) = %d, %q", b, size, last)
		}
	})
}
