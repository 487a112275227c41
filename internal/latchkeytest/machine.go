package latchkeytest

import (
	"crypto/ed25519"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// A Machine is an enrolled machine whose agent the test plays, without HTTP.
type Machine struct {
	ID      latchkey.MachineID
	Keys    *seal.MachineKeys
	Counter int64 // of the newest session
	Release int64 // counter of the newest release
	Policy  latchkey.Policy

	session broker.AgentSession
	server  ed25519.PublicKey
	s       *Service
}

// Program is the program that the machines and flows of tests use.
const Program = "/usr/bin/env"

// OpenPolicy is a policy that allows Program in every way.
func OpenPolicy() latchkey.Policy {
	return latchkey.Policy{
		Commands:  []string{Program},
		Drivers:   []latchkey.Driver{latchkey.DriverNone},
		Handovers: []latchkey.Handover{latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment},
	}
}

// Version is that of the services and of the agents that tests play.
const Version = "test"

// Machine enrols a machine and opens a session.
func (s *Service) Machine(t testing.TB, env, name string) *Machine {
	t.Helper()
	m, err := s.EnrolWith(t, env, name, latchkey.EnrolmentTokenCreate{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Open(t, false); err != nil {
		t.Fatal(err)
	}
	return m
}

// EnrolWith enrols a machine with a token of its own, and returns it, without a session,
// or what the service has against it.
func (s *Service) EnrolWith(t testing.TB, env, name string, ask latchkey.EnrolmentTokenCreate) (*Machine, error) {
	t.Helper()
	token, err := s.Broker.CreateEnrolmentToken(t.Context(), s.Admin, env, ask)
	if err != nil {
		t.Fatal(err)
	}
	proof, server, err := seal.ParseEnrolmentToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Keys: keys, Policy: OpenPolicy(), server: server, s: s}
	req := latchkey.EnrolRequest{Token: proof, Name: name, OS: "linux", Version: Version, Policy: m.Policy}
	if err := seal.SignEnrol(keys, &req); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Broker.Enrol(t.Context(), req, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	if err := seal.VerifyEnrolResponse(server, &req, &resp); err != nil {
		t.Fatal(err)
	}
	m.ID = resp.Machine
	return m, nil
}

// Open opens the machine's next session.
func (m *Machine) Open(t testing.TB, sharedUID bool) error {
	t.Helper()
	m.Counter++
	req := latchkey.SessionRequest{
		Suite: latchkey.AgentSuite, Machine: m.ID, Counter: m.Counter, Nonce: make([]byte, 32), At: m.s.now(),
		OS: "linux", Version: Version, SharedUID: sharedUID, Policy: m.Policy,
	}
	seal.SignSession(m.Keys, &req)
	resp, err := m.s.Broker.OpenSession(t.Context(), req, "127.0.0.1")
	if err != nil {
		return err
	}
	secret, err := seal.FinishSession(m.Keys, m.server, &req, &resp)
	if err != nil {
		t.Fatal(err)
	}
	m.session = broker.AgentSession{ID: resp.Session, Machine: m.ID, Keys: seal.NewSession(secret), Address: "127.0.0.1"}
	m.Release = 0
	return nil
}

// At returns the machine with an agent that has come to speak to another
// service, as it does when the address of its server leads there. It opens no
// session.
func (m *Machine) At(s *Service) *Machine {
	c := *m
	c.s = s
	return &c
}

// Session returns the machine's session for a request that is made now.
func (m *Machine) Session() broker.AgentSession {
	s := m.session
	s.Nonce = seal.NewNonce(m.s.now())
	s.At = seal.NonceTime(s.Nonce)
	return s
}

// Claim claims a run and starts it, or returns nil when none is queued.
func (m *Machine) Claim(t testing.TB) *latchkey.ClaimedRun {
	t.Helper()
	resp, err := m.s.Broker.Claim(t.Context(), m.Session(), latchkey.ClaimRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Run == nil {
		return nil
	}
	if _, err := m.s.Broker.StartClaimed(t.Context(), m.Session(), resp.Run.Run, latchkey.RunRequest{Claim: resp.Run.Claim}); err != nil {
		t.Fatal(err)
	}
	return resp.Run
}

// Get asks for a credential of a claimed run and opens it.
func (m *Machine) Get(t testing.TB, run *latchkey.ClaimedRun, id latchkey.CredentialID) (latchkey.CredentialValues, latchkey.Sealed, error) {
	t.Helper()
	m.Release++
	sealed, err := m.s.Broker.Release(t.Context(), m.Session(), run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: id, Counter: m.Release})
	if err != nil {
		return latchkey.CredentialValues{}, sealed, err
	}
	values, err := m.session.Keys.OpenRelease(&sealed, m.s.now())
	return values, sealed, err
}

// Finish ends a claimed run as succeeded.
func (m *Machine) Finish(t testing.TB, run *latchkey.ClaimedRun) {
	t.Helper()
	if _, err := m.s.Broker.Finish(t.Context(), m.Session(), run.Run, latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded}); err != nil {
		t.Fatal(err)
	}
}
