package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/certs"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// day is how long tests mostly wait.
const day = 24 * time.Hour

// ecPolicy is a policy with a key that is quick to make, and with one lifetime
// action unless that is "".
func ecPolicy(issuer, action string, trigger latchkey.LifetimeTrigger) *latchkey.CertificatePolicy {
	p := &latchkey.CertificatePolicy{
		Issuer:   &latchkey.CertificateIssuer{Name: &issuer},
		Key:      &latchkey.CertificateKey{Curve: new("P-256")},
		X509:     &latchkey.CertificateX509{Subject: new("CN=example.com")},
		Lifetime: []latchkey.LifetimeAction{},
	}
	if action != "" {
		p.Lifetime = []latchkey.LifetimeAction{{Trigger: &trigger, Action: &latchkey.LifetimeDo{Type: &action}}}
	}
	return p
}

func (o *office) certificate(name string, p *latchkey.CertificatePolicy) latchkey.VaultCertificate {
	o.t.Helper()
	if _, err := o.CreateCertificate(o.t.Context(), o.admin, "erp", name, CertificateCreate{Policy: p, Tags: map[string]string{"team": "erp"}}); err != nil {
		o.t.Fatal(err)
	}
	c, err := o.Certificate(o.t.Context(), o.admin, "erp", name, "")
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// versionsOf returns the versions of a certificate, oldest first.
func (o *office) versionsOf(name string) []latchkey.VaultCertificate {
	o.t.Helper()
	p, err := o.CertificateVersions(o.t.Context(), o.admin, "erp", name, false, latchkey.PageOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	return p.Items
}

// pass lets time pass, and then does what is due.
func (o *office) pass(d time.Duration) {
	o.t.Helper()
	o.wait(d)
	for range 2 { // the second finds nothing to do
		if err := o.renew(o.t.Context()); err != nil {
			o.t.Fatal(err)
		}
	}
}

func TestRenewal(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		auto := latchkey.LifetimeTrigger{Percentage: new(80)}
		first := o.certificate("web", ecPolicy("self", latchkey.AutoRenew, auto))
		reuse := ecPolicy("self", latchkey.AutoRenew, latchkey.LifetimeTrigger{DaysBefore: new(70)})
		reuse.Key.Reuse = new(true)
		o.certificate("reuse", reuse)
		o.certificate("off", ecPolicy("self", latchkey.AutoRenew, auto))
		o.certificate("gone", ecPolicy("self", latchkey.AutoRenew, auto))
		o.certificate("plain", ecPolicy("self", "", auto))
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "off", "", CertificateUpdate{Enabled: new(false)}); err != nil {
			t.Fatal(err)
		}

		o.pass(290 * day)
		if n := len(o.versionsOf("web")); n != 1 {
			t.Errorf("%d versions before the renewal is due; want 1", n)
		}
		if _, err := o.DeleteCertificate(ctx, o.admin, "erp", "gone"); err != nil {
			t.Fatal(err)
		}
		since := o.time()
		o.pass(6 * day)
		versions := o.versionsOf("web")
		if len(versions) != 2 || !versions[1].Expires.After(first.Expires.Add(280*day)) || versions[1].Tags["team"] != "erp" || !versions[1].Enabled {
			t.Fatalf("versions = %v; want a second one, valid for a year from now, with the first's tags", versions)
		}
		s, value, err := o.Secret(ctx, o.admin, "erp", "web", "")
		if err != nil || s.Version != versions[1].Version {
			t.Fatalf("Secret = %v, %v; want the new version", s.Version, err)
		}
		pfx, err := base64.StdEncoding.DecodeString(value.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := certs.ParsePFX(pfx, ""); err != nil || string(b.Leaf.Raw) != string(versions[1].Leaf) {
			t.Errorf("the secret is not the new certificate: %v", err)
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActCertificateRenew, Since: since}, "certificate.renew ok  by "+latchkey.ServiceIdentityName+" on erp/web", "certificate.renew ok  by "+latchkey.ServiceIdentityName+" on erp/reuse")
		public := func(c latchkey.VaultCertificate) *ecdsa.PublicKey {
			cert, err := x509.ParseCertificate(c.Leaf)
			if err != nil {
				t.Fatal(err)
			}
			return cert.PublicKey.(*ecdsa.PublicKey)
		}
		if public(versions[0]).Equal(public(versions[1])) {
			t.Error("the new version has the old key")
		}
		if v := o.versionsOf("reuse"); len(v) != 2 || !public(v[0]).Equal(public(v[1])) {
			t.Errorf("%d versions of the one with the same key; want 2", len(v))
		}
		for _, name := range []string{"off", "plain"} {
			if n := len(o.versionsOf(name)); n != 1 {
				t.Errorf("%d versions of %s; want 1", n, name)
			}
		}

		// What was missed is made up for.
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "off", "", CertificateUpdate{Enabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.RecoverCertificate(ctx, o.admin, "erp", "gone"); err != nil {
			t.Fatal(err)
		}
		o.pass(0)
		for _, name := range []string{"off", "gone"} {
			if n := len(o.versionsOf(name)); n != 2 {
				t.Errorf("%d versions of %s; want 2", n, name)
			}
		}
		o.pass(295 * day)
		if n := len(o.versionsOf("web")); n != 3 {
			t.Errorf("%d versions after another year; want 3", n)
		}
	})
}

