package broker_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
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

// awaitCertificate waits until a credential's certificate was looked at, and what
// was found is as ok wants it.
func awaitCertificate(t *testing.T, c *latchkeytest.Chain, what string, ok func(latchkey.CertificateCheck) bool) latchkey.CertificateCheck {
	t.Helper()
	var last latchkey.CertificateCheck
	latchkeytest.Eventually(t, latchkeytest.Patience, what, func() bool {
		got, err := c.Broker.Credential(t.Context(), c.Admin, c.Env, c.Credential.ID)
		if err != nil || got.Certificate == nil {
			t.Fatalf("credential %+v, %v; want one with a check", got, err)
		}
		last = *got.Certificate
		return last.State != latchkey.CheckChecking && ok(last)
	})
	return last
}

// TestCertificateCheck has a certificate looked at for every reason that there is.
func TestCertificateCheck(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	pair := ca.Issue(t, pki.Options{UPN: certUser})
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := certificateChain(t, url, pair)
		state := func(want latchkey.CheckState) func(latchkey.CertificateCheck) bool {
			return func(r latchkey.CertificateCheck) bool { return r.State == want }
		}
		got := awaitCertificate(t, c, "the check of a new credential", state(latchkey.CheckPassed))
		if got.ExpiresAt == nil || !got.ExpiresAt.Equal(pair.Cert.NotAfter) || got.Subject != "CN=bot" || got.Version == "" || got.CheckedAt == nil || got.NextAt == nil || len(got.Findings) == 0 {
			t.Errorf("check = %+v; want what is public of the certificate, and when it is looked at again", got)
		}
		list, err := c.Broker.Credentials(t.Context(), c.Admin, c.Env, latchkey.PageOptions{})
		if err != nil || len(list.Items) != 2 || list.Items[0].Certificate == nil || list.Items[0].Certificate.ExpiresAt == nil || list.Items[1].Certificate != nil {
			t.Errorf("credentials = %+v, %v; want the expiry of the one that has a certificate", list.Items, err)
		}
		link, _, err := c.Broker.SignInLink(t.Context(), c.Admin)
		if err != nil {
			t.Fatal(err)
		}
		session, err := c.Broker.StartSession(t.Context(), link, broker.Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		r, page := httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/e/"+c.Env+"/credentials", nil), httptest.NewRecorder()
		r.AddCookie(&http.Cookie{Name: "latchkey_session", Value: session.Value})
		c.Handler(t).ServeHTTP(page, r)
		if want := "data-label=\"Expires\"><time datetime=\"" + pair.Cert.NotAfter.UTC().Format(time.RFC3339); !strings.Contains(page.Body.String(), want) {
			t.Errorf("the list of credentials is %d without %q", page.Code, want)
		}

		// The user name.
		other := "alice@contoso.example"
		if _, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Credential.Slots[latchkey.SlotUsername], latchkey.VariableUpdate{Value: &other}); err != nil {
			t.Fatal(err)
		}
		got = awaitCertificate(t, c, "the check for another user name", state(latchkey.CheckFailed))
		if !strings.Contains(got.Message, other) || got.Remedy == "" {
			t.Errorf("check = %+v; want that the certificate is not the user's", got)
		}

		// The tenant's bindings.
		bindings := latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{{Field: latchkey.FieldSubject, Attribute: latchkey.AttributeCertificateUserIDs}}}
		if _, err := c.Broker.SetCertificateBindings(t.Context(), c.Admin, bindings); err != nil {
			t.Fatal(err)
		}
		awaitCertificate(t, c, "the check under other bindings", func(r latchkey.CertificateCheck) bool {
			return r.State == latchkey.CheckUnknown && strings.Contains(r.Message, "X509:<S>CN=bot")
		})
		back, err := c.Broker.CertificateBindings(t.Context(), c.Admin)
		if err != nil || len(back.Bindings) != 1 || back.Bindings[0].Field != latchkey.FieldSubject || back.Affinity != latchkey.AffinityLow {
			t.Errorf("bindings = %+v, %v; want those that were set", back, err)
		}

		// Another certificate, on demand and by a release.
		c.SetCertificate(t, "bot-cert", "no certificate")
		if _, err := c.Broker.CheckCredential(t.Context(), c.Admin, c.Env, c.Credential.ID); err != nil {
			t.Fatal(err)
		}
		got = awaitCertificate(t, c, "the check on demand", state(latchkey.CheckFailed))
		if !strings.Contains(got.Message, "not a PFX") || got.ExpiresAt != nil {
			t.Errorf("check = %+v; want that it is no certificate", got)
		}
		c.SetCertificate(t, "bot-cert", ca.Issue(t, pki.Options{CommonName: "next"}).Secret(t))
		c.Start(t)
		run := c.Machine.Claim(t)
		if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
			t.Fatal(err)
		}
		awaitCertificate(t, c, "the check after a release", func(r latchkey.CertificateCheck) bool { return r.Subject == "CN=next" })

		// A failed check warns; the release above went on. Each is on record, before it reads.
		p, err := c.Broker.Audit(t.Context(), c.Admin, broker.AuditFilter{Credential: c.Credential.ID}, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		for _, e := range p.Items {
			switch {
			case e.Action == latchkey.ActCertificateRead:
				read++
			case e.Action == latchkey.ActCredentialCheck && e.Actor == latchkey.ServiceIdentity:
				if read--; read < 0 {
					t.Errorf("a result is on record without the reading of its certificate: %+v", p.Items)
				}
			}
		}
		if read != 0 || len(p.Items) < 10 {
			t.Errorf("%d readings without a result, %d entries", read, len(p.Items))
		}
		if log := c.Log.String(); strings.Contains(log, pair.Secret(t)[:40]) {
			t.Error("the certificate is in the log")
		}
	})
}

