package broker_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// audit returns the entries of a run, as "action outcome code".
func audit(t *testing.T, c *latchkeytest.Chain, run latchkey.RunID) []string {
	t.Helper()
	p, err := c.Broker.Audit(t.Context(), c.Admin, broker.AuditFilter{Run: run}, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Items {
		got = append(got, strings.TrimSpace(string(e.Action)+" "+string(e.Outcome)+" "+e.Code))
	}
	return got
}

func TestRelease(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		versions := make(map[string]bool)
		for _, password := range []string{latchkeytest.ChainPassword, "rotated"} {
			c.SetSecret(t, c.Reference.Secret, password)
			r := c.Start(t)
			run := c.Machine.Claim(t)
			if run == nil || run.Run != r.ID {
				t.Fatalf("claimed %+v; want run %s", run, r.ID)
			}
			got, sealed, err := c.Machine.Get(t, run, run.Credential)
			if err != nil {
				t.Fatal(err)
			}
			if got.Username != latchkeytest.ChainUser || got.Password.Reveal() != password {
				t.Errorf("released another user name or password than was set")
			}
			versions[sealed.Version] = true
			c.Machine.Finish(t, run)
			want := []string{"run.start ok", "run.claim ok", "release.granted ok", "release.delivered ok", "run.finish ok"}
			if diff := cmp.Diff(want, audit(t, c, r.ID)); diff != "" {
				t.Errorf("audit log of the run (-want +got):\n%s", diff)
			}
			done, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			if done.State != latchkey.RunSucceeded || done.Releases != 1 {
				t.Errorf("run is %s with %d releases; want succeeded with 1", done.State, done.Releases)
			}
		}
		if len(versions) != 2 {
			t.Errorf("two runs with a rotation between got %d versions; want 2", len(versions))
		}
	})
}

// A watchedVault calls before each read.
type watchedVault struct {
	vault.Vault
	before func() error
}

func (v watchedVault) Get(ctx context.Context, name string) (vault.Value, error) {
	if err := v.before(); err != nil {
		return vault.Value{}, err
	}
	return v.Vault.Get(ctx, name)
}

func TestReleaseIsOnRecordBeforeTheVaultIsRead(t *testing.T) {
	var c *latchkeytest.Chain
	reads := 0
	o := latchkeytest.Options{}
	real := func(ref latchkey.VaultReference) vault.Vault {
		v, err := c.OpenVault(ref)
		if err != nil {
			t.Error(err)
		}
		return v
	}
	o.OpenVault = func(ref latchkey.VaultReference, embedded bool) vault.Vault {
		if c == nil {
			return nil
		}
		return watchedVault{real(ref), func() error {
			reads++
			p, err := c.Broker.Audit(context.Background(), c.Admin, broker.AuditFilter{Action: latchkey.ActReleaseGranted}, latchkey.PageOptions{})
			if err != nil || len(p.Items) != reads {
				t.Errorf("at read %d the audit log has %d grants, %v", reads, len(p.Items), err)
			}
			return nil
		}}
	}
	c = latchkeytest.New(t, o).Chain(t)
	c.Start(t)
	run := c.Machine.Claim(t)
	if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
		t.Fatal(err)
	}
	if reads != 1 {
		t.Errorf("the vault was read %d times; want 1", reads)
	}
}

