package pg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestClusterKeepsWhatWasCommitted kills a server in both ways.
func TestClusterKeepsWhatWasCommitted(t *testing.T) {
	// Its path must be short and open to the server's account.
	dir, err := os.MkdirTemp("/tmp", "latchkey-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := NewCluster(t, filepath.Join(dir, "pg"))
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "create table one (a integer); insert into one values (1)"); err != nil {
		t.Fatal(err)
	}
	if !c.KillBackend(7) {
		t.Error("KillBackend found no process of a connection")
	}
	if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
		t.Error("a query over the killed connection succeeded")
	}
	_ = conn.Close(t.Context())
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if c.KillBackend(0) || c.Kill() == nil {
		t.Error("a server that does not run could be killed")
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var got int
	if err := connect(t, c.URL()).QueryRow(t.Context(), "select a from one").Scan(&got); err != nil || got != 1 {
		t.Errorf("a = %d, %v; want 1", got, err)
	}
}
