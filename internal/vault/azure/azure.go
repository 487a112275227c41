// Package azure reads secrets from Azure Key Vault with Microsoft's SDK: from
// vaults in Azure's cloud over the network, and from Latchkey's embedded vaults
// inside the process. The two differ by address, transport and credential only.
package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
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
)

// Config says which vault to read and as whom.
type Config struct {
	// URL is the vault's address: https, a host and perhaps a port.
	URL string

	// Credential is the identity that reads.
	Credential azcore.TokenCredential

	// Transport sends requests; nil is HTTPS over the network.
	Transport policy.Transporter

	// Timeout bounds every call, retries included; 0 is 15 seconds.
	Timeout time.Duration
}

// A Vault reads one key vault. It is safe for concurrent use; the first read
// costs one more round trip than the others, so callers keep it.
type Vault struct {
	url     string
	client  *azsecrets.Client
	timeout time.Duration
}

var _ vault.Vault = (*Vault)(nil)

// New returns a reader of the vault that c describes. Nothing is sent before the
// first read.
func New(c Config) (*Vault, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("the address of a key vault must be https:// and a host name")
	}
	if c.Credential == nil {
		return nil, errors.New("a key vault needs a credential")
	}
	if c.Transport == nil {
		c.Transport = network()
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	client, err := azsecrets.NewClient(c.URL, c.Credential, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: bounded{c.Transport},
		Retry:     policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay},
	}})
	if err != nil {
		return nil, fmt.Errorf("open key vault %s: %w", c.URL, err)
	}
	return &Vault{c.URL, client, c.Timeout}, nil
}

// Public returns a reader of a vault in Azure's public cloud.
func Public(ref latchkey.VaultReference, cred azcore.TokenCredential) (*Vault, error) {
	// The name becomes part of a host name, so nothing but a name may pass.
	if err := latchkey.CheckVaultName(ref.Vault); err != nil {
		return nil, fmt.Errorf("name of the key vault: %w", err)
	}
	return New(Config{URL: "https://" + ref.Vault + ".vault.azure.net", Credential: cred})
}

// DefaultCredential returns the identity that Azure's SDK finds in the
// surroundings of the process: environment variables, workload identity,
// managed identity, or a developer's sign-in.
func DefaultCredential() (azcore.TokenCredential, error) {
	return azidentity.NewDefaultAzureCredential(nil)
}

// network returns the transport over the network. A key vault never redirects;
// whoever does must not be followed with a token.
func network() policy.Transporter {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Get implements [vault.Vault].
func (v *Vault) Get(ctx context.Context, name string) (vault.Value, error) {
	r := reading{v.url, name, latchkey.VaultGetSecret}
	if err := latchkey.CheckSecretName(name); err != nil {
		return vault.Value{}, r.badName(err)
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	resp, err := v.client.GetSecret(ctx, name, "", nil)
	if err != nil {
		return vault.Value{}, r.fail(ctx, err)
	}
	if resp.Value == nil || resp.ID == nil || resp.ID.Version() == "" {
		return vault.Value{}, r.unavailable(errors.New("the answer is not a secret"))
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
	r := reading{v.url, name, latchkey.VaultReadMetadata}
	if err := latchkey.CheckSecretName(name); err != nil {
		return r.badName(err)
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	page, err := v.client.NewListSecretPropertiesVersionsPager(name, nil).NextPage(ctx)
	if err != nil {
		return r.fail(ctx, err)
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
