package keyvault_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/login"
	"latchkey.dev/latchkey"
)

// A face is the key vault face of a service on a loopback port, with TLS as in
// production, and a vault named erp.
type face struct {
	*latchkeytest.Service
	domain string
	http   *http.Client
	log    *latchkeytest.Log
}

func newFace(t *testing.T) *face {
	t.Helper()
	s := latchkeytest.New(t, latchkeytest.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := &face{Service: s, domain: "vault.localhost:" + port, log: new(latchkeytest.Log)}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler, err := keyvault.New(keyvault.Config{Broker: s.Broker, Domain: f.domain, Tenant: s.Broker.Tenant(), Authority: login.Authority(f.domain, s.Broker.Tenant()), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.Broker.ServerCertificate([]string{"*.vault.localhost", "localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener, server.TLS = listener, &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Broker.Authority())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		// Names below localhost do not resolve everywhere.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	f.http = &http.Client{Transport: transport}
	if _, err := s.Broker.CreateVault(t.Context(), s.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *face) url(vault string) string { return "https://" + vault + "." + f.domain }

// as is the credential of a caller.
type as struct {
	*face
	who latchkey.Caller
}

func (a as) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires, err := a.Broker.VaultToken(ctx, a.who)
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, err
}

// client is Microsoft's client of a vault, which verifies challenges.
func (f *face) client(t *testing.T, who latchkey.Caller, vault string) *azsecrets.Client {
	t.Helper()
	c, err := azsecrets.NewClient(f.url(vault), as{f, who}, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: f.http, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused checks that err is an answer with the given status and codes, and
// returns its message.
func refused(t *testing.T, err error, status int, code, inner string) string {
	t.Helper()
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		t.Fatalf("error = %v; want an answer with status %d", err, status)
	}
	body, err := io.ReadAll(e.RawResponse.Body)
	if err != nil {
		t.Fatal(err)
	}
	return envelope(t, e.StatusCode, body, status, code, inner)
}

func envelope(t *testing.T, gotStatus int, body []byte, status int, code, inner string) string {
	t.Helper()
	var got struct {
		Error struct {
			Code       string
			Message    string
			InnerError struct{ Code string }
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("status %d, answer %q: %v", gotStatus, body, err)
	}
	if gotStatus != status || got.Error.Code != code || got.Error.InnerError.Code != inner || got.Error.Message == "" {
		t.Errorf("answer = %d %s; want %d, code %q, inner code %q and a message", gotStatus, body, status, code, inner)
	}
	return got.Error.Message
}

const canary = "keyvault-canary-91c4"

func text(value string) azsecrets.SetSecretParameters {
	return azsecrets.SetSecretParameters{Value: &value}
}

func TestSecretLife(t *testing.T) {
	f := newFace(t)
	c, ctx := f.client(t, f.Admin, "erp"), t.Context()
	first, err := c.SetSecret(ctx, "db-password", azsecrets.SetSecretParameters{
		Value: new(canary), ContentType: new("text/plain"), Tags: map[string]*string{"team": new("erp")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(*first.ID), f.url("erp")+"/secrets/db-password/"+first.ID.Version(); got != want || len(first.ID.Version()) != 32 {
		t.Errorf("id = %s; want %s with 32 digits", got, want)
	}
	if *first.Value != canary || *first.ContentType != "text/plain" || *first.Tags["team"] != "erp" || !*first.Attributes.Enabled ||
		*first.Attributes.RecoveryLevel != "Recoverable+Purgeable" || *first.Attributes.RecoverableDays != 90 {
		t.Errorf("SetSecret = %+v, %+v; want what was set, kept for 90 days", first.ID, first.Attributes)
	}
	second, err := c.SetSecret(ctx, "DB-Password", text("two"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{"": "two", first.ID.Version(): canary, strings.ToUpper(first.ID.Version()): canary, second.ID.Version(): "two"} {
		got, err := c.GetSecret(ctx, "db-password", version, nil)
		if err != nil {
			t.Errorf("version %q: %v", version, err)
		} else if *got.Value != want {
			t.Errorf("version %q has another version's value", version)
		}
	}
	if got := versions(t, c, "db-password"); !slices.Equal(got, []string{first.ID.Version(), second.ID.Version()}) {
		t.Errorf("versions = %v; want %s, %s", got, first.ID.Version(), second.ID.Version())
	}

	updated, err := c.UpdateSecretProperties(ctx, "db-password", first.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{
		ContentType: new("password"), SecretAttributes: &azsecrets.SecretAttributes{Enabled: new(false)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if updated.Value != nil || *updated.ContentType != "password" || *updated.Attributes.Enabled || *updated.Tags["team"] != "erp" {
		t.Errorf("UpdateSecretProperties = %+v; want the new content type, disabled, the old tag and no value", updated.ID)
	}
	_, err = c.GetSecret(ctx, "db-password", first.ID.Version(), nil)
	if got, want := refused(t, err, 403, "Forbidden", "SecretDisabled"), "Operation get is not allowed on a disabled secret."; got != want {
		t.Errorf("message = %q; want %q", got, want)
	}
	if _, err := c.GetSecret(ctx, "db-password", "", nil); err != nil {
		t.Errorf("GetSecret of the enabled newest version = %v; want its value", err)
	}

	deleted, err := c.DeleteSecret(ctx, "db-password", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *deleted.RecoveryID, f.url("erp")+"/deletedsecrets/"+deleted.ID.Name(); got != want || deleted.DeletedDate == nil || deleted.ScheduledPurgeDate.Sub(*deleted.DeletedDate).Round(time.Hour) != 90*24*time.Hour {
		t.Errorf("DeleteSecret = %s, %v, %v; want %s, purged after 90 days", got, deleted.DeletedDate, deleted.ScheduledPurgeDate, want)
	}
	_, err = c.GetSecret(ctx, "db-password", "", nil)
	if got := refused(t, err, 404, "SecretNotFound", ""); !strings.HasPrefix(got, "A secret with (name/id) db-password was not found in this key vault. If you recently deleted this secret") {
		t.Errorf("message = %q", got)
	}
	_, err = c.SetSecret(ctx, "db-password", text("x"), nil)
	if got := refused(t, err, 409, "Conflict", "ObjectIsDeletedButRecoverable"); !strings.HasPrefix(got, "Secret db-password is currently in a deleted but recoverable state") {
		t.Errorf("message = %q", got)
	}
	if _, err := c.GetDeletedSecret(ctx, "db-password", nil); err != nil {
		t.Errorf("GetDeletedSecret = %v", err)
	}
	page, err := c.NewListDeletedSecretPropertiesPager(nil).NextPage(ctx)
	if err != nil || len(page.Value) != 1 || page.Value[0].RecoveryID == nil || page.Value[0].ID.Version() != "" {
		t.Errorf("deleted secrets = %+v, %v; want the one, without a version", page.Value, err)
	}
	if _, err := c.RecoverDeletedSecret(ctx, "db-password", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetSecret(ctx, "db-password", "", nil); err != nil || *got.Value != "two" {
		t.Errorf("GetSecret after recovery = %v; want the value", err)
	}
	if _, err := c.DeleteSecret(ctx, "db-password", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PurgeDeletedSecret(ctx, "db-password", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetDeletedSecret(ctx, "db-password", nil)
	if got, want := refused(t, err, 404, "SecretNotFound", ""), "Deleted Secret not found: db-password"; got != want {
		t.Errorf("message = %q; want %q", got, want)
	}
	if strings.Contains(f.log.String(), canary) || !strings.Contains(f.log.String(), "key vault request") {
		t.Errorf("log = %s; want a line for each request and no value", f.log)
	}
}

func versions(t *testing.T, c *azsecrets.Client, name string) (all []string) {
	t.Helper()
	for pager := c.NewListSecretPropertiesVersionsPager(name, nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Value {
			all = append(all, p.ID.Version())
		}
	}
	return all
}

// TestValidity sets periods of validity, which inform only.
func TestValidity(t *testing.T) {
	f := newFace(t)
	c := f.client(t, f.Admin, "erp")
	past, future := time.Unix(1_000_000_000, 0), time.Unix(1_900_000_000, 0)
	for name, a := range map[string]*azsecrets.SecretAttributes{"expired": {Expires: &past}, "not-yet": {NotBefore: &future}} {
		if _, err := c.SetSecret(t.Context(), name, azsecrets.SetSecretParameters{Value: new(canary), SecretAttributes: a}, nil); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetSecret(t.Context(), name, "", nil)
		if err != nil {
			t.Errorf("%s: %v; want the value", name, err)
		} else if a.Expires != nil && !got.Attributes.Expires.Equal(past) || a.NotBefore != nil && !got.Attributes.NotBefore.Equal(future) {
			t.Errorf("%s: attributes = %+v; want those set", name, got.Attributes)
		}
	}
}

func TestForbidden(t *testing.T) {
	f := newFace(t)
	reader := f.User(t, "reader@example.com", "", "")
	if _, err := f.client(t, f.Admin, "erp").SetSecret(t.Context(), "db-password", text(canary), nil); err != nil {
		t.Fatal(err)
	}
	_, err := f.client(t, reader, "erp").GetSecret(t.Context(), "db-password", "", nil)
	got := refused(t, err, 403, "Forbidden", "ForbiddenByRbac")
	v, err := f.Broker.Vault(t.Context(), f.Admin, "erp")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Caller is not authorized to perform action on resource.\r\n",
		fmt.Sprintf("Caller: appid=%[1]s;oid=%[1]s;iss=https://sts.windows.net/%[2]s/\r\n", reader.ID, f.Broker.Tenant()),
		"Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n",
		"Resource: '" + v.ARMID + "/secrets/db-password'\r\n",
		"Vault: erp;location=",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("message = %q; want %q in it", got, want)
		}
	}
	_, err = f.client(t, reader, "erp").SetSecret(t.Context(), "db-password", text(canary), nil)
	refused(t, err, 403, "Forbidden", "ForbiddenByRbac")
	_, err = f.client(t, reader, "erp").NewListSecretPropertiesPager(nil).NextPage(t.Context())
	refused(t, err, 403, "Forbidden", "ForbiddenByRbac")
}

func TestRefusals(t *testing.T) {
	f := newFace(t)
	c := f.client(t, f.Admin, "erp")
	_, err := f.client(t, f.Admin, "other").GetSecret(t.Context(), "x", "", nil)
	refused(t, err, 404, "VaultNotFound", "")
	_, err = c.SetSecret(t.Context(), "foo_bar", text("x"), nil)
	if got, want := refused(t, err, 400, "BadParameter", ""), "The request URI contains an invalid name: foo_bar"; got != want {
		t.Errorf("message = %q; want %q", got, want)
	}
	_, err = c.GetSecret(t.Context(), "a/b/c", "", nil)
	refused(t, err, 400, "BadParameter", "")
	_, err = c.SetSecret(t.Context(), "large", text(canary+strings.Repeat("x", latchkey.MaxSecretBytes)), nil)
	if got := refused(t, err, 400, "BadParameter", ""); strings.Contains(got, canary) {
		t.Error("the message holds the value")
	}
	_, err = c.SetSecret(t.Context(), "huge", text(strings.Repeat("x", 1<<19)), nil)
	refused(t, err, 413, "BadParameter", "")
	_, err = c.GetSecret(t.Context(), "none", strings.Repeat("0", 32), nil)
	if got := refused(t, err, 404, "SecretNotFound", ""); !strings.Contains(got, "none/"+strings.Repeat("0", 32)) {
		t.Errorf("message = %q; want name and version", got)
	}
	_, err = c.BackupSecret(t.Context(), "none", nil)
	refused(t, err, 404, "SecretNotFound", "")
}

func TestPages(t *testing.T) {
	f := newFace(t)
	c := f.client(t, f.Admin, "erp")
	want := map[string]bool{}
	for i := range 30 {
		name := fmt.Sprintf("secret-%02d", i)
		want[name] = true
		if _, err := c.SetSecret(t.Context(), name, text("x"), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SetSecret(t.Context(), "many-versions", text("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	want["many-versions"] = true
	if got := versions(t, c, "many-versions"); len(got) != 30 {
		t.Errorf("%d versions; want 30", len(got))
	}
	got, pages := map[string]bool{}, 0
	for pager := c.NewListSecretPropertiesPager(nil); pager.More(); pages++ {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Value {
			if got[p.ID.Name()] {
				t.Errorf("%s is listed twice", p.ID.Name())
			}
			got[p.ID.Name()] = true
		}
	}
	if pages != 2 || !maps.Equal(got, want) {
		t.Errorf("%d pages with %d secrets; want 2 with %d", pages, len(got), len(want))
	}
}