// TestPolicyStays changes one part of policies that have nothing where a default
// would be: it must not come in.
func TestPolicyStays(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		p := ecPolicy("self", "", latchkey.LifetimeTrigger{})
		p.X509.ExtendedKeyUsage, p.X509.KeyUsage = []string{}, []string{}
		o.certificate("web", p)
		_, value, err := o.Secret(ctx, o.admin, "erp", "web", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.ImportCertificate(ctx, o.admin, "erp", "copy", CertificateImport{Value: value}); err != nil {
			t.Fatal(err)
		}
		none := &latchkey.CertificatePolicy{Lifetime: []latchkey.LifetimeAction{}}
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "copy", "", CertificateUpdate{Policy: none}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"web", "copy"} {
			u := CertificateUpdate{Policy: &latchkey.CertificatePolicy{Key: &latchkey.CertificateKey{Curve: new("P-384")}}}
			if _, err := o.UpdateCertificate(ctx, o.admin, "erp", name, "", u); err != nil {
				t.Fatal(err)
			}
			c, err := o.Certificate(ctx, o.admin, "erp", name, "")
			if err != nil {
				t.Fatal(err)
			}
			if x := c.Policy.X509; len(c.Policy.Lifetime)+len(x.ExtendedKeyUsage)+len(x.KeyUsage) > 0 || *c.Policy.Key.Curve != "P-384" {
				t.Errorf("%s: policy = %+v, %+v; want no actions and no usages, and P-384", name, c.Policy.Lifetime, x)
			}
		}
		o.pass(364 * day)
		if n := len(o.versionsOf("web")); n != 1 {
			t.Errorf("%d versions; want 1, since nothing renews it", n)
		}
	})
}

// TestEndlessImport has work on certificates that does not end: it is given up,
// and keeps its turn.
func TestEndlessImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, 1)
		end := make(chan struct{})
		begin := time.Now()
		for _, what := range []string{"the work itself", "waiting for a turn"} {
			_, err := certificateWork(t.Context(), turns, func() (int, error) { <-end; return 1, nil })
			wantCode(t, what, err, latchkey.ErrUnavailable, "busy")
		}
		if took := time.Since(begin); took != 2*certificateWorkTime {
			t.Errorf("both were given up after %s; want %s", took, 2*certificateWorkTime)
		}
		close(end)
		synctest.Wait()
		if n, err := certificateWork(t.Context(), turns, func() (int, error) { return 2, nil }); n != 2 || err != nil {
			t.Errorf("afterwards = %d, %v; want the result", n, err)
		}
	})
}

