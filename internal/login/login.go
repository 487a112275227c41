package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// Host is the label of the address before the domain of the embedded vaults. No
// vault has it as its name; see [latchkey.EmbeddedVaultCreate.Validate].
const Host = "login"

// Authority returns the address below which a tenant's tokens are given, which
// challenges name. Domain has the port unless that is 443.
func Authority(domain, tenant string) string { return "https://" + Host + "." + domain + "/" + tenant }

// Config says what to serve.
type Config struct {
	// Broker decides and makes the tokens.
	Broker *broker.Broker

	// Domain is that of the embedded vaults, with the port unless that is 443.
	Domain string

	// Tenant is the id of the installation, the only one that has service principals.
	Tenant string

	// Log takes a line for each request at level debug; it never holds what
	// requests and answers hold. Nil discards.
	Log *slog.Logger

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

type server struct{ Config }

// New returns a handler. SDKs talk to it over TLS only: the caller sees to that.
func New(c Config) (http.Handler, error) {
	if c.Broker == nil || c.Tenant == "" {
		return nil, errors.New("the sign-in face needs a broker and a tenant")
	}
	c.Domain = strings.TrimSuffix(strings.ToLower(c.Domain), ":443")
	if u, err := url.Parse("https://" + c.Domain); err != nil || u.Host != c.Domain || u.Hostname() == "" {
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

// base is the address of the face.
func (s *server) base() string { return "https://" + Host + "." + s.Domain }

// A call is one request on its way.
type call struct {
	*server
	w     http.ResponseWriter
	r     *http.Request
	trace string // id of the request
	who   latchkey.PrincipalID
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	c := &call{server: s, w: w, r: r, trace: latchkey.NewGUID()}
	correlation := r.Header.Get("client-request-id")
	if !latchkey.IsGUID(correlation) {
		correlation = latchkey.NewGUID()
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", c.trace)
	h.Set("client-request-id", correlation)
	status := http.StatusOK
	answer, err := c.answer(r.Context())
	if err != nil {
		f := c.faultOf(r.Context(), err)
		status = f.status
		if f.retry > 0 {
			h.Set("Retry-After", fmt.Sprint(int64((f.retry+time.Second-1)/time.Second)))
		}
		answer = f.body(c.trace, correlation, start)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // texts, numbers and maps of them always marshal
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have gone
	}
	s.Log.DebugContext(r.Context(), "sign-in request", "request", c.trace, "method", r.Method, "caller", c.who, "status", status, "took", s.Now().Sub(start))
}

// maxPath bounds a path in bytes.
const maxPath = 512

// answer returns what a request asks for.
func (c *call) answer(ctx context.Context) (any, error) {
	path := c.r.URL.Path
	if len(path) > maxPath {
		return nil, notFound()
	}
	if path == "/common/discovery/instance" {
		return c.instance()
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch rest {
	case "oauth2/v2.0/token":
		if c.r.Method != http.MethodPost {
			c.w.Header().Set("Allow", http.MethodPost)
			return nil, refuse(http.StatusMethodNotAllowed, "invalid_request", 900561, "The endpoint only accepts POST requests. Received a %s request.", clip(c.r.Method))
		}
		if err := c.checkTenant(tenant); err != nil {
			return nil, err
		}
		return c.token(ctx)
	case "v2.0/.well-known/openid-configuration", ".well-known/openid-configuration":
		if err := c.reading(); err != nil {
			return nil, err
		}
		if err := c.checkTenant(tenant); err != nil {
			return nil, err
		}
		return c.configuration(), nil
	case "discovery/v2.0/keys":
		if err := c.reading(); err != nil {
			return nil, err
		}
		// The tokens are for the embedded vaults alone, so nobody else verifies them.
		return map[string]any{"keys": []any{}}, nil
	}
	return nil, notFound()
}

// reading checks that a request asks and changes nothing.
func (c *call) reading() error {
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	c.w.Header().Set("Allow", "GET, HEAD")
	return refuse(http.StatusMethodNotAllowed, "invalid_request", 9002313, "This address only answers GET.")
}

// checkTenant checks that a path names the installation.
func (c *call) checkTenant(tenant string) error {
	switch strings.ToLower(tenant) {
	case strings.ToLower(c.Tenant):
		return nil
	case "common", "organizations", "consumers":
		return refuse(http.StatusBadRequest, "invalid_request", 50059,
			"The address names no tenant. Give the id of this installation, %s, as the tenant (AZURE_TENANT_ID).", c.Tenant)
	}
	return refuse(http.StatusBadRequest, "invalid_request", 90002,
		"Tenant '%s' not found. This installation is the only one here; its id is %s (AZURE_TENANT_ID).", clip(tenant), c.Tenant)
}

// configuration describes the endpoints (OpenID Connect Discovery 1.0, section 3).
func (c *call) configuration() any {
	at := Authority(c.Domain, c.Tenant)
	return map[string]any{
		"issuer":                                at + "/v2.0",
		"token_endpoint":                        at + "/oauth2/v2.0/token",
		"authorization_endpoint":                at + "/oauth2/v2.0/authorize", // which SDKs want to be there: nothing is
		"jwks_uri":                              at + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic", "private_key_jwt"},
		"grant_types_supported":                 []string{grantType},
		"response_types_supported":              []string{},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{},
		"cloud_instance_name":                   Host + "." + c.Domain,
	}
}

// instance answers whether an authority is one of ours (Entra: instance discovery,
// which Microsoft's libraries ask about authorities that they do not know).
func (c *call) instance() (any, error) {
	if err := c.reading(); err != nil {
		return nil, err
	}
	endpoint := c.r.URL.Query().Get("authorization_endpoint")
	if endpoint == "" {
		return nil, missing("authorization_endpoint")
	}
	if answer, ok := Instance(endpoint, c.Domain); ok {
		return answer, nil
	}
	return nil, refuse(http.StatusBadRequest, "invalid_instance", 50049, "Unknown or invalid instance. The only one here is %s.", c.base())
}

// Instance returns the answer of instance discovery about an authorization
// endpoint, or false if that is not one below the face's address. Whether it has the
// endpoint's tenant is not looked at. Microsoft's library for Python leaves the port
// out.
func Instance(endpoint, domain string) (answer any, ok bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return nil, false
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	at := Authority(strings.TrimSuffix(strings.ToLower(domain), ":443"), tenant)
	ours, err := url.Parse(at)
	if err != nil || !tenantRE.MatchString(tenant) || !strings.EqualFold(u.Hostname(), ours.Hostname()) || u.Port() != "" && u.Port() != cmp.Or(ours.Port(), "443") {
		return nil, false
	}
	return map[string]any{
		"tenant_discovery_endpoint": at + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  Metadata(domain),
	}, true
}

// Metadata returns the part of an answer of instance discovery that says under
// which names authorities are known: the face's own.
func Metadata(domain string) any {
	host := Host + "." + strings.TrimSuffix(strings.ToLower(domain), ":443")
	names := []string{host}
	if name, _, err := net.SplitHostPort(host); err == nil {
		names = append(names, name)
	}
	return []any{map[string]any{"preferred_network": host, "preferred_cache": host, "aliases": names}}
}

// faultOf returns err as Entra ID would put it.
func (c *call) faultOf(ctx context.Context, err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		if ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "sign-in failed", "request", c.trace, "error", err)
		}
		f := refuse(http.StatusServiceUnavailable, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again. The server's log has it under the trace id.")
		f.retry = time.Second
		return f
	}
	f := brokerFault(e)
	if !e.RetryAt.IsZero() {
		f.retry = max(e.RetryAt.Sub(c.Now()), time.Second)
	}
	return f
}

// tenantRE is what a tenant may be called: a GUID, a domain or a word.
var tenantRE = regexp.MustCompile(`^[0-9A-Za-z.-]{1,100}$`)

// addressOf returns the network address of a client, or "".
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
