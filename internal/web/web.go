package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// maxForm bounds the body of a form, in bytes. The largest field is a
// variable's value of JSON.
const maxForm = 256 << 10

// A Config holds what the pages are made of. All of it is needed.
type Config struct {
	Broker    *broker.Broker
	Log       *slog.Logger
	Version   string
	PublicURL func() string // where people reach the pages, without a slash at the end
	Secure    bool          // browsers come by https only
	Now       func() time.Time

	// Identify returns who sent a request.
	Identify func(*http.Request) (latchkey.Caller, error)

	// Session returns the session that a browser has, or "", and SetSession gives
	// it one; an empty token takes it away.
	Session    func(*http.Request) string
	SetSession func(w http.ResponseWriter, token string, expires time.Time)

	// Address returns the network address that a request came from.
	Address func(context.Context) string

	// Fault returns what to tell people about an error. It logs those that are
	// not for them.
	Fault func(context.Context, error) Fault
}

// A Fault is a failure as people are told it.
type Fault struct {
	Status    int
	Title     string // the status in words
	Detail    string
	Code      string
	Remedy    string
	Fields    []latchkey.FieldError
	RequestID string
	Header    http.Header
}

// A Route is an address of the pages. Public ones answer anybody; the others send
// those who are not signed in to the sign-in page.
type Route struct {
	Pattern string
	Public  bool
	Handler http.HandlerFunc
}

// Pages are the pages.
type Pages struct {
	Config
	b       *broker.Broker
	assets  *assets
	locales []*locale // the first is the one for everybody else
	routes  []Route
}

// New returns the pages. They hold nothing that must be closed.
func New(c Config) (*Pages, error) {
	if c.Broker == nil || c.Log == nil || c.PublicURL == nil || c.Now == nil || c.Identify == nil ||
		c.Session == nil || c.SetSession == nil || c.Address == nil || c.Fault == nil {
		return nil, errors.New("web: Config lacks a part")
	}
	p := &Pages{Config: c, b: c.Broker}
	var err error
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if p.locales, err = p.loadLocales(embedded); err != nil {
		return nil, err
	}
	p.handleAll()
	return p, nil
}

// Routes returns every address of the pages.
func (p *Pages) Routes() []Route { return p.routes }