// TestUnmakableKeys changes policies to keys that the vault cannot make.
func TestUnmakableKeys(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		before := latchkey.LifetimeTrigger{DaysBefore: new(30)}
		o.certificate("renewed", ecPolicy("self", latchkey.AutoRenew, before))
		o.certificate("told", ecPolicy("self", latchkey.EmailContacts, before))
		change := func(name string, p latchkey.CertificatePolicy) error {
			_, err := o.UpdateCertificate(ctx, o.admin, "erp", name, "", CertificateUpdate{Policy: &p})
			return err
		}
		field := func(what string, err error, want string) {
			t.Helper()
			e, ok := errors.AsType[*latchkey.Error](err)
			if !ok || !errors.Is(err, latchkey.ErrInvalid) || len(e.Fields) != 1 || e.Fields[0].Field != want {
				t.Errorf("%s: %v; want %s refused", what, err, want)
			}
		}
		koblitz := latchkey.CertificatePolicy{Key: &latchkey.CertificateKey{Curve: new("P-256K")}}
		field("P-256K", change("renewed", koblitz), "policy.key_props.crv")
		field("EC-HSM", change("renewed", latchkey.CertificatePolicy{Key: &latchkey.CertificateKey{Type: new("EC-HSM"), Curve: new("P-256")}}), "policy.key_props.kty")
		if c, err := o.Certificate(ctx, o.admin, "erp", "renewed", ""); err != nil || *c.Policy.Key.Curve != "P-256" {
			t.Errorf("after what was refused: %+v, %v; want the policy as it was", c.Policy.Key, err)
		}
		// Nothing is made by this policy until it says to renew.
		if err := change("told", koblitz); err != nil {
			t.Error(err)
		}
		field("renewal on P-256K", change("told", latchkey.CertificatePolicy{Lifetime: ecPolicy("self", latchkey.AutoRenew, before).Lifetime}), "policy.key_props.crv")
		_, err := o.CreateCertificate(ctx, o.admin, "erp", "told", CertificateCreate{})
		if !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("a version by the policy: %v; want it refused", err)
		}
	})
}

// TestNearExpiry has certificates come to their end that are not renewed.
func TestNearExpiry(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		if err := o.SetContacts(ctx, o.admin, "erp", []latchkey.CertificateContact{{Email: "a@example.com"}, {Email: "b@example.com"}}); err != nil {
			t.Fatal(err)
		}
		before := latchkey.LifetimeTrigger{DaysBefore: new(30)}
		o.certificate("told", ecPolicy("self", latchkey.EmailContacts, before))
		o.certificate("changed", ecPolicy("self", latchkey.AutoRenew, before))
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "changed", "", CertificateUpdate{Policy: &latchkey.CertificatePolicy{X509: &latchkey.CertificateX509{Subject: new("no subject")}}}); err != nil {
			t.Fatal(err)
		}
		o.certificate("foreign", ecPolicy("self", latchkey.AutoRenew, before))
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "foreign", "", CertificateUpdate{Policy: &latchkey.CertificatePolicy{Issuer: &latchkey.CertificateIssuer{Name: new("Unknown")}}}); err != nil {
			t.Fatal(err)
		}
		o.pass(330 * day)
		o.wantTrail(db.AuditFilter{Action: latchkey.ActCertificateNearExpiry})
		o.pass(6 * day)
		o.pass(20 * day)
		p, err := o.Audit(ctx, o.admin, AuditFilter{Action: latchkey.ActCertificateNearExpiry}, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[string]string{}
		for _, e := range p.Items {
			if reasons[e.SubjectName] != "" {
				t.Errorf("%s is told twice", e.SubjectName)
			}
			reasons[e.SubjectName] = e.Details["reason"]
			if e.Details["contacts"] != "a@example.com, b@example.com" || e.Details["expires"] == "" {
				t.Errorf("%s: details = %v; want whom to tell and until when", e.SubjectName, e.Details)
			}
		}
		for name, want := range map[string]string{"erp/told": "policy says to tell", "erp/changed": "cannot be renewed", "erp/foreign": "issuer is not the vault"} {
			if !strings.Contains(reasons[name], want) {
				t.Errorf("reason of %s = %q; want %q in it", name, reasons[name], want)
			}
		}
		for _, name := range []string{"told", "changed", "foreign"} {
			if n := len(o.versionsOf(name)); n != 1 {
				t.Errorf("%d versions of %s; want 1", n, name)
			}
			// A change of the policy tells nothing anew that was told.
			if _, err := o.UpdateCertificate(ctx, o.admin, "erp", name, "", CertificateUpdate{Tags: &map[string]string{"x": "y"}}); err != nil {
				t.Fatal(err)
			}
		}
		o.pass(0)
		p, err = o.Audit(ctx, o.admin, AuditFilter{Action: latchkey.ActCertificateNearExpiry, Subject: vaultARM(o, "erp") + "/certificates/told"}, latchkey.PageOptions{})
		if err != nil || len(p.Items) != 1 {
			t.Errorf("%d entries about the one that was told, %v; want 1", len(p.Items), err)
		}
	})
}

