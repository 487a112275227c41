package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// CheckCredential has the certificate of a credential looked at again.
func (c *Client) CheckCredential(ctx context.Context, env string, id latchkey.CredentialID) (latchkey.Credential, error) {
	return call[latchkey.Credential](ctx, c, http.MethodPost, join("environments", env, "credentials", string(id), "check"), nil)
}

// CertificateBindings returns the username bindings of the tenant.
func (c *Client) CertificateBindings(ctx context.Context) (latchkey.CertificateBindings, error) {
	return call[latchkey.CertificateBindings](ctx, c, http.MethodGet, join("certificate-bindings"), nil)
}

// SetCertificateBindings sets the username bindings of the tenant.
func (c *Client) SetCertificateBindings(ctx context.Context, in latchkey.CertificateBindings) (latchkey.CertificateBindings, error) {
	return call[latchkey.CertificateBindings](ctx, c, http.MethodPut, join("certificate-bindings"), in)
}

// CertificateAccounts lists what was said that the tenant's directory has of users.
func (c *Client) CertificateAccounts(ctx context.Context) iter.Seq2[latchkey.CertificateAccount, error] {
	return list[latchkey.CertificateAccount](ctx, c, "/certificate-accounts", nil)
}

// CertificateAccount returns what was said of one user, by the user principal name.
func (c *Client) CertificateAccount(ctx context.Context, upn string) (latchkey.CertificateAccount, error) {
	return call[latchkey.CertificateAccount](ctx, c, http.MethodGet, join("certificate-accounts", upn), nil)
}

// SetCertificateAccount says what the tenant's directory has of a user.
func (c *Client) SetCertificateAccount(ctx context.Context, upn string, in latchkey.CertificateAccountSet) (latchkey.CertificateAccount, error) {
	return call[latchkey.CertificateAccount](ctx, c, http.MethodPut, join("certificate-accounts", upn), in)
}

// RemoveCertificateAccount takes that back.
func (c *Client) RemoveCertificateAccount(ctx context.Context, upn string) error {
	return c.do(ctx, http.MethodDelete, join("certificate-accounts", upn), nil, nil, nil)
}
