package keyvault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// Bounds of requests, in bytes. A secret of the greatest size fits however its
// characters are escaped.
const (
	maxBody    = 256 << 10
	maxRestore = broker.MaxVaultBackup + 1<<10 // of a backup that is restored
)

// apiVersions are the versions of the contract that are served. They differ in
// nothing that concerns secrets, except for optional fields.
var apiVersions = []string{
	"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6-preview.2", "7.6", "2025-06-01-preview", "2025-07-01",
	"2026-01-01-preview", "2026-03-01-preview", "2026-05-01-preview", "2026-07-01-preview", "2026-04-01",
}

// Config says what to serve.
type Config struct {
	// Broker decides and stores.
	Broker *broker.Broker

	// Domain is what vaults' names are put before, with the port unless that is
	// 443: https://{vault}.{domain} is a vault's address.
	Domain string

	// Tenant is the id of the installation.
	Tenant string

	// Authority is the address below which the tenant's tokens are given, which
	// challenges name.
	Authority string

	// Log takes a line for each request at level debug; it never holds what
	// requests and answers hold. Nil discards.
	Log *slog.Logger

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

type server struct {
	Config
}

// New returns a handler that serves every embedded vault. SDKs talk to it over
// TLS only: the caller sees to that.
func New(c Config) (http.Handler, error) {
	if c.Broker == nil || c.Tenant == "" || c.Authority == "" {
		return nil, errors.New("the key vault face needs a broker, a tenant and an authority")
	}
	c.Domain = canonicalHost(c.Domain)
	if u, err := url.Parse("https://" + c.Domain); err != nil || c.Domain == "" || u.Host != c.Domain || u.Hostname() == "" {
		return nil, fmt.Errorf("the domain of the embedded vaults must be a host name, with or without a port, not %q", c.Domain)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &server{c}, nil
}

// A call is one request on its way.
type call struct {
	broker  *broker.Broker
	domain  string
	tenant  string
	w       http.ResponseWriter
	body    io.ReadCloser
	query   url.Values
	method  string
	vault   string
	id      string // of the request
	version string // of the contract
	who     latchkey.Caller
	path    path
	status  int // of the answer, if not 200
}

// base is the address of the call's vault.
func (c *call) base() string { return "https://" + c.vault + "." + c.domain }

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, id := s.Now(), latchkey.NewGUID()
	s.headers(w.Header(), r, id)
	ctx := r.Context()
	c := &call{id: id, broker: s.Broker, domain: s.Domain, tenant: s.Tenant, w: w, body: r.Body, query: r.URL.Query()}
	answer, err := c.serve(ctx, r)
	status := cmp.Or(c.status, http.StatusOK)
	switch {
	case err != nil:
		f := c.faultOf(err)
		status = f.status
		if f.err != nil {
			s.Log.ErrorContext(ctx, "key vault request failed", "request", id, "error", f.err)
		}
		if status == http.StatusUnauthorized {
			// AKV: clients learn from the challenge where to get a token. They compare
			// the resource with the vault's host, port included.
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s", resource="https://%s"`, s.Authority, s.Domain))
		}
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		body := errorBody{errorDetail{Code: f.code, Message: f.msg}}
		if f.inner != "" {
			body.Error.InnerError = &innerError{f.inner}
		}
		write(w, r, status, body)
	case answer == nil:
		status = http.StatusNoContent
		w.WriteHeader(status)
	default:
		write(w, r, status, answer)
	}
	s.Log.DebugContext(ctx, "key vault request", "request", id, "method", c.method, "vault", c.vault, "kind", c.path.kind,
		"caller", c.who.ID, "status", status, "took", s.Now().Sub(start))
}

// serve answers a request: nil is an answer without content.
func (c *call) serve(ctx context.Context, r *http.Request) (any, error) {
	var ok bool
	if c.vault, ok = vaultOf(r.Host, c.domain); !ok {
		return nil, &fault{status: http.StatusNotFound, code: "NotFound", msg: fmt.Sprintf("This server has the vaults at https://{vault}.%s and nothing else.", c.domain)}
	}
	if latchkey.CheckVaultName(c.vault) != nil {
		return nil, &fault{status: http.StatusNotFound, code: "VaultNotFound", msg: "The host begins with something that is not the name of a vault."}
	}
	if c.method, ok = method(r); !ok {
		return nil, badMethod()
	}
	token, err := bearer(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	if c.who, err = c.broker.AuthenticateVault(ctx, token); err != nil {
		return nil, err
	}
	// The reader in this process has no address.
	if c.who.Address, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
		c.who.Address = ""
	}
	c.who.RequestID = c.id
	c.version = parameter(c.query, "api-version")
	if !slices.Contains(apiVersions, c.version) {
		return nil, badParameter("The specified version (%s) is not recognized. Consider using the latest supported version (%s).", clip(c.version), apiVersions[len(apiVersions)-1])
	}
	p, ok := parsePath(r.URL.EscapedPath())
	if !ok {
		return nil, noSuchPath()
	}
	return c.object(ctx, p)
}

// since2025 reports whether the call speaks a version of the contract from 2025-07-01
// on, when certificates' secrets got fields of their own.
func (c *call) since2025() bool {
	return !strings.HasPrefix(c.version, "7.") && c.version >= "2025-07-01"
}

// object hands a call on by the kind of object that its path names.
func (c *call) object(ctx context.Context, p path) (any, error) {
	c.path = p
	switch p.kind {
	case "secrets":
		return c.secrets(ctx)
	case "deletedsecrets":
		return c.deletedSecrets(ctx)
	case "certificates":
		return c.certificates(ctx)
	case "deletedcertificates":
		return c.deletedCertificates(ctx)
	case "keys":
		return c.keys(ctx, false)
	case "deletedkeys":
		return c.keys(ctx, true)
	}
	return nil, noSuchPath()
}

// method returns the method that a request means. HEAD is GET without the
// content (AKV: a POST may carry another method in a header).
func method(r *http.Request) (string, bool) {
	override := strings.ToUpper(r.Header.Get("X-HTTP-METHOD"))
	switch {
	case r.Method == http.MethodPost && override != "":
		return override, override == http.MethodDelete || override == http.MethodPatch
	case r.Method == http.MethodHead:
		return http.MethodGet, true
	}
	return r.Method, slices.Contains([]string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete}, r.Method)
}

