package broker_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// eachDistance runs f with a chain on one server, and with the chain and another
// server on the same PostgreSQL: what an admin does there holds here at once.
func eachDistance(t *testing.T, f func(t *testing.T, c, admins *latchkeytest.Chain)) {
	t.Run("one server", func(t *testing.T) {
		c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
		f(t, c, c)
	})
	t.Run("two servers", func(t *testing.T) {
		c, other := twoServers(t)
		f(t, c, other)
	})
}

// twoServers returns a chain on PostgreSQL, and the same chain at another server.
func twoServers(t *testing.T) (c, other *latchkeytest.Chain) {
	t.Helper()
	o := latchkeytest.Options{DatabaseURL: latchkeytest.Postgres(t), Key: seal.NewKey()}
	c = latchkeytest.New(t, o).Chain(t)
	there := *c
	o.Idle = true
	there.Service = latchkeytest.New(t, o)
	there.Admin = c.Admin
	return c, &there
}

// warm claims a run and releases its credential until that is done from memory,
// which shows in the vault's not being read.
func warm(t *testing.T, c *latchkeytest.Chain) *latchkey.ClaimedRun {
	t.Helper()
	c.Start(t)
	run := c.Machine.Claim(t)
	for range 3 {
		if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
			t.Fatal(err)
		}
	}
	if n := reads(t, c); n != 1 {
		t.Fatalf("three releases read the vault %d times; want once", n)
	}
	return run
}

// reads returns how often a secret of the embedded vaults was read.
func reads(t *testing.T, c *latchkeytest.Chain) int {
	t.Helper()
	p, err := c.Broker.Audit(t.Context(), c.Admin, broker.AuditFilter{Action: latchkey.ActSecretGet}, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Items)
}

// TestStandingReleaseDenied repeats TestReleaseDenied with a run that has had
// releases, so that the next would be granted from memory.
func TestStandingReleaseDenied(t *testing.T) {
	yes := true
	tests := append(deniedTests(), []deniedTest{
		{"starter disabled", func(t *testing.T, c *latchkeytest.Chain) error {
			second := c.User(t, "second", "", "")
			if _, err := c.Broker.UpdateUser(t.Context(), c.Admin, string(second.ID), latchkey.UserUpdate{TenantAdmin: &yes}); err != nil {
				return err
			}
			_, err := c.Broker.UpdateUser(t.Context(), second, string(c.Admin.ID), latchkey.UserUpdate{Disabled: &yes, Force: true})
			return err
		}, "owner-disabled"},
		{"owner left", func(t *testing.T, c *latchkeytest.Chain) error {
			c.User(t, "second", c.Env, latchkey.EnvAdmin)
			return c.Broker.SetMember(t.Context(), c.Admin, c.Env, string(c.Admin.ID), "")
		}, "owner-left"},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, admins := twoServers(t)
			run := warm(t, c)
			if err := tt.do(t, admins); err != nil {
				t.Fatal(err)
			}
			_, sealed, err := c.Machine.Get(t, run, run.Credential)
			wantDenied(t, err, tt.want)
			if sealed.Box != nil {
				t.Error("a denied release has a box")
			}
		})
	}
}

