package server

import (
	"context"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

type signInIn struct {
	UserAgent string `header:"User-Agent" maxLength:"2000" hidden:"true"`
	Body      signInBody
}

type signInBody struct {
	Login    string `json:"login"`
	Password string `json:"password"`
}

func (s *server) signIn(ctx context.Context, in *signInIn) (*one[latchkey.NewToken], error) {
	return show(s.b.SignIn(ctx, in.Body.Login, latchkey.NewSecret(in.Body.Password), broker.Visitor{Address: visitOf(ctx).address, Client: in.UserAgent}))
}

// signInLink is a new one-time link.
type signInLink struct {
	URL       string    `json:"url" doc:"the link to open in a browser"`
	Link      string    `json:"link" doc:"its secret part, to paste into the sign-in page"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (s *server) createSignInLink(ctx context.Context, who latchkey.Caller, _ *struct{}) (*one[signInLink], error) {
	link, expires, err := s.b.SignInLink(ctx, who)
	return show(signInLink{s.PublicURL() + "/sign-in#" + link, link, expires}, err)
}

func (s *server) tokens(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.Token], error) {
	return list(s.b.Tokens(ctx, who, in.options()))
}

type tokenCreateIn struct{ Body latchkey.TokenCreate }

func (s *server) createToken(ctx context.Context, who latchkey.Caller, in *tokenCreateIn) (*created[latchkey.NewToken], error) {
	t, err := s.b.CreateToken(ctx, who, in.Body)
	return at(t, "tokens", string(t.ID)), err
}

type tokenIn struct {
	ID latchkey.TokenID `path:"id" doc:"id of the token, tok_…"`
}

func (s *server) revokeToken(ctx context.Context, who latchkey.Caller, in *tokenIn) (*none, error) {
	return done(s.b.RevokeToken(ctx, who, in.ID))
}

func (s *server) sessions(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.Session], error) {
	return list(s.b.Sessions(ctx, who, in.options()))
}

func (s *server) endOtherSessions(ctx context.Context, who latchkey.Caller, _ *struct{}) (*one[latchkey.EndedSessions], error) {
	return show(s.b.EndOtherSessions(ctx, who))
}

func (s *server) signIns(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.AuditEvent], error) {
	return list(s.b.SignIns(ctx, who, in.options()))
}
