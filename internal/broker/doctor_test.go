package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

// findings returns the states of a report's findings, by check and subject.
func findings(r latchkey.DoctorReport) map[string]latchkey.FindingState {
	states := map[string]latchkey.FindingState{}
	for _, f := range r.Findings {
		key := f.Check
		if f.Subject != "" {
			key += " " + f.Subject
		}
		states[key] = f.State
	}
	return states
}

func TestDoctor(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		c := s.Chain(t)
		ctx := t.Context()
		r, err := s.Broker.Doctor(ctx, s.Admin, latchkey.DoctorOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := findings(r)
		for _, check := range []string{"audit-written", "database", "migrations", "clock", "audit-order", "master-key", "vault-authority", "references " + c.Env} {
			if got[check] != latchkey.FindingOK {
				t.Errorf("%s is %q; want ok: %+v", check, got[check], r.Findings)
			}
		}
		// The tests' PostgreSQL runs without fsync.
		if want := map[bool]latchkey.FindingState{true: latchkey.FindingOK, false: latchkey.FindingFailed}[url == ""]; got["durability"] != want || r.Failed() != (url != "") {
			t.Errorf("durability is %q; want %q", got["durability"], want)
		}
		if r.Environment != "" || slices.ContainsFunc(r.Findings, func(f latchkey.Finding) bool { return f.Area == "machines" }) {
			t.Errorf("the installation's report says what is in an environment: %+v", r)
		}

		r, err = s.Broker.Doctor(ctx, s.Admin, latchkey.DoctorOptions{Environment: c.Env})
		if err != nil {
			t.Fatal(err)
		}
		if got := findings(r); got["references"] != latchkey.FindingOK || got["machines"] != latchkey.FindingOK || got["vaults-listed"] != latchkey.FindingWarning || r.Failed() {
			t.Errorf("Doctor = %+v", r)
		}

		// A reference to a secret that is not there has never been in force: it fails.
		// One that was in force before goes on being read.
		missing := c.Reference
		missing.Secret = "missing"
		v, err := s.Broker.CreateVariable(ctx, s.Admin, c.Env, latchkey.VariableCreate{DisplayName: "Missing", Type: latchkey.TypeSecret, Secret: &missing})
		if err != nil {
			t.Fatal(err)
		}
		text := missing.String()
		if _, err := s.Broker.UpdateVariable(ctx, s.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Value: &text}); err != nil {
			t.Fatal(err)
		}
		latchkeytest.Eventually(t, latchkeytest.Patience, "the checks", func() bool {
			r, err = s.Broker.Doctor(ctx, s.Admin, latchkey.DoctorOptions{Environment: c.Env})
			return err != nil || findings(r)["reference "+v.Name] == latchkey.FindingFailed
		})
		if err != nil || !r.Failed() {
			t.Fatalf("Doctor = %+v, %v; want failed", r, err)
		}
		for _, f := range r.Findings {
			if f.Subject == v.Name && (!strings.Contains(f.Message, "missing") || f.Remedy == "") {
				t.Errorf("%+v does not say what is wrong and what to do", f)
			}
		}
		if r, err = s.Broker.Doctor(ctx, s.Admin, latchkey.DoctorOptions{}); err != nil || findings(r)["references "+c.Env] != latchkey.FindingWarning {
			t.Errorf("the installation's report = %+v, %v; want a warning about the environment", r, err)
		}
	})
}

