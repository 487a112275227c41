package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// A floor answers releases with the least that keeps their guarantees: it checks
// the request's MAC, looks the value up in memory, makes one audit entry durable
// together with those of other requests, seals the value, and authenticates the
// answer. It decides nothing.
type floor struct {
	db      *db.DB
	keys    map[latchkey.SessionID]*seal.Session
	values  map[latchkey.CredentialID]latchkey.CredentialValues
	machine latchkey.MachineID

	mu      sync.Mutex
	waiting []*floorEntry // guarded by mu
	writing bool          // guarded by mu
}

type floorEntry struct {
	event latchkey.AuditEvent
	turn  chan struct{}
	done  chan error
}

// ServeHTTP implements [http.Handler].
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	keys := f.keys[latchkey.SessionID(r.Header.Get(latchkey.HeaderSession))]
	nonce, err2 := base64.StdEncoding.DecodeString(r.Header.Get(latchkey.HeaderNonce))
	mac, err3 := base64.StdEncoding.DecodeString(r.Header.Get(latchkey.HeaderMAC))
	if err != nil || err2 != nil || err3 != nil || keys == nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	want := keys.RequestMAC(r.Method, r.URL.EscapedPath(), nonce, body)
	var req latchkey.ReleaseRequest
	if !hmac.Equal(mac, want) || json.Unmarshal(body, &req) != nil {
		http.Error(w, "not authenticated", http.StatusUnauthorized)
		return
	}
	now := time.Now()
	run := latchkey.RunID(r.PathValue("run"))
	sealed := latchkey.Sealed{
		Suite: latchkey.AgentSuite, Release: latchkey.ReleaseID(latchkey.NewID("rel", now)), Run: run, Claim: req.Claim, Machine: f.machine,
		Credential: req.Credential, Name: "bot", Version: "1", Expires: now.Add(time.Minute), Exposure: latchkey.ExposureDescriptor,
	}
	if keys.SealRelease(f.values[req.Credential], &sealed) != nil {
		http.Error(w, "seal", http.StatusInternalServerError)
		return
	}
	e := latchkey.AuditEvent{
		Action: latchkey.ActReleaseGranted, Outcome: latchkey.OutcomeOK, Actor: latchkey.PrincipalID(f.machine), ActorName: "machine",
		Subject: string(req.Credential), SubjectKind: latchkey.KindCredential, Run: run, Claim: req.Claim, Release: sealed.Release,
		Machine: f.machine, Credential: req.Credential,
	}
	if f.record(r.Context(), e) != nil {
		http.Error(w, "record", http.StatusServiceUnavailable)
		return
	}
	answer, err := json.Marshal(sealed)
	if err != nil {
		http.Error(w, "encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(keys.ResponseMAC(want, http.StatusOK, answer)))
	_, _ = w.Write(answer)
}

// record returns when the event is durable. Who finds nobody writing writes what
// has come until then.
func (f *floor) record(ctx context.Context, e latchkey.AuditEvent) error {
	mine := &floorEntry{e, make(chan struct{}, 1), make(chan error, 1)}
	f.mu.Lock()
	f.waiting = append(f.waiting, mine)
	if f.writing {
		f.mu.Unlock()
		select {
		case err := <-mine.done:
			return err
		case <-mine.turn:
			f.mu.Lock()
		}
	}
	f.writing = true
	group := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	events := make([]latchkey.AuditEvent, len(group))
	for i, e := range group {
		events[i] = e.event
	}
	err := f.db.Update(context.WithoutCancel(ctx), func(tx *db.Tx) error { return tx.Record(events...) })
	for _, e := range group {
		e.done <- err
	}
	f.mu.Lock()
	if f.writing = len(f.waiting) > 0; f.writing {
		f.waiting[0].turn <- struct{}{}
	}
	f.mu.Unlock()
	return <-mine.done
}

// newFloor starts a floor on an empty database and returns its agents, one for
// each of a world's.
func newFloor(b *testing.B, url string, w *world) []*agent {
	b.Helper()
	d, err := db.Open(b.Context(), db.Config{URL: url, Log: lineLog(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	f := &floor{db: d, keys: map[latchkey.SessionID]*seal.Session{}, values: map[latchkey.CredentialID]latchkey.CredentialValues{}, machine: w.chain.Machine.ID}
	keys, err := seal.NewMachineKeys()
	if err != nil {
		b.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/agent/runs/{run}/release", f)
	mux.HandleFunc("POST /api/v1/agent/sessions", func(w http.ResponseWriter, r *http.Request) { f.open(w, r, private, keys) })
	address := listen(b, mux)
	agents := make([]*agent, len(w.agents))
	for i, a := range w.agents {
		f.values[a.credential] = latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret("value of a secret")}
		m, err := client.NewMachine(address, client.MachineOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(m.Close)
		session, err := m.OpenSession(b.Context(), keys, public, &latchkey.SessionRequest{Machine: f.machine, Counter: 1, At: time.Now()})
		if err != nil {
			b.Fatal(err)
		}
		agents[i] = &agent{session, a.run, a.credential}
	}
	return agents
}

// open answers the request for a session.
func (f *floor) open(w http.ResponseWriter, r *http.Request, private ed25519.PrivateKey, keys *seal.MachineKeys) {
	var req latchkey.SessionRequest
	if json.NewDecoder(r.Body).Decode(&req) != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	resp := latchkey.SessionResponse{Suite: latchkey.AgentSuite, Session: latchkey.SessionID(latchkey.NewID("sess", now)), At: now, ExpiresAt: now.Add(time.Hour)}
	secret, err := seal.AcceptSession(private, keys.Sign.Public().(ed25519.PublicKey), keys.Seal.PublicKey().Bytes(), &req, &resp)
	if err != nil {
		http.Error(w, "not signed", http.StatusUnauthorized)
		return
	}
	f.keys[resp.Session] = seal.NewSession(secret)
	_ = json.NewEncoder(w).Encode(resp)
}
