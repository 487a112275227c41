package keyvault_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// certificates is Microsoft's client of a vault's certificates.
func (f *face) certificates(t *testing.T, who latchkey.Caller, vault string) *azcertificates.Client {
	t.Helper()
	c, err := azcertificates.NewClient(f.url(vault), as{f, who}, &azcertificates.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: f.http, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certPolicy is a policy with an EC key, which is quick to make.
func certPolicy(issuer string) *azcertificates.CertificatePolicy {
	return &azcertificates.CertificatePolicy{
		IssuerParameters:          &azcertificates.IssuerParameters{Name: &issuer},
		KeyProperties:             &azcertificates.KeyProperties{KeyType: new(azcertificates.KeyTypeEC), Curve: new(azcertificates.CurveNameP256)},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: new("CN=example.com")},
	}
}

func create(t *testing.T, c *azcertificates.Client, name string, p *azcertificates.CertificatePolicy) azcertificates.CreateCertificateResponse {
	t.Helper()
	r, err := c.CreateCertificate(t.Context(), name, azcertificates.CreateCertificateParameters{CertificatePolicy: p, Tags: map[string]*string{"team": new("erp")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func getCertificate(t *testing.T, c *azcertificates.Client, name string) azcertificates.Certificate {
	t.Helper()
	r, err := c.GetCertificate(t.Context(), name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Certificate
}

func secretOf(t *testing.T, c *azsecrets.Client, name string, o *azsecrets.GetSecretOptions) azsecrets.Secret {
	t.Helper()
	s, err := c.GetSecret(t.Context(), name, "", o)
	if err != nil {
		t.Fatal(err)
	}
	return s.Secret
}

func TestCertificateSecretAndKey(t *testing.T) {
	f := newFace(t)
	c, s, ctx := f.certificates(t, f.Admin, "erp"), f.client(t, f.Admin, "erp"), t.Context()
	op := create(t, c, "web", certPolicy("self"))
	if op.ID.Name() != "web" || *op.Status != "inProgress" || *op.IssuerParameters.Name != "self" || len(*op.RequestID) != 32 {
		t.Errorf("CreateCertificate = %+v; want one in progress", op.CertificateOperation)
	}
	if done, err := c.GetCertificateOperation(ctx, "web", nil); err != nil || *done.Status != "completed" || *done.Target != f.url("erp")+"/certificates/web" {
		t.Errorf("GetCertificateOperation = %+v, %v; want it completed", done.CertificateOperation, err)
	}
	got := getCertificate(t, c, "web")
	for id, collection := range map[*azcertificates.ID]string{got.ID: "certificates", got.KID: "keys", got.SID: "secrets"} {
		if want := f.url("erp") + "/" + collection + "/web/" + got.ID.Version(); string(*id) != want {
			t.Errorf("id = %s; want %s", *id, want)
		}
	}
	cert, err := x509.ParseCertificate(got.CER)
	if err != nil || cert.Subject.CommonName != "example.com" || *got.Tags["team"] != "erp" || !got.Attributes.Expires.Equal(cert.NotAfter) {
		t.Errorf("certificate = %v, %v; want one for example.com with its tag and end", got.ID, err)
	}

	secret := secretOf(t, s, "web", nil)
	if !*secret.Managed || *secret.KID != azsecrets.ID(*got.KID) || *secret.ContentType != "application/x-pkcs12" || *secret.Tags["team"] != "erp" || !secret.Attributes.Expires.Equal(cert.NotAfter) {
		t.Errorf("secret = %+v; want that of the certificate", secret.ID)
	}
	pfx, err := base64.StdEncoding.DecodeString(*secret.Value)
	if err != nil {
		t.Fatal(err)
	}
	key, leaf, err := pkcs12.Decode(pfx, "")
	if err != nil || !leaf.Equal(cert) || !key.(*ecdsa.PrivateKey).PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the secret is no PFX with the certificate and its key: %v", err)
	}
	asPEM := secretOf(t, s, "web", &azsecrets.GetSecretOptions{OutContentType: new(azsecrets.ContentTypePEM)})
	if block, rest := pem.Decode([]byte(*asPEM.Value)); block == nil || block.Type != "PRIVATE KEY" || !strings.Contains(string(rest), "BEGIN CERTIFICATE") || *asPEM.ContentType != "application/x-pem-file" {
		t.Errorf("as PEM, the secret has the content type %s and does not begin with the key", *asPEM.ContentType)
	}

	resp, body := f.send(t, request{method: "GET", target: "/keys/web/" + got.ID.Version() + v})
	var bundle struct {
		Key     struct{ Kid, Kty, Crv, X, Y string }
		Managed bool
	}
	if err := json.Unmarshal(body, &bundle); err != nil || resp.StatusCode != 200 || !bundle.Managed || bundle.Key.Kid != string(*got.KID) || bundle.Key.Kty != "EC" || bundle.Key.Crv != "P-256" {
		t.Errorf("key = %d %s", resp.StatusCode, body)
	}
	point := []byte{4} // uncompressed
	for _, number := range []string{bundle.Key.X, bundle.Key.Y} {
		b, err := base64.RawURLEncoding.DecodeString(number)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	if public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil || !public.Equal(cert.PublicKey) {
		t.Errorf("x = %s, y = %s, %v; want the certificate's key", bundle.Key.X, bundle.Key.Y, err)
	}
	for _, path := range []string{"/keys", "/keys/web/versions"} {
		if resp, body := f.send(t, request{method: "GET", target: path + v}); resp.StatusCode != 200 || !strings.Contains(string(body), "/keys/web") {
			t.Errorf("GET %s = %d %s; want the key", path, resp.StatusCode, body)
		}
	}

	// The secret follows the certificate, and is not changed by itself.
	_, err = s.SetSecret(ctx, "web", text(canary), nil)
	if got := refused(t, err, 403, "Forbidden", "SecretManagedByCertificate"); !strings.Contains(got, "Operation set is not allowed on the secret web") {
		t.Errorf("message = %q", got)
	}
	_, err = s.DeleteSecret(ctx, "web", nil)
	refused(t, err, 403, "Forbidden", "SecretManagedByCertificate")
	_, err = s.BackupSecret(ctx, "web", nil)
	refused(t, err, 403, "Forbidden", "SecretManagedByCertificate")
	_, err = s.UpdateSecretProperties(ctx, "web", "", azsecrets.UpdateSecretPropertiesParameters{ContentType: new("x")}, nil)
	refused(t, err, 403, "Forbidden", "SecretManagedByCertificate")
	if _, err := c.UpdateCertificate(ctx, "web", "", azcertificates.UpdateCertificateParameters{
		CertificateAttributes: &azcertificates.CertificateAttributes{Enabled: new(false), Expires: new(time.Unix(1, 0))}, Tags: map[string]*string{"new": new("tag")},
	}, nil); err != nil {
		t.Fatal(err)
	}
	if got := getCertificate(t, c, "web"); *got.Attributes.Enabled || got.Tags["team"] != nil || *got.Tags["new"] != "tag" || !got.Attributes.Expires.Equal(cert.NotAfter) {
		t.Errorf("after UpdateCertificate: %+v, %v; want it disabled, with the new tag and the end of the certificate", got.Attributes, got.Tags)
	}
	_, err = s.GetSecret(ctx, "web", "", nil)
	refused(t, err, 403, "Forbidden", "SecretDisabled")
	if _, err := c.DeleteCertificate(ctx, "web", nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetSecret(ctx, "web", "", nil)
	refused(t, err, 404, "SecretNotFound", "")
	_, err = s.RecoverDeletedSecret(ctx, "web", nil)
	refused(t, err, 403, "Forbidden", "SecretManagedByCertificate")
	_, err = c.CreateCertificate(ctx, "web", azcertificates.CreateCertificateParameters{CertificatePolicy: certPolicy("self")}, nil)
	if got := refused(t, err, 409, "Conflict", "ObjectIsDeletedButRecoverable"); !strings.HasPrefix(got, "Certificate web is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the certificate can only") {
		t.Errorf("message = %q", got)
	}
	if resp, body := f.send(t, request{method: "GET", target: "/deletedkeys/web" + v}); resp.StatusCode != 200 || !strings.Contains(string(body), "/deletedkeys/web") {
		t.Errorf("GET of the deleted key = %d %s", resp.StatusCode, body)
	}
	if _, err := c.PurgeDeletedCertificate(ctx, "web", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetSecret(ctx, "web", text(canary), nil); err != nil {
		t.Errorf("SetSecret after the purge = %v; want a secret", err)
	}
	_, err = c.CreateCertificate(ctx, "web", azcertificates.CreateCertificateParameters{CertificatePolicy: certPolicy("self")}, nil)
	refused(t, err, 409, "Conflict", "ObjectAlreadyExists")
}

// TestKeyStays makes certificates whose key must not leave the vault, in both
// forms of the secret, and tries to get at it with other policies.
func TestKeyStays(t *testing.T) {
	f := newFace(t)
	c, s := f.certificates(t, f.Admin, "erp"), f.client(t, f.Admin, "erp")
	for name, contentType := range map[string]string{"pfx": "application/x-pkcs12", "pem": "application/x-pem-file"} {
		p := certPolicy("self")
		p.KeyProperties.Exportable, p.KeyProperties.ReuseKey = new(false), new(true)
		p.SecretProperties = &azcertificates.SecretProperties{ContentType: &contentType}
		create(t, c, name, p)
		first := getCertificate(t, c, name)
		p.KeyProperties.Exportable = new(true)
		create(t, c, name, p)
		second := getCertificate(t, c, name)
		a, err := x509.ParseCertificate(first.CER)
		if err != nil {
			t.Fatal(err)
		}
		b, err := x509.ParseCertificate(second.CER)
		if err != nil {
			t.Fatal(err)
		}
		if first.ID.Version() == second.ID.Version() || !a.PublicKey.(*ecdsa.PublicKey).Equal(b.PublicKey) {
			t.Errorf("%s: the second version has not the first's key, as its policy says", name)
		}
		for _, version := range []string{first.ID.Version(), second.ID.Version()} {
			got, err := s.GetSecret(t.Context(), name, version, nil)
			if err != nil {
				t.Fatal(err)
			}
			if version == second.ID.Version() && (got.PreviousVersion == nil || *got.PreviousVersion != first.ID.Version()) {
				t.Errorf("%s: the version before the second = %v; want %s", name, got.PreviousVersion, first.ID.Version())
			}
			value := *got.Value
			if contentType == "application/x-pkcs12" {
				pfx, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					t.Fatal(err)
				}
				if certs, err := pkcs12.DecodeTrustStore(pfx, ""); err != nil || len(certs) != 1 {
					t.Errorf("%s: the secret of version %s is not a PFX with the certificate alone: %v", name, version, err)
				}
				if as := secretVersion(t, s, name, version); strings.Contains(as, "PRIVATE") || !strings.Contains(as, "BEGIN CERTIFICATE") {
					t.Errorf("%s: as PEM, the secret has a private key", name)
				}
			} else if strings.Contains(value, "PRIVATE") || !strings.Contains(value, "BEGIN CERTIFICATE") {
				t.Errorf("%s: the secret is not the certificate alone", name)
			}
		}
		p.KeyProperties.ReuseKey = new(false)
		create(t, c, name, p)
		if value := *secretOf(t, s, name, nil).Value; contentType == "application/x-pem-file" && !strings.Contains(value, "PRIVATE KEY") {
			t.Errorf("%s: a new key that may leave is not in the secret", name)
		}
	}
}

func secretVersion(t *testing.T, s *azsecrets.Client, name, version string) string {
	t.Helper()
	got, err := s.GetSecret(t.Context(), name, version, &azsecrets.GetSecretOptions{OutContentType: new(azsecrets.ContentTypePEM)})
	if err != nil {
		t.Fatal(err)
	}
	return *got.Value
}

// sign has an authority of ours sign a request, and returns what it signed and
// its own certificate.
func sign(t *testing.T, csr []byte) (leaf, ca []byte) {
	t.Helper()
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{
		Subject: pkix.Name{CommonName: "our own CA"}, SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if ca, err = x509.CreateCertificate(rand.Reader, issuer, issuer, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	subject := &x509.Certificate{Subject: r.Subject, SerialNumber: big.NewInt(2), NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter}
	if leaf, err = x509.CreateCertificate(rand.Reader, subject, issuer, r.PublicKey, crypto.Signer(key)); err != nil {
		t.Fatal(err)
	}
	return leaf, ca
}

func TestMerge(t *testing.T) {
	f := newFace(t)
	c, s, ctx := f.certificates(t, f.Admin, "erp"), f.client(t, f.Admin, "erp"), t.Context()
	op := create(t, c, "web", certPolicy("unknown"))
	if !strings.Contains(*op.StatusDetails, "Please Perform Merge") || *op.IssuerParameters.Name != "unknown" {
		t.Errorf("CreateCertificate = %+v; want one to merge, from the issuer as it was given", op.CertificateOperation)
	}
	pending, err := c.GetCertificate(ctx, "web", "", nil)
	if err != nil || pending.CER != nil || *pending.Attributes.Enabled {
		t.Errorf("GetCertificate of a pending one = %+v, %v; want one without DER, disabled", pending.Attributes, err)
	}
	_, err = s.GetSecret(ctx, "web", "", nil)
	refused(t, err, 404, "SecretNotFound", "")
	_, err = s.SetSecret(ctx, "web", text(canary), nil)
	refused(t, err, 409, "Conflict", "ObjectAlreadyExists")
	if resp, _ := f.send(t, request{method: "GET", target: "/keys/web" + v}); resp.StatusCode != 404 {
		t.Errorf("GET of the pending key = %d; want 404", resp.StatusCode)
	}
	for include, want := range map[bool]int{false: 0, true: 1} {
		page, err := c.NewListCertificatePropertiesPager(&azcertificates.ListCertificatePropertiesOptions{IncludePending: &include}).NextPage(ctx)
		if err != nil || len(page.Value) != want {
			t.Errorf("list with includePending=%v = %d certificates, %v; want %d", include, len(page.Value), err, want)
		}
	}
	_, err = c.CreateCertificate(ctx, "web", azcertificates.CreateCertificateParameters{CertificatePolicy: certPolicy("self")}, nil)
	if got := refused(t, err, 409, "Conflict", "PendingCertificate"); !strings.HasPrefix(got, "A new key vault certificate can not be created or imported while a pending") {
		t.Errorf("message = %q", got)
	}
	merge := func(der ...[]byte) (azcertificates.MergeCertificateResponse, error) {
		return c.MergeCertificate(ctx, "web", azcertificates.MergeCertificateParameters{X509Certificates: der, Tags: map[string]*string{"by": new("us")}}, nil)
	}
	other, ca := sign(t, create(t, c, "other", certPolicy("Unknown")).CSR)
	_, err = merge(other, ca)
	if got := refused(t, err, 400, "BadParameter", ""); !strings.Contains(got, "public key of the request") {
		t.Errorf("message = %q", got)
	}
	_, err = merge([]byte("no certificate"))
	refused(t, err, 400, "BadParameter", "")
	leaf, ca := sign(t, op.CSR)
	merged, err := merge(ca, leaf)
	if err != nil {
		t.Fatal(err)
	}
	if string(merged.CER) != string(leaf) || *merged.Tags["by"] != "us" || merged.ID.Version() != pending.ID.Version() {
		t.Errorf("MergeCertificate = %v; want what was signed, in the version that was pending", merged.ID)
	}
	pfx, err := base64.StdEncoding.DecodeString(*secretOf(t, s, "web", nil).Value)
	if err != nil {
		t.Fatal(err)
	}
	_, got, chain, err := pkcs12.DecodeChain(pfx, "")
	if err != nil || string(got.Raw) != string(leaf) || len(chain) != 1 || string(chain[0].Raw) != string(ca) {
		t.Errorf("the secret is not the certificate and its issuer: %v", err)
	}
	_, err = merge(leaf)
	refused(t, err, 409, "Conflict", "OperationEnded")

	// One that is cancelled is no longer in the way.
	if _, err := c.UpdateCertificateOperation(ctx, "other", azcertificates.UpdateCertificateOperationParameter{CancellationRequested: new(true)}, nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.MergeCertificate(ctx, "other", azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{other}}, nil)
	if got := refused(t, err, 409, "Conflict", "OperationEnded"); !strings.Contains(got, "cancelled") {
		t.Errorf("message = %q", got)
	}
	create(t, c, "other", certPolicy("self"))
	if _, err := c.DeleteCertificateOperation(ctx, "other", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetCertificateOperation(ctx, "other", nil)
	if got := refused(t, err, 404, "PendingCertificateNotFound", ""); got != "Pending certificate not found: other." {
		t.Errorf("message = %q", got)
	}
	if getCertificate(t, c, "other").CER == nil {
		t.Error("the certificate went with the operation that made it")
	}
}

func TestImport(t *testing.T) {
	f := newFace(t)
	c, s, ctx := f.certificates(t, f.Admin, "erp"), f.client(t, f.Admin, "erp"), t.Context()
	p := certPolicy("self")
	p.X509CertificateProperties.SubjectAlternativeNames = &azcertificates.SubjectAlternativeNames{UserPrincipalNames: []*string{new("bot@example.com")}}
	create(t, c, "source", p)
	text := secretVersion(t, s, "source", getCertificate(t, c, "source").ID.Version())
	pfx, err := base64.StdEncoding.DecodeString(*secretOf(t, s, "source", nil).Value)
	if err != nil {
		t.Fatal(err)
	}
	key, leaf, err := pkcs12.Decode(pfx, "")
	if err != nil {
		t.Fatal(err)
	}
	modern, err := pkcs12.Modern2023.Encode(key, leaf, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	value := base64.StdEncoding.EncodeToString(modern)
	imports := func(name, value, password string, p *azcertificates.CertificatePolicy) (azcertificates.ImportCertificateResponse, error) {
		return c.ImportCertificate(ctx, name, azcertificates.ImportCertificateParameters{Base64EncodedCertificate: &value, Password: &password, CertificatePolicy: p}, nil)
	}
	got, err := imports("from-pfx", value, "secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	x := got.Policy.X509CertificateProperties
	if string(got.CER) != string(leaf.Raw) || *x.Subject != "CN=example.com" || *x.SubjectAlternativeNames.UserPrincipalNames[0] != "bot@example.com" ||
		*got.Policy.KeyProperties.Curve != azcertificates.CurveNameP256 || *got.Policy.IssuerParameters.Name != "Unknown" {
		t.Errorf("ImportCertificate = %+v; want the certificate and a policy that describes it", got.ID)
	}
	if *secretOf(t, s, "from-pfx", nil).ContentType != "application/x-pkcs12" {
		t.Error("the secret of an imported PFX is none")
	}
	if _, err := imports("from-pem", text, "", nil); err != nil {
		t.Fatal(err)
	}
	if again := secretOf(t, s, "from-pem", nil); *again.ContentType != "application/x-pem-file" || *again.Value != text {
		t.Error("the secret of imported PEM is not that PEM")
	}
	// Microsoft's client for Python puts whatever it imports in base64.
	asPEM := &azcertificates.CertificatePolicy{SecretProperties: &azcertificates.SecretProperties{ContentType: new("application/x-pem-file")}}
	for name, policy := range map[string]*azcertificates.CertificatePolicy{"from-coded-pem": asPEM, "from-coded-pem-alone": nil} {
		if _, err := imports(name, base64.StdEncoding.EncodeToString([]byte(text)), "", policy); err != nil {
			t.Fatal(err)
		}
		if again := secretOf(t, s, name, nil); *again.ContentType != "application/x-pem-file" || *again.Value != text {
			t.Errorf("%s: the secret of imported PEM in base64 is not that PEM", name)
		}
	}
	stays := &azcertificates.CertificatePolicy{KeyProperties: &azcertificates.KeyProperties{Exportable: new(false)}}
	if _, err := imports("stays", text, "", stays); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(*secretOf(t, s, "stays", nil).Value, "PRIVATE") {
		t.Error("the key of an import that says it must stay is in the secret")
	}
	asPFX := &azcertificates.CertificatePolicy{SecretProperties: &azcertificates.SecretProperties{ContentType: new("application/x-pkcs12")}}
	for _, tt := range []struct {
		value, password string
		policy          *azcertificates.CertificatePolicy
		want            string
	}{
		{value, "wrong", nil, "pwd is not the password"},
		{text, "", asPFX, "content type"},
		{text[strings.Index(text, "-----BEGIN CERT"):], "", nil, "private key"},
		{"AAAA", "", nil, "PFX"},
		{"", "", nil, "value must be given"},
	} {
		_, err := imports("bad", tt.value, tt.password, tt.policy)
		if got := refused(t, err, 400, "BadParameter", ""); !strings.Contains(got, tt.want) {
			t.Errorf("message = %q; want %q in it", got, tt.want)
		}
	}
	if page, err := c.NewListCertificatePropertiesPager(nil).NextPage(ctx); err != nil || len(page.Value) != 6 {
		t.Errorf("%d certificates, %v; want 6", len(page.Value), err)
	}
}

func TestBackups(t *testing.T) {
	f := newFace(t)
	ctx := t.Context()
	for _, vault := range []string{"second", "third"} {
		if _, err := f.Broker.CreateVault(ctx, f.Admin, latchkey.EmbeddedVaultCreate{Name: vault}); err != nil {
			t.Fatal(err)
		}
	}
	c, s := f.certificates(t, f.Admin, "erp"), f.client(t, f.Admin, "erp")
	create(t, c, "Web", certPolicy("self"))
	create(t, c, "web", certPolicy("self"))
	for _, value := range []string{"one", canary} {
		if _, err := s.SetSecret(ctx, "password", text(value), nil); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := c.BackupCertificate(ctx, "web", nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.BackupSecret(ctx, "password", nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(secret.Value), canary) {
		t.Error("a backup holds the value as it is")
	}

	// Into another vault of the installation, with the same versions.
	c2, s2 := f.certificates(t, f.Admin, "second"), f.client(t, f.Admin, "second")
	restored, err := c2.RestoreCertificate(ctx, azcertificates.RestoreCertificateParameters{CertificateBackup: certificate.Value}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := getCertificate(t, c, "web"); restored.ID.Name() != "Web" || restored.ID.Version() != want.ID.Version() || string(restored.CER) != string(want.CER) || *restored.Tags["team"] != "erp" {
		t.Errorf("RestoreCertificate = %v; want %v", restored.ID, want.ID)
	}
	if got, want := *secretOf(t, s2, "web", nil).Value, *secretOf(t, s, "web", nil).Value; got != want {
		t.Error("the secret of the restored certificate is another one")
	}
	if _, err := s2.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: secret.Value}, nil); err != nil {
		t.Fatal(err)
	}
	if got := versions(t, s2, "password"); !slices.Equal(got, versions(t, s, "password")) || *secretOf(t, s2, "password", nil).Value != canary {
		t.Errorf("restored versions = %v; want those of the backup", got)
	}
	if updated, err := c2.UpdateCertificatePolicy(ctx, "web", azcertificates.CertificatePolicy{LifetimeActions: []*azcertificates.LifetimeAction{}}, nil); err != nil {
		t.Errorf("UpdateCertificatePolicy of a restored one = %v, %v", updated, err)
	}

	// Not over what is there, nor as something else, nor damaged.
	_, err = s2.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: secret.Value}, nil)
	refused(t, err, 409, "Conflict", "ObjectAlreadyExists")
	_, err = c2.RestoreCertificate(ctx, azcertificates.RestoreCertificateParameters{CertificateBackup: certificate.Value}, nil)
	refused(t, err, 409, "Conflict", "ObjectAlreadyExists")
	if _, err := s2.DeleteSecret(ctx, "password", nil); err != nil {
		t.Fatal(err)
	}
	_, err = s2.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: secret.Value}, nil)
	if got := refused(t, err, 409, "Conflict", "ObjectIsDeletedButRecoverable"); !strings.HasPrefix(got, "Secret password is currently") {
		t.Errorf("message = %q", got)
	}
	s3 := f.client(t, f.Admin, "third")
	for name, tt := range map[string]struct {
		blob []byte
		want string
	}{
		"of a certificate": {certificate.Value, "another kind"},
		"damaged":          {append(slices.Clone(secret.Value[:len(secret.Value)-1]), secret.Value[len(secret.Value)-1]^1), "cannot be opened"},
		"cut":              {secret.Value[:20], "not the backup"},
	} {
		_, err := s3.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: tt.blob}, nil)
		if got := refused(t, err, 400, "BadParameter", ""); !strings.Contains(got, tt.want) {
			t.Errorf("%s: message = %q; want %q in it", name, got, tt.want)
		}
	}
	other := latchkeytest.New(t, latchkeytest.Options{})
	if _, err := other.Broker.CreateVault(ctx, other.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	_, err = other.Broker.RestoreSecret(ctx, other.Admin, "erp", base64.RawURLEncoding.EncodeToString(secret.Value))
	if err == nil || !strings.Contains(err.Error(), "another installation") {
		t.Errorf("RestoreSecret in another installation = %v; want it to say so", err)
	}
}

// TestCertificateRoles has people with one role each try what they may and what
// they may not.
func TestCertificateRoles(t *testing.T) {
	f := newFace(t)
	ctx := t.Context()
	create(t, f.certificates(t, f.Admin, "erp"), "web", certPolicy("self"))
	create(t, f.certificates(t, f.Admin, "erp"), "other", certPolicy("self"))
	vault, err := f.Broker.Vault(ctx, f.Admin, "erp")
	if err != nil {
		t.Fatal(err)
	}
	person := func(login string, r latchkey.RoleAssignmentCreate) latchkey.Caller {
		who := f.User(t, login, "", "")
		r.Principal = who.ID
		if _, err := f.Broker.AssignRole(ctx, f.Admin, "erp", r); err != nil {
			t.Fatal(err)
		}
		return who
	}
	officer := person("officer", latchkey.RoleAssignmentCreate{Role: latchkey.VaultCertificatesOfficer})
	user := person("user", latchkey.RoleAssignmentCreate{Role: latchkey.VaultCertificateUser})
	one := person("one", latchkey.RoleAssignmentCreate{Role: latchkey.VaultCertificateUser, Certificate: "WEB"})
	crypto := person("crypto", latchkey.RoleAssignmentCreate{Role: latchkey.VaultCryptoUser, Key: "web"})
	key := func(who latchkey.Caller, name string) error {
		_, err := f.Broker.Key(ctx, who, "erp", name, "", false)
		return err
	}
	for _, tt := range []struct {
		name             string
		do               func() error
		action, resource string // of the refusal; "" is none
	}{
		{"officer creates", func() error {
			_, err := f.certificates(t, officer, "erp").CreateCertificate(ctx, "made", azcertificates.CreateCertificateParameters{CertificatePolicy: certPolicy("self")}, nil)
			return err
		}, "", ""},
		{"officer reads the secret", func() error { _, err := f.client(t, officer, "erp").GetSecret(ctx, "web", "", nil); return err }, "secrets/getSecret/action", "/secrets/web"},
		{"officer sets contacts", func() error {
			_, err := f.certificates(t, officer, "erp").SetContacts(ctx, azcertificates.Contacts{ContactList: []*azcertificates.Contact{{Email: new("a@example.com")}}}, nil)
			return err
		}, "", ""},
		{"user reads", func() error {
			_, err := f.certificates(t, user, "erp").GetCertificate(ctx, "other", "", nil)
			return err
		}, "", ""},
		{"user reads the secret", func() error { _, err := f.client(t, user, "erp").GetSecret(ctx, "web", "", nil); return err }, "", ""},
		{"user deletes", func() error { _, err := f.certificates(t, user, "erp").DeleteCertificate(ctx, "web", nil); return err }, "certificates/delete", "/certificates/web"},
		{"user backs up", func() error { _, err := f.certificates(t, user, "erp").BackupCertificate(ctx, "web", nil); return err }, "certificates/backup/action", "/certificates/web"},
		{"user imports", func() error {
			_, err := f.certificates(t, user, "erp").ImportCertificate(ctx, "made", azcertificates.ImportCertificateParameters{Base64EncodedCertificate: new("AAAA")}, nil)
			return err
		}, "certificates/import/action", "/certificates/made"},
		{"user reads an issuer", func() error { _, err := f.certificates(t, user, "erp").GetIssuer(ctx, "x", nil); return err }, "certificatecas/read", ""},
		{"user restores", func() error {
			_, err := f.certificates(t, user, "erp").RestoreCertificate(ctx, azcertificates.RestoreCertificateParameters{CertificateBackup: []byte("x")}, nil)
			return err
		}, "certificates/restore/action", ""},
		{"one reads theirs", func() error { _, err := f.certificates(t, one, "erp").GetCertificate(ctx, "web", "", nil); return err }, "", ""},
		{"one reads another", func() error {
			_, err := f.certificates(t, one, "erp").GetCertificate(ctx, "other", "", nil)
			return err
		}, "certificates/read", "/certificates/other"},
		{"one reads the secret", func() error { _, err := f.client(t, one, "erp").GetSecret(ctx, "web", "", nil); return err }, "secrets/getSecret/action", "/secrets/web"},
		{"one lists", func() error {
			_, err := f.certificates(t, one, "erp").NewListCertificatePropertiesPager(nil).NextPage(ctx)
			return err
		}, "certificates/read", ""},
	} {
		err := tt.do()
		if tt.action == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		got := refused(t, err, 403, "Forbidden", "ForbiddenByRbac")
		for _, want := range []string{"oid=", fmt.Sprintf("Action: 'Microsoft.KeyVault/vaults/%s'", tt.action), fmt.Sprintf("Resource: '%s%s'", vault.ARMID, tt.resource)} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: message = %q; want %q in it", tt.name, got, want)
			}
		}
	}
	if err := key(crypto, "web"); err != nil {
		t.Errorf("crypto reads the key: %v", err)
	}
	if err := key(crypto, "other"); err == nil {
		t.Error("crypto reads another key")
	}
	if err := key(one, "web"); err == nil {
		t.Error("who may read a certificate reads its key, which is an object of its own")
	}
	page, err := f.Broker.Audit(ctx, f.Admin, broker.AuditFilter{Outcome: latchkey.OutcomeDenied}, latchkey.PageOptions{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	if denied := len(page.Items); denied != 11 {
		t.Errorf("%d refusals are on record; want each of 11", denied)
	}
}

func TestIssuers(t *testing.T) {
	f := newFace(t)
	c, ctx := f.certificates(t, f.Admin, "erp"), t.Context()
	set := azcertificates.SetIssuerParameters{Provider: new("Test"), Credentials: &azcertificates.IssuerCredentials{AccountID: new("us"), Password: new(canary)}}
	if _, err := c.SetIssuer(ctx, "Ours", set, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateIssuer(ctx, "ours", azcertificates.UpdateIssuerParameters{Provider: new("Other")}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetIssuer(ctx, "OURS", nil)
	if err != nil || got.Credentials.Password != nil || *got.Credentials.AccountID != "us" || *got.Provider != "Other" || !strings.HasSuffix(*got.ID, "/issuers/Ours") {
		t.Errorf("GetIssuer = %+v, %v; want what was set, without the password", got.Issuer, err)
	}
	p := certPolicy("Ours")
	_, err = c.CreateCertificate(ctx, "web", azcertificates.CreateCertificateParameters{CertificatePolicy: p}, nil)
	if got := refused(t, err, 400, "BadParameter", ""); !strings.Contains(got, "Self or Unknown") {
		t.Errorf("message = %q", got)
	}
	if _, err := c.DeleteIssuer(ctx, "ours", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetIssuer(ctx, "ours", nil)
	refused(t, err, 404, "CertificateIssuerNotFound", "")
	if strings.Contains(f.log.String(), canary) {
		t.Error("the log holds the password")
	}
}
