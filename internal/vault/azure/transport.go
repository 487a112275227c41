package azure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// bounded is a transport whose answers have a bounded length. It reads them to
// their end, so that one that is cut off is a failure like any other.
type bounded struct{ policy.Transporter }

func (b bounded) Do(req *http.Request) (*http.Response, error) {
	resp, err := b.Transporter.Do(req)
	if err != nil || resp.Body == nil {
		return resp, err
	}
	body := resp.Body
	defer body.Close() // it is only read
	text, err := io.ReadAll(http.MaxBytesReader(nil, body, maxResponse))
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// A trace is what happened last on the way to an answer, for the texts of errors:
// what the SDK says of it repeats answers.
type trace struct {
	vault, signIn exchange
}

// An exchange is a request and what came of it.
type exchange struct {
	host  string
	err   error // without an answer
	reply bool
	http.Header
	status int
}

type traceKey struct{}

// traceOf returns the trace of a read, or one that nobody looks at.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return new(trace)
}

func record(host string, resp *http.Response, err error) exchange {
	if err != nil || resp == nil {
		return exchange{host: host, err: err}
	}
	return exchange{host: host, reply: true, Header: resp.Header, status: resp.StatusCode}
}

// skew returns how far this machine's clock is ahead of the other's.
func (e exchange) skew() time.Duration {
	date, err := http.ParseTime(e.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Since(date).Round(time.Second)
}

// retryAfter returns how long the other asks to be left alone.
func (e exchange) retryAfter() time.Duration {
	v := e.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// signInRecorder notes what comes of requests for tokens.
type signInRecorder struct{}

// Do implements [policy.Policy].
func (signInRecorder) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	traceOf(req.Raw().Context()).signIn = record(req.Raw().URL.Host, resp, err)
	return resp, err
}

// vaultTransport carries requests to one vault. It looks at challenges before the
// SDK does, which believes more of them.
type vaultTransport struct {
	policy.Transporter
	suffix    string // host of the audience of tokens; "" leaves that to the SDK
	meter     *meter
	throttled func()
}

func (t vaultTransport) Do(req *http.Request) (*http.Response, error) {
	t.meter.request(time.Now())
	resp, err := bounded{t.Transporter}.Do(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") != "" {
		err = t.checkChallenge(resp.Header)
	}
	if err != nil {
		resp = nil
	} else if resp.StatusCode == http.StatusTooManyRequests {
		t.meter.throttled(time.Now())
		if t.throttled != nil {
			t.throttled()
		}
	}
	traceOf(req.Context()).vault = record(req.URL.Host, resp, err)
	return resp, err
}

// A challengeError is a challenge that is not a key vault's of the cloud.
type challengeError struct{}

func (e *challengeError) Error() string { return "the answer asks for a token for something else" }

// audienceRE is the form of audiences of tokens for vaults.
var audienceRE = regexp.MustCompile(`^https://[a-zA-Z0-9.:-]{1,200}/?$`)

// checkChallenge returns nil if a challenge is one that the SDK may answer: it
// names a tenant and, unless the token is merely to be a newer one, the audience of
// the cloud's vaults. (AKV: Bearer authorization="https://login…/{tenant}",
// resource="https://vault.azure.net".) It is read as the SDK reads it, which goes by
// spaces whatever the quotes, and relies on the form of the authority.
func (t vaultTransport) checkChallenge(h http.Header) error {
	text := h.Get("WWW-Authenticate")
	params := map[string]string{}
	for _, part := range strings.Split(strings.ReplaceAll(text, "Bearer ", ""), " ") {
		if name, value, ok := strings.Cut(part, "="); ok && !strings.Contains(value, "=") {
			params[name] = strings.TrimSuffix(strings.ReplaceAll(value, `"`, ""), ",")
		}
	}
	audience, ok := params["scope"]
	if !ok {
		audience = params["resource"]
	}
	audience = strings.TrimSuffix(strings.TrimSuffix(audience, "/.default"), "/")
	newer := strings.Contains(text, `error="insufficient_claims"`) && audience == ""
	authority, err := url.Parse(params["authorization"])
	switch {
	case params["authorization"] == "" && newer:
	case err != nil, authority.Scheme != "https", authority.Host == "", strings.Count(params["authorization"], "/") < 3:
		return &challengeError{}
	}
	if newer || audienceRE.MatchString(audience) && (t.suffix == "" || strings.EqualFold(audience, "https://"+t.suffix)) {
		return nil
	}
	return &challengeError{}
}

// Embedded returns a reader of an embedded vault: requests go to handler inside
// the process, with the tokens that token returns. Url is the address that the
// handler serves the vault at.
func Embedded(handler http.Handler, token func(context.Context) (token string, expires time.Time, err error), url string) (*Vault, error) {
	return New(Config{URL: url, Credential: credential(token), Transport: inProcess{handler}})
}

type credential func(context.Context) (string, time.Time, error)

// GetToken implements [azcore.TokenCredential].
func (c credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires, err := c(ctx)
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, err
}

// inProcess is a transport to a handler in this process.
type inProcess struct{ handler http.Handler }

func (t inProcess) Do(req *http.Request) (resp *http.Response, err error) {
	if req.Body == nil {
		req.Body = http.NoBody
	}
	defer req.Body.Close()
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in := req.Clone(ctx)
	in.RequestURI, in.RemoteAddr = req.URL.RequestURI(), "127.0.0.1:0"
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	out := &recorder{header: http.Header{}}
	// As in an HTTP server, a handler that panics costs its own request only.
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fmt.Errorf("the embedded vault gave up on the request (%T)", p)
		}
	}()
	t.handler.ServeHTTP(out, in)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(out.status), StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.sent, Body: io.NopCloser(&out.body), ContentLength: int64(out.body.Len()), Request: req,
	}, nil
}

// recorder is a response writer that keeps an answer. It keeps one byte more than
// bounded lets through, so that a long answer is found to be one.
type recorder struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status, r.sent = status, r.header.Clone()
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if room := maxResponse + 1 - r.body.Len(); len(b) > room {
		r.body.Write(b[:room])
		return room, io.ErrShortWrite
	}
	return r.body.Write(b)
}

// EmbeddedResourceManager returns who asks about the embedded vaults: requests go
// to handler inside the process, with the tokens that token returns. Url is the
// address that the handler is served at.
func EmbeddedResourceManager(handler http.Handler, token func(context.Context) (token string, expires time.Time, err error), url string) (*ResourceManager, error) {
	return NewResourceManager(ResourceManagerConfig{Endpoint: url, Audience: url, Credential: credential(token), Transport: inProcess{handler}})
}
