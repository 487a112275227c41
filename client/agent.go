package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const (
	maxAgentAnswer = 4 << 20
	agentTimeout   = 15 * time.Second // of a request; a claim may wait for longer
)

// MachineOptions change how a Machine reaches the server.
type MachineOptions struct {
	CAFile        string // PEM file of the only authorities to trust; the system's if empty
	AllowInsecure bool   // http:// also to other hosts than this one
	UserAgent     string
}

// A Machine is the client of the protocol between an agent and the server. It is
// safe for concurrent use.
//
// Errors of requests are [*latchkey.Error]. Within a session, what cannot be
// proven to come from the server is an ErrUnavailable, whatever it says: to be
// tried again. Before there is a session, the server's consent is proven by its
// signature; its refusal is not, and rests on TLS alone.
type Machine struct {
	base  string // scheme and host
	agent string
	http  *http.Client
}

// NewMachine returns a client of the server at the given URL, which has a scheme
// and a host and nothing else. Nothing is sent yet.
func NewMachine(server string, o MachineOptions) (*Machine, error) {
	u, err := serverAddress(server, o.AllowInsecure)
	if err != nil {
		return nil, err
	}
	if u.Path != "" && u.Path != "/" {
		return nil, badAddress("must have no path")
	}
	h, err := httpClient(nil, o.CAFile)
	if err != nil {
		return nil, err
	}
	return &Machine{base: u.Scheme + "://" + u.Host, agent: o.UserAgent, http: h}, nil
}

// Close drops idle connections.
func (m *Machine) Close() { m.http.CloseIdleConnections() }

// Enrol makes a machine known to the server. It signs req, and checks that the
// answer is signed by the server with the given key.
func (m *Machine) Enrol(ctx context.Context, keys *seal.MachineKeys, server ed25519.PublicKey, req *latchkey.EnrolRequest) (*latchkey.EnrolResponse, error) {
	if err := seal.SignEnrol(keys, req); err != nil {
		return nil, err
	}
	var resp latchkey.EnrolResponse
	if _, err := m.plain(ctx, "/api/v1/agent/enrol", req, &resp); err != nil {
		return nil, err
	}
	if err := seal.VerifyEnrolResponse(server, req, &resp); err != nil {
		return nil, unproven(err)
	}
	return &resp, nil
}

// OpenSession opens a session, which ends every other one of the machine. The
// caller sets the fields of req but Suite, Nonce, At and Signature; its counter
// must be on disk before. When this machine's clock is wrong the request is dated
// by the server's.
func (m *Machine) OpenSession(ctx context.Context, keys *seal.MachineKeys, server ed25519.PublicKey, req *latchkey.SessionRequest) (*MachineSession, error) {
	req.Suite = latchkey.AgentSuite
	req.At = time.Now().UTC()
	header, resp, err := m.openSession(ctx, keys, req)
	if e, ok := errors.AsType[*latchkey.Error](err); ok && e.Code == latchkey.CodeClock {
		// Nothing was opened, so the counter can be used again. Who makes up a time
		// here could as well keep the request from the server.
		if now, parseErr := time.Parse(time.RFC3339Nano, header.Get(latchkey.HeaderTime)); parseErr == nil {
			req.At = now.UTC()
			header, resp, err = m.openSession(ctx, keys, req)
		}
	}
	if err != nil {
		return nil, m.otherServer(err, server, header)
	}
	secret, err := seal.FinishSession(keys, server, req, resp)
	if err != nil {
		return nil, unproven(err)
	}
	defer clear(secret)
	return &MachineSession{
		machine: m, id: resp.Session, keys: seal.NewSession(secret),
		at: resp.At, expires: resp.ExpiresAt, received: time.Now(),
	}, nil
}

// openSession asks for a session once. It returns the headers of the answer too.
func (m *Machine) openSession(ctx context.Context, keys *seal.MachineKeys, req *latchkey.SessionRequest) (http.Header, *latchkey.SessionResponse, error) {
	req.Nonce = make([]byte, 32)
	rand.Read(req.Nonce)
	seal.SignSession(keys, req)
	resp := new(latchkey.SessionResponse)
	header, err := m.plain(ctx, "/api/v1/agent/sessions", req, resp)
	return header, resp, err
}

// otherServer returns err, or a clearer error if the server that refused a session
// says that it is another one than the machine was enrolled with.
func (m *Machine) otherServer(err error, server ed25519.PublicKey, header http.Header) error {
	key, decodeErr := base64.StdEncoding.DecodeString(header.Get(latchkey.HeaderServerKey))
	if !errors.Is(err, latchkey.ErrUnauthenticated) || decodeErr != nil || len(key) != ed25519.PublicKeySize || server.Equal(ed25519.PublicKey(key)) {
		return err
	}
	return &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: CodeOtherServer, Err: err,
		Msg: fmt.Sprintf("the server at %s is another one than this machine was enrolled with: its key is %x…, not %x…. Either the address leads elsewhere, or the server was set up anew: then stop the agent and enrol the machine with a new token and --force", m.base, key[:8], server[:8]),
	}
}

// plain posts a message that is signed, not authenticated by a session, and
// returns the headers of the answer.
func (m *Machine) plain(ctx context.Context, path string, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	status, header, answer, err := m.post(ctx, path, body, nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return header, agentProblem(status, answer)
	}
	return header, decodeAnswer(answer, out)
}

