package client

import (
	"context"
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
