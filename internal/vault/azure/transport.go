package azure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// bounded is a transport whose answers have a bounded length.
type bounded struct{ policy.Transporter }

func (b bounded) Do(req *http.Request) (*http.Response, error) {
	resp, err := b.Transporter.Do(req)
	if err == nil && resp.Body != nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxResponse)
	}
	return resp, err
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
