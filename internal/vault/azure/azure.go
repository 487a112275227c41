// Package azure reads secrets from Azure Key Vault with Microsoft's SDK: from
// vaults in Azure's cloud over the network, and from Latchkey's embedded vaults
// inside the process. The two differ by address, transport and credential only. It
// asks Azure Resource Manager, or what stands for it, who may read, and knows the
// settings by which a server gets to Azure.
package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

const (
	defaultTimeout = 15 * time.Second
	maxRetries     = 2
	retryDelay     = 200 * time.Millisecond
	maxRetryDelay  = 4 * time.Second
	maxResponse    = 1 << 20 // bytes of one answer
	maxHeader      = 64 << 10
)

// Config says which vault to read and as whom.
type Config struct {
	// URL is the vault's address: https, a host and perhaps a port.
	URL string

	// Credential is the identity that reads.
	Credential azcore.TokenCredential

	// Transport sends requests. It follows no redirects: a key vault never does, and
	// whoever does must not be given a token.
	Transport policy.Transporter

	// Timeout bounds every call, retries included; 0 is 15 seconds. One try has two
	// fifths of it.
	Timeout time.Duration

	suffix string        // host of the audience of tokens; "" leaves that to the SDK
	access *Access       // nil for embedded vaults
	delay  time.Duration // before the first retry; 0 is retryDelay
}

// A Vault reads one key vault. It is safe for concurrent use; the first read
// costs one more round trip than the others, so callers keep it.
type Vault struct {
	url     string
	client  *azsecrets.Client
	timeout time.Duration

	// Of vaults in Azure.
	access  *Access
	tenant  atomic.Pointer[string] // that the vault said it belongs to
	breaker breaker
	meter   meter
}

var _ vault.Vault = (*Vault)(nil)

// New returns a reader of the vault that c describes. Nothing is sent before the
// first read.
func New(c Config) (*Vault, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("the address of a key vault must be https:// and a host name")
	}
	if c.Credential == nil || c.Transport == nil {
		return nil, errors.New("a key vault needs a credential and a transport")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.delay == 0 {
		c.delay = retryDelay
	}
	v := &Vault{url: c.URL, timeout: c.Timeout, access: c.access}
	transport := vaultTransport{Transporter: c.Transport, suffix: c.suffix, meter: &v.meter}
	if c.access != nil {
		transport.throttled = c.access.throttled
	}
	v.client, err = azsecrets.NewClient(c.URL, guarded{c.Credential, v}, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: transport,
		Retry: policy.RetryOptions{
			MaxRetries: maxRetries, RetryDelay: c.delay, MaxRetryDelay: maxRetryDelay, TryTimeout: c.Timeout * 2 / 5, ShouldRetry: again,
		},
	}})
	if err != nil {
		return nil, fmt.Errorf("open key vault %s: %w", c.URL, err)
	}
	return v, nil
}

// guarded gives a vault's client the tokens of a credential, unless the vault is of
// a tenant that is not linked.
type guarded struct {
	azcore.TokenCredential
	vault *Vault
}

// GetToken implements [azcore.TokenCredential]. The SDK asks it before it sends a
// token, with the tenant that the vault says it belongs to.
func (g guarded) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	tenant := strings.ToLower(o.TenantID)
	if err := g.vault.checkTenant(ctx, tenant); err != nil {
		return azcore.AccessToken{}, err
	}
	g.vault.tenant.Store(&tenant)
	token, err := g.TokenCredential.GetToken(ctx, o)
	if err != nil {
		err = &signInError{err}
	}
	return token, err
}

// reader says as whom the vault is read.
func (v *Vault) reader() reader {
	if v.access == nil {
		return reader{name: "the service's identity"}
	}
	return v.access.reader
}

// do carries out a reading in bounded time, unless the vault is left alone.
func (v *Vault) do(ctx context.Context, r reading, f func(context.Context) error) error {
	if v.access != nil {
		if ok, until, what := v.breaker.allow(); !ok {
			return r.paused(until, what)
		}
	}
	t := new(trace)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, traceKey{}, t), v.timeout)
	defer cancel()
	var err error
	// The SDK keeps tokens; a tenant may have been unlinked since.
	if tenant := v.tenant.Load(); tenant != nil {
		err = v.checkTenant(ctx, *tenant)
	}
	if err == nil {
		err = f(ctx)
	}
	if _, ok := errors.AsType[*vault.Error](err); err != nil && !ok {
		err = r.fail(ctx, t, err)
	}
	if v.access != nil {
		v.settle(ctx, err, t)
	}
	return err
}

