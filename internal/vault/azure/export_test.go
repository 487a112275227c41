package azure

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Dial has every connection go where f says.
func (a *Access) Dial(f func(ctx context.Context, network, address string) (net.Conn, error)) {
	a.client.Transport.(*http.Transport).DialContext = f
}

// Hurry sets the time of a call, and the delay before its first retry.
func (a *Access) Hurry(timeout, delay time.Duration) { a.timeout, a.delay = timeout, delay }

// Idle closes the connections that nobody uses.
func (a *Access) Idle() { a.client.CloseIdleConnections() }

// NewWith returns a reader of the vault erp in Azure that sends its requests by a
// transport.
func NewWith(t testing.TB, transport policy.Transporter, log *slog.Logger) *Vault {
	t.Helper()
	v, err := New(Config{
		URL: "https://erp.vault.azure.net", Credential: noCredential{}, Transport: transport, suffix: "vault.azure.net", access: &Access{log: log, tenants: func(context.Context) ([]string, error) { return nil, nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// noCredential is an identity that nobody asks for a token.
type noCredential struct{ azcore.TokenCredential }

// Limits, for tests.
const (
	MaxFailures = maxFailures
	MaxTries    = maxRetries + 1
	Pause       = pause
	MaxResponse = maxResponse
)
