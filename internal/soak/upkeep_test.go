//go:build linux

package soak

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// upkeep is what somebody does who runs the service: take backups and change the
// master key. Only keepUp and, when that has ended, the checks use it.
type upkeep struct {
	identity, recipient string // of backups
	backups             []backup
	taken, keys         int // backups, and changes of the key
	restored            *restored
}

// A backup is a file, and the key file that it needs.
type backup struct {
	file, key string
	asked     time.Time
}

// A restored is what the audit log of a restored backup had.
type restored struct {
	backup
	begun time.Time // restoring
	audit []latchkey.AuditEvent
}

func (w *world) beginUpkeep() {
	w.t.Helper()
	w.must(os.Mkdir(w.path("backups"), 0o700))
	w.upkeep.identity = w.path("backups", "identity.txt")
	out, ok := w.command("backup", "keygen", w.upkeep.identity)
	if !ok {
		w.t.FailNow()
	}
	w.upkeep.recipient = out[strings.Index(out, "age1"):]
	w.upkeep.recipient, _, _ = strings.Cut(w.upkeep.recipient, "\n")
}

// keepUp changes the master key, between two backups, and takes more of them until
// stop is closed.
func (w *world) keepUp(stop <-chan struct{}) {
	pause := func(from, to time.Duration) (goOn bool) {
		select {
		case <-stop:
			return false
		case <-time.After(from + rand.N(to-from)):
			return true
		}
	}
	w.upkeep.backups = nil
	pause(0, 5*time.Second)
	w.backUp()
	pause(0, 10*time.Second)
	w.changeKey()
	w.backUp()
	for pause(5*time.Second, 15*time.Second) {
		w.backUp()
	}
}

