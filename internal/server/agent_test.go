package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// An agent plays a machine's agent over HTTP.
type agent struct {
	f       *fixture
	machine latchkey.MachineID
	session latchkey.SessionID
	keys    *seal.Session
}

// newAgent enrols a machine and opens a session, all over HTTP.
func newAgent(t *testing.T, f *fixture) *agent {
	t.Helper()
	f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"main"}`)
	var token latchkey.EnrolmentToken
	read(t, f.must(t, http.StatusCreated, "POST", "/api/v1/environments/main/machines/enrolment-tokens", `{"expiresIn":"1h","uses":1}`), &token)
	proof, server, err := seal.ParseEnrolmentToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	enrol := latchkey.EnrolRequest{
		Token: proof, Name: "build-07", OS: "linux/amd64", Version: "v0", SharedUID: true, SignKey: keys.SignPublic(), SealKey: keys.SealPublic(),
		Policy: latchkey.Policy{Commands: []string{"/usr/bin/env"}, Drivers: []latchkey.Driver{latchkey.DriverNone}, Handovers: []latchkey.Handover{latchkey.HandoverDescriptor}},
	}
	if err := seal.SignEnrol(keys, &enrol); err != nil {
		t.Fatal(err)
	}
	var enrolled latchkey.EnrolResponse
	read(t, f.post(t, "/api/v1/agent/enrol", enrol), &enrolled)
	if err := seal.VerifyEnrolResponse(server, &enrol, &enrolled); err != nil {
		t.Fatal(err)
	}
	open := latchkey.SessionRequest{
		Suite: latchkey.AgentSuite, Machine: enrolled.Machine, Counter: 1, Nonce: random(32), At: time.Now().UTC().Truncate(time.Millisecond),
		OS: "linux/amd64", Version: "v0", SharedUID: true, Policy: enrol.Policy,
	}
	seal.SignSession(keys, &open)
	var opened latchkey.SessionResponse
	read(t, f.post(t, "/api/v1/agent/sessions", open), &opened)
	secret, err := seal.FinishSession(keys, server, &open, &opened)
	if err != nil {
		t.Fatal(err)
	}
	return &agent{f, enrolled.Machine, opened.Session, seal.NewSession(secret)}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// post sends a request of an agent that has no session yet.
func (f *fixture) post(t *testing.T, path string, v any) answer {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return f.send(t, "POST", path, string(b), anonymous)
}

func read(t *testing.T, a answer, v any) {
	t.Helper()
	if a.StatusCode != http.StatusOK && a.StatusCode != http.StatusCreated {
		t.Fatalf("answer %d %s", a.StatusCode, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatal(err)
	}
}

// send sends an authenticated request, which change may spoil. verified says
// whether the answer's MAC is the session's for this request.
func (a *agent) send(t *testing.T, path, body string, change func(*http.Request)) (got answer, verified bool) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
	nonce := seal.NewNonce(time.Now())
	mac := a.keys.RequestMAC("POST", path, nonce, []byte(body))
	r.Header.Set(latchkey.HeaderSession, string(a.session))
	r.Header.Set(latchkey.HeaderNonce, base64.StdEncoding.EncodeToString(nonce))
	r.Header.Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(mac))
	if change != nil {
		change(r)
	}
	got = a.f.serve(t, r)
	answered, err := base64.StdEncoding.DecodeString(got.Header.Get(latchkey.HeaderMAC))
	return got, err == nil && hmac.Equal(answered, a.keys.ResponseMAC(mac, got.StatusCode, got.body))
}

func TestAgentSession(t *testing.T) {
	f := newFixture(t, nil)
	a := newAgent(t, f)
	const claim = "/api/v1/agent/claim"
	got, verified := a.send(t, claim, `{"wait":"0s"}`, nil)
	if got.StatusCode != http.StatusOK || string(got.body) != `{}` || !verified {
		t.Errorf("claim = %d %s, verified %v; want none, verified", got.StatusCode, got.body, verified)
	}
	other := base64.StdEncoding.EncodeToString(seal.NewNonce(time.Now()))
	tests := []struct {
		name, path, body string
		change           func(*http.Request)
		status           int
		code             string
		verified         bool
	}{
		{"wrong MAC", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Set(latchkey.HeaderMAC, other) }, 401, "mac-invalid", true},
		{"no MAC", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Del(latchkey.HeaderMAC) }, 401, "mac-invalid", true},
		{"another nonce", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Set(latchkey.HeaderNonce, other) }, 401, "mac-invalid", false},
		{"a short nonce", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Set(latchkey.HeaderNonce, "AAAA") }, 401, "mac-invalid", false},
		{"another body", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Body = http.NoBody }, 401, "mac-invalid", false},
		{"another path", claim, `{"wait":"0s"}`, func(r *http.Request) { r.URL.Path = "/api/v1/agent/runs/run_x/start" }, 401, "mac-invalid", false},
		{"a query", claim, `{"wait":"0s"}`, func(r *http.Request) { r.URL.RawQuery = "a=b" }, 401, "mac-invalid", true},
		{"another session", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Set(latchkey.HeaderSession, "sess_x") }, 401, "session-expired", false},
		{"no session", claim, `{"wait":"0s"}`, func(r *http.Request) { r.Header.Del(latchkey.HeaderSession) }, 401, "session-expired", false},
		{"malformed", claim, `{"wait":`, nil, 400, "malformed", true},
		{"unknown field", claim, `{"wait":"0s","more":1}`, nil, 422, "invalid", true},
		{"wrong type", claim, `{"wait":{}}`, nil, 422, "invalid", true},
		{"too large", claim, `{"wait":"` + strings.Repeat("0", maxAgentBody) + `"}`, nil, 413, "too-large", false},
		{"no such run", "/api/v1/agent/runs/run_x/release", `{"claim":"c","credential":"d","counter":1}`, nil, 0, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, verified := a.send(t, tt.path, tt.body, tt.change)
			p := got.problem(t)
			if tt.status != 0 && (p.Status != tt.status || p.Code != tt.code) || verified != tt.verified {
				t.Errorf("answer = %+v, verified %v; want %d %s, verified %v", p, verified, tt.status, tt.code, tt.verified)
			}
		})
	}
	if !strings.Contains(f.log.String(), `"principal":"mach_`) {
		t.Error("the log does not say which machine asked")
	}
}

