package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

const (
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 32 << 20
	// requestTimeout bounds one request; it leaves room for long polls.
	requestTimeout = 90 * time.Second

	apiPath = "/api/v1"
)

// DefaultUserAgent is what requests are marked with when Config does not say.
const DefaultUserAgent = "latchkey-client"

var errTooLarge = &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "answer-too-large", Msg: "the server's answer is too large"}

// A Config says which server to speak to, and as whom.
type Config struct {
	// Server is the address of the server, for example
	// https://latchkey.example.org. Plain http is refused beyond this machine.
	Server string

	// Token is an API token; without one only signing in and what is public work.
	Token latchkey.Secret

	// CAFile is a file of PEM certificates that the server's certificate may be
	// issued by, instead of the system's.
	CAFile string

	// TLS, when not nil, is used instead of the system's settings and CAFile.
	TLS *tls.Config

	// HTTP, when not nil, carries the requests instead of a client made from the
	// fields above. It must not follow redirects, which would carry bodies on.
	HTTP *http.Client

	// AllowInsecure allows plain http to other machines: whoever is on the way
	// sees the token and everything else.
	AllowInsecure bool

	// UserAgent defaults to DefaultUserAgent.
	UserAgent string
}

// A Client is one principal's access to a server. Its methods may be called
// concurrently.
type Client struct {
	base      string
	token     latchkey.Secret
	http      *http.Client
	userAgent string
}

// New returns a client. It does not connect yet.
func New(c Config) (*Client, error) {
	u, err := serverAddress(c.Server, c.AllowInsecure)
	if err != nil {
		return nil, err
	}
	if c.HTTP == nil {
		if c.HTTP, err = httpClient(c.TLS, c.CAFile); err != nil {
			return nil, err
		}
	}
	if c.UserAgent == "" {
		c.UserAgent = DefaultUserAgent
	}
	return &Client{base: strings.TrimRight(u.String(), "/"), token: c.Token, http: c.HTTP, userAgent: c.UserAgent}, nil
}

// WithToken returns a client that differs in its token only.
func (c *Client) WithToken(token latchkey.Secret) *Client {
	d := *c
	d.token = token
	return &d
}

// Server returns the server's address, without a slash at the end.
func (c *Client) Server() string { return c.base }

// do sends a request and decodes the answer into out; in and out may be nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if path == "" {
		return latchkey.Invalid("id", "must not be empty, a dot or two dots")
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	b, err := c.send(ctx, method, c.base+apiPath+path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "bad-answer", Msg: "the answer is not one of a Latchkey server; check the address", Err: err}
	}
	return nil
}

// send carries one request out and returns the body of an answer that is not a
// failure.
func (c *Client) send(ctx context.Context, method, address string, in any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.userAgent)
	if !c.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, noAnswer(err)
	}
	defer resp.Body.Close()
	b, err := readAnswer(resp, maxAnswer, errTooLarge)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, problem(resp.StatusCode, b)
	}
	return b, nil
}

// call is do with an answer of type T.
func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.do(ctx, method, path, nil, in, &out)
	return out, err
}

// join returns the path of segments, escaped, or "" if one of them cannot be
// one: the server would see another path.
func join(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return ""
		}
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}
