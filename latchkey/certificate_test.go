package latchkey

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readPolicy returns a policy as a request brings it, filled in.
func readPolicy(t *testing.T, text string) CertificatePolicy {
	t.Helper()
	var p CertificatePolicy
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	p.Fill()
	return p
}

func TestCertificatePolicyDefaults(t *testing.T) {
	p := readPolicy(t, `{"issuer":{"name":"self"},"x509_props":{"subject":"CN=x"},"attributes":{"enabled":false,"exp":1}}`)
	got, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"key_props":{"exportable":true,"kty":"RSA","key_size":2048,"reuse_key":false},"secret_props":{"contentType":"application/x-pkcs12"},` +
		`"x509_props":{"subject":"CN=x","ekus":["1.3.6.1.5.5.7.3.1","1.3.6.1.5.5.7.3.2"],"key_usage":["digitalSignature","keyEncipherment"],"validity_months":12,"basic_constraints":{"ca":false}},` +
		`"lifetime_actions":[{"trigger":{"lifetime_percentage":80},"action":{"action_type":"AutoRenew"}}],"issuer":{"name":"self"}}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("policy (-want +got):\n%s", d)
	}
	if !p.Exportable() || !p.IssuedBy("SELF") || p.IssuedBy(IssuerUnknown) {
		t.Error("the policy is not one that signs itself with a key that may leave")
	}
	p.Merge(readPolicy(t, `{"key_props":{"exportable":false,"kty":"EC","crv":"P-256K"}}`))
	if err := p.Validate(); err != nil || p.Exportable() {
		t.Errorf("Validate of a policy with P-256K = %v; want none, it comes back as it was given", err)
	}
}

func TestCertificatePolicyValidate(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                              "",
		`{"key_props":{"kty":"oct"}}`:     "policy.key_props.kty",
		`{"key_props":{"key_size":1024}}`: "policy.key_props.key_size",
		`{"key_props":{"kty":"RSA","crv":"P-256"}}`:     "policy.key_props.crv",
		`{"key_props":{"kty":"EC","crv":"P-192"}}`:      "policy.key_props.crv",
		`{"key_props":{"crv":"P-384"}}`:                 "",
		`{"secret_props":{"contentType":"x"}}`:          "policy.secret_props.contentType",
		`{"x509_props":{"validity_months":0}}`:          "policy.x509_props.validity_months",
		`{"x509_props":{"ekus":["1.x"]}}`:               "policy.x509_props.ekus",
		`{"x509_props":{"ekus":["1.40.1"]}}`:            "policy.x509_props.ekus",
		`{"x509_props":{"key_usage":["x"]}}`:            "policy.x509_props.key_usage",
		`{"x509_props":{"sans":{"ipAddresses":["x"]}}}`: "policy.x509_props.sans.ipAddresses",
		`{"x509_props":{"sans":{"uris":["x"]}}}`:        "policy.x509_props.sans.uris",
		`{"x509_props":{"sans":{"dns_names":["ä"]}}}`:   "policy.x509_props.sans",
		`{"x509_props":{"sans":{"dns_names":[""]}}}`:    "policy.x509_props.sans",
		`{"issuer":{"name":"a b"}}`:                     "policy.issuer.name",
		`{"lifetime_actions":[{}]}`:                     "policy.lifetime_actions",
		`{"lifetime_actions":[{"trigger":{"lifetime_percentage":100},"action":{"action_type":"AutoRenew"}}]}`:                          "policy.lifetime_actions.trigger.lifetime_percentage",
		`{"lifetime_actions":[{"trigger":{"days_before_expiry":325},"action":{"action_type":"AutoRenew"}}]}`:                           "policy.lifetime_actions.trigger.days_before_expiry",
		`{"lifetime_actions":[{"trigger":{"days_before_expiry":1,"lifetime_percentage":1},"action":{"action_type":"EmailContacts"}}]}`: "policy.lifetime_actions.trigger",
		`{"lifetime_actions":[{"trigger":{"days_before_expiry":1},"action":{"action_type":"x"}}]}`:                                     "policy.lifetime_actions.action.action_type",
	} {
		p := readPolicy(t, text)
		got := ""
		if e, ok := errors.AsType[*Error](p.Validate()); ok {
			got = e.Fields[0].Field
		}
		if got != want {
			t.Errorf("Validate of %s finds fault with %q; want %q", text, got, want)
		}
	}
}

func TestLifetimeAction(t *testing.T) {
	from := time.Unix(0, 0)
	for text, want := range map[string]time.Duration{
		`{"trigger":{"lifetime_percentage":80}}`: 80 * 24 * time.Hour,
		`{"trigger":{"days_before_expiry":30}}`:  70 * 24 * time.Hour,
	} {
		var a LifetimeAction
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		if got := a.At(from.UTC(), from.UTC().AddDate(0, 0, 100)).Sub(from); got != want {
			t.Errorf("%s is due after %s; want %s", text, got, want)
		}
	}
}

func FuzzCutUserID(f *testing.F) {
	for _, id := range []string{"X509:<PN>bob@x", "X509:<I>CN=a<S>CN=b", "X509:<I>CN=<SR><SR>01", "X509:<I><S>", "x509:<PN>a", ""} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		field, rest, ok := CutUserID(id)
		if ok && (rest == "" || !strings.HasSuffix(id, rest) || !strings.HasPrefix(id, "X509:<") || !slices.Contains(field.Attributes(), AttributeCertificateUserIDs)) {
			t.Errorf("CutUserID(%q) = %s, %q; want a field and the end of it", id, field, rest)
		}
	})
}