// queueRun makes what a run on the agent's machine needs, and starts one.
func (a *agent) queueRun(t *testing.T) latchkey.Run {
	t.Helper()
	const env = "/api/v1/environments/main"
	post := func(path, body string) (id string) {
		t.Helper()
		var made struct {
			ID string `json:"id"`
		}
		read(t, a.f.must(t, http.StatusCreated, "POST", env+path, body), &made)
		return made.ID
	}
	post("/variables", `{"displayName":"ERP user","type":"text","value":"CONTOSO\\bot"}`)
	post("/variables", `{"displayName":"ERP password","type":"secret","secret":{"subscriptionId":"00000000-0000-0000-0000-000000000000","resourceGroup":"latchkey","vault":"erp","secret":"bot-password"}}`)
	a.f.must(t, http.StatusOK, "POST", env+"/variables/new_ERPpassword/override", `{"reference":"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/latchkey/providers/Microsoft.KeyVault/vaults/erp/secrets/bot-password","reason":"there is no vault in this test"}`)
	credential := post("/credentials", `{"name":"ERP bot","description":"signs in to the ERP system","usages":["connection"],"exposure":"descriptor","allowSharedUid":true,"slots":{"username":"new_ERPuser","password":"new_ERPpassword"}}`)
	connection := post("/connections", `{"name":"ERP on build-07","target":{"machine":"`+string(a.machine)+`"},"driver":"none","credential":"`+credential+`"}`)
	flow := post("/flows", `{"name":"Post invoices","command":["/usr/bin/env","true"],"timeout":"5m","handover":"descriptor"}`)
	var run latchkey.Run
	read(t, a.f.must(t, http.StatusCreated, "POST", env+"/runs", `{"flow":"`+flow+`","connection":"`+connection+`"}`), &run)
	return run
}

// TestRunOverHTTP is a run as its agent sees it, from the claim to its end.
func TestRunOverHTTP(t *testing.T) {
	f := newFixture(t, nil)
	a := newAgent(t, f)
	run := a.queueRun(t)
	send := func(path, body string, want int) answer {
		t.Helper()
		got, verified := a.send(t, "/api/v1/agent/"+path, body, nil)
		if got.StatusCode != want || !verified {
			t.Fatalf("%s = %d %s, verified %v; want %d", path, got.StatusCode, got.body, verified, want)
		}
		return got
	}
	var claimed latchkey.ClaimResponse
	read(t, send("claim", `{"wait":"0s"}`, http.StatusOK), &claimed)
	if claimed.Run == nil || claimed.Run.Run != run.ID {
		t.Fatalf("claimed %+v; want the run %s", claimed.Run, run.ID)
	}
	path, claim := "runs/"+string(run.ID)+"/", `{"claim":"`+string(claimed.Run.Claim)+`"`
	send(path+"start", claim+`}`, http.StatusOK)
	send(path+"heartbeat", claim+`}`, http.StatusOK)
	send(path+"log", claim+`,"offset":0,"stream":"stdout","text":"hello\n"}`, http.StatusOK)
	send(path+"release", claim+`,"credential":"`+string(claimed.Run.Credential)+`","counter":1}`, http.StatusServiceUnavailable) // no vault
	send(path+"finish", claim+`,"state":"failed","error":{"code":"release-failed","message":"the vault cannot be reached"}}`, http.StatusOK)

	var log latchkey.RunLog
	read(t, f.must(t, http.StatusOK, "GET", "/api/v1/environments/main/runs/"+string(run.ID)+"/log?offset=0&wait=20s", ""), &log)
	if len(log.Chunks) != 1 || log.Chunks[0].Text != "hello\n" || log.State != latchkey.RunFailed {
		t.Errorf("log = %+v; want one chunk of a failed run", log)
	}
}

// TestClaimEndsWithItsRequest leaves during the long poll.
func TestClaimEndsWithItsRequest(t *testing.T) {
	f := newFixture(t, nil)
	a := newAgent(t, f)
	s := httptest.NewServer(f)
	defer s.Close()
	const path, body = "/api/v1/agent/claim", `{"wait":"30s"}`
	nonce := seal.NewNonce(time.Now())
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(latchkey.HeaderSession, string(a.session))
	r.Header.Set(latchkey.HeaderNonce, base64.StdEncoding.EncodeToString(nonce))
	r.Header.Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(a.keys.RequestMAC("POST", path, nonce, []byte(body))))
	client := &http.Client{Timeout: 200 * time.Millisecond}
	if resp, err := client.Do(r); err == nil {
		resp.Body.Close()
		t.Fatal("a claim with nothing to claim was answered at once")
	}
	deadline := time.Now().Add(10 * time.Second)
	for !bytes.Contains([]byte(f.log.String()), []byte(`"route":"`+path+`"`)) {
		if time.Now().After(deadline) {
			t.Fatalf("the claim goes on without its client: %s", f.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}
