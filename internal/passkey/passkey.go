// Package passkey does the ceremonies of passkeys (Web Authentication, level 3) for
// one site. It keeps nothing: what a ceremony is begun with is handed back when it
// is finished.
package passkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// MaxResponse bounds what a browser answers, in bytes.
const MaxResponse = 64 << 10

// Why a site can have no passkeys.
var (
	ErrAddress  = errors.New("passkeys need a host name, and the public address is an IP address")
	ErrInsecure = errors.New("passkeys need https, but for localhost")
)

// A Site is what passkeys are for: they work at no other.
type Site struct{ w *webauthn.WebAuthn }

// New returns the site with a public address, which may have a port and no path. The
// error is ErrAddress or ErrInsecure if it can have no passkeys.
func New(public string) (*Site, error) {
	u, err := url.Parse(public)
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	host := u.Hostname()
	switch {
	case net.ParseIP(host) != nil:
		return nil, ErrAddress
	case u.Scheme != "https" && host != "localhost":
		return nil, ErrInsecure
	}
	required := true
	w, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Latchkey", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	return &Site{w}, nil
}

// A Key is the public part of a passkey, with what its authenticator said last.
type Key struct {
	ID        []byte // how the authenticator knows it
	PublicKey []byte // COSE_Key
	SignCount uint32
	Flags     byte // of authenticator data
}

func keyOf(c *webauthn.Credential) Key {
	return Key{c.ID, c.PublicKey, c.Authenticator.SignCount, byte(c.Flags.ProtocolValue())}
}

// A User is somebody who has passkeys. ID is what authenticators keep of it, at most
// 64 bytes.
type User struct {
	ID          []byte
	Login, Name string
	Keys        []Key
}

// user is a User as the library wants it.
type user struct{ User }

func (u user) WebAuthnID() []byte          { return u.ID }
func (u user) WebAuthnName() string        { return u.Login }
func (u user) WebAuthnDisplayName() string { return u.Name }

func (u user) WebAuthnCredentials() (all []webauthn.Credential) {
	for _, k := range u.Keys {
		all = append(all, webauthn.Credential{
			ID: k.ID, PublicKey: k.PublicKey, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags)),
			Authenticator: webauthn.Authenticator{SignCount: k.SignCount},
		})
	}
	return all
}

// Register begins to make a passkey: options are for the browser, in JSON, state is
// for Registered and nobody else to change.
func (s *Site) Register(u User) (options, state []byte, err error) {
	var known []protocol.CredentialDescriptor
	for _, k := range u.Keys {
		known = append(known, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: k.ID})
	}
	creation, session, err := s.w.BeginRegistration(user{u}, webauthn.WithExclusions(known))
	if err != nil {
		return nil, nil, fmt.Errorf("begin to make a passkey: %w", err)
	}
	return both(creation, session)
}

func both(options, session any) (o, s []byte, err error) {
	if o, err = json.Marshal(options); err != nil {
		return nil, nil, err
	}
	s, err = json.Marshal(session)
	return o, s, err
}

// Registered returns the passkey that a browser has made. An error says why the
// response is not right.
func (s *Site) Registered(u User, state, response []byte) (Key, error) {
	var session webauthn.SessionData
	if err := json.Unmarshal(state, &session); err != nil {
		return Key{}, fmt.Errorf("read the ceremony: %w", err)
	}
	if len(response) > MaxResponse {
		return Key{}, errors.New("the browser's answer is too long")
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Key{}, fmt.Errorf("read the browser's answer: %w", err)
	}
	c, err := s.w.CreateCredential(user{u}, session, parsed)
	if err != nil {
		return Key{}, err
	}
	return keyOf(c), nil
}

// SignIn begins to sign somebody in, whoever it will be.
func (s *Site) SignIn() (options, state []byte, err error) {
	assertion, session, err := s.w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, nil, fmt.Errorf("begin to sign in with a passkey: %w", err)
	}
	return both(assertion, session)
}

// SignedIn returns the passkey that somebody has signed in with. find returns whom
// the authenticator says it is for, by the key's id and the user's. An error says why
// the response is not right, or is that of find.
func (s *Site) SignedIn(state, response []byte, find func(key, id []byte) (User, error)) (Key, error) {
	var session webauthn.SessionData
	if err := json.Unmarshal(state, &session); err != nil {
		return Key{}, fmt.Errorf("read the ceremony: %w", err)
	}
	if len(response) > MaxResponse {
		return Key{}, errors.New("the browser's answer is too long")
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Key{}, fmt.Errorf("read the browser's answer: %w", err)
	}
	_, c, err := s.w.ValidatePasskeyLogin(func(key, id []byte) (webauthn.User, error) {
		u, err := find(key, id)
		return user{u}, err
	}, session, parsed)
	if err != nil {
		return Key{}, err
	}
	if c.Authenticator.CloneWarning {
		return Key{}, errors.New("the authenticator's counter went back: there are two copies of it")
	}
	return keyOf(c), nil
}