// TestDoctorCertificates has credentials whose certificates stand differently.
func TestDoctorCertificates(t *testing.T) {
	ca, now := pki.NewAuthority(t, "Test CA"), time.Now()
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		c := s.Chain(t)
		if r, err := s.Broker.Doctor(t.Context(), s.Admin, latchkey.DoctorOptions{Environment: c.Env}); err != nil || findings(r)["certificates"] != "" {
			t.Fatalf("Doctor = %+v, %v; want nothing of certificates where there are none", r, err)
		}
		pem := ca.Issue(t, pki.Options{UPN: certUser})
		for name, value := range map[string]string{
			"good":    ca.Issue(t, pki.Options{UPN: certUser, NotAfter: now.Add(31 * 24 * time.Hour)}).Secret(t),
			"soon":    ca.Issue(t, pki.Options{UPN: certUser, NotAfter: now.Add(29 * 24 * time.Hour)}).Secret(t),
			"expired": ca.Issue(t, pki.Options{UPN: certUser, NotAfter: now.Add(-time.Hour)}).Secret(t),
			"other":   ca.Issue(t, pki.Options{UPN: "alice@contoso.example"}).Secret(t),
			"pem":     string(pki.PEM(pem.Cert)) + string(pem.KeyPEM(t)),
		} {
			c.SetCertificate(t, name, value)
			c.Bind(t, name, certUser, name, latchkey.CredentialCreate{Authentication: latchkey.AuthenticationCertificate, Usages: []latchkey.Usage{latchkey.UsageConnection}})
		}
		want := map[string]latchkey.FindingState{
			"certificates": latchkey.FindingWarning, "certificate good": "", "certificate soon": latchkey.FindingWarning,
			"certificate expired": latchkey.FindingFailed, "certificate other": latchkey.FindingFailed, "certificate pem": latchkey.FindingFailed,
		}
		var r latchkey.DoctorReport
		latchkeytest.Eventually(t, latchkeytest.Patience, "the checks of certificates", func() bool {
			var err error
			if r, err = s.Broker.Doctor(t.Context(), s.Admin, latchkey.DoctorOptions{Environment: c.Env}); err != nil {
				t.Fatal(err)
			}
			got := findings(r)
			for check, state := range want {
				if got[check] != state {
					return false
				}
			}
			return true
		})
		for _, f := range r.Findings {
			text := map[string]string{
				"": "Of 5 certificates of credentials 4 are not in order", "soon": "is valid until", "expired": "ended on", "other": "bot@contoso.example", "pem": "kept as PEM",
			}[f.Subject]
			if (f.Check == "certificates" || f.Check == "certificate") && !strings.Contains(f.Message, text) {
				t.Errorf("%+v; want %q", f, text)
			}
			if f.Check == "certificate" && (f.Remedy == "" || !strings.HasPrefix(f.Command, "latchkey credential check cred_")) {
				t.Errorf("%+v does not say what to do", f)
			}
		}
	})
}

// TestDoctorMachines quarantines the only machine.
func TestDoctorMachines(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	c.Machine.Counter = 0
	if err := c.Machine.Open(t, false); err == nil {
		t.Fatal("a session with a used counter was opened")
	}
	m, err := s.Broker.Machine(t.Context(), s.Admin, c.Env, c.Machine.ID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Broker.Doctor(t.Context(), s.Admin, latchkey.DoctorOptions{Environment: c.Env})
	if err != nil {
		t.Fatal(err)
	}
	got := findings(r)
	if got["machine "+m.Name] != latchkey.FindingFailed || got["machines"] != latchkey.FindingFailed || !r.Failed() {
		t.Errorf("Doctor = %+v; want the quarantined machine to have failed", r)
	}
}

func TestDoctorIsFor(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	for role, allowed := range map[latchkey.EnvironmentRole]bool{latchkey.EnvAdmin: true, latchkey.EnvAuditor: true, latchkey.EnvMaker: false, latchkey.EnvUser: false} {
		who := s.User(t, "a-"+string(role), c.Env, role)
		if _, err := s.Broker.Doctor(t.Context(), who, latchkey.DoctorOptions{}); !errors.Is(err, latchkey.ErrDenied) {
			t.Errorf("the installation's doctor as %s: %v; want denied", role, err)
		}
		if _, err := s.Broker.Doctor(t.Context(), who, latchkey.DoctorOptions{Environment: c.Env}); allowed != (err == nil) || !allowed && !errors.Is(err, latchkey.ErrDenied) {
			t.Errorf("the environment's doctor as %s: %v; want allowed: %v", role, err, allowed)
		}
	}
	stranger := s.User(t, "a-stranger", "", "")
	if _, err := s.Broker.Doctor(t.Context(), stranger, latchkey.DoctorOptions{Environment: c.Env}); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("the environment's doctor as a stranger: %v; want not found", err)
	}
}
