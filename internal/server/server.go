package server

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/site"
	"latchkey.dev/latchkey"
)

// Limits of request bodies, in bytes.
const (
	maxBody      = 256 << 10 // of the API
	maxAnonymous = 16 << 10  // of the API's operations that anybody may call
	maxAgentBody = 256 << 10 // of agents
)

// A Config holds what the server is made of.
type Config struct {
	Broker  *broker.Broker
	Log     *slog.Logger
	Version string

	// PublicURL returns the address that people reach the pages at, without a
	// slash at the end. It is asked when a link is made, since the port may not
	// be known earlier.
	PublicURL func() string

	// Where the embedded vaults are: the address that they listen at, the
	// domain with its port that their names are below, and the certificate that
	// vouches for them.
	VaultAddress   string
	VaultDomain    string
	CAPEM          []byte
	VaultAuthority string // where service principals get tokens for them: https://login.{VaultDomain}

	// Host returns what doctor finds on the server's own machine; nil finds nothing.
	Host func() []latchkey.Finding

	// Registry takes the metrics and is what /metrics shows; nil is a new one.
	Registry *prometheus.Registry

	// Pages makes the pages; nil is a server without any.
	Pages func(site.Host) (site.Pages, error)

	// Secure says that browsers reach the pages by https only: session cookies
	// are never sent otherwise.
	Secure bool

	// TrustedProxies are the networks of proxies that say in X-Forwarded-For whom
	// they speak for.
	TrustedProxies []netip.Prefix

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

type server struct {
	Config
	b           *broker.Broker
	mux         *http.ServeMux
	api         huma.API
	routes      []route
	crossOrigin *http.CrossOriginProtection
	metrics     *metrics
	pages       site.Pages
	openAPI     func() ([]byte, error)
}

// New returns the handler of the main address. It refuses a Config that lacks a
// part. Timeouts and the size of headers are for the http.Server to limit.
func New(c Config) (http.Handler, error) { return newServer(c) }

func newServer(c Config) (*server, error) {
	if c.Broker == nil || c.Log == nil || c.PublicURL == nil {
		return nil, errors.New("server: Config lacks Broker, Log or PublicURL")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	s := &server{Config: c, b: c.Broker, mux: http.NewServeMux(), crossOrigin: http.NewCrossOriginProtection()}
	var err error
	if s.metrics, err = newMetrics(c.Registry, c.Broker, c.Now, c.Version); err != nil {
		return nil, err
	}
	if c.Pages != nil {
		if s.pages, err = c.Pages(site.Host{
			Identify: s.identify, Session: s.session, SetSession: s.setSession,
			Visitor: s.visitor, Fault: s.fault,
		}); err != nil {
			return nil, err
		}
	}
	s.api = humago.New(s.mux, s.apiConfig())
	s.handleAll()
	s.openAPI = finishOpenAPI(s.api.OpenAPI())
	return s, nil
}

// ServeHTTP does for every request what does not depend on its route.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{id: requestID(r), started: s.Now(), address: s.remoteAddress(r)}
	r = r.WithContext(withVisit(r.Context(), v))
	rec := &recorder{ResponseWriter: w}
	defer s.finish(rec, r, v)

	s.setHeaders(rec.Header(), v)
	if s.crossOrigin.Check(r) != nil {
		s.writeProblem(rec, r, &latchkey.Error{
			Kind: latchkey.ErrDenied, Code: "cross-origin",
			Msg: "the browser says that this request comes from a page of another site, which is not served",
		})
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody+1)
	}
	h, pattern := s.mux.Handler(r)
	v.pattern = pattern
	if pattern == "" {
		s.unmatched(rec, r, h)
		return
	}
	s.mux.ServeHTTP(rec, r)
}

// unmatched answers a request that no route fits: h is what the mux would do
// about it.
func (s *server) unmatched(w http.ResponseWriter, r *http.Request, h http.Handler) {
	var asked headOnly
	h.ServeHTTP(&asked, r)
	if asked.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", asked.Header().Get("Allow"))
		writeJSONProblem(w, r, &problem{Status: asked.status, Code: "method-not-allowed", Detail: "this address does not take this method; see /docs"})
		return
	}
	p := &problem{Status: http.StatusNotFound, Code: "no-such-address", Detail: "there is nothing at this address; see /docs"}
	if s.pages.Fault != nil && strings.HasPrefix(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, apiPrefix+"/") {
		s.pages.Fault(w, r, asFault(p.complete(r.Context())))
		return
	}
	writeJSONProblem(w, r, p)
}

// setHeaders sets what every answer carries. Handlers of assets replace the
// caching.
func (s *server) setHeaders(h http.Header, v *visit) {
	h.Set("X-Request-Id", v.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("Cache-Control", "no-store")
}