// TestStandingReleaseIsCurrent changes what a release hands over, or whether the
// vault gives it, after releases from memory.
func TestStandingReleaseIsCurrent(t *testing.T) {
	no := false
	user := `CONTOSO\\other`
	tests := []struct {
		name string
		do   func(t *testing.T, c *latchkeytest.Chain) error
		want string // user name and password, or the code of the error
	}{
		{"rotated", func(t *testing.T, c *latchkeytest.Chain) error {
			c.SetSecret(t, c.Reference.Secret, "rotated")
			return nil
		}, latchkeytest.ChainUser + " rotated"},
		{"user name changed", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Username.Name, latchkey.VariableUpdate{Value: &user})
			return err
		}, user + " " + latchkeytest.ChainPassword},
		{"reference changed", func(t *testing.T, c *latchkeytest.Chain) error {
			c.SetSecret(t, "another", "another secret")
			ref := c.Reference
			ref.Secret = "another"
			if _, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Secret: &ref}); err != nil {
				return err
			}
			c.AwaitCheck(t, c.Password.Name, latchkey.CheckPassed)
			return nil
		}, latchkeytest.ChainUser + " another secret"},
		{"secret disabled", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateSecret(t.Context(), c.Admin, c.Vault.Name, c.Reference.Secret, "", broker.SecretUpdate{Enabled: &no})
			return err
		}, "vault-refused"},
		{"secret deleted", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.DeleteSecret(t.Context(), c.Admin, c.Vault.Name, c.Reference.Secret)
			return err
		}, "vault-refused"},
		{"role of the service removed", func(t *testing.T, c *latchkeytest.Chain) error {
			roles, err := c.Broker.RoleAssignments(t.Context(), c.Admin, c.Vault.Name, latchkey.PageOptions{})
			if err != nil {
				return err
			}
			for _, r := range roles.Items {
				if r.Principal == latchkey.ServiceIdentity {
					err = errors.Join(err, c.Broker.RemoveRole(t.Context(), c.Admin, c.Vault.Name, r.ID))
				}
			}
			return err
		}, "vault-refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachDistance(t, func(t *testing.T, c, admins *latchkeytest.Chain) {
				run := warm(t, c)
				if err := tt.do(t, admins); err != nil {
					t.Fatal(err)
				}
				v, _, err := c.Machine.Get(t, run, run.Credential)
				got := v.Username + " "
				if e, ok := errors.AsType[*latchkey.Error](err); ok {
					got = e.Code
				} else {
					got += v.Password.Reveal()
				}
				if got != tt.want {
					t.Errorf("released %q, %v; want %q", got, err, tt.want)
				}
			})
		})
	}
}

// TestStandingReleaseOutlastsOtherSecrets changes other secrets of the vault: the
// one of the releases is not read again.
func TestStandingReleaseOutlastsOtherSecrets(t *testing.T) {
	eachDistance(t, func(t *testing.T, c, admins *latchkeytest.Chain) {
		run := warm(t, c)
		for _, value := range []string{"one", "two"} {
			admins.SetSecret(t, "another", value)
			for range 2 {
				if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := reads(t, c); n != 1 {
			t.Errorf("the vault was read %d times; want once", n)
		}
	})
}

// TestStandingSessionReplaced opens a session at another server after releases
// from memory.
func TestStandingSessionReplaced(t *testing.T) {
	eachDistance(t, func(t *testing.T, c, admins *latchkeytest.Chain) {
		run := warm(t, c)
		old := *c.Machine
		if err := c.Machine.Open(t, false); err != nil {
			t.Fatal(err)
		}
		_, _, err := old.Get(t, run, run.Credential)
		if e, ok := errors.AsType[*latchkey.Error](err); !ok || !errors.Is(err, latchkey.ErrUnauthenticated) || e.Code != "session-expired" {
			t.Errorf("release in the session before = %v; want unauthenticated, session-expired", err)
		}
		if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
			t.Errorf("release in the new session: %v", err)
		}
	})
}

// TestStandingCounterStepsBack uses a counter twice after releases from memory.
func TestStandingCounterStepsBack(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	run := warm(t, c)
	c.Machine.Release--
	_, _, err := c.Machine.Get(t, run, run.Credential)
	if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != "quarantined" {
		t.Errorf("release with a counter of before = %v; want quarantined", err)
	}
}

// TestStandingReleaseNeedsItsRecord has the audit log refuse what a release from
// memory puts on record.
func TestStandingReleaseNeedsItsRecord(t *testing.T) {
	for _, action := range []latchkey.Action{latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered} {
		t.Run(string(action), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "latchkey.db")
			c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: path}).Chain(t)
			run := warm(t, c)
			failAudit(t, path, action)
			if _, sealed, err := c.Machine.Get(t, run, run.Credential); err == nil || sealed.Box != nil {
				t.Errorf("release without its record: error %v, box of %d bytes; want an error and nothing", err, len(sealed.Box))
			}
		})
	}
}

