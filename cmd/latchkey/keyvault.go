package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// keyVaultVersion is the version of Azure Key Vault's REST interface that this
// program speaks.
const keyVaultVersion = "2025-07-01"

// maxVaultAnswer bounds what is read of one answer: the backup of an object with
// all its versions fits.
const maxVaultAnswer = 33 << 20

// What is kept of a failure that a vault explains.
const (
	maxVaultMessage = 4000
	maxVaultCode    = 100
)

// A keyVault speaks Key Vault's REST interface to one embedded vault.
type keyVault struct {
	base  string // https://{vault}.{domain}
	token latchkey.Secret
	http  *http.Client
}

// A secretBundle is one version of a secret as Key Vault writes it.
type secretBundle struct {
	ID           string            `json:"id,omitempty"`
	Value        *string           `json:"value,omitempty"`
	ContentType  string            `json:"contentType,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Attributes   *secretAttributes `json:"attributes,omitempty"`
	RecoveryID   string            `json:"recoveryId,omitempty"`
	DeletedDate  int64             `json:"deletedDate,omitempty"`
	ScheduledFor int64             `json:"scheduledPurgeDate,omitempty"`
}

type secretAttributes struct {
	Enabled   *bool `json:"enabled,omitempty"`
	NotBefore int64 `json:"nbf,omitempty"`
	Expires   int64 `json:"exp,omitempty"`
	Created   int64 `json:"created,omitempty"`
	Updated   int64 `json:"updated,omitempty"`
}

// name and version are the last parts of a secret's id.
func (b secretBundle) name() string {
	parts := b.idParts()
	return parts[0]
}

func (b secretBundle) version() string {
	parts := b.idParts()
	return parts[1]
}

func (b secretBundle) idParts() [2]string {
	for _, mark := range []string{"/secrets/", "/deletedsecrets/", "/certificates/"} {
		if _, rest, ok := strings.Cut(b.ID, mark); ok {
			name, version, _ := strings.Cut(rest, "/")
			return [2]string{name, version}
		}
	}
	return [2]string{}
}

func (b secretBundle) enabled() string {
	if b.Attributes != nil && b.Attributes.Enabled != nil && !*b.Attributes.Enabled {
		return "no"
	}
	return "yes"
}

func (b secretBundle) attributes() secretAttributes {
	if b.Attributes == nil {
		return secretAttributes{}
	}
	return *b.Attributes
}

func unixTime(s int64) string {
	if s == 0 {
		return ""
	}
	return cli.When(time.Unix(s, 0))
}

// openVault returns the embedded vault with a name, as the caller of c.
func openVault(ctx context.Context, c *client.Client, name string) (*keyVault, error) {
	if err := latchkey.CheckVaultName(name); err != nil {
		return nil, latchkey.Invalid("vault", "%v", err)
	}
	at, err := c.VaultConnection(ctx)
	if err != nil {
		return nil, err
	}
	token, err := c.VaultToken(ctx)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(at.CAPEM)) {
		return nil, errors.New("the server's CA certificate cannot be read")
	}
	address := vaultAddress(at.Address, c.Server())
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &keyVault{
		base:  "https://" + strings.ToLower(name) + "." + at.Domain,
		token: latchkey.NewSecret(token.Token),
		http: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				// The name need not resolve: the server says where its vaults are.
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, network, address)
				},
				TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: true,
				IdleConnTimeout:   30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// vaultAddress returns where to connect to: a server that listens on every
// address is at the one that it was reached at.
func vaultAddress(address, server string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if u, err := url.Parse(server); err == nil {
			return net.JoinHostPort(u.Hostname(), port)
		}
	}
	return address
}

func (v *keyVault) close() { v.http.CloseIdleConnections() }

// do sends a request to a path or, for the next page of a list, to an address
// of the same vault.
func (v *keyVault) do(ctx context.Context, method, path string, in, out any) error {
	address := path
	if !strings.HasPrefix(path, v.base+"/") {
		address = v.base + path
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		address += sep + "api-version=" + keyVaultVersion
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, &body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+v.token.Reveal())
	resp, err := v.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "unreachable", Msg: "the vault cannot be reached", Err: err}
	}
	defer resp.Body.Close()
	b, err := readAll(resp.Body, maxVaultAnswer, "the vault's answer")
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		return vaultProblem(resp.StatusCode, b)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return errors.New("the vault's answer is not valid JSON") // err may quote it
	}
	return nil
}

// vaultProblem returns the error that an answer of Key Vault stands for.
func vaultProblem(status int, body []byte) error {
	var p struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	e := &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "vault-" + fmt.Sprint(status), Msg: fmt.Sprintf("the vault answers %d %s", status, http.StatusText(status))}
	if json.Unmarshal(body, &p) == nil && p.Error.Message != "" {
		e.Code = boundedText(p.Error.Code, maxVaultCode)
		e.Msg = strings.TrimSpace(boundedText(p.Error.Message, maxVaultMessage))
	}
	switch status {
	case http.StatusBadRequest:
		e.Kind = latchkey.ErrInvalid
	case http.StatusUnauthorized:
		e.Kind = latchkey.ErrUnauthenticated
	case http.StatusForbidden:
		e.Kind = latchkey.ErrDenied
	case http.StatusNotFound:
		e.Kind = latchkey.ErrNotFound
	case http.StatusConflict:
		e.Kind = latchkey.ErrConflict
	}
	return e
}

// boundedText returns what is kept of a text from the network: not more than so
// many bytes, and nothing that a terminal would act on.
func boundedText(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return cli.Clean(s)
}

// secretPath returns the path of a secret or certificate, and of one version if
// it is not "".
func secretPath(collection, name, version string) (string, error) {
	if err := latchkey.CheckSecretName(name); err != nil {
		return "", latchkey.Invalid(strings.TrimSuffix(strings.TrimPrefix(collection, "deleted"), "s"), "%v", err)
	}
	path := "/" + collection + "/" + name
	if version != "" {
		path += "/" + url.PathEscape(version)
	}
	return path, nil
}

// set adds a version to a secret, and returns it.
func (v *keyVault) set(ctx context.Context, name string, value latchkey.Secret, meta secretBundle) (secretBundle, error) {
	var out secretBundle
	path, err := secretPath("secrets", name, "")
	if err != nil {
		return out, err
	}
	text := value.Reveal()
	meta.Value = &text
	err = v.do(ctx, http.MethodPut, path, meta, &out)
	out.Value = nil
	return out, err
}

// get returns a version of a secret with its value; "" is the newest.
func (v *keyVault) get(ctx context.Context, name, version string) (secretBundle, error) {
	var out secretBundle
	path, err := secretPath("secrets", name, version)
	if err == nil {
		err = v.do(ctx, http.MethodGet, path, nil, &out)
	}
	return out, err
}

// list calls yield for each entry of a list.
func (v *keyVault) list(ctx context.Context, path string) iter.Seq2[secretBundle, error] {
	return listVault[secretBundle](ctx, v, path)
}

// listVault returns the entries of a list of a vault.
func listVault[T any](ctx context.Context, v *keyVault, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for path != "" {
			var page struct {
				Value    []T    `json:"value"`
				NextLink string `json:"nextLink"`
			}
			if err := v.do(ctx, http.MethodGet, path, nil, &page); err != nil {
				yield(none, err)
				return
			}
			for _, b := range page.Value {
				if !yield(b, nil) {
					return
				}
			}
			if page.NextLink != "" && !strings.HasPrefix(page.NextLink, v.base+"/") {
				yield(none, errors.New("the vault's next page is at another address"))
				return
			}
			path = page.NextLink
		}
	}
}