// TestCertificateRights has the wrong people ask, and for the wrong thing.
func TestCertificateRights(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	c := certificateChain(t, "", ca.Issue(t, pki.Options{UPN: certUser}))
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	if _, err := c.Broker.CheckCredential(t.Context(), maker, c.Env, c.Credential.ID); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("a check of what one does not see = %v; want not found", err)
	}
	if _, err := c.Broker.CertificateBindings(t.Context(), maker); !errors.Is(err, latchkey.ErrDenied) {
		t.Errorf("bindings for a maker = %v; want denied", err)
	}
	if _, err := c.Broker.SetCertificateBindings(t.Context(), maker, latchkey.DefaultCertificateBindings()); !errors.Is(err, latchkey.ErrDenied) {
		t.Errorf("setting bindings by a maker = %v; want denied", err)
	}
	list, err := c.Broker.Credentials(t.Context(), c.Admin, c.Env, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list.Items {
		if x.Authentication == latchkey.AuthenticationPassword {
			_, err := c.Broker.CheckCredential(t.Context(), c.Admin, c.Env, x.ID)
			if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != "no-certificate" {
				t.Errorf("check of a password = %v; want no-certificate", err)
			}
		}
	}
	for _, bad := range []latchkey.CertificateBindings{
		{}, {Bindings: []latchkey.CertificateBinding{{Field: "x", Attribute: latchkey.AttributeUPN}}},
		{Bindings: []latchkey.CertificateBinding{{Field: latchkey.FieldSKI, Attribute: latchkey.AttributeUPN}}},
		{Bindings: latchkey.DefaultCertificateBindings().Bindings, Affinity: "x"},
		{Bindings: latchkey.DefaultCertificateBindings().Bindings, HighPolicies: []string{"1.x"}},
	} {
		if _, err := c.Broker.SetCertificateBindings(t.Context(), c.Admin, bad); !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("bindings %+v = %v; want invalid", bad, err)
		}
	}
}

