package faulttest

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func auditOf(action latchkey.Action, run latchkey.RunID) broker.AuditFilter {
	return broker.AuditFilter{Action: action, Run: run}
}

// A disk is where a test's database is.
type disk struct {
	url  string
	fill func(*testing.T, *latchkeytest.Service)
	free func(*testing.T, *latchkeytest.Service)
}

// pages is a disk that ends at the size that the database's file has.
func pages(t *testing.T) disk {
	limit := func(t *testing.T, s *latchkeytest.Service, more int64) {
		t.Helper()
		n, err := s.DB.LimitPages(t.Context(), 0)
		if err == nil {
			_, err = s.DB.LimitPages(t.Context(), n+more)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return disk{
		url:  filepath.Join(t.TempDir(), "latchkey.db"),
		fill: func(t *testing.T, s *latchkeytest.Service) { limit(t, s, 0) },
		free: func(t *testing.T, s *latchkeytest.Service) { limit(t, s, 10000) },
	}
}

// tmpfs is a small file system of its own, which another file fills.
func tmpfs(t *testing.T) disk {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("mounting a file system takes root on Linux")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=12m", "latchkey-test", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	return disk{
		url: filepath.Join(dir, "latchkey.db"),
		fill: func(t *testing.T, _ *latchkeytest.Service) {
			err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600)
			if err == nil {
				t.Fatal("the file system is larger than it should be")
			}
		},
		free: func(t *testing.T, _ *latchkeytest.Service) {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// TestStorageFull fills the storage under a service in use. What was acknowledged
// stays, nothing is released, everybody is told, and all goes on when there is
// room again.
func TestStorageFull(t *testing.T) {
	for name, make := range map[string]func(*testing.T) disk{"pages": pages, "tmpfs": tmpfs} {
		t.Run(name, func(t *testing.T) { testStorageFull(t, make(t)) })
	}
}

func testStorageFull(t *testing.T, d disk) {
	w := newWorld(t, latchkeytest.Options{DatabaseURL: d.url})
	ctx := t.Context()
	first := w.Start(t)
	run := w.Machine.Claim(t)
	if _, _, err := w.Machine.Get(t, run, w.Credential.ID); err != nil {
		t.Fatal(err)
	}
	d.fill(t, w.Service)
	acknowledged := []latchkey.RunID{first.ID}
	var refused answer
	for range 5000 {
		id, a := w.startOverHTTP(t)
		if a.status != http.StatusCreated {
			refused = a
			break
		}
		acknowledged = append(acknowledged, id)
	}
	wantProblem(t, "starting a run", refused, http.StatusServiceUnavailable, "storage-full", "storage of the SQLite database is full")

	granted := len(w.events(t, latchkey.ActReleaseGranted, run.Run))
	_, _, err := w.Machine.Get(t, run, w.Credential.ID)
	wantCode(t, "release", err, "storage-full")
	if got := len(w.events(t, latchkey.ActReleaseGranted, run.Run)); got != granted {
		t.Errorf("%d releases on record after one that was refused; want %d", got, granted)
	}
	finish := latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded}
	_, err = w.Broker.Finish(ctx, w.Machine.Session(), run.Run, finish)
	wantCode(t, "finish", err, "storage-full")
	wantProblem(t, "an operation that is denied", w.ask(t, "POST", env+"/runs/"+string(first.ID)+"/cancel", ""), http.StatusServiceUnavailable, "storage-full", "full")

	// Reads go on, and what was acknowledged is there.
	for _, id := range acknowledged {
		if a := w.ask(t, "GET", env+"/runs/"+string(id), ""); a.status != http.StatusOK {
			t.Fatalf("run %s, whose start was acknowledged: %d %s", id, a.status, a.body)
		}
	}
	if a := w.ask(t, "GET", env+"/runs", ""); a.status != http.StatusOK {
		t.Errorf("list of runs: %d %s", a.status, a.body)
	}
	if a := w.ask(t, "GET", "/api/v1/audit", ""); a.status != http.StatusOK {
		t.Errorf("audit log: %d %s", a.status, a.body)
	}
	if a := w.ask(t, "GET", "/readyz", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "storage is full") {
		t.Errorf("/readyz = %d %s; want 503 that says what is full", a.status, a.body)
	}
	if a := w.ask(t, "GET", "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz = %d; want 200: a restart does not help", a.status)
	}
	latchkeytest.Eventually(t, latchkeytest.Patience, "a line in the log", func() bool {
		return strings.Contains(w.Log.String(), `level=ERROR msg="the database's storage is full`)
	})

	d.free(t, w.Service)
	latchkeytest.Eventually(t, latchkeytest.Patience, "/readyz to be 200 again", func() bool { return w.ask(t, "GET", "/readyz", "").status == http.StatusOK })
	latchkeytest.Eventually(t, latchkeytest.Patience, "a line in the log", func() bool {
		return strings.Contains(w.Log.String(), `msg="the database's storage has room again"`)
	})
	if _, _, err := w.Machine.Get(t, run, w.Credential.ID); err != nil {
		t.Errorf("release when there is room again: %v", err)
	}
	w.Machine.Finish(t, run)
	if a := w.ask(t, "GET", env+"/runs/"+string(run.Run), ""); !strings.Contains(string(a.body), `"state":"succeeded"`) {
		t.Errorf("run = %s; want succeeded", a.body)
	}
	next := w.Machine.Claim(t)
	if len(acknowledged) > 1 && (next == nil || next.Run != acknowledged[1]) {
		t.Errorf("next claim = %+v; want run %s", next, acknowledged[1])
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || e.Code != code {
		t.Errorf("%s: %v; want an error with code %s", what, err, code)
	}
}