// TestReleaseGroups has many agents ask at the same time, some of whose runs are
// being cancelled: each gets what is due to it, whoever it is recorded together
// with.
func TestReleaseGroups(t *testing.T) {
	const agents, rounds = 12, 20
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		machines, runs := make([]*latchkeytest.Machine, agents), make([]*latchkey.ClaimedRun, agents)
		for i := range agents {
			m := c.Service.Machine(t, c.Env, "group"+string(rune('a'+i)))
			conn, err := c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, latchkey.ConnectionCreate{
				Name: "on " + string(m.ID), Target: latchkey.Target{Machine: m.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Broker.StartRun(t.Context(), c.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: conn.ID}); err != nil {
				t.Fatal(err)
			}
			machines[i], runs[i] = m, m.Claim(t)
		}
		var wg sync.WaitGroup
		granted := make([]int, agents)
		for i := range agents {
			wg.Go(func() {
				for n := range rounds {
					if i%3 == 0 && n == rounds/2 {
						if _, err := c.Broker.CancelRun(t.Context(), c.Admin, c.Env, runs[i].Run); err != nil {
							t.Error(err)
						}
					}
					_, _, err := machines[i].Get(t, runs[i], runs[i].Credential)
					if cancelled := i%3 == 0 && n >= rounds/2; cancelled {
						wantDenied(t, err, "cancelled")
					} else if err != nil {
						t.Errorf("release %d of run %d: %v", n, i, err)
					} else {
						granted[i]++
					}
				}
			})
		}
		wg.Wait()
		for i := range agents {
			r, err := c.Broker.Run(t.Context(), c.Admin, c.Env, runs[i].Run)
			if err != nil {
				t.Fatal(err)
			}
			log := strings.Join(audit(t, c, r.ID), "\n")
			for _, n := range []int{r.Releases, strings.Count(log, "release.granted ok"), strings.Count(log, "release.delivered ok")} {
				if n != granted[i] {
					t.Errorf("run %d: %d releases, audit log:\n%s\nwant %d of each", i, r.Releases, log, granted[i])
					break
				}
			}
		}
	})
}

// TestStandingReleaseFromAzure has a vault that is not embedded: it is read for
// each release.
func TestStandingReleaseFromAzure(t *testing.T) {
	n := 0
	var c *latchkeytest.Chain
	c = latchkeytest.New(t, latchkeytest.Options{OpenVault: func(ref latchkey.VaultReference, embedded bool) vault.Vault {
		if embedded {
			return nil
		}
		v, err := c.OpenVault(c.Vault.Reference()) // one at the same address for the test
		if err != nil {
			t.Error(err)
		}
		return watchedVault{v, func() error { n++; return nil }}
	}}).Chain(t)
	ref := c.Reference
	ref.ResourceGroup = "in-azure"
	if _, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Secret: &ref}); err != nil {
		t.Fatal(err)
	}
	v := c.AwaitCheck(t, c.Password.Name, latchkey.CheckUnknown)
	if _, err := c.Broker.OverrideCheck(t.Context(), c.Admin, c.Env, v.Name, v.Secret.String(), "for the test"); err != nil {
		t.Fatal(err)
	}
	c.Start(t)
	run := c.Machine.Claim(t)
	for range 3 {
		if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
			t.Fatal(err)
		}
	}
	if n != 3 {
		t.Errorf("three releases read the vault %d times; want 3", n)
	}
	want := []string{"run.start ok", "run.claim ok"}
	for range 3 {
		want = append(want, "release.granted ok", "release.delivered ok")
	}
	if got := audit(t, c, run.Run); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("audit log = %v; want %v", got, want)
	}
}

