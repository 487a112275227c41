package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	host "latchkey.dev/internal/site"
	"latchkey.dev/internal/web"
	"latchkey.dev/latchkey"
)

// A visitor looks at the pages of a service as somebody.
type visitor struct {
	t       *testing.T
	handler http.Handler
	who     latchkey.Caller
}

type callerKey struct{}

// served returns the pages of a service.
func served(t *testing.T, s *latchkeytest.Service) http.Handler {
	t.Helper()
	pages, err := web.New(web.Config{Broker: s.Broker, Log: slog.New(slog.DiscardHandler), PublicURL: func() string { return "http://latchkey.example" }, Version: "test"}, host.Host{
		Identify: func(r *http.Request) (latchkey.Caller, error) {
			return r.Context().Value(callerKey{}).(latchkey.Caller), nil
		},
		Session: func(*http.Request) string { return "" },
		Address: func(context.Context) string { return "" },
		Fault: func(_ context.Context, err error) host.Fault {
			f := host.Fault{Status: http.StatusInternalServerError, Detail: err.Error()}
			if e, ok := errors.AsType[*latchkey.Error](err); ok {
				f.Code, f.Fields, f.Detail = e.Code, e.Fields, e.Msg
				f.Status = map[error]int{latchkey.ErrNotFound: 404, latchkey.ErrDenied: 403, latchkey.ErrInvalid: 422, latchkey.ErrConflict: 409}[e.Kind]
			}
			return f
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range pages.Routes {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	return mux
}

// ask sends a request: a form if there are values.
func (v visitor) ask(method, path string, values url.Values) *httptest.ResponseRecorder {
	v.t.Helper()
	r := httptest.NewRequestWithContext(context.WithValue(v.t.Context(), callerKey{}, v.who), method, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	v.handler.ServeHTTP(w, r)
	return w
}

// recorded counts entries of the audit log.
func recorded(t *testing.T, s *latchkeytest.Service, f broker.AuditFilter) int {
	t.Helper()
	p, err := s.Broker.Audit(t.Context(), s.Admin, f, latchkey.PageOptions{Limit: latchkey.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Items)
}

// TestVaultPages looks at every page of a vault as people with different roles in it:
// who sees and is offered what, that looking records no refusal and shows no value, and
// that a value is shown to those alone who may read it, with an entry for each time.
func TestVaultPages(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{Idle: true})
	ctx, b := t.Context(), s.Broker
	if _, err := b.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateVault(ctx, s.Admin, latchkey.EmbeddedVaultCreate{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	const value = "canary-of-the-vault-pages"
	for _, name := range []string{"erp", "till", "gone"} {
		if _, err := b.SetSecret(ctx, s.Admin, "kept", name, latchkey.NewSecret(value), latchkey.SecretAttributes{Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.DeleteSecret(ctx, s.Admin, "kept", "gone"); err != nil {
		t.Fatal(err)
	}
	self := latchkey.IssuerSelf
	if _, err := b.CreateCertificate(ctx, s.Admin, "kept", "signer", broker.CertificateCreate{Policy: &latchkey.CertificatePolicy{
		Key: &latchkey.CertificateKey{Type: new("EC")}, X509: &latchkey.CertificateX509{Subject: new("CN=signer")}, Issuer: &latchkey.CertificateIssuer{Name: &self},
	}}); err != nil {
		t.Fatal(err)
	}
	erp, err := b.SecretVersions(ctx, s.Admin, "kept", "erp", latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	version := "/vaults/kept/secrets/erp/" + erp.Items[0].Version
	const (
		list, deleted, roles, erpPage, tillPage = "/vaults/kept", "/vaults/kept/deleted", "/vaults/kept/roles", "/vaults/kept/secrets/erp", "/vaults/kept/secrets/till"
		certificates, signer                    = "/vaults/kept/certificates", "/vaults/kept/certificates/signer"
	)
	pages := []string{
		"/vaults", "/new-vault", list, deleted, roles, erpPage, tillPage, certificates, signer, "/vaults/kept/use", "/vaults/kept/delete", "/vaults/kept/new-secret", "/vaults/kept/new-role",
		"/vaults/kept/new-certificate", "/vaults/kept/import-certificate", erpPage + "/set", erpPage + "/delete", erpPage + "/purge", erpPage + "/recover", version + "/edit", version + "/reveal", signer + "/merge",
	}
	tests := []struct {
		login  string
		assign []latchkey.RoleAssignmentCreate
		sees   map[string]string // page → what it says; of the others nothing is asked
		lacks  map[string]string
		reads  bool
	}{
		{login: "nobody", sees: map[string]string{"/vaults": "no role in an embedded vault", list: "404"}},
		{
			login: "reader", assign: []latchkey.RoleAssignmentCreate{{Role: latchkey.VaultReader}},
			sees:  map[string]string{list: "till", erpPage: "Versions", roles: "Key Vault Reader", certificates: "signer", deleted: "gone", version + "/reveal": "404"},
			lacks: map[string]string{list: "new-secret", erpPage: "/reveal", roles: "new-role", deleted: "/recover", signer: "/renew"},
		},
		{
			login: "one", assign: []latchkey.RoleAssignmentCreate{{Role: latchkey.VaultSecretsUser, Secret: "ERP"}}, reads: true,
			sees:  map[string]string{list: "/vaults/kept/secrets/ERP", erpPage: "/reveal", tillPage: "404", deleted: "Nothing is deleted"},
			lacks: map[string]string{list: "till", erpPage: "/set"},
		},
		{
			login: "officer", assign: []latchkey.RoleAssignmentCreate{{Role: latchkey.VaultSecretsOfficer}}, reads: true,
			sees:  map[string]string{list: "new-secret", erpPage: "/set", deleted: "/recover", signer: "404"},
			lacks: map[string]string{list: "/certificates\"", roles: "new-role"},
		},
		{
			login: "keeper", assign: []latchkey.RoleAssignmentCreate{{Role: latchkey.VaultAdministrator}}, reads: true,
			sees:  map[string]string{roles: "new-role", signer: "/renew", "/vaults/kept/new-role": "Assign"},
			lacks: map[string]string{list: `/vaults/kept/delete"`},
		},
	}
	handler := served(t, s)
	for _, tt := range tests {
		t.Run(tt.login, func(t *testing.T) {
			v := visitor{t, handler, s.User(t, tt.login, "main", latchkey.EnvMaker)}
			for _, a := range tt.assign {
				a.Principal = v.who.ID
				if _, err := b.AssignRole(ctx, s.Admin, "kept", a); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range pages {
				w := v.ask("GET", path, nil)
				body := w.Body.String()
				if w.Code != http.StatusOK && w.Code != http.StatusNotFound {
					t.Errorf("GET %s = %d %.200s; want a page, or none", path, w.Code, body)
				}
				if want := tt.sees[path]; want == "404" && w.Code != http.StatusNotFound || want != "404" && !strings.Contains(body, want) {
					t.Errorf("GET %s = %d without %q:\n%s", path, w.Code, want, body)
				}
				if not := tt.lacks[path]; not != "" && strings.Contains(body, not) {
					t.Errorf("GET %s has %q, which is not for %s", path, not, tt.login)
				}
				if strings.Contains(body, value) {
					t.Errorf("GET %s shows a value", path)
				}
			}
			if n := recorded(t, s, broker.AuditFilter{Actor: v.who.ID, Outcome: latchkey.OutcomeDenied}); n > 0 {
				t.Errorf("looking at pages recorded %d refusals; want none", n)
			}
			w := v.ask("POST", version+"/reveal", url.Values{})
			read := recorded(t, s, broker.AuditFilter{Actor: v.who.ID, Action: latchkey.ActSecretGet, Outcome: latchkey.OutcomeOK})
			if shown := strings.Contains(w.Body.String(), value); shown != tt.reads || tt.reads != (read == 1) {
				t.Errorf("asked for the value: %d, shown %t, %d readings on record; want it shown %t, and as often on record", w.Code, shown, read, tt.reads)
			}
		})
	}
}

// TestSecretForm: what is wrong stands at its field, and a value never comes back.
func TestSecretForm(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{Idle: true})
	if _, err := s.Broker.CreateVault(t.Context(), s.Admin, latchkey.EmbeddedVaultCreate{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	v := visitor{t, served(t, s), s.Admin}
	const value = "canary-of-the-form"
	for _, tt := range []struct{ field, name, expires, tags string }{
		{"name", "two words", "", ""}, {"expires", "erp", "soon", ""}, {"tags", "erp", "", "no sign"},
	} {
		w := v.ask("POST", "/vaults/kept/new-secret", url.Values{"name": {tt.name}, "value": {value}, "expires": {tt.expires}, "tags": {tt.tags}})
		body := w.Body.String()
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(body, `id="f-`+tt.field+`-error"`) || strings.Contains(body, value) {
			t.Errorf("a wrong %s: %d\n%s\nwant 422 with the fault there, and no value", tt.field, w.Code, body)
		}
	}
	good := url.Values{"name": {"erp"}, "value": {value}, "contentType": {"text/plain"}, "expires": {"2031-05-06T07:08"}, "tags": {"team = till\r\n\r\na=b=c"}}
	if w := v.ask("POST", "/vaults/kept/new-secret", good); w.Code != http.StatusSeeOther {
		t.Fatalf("a new secret: %d %s", w.Code, w.Body)
	}
	x, got, err := s.Broker.Secret(t.Context(), s.Admin, "kept", "erp", "")
	if err != nil {
		t.Fatal(err)
	}
	if got.Reveal() != value || !x.Expires.Equal(time.Date(2031, 5, 6, 7, 8, 0, 0, time.UTC)) || x.Tags["team"] != "till" || x.Tags["a"] != "b=c" || x.ContentType != "text/plain" || !x.Enabled {
		t.Errorf("stored %+v; want what was filled in", x)
	}
	if w := v.ask("POST", "/vaults/kept/new-secret", good); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "There is a secret of this name") {
		t.Errorf("the same name again: %d; want it refused", w.Code)
	}
	edit := "/vaults/kept/secrets/erp/" + x.Version + "/edit"
	if w := v.ask("POST", edit, url.Values{"tags": {"a=b"}}); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `id="f-expires-error"`) {
		t.Errorf("an expiry that is taken away: %d; want it refused", w.Code)
	}
}