// command runs a command of the program, and again when the database was away. It
// returns what it has printed.
func (w *world) command(args ...string) (out string, ok bool) {
	for {
		var text bytes.Buffer
		cmd := w.program("latchkey", args...)
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &text, &text, 2*time.Second
		from := time.Now()
		err := w.starter.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		switch {
		case err == nil:
			return text.String(), true
		case !w.excused(from, time.Now()):
			w.fault("latchkey %s: %v: %s", strings.Join(args, " "), err, text.String())
			return "", false
		case strings.Contains(text.String(), "has a new master key already"): // but that is not on record
			return "", true
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) masterKey() string { return w.path("server1", "master.key") }

// onDatabase returns the flags that name the database.
func (w *world) onDatabase() []string {
	if w.cluster != nil {
		return []string{"--database", w.cluster.URL()}
	}
	return []string{"--data", w.path("server1")}
}

func (w *world) backUp() {
	u := &w.upkeep
	name := w.path("backups", fmt.Sprint(u.taken))
	b := backup{file: name + ".age", key: name + ".key", asked: time.Now()}
	key, err := os.ReadFile(w.masterKey())
	if err == nil {
		err = os.WriteFile(b.key, key, 0o600)
	}
	if err != nil {
		w.fault("keep the master key of a backup: %v", err)
		return
	}
	if _, ok := w.command(append([]string{"backup", "--recipient", u.recipient, b.file}, w.onDatabase()...)...); ok {
		u.taken++
		u.backups = append(u.backups, b)
	}
}

func (w *world) changeKey() {
	defer w.vault.rekey()()
	for _, step := range [][]string{{"add"}, {"rewrap", "--yes"}, {"status", "--check"}, {"retire", "--yes"}} {
		args := slices.Concat([]string{"master-key"}, step, w.onDatabase(), []string{"--master-key", w.masterKey()})
		if _, ok := w.command(args...); !ok {
			return
		}
	}
	w.upkeep.keys++
}

// restore restores a backup of this round into a new folder, starts a server on it,
// and reads its audit log.
func (w *world) restore() {
	w.t.Helper()
	u := &w.upkeep
	if len(u.backups) == 0 {
		w.t.Fatal("no backup was taken")
	}
	r := &restored{backup: u.backups[rand.IntN(len(u.backups))], begun: time.Now()}
	dir := strings.TrimSuffix(r.file, ".age")
	key, err := os.ReadFile(r.key)
	w.must(err)
	w.must(os.Mkdir(dir, 0o700))
	w.must(os.WriteFile(filepath.Join(dir, "master.key"), key, 0o600))
	if _, ok := w.command("restore", "--identity", u.identity, "--data", dir, r.file); !ok {
		w.t.FailNow()
	}
	listen := w.freePort()
	cmd := w.program("latchkey", "serve", "--data", dir, "--listen", listen, "--vault-listen", w.freePort())
	log, err := os.Create(dir + ".log")
	w.must(err)
	cmd.Stdout, cmd.Stderr = log, log
	w.must(w.starter.Start(cmd))
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if err := log.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	c, err := client.New(client.Config{Server: "http://" + listen})
	w.must(err)
	c = c.WithToken(w.token)
	w.ready(c)
	r.audit = w.committed(c)
	for run, err := range c.Runs(w.t.Context(), envName, client.RunFilter{}) {
		w.must(err)
		if !run.State.Done() {
			w.fault("run %s is %s in a restored backup", run.ID, run.State)
		}
	}
	u.restored = r
}

// committed returns the audit log in the order in which entries became final.
func (w *world) committed(c *client.Client) (all []latchkey.AuditEvent) {
	w.t.Helper()
	for after := latchkey.AuditID(""); ; after = all[len(all)-1].ID {
		p, err := c.AuditAfter(w.t.Context(), client.AuditFilter{}, after)
		w.must(err)
		all = append(all, p.Items...)
		if p.Next == "" {
			return all
		}
	}
}

// checkUpkeep compares the restored backup's audit log with the one that it was
// taken of, and looks whether what is sealed is sealed with one key.
func (w *world) checkUpkeep() {
	w.t.Helper()
	r := w.upkeep.restored
	for _, f := range astray(w.committed(w.api[0]), r.audit, r.asked, r.begun, w.cluster == nil) {
		w.fault("the backup %s: %v", r.file, f)
	}
	args := slices.Concat([]string{"master-key", "status", "--check", "--json"}, w.onDatabase(), []string{"--master-key", w.masterKey()})
	out, ok := w.command(args...)
	var keys []struct{ Sealed int64 }
	if err := json.Unmarshal([]byte(out), &keys); ok && (err != nil || len(keys) != 1 || keys[0].Sealed == 0) {
		w.fault("latchkey master-key status says %s, %v; want one key, with all that is sealed", out, err)
	}
}

// astray says in what a restored audit log is no beginning of the whole one. That a
// backup was asked for at one time and restored from another on bounds what may
// differ. Where transactions write at the same time, some that began before the
// backup may have ended after it, between others.
func astray(whole, part []latchkey.AuditEvent, asked, begun time.Time, strict bool) (faults []error) {
	gap := false
	for _, e := range whole {
		switch {
		case len(part) == 0 || part[0].ID != e.ID:
			gap = true
			if e.At.Before(asked.Add(-outageGrace)) {
				faults = append(faults, fmt.Errorf("it lacks %s %s of %s", e.ID, e.Action, e.At))
			}
			continue
		case gap && strict:
			faults = append(faults, fmt.Errorf("it has %s %s, and lacks an entry before it", e.ID, e.Action))
		case !cmp.Equal(part[0], e):
			faults = append(faults, fmt.Errorf("an entry is another one (-log +backup):\n%s", cmp.Diff(e, part[0])))
		}
		part = part[1:]
	}
	if len(part) == 0 {
		faults = append(faults, errors.New("it has no entry of its restoring"))
	}
	for _, e := range part {
		if e.At.Before(begun) {
			faults = append(faults, fmt.Errorf("it has %s %s of %s, which the log does not have", e.ID, e.Action, e.At))
		}
	}
	return faults
}
