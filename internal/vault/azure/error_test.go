package azure_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
)

const canary = "azure-canary-55d0"

func token(context.Context) (string, time.Time, error) {
	return "token", time.Now().Add(time.Hour), nil
}

// answers is a key vault that challenges and then gives one answer.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.windows.net/t", resource="https://vault.test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const byRole = "Caller is not authorized to perform action on resource.\\r\\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\\r\\n" +
	"Caller: appid=app-1;oid=object-1;iss=https://sts.windows.net/t/\\r\\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\\r\\nResource: '/subscriptions/s/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/erp/secrets/x'\\r\\n" +
	"Assignment: (not found)\\r\\nVault: erp;location=eastus\\r\\n"

const byPolicy = "The user, group or application 'appid=app-1;oid=object-1;iss=https://sts.windows.net/t/' does not have secrets get permission on key vault 'erp;location=eastus'. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287"

func TestErrors(t *testing.T) {
	body := func(code, inner, msg string) string {
		return fmt.Sprintf(`{"error":{"code":%q,"message":"%s","innererror":{"code":%q}}}`, code, msg, inner)
	}
	tests := []struct {
		name   string
		status int
		body   string
		kind   error
		want   vault.Error // of a refusal; Remedy is a part of it
	}{
		{"role", 403, body("Forbidden", "ForbiddenByRbac", byRole), vault.ErrDenied, vault.Error{
			Identity: "object-1", Action: "Microsoft.KeyVault/vaults/secrets/getSecret/action",
			Resource: "/subscriptions/s/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/erp/secrets/x", Remedy: "the role Key Vault Secrets User",
		}},
		{"policy", 403, body("Forbidden", "AccessDenied", byPolicy), vault.ErrDenied, vault.Error{
			Identity: "object-1", Action: "secrets get", Resource: "erp", Remedy: "access policies",
		}},
		{"firewall", 403, body("Forbidden", "ForbiddenByFirewall", "Client address is not authorized"), vault.ErrDenied, vault.Error{
			Identity: "the service's identity", Action: "Microsoft.KeyVault/vaults/secrets/getSecret/action", Resource: "https://erp.vault.test/secrets/x", Remedy: "networking",
		}},
		{"tenant", 401, body("Unauthorized", "", "AKV10032: Invalid issuer."), vault.ErrDenied, vault.Error{
			Identity: "the service's identity", Action: "Microsoft.KeyVault/vaults/secrets/getSecret/action", Resource: "https://erp.vault.test/secrets/x", Remedy: "tenant",
		}},
		{"expired token", 401, body("Unauthorized", "", "[TokenExpired] Error validating token: 'S2S12086'."), vault.ErrUnavailable, vault.Error{}},
		{"disabled", 403, body("Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret."), vault.ErrDisabled, vault.Error{}},
		{"proxy", 403, "<html>" + canary, vault.ErrUnavailable, vault.Error{}},
		{"not found", 404, body("SecretNotFound", "", "A secret with (name/id) x was not found"), vault.ErrNotFound, vault.Error{}},
		{"no vault", 404, body("VaultNotFound", "", "none"), vault.ErrNotFound, vault.Error{}},
		{"other server", 404, "<html>" + canary, vault.ErrUnavailable, vault.Error{}},
		{"throttled", 429, body("Throttled", "", "too many requests"), vault.ErrUnavailable, vault.Error{}},
		{"broken", 500, canary, vault.ErrUnavailable, vault.Error{}},
		{"version", 400, body("BadParameter", "", "The specified version is not recognized"), vault.ErrUnavailable, vault.Error{}},
		{"cut", 200, `{"value":"` + canary, vault.ErrUnavailable, vault.Error{}},
		{"number", 200, `{"value":12345678,"id":"https://erp.vault.test/secrets/x/0"}`, vault.ErrUnavailable, vault.Error{}},
		{"nothing", 200, `{}`, vault.ErrUnavailable, vault.Error{}},
		{"long", 200, `{"value":"` + strings.Repeat(canary, 1<<17), vault.ErrUnavailable, vault.Error{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Time is not real in here, so that retries cost none.
			synctest.Test(t, func(t *testing.T) {
				v, err := azure.Embedded(answers(tt.status, tt.body), token, "https://erp.vault.test")
				if err != nil {
					t.Fatal(err)
				}
				_, err = v.Get(t.Context(), "x")
				e, ok := errors.AsType[*vault.Error](err)
				if !ok || e.Kind != tt.kind || e.Msg == "" {
					t.Fatalf("Get = %v; want %v with a message", err, tt.kind)
				}
				if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "12345678") {
					t.Errorf("error %q holds what the answer did", err)
				}
				if e.Identity != tt.want.Identity || e.Action != tt.want.Action || e.Resource != tt.want.Resource || !strings.Contains(e.Remedy, tt.want.Remedy) {
					t.Errorf("refusal = %q, %q, %q, %q; want %+v", e.Identity, e.Action, e.Resource, e.Remedy, tt.want)
				}
			})
		})
	}
}

// TestRetries counts the requests that one read makes of a broken vault.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			w.Header().Set("Retry-After", "3600")
			answers(503, "")(w, r)
		})
		v, err := azure.Embedded(handler, token, "https://erp.vault.test")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := v.Get(t.Context(), "x"); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("Get = %v; want unavailable", err)
		}
		if took := time.Since(start); requests > 6 || took > 15*time.Second {
			t.Errorf("%d requests in %v; want at most 3 and their challenges, in 15 s", requests, took)
		}
	})
}

// noCredential is an identity that nobody asks for a token.
type noCredential struct{ azcore.TokenCredential }

type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

// TestTimeout reads a vault that never answers.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, err := azure.New(azure.Config{URL: "https://erp.vault.test", Credential: noCredential{}, Timeout: time.Second,
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := v.CheckRead(t.Context(), "x"); !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("CheckRead = %v; want unavailable because of the deadline", err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v; want 1 s", took)
		}
	})
}

// TestForeignChallenge reads a vault that asks for a token of somebody else's.
func TestForeignChallenge(t *testing.T) {
	asked := false
	v, err := azure.Embedded(answers(200, `{}`), func(ctx context.Context) (string, time.Time, error) {
		asked = true
		return token(ctx)
	}, "https://erp.vault.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Get(t.Context(), "x"); !errors.Is(err, vault.ErrUnavailable) || asked {
		t.Errorf("Get = %v, token asked for: %v; want unavailable without asking", err, asked)
	}
}

func TestNew(t *testing.T) {
	for _, url := range []string{"", "http://erp.vault.test", "https://", "https://a@erp.vault.test", "https://erp.vault.test/secrets", "https://erp.vault.test?x", "https://erp.vault.test#x"} {
		if _, err := azure.New(azure.Config{URL: url, Credential: noCredential{}, Transport: http.DefaultClient}); err == nil {
			t.Errorf("New(%q) = nil; want an error", url)
		}
	}
	if _, err := azure.New(azure.Config{URL: "https://erp.vault.test"}); err == nil {
		t.Error("New without a credential = nil; want an error")
	}
}