// TestCertificateAccounts says what the directory has of users: who may, whose a value
// is, and that certificates are looked at again.
func TestCertificateAccounts(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := certificateChain(t, url, ca.Issue(t, pki.Options{UPN: certUser}))
		ctx, b := t.Context(), c.Broker
		bindings := latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{{Field: latchkey.FieldSubject, Attribute: latchkey.AttributeCertificateUserIDs}}}
		if _, err := b.SetCertificateBindings(ctx, c.Admin, bindings); err != nil {
			t.Fatal(err)
		}
		state := func(want latchkey.CheckState) {
			t.Helper()
			awaitCertificate(t, c, "the check to be "+string(want), func(r latchkey.CertificateCheck) bool { return r.State == want })
		}
		state(latchkey.CheckUnknown)
		set := func(who latchkey.Caller, upn string, ids ...string) error {
			_, err := b.SetCertificateAccount(ctx, who, upn, latchkey.CertificateAccountSet{CertificateUserIDs: ids})
			return err
		}
		if err := set(c.Admin, strings.ToUpper(certUser), "X509:<PN>x", "X509:<S>CN=bot"); err != nil {
			t.Fatal(err)
		}
		state(latchkey.CheckPassed)
		if err := set(c.Admin, certUser, "X509:<S>CN=bot"); err != nil { // again, in place of it
			t.Fatal(err)
		}
		maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
		long := "X509:<PN>" + strings.Repeat("x", 1024)
		for name, tt := range map[string]struct {
			err  error
			want error
		}{
			"a maker":              {set(maker, certUser), latchkey.ErrDenied},
			"another's value":      {set(c.Admin, "eve@contoso.example", "X509:<S>CN=bot"), latchkey.ErrConflict},
			"six values":           {set(c.Admin, certUser, "X509:<S>1", "X509:<S>2", "X509:<S>3", "X509:<S>4", "X509:<S>5", "X509:<S>6"), latchkey.ErrInvalid},
			"a long value":         {set(c.Admin, certUser, long), latchkey.ErrInvalid},
			"a prefix in capitals": {set(c.Admin, certUser, "X509:<ski>ab01"), latchkey.ErrInvalid},
			"no value":             {set(c.Admin, certUser, "X509:<SKI>"), latchkey.ErrInvalid},
			"no issuer":            {set(c.Admin, certUser, "X509:<I><SR>01"), latchkey.ErrInvalid},
			"twice":                {set(c.Admin, certUser, "X509:<S>1", "X509:<S>1"), latchkey.ErrInvalid},
			"no UPN":               {set(c.Admin, "bot"), latchkey.ErrInvalid},
			"removal by a maker":   {b.RemoveCertificateAccount(ctx, maker, certUser), latchkey.ErrDenied},
			"removal of nothing":   {b.RemoveCertificateAccount(ctx, c.Admin, "eve@contoso.example"), latchkey.ErrNotFound},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("%s: %v; want %v", name, tt.err, tt.want)
			}
		}
		if err := set(c.Admin, "amy@contoso.example", "X509:<I>CN=CA<SR>01"); err != nil {
			t.Fatal(err)
		}
		p, err := b.CertificateAccounts(ctx, c.Admin, latchkey.PageOptions{Limit: 1})
		if err != nil || len(p.Items) != 1 || p.Items[0].UPN != "amy@contoso.example" || p.Next == "" {
			t.Errorf("accounts = %+v, %v; want the first of two", p, err)
		}
		p, err = b.CertificateAccounts(ctx, c.Admin, latchkey.PageOptions{Limit: 1, After: p.Next})
		if err != nil || len(p.Items) != 1 || p.Items[0].UPN != certUser || !cmp.Equal(p.Items[0].CertificateUserIDs, []string{"X509:<S>CN=bot"}) || p.Next != "" {
			t.Errorf("accounts = %+v, %v; want the second of two, with what was said last", p, err)
		}
		if err := b.RemoveCertificateAccount(ctx, c.Admin, certUser); err != nil {
			t.Fatal(err)
		}
		state(latchkey.CheckUnknown)
		if err := set(c.Admin, "eve@contoso.example", "X509:<S>CN=bot"); err != nil {
			t.Errorf("a value that is nobody's any more: %v", err)
		}
	})
}