func vaultARM(o *office, name string) string {
	o.t.Helper()
	v, err := o.Vault(o.t.Context(), o.admin, name)
	if err != nil {
		o.t.Fatal(err)
	}
	return v.ARMID
}

// TestCertificatesAtRest opens everything that certificates and issuers have
// sealed, by the list that changes of the master key go by, and looks for keys
// that are not sealed.
func TestCertificatesAtRest(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		o.certificate("Web", ecPolicy("self", "", latchkey.LifetimeTrigger{}))
		o.certificate("waiting", ecPolicy("Unknown", "", latchkey.LifetimeTrigger{}))
		if _, err := o.SetIssuer(ctx, o.admin, "erp", "Ours", IssuerUpdate{Provider: new("x"), Password: new(latchkey.NewSecret(vaultCanary))}); err != nil {
			t.Fatal(err)
		}
		all, err := KeyStatuses(ctx, o.db, o.key, true)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{"vault_certificate_keys.private_key": 2, "vault_issuers.password": 1, "vault_secret_versions.value": 2}
		for column, n := range want {
			if got := all[0].In[column]; got != n || all[0].Bad != 0 {
				t.Errorf("%d boxes in %s, %d of them bad (%s); want %d good ones", got, column, all[0].Bad, all[0].First, n)
			}
		}
		err = o.db.View(ctx, func(tx *db.Tx) error {
			tables, err := db.Tables(ctx, 0)
			if err != nil {
				return err
			}
			for _, table := range tables {
				err = errors.Join(err, tx.EachRow(table, func(values []any) error {
					for i, v := range values {
						b, _ := v.([]byte)
						if _, err := x509.ParsePKCS8PrivateKey(b); err == nil || strings.Contains(string(b), vaultCanary) {
							t.Errorf("%s.%s holds a secret that is not sealed", table.Name, table.Columns[i].Name)
						}
					}
					return nil
				}))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.DeleteVault(ctx, o.admin, "erp"); err == nil || !strings.Contains(err.Error(), "2 certificates") {
			t.Errorf("DeleteVault = %v; want it to say that there are certificates", err)
		}
	})
}

func TestPurgeCertificates(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp") // keeps deleted ones for 7 days
		o.certificate("web", ecPolicy("self", "", latchkey.LifetimeTrigger{}))
		o.certificate("waiting", ecPolicy("Unknown", "", latchkey.LifetimeTrigger{}))
		o.certificate("kept", ecPolicy("self", "", latchkey.LifetimeTrigger{}))
		for _, name := range []string{"web", "waiting"} {
			if _, err := o.DeleteCertificate(ctx, o.admin, "erp", name); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			o.wait(4 * day)
			if err := o.purge(ctx); err != nil {
				t.Fatal(err)
			}
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActCertificatePurge}, "certificate.purge ok  by "+latchkey.ServiceIdentityName+" on erp/web", "certificate.purge ok  by "+latchkey.ServiceIdentityName+" on erp/waiting")
		o.wantTrail(db.AuditFilter{Action: latchkey.ActSecretPurge}) // it goes with its certificate
		_, err := o.DeletedCertificate(ctx, o.admin, "erp", "web")
		o.fails(err, latchkey.ErrNotFound, codeDeletedCertificateNotFound)
		if _, err := o.put(o.admin, "erp", "web"); err != nil {
			t.Errorf("SetSecret of a purged name = %v; want a new secret", err)
		}
		if _, err := o.Certificate(ctx, o.admin, "erp", "kept", ""); err != nil {
			t.Errorf("Certificate after the purge = %v", err)
		}
	})
}