// post sends body and returns the answer whole.
func (m *Machine) post(ctx context.Context, path string, body []byte, header http.Header) (status int, answerHeader http.Header, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("make request: %w", err)
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Content-Type", "application/json")
	if m.agent != "" {
		req.Header.Set("User-Agent", m.agent)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return 0, nil, nil, noAnswer(err)
	}
	defer resp.Body.Close()
	answer, err = readAnswer(resp, maxAgentAnswer, unproven(errors.New("the answer is too large")))
	if err != nil {
		return 0, nil, nil, err
	}
	return resp.StatusCode, resp.Header, answer, nil
}

func decodeAnswer(answer []byte, out any) error {
	if err := json.Unmarshal(answer, out); err != nil {
		return unproven(errors.New("the answer is not the JSON that was expected"))
	}
	return nil
}

// A MachineSession is an open session of a machine. Each request is
// authenticated by the session's key, and so is each answer. It is safe for
// concurrent use.
type MachineSession struct {
	machine  *Machine
	id       latchkey.SessionID
	keys     *seal.Session
	at       time.Time // the server's clock, at received by ours
	expires  time.Time // by the server's clock
	received time.Time
	releases atomic.Int64 // counter of the last release
}

// ID returns the id of the session.
func (s *MachineSession) ID() latchkey.SessionID { return s.id }

// Now returns the time by the server's clock, whatever this machine's says. When
// the machine slept or its clock was set, the later of two reckonings counts.
func (s *MachineSession) Now() time.Time {
	now := time.Now()
	return s.at.Add(max(now.Sub(s.received), now.Round(0).Sub(s.received.Round(0))))
}

// Skew returns how far this machine's clock was ahead of the server's when the
// session was opened.
func (s *MachineSession) Skew() time.Duration { return s.received.Round(0).Sub(s.at) }

// Remaining returns for how long the session is still open.
func (s *MachineSession) Remaining() time.Duration { return s.expires.Sub(s.Now()) }

// Claim waits for a run to execute. The answer has none when none came in time.
func (s *MachineSession) Claim(ctx context.Context, req latchkey.ClaimRequest) (*latchkey.ClaimedRun, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout+time.Duration(req.Wait))
	defer cancel()
	var resp latchkey.ClaimResponse
	if err := s.call(ctx, "/api/v1/agent/claim", req, &resp); err != nil {
		return nil, err
	}
	return resp.Run, nil
}

// Start says that the run's process is about to start. It can be repeated with the
// same attempt until it is answered. When it is refused with ErrConflict the run is
// no longer the machine's, and must not start.
func (s *MachineSession) Start(ctx context.Context, run latchkey.RunID, req latchkey.RunRequest) (latchkey.RunStatus, error) {
	return s.about(ctx, run, "start", req)
}

// Heartbeat keeps the machine's lease of the run.
func (s *MachineSession) Heartbeat(ctx context.Context, run latchkey.RunID, req latchkey.RunRequest) (latchkey.RunStatus, error) {
	return s.about(ctx, run, "heartbeat", req)
}

// Log appends to the run's output. It can be repeated.
func (s *MachineSession) Log(ctx context.Context, run latchkey.RunID, req latchkey.LogRequest) (latchkey.RunStatus, error) {
	return s.about(ctx, run, "log", req)
}

// Finish ends the run. It can be repeated.
func (s *MachineSession) Finish(ctx context.Context, run latchkey.RunID, req latchkey.FinishRequest) (latchkey.RunStatus, error) {
	return s.about(ctx, run, "finish", req)
}

func (s *MachineSession) about(ctx context.Context, run latchkey.RunID, verb string, req any) (latchkey.RunStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var status latchkey.RunStatus
	err := s.call(ctx, "/api/v1/agent/runs/"+url.PathEscape(string(run))+"/"+verb, req, &status)
	return status, err
}

// Release asks for a credential of the run. The counter is filled in and is one
// greater with each call; the caller makes one call at a time, since the server
// takes a counter that comes late for a copy of the machine.
func (s *MachineSession) Release(ctx context.Context, run latchkey.RunID, req latchkey.ReleaseRequest) (*latchkey.Sealed, error) {
	// Reading a vault takes longer than other requests.
	ctx, cancel := context.WithTimeout(ctx, 2*agentTimeout)
	defer cancel()
	req.Counter = s.releases.Add(1)
	var sealed latchkey.Sealed
	if err := s.call(ctx, "/api/v1/agent/runs/"+url.PathEscape(string(run))+"/release", req, &sealed); err != nil {
		return nil, err
	}
	return &sealed, nil
}

// Open returns the values of a release of this session, unless it has expired.
func (s *MachineSession) Open(sealed *latchkey.Sealed) (latchkey.CredentialValues, error) {
	return s.keys.OpenRelease(sealed, s.Now())
}

// call posts an authenticated message. Of an answer without a valid MAC only one
// thing is believed, a 401: a server that has lost the session cannot prove
// itself in it, and opening another one harms nobody.
func (s *MachineSession) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	nonce := seal.NewNonce(s.Now())
	mac := s.keys.RequestMAC(http.MethodPost, path, nonce, body)
	header := http.Header{}
	header.Set(latchkey.HeaderSession, string(s.id))
	header.Set(latchkey.HeaderNonce, base64.StdEncoding.EncodeToString(nonce))
	header.Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(mac))

	status, answerHeader, answer, err := s.machine.post(ctx, path, body, header)
	if err != nil {
		return err
	}
	got, err := base64.StdEncoding.DecodeString(answerHeader.Get(latchkey.HeaderMAC))
	if err != nil || !hmac.Equal(got, s.keys.ResponseMAC(mac, status, answer)) {
		if status == http.StatusUnauthorized {
			return &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: "session-expired", Msg: "the session has ended"}
		}
		return unproven(fmt.Errorf("status %d %s", status, http.StatusText(status)))
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return agentProblem(status, answer)
	}
	return decodeAnswer(answer, out)
}