// failAudit makes the database refuse audit entries of an action.
func failAudit(t *testing.T, path string, action latchkey.Action) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON audit WHEN NEW.action = '` + string(action) + `' BEGIN SELECT RAISE(ABORT, 'disk full'); END`); err != nil {
		t.Fatal(err)
	}
}

func TestReleaseNeedsItsRecord(t *testing.T) {
	for _, action := range []latchkey.Action{latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered} {
		t.Run(string(action), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "latchkey.db")
			var c *latchkeytest.Chain
			reads := 0
			c = latchkeytest.New(t, latchkeytest.Options{DatabaseURL: path, OpenVault: func(ref latchkey.VaultReference, _ bool) vault.Vault {
				if c == nil {
					return nil
				}
				v, err := c.OpenVault(ref)
				if err != nil {
					t.Error(err)
				}
				return watchedVault{v, func() error { reads++; return nil }}
			}}).Chain(t)
			c.Start(t)
			run := c.Machine.Claim(t)
			failAudit(t, path, action)
			_, sealed, err := c.Machine.Get(t, run, run.Credential)
			if err == nil || sealed.Box != nil {
				t.Errorf("release without its record %s: error %v, box of %d bytes; want an error and nothing", action, err, len(sealed.Box))
			}
			if action == latchkey.ActReleaseGranted && reads > 0 {
				t.Errorf("the vault was read %d times though the grant could not be recorded", reads)
			}
		})
	}
}

// A deniedTest is something after which a run gets no release any more.
type deniedTest struct {
	name string
	do   func(t *testing.T, c *latchkeytest.Chain) error // after the run was claimed
	want string
}

func deniedTests() []deniedTest {
	yes := true
	session := latchkey.ExposureSession
	other := []latchkey.MachineID{latchkey.MachineID(latchkey.NewID("mach", testTime))}
	none := ""
	return []deniedTest{
		{"machine disabled", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &yes})
			return err
		}, "machine-disabled"},
		{"exposure withdrawn", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateCredential(t.Context(), c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Exposure: &session})
			return err
		}, "exposure"},
		{"machine not listed", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateCredential(t.Context(), c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Machines: &other})
			return err
		}, "machine-not-listed"},
		{"shared uid since", func(t *testing.T, c *latchkeytest.Chain) error { return c.Machine.Open(t, true) }, "shared-uid"},
		{"cancelled", func(t *testing.T, c *latchkeytest.Chain) error {
			p, err := c.Broker.Runs(t.Context(), c.Admin, c.Env, broker.RunFilter{}, latchkey.PageOptions{})
			if err != nil {
				return err
			}
			_, err = c.Broker.CancelRun(t.Context(), c.Admin, c.Env, p.Items[0].ID)
			return err
		}, "cancelled"},
		{"vault no longer listed", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateEnvironment(t.Context(), c.Admin, c.Env, latchkey.EnvironmentUpdate{Vaults: &[]string{}})
			return err
		}, "vault-not-listed"},
		{"user name removed", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Username.Name, latchkey.VariableUpdate{Value: &none})
			return err
		}, "no-username"},
		{"reference removed", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Value: &none})
			return err
		}, "reference-not-passed"},
	}
}

func TestReleaseDenied(t *testing.T) {
	for _, tt := range deniedTests() {
		t.Run(tt.name, func(t *testing.T) {
			c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
			r := c.Start(t)
			run := c.Machine.Claim(t)
			if err := tt.do(t, c); err != nil {
				t.Fatal(err)
			}
			_, sealed, err := c.Machine.Get(t, run, run.Credential)
			wantDenied(t, err, tt.want)
			if sealed.Box != nil {
				t.Error("a denied release has a box")
			}
			log := audit(t, c, r.ID)
			if got, want := log[len(log)-1], "release.denied denied "+tt.want; got != want {
				t.Errorf("last audit entry = %q; want %q", got, want)
			}
			if strings.Contains(strings.Join(log, "\n"), "release.granted") {
				t.Error("a denied release was granted first")
			}
		})
	}
}

func wantDenied(t *testing.T, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, latchkey.ErrDenied) || e.Code != code {
		t.Errorf("error = %v; want denied with code %s", err, code)
	}
}

func TestReleaseOfAnotherCredential(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	other, err := c.Broker.CreateCredential(t.Context(), c.Admin, c.Env, latchkey.CredentialCreate{
		Name: "other", Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureEnvironment,
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: c.Password.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Start(t)
	run := c.Machine.Claim(t)
	_, _, err = c.Machine.Get(t, run, other.ID)
	wantDenied(t, err, "credential-not-listed")
	t.Run("another machine", func(t *testing.T) {
		m := c.Service.Machine(t, c.Env, "bot2")
		_, _, err := m.Get(t, run, run.Credential)
		wantDenied(t, err, "claim-lost")
	})
	t.Run("another claim", func(t *testing.T) {
		forged := *run
		forged.Claim = latchkey.ClaimID(latchkey.NewID("claim", testTime))
		_, _, err := c.Machine.Get(t, &forged, run.Credential)
		wantDenied(t, err, "claim-lost")
	})
	t.Run("ended", func(t *testing.T) {
		c.Machine.Finish(t, run)
		_, _, err := c.Machine.Get(t, run, run.Credential)
		wantDenied(t, err, "claim-lost")
	})
}

func TestLosingAccessEndsReleases(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		// The connection is of a maker, with whom the machine is shared for a while,
		// and who owns a credential of their own.
		maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
		c.Share(t, latchkey.KindMachine, string(c.Machine.ID), "maker", latchkey.RoleUser)
		for _, v := range []latchkey.Variable{c.Username, c.Password} {
			c.Share(t, latchkey.KindVariable, v.Name, "maker", latchkey.RoleUser)
		}
		if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: maker.ID, Role: latchkey.VaultSecretsUser}); err != nil {
			t.Fatal(err)
		}
		mine, err := c.Broker.CreateCredential(t.Context(), maker, c.Env, latchkey.CredentialCreate{
			Name: "mine", Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor,
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: c.Password.Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.Broker.CreateConnection(t.Context(), maker, c.Env, latchkey.ConnectionCreate{
			Name: "mine", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverNone, Credential: mine.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		flow, err := c.Broker.CreateFlow(t.Context(), maker, c.Env, latchkey.FlowCreate{Name: "mine", Command: []string{latchkeytest.Program}, Handover: latchkey.HandoverDescriptor})
		if err != nil {
			t.Fatal(err)
		}
		start := func() latchkey.Run {
			r, err := c.Broker.StartRun(t.Context(), maker, c.Env, latchkey.RunCreate{Flow: flow.ID, Connection: conn.ID})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		start()
		run := c.Machine.Claim(t)
		queued := start()
		if _, err := c.Broker.Unshare(t.Context(), c.Admin, c.Env, latchkey.KindMachine, string(c.Machine.ID), "maker", nil); err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Machine.Get(t, run, mine.ID)
		wantDenied(t, err, "owner-lost-machine")
		c.Machine.Finish(t, run)
		if run := c.Machine.Claim(t); run != nil {
			t.Errorf("claimed run %s, whose owner may not use the machine any more", run.Run)
		}
		r, err := c.Broker.Run(t.Context(), c.Admin, c.Env, queued.ID)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != latchkey.RunFailed || r.Error.Code != latchkey.RunErrRefused {
			t.Errorf("queued run = %s, %+v; want failed, %s", r.State, r.Error, latchkey.RunErrRefused)
		}
		disabled := true
		if _, err := c.Broker.UpdateUser(t.Context(), c.Admin, "maker", latchkey.UserUpdate{Disabled: &disabled}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Broker.Environment(t.Context(), maker, c.Env); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("a disabled user sees the environment: %v", err)
		}
	})
}