// TestCertificateTrail has every operation on record, reads included.
func TestCertificateTrail(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		since := db.AuditFilter{Since: o.time(), Action: "certificate."}
		o.certificate("web", ecPolicy("self", "", latchkey.LifetimeTrigger{}))
		o.certificate("late", ecPolicy("Unknown", "", latchkey.LifetimeTrigger{}))
		if _, err := o.CertificateOperation(ctx, o.admin, "erp", "late"); err != nil {
			t.Fatal(err)
		}
		if _, err := o.CancelCertificate(ctx, o.admin, "erp", "late"); err != nil {
			t.Fatal(err)
		}
		if _, err := o.DeleteCertificateOperation(ctx, o.admin, "erp", "late"); err != nil {
			t.Fatal(err)
		}
		o.versionsOf("web")
		blob, err := o.BackupCertificate(ctx, o.admin, "erp", "web")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.DeleteCertificate(ctx, o.admin, "erp", "web"); err != nil {
			t.Fatal(err)
		}
		if err := o.PurgeCertificate(ctx, o.admin, "erp", "web"); err != nil {
			t.Fatal(err)
		}
		if _, err := o.RestoreCertificate(ctx, o.admin, "erp", blob); err != nil {
			t.Fatal(err)
		}
		_, err = o.Certificate(ctx, o.bob, "erp", "web", "")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		var want []string
		for _, s := range []string{
			"create ok  by admin on erp/web", "get ok  by admin on erp/web", "create ok  by admin on erp/late", "get ok  by admin on erp/late",
			"get ok  by admin on erp/late", "cancel ok  by admin on erp/late", "cancel ok  by admin on erp/late",
			"list ok  by admin on erp/web", "backup ok  by admin on erp/web", "delete ok  by admin on erp/web", "purge ok  by admin on erp/web",
			"restore ok  by admin on erp/web", "get denied ForbiddenByRbac by bob on erp/web",
		} {
			want = append(want, "certificate."+s)
		}
		if d := cmp.Diff(want, o.trail(since)); d != "" {
			t.Errorf("audit (-want +got):\n%s", d)
		}
		_, err = o.Certificate(ctx, o.admin, "erp", "late", "")
		o.fails(err, latchkey.ErrNotFound, codeCertificateNotFound) // it never had a version
	})
}