// TestForgetting looks at what stays in memory.
func TestForgetting(t *testing.T) {
	yes := true
	tests := []struct {
		name string
		do   func(t *testing.T, c *latchkeytest.Chain, clock *latchkeytest.Clock)
		want int // decisions that stay
	}{
		{"nothing happened", func(*testing.T, *latchkeytest.Chain, *latchkeytest.Clock) {}, 1},
		{"another secret rotated", func(t *testing.T, c *latchkeytest.Chain, _ *latchkeytest.Clock) { c.SetSecret(t, "another", "x") }, 1},
		{"rotated", func(t *testing.T, c *latchkeytest.Chain, _ *latchkeytest.Clock) {
			c.SetSecret(t, c.Reference.Secret, "x")
		}, 0},
		{"machine disabled", func(t *testing.T, c *latchkeytest.Chain, _ *latchkeytest.Clock) {
			if _, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &yes}); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"not used", func(_ *testing.T, _ *latchkeytest.Chain, clock *latchkeytest.Clock) { clock.Step(6 * time.Minute) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock := new(latchkeytest.Clock)
			c := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now}).Chain(t)
			warm(t, c)
			if _, err := c.Broker.AgentSession(t.Context(), c.Machine.Session().ID, ""); err != nil {
				t.Fatal(err)
			}
			tt.do(t, c, clock)
			if err := c.Broker.ForgetSome(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, sessions := c.Broker.Remembered(); n != tt.want || sessions != 1 {
				t.Errorf("%d decisions and %d sessions stay; want %d and 1", n, sessions, tt.want)
			}
			clock.Step(time.Hour)
			if err := c.Broker.ForgetSome(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, sessions := c.Broker.Remembered(); n+sessions != 0 {
				t.Errorf("%d decisions and %d sessions stay after an hour; want none", n, sessions)
			}
		})
	}
}

// TestRecordedReleaseDoesNotQuarantine repeats a request of before the newest
// release, as somebody on the network could.
func TestRecordedReleaseDoesNotQuarantine(t *testing.T) {
	clock := new(latchkeytest.Clock)
	c := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now}).Chain(t)
	c.Start(t)
	run := c.Machine.Claim(t)
	recorded := c.Machine.Session()
	for n := range 3 {
		s := recorded
		if n > 0 {
			s = c.Machine.Session()
		}
		if _, err := c.Broker.Release(t.Context(), s, run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: run.Credential, Counter: int64(n + 1)}); err != nil {
			t.Fatal(err)
		}
		clock.Step(time.Second)
	}
	_, err := c.Broker.Release(t.Context(), recorded, run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: run.Credential, Counter: 1})
	wantCode(t, err, latchkey.ErrConflict, "repeated")
	c.Machine.Release = 3
	if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
		t.Errorf("release after the repeated request: %v", err)
	}
}

// TestAuditFilters lists what is on record about a connection, its tests
// included, and about an action's prefix.
func TestAuditFilters(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url})
		beginTest(t, c, false)
		if err := signIn(t, c, ""); err != nil {
			t.Fatal(err)
		}
		for filter, want := range map[broker.AuditFilter]string{
			{Subject: string(c.Connection.ID)}:                     "connection.create connection.test",
			{Subject: string(c.Credential.ID), Action: "release."}: "release.granted release.delivered",
			{Action: "connection.", Environment: c.Env}:            "connection.create connection.create connection.test",
			{Credential: c.Credential.ID, Action: "credential."}:   "credential.create credential.expose",
		} {
			p, err := c.Broker.Audit(t.Context(), c.Admin, filter, latchkey.PageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range p.Items {
				got = append(got, string(e.Action))
			}
			if strings.Join(got, " ") != want {
				t.Errorf("audit log by %+v = %v; want %s", filter, got, want)
			}
		}
	})
}
