package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// machine adds an operation of agents that begins before there is a session:
// the request carries its own proof, and the answer the server's signature.
func machine[I, O any](s *server, o op, h func(context.Context, *visit, I) (O, error)) {
	s.routes = append(s.routes, route{o.method() + " " + o.path(), public})
	document[I, O](s, o, []map[string][]string{})
	s.mux.HandleFunc(o.method()+" "+o.path(), func(w http.ResponseWriter, r *http.Request) {
		status, body := s.agentAnswer(r, func() (any, error) {
			raw, err := readAgentBody(r)
			if err != nil {
				return nil, err
			}
			in, err := decodeAgent[I](raw)
			if err != nil {
				return nil, err
			}
			return h(r.Context(), visitOf(r.Context()), in)
		})
		w.Header().Set(latchkey.HeaderTime, s.Now().UTC().Format(time.RFC3339Nano))
		w.Header().Set(latchkey.HeaderServerKey, base64.StdEncoding.EncodeToString(s.b.ServerKey()))
		writeAgent(w, status, body)
	})
}

// inSession adds an operation of agents with a session. The request and every
// answer to it are authenticated by the session's key, so that whoever carries
// them can neither make nor change one.
func inSession[I, O any](s *server, o op, h func(context.Context, broker.AgentSession, latchkey.RunID, I) (O, error)) {
	s.routes = append(s.routes, route{o.method() + " " + o.path(), session})
	document[I, O](s, o, []map[string][]string{{"machine": {}}})
	s.mux.HandleFunc(o.method()+" "+o.path(), func(w http.ResponseWriter, r *http.Request) {
		var as broker.AgentSession
		var mac []byte
		status, body := s.agentAnswer(r, func() (any, error) {
			raw, err := readAgentBody(r)
			if err != nil {
				return nil, err
			}
			v := visitOf(r.Context())
			if as, err = s.b.AgentSession(r.Context(), latchkey.SessionID(r.Header.Get(latchkey.HeaderSession)), v.address); err != nil {
				return nil, err
			}
			v.principal = latchkey.PrincipalID(as.Machine)
			if mac, as.Nonce, err = verifyMAC(r, as, raw); err != nil {
				return nil, err
			}
			as.At = seal.NonceTime(as.Nonce)
			in, err := decodeAgent[I](raw)
			if err != nil {
				return nil, err
			}
			return h(r.Context(), as, latchkey.RunID(r.PathValue("run")), in)
		})
		if mac != nil {
			w.Header().Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(as.Keys.ResponseMAC(mac, status, body)))
		}
		writeAgent(w, status, body)
	})
}

// verifyMAC checks that a request was made with the session's key, and returns
// the MAC that it should have: answers are bound to that one, so that an answer
// to a forged request fits no request that the agent made.
func verifyMAC(r *http.Request, as broker.AgentSession, body []byte) (mac, nonce []byte, err error) {
	wrong := unauthenticated("mac-invalid", "the request is not authenticated by the session's key; open a new session")
	nonce, err = base64.StdEncoding.DecodeString(r.Header.Get(latchkey.HeaderNonce))
	if err != nil || len(nonce) != seal.NonceSize {
		nonce = nil
	}
	want := as.Keys.RequestMAC(r.Method, r.URL.EscapedPath(), nonce, body)
	got, err := base64.StdEncoding.DecodeString(r.Header.Get(latchkey.HeaderMAC))
	// A query is not covered by the MAC, so there must be none.
	if err != nil || nonce == nil || r.URL.RawQuery != "" || !hmac.Equal(got, want) {
		return want, nonce, wrong
	}
	return want, nonce, nil
}

func readAgentBody(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxAgentBody+1))
	if err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Code: "malformed", Detail: "the body did not arrive whole"}
	}
	if len(raw) > maxAgentBody {
		return nil, &problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large", Detail: "the body is larger than 256 KiB"}
	}
	return raw, nil
}

