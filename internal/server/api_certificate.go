package server

import (
	"context"

	"latchkey.dev/latchkey"
)

func (s *server) checkCredential(ctx context.Context, who latchkey.Caller, in *credentialIn) (*one[latchkey.Credential], error) {
	return show(s.b.CheckCredential(ctx, who, in.Env, in.ID))
}

func (s *server) certificateBindings(ctx context.Context, who latchkey.Caller, _ *struct{}) (*one[latchkey.CertificateBindings], error) {
	return show(s.b.CertificateBindings(ctx, who))
}

func (s *server) certificateAccounts(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.CertificateAccount], error) {
	return list(s.b.CertificateAccounts(ctx, who, in.options()))
}

type accountIn struct {
	UPN string `path:"upn" maxLength:"256" doc:"user principal name, in any case"`
}

func (s *server) certificateAccount(ctx context.Context, who latchkey.Caller, in *accountIn) (*one[latchkey.CertificateAccount], error) {
	return show(s.b.CertificateAccount(ctx, who, in.UPN))
}

type accountSetIn struct {
	UPN  string `path:"upn" maxLength:"256" doc:"user principal name, in any case"`
	Body latchkey.CertificateAccountSet
}

func (s *server) setCertificateAccount(ctx context.Context, who latchkey.Caller, in *accountSetIn) (*one[latchkey.CertificateAccount], error) {
	return show(s.b.SetCertificateAccount(ctx, who, in.UPN, in.Body))
}

func (s *server) removeCertificateAccount(ctx context.Context, who latchkey.Caller, in *accountIn) (*none, error) {
	return done(s.b.RemoveCertificateAccount(ctx, who, in.UPN))
}

type bindingsIn struct {
	Body latchkey.CertificateBindings
}

func (s *server) setCertificateBindings(ctx context.Context, who latchkey.Caller, in *bindingsIn) (*one[latchkey.CertificateBindings], error) {
	return show(s.b.SetCertificateBindings(ctx, who, in.Body))
}
