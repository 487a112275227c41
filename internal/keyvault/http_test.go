package keyvault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/login"
)

// A request is one that no SDK would send just so.
type request struct {
	method, target string // target is a path and a query, sent as it is
	host           string // "" is the vault erp
	body           string
	header         map[string]string
	anonymous      bool
}

func (f *face) send(t *testing.T, r request) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, f.url("erp")+r.target, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = r.host
	if !r.anonymous {
		token, _, err := f.Broker.VaultToken(t.Context(), f.Admin)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := f.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

const v = "?api-version=7.4"

func TestSpellings(t *testing.T) {
	f := newFace(t)
	if _, err := f.client(t, f.Admin, "erp").SetSecret(t.Context(), "db-password", text(canary), nil); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{
		"/secrets/db-password" + v, "/secrets/db-password/" + v, "//secrets/db-password" + v, "//secrets//db-password//" + v,
		"/Secrets/DB-Password" + v, "/secrets/db%2Dpassword" + v, "/%73ecrets/db-password" + v,
		"/secrets/db-password?api%2Dversion=7.4", "/secrets/db-password?API-Version=2026-04-01",
	} {
		resp, body := f.send(t, request{method: "GET", target: target})
		var got struct{ Value string }
		if err := json.Unmarshal(body, &got); err != nil || resp.StatusCode != 200 || got.Value != canary {
			t.Errorf("GET %s = %d %s; want the secret", target, resp.StatusCode, body)
		}
	}
	resp, body := f.send(t, request{method: "HEAD", target: "/secrets/db-password" + v})
	if resp.StatusCode != 200 || len(body) != 0 {
		t.Errorf("HEAD = %d with %d bytes; want 200 without content", resp.StatusCode, len(body))
	}
	resp, _ = f.send(t, request{method: "GET", target: "/secrets/db-password" + v, host: "ERP." + strings.ToUpper(f.domain)})
	if resp.StatusCode != 200 {
		t.Errorf("GET with the host in capitals = %d; want 200", resp.StatusCode)
	}
}

func TestMethodOverride(t *testing.T) {
	f := newFace(t)
	if _, err := f.client(t, f.Admin, "erp").SetSecret(t.Context(), "x", text(canary), nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		override, target, body string
		want                   int
	}{
		{"PUT", "/secrets/x", `{"value":"y"}`, 405},
		{"patch", "/secrets/x/", `{"tags":{"a":"b"}}`, 200},
		{"DELETE", "/secrets/x", "", 200},
		{"DELETE", "/deletedsecrets/x", "", 204},
	} {
		resp, body := f.send(t, request{method: "POST", target: tt.target + v, body: tt.body, header: map[string]string{"X-HTTP-METHOD": tt.override}})
		if resp.StatusCode != tt.want || strings.Contains(string(body), canary) {
			t.Errorf("POST %s as %s = %d %s; want %d and no value", tt.target, tt.override, resp.StatusCode, body, tt.want)
		}
	}
}

func TestChallenge(t *testing.T) {
	f := newFace(t)
	want := fmt.Sprintf(`Bearer authorization="%s", resource="https://%s"`, login.Authority(f.domain, f.Broker.Tenant()), f.domain)
	// foreign is a token that somebody else has signed.
	foreign := func(claims map[string]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: bytes.Repeat([]byte{1}, 32)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	const theirs = "https://sts.windows.net/11111111-1111-1111-1111-111111111111/"
	ours := "https://sts.windows.net/" + f.Broker.Tenant() + "/"
	for name, header := range map[string]string{
		"none": "", "basic": "Basic eDp5", "empty": "Bearer ", "wrong": "Bearer abc.def.ghi", "admin": "Bearer " + f.AdminToken,
		"audience": foreign(map[string]any{"iss": ours, "aud": "https://vault.azure.cn"}),
		"issuer":   foreign(map[string]any{"iss": theirs, "aud": "https://vault.azure.net"}),
	} {
		resp, body := f.send(t, request{method: "GET", target: "/secrets/x" + v, anonymous: true, header: map[string]string{"Authorization": header}})
		msg := envelope(t, resp.StatusCode, body, 401, "Unauthorized", "")
		if got := resp.Header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: challenge = %s; want %s", name, got, want)
		}
		if want := map[string]string{
			"none":     "AKV10000: Request is missing a Bearer or PoP token.",
			"audience": "AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://vault.azure.cn.",
			"issuer":   "AKV10032: Invalid issuer. Expected one of " + ours + ", found " + theirs + ".",
		}[name]; want != "" && msg != want {
			t.Errorf("%s: message = %q; want %q", name, msg, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	f := newFace(t)
	resp, _ := f.send(t, request{method: "GET", target: "/secrets" + v, header: map[string]string{"x-ms-client-request-id": "abc-1"}})
	for name, want := range map[string]string{
		"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1", "X-Content-Type-Options": "nosniff",
		"Strict-Transport-Security": "max-age=31536000;includeSubDomains", "Content-Type": "application/json; charset=utf-8",
		"X-Ms-Client-Request-Id": "abc-1", "X-Ms-Keyvault-Network-Info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s = %q; want %q", name, got, want)
		}
	}
	if got := resp.Header.Get("x-ms-request-id"); len(got) != 36 {
		t.Errorf("x-ms-request-id = %q; want a GUID", got)
	}
}

func TestBadRequests(t *testing.T) {
	f := newFace(t)
	for _, tt := range []struct {
		request
		status      int
		code, inner string
		want        string // in the message
	}{
		{request{method: "GET", target: "/secrets/x"}, 400, "BadParameter", "", "The specified version () is not recognized. Consider using the latest supported version (2026-04-01)."},
		{request{method: "GET", target: "/secrets/x?api-version=1.0"}, 400, "BadParameter", "", "(1.0)"},
		{request{method: "GET", target: "/secrets" + v + "&maxresults=26"}, 400, "BadParameter", "", "maxresults"},
		{request{method: "GET", target: "/secrets" + v + "&maxresults=x"}, 400, "BadParameter", "", "maxresults"},
		{request{method: "GET", target: "/secrets" + v + "&$skiptoken=" + strings.Repeat("x", 2000)}, 400, "BadParameter", "", "skiptoken"},
		{request{method: "GET", target: "/secrets/x/y/z" + v}, 404, "NotFound", "", "/secrets"},
		{request{method: "GET", target: "/" + v}, 404, "NotFound", "", "/secrets"},
		{request{method: "GET", target: "/storage" + v}, 404, "NotFound", "", "/secrets"},
		{request{method: "GET", target: "/secrets/x/versions/z" + v}, 404, "NotFound", "", "/secrets"},
		{request{method: "POST", target: "/keys/x/create" + v, body: `{"kty":"RSA"}`}, 403, "Forbidden", "KeyOperationForbidden", "certificates only"},
		{request{method: "GET", target: "/keys/x" + v}, 404, "KeyNotFound", "", "A key with (name/id) x was not found"},
		{request{method: "GET", target: "/deletedkeys/x" + v}, 404, "KeyNotFound", "", "Deleted Key not found: x"},
		{request{method: "POST", target: "/secrets/restore" + v, body: `{"value":"x"}`}, 400, "BadParameter", "", "not the backup"},
		{request{method: "GET", target: "/secrets/x/backup" + v}, 405, "MethodNotAllowed", "", "method"},
		{request{method: "GET", target: "/certificates/x" + v}, 404, "CertificateNotFound", "", "A certificate with (name/id) x was not found"},
		{request{method: "GET", target: "/certificates/x/" + strings.Repeat("0", 32) + v}, 404, "CertificateNotFound", "", "x/" + strings.Repeat("0", 32)},
		{request{method: "GET", target: "/certificates/x/pending" + v}, 404, "CertificateNotFound", "", "(name/id) x was"},
		{request{method: "GET", target: "/certificates/x/create" + v}, 405, "MethodNotAllowed", "", "method"},
		{request{method: "POST", target: "/certificates/x/pending/other" + v}, 404, "NotFound", "", "/certificates"},
		{request{method: "POST", target: "/certificates/a_b/create" + v, body: `{}`}, 400, "BadParameter", "", "invalid name: a_b"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{}`}, 400, "BadParameter", "", "policy must be given"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{"policy":{"issuer":{"name":"self"}}}`}, 400, "BadParameter", "", "x509_props.subject"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{"policy":{"issuer":{"name":"DigiCert"},"x509_props":{"subject":"CN=x"}}}`}, 400, "BadParameter", "", "Self or Unknown"},
		{request{method: "GET", target: "/secrets" + v + "&$skiptoken=garbage"}, 400, "BadParameter", "", "$skiptoken"},
		{request{method: "GET", target: "/secrets/x/versions" + v + "&$skiptoken=%00"}, 400, "BadParameter", "", "$skiptoken"},
		{request{method: "GET", target: "/certificates" + v + "&$SkipToken=e30"}, 400, "BadParameter", "", "$skiptoken"},
		{request{method: "GET", target: "/certificates/issuers" + v + "&$skiptoken=W10"}, 400, "BadParameter", "", "$skiptoken"},
		{request{method: "GET", target: "/deletedkeys" + v + "&$skiptoken=.."}, 400, "BadParameter", "", "$skiptoken"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{"policy":{"issuer":{"name":"self"},"x509_props":{"subject":"CN=x"},"key_props":{"kty":"EC","crv":"P-256K"}}}`}, 400, "BadParameter", "", "P-256K"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{"policy":{"issuer":{"name":"self"},"x509_props":{"subject":"CN=x"},"key_props":{"kty":"RSA-HSM"}}}`}, 400, "BadParameter", "", "hardware"},
		{request{method: "POST", target: "/certificates/x/create" + v, body: `{"policy":{"issuer":{"name":"self"},"x509_props":{"subject":"CN=x"},"key_props":{"kty":"RSA","key_size":1024}}}`}, 400, "BadParameter", "", "key_size"},
		{request{method: "POST", target: "/certificates/x/import" + v, body: `{"value":"` + canary + `"}`}, 400, "BadParameter", "", "value"},
		{request{method: "POST", target: "/certificates/x/import" + v, body: `{"value":"` + strings.Repeat("x", 1<<20) + `"}`}, 413, "BadParameter", "", "at most"},
		{request{method: "POST", target: "/certificates/restore" + v, body: `{"value":"x"}`}, 400, "BadParameter", "", "not the backup"},
		{request{method: "GET", target: "/deletedcertificates/x" + v}, 404, "CertificateNotFound", "", "Deleted Certificate not found: x"},
		{request{method: "GET", target: "/certificates/contacts" + v}, 404, "CertificateContactsNotFound", "", "contacts"},
		{request{method: "PUT", target: "/certificates/contacts" + v, body: `{"contacts":[{"name":"x"}]}`}, 400, "BadParameter", "", "email"},
		{request{method: "GET", target: "/certificates/issuers/none" + v}, 404, "CertificateIssuerNotFound", "", "none"},
		{request{method: "PATCH", target: "/certificates/issuers/none" + v, body: `{}`}, 404, "CertificateIssuerNotFound", "", "none"},
		{request{method: "PUT", target: "/certificates/issuers/x" + v, body: `{"credentials":{"pwd":"` + canary + `"}}`}, 400, "BadParameter", "", "provider"},
		{request{method: "GET", target: "/secrets/x%2Fversions" + v}, 400, "BadParameter", "", "invalid name"},
		{request{method: "GET", target: "/secrets/x/1" + v}, 400, "BadParameter", "", "invalid version"},
		{request{method: "GET", target: "/secrets/restore/" + v}, 404, "SecretNotFound", "", "restore"},
		{request{method: "POST", target: "/secrets/x" + v}, 405, "MethodNotAllowed", "", "method"},
		{request{method: "OPTIONS", target: "/secrets/x" + v}, 405, "MethodNotAllowed", "", "method"},
		{request{method: "DELETE", target: "/secrets/x/" + strings.Repeat("0", 32) + v}, 405, "MethodNotAllowed", "", "method"},
		{request{method: "PUT", target: "/secrets/x" + v, body: `{}`}, 400, "BadParameter", "", "value"},
		{request{method: "PUT", target: "/secrets/x" + v, body: `{"value":` + canary}, 400, "BadParameter", "", "JSON"},
		{request{method: "PUT", target: "/secrets/x" + v, body: `{"value":917283}`}, 400, "BadParameter", "", "JSON"},
		{request{method: "PUT", target: "/secrets/x" + v, body: "{\"value\":\"\xff\"}"}, 400, "BadParameter", "", "JSON"},
		{request{method: "PUT", target: "/secrets/x" + v, body: `{"value":"` + canary + `","attributes":{"exp":-1}}`}, 400, "BadParameter", "", "attributes.exp"},
		{request{method: "PUT", target: "/secrets/x" + v, body: `{"value":"` + canary + `","attributes":{"nbf":2,"exp":1}}`}, 400, "BadParameter", "", "attributes.exp"},
		{request{method: "GET", target: "/secrets/x" + v, host: "localhost"}, 404, "NotFound", "", "https://{vault}." + f.domain},
		{request{method: "GET", target: "/secrets/x" + v, host: "a.b." + f.domain}, 404, "NotFound", "", f.domain},
		{request{method: "GET", target: "/secrets/x" + v, host: "e_p." + f.domain}, 404, "VaultNotFound", "", "vault"},
		{request{method: "GET", target: "/deletedsecrets/x/y" + v}, 404, "NotFound", "", "/deletedsecrets"},
		{request{method: "POST", target: "/deletedsecrets/x/recover" + v}, 404, "SecretNotFound", "", "Deleted Secret not found: x"},
	} {
		resp, body := f.send(t, tt.request)
		t.Run(tt.method+" "+tt.target[:min(len(tt.target), 40)], func(t *testing.T) {
			if got := envelope(t, resp.StatusCode, body, tt.status, tt.code, tt.inner); !strings.Contains(got, tt.want) {
				t.Errorf("message = %q; want %q in it", got, tt.want)
			}
			if s := string(body); strings.Contains(s, canary) || strings.Contains(s, "917283") {
				t.Errorf("answer %s holds the value", s)
			}
		})
	}
	if strings.Contains(f.log.String(), canary) {
		t.Error("the log holds a value")
	}
}

// TestDisabledDeleted asks for a deleted secret that is disabled (AKV: refused).
func TestDisabledDeleted(t *testing.T) {
	f := newFace(t)
	f.send(t, request{method: "PUT", target: "/secrets/off" + v, body: `{"value":"x","attributes":{"enabled":false}}`})
	resp, body := f.send(t, request{method: "DELETE", target: "/secrets/off" + v})
	if resp.StatusCode != 200 {
		t.Fatalf("DELETE = %d %s", resp.StatusCode, body)
	}
	resp, body = f.send(t, request{method: "GET", target: "/deletedsecrets/off" + v})
	envelope(t, resp.StatusCode, body, 403, "Forbidden", "SecretDisabled")
}

func TestConfig(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	for _, domain := range []string{"", "https://vault.localhost", "vault.localhost/x", "vault localhost", ":8443", "a@b"} {
		if _, err := keyvault.New(keyvault.Config{Broker: s.Broker, Tenant: s.Broker.Tenant(), Authority: "https://login.test/t", Domain: domain}); err == nil {
			t.Errorf("New with the domain %q = nil; want an error", domain)
		}
	}
	if _, err := keyvault.New(keyvault.Config{Domain: "vault.localhost"}); err == nil {
		t.Error("New without a broker = nil; want an error")
	}
}
