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

type bindingsIn struct {
	Body latchkey.CertificateBindings
}

func (s *server) setCertificateBindings(ctx context.Context, who latchkey.Caller, in *bindingsIn) (*one[latchkey.CertificateBindings], error) {
	return show(s.b.SetCertificateBindings(ctx, who, in.Body))
}
