package client

import (
	"context"
	"iter"
	"net/http"
	"time"

	"latchkey.dev/latchkey"
)

// Me returns the caller's own account.
func (c *Client) Me(ctx context.Context) (latchkey.User, error) {
	return call[latchkey.User](ctx, c, http.MethodGet, "/me", nil)
}

// Users lists the accounts.
func (c *Client) Users(ctx context.Context, o ...ListOption) iter.Seq2[latchkey.User, error] {
	return list[latchkey.User](ctx, c, "/users", options(nil, o))
}

// User returns the account with an id or a login.
func (c *Client) User(ctx context.Context, ref string) (latchkey.User, error) {
	return call[latchkey.User](ctx, c, http.MethodGet, join("users", ref), nil)
}

// CreateUser makes a local account.
func (c *Client) CreateUser(ctx context.Context, in latchkey.UserCreate) (latchkey.User, error) {
	return call[latchkey.User](ctx, c, http.MethodPost, "/users", in)
}

// UpdateUser changes what is not nil in in.
func (c *Client) UpdateUser(ctx context.Context, ref string, in latchkey.UserUpdate) (latchkey.User, error) {
	return call[latchkey.User](ctx, c, http.MethodPatch, join("users", ref), in)
}

// SignIn returns a token for a login and its password.
func (c *Client) SignIn(ctx context.Context, login string, password latchkey.Secret) (latchkey.NewToken, error) {
	in := struct {
		Login    string `json:"login"`
		Password string `json:"password"`
	}{login, password.Reveal()}
	return call[latchkey.NewToken](ctx, c.WithToken(latchkey.Secret{}), http.MethodPost, "/sign-in", in)
}

// A SignInLink signs its caller in to the pages, once.
type SignInLink struct {
	URL       string    `json:"url"`
	Link      string    `json:"link"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// SignInLink makes a one-time link for the caller's own account.
func (c *Client) SignInLink(ctx context.Context) (SignInLink, error) {
	return call[SignInLink](ctx, c, http.MethodPost, "/sign-in/link", nil)
}

// Tokens lists the caller's own API tokens.
func (c *Client) Tokens(ctx context.Context) iter.Seq2[latchkey.Token, error] {
	return list[latchkey.Token](ctx, c, "/tokens", nil)
}

// CreateToken makes an API token of the caller.
func (c *Client) CreateToken(ctx context.Context, in latchkey.TokenCreate) (latchkey.NewToken, error) {
	return call[latchkey.NewToken](ctx, c, http.MethodPost, "/tokens", in)
}

// RevokeToken ends one of the caller's own tokens.
func (c *Client) RevokeToken(ctx context.Context, id latchkey.TokenID) error {
	return c.do(ctx, http.MethodDelete, join("tokens", string(id)), nil, nil, nil)
}

// Sessions lists the caller's own sessions, the newest first.
func (c *Client) Sessions(ctx context.Context) iter.Seq2[latchkey.Session, error] {
	return list[latchkey.Session](ctx, c, "/sessions", nil)
}

// EndOtherSessions ends the caller's sessions but the one that asks.
func (c *Client) EndOtherSessions(ctx context.Context) (latchkey.EndedSessions, error) {
	return call[latchkey.EndedSessions](ctx, c, http.MethodPost, "/sessions/end-others", nil)
}

// SignIns lists how the caller was signed in, and how that was refused, the newest
// first.
func (c *Client) SignIns(ctx context.Context) iter.Seq2[latchkey.AuditEvent, error] {
	return list[latchkey.AuditEvent](ctx, c, "/me/sign-ins", nil)
}
