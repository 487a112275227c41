package server

import (
	"context"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// InCredential is the part of a request that names a credential.
type InCredential struct {
	InEnv
	ID latchkey.CredentialID `path:"id" doc:"id of the credential, cred_…"`
}

type credentialIn struct{ InCredential }

type credentialDeleteIn struct {
	InCredential
	Forcing
}

type credentialUpdateIn struct {
	InCredential
	Body latchkey.CredentialUpdate
}

type credentialsIn struct {
	InEnv
	SortedPaging
	Authentication latchkey.Authentication `query:"authentication" enum:"password,certificate" doc:"only credentials of this authentication"`
	Usage          latchkey.Usage          `query:"usage" enum:"connection,desktop-flow" doc:"only credentials for this usage"`
	Mine           bool                    `query:"mine" doc:"only the caller's own"`
}

func (s *server) credentials(ctx context.Context, who latchkey.Caller, in *credentialsIn) (*listOf[latchkey.Credential], error) {
	return list(s.b.FindCredentials(ctx, who, in.Env, broker.CredentialFilter{Authentication: in.Authentication, Usage: in.Usage, Mine: in.Mine}, in.options()))
}

type releasesIn struct {
	InCredential
	Paging
}

func (s *server) credentialReleases(ctx context.Context, who latchkey.Caller, in *releasesIn) (*listOf[latchkey.ReleaseRecord], error) {
	return list(s.b.Releases(ctx, who, in.Env, in.ID, in.options()))
}

func (s *server) createCredential(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.CredentialCreate]) (*created[latchkey.Credential], error) {
	v, err := s.b.CreateCredential(ctx, who, in.Env, in.Body)
	return at(v, "environments", in.Env, "credentials", string(v.ID)), err
}

func (s *server) credential(ctx context.Context, who latchkey.Caller, in *credentialIn) (*one[latchkey.Credential], error) {
	return show(s.b.Credential(ctx, who, in.Env, in.ID))
}

func (s *server) updateCredential(ctx context.Context, who latchkey.Caller, in *credentialUpdateIn) (*one[latchkey.Credential], error) {
	return show(s.b.UpdateCredential(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) deleteCredential(ctx context.Context, who latchkey.Caller, in *credentialDeleteIn) (*none, error) {
	return done(s.b.DeleteCredential(ctx, who, in.Env, in.ID, in.force()))
}
