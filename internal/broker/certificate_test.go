package broker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

const certUser = "bot@contoso.example"

// certificateChain returns a chain whose connection and flow use a certificate.
func certificateChain(t *testing.T, url string, pair *pki.Pair) *latchkeytest.Chain {
	t.Helper()
	c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
	c.SetCertificate(t, "bot-cert", pair.Secret(t))
	c.Credential = c.Bind(t, "Cert bot", certUser, "bot-cert", latchkey.CredentialCreate{
		Authentication: latchkey.AuthenticationCertificate, Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor,
	})
	var err error
	c.Connection, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, latchkey.ConnectionCreate{
		Name: "By certificate", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReleaseCertificate releases a certificate: from its vault, from memory, and
// not when it is none.
func TestReleaseCertificate(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	pair := ca.Issue(t, pki.Options{UPN: certUser})
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := certificateChain(t, url, pair)
		r := c.Start(t)
		run := c.Machine.Claim(t)
		for range 2 {
			got, _, err := c.Machine.Get(t, run, run.Credential)
			if err != nil {
				t.Fatal(err)
			}
			if got.Username != certUser || got.PFX.IsZero() || !got.Password.IsZero() {
				t.Errorf("released to %s, a PFX %v, a password %v; want the PFX alone", got.Username, !got.PFX.IsZero(), !got.Password.IsZero())
			}
		}
		pem := string(pki.PEM(pair.Cert)) + string(pair.KeyPEM(t))
		c.SetCertificate(t, "bot-cert", pem)
		_, _, err := c.Machine.Get(t, run, run.Credential)
		e, ok := errors.AsType[*latchkey.Error](err)
		if !ok || e.Code != "certificate-unusable" || !strings.Contains(e.Msg, "kept as PEM") || e.Remedy == "" || strings.Contains(e.Msg, "BEGIN") {
			t.Errorf("release of PEM = %v; want it refused, why, and what to do", err)
		}
		want := []string{
			"run.start ok", "run.claim ok", "release.granted ok", "release.delivered ok", "release.granted ok", "release.delivered ok",
			"release.granted ok", "release.failed failed certificate-unusable",
		}
		if diff := cmp.Diff(want, audit(t, c, r.ID)); diff != "" {
			t.Errorf("audit log of the run (-want +got):\n%s", diff)
		}
		if log := c.Log.String(); strings.Contains(log, "PRIVATE KEY") || strings.Contains(log, pair.Secret(t)[:40]) {
			t.Error("the certificate's key is in the log")
		}
	})
}

// TestCertificateConnection binds certificates to drivers.
func TestCertificateConnection(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	c := certificateChain(t, "", ca.Issue(t, pki.Options{UPN: certUser}))
	connect := func(d latchkey.Driver) error {
		_, err := c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, latchkey.ConnectionCreate{
			Name: "Another by " + string(d), Target: latchkey.Target{Machine: c.Machine.ID}, Driver: d, Credential: c.Credential.ID,
		})
		return err
	}
	c.Machine.Policy.Drivers = latchkey.Drivers
	c.Machine.Policy.SSHServers = []latchkey.SSHServer{{Name: "erp", Commands: []string{}}}
	if err := c.Machine.Open(t, false); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[latchkey.Driver]string{latchkey.DriverSSH: "signs in with a password", latchkey.DriverKerberos: "names no Kerberos realm"} {
		if err := connect(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("connection by %s: %v; want %q in it", d, err, want)
		}
	}
	c.Machine.Policy.Realm = "CORP.EXAMPLE"
	if err := c.Machine.Open(t, false); err != nil {
		t.Fatal(err)
	}
	if err := connect(latchkey.DriverKerberos); err != nil {
		t.Error(err)
	}
}
