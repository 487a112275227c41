package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// ServicePrincipals lists the service principals.
func (c *Client) ServicePrincipals(ctx context.Context, o ...ListOption) iter.Seq2[latchkey.ServicePrincipal, error] {
	return list[latchkey.ServicePrincipal](ctx, c, "/service-principals", options(nil, o))
}

// ServicePrincipal returns the service principal with an id or a client id.
func (c *Client) ServicePrincipal(ctx context.Context, ref string) (latchkey.ServicePrincipal, error) {
	return call[latchkey.ServicePrincipal](ctx, c, http.MethodGet, join("service-principals", ref), nil)
}

// CreateServicePrincipal makes a service principal, which cannot sign in before it
// has a credential.
func (c *Client) CreateServicePrincipal(ctx context.Context, in latchkey.ServicePrincipalCreate) (latchkey.ServicePrincipal, error) {
	return call[latchkey.ServicePrincipal](ctx, c, http.MethodPost, "/service-principals", in)
}

// UpdateServicePrincipal changes what is not nil in in.
func (c *Client) UpdateServicePrincipal(ctx context.Context, ref string, in latchkey.ServicePrincipalUpdate) (latchkey.ServicePrincipal, error) {
	return call[latchkey.ServicePrincipal](ctx, c, http.MethodPatch, join("service-principals", ref), in)
}

// DeleteServicePrincipal deletes a service principal.
func (c *Client) DeleteServicePrincipal(ctx context.Context, ref string) error {
	return c.do(ctx, http.MethodDelete, join("service-principals", ref), nil, nil, nil)
}

// AddServicePrincipalCredential gives a service principal another way to prove
// itself. The secret, if it is one, is in this answer and nowhere else.
func (c *Client) AddServicePrincipalCredential(ctx context.Context, ref string, in latchkey.ServicePrincipalCredentialCreate) (latchkey.NewServicePrincipalCredential, error) {
	return call[latchkey.NewServicePrincipalCredential](ctx, c, http.MethodPost, join("service-principals", ref, "credentials"), in)
}

// RemoveServicePrincipalCredential takes a credential of a service principal away.
func (c *Client) RemoveServicePrincipalCredential(ctx context.Context, ref string, id latchkey.ServicePrincipalCredentialID) error {
	return c.do(ctx, http.MethodDelete, join("service-principals", ref, "credentials", string(id)), nil, nil, nil)
}

// ServicePrincipalSignInPath follows a server's address in the audience of an
// assertion that a service principal signs.
const ServicePrincipalSignInPath = apiPath + "/sign-in/service-principal"

// SignInWithSecret returns a token for a service principal and one of its secrets.
func (c *Client) SignInWithSecret(ctx context.Context, clientID string, secret latchkey.Secret) (latchkey.NewToken, error) {
	in := struct {
		ClientID string `json:"clientId"`
		Secret   string `json:"secret"`
	}{clientID, secret.Reveal()}
	return call[latchkey.NewToken](ctx, c.WithToken(latchkey.Secret{}), http.MethodPost, "/sign-in/service-principal", in)
}

// SignInWithAssertion returns a token for a service principal and a JSON Web Token
// that proves it: one that the key of one of its certificates signed, or one of an
// issuer that it names.
func (c *Client) SignInWithAssertion(ctx context.Context, clientID string, assertion latchkey.Secret) (latchkey.NewToken, error) {
	in := struct {
		ClientID  string `json:"clientId"`
		Assertion string `json:"assertion"`
	}{clientID, assertion.Reveal()}
	return call[latchkey.NewToken](ctx, c.WithToken(latchkey.Secret{}), http.MethodPost, "/sign-in/service-principal", in)
}