func bearer(header string) (string, error) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
	}
	return token, nil
}

// restoring bounds the requests with a backup that are read at the same time: each
// takes several times its size in memory.
var restoring = make(chan struct{}, 2)

// decodeBackup reads a request with a backup, from a caller who may restore it.
func (c *call) decodeBackup(ctx context.Context, v *backup, in latchkey.VaultCollection) error {
	if err := c.broker.MayRestore(ctx, c.who, c.vault, in); err != nil {
		return err
	}
	select {
	case restoring <- struct{}{}:
		defer func() { <-restoring }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.decodeUpTo(v, maxRestore)
}

// decode reads the request's body into v.
func (c *call) decode(v any) error { return c.decodeUpTo(v, maxBody) }

// decodeUpTo is decode for a body of at most so many bytes. Its faults say
// nothing of what the body holds, which the texts of package json do.
func (c *call) decodeUpTo(v any, most int64) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.body, most))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return tooLong(most)
	}
	if err != nil {
		return badParameter("The request could not be read.")
	}
	// Package json would put another character in the place of a broken one.
	if !utf8.Valid(body) || json.Unmarshal(body, v) != nil {
		return badParameter("The request is not JSON of the expected form.")
	}
	return nil
}

// headers sets what every answer has (AKV).
func (s *server) headers(h http.Header, r *http.Request, id string) {
	h.Set("Cache-Control", "no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-keyvault-region", location)
	h.Set("x-ms-keyvault-service-version", "1.9.0.0")
	h.Set("x-ms-keyvault-network-info", networkInfo(r.RemoteAddr))
	if echo := r.Header.Get("x-ms-client-request-id"); echo != "" && len(echo) <= 128 {
		h.Set("x-ms-client-request-id", echo)
	}
}

func write(w http.ResponseWriter, r *http.Request, status int, body any) {
	out, err := json.Marshal(body)
	if err != nil {
		// The wire types hold texts, numbers and maps of texts: they always marshal.
		status, out = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"An internal error occurred."}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(out); err != nil {
		return // the client has gone
	}
}

// clip bounds a part of a request that an answer repeats.
func clip(s string) string {
	if len(s) > 32 {
		s = s[:32]
	}
	return strings.ToValidUTF8(s, "")
}
