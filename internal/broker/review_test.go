package broker_test

import (
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// TestRecordedRequestDoesNotQuarantine repeats a request of a session that has
// been replaced, hours later and after the machine was enrolled anew.
func TestRecordedRequestDoesNotQuarantine(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		clock := new(latchkeytest.Clock)
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Now: clock.Now}).Chain(t)
		recorded := c.Machine.Session()
		if err := c.Machine.Open(t, false); err != nil {
			t.Fatal(err)
		}
		for _, later := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
			clock.Step(later)
			_, err := c.Broker.Claim(t.Context(), recorded, latchkey.ClaimRequest{})
			wantCode(t, err, latchkey.ErrUnauthenticated, "session-expired")
		}
		m, err := c.Broker.Machine(t.Context(), c.Admin, c.Env, c.Machine.ID)
		if err != nil || m.Status == latchkey.MachineQuarantined {
			t.Errorf("machine is %s, %v; want it not quarantined", m.Status, err)
		}
	})
}

func TestRepeatedReleaseRequestIsRefused(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	c.Start(t)
	run := c.Machine.Claim(t)
	session := c.Machine.Session()
	req := latchkey.ReleaseRequest{Claim: run.Claim, Credential: run.Credential, Counter: 1}
	if _, err := c.Broker.Release(t.Context(), session, run.Run, req); err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Broker.Release(t.Context(), session, run.Run, req)
	wantCode(t, err, latchkey.ErrConflict, "repeated")
	if sealed.Box != nil {
		t.Error("a repeated request was answered")
	}
	c.Machine.Release = 1
	if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
		t.Errorf("the next release: %v", err)
	}
}

// TestDeniedReleaseUsesItsCounter makes sure that a denied request cannot be
// granted later.
func TestDeniedReleaseUsesItsCounter(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	c.Start(t)
	run := c.Machine.Claim(t)
	yes, no := true, false
	if _, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	session := c.Machine.Session()
	req := latchkey.ReleaseRequest{Claim: run.Claim, Credential: run.Credential, Counter: 1}
	_, err := c.Broker.Release(t.Context(), session, run.Run, req)
	wantDenied(t, err, "machine-disabled")
	if _, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &no}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.Release(t.Context(), session, run.Run, req)
	wantCode(t, err, latchkey.ErrConflict, "repeated")
}

// TestSeeingAVariableIsNotEnough has an environment admin, who sees everything
// and has no role in the vault, try to make a credential of somebody's secret.
func TestSeeingAVariableIsNotEnough(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	eve := c.User(t, "eve", c.Env, latchkey.EnvAdmin)
	in := latchkey.CredentialCreate{
		Name: "mine now", Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureEnvironment,
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: c.Password.Name},
	}
	_, err := c.Broker.CreateCredential(t.Context(), eve, c.Env, in)
	wantDenied(t, err, "not-authorized")
	if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: eve.ID, Role: latchkey.VaultReader}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.CreateCredential(t.Context(), eve, c.Env, in)
	wantDenied(t, err, "not-authorized")
	if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: eve.ID, Role: latchkey.VaultSecretsUser}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Broker.CreateCredential(t.Context(), eve, c.Env, in); err != nil {
		t.Errorf("a credential of a secret that one may read: %v", err)
	}
}

func TestEnrolmentTokenEndsWithItsMakersRights(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	bob := c.User(t, "bob", c.Env, latchkey.EnvAdmin)
	token, err := c.Broker.CreateEnrolmentToken(t.Context(), bob, c.Env, latchkey.EnrolmentTokenCreate{Machine: c.Machine.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Broker.SetMember(t.Context(), c.Admin, c.Env, "bob", latchkey.EnvMaker); err != nil {
		t.Fatal(err)
	}
	proof, _, err := seal.ParseEnrolmentToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	req := latchkey.EnrolRequest{Token: proof, Name: "x"}
	if err := seal.SignEnrol(keys, &req); err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.Enrol(t.Context(), req, "")
	wantDenied(t, err, "enrolment-token-maker")
}

// TestLosingAccessReachesQueuedRuns takes from people what a queued run stands
// on.
func TestLosingAccessReachesQueuedRuns(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	maya := c.User(t, "maya", c.Env, latchkey.EnvAdmin)
	r := c.Start(t)
	run := c.Machine.Claim(t)
	if err := c.Broker.SetMember(t.Context(), c.Admin, c.Env, string(c.Admin.ID), ""); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.Machine.Get(t, run, run.Credential)
	wantDenied(t, err, "owner-left")
	if err := c.Broker.SetMember(t.Context(), maya, c.Env, string(c.Admin.ID), latchkey.EnvAdmin); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
		t.Errorf("release after the owner came back: %v", err)
	}
	if r, err = c.Broker.CancelRun(t.Context(), c.Admin, c.Env, r.ID); err != nil {
		t.Fatal(err)
	}
}

// TestCancelBeforeStart cancels a run that was claimed and not started.
func TestCancelBeforeStart(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	r := c.Start(t)
	resp, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
	if err != nil || resp.Run == nil {
		t.Fatalf("claim = %+v, %v", resp.Run, err)
	}
	if _, err := c.Broker.CancelRun(t.Context(), c.Admin, c.Env, r.ID); err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.StartClaimed(t.Context(), c.Machine.Session(), r.ID, latchkey.RunRequest{Claim: resp.Run.Claim})
	wantCode(t, err, latchkey.ErrConflict, "claim-lost")
	if r, err = c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID); err != nil || r.State != latchkey.RunCancelled {
		t.Errorf("run = %s, %v; want cancelled", r.State, err)
	}
}

func TestOverrideNamesWhatItMeans(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	seen := c.Reference.String()
	other := c.Reference
	other.Secret = "ceo-password"
	if _, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Secret: &other}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Broker.OverrideCheck(t.Context(), c.Admin, c.Env, c.Password.Name, seen, "I looked at it")
	wantCode(t, err, latchkey.ErrConflict, "reference-changed")
}