// FuzzVaultBackup changes a backup, which must then not be restored, and gives
// texts that are none.
func FuzzVaultBackup(f *testing.F) {
	d, err := db.Open(f.Context(), db.Config{URL: filepath.Join(f.TempDir(), "latchkey.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	defer d.Close()
	b, err := New(f.Context(), Config{
		DB: d, Key: seal.NewKey(), Log: slog.New(slog.DiscardHandler), VaultURL: func(string) string { return "" },
		OpenVault: func(latchkey.VaultReference, bool) (vault.Vault, error) { return nil, errors.New("no vault here") },
		Inspect:   func(context.Context, vault.Question) []latchkey.CheckResult { return nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	var blob string
	err = d.Update(f.Context(), func(tx *db.Tx) (err error) {
		blob, err = b.sealBackup(&vaultOp{op{tx, serviceCaller}, latchkey.EmbeddedVault{}, secretObject("password")}, secretBackup{Name: "password"})
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	original, err := base64.RawURLEncoding.DecodeString(blob)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(original)
	f.Add([]byte(b.backupLine(latchkey.VaultSecrets) + "\n"))
	f.Add([]byte(b.backupLine(latchkey.VaultCertificates) + "\nx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var backup secretBackup
		err := b.openBackup(latchkey.VaultSecrets, base64.RawURLEncoding.EncodeToString(text), &backup)
		switch {
		case err == nil && !slices.Equal(text, original):
			t.Errorf("a changed backup opens: %x", text)
		case err != nil && !errors.Is(err, latchkey.ErrInvalid):
			t.Errorf("openBackup = %v; want invalid", err)
		}
	})
}

// TestBackupGivesNoKey has somebody back a certificate up who may do everything with
// certificates and read no secret: restored in a vault of their own the backup would
// give them the key. One whose key never leaves the vault gives nothing.
func TestBackupGivesNoKey(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		o.certificate("web", ecPolicy("self", "", latchkey.LifetimeTrigger{}))
		kept := ecPolicy("self", "", latchkey.LifetimeTrigger{})
		kept.Key.Exportable = new(false)
		o.certificate("kept", kept)
		if _, err := o.AssignRole(ctx, o.admin, "erp", latchkey.RoleAssignmentCreate{Principal: o.ada.ID, Role: latchkey.VaultCertificatesOfficer}); err != nil {
			t.Fatal(err)
		}
		_, err := o.BackupCertificate(ctx, o.ada, "erp", "web")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		if e, ok := errors.AsType[*latchkey.Error](err); ok && e.Check != string(latchkey.VaultGetSecret) {
			t.Errorf("refused for %s; want %s", e.Check, latchkey.VaultGetSecret)
		}
		if _, err := o.BackupCertificate(ctx, o.ada, "erp", "kept"); err != nil {
			t.Errorf("backup of a certificate whose key stays: %v", err)
		}
		if _, err := o.AssignRole(ctx, o.admin, "erp", latchkey.RoleAssignmentCreate{Principal: o.ada.ID, Role: latchkey.VaultSecretsUser, Secret: "web"}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.BackupCertificate(ctx, o.ada, "erp", "web"); err != nil {
			t.Errorf("backup by who may read the secret: %v", err)
		}
	})
}

// TestRenewalThatCannotBeKept changes a certificate's policy so that the next version
// would be too large: it is told of once, and others are renewed.
func TestRenewalThatCannotBeKept(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.safe("erp")
		since := db.AuditFilter{Since: o.time(), Action: "certificate.near-expiry"}
		trigger := latchkey.LifetimeTrigger{DaysBefore: new(20)}
		o.certificate("large", ecPolicy("self", latchkey.AutoRenew, trigger))
		o.certificate("other", ecPolicy("self", latchkey.AutoRenew, trigger))
		names := &latchkey.CertificateNames{}
		for i := range latchkey.MaxCertificateNames {
			names.DNS = append(names.DNS, fmt.Sprintf("%03d.%s.example", i, strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 50)+".", 4), ".")))
		}
		change := latchkey.CertificatePolicy{X509: &latchkey.CertificateX509{Subject: new("CN=example.com"), Names: names}}
		if _, err := o.UpdateCertificate(ctx, o.admin, "erp", "large", "", CertificateUpdate{Policy: &change}); err != nil {
			t.Fatal(err)
		}
		o.pass(360 * 24 * time.Hour)
		if n := len(o.versionsOf("other")); n != 2 {
			t.Errorf("the other certificate has %d versions; want 2", n)
		}
		if n, told := len(o.versionsOf("large")), o.trail(since); n != 1 || len(told) != 1 {
			t.Errorf("the large one has %d versions, and was told of by %q; want 1, and once", n, told)
		}
	})
}
