package server

import (
	"context"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// InServicePrincipal is the part of a request that names a service principal.
type InServicePrincipal struct {
	ID string `path:"id" doc:"id (sp_…) or client id of the service principal"`
}

type servicePrincipalIn struct{ InServicePrincipal }

func (s *server) servicePrincipals(ctx context.Context, who latchkey.Caller, in *searchIn) (*listOf[latchkey.ServicePrincipal], error) {
	return list(s.b.ServicePrincipals(ctx, who, in.options()))
}

type servicePrincipalCreateIn struct {
	Body latchkey.ServicePrincipalCreate
}

func (s *server) createServicePrincipal(ctx context.Context, who latchkey.Caller, in *servicePrincipalCreateIn) (*created[latchkey.ServicePrincipal], error) {
	p, err := s.b.CreateServicePrincipal(ctx, who, in.Body)
	return at(p, "service-principals", string(p.ID)), err
}

func (s *server) servicePrincipal(ctx context.Context, who latchkey.Caller, in *servicePrincipalIn) (*one[latchkey.ServicePrincipal], error) {
	return show(s.b.ServicePrincipal(ctx, who, in.ID))
}

type servicePrincipalUpdateIn struct {
	InServicePrincipal
	Body latchkey.ServicePrincipalUpdate
}

func (s *server) updateServicePrincipal(ctx context.Context, who latchkey.Caller, in *servicePrincipalUpdateIn) (*one[latchkey.ServicePrincipal], error) {
	return show(s.b.UpdateServicePrincipal(ctx, who, in.ID, in.Body))
}

func (s *server) deleteServicePrincipal(ctx context.Context, who latchkey.Caller, in *servicePrincipalIn) (*none, error) {
	return done(s.b.DeleteServicePrincipal(ctx, who, in.ID))
}

type proofAddIn struct {
	InServicePrincipal
	Body latchkey.ServicePrincipalCredentialCreate
}

func (s *server) addServicePrincipalCredential(ctx context.Context, who latchkey.Caller, in *proofAddIn) (*created[latchkey.NewServicePrincipalCredential], error) {
	n, err := s.b.AddServicePrincipalCredential(ctx, who, in.ID, in.Body)
	return at(n, "service-principals", in.ID, "credentials", string(n.ID)), err
}

type proofRemoveIn struct {
	InServicePrincipal
	Credential latchkey.ServicePrincipalCredentialID `path:"cred" doc:"id of the credential, spc_…"`
}

func (s *server) removeServicePrincipalCredential(ctx context.Context, who latchkey.Caller, in *proofRemoveIn) (*none, error) {
	return done(s.b.RemoveServicePrincipalCredential(ctx, who, in.ID, in.Credential))
}

type serviceSignInIn struct{ Body serviceSignInBody }

type serviceSignInBody struct {
	ClientID  string  `json:"clientId" doc:"client id, or id, of the service principal"`
	Secret    *string `json:"secret,omitempty" doc:"one of its secrets"`
	Assertion *string `json:"assertion,omitempty" doc:"a JSON Web Token, instead of a secret: signed by the key of one of its certificates, with iss and sub the client id, aud the address of this operation, exp within 24 hours and a jti that is used once (RFC 7523); or one of an issuer that a federated credential names"`
}

// signInPath is where service principals sign in, which is whom an assertion that
// they sign is for.
const signInPath = apiPrefix + "/sign-in/service-principal"

func (s *server) signInServicePrincipal(ctx context.Context, in *serviceSignInIn) (*one[latchkey.NewToken], error) {
	v := visitOf(ctx)
	p := broker.ServicePrincipalProof{
		ClientID: in.Body.ClientID, Address: v.address, RequestID: v.id,
		Audiences: []string{s.PublicURL() + signInPath, s.PublicURL()},
	}
	if in.Body.Secret != nil {
		p.Secret = latchkey.NewSecret(*in.Body.Secret)
	}
	if in.Body.Assertion != nil {
		p.Assertion = *in.Body.Assertion
	}
	return show(s.b.SignInServicePrincipal(ctx, p))
}