// settle tells the breaker what became of a reading.
func (v *Vault) settle(ctx context.Context, err error, t *trace) {
	o, what, wait := answered, "", time.Duration(0)
	if e, ok := errors.AsType[*vault.Error](err); ok && e.Kind == vault.ErrUnavailable {
		o = failed
		if b, ok := errors.AsType[*because](err); ok {
			what = b.what
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			o = abandoned
		}
		if t.vault.status == http.StatusTooManyRequests || t.vault.status == http.StatusServiceUnavailable {
			wait = t.vault.retryAfter()
		}
	}
	opened, closed := v.breaker.done(o, what, wait)
	switch {
	case opened:
		v.access.log.LogAttrs(ctx, slog.LevelWarn, "key vault is left alone for a while", slog.String("vault", v.url), slog.Any("error", err))
	case closed:
		v.access.log.LogAttrs(ctx, slog.LevelInfo, "key vault answers again", slog.String("vault", v.url))
	}
}

// Paused reports whether the vault is left alone for now, because it did not answer.
func (v *Vault) Paused() bool { return v.breaker.open() }

// Usage returns how much this process has asked of the vault in the last hour.
func (v *Vault) Usage() vault.Usage { return v.meter.usage(time.Now()) }

// Get implements [vault.Vault].
func (v *Vault) Get(ctx context.Context, name string) (vault.Value, error) {
	r := reading{v.url, name, latchkey.VaultGetSecret, v.reader()}
	if err := latchkey.CheckSecretName(name); err != nil {
		return vault.Value{}, r.badName(err)
	}
	var resp azsecrets.GetSecretResponse
	err := v.do(ctx, r, func(ctx context.Context) (err error) {
		resp, err = v.client.GetSecret(ctx, name, "", nil)
		if err == nil && (resp.Value == nil || resp.ID == nil || resp.ID.Version() == "") {
			err = errors.New("the answer is not a secret")
		}
		return err
	})
	if err != nil {
		return vault.Value{}, err
	}
	value := vault.Value{Value: latchkey.NewSecret(*resp.Value), Version: resp.ID.Version(), Enabled: true}
	if resp.ContentType != nil {
		value.ContentType = *resp.ContentType
	}
	if a := resp.Attributes; a != nil {
		value.Enabled = a.Enabled == nil || *a.Enabled
		value.NotBefore, value.Expires = a.NotBefore, a.Expires
	}
	return value, nil
}

// CheckRead implements [vault.Vault]. It looks at one page of the secret's
// versions. Key Vault gives them in no order and with times of whole seconds, so
// a secret passes unless its newest version is known to be disabled.
func (v *Vault) CheckRead(ctx context.Context, name string) error {
	r := reading{v.url, name, latchkey.VaultReadMetadata, v.reader()}
	if err := latchkey.CheckSecretName(name); err != nil {
		return r.badName(err)
	}
	var page azsecrets.ListSecretPropertiesVersionsResponse
	err := v.do(ctx, r, func(ctx context.Context) (err error) {
		page, err = v.client.NewListSecretPropertiesVersionsPager(name, nil).NextPage(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if len(page.Value) == 0 {
		return r.notFound("SecretNotFound", nil)
	}
	if page.NextLink != nil && *page.NextLink != "" {
		return nil
	}
	var newest time.Time
	enabled := false
	for _, p := range page.Value {
		if p == nil || p.Attributes == nil || p.Attributes.Created == nil {
			return nil
		}
		created, on := *p.Attributes.Created, p.Attributes.Enabled == nil || *p.Attributes.Enabled
		switch created.Compare(newest) {
		case 1:
			newest, enabled = created, on
		case 0:
			enabled = enabled || on
		}
	}
	if !enabled {
		return r.disabled(nil)
	}
	return nil
}
