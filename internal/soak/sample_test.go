//go:build linux

package soak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// forms returns the ways in which a text may show in a file.
func forms(text string) map[string][]byte {
	reversed := []byte(text)
	slices.Reverse(reversed)
	all := map[string][]byte{
		"as it is":  []byte(text),
		"backwards": reversed,
		"in hex":    []byte(hex.EncodeToString([]byte(text))),
		"in UTF-16": []byte(strings.Join(strings.Split(text, ""), "\x00")),
	}
	// What base64 makes of it depends on where in a group of three it begins; its
	// first and last characters depend on the neighbours.
	for shift := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		all[fmt.Sprintf("in base64, shifted by %d", shift)] = []byte(b[2*shift : len(b)-2])
	}
	return all
}

// shows returns how a secret of the world shows in b, or "".
func (w *world) shows(b []byte) string {
	for how, form := range forms(w.mark) {
		if bytes.Contains(b, form) {
			return how
		}
	}
	return ""
}

// processes returns the ids of all processes.
func processes() (ids []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	for _, d := range dirs {
		ids = append(ids, filepath.Base(d))
	}
	return ids
}

// ofProcess reads a file of a process; it is empty when the process has ended.
func ofProcess(id, file string) []byte {
	b, _ := os.ReadFile(filepath.Join("/proc", id, file)) // it may have ended
	return b
}

// runOf returns the run of this world that a process belongs to, or "".
func (w *world) runOf(id string) latchkey.RunID {
	var run string
	ours := false
	for v := range strings.SplitSeq(string(ofProcess(id, "environ")), "\x00") {
		ours = ours || v == "LATCHKEY_INPUT_SOAK="+w.id
		if r, ok := strings.CutPrefix(v, "LATCHKEY_RUN="); ok {
			run = r
		}
	}
	if !ours {
		return ""
	}
	return latchkey.RunID(run)
}

// sample looks at all processes now and then until stop is closed.
func (w *world) sample(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(400 * time.Millisecond):
		}
		ended := w.reported()
		for _, id := range processes() {
			if how := w.shows(ofProcess(id, "cmdline")); how != "" {
				w.fault("the arguments of process %s hold a secret %s", id, how)
			}
			if run := w.runOf(id); ended[run] {
				w.fault("process %s of run %s is there, though the run's agent has reported its end: %q", id, run, ofProcess(id, "cmdline"))
			} else if run == "" && w.shows(ofProcess(id, "environ")) != "" {
				w.fault("the environment of process %s, which is of no run, holds a secret", id)
			}
		}
	}
}

// reported returns the runs whose end their agents have reported: nothing of
// them is left by then.
func (w *world) reported() map[latchkey.RunID]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := map[latchkey.RunID]bool{}
	for id, s := range w.runs {
		if s.end != nil && code(*s.end) != latchkey.RunErrAgentLost {
			ended[id] = true
		}
	}
	return ended
}

// checkMachine looks for what must not be left on the machine when all runs have
// ended and all agents are up.
func (w *world) checkMachine() {
	w.t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left = nil
		for _, id := range processes() {
			if run := w.runOf(id); run != "" {
				left = append(left, fmt.Sprintf("%s of run %s %q", id, run, ofProcess(id, "cmdline")))
			}
		}
		if w.ssh != nil {
			for id, line := range w.ssh.Processes() {
				left = append(left, fmt.Sprintf("%d on the SSH server %q", id, line))
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, l := range left {
		w.fault("a process is left: %s", l)
	}
	entries, err := os.ReadDir(w.path("tmp"))
	w.must(err)
	for _, e := range entries {
		w.fault("%s is left in the folder for temporary files", e.Name())
	}
	searched := 0
	for _, dir := range []string{w.dir, "/dev/shm", "/run"} {
		searched += w.search(dir, func(path, how string) { w.fault("the file %s holds a secret %s", path, how) })
	}
	if searched == 0 {
		w.fault("no file was searched for secrets")
	}
}

// maxSearched is the size of the largest file that is searched.
const maxSearched = 1 << 30

// search calls found for files below dir that hold a secret, and returns how
// many it has read.
func (w *world) search(dir string, found func(path, how string)) (n int) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone, or not for us to see
		}
		if info, err := d.Info(); err != nil || info.Size() > maxSearched {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		n++
		if how := w.shows(b); how != "" {
			found(path, how)
		}
		return nil
	})
	return n
}
