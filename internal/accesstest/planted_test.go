package accesstest

import (
	"strings"
	"testing"
)

// planted are faults, made by triggers of the database: what the product does is
// right, and is kept wrongly.
var planted = []struct{ name, trigger string }{
	{"a share of a credential leaves its variables out", `AFTER INSERT ON grants WHEN NEW.via <> '' BEGIN DELETE FROM grants WHERE id = NEW.id; END`},
	{"the variables stay though they are to go", `AFTER DELETE ON grants WHEN OLD.via <> '' BEGIN
		INSERT INTO grants SELECT OLD.id, OLD.environment_id, OLD.subject_kind, OLD.subject_id, OLD.sort_key, OLD.principal_id, OLD.role, OLD.via, OLD.created_by, OLD.created_at; END`},
	{"what the variable was given by itself goes as well", `AFTER DELETE ON grants WHEN OLD.via <> '' BEGIN
		DELETE FROM grants WHERE subject_id = OLD.subject_id AND principal_id = OLD.principal_id AND via = '' AND role <> 'owner'; END`},
	{"whoever may share is made a co-owner", `AFTER INSERT ON grants WHEN NEW.role = 'user-share' BEGIN UPDATE grants SET role = 'co-owner' WHERE id = NEW.id; END`},
	{"the owner before keeps a role", `AFTER DELETE ON grants WHEN OLD.role = 'owner' BEGIN
		INSERT INTO grants SELECT OLD.id, OLD.environment_id, OLD.subject_kind, OLD.subject_id, OLD.sort_key, OLD.principal_id, 'user', OLD.via, OLD.created_by, OLD.created_at; END`},
	{"groups in groups count for nothing", `AFTER INSERT ON group_members WHEN (SELECT kind FROM principals WHERE id = NEW.member_id) = 'group' BEGIN
		DELETE FROM group_members WHERE group_id = NEW.group_id AND member_id = NEW.member_id; END`},
	{"a disabled account is let in", `AFTER UPDATE ON principals WHEN NEW.disabled_at IS NOT NULL BEGIN UPDATE principals SET disabled_at = NULL WHERE id = NEW.id; END`},
	{"a deleted group goes on", `AFTER UPDATE ON principals WHEN NEW.kind = 'group' AND NEW.deleted_at IS NOT NULL BEGIN UPDATE principals SET deleted_at = NULL WHERE id = NEW.id; END`},
	{"who leaves the environment stays as user", `AFTER DELETE ON environment_members BEGIN
		INSERT INTO environment_members SELECT OLD.environment_id, OLD.principal_id, 'user', OLD.created_by, OLD.created_at; END`},
	{"the environment's setting is lost", `AFTER UPDATE ON environments WHEN NEW.remove_variable_grants BEGIN UPDATE environments SET remove_variable_grants = FALSE WHERE id = NEW.id; END`},
	{"a deleted credential is listed", `AFTER UPDATE ON credentials WHEN NEW.deleted_at IS NOT NULL BEGIN UPDATE credentials SET deleted_at = NULL WHERE id = NEW.id; END`},
}

// TestPlantedFaults plants faults, one at a time, and sees each found and shrunk to
// a few steps.
func TestPlantedFaults(t *testing.T) {
	const (
		most    = 5000 // sequences until it is found
		longest = 5    // steps of the shortest counterexample
	)
	if quick {
		t.Skip("run without the race detector")
	}
	w := newWorld(t, "")
	const seed = 2 // the same each time, so that it is found or not
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			w.plant, w.unplant = "CREATE TRIGGER planted "+p.trigger, "DROP TRIGGER IF EXISTS planted"
			defer func() { w.plant = "" }()
			i := w.find(seed, 0, most)
			if i < 0 {
				t.Fatalf("not found in %d sequences", most)
			}
			steps, _ := draw(seed, i)
			short, d := w.shrink(steps)
			if d == nil || len(short) > longest || len(short) == 0 {
				t.Errorf("shrunk from %d to %d steps; want at most %d:\n%s", len(steps), len(short), longest, script(short, d))
			}
			if again, _ := w.run(short, nil, false); again != len(short) {
				t.Errorf("what it was shrunk to differs after %d steps of %d", again, len(short))
			}
			t.Logf("sequence %d:\n%s", i, script(short, d))
			if text := script(short, d); strings.Count(text, "latchkey ") != len(short) {
				t.Errorf("the script has not a command for each step:\n%s", text)
			}
		})
	}
	// Without a fault the same sequences differ nowhere.
	if i := w.find(seed, 0, 50); i >= 0 {
		steps, _ := draw(seed, i)
		short, d := w.shrink(steps)
		t.Errorf("without a planted fault sequence %d differs:\n%s", i, script(short, d))
	}
}