// decodeAgent reads a body strictly. Its errors do not repeat what is in it.
func decodeAgent[I any](raw []byte) (in I, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err = d.Decode(&in); err == nil && len(bytes.TrimSpace(raw[d.InputOffset():])) == 0 {
		return in, nil
	}
	if err == nil || !json.Valid(raw) {
		return in, &problem{Status: http.StatusBadRequest, Code: "malformed", Detail: "the body must be JSON"}
	}
	field := "body"
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
		field = e.Field
	}
	return in, latchkey.Invalid(field, "has a field that is not known, or a value of the wrong type; agent and server may be of different versions")
}

// agentAnswer runs a handler and returns its answer, also when it fails.
func (s *server) agentAnswer(r *http.Request, h func() (any, error)) (status int, body []byte) {
	out, err := h()
	if err == nil {
		if body, err = json.Marshal(out); err == nil {
			return http.StatusOK, body
		}
	}
	p, ok := err.(*problem)
	if ok {
		p.complete(r.Context())
	} else {
		p = s.problemOf(r.Context(), err)
	}
	if body, err = json.Marshal(p); err != nil {
		panic(err) // texts always marshal
	}
	return p.Status, body
}

func writeAgent(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	if status != http.StatusOK {
		w.Header().Set("Content-Type", problemType)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// document adds an operation that huma does not serve to the document.
func document[I, O any](s *server, o op, security []map[string][]string) {
	h := o.operation(s.api, http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity)
	h.Security = security
	schemas := s.api.OpenAPI().Components.Schemas
	content := func(t reflect.Type) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(t, true, "")}}
	}
	h.RequestBody = &huma.RequestBody{Required: true, Content: content(reflect.TypeFor[I]())}
	h.Responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: content(reflect.TypeFor[O]())}
	text := &huma.Schema{Type: huma.TypeString}
	if len(security) > 0 {
		h.Parameters = append(h.Parameters,
			&huma.Param{Name: latchkey.HeaderSession, In: "header", Required: true, Schema: text, Description: "id of the session"},
			&huma.Param{Name: latchkey.HeaderNonce, In: "header", Required: true, Schema: text, Description: "8 bytes of the request's time, in Unix milliseconds by the server's clock, and 8 random ones, base64"},
			&huma.Param{Name: latchkey.HeaderMAC, In: "header", Required: true, Schema: text, Description: "HMAC of the request, base64"})
	}
	if strings.Contains(o.route, "{run}") {
		h.Parameters = append(h.Parameters, &huma.Param{Name: "run", In: "path", Required: true, Schema: text, Description: "id of the claimed run"})
	}
	s.api.OpenAPI().AddOperation(&h)
}

func (s *server) agentEnrol(ctx context.Context, v *visit, in latchkey.EnrolRequest) (latchkey.EnrolResponse, error) {
	return s.b.Enrol(ctx, in, v.address)
}

func (s *server) agentOpenSession(ctx context.Context, v *visit, in latchkey.SessionRequest) (latchkey.SessionResponse, error) {
	return s.b.OpenSession(ctx, in, v.address)
}

func (s *server) agentClaim(ctx context.Context, as broker.AgentSession, _ latchkey.RunID, in latchkey.ClaimRequest) (latchkey.ClaimResponse, error) {
	return s.b.Claim(ctx, as, in)
}

func (s *server) agentStart(ctx context.Context, as broker.AgentSession, run latchkey.RunID, in latchkey.RunRequest) (latchkey.RunStatus, error) {
	return s.b.StartClaimed(ctx, as, run, in)
}

func (s *server) agentHeartbeat(ctx context.Context, as broker.AgentSession, run latchkey.RunID, in latchkey.RunRequest) (latchkey.RunStatus, error) {
	return s.b.Heartbeat(ctx, as, run, in)
}

func (s *server) agentLog(ctx context.Context, as broker.AgentSession, run latchkey.RunID, in latchkey.LogRequest) (latchkey.RunStatus, error) {
	return s.b.AppendLog(ctx, as, run, in)
}

func (s *server) agentRelease(ctx context.Context, as broker.AgentSession, run latchkey.RunID, in latchkey.ReleaseRequest) (latchkey.Sealed, error) {
	return s.b.Release(ctx, as, run, in)
}

func (s *server) agentFinish(ctx context.Context, as broker.AgentSession, run latchkey.RunID, in latchkey.FinishRequest) (latchkey.RunStatus, error) {
	return s.b.Finish(ctx, as, run, in)
}
