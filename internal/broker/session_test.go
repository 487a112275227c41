package broker_test

import (
	"errors"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func wantCode(t *testing.T, err error, kind error, code string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, kind) || e.Code != code {
		t.Errorf("error = %v; want %v with code %s", err, kind, code)
	}
}

func wantQuarantine(t *testing.T, c *latchkeytest.Chain, err error) {
	t.Helper()
	wantCode(t, err, latchkey.ErrConflict, "quarantined")
	m, err := c.Broker.Machine(t.Context(), c.Admin, c.Env, c.Machine.ID)
	if err != nil {
		t.Fatal(err)
	}
	if m.Status != latchkey.MachineQuarantined || m.StatusReason == "" {
		t.Errorf("machine is %s (%q); want quarantined with a reason", m.Status, m.StatusReason)
	}
	wantCode(t, c.Machine.Open(t, false), latchkey.ErrConflict, "quarantined")
	_, err = c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
	wantCode(t, err, latchkey.ErrConflict, "quarantined")
}

func TestTwoAgentsAreQuarantined(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, c *latchkeytest.Chain, clock *latchkeytest.Clock) error
	}{
		{"session counter steps back", func(t *testing.T, c *latchkeytest.Chain, _ *latchkeytest.Clock) error {
			c.Machine.Counter--
			return c.Machine.Open(t, false)
		}},
		{"release counter steps back", func(t *testing.T, c *latchkeytest.Chain, _ *latchkeytest.Clock) error {
			c.Start(t)
			run := c.Machine.Claim(t)
			if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
				t.Fatal(err)
			}
			c.Machine.Release--
			_, sealed, err := c.Machine.Get(t, run, run.Credential)
			if sealed.Box != nil {
				t.Error("a repeated release was answered")
			}
			return err
		}},
		{"replaced session used again", func(t *testing.T, c *latchkeytest.Chain, clock *latchkeytest.Clock) error {
			old := c.Machine.Session()
			if err := c.Machine.Open(t, false); err != nil {
				t.Fatal(err)
			}
			_, err := c.Broker.Claim(t.Context(), old, latchkey.ClaimRequest{})
			wantCode(t, err, latchkey.ErrUnauthenticated, "session-expired")
			clock.Step(61 * time.Second)
			old.At = clock.Now()
			_, err = c.Broker.Claim(t.Context(), old, latchkey.ClaimRequest{})
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock := new(latchkeytest.Clock)
			c := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now}).Chain(t)
			wantQuarantine(t, c, tt.do(t, c, clock))
		})
	}
}

func TestEnrolAnewAfterQuarantine(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	c.Machine.Counter--
	if err := c.Machine.Open(t, false); err == nil {
		t.Fatal("a step back was accepted")
	}
	token, err := c.Broker.CreateEnrolmentToken(t.Context(), c.Admin, c.Env, latchkey.EnrolmentTokenCreate{Machine: c.Machine.ID})
	if err != nil {
		t.Fatal(err)
	}
	proof, _, err := seal.ParseEnrolmentToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	if c.Machine.Keys, err = seal.NewMachineKeys(); err != nil {
		t.Fatal(err)
	}
	req := latchkey.EnrolRequest{Token: proof, Name: "any", Policy: c.Machine.Policy}
	if err := seal.SignEnrol(c.Machine.Keys, &req); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Broker.Enrol(t.Context(), req, "")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Machine != c.Machine.ID {
		t.Errorf("enrolled as %s; want %s", resp.Machine, c.Machine.ID)
	}
	c.Machine.Counter = 0
	if err := c.Machine.Open(t, false); err != nil {
		t.Fatal(err)
	}
	c.Start(t)
	run := c.Machine.Claim(t)
	if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
		t.Errorf("release after enrolling anew: %v", err)
	}
}

func TestEnrolmentTokens(t *testing.T) {
	clock := new(latchkeytest.Clock)
	s := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now})
	for _, name := range []string{"prod", "other"} {
		if _, err := s.Broker.CreateEnvironment(t.Context(), s.Admin, latchkey.EnvironmentCreate{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	enrol := func(token, name, env string) error {
		proof, _, err := seal.ParseEnrolmentToken(token)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := seal.NewMachineKeys()
		if err != nil {
			t.Fatal(err)
		}
		req := latchkey.EnrolRequest{Token: proof, Name: name, Environment: env}
		if err := seal.SignEnrol(keys, &req); err != nil {
			t.Fatal(err)
		}
		_, err = s.Broker.Enrol(t.Context(), req, "")
		return err
	}
	token := func(uses int) string {
		tok, err := s.Broker.CreateEnrolmentToken(t.Context(), s.Admin, "prod", latchkey.EnrolmentTokenCreate{Uses: uses})
		if err != nil {
			t.Fatal(err)
		}
		return tok.Token
	}
	one := token(1)
	wantCode(t, enrol(one, "bot1", "other"), latchkey.ErrDenied, "enrolment-token-environment")
	if err := enrol(one, "bot1", "prod"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, enrol(one, "bot2", ""), latchkey.ErrDenied, "enrolment-token-used")
	two := token(2)
	wantCode(t, enrol(two, "BOT1", ""), latchkey.ErrConflict, "name-taken")
	if err := enrol(two, "bot2", ""); err != nil {
		t.Fatalf("a name that was taken used the token up: %v", err)
	}
	clock.Step(time.Hour)
	wantCode(t, enrol(two, "bot3", ""), latchkey.ErrDenied, "enrolment-token-expired")
	revoked, err := s.Broker.CreateEnrolmentToken(t.Context(), s.Admin, "prod", latchkey.EnrolmentTokenCreate{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Broker.EnrolmentTokens(t.Context(), s.Admin, "prod", latchkey.PageOptions{})
	if err != nil || len(p.Items) != 1 || p.Items[0].ID != revoked.ID || p.Items[0].Token != "" {
		t.Errorf("tokens that can be used = %+v, %v; want the last one, without its value", p.Items, err)
	}
	if err := s.Broker.RevokeEnrolmentToken(t.Context(), s.Admin, "prod", revoked.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, enrol(revoked.Token, "bot5", ""), latchkey.ErrUnauthenticated, "enrolment-token-unknown")
	if err := s.Broker.RevokeEnrolmentToken(t.Context(), s.Admin, "prod", revoked.ID); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("revoke again: %v; want not found", err)
	}
	stranger := latchkeytest.New(t, latchkeytest.Options{})
	if _, err := stranger.Broker.CreateEnvironment(t.Context(), stranger.Admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Broker.CreateEnrolmentToken(t.Context(), stranger.Admin, "prod", latchkey.EnrolmentTokenCreate{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, enrol(foreign.Token, "bot4", ""), latchkey.ErrUnauthenticated, "enrolment-token-unknown")
}
