package faulttest

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// speak sends a request of a machine's agent, with the right keys.
func (w *world) speak(t *testing.T, m *latchkeytest.Machine, path, body string) answer {
	t.Helper()
	s := m.Session()
	req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(latchkey.HeaderSession, string(s.ID))
	req.Header.Set(latchkey.HeaderNonce, base64.StdEncoding.EncodeToString(s.Nonce))
	req.Header.Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(s.Keys.RequestMAC("POST", path, s.Nonce, []byte(body))))
	return w.do(t, req)
}

var requestID = regexp.MustCompile(`"requestId":"[^"]*"`)

// TestNonsense has an agent with the right keys say what no agent should. Each
// answer is a problem that says what is wrong; none is an internal error, and
// none tells of a run that is another machine's.
func TestNonsense(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		other := w.Service.Machine(t, w.Env, "bot2")
		waiting, running := w.Start(t), w.Start(t)
		run := w.Machine.Claim(t)
		if run.Run != waiting.ID {
			t.Fatalf("claimed %s; want %s", run.Run, waiting.ID)
		}
		about := func(id latchkey.RunID, verb string) string { return "/api/v1/agent/runs/" + string(id) + "/" + verb }
		claim := fmt.Sprintf(`"claim":%q`, run.Claim)
		log, finish, release := about(run.Run, "log"), about(run.Run, "finish"), about(run.Run, "release")
		big := fmt.Sprint(int64(math.MaxInt64))
		tests := []struct {
			name, path, body string
			status           int
			code             string
		}{
			{"no JSON", log, `{`, 400, "malformed"},
			{"nothing", log, ``, 400, "malformed"},
			{"two values", log, `{} {}`, 400, "malformed"},
			{"another type", log, `[]`, 422, "invalid"},
			{"deep", log, strings.Repeat(`[`, 100_000), 400, "malformed"},
			{"deep and valid", log, strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000), 400, "malformed"},
			{"huge", log, `{` + claim + `,"text":"` + strings.Repeat("x", 300<<10) + `"}`, 413, "too-large"},
			{"unknown field", log, `{` + claim + `,"more":1}`, 422, "invalid"},
			{"a number too large", log, `{` + claim + `,"offset":1e300,"stream":"stdout","text":"x"}`, 422, "invalid"},
			{"offset ahead", log, `{` + claim + `,"offset":5,"stream":"stdout","text":"x"}`, 409, "log-gap"},
			{"greatest offset", log, `{` + claim + `,"offset":` + big + `,"stream":"stdout","text":"x"}`, 409, "log-gap"},
			{"negative offset", log, `{` + claim + `,"offset":-1,"stream":"stdout","text":"x"}`, 422, "invalid"},
			{"least offset", log, `{` + claim + `,"offset":-` + big + `,"stream":"stdout","text":"x"}`, 422, "invalid"},
			{"stream", log, `{` + claim + `,"stream":"stdin","text":"x"}`, 422, "invalid"},
			{"NUL", log, `{` + claim + `,"stream":"stdout","text":"\u0000"}`, 422, "invalid"},
			{"not UTF-8", log, `{` + claim + `,"stream":"stdout","text":"` + "\xff\xfe" + `"}`, 200, ""},
			{"half a surrogate", log, `{` + claim + `,"offset":6,"stream":"stdout","text":"\ud800"}`, 200, ""},
			{"chunk too large", log, `{` + claim + `,"stream":"stdout","text":"` + strings.Repeat("x", latchkey.MaxLogChunk+1) + `"}`, 422, "invalid"},
			{"no claim", log, `{"stream":"stdout","text":"x"}`, 409, "claim-lost"},
			{"a claim with NUL", log, `{"claim":"\u0000","stream":"stdout","text":"x"}`, 409, "claim-lost"},
			{"a run with NUL", "/api/v1/agent/runs/%00/heartbeat", `{` + claim + `}`, 409, "claim-lost"},
			{"a run that is not UTF-8", "/api/v1/agent/runs/%FF/heartbeat", `{` + claim + `}`, 409, "claim-lost"},
			{"started twice", about(run.Run, "start"), `{` + claim + `}`, 409, "claim-lost"},
			{"started without a claim", about(running.ID, "start"), `{` + claim + `}`, 409, "claim-lost"},
			{"attempt too long", about(run.Run, "start"), `{` + claim + `,"attempt":"` + strings.Repeat("x", 100) + `"}`, 422, "invalid"},
			{"release of what was not started", about(running.ID, "release"), `{` + claim + `,"credential":"` + string(w.Credential.ID) + `","counter":1}`, 403, "claim-lost"},
			{"release of nothing", release, `{` + claim + `,"counter":2}`, 403, ""},
			{"release of NUL", release, `{` + claim + `,"credential":"\u0000","counter":3}`, 422, "invalid"},
			{"release of a long name", release, `{` + claim + `,"credential":"` + strings.Repeat("x", 100_000) + `","counter":3}`, 422, "invalid"},
			{"claim holding much", "/api/v1/agent/claim", `{"holding":["` + strings.Repeat(`x","`, 60_000) + string(running.ID) + `"],"wait":"-1h"}`, 422, "invalid"},
			{"claim holding NUL", "/api/v1/agent/claim", `{"holding":["\u0000"],"wait":"0s"}`, 200, ""},
			{"claim with a strange wait", "/api/v1/agent/claim", `{"wait":"forever"}`, 422, "invalid"},
			{"end as queued", finish, `{` + claim + `,"state":"queued"}`, 422, "invalid"},
			{"end as what is no state", finish, `{` + claim + `,"state":"exploded","error":{"code":"x","message":"x"}}`, 422, "invalid"},
			{"end without its error", finish, `{` + claim + `,"state":"failed"}`, 422, "invalid"},
			{"end with a NUL", finish, `{` + claim + `,"state":"failed","error":{"code":"x\u0000","message":"x"}}`, 422, "invalid"},
			{"end", finish, `{` + claim + `,"state":"failed","exitCode":` + big + `,"error":{"code":"exit-code","message":"x"}}`, 200, ""},
			{"end again", finish, `{` + claim + `,"state":"failed","error":{"code":"other","message":"y"}}`, 200, ""},
			{"end otherwise", finish, `{` + claim + `,"state":"succeeded"}`, 409, "claim-lost"},
			{"output after the end", log, `{` + claim + `,"offset":9,"stream":"stdout","text":"x"}`, 409, "claim-lost"},
			{"release after the end", release, `{` + claim + `,"credential":"` + string(w.Credential.ID) + `","counter":4}`, 403, "claim-lost"},
			{"release by the greatest counter", release, `{` + claim + `,"credential":"` + string(w.Credential.ID) + `","counter":` + big + `}`, 403, "claim-lost"},
		}
		for _, tt := range tests {
			a := w.speak(t, w.Machine, tt.path, tt.body)
			if a.status != tt.status || tt.code != "" && a.code != tt.code || a.status >= 400 && a.detail == "" {
				t.Errorf("%s: %d %s; want %d %s", tt.name, a.status, a.body, tt.status, tt.code)
			}
		}
		// Whether a run is another machine's or nobody's is not told.
		for _, verb := range []string{"start", "heartbeat", "log", "finish", "release"} {
			body := `{"claim":"claim_x"}`
			switch verb {
			case "log":
				body = `{"claim":"claim_x","stream":"stdout","text":"x"}`
			case "finish":
				body = `{"claim":"claim_x","state":"succeeded"}`
			}
			said := make(map[string]bool)
			for i, id := range []latchkey.RunID{run.Run, running.ID, "run_06h0e6mrs24z4rybjzh4x8em74"} {
				if verb == "release" {
					body = fmt.Sprintf(`{"claim":"claim_x","credential":%q,"counter":%d}`, w.Credential.ID, i+1)
				}
				a := w.speak(t, other, about(id, verb), body)
				if a.status != 409 && a.status != 403 {
					t.Errorf("%s of another's run: %d %s; want it refused", verb, a.status, a.body)
				}
				said[requestID.ReplaceAllString(string(a.body), "")] = true
			}
			if len(said) != 1 {
				t.Errorf("%s: answers tell a foreign run from none: %v", verb, said)
			}
		}
		if strings.Contains(w.Log.String(), "internal error") || strings.Contains(w.Log.String(), "panic") {
			t.Errorf("the server's log: %s", w.Log)
		}
		for _, m := range []*latchkeytest.Machine{w.Machine, other} {
			if got, err := w.Broker.Machine(t.Context(), w.Admin, w.Env, m.ID); err != nil || got.Status != latchkey.MachineOnline {
				t.Errorf("machine = %s (%s), %v; want it online", got.Status, got.StatusReason, err)
			}
		}
	})
}

// TestTinyLogChunks has an agent send its output a byte at a time: pieces are
// bounded as bytes are, and the agent is not told of an error.
func TestTinyLogChunks(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		if address == "" {
			address = t.TempDir() + "/latchkey.db"
		}
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		w.Start(t)
		run := w.Machine.Claim(t)
		say := func(offset int64) error {
			_, err := w.Broker.AppendLog(t.Context(), w.Machine.Session(), run.Run, latchkey.LogRequest{Claim: run.Claim, Offset: offset, Stream: "stdout", Text: "x"})
			return err
		}
		if err := say(0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.open(t, address).ExecContext(t.Context(), "UPDATE runs SET log_chunks = $1", latchkey.MaxLogChunks-1); err != nil {
			t.Fatal(err)
		}
		for offset := range int64(4) {
			if err := say(offset); err != nil {
				t.Errorf("output at %d: %v", offset, err)
			}
		}
		r, err := w.Broker.Run(t.Context(), w.Admin, w.Env, run.Run)
		if err != nil || r.LogBytes != 2 || !r.LogTruncated {
			t.Errorf("run has %d bytes of output, truncated %t, %v; want 2, true", r.LogBytes, r.LogTruncated, err)
		}
	})
}
