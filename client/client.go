package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
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
	base, err := baseAddress(c.Server, c.AllowInsecure)
	if err != nil {
		return nil, err
	}
	h, err := httpClient(c)
	if err != nil {
		return nil, err
	}
	if c.UserAgent == "" {
		c.UserAgent = DefaultUserAgent
	}
	return &Client{base: base, token: c.Token, http: h, userAgent: c.UserAgent}, nil
}

// WithToken returns a client that differs in its token only.
func (c *Client) WithToken(token latchkey.Secret) *Client {
	d := *c
	d.token = token
	return &d
}

// Server returns the server's address, without a slash at the end.
func (c *Client) Server() string { return c.base }

// baseAddress checks the address of a server and returns it without a slash at
// the end.
func baseAddress(server string, allowInsecure bool) (string, error) {
	if server == "" {
		return "", errors.New("the server's address is missing")
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the server's address must be one such as https://latchkey.example.org")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the server's address must have no user, query or fragment")
	}
	if u.Scheme == "http" && !allowInsecure && !isLoopback(u.Hostname()) {
		return "", fmt.Errorf("the server's address is http://, which anybody on the way to %s can read: use https://", u.Hostname())
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// httpClient returns what carries the requests of a configuration.
func httpClient(c Config) (*http.Client, error) {
	if c.HTTP != nil {
		return c.HTTP, nil
	}
	conf := c.TLS
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pool, err := loadCA(c.CAFile)
			if err != nil {
				return nil, err
			}
			conf.RootCAs = pool
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = conf
	transport.ForceAttemptHTTP2 = true
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: transport, CheckRedirect: noRedirect}, nil
}

// noRedirect keeps tokens and bodies from being carried to another address.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func loadCA(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open CA file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("read CA file %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("CA file %s holds no PEM certificate", path)
	}
	return pool, nil
}

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
	b, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, problem(resp.StatusCode, b)
	}
	return b, nil
}

// readAnswer reads a whole answer, within maxAnswer.
func readAnswer(resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, noAnswer(err)
	}
	if len(b) > maxAnswer {
		return nil, &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "answer-too-large", Msg: "the server's answer is too large"}
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
