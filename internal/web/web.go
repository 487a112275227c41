package web

import (
	"errors"
	"log/slog"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/site"
)

// maxForm bounds the body of a form, in bytes. The largest field is a
// variable's value of JSON.
const maxForm = 256 << 10

// A Config holds what the pages are made of.
type Config struct {
	Broker    *broker.Broker
	Log       *slog.Logger
	Version   string
	PublicURL func() string    // where people reach the pages, without a slash at the end
	Secure    bool             // browsers come by https only
	Now       func() time.Time // nil is time.Now
}

// What the server and the pages know of each other.
type (
	Fault = site.Fault
	Route = site.Route
)

// Pages are the pages.
type Pages struct {
	Config
	site.Host
	b       *broker.Broker
	assets  *assets
	locales []*locale // the first is the one for everybody else
	routes  []Route
	streams streams
}

// New returns the pages of a server. They hold nothing that must be closed.
func New(c Config, h site.Host) (site.Pages, error) {
	p, err := newPages(c, h)
	if err != nil {
		return site.Pages{}, err
	}
	return site.Pages{Routes: p.routes, Reference: p.serveReference, Fault: p.serveFault}, nil
}

func newPages(c Config, h site.Host) (*Pages, error) {
	if c.Broker == nil || c.Log == nil || c.PublicURL == nil {
		return nil, errors.New("web: Config lacks Broker, Log or PublicURL")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Pages{Config: c, Host: h, b: c.Broker}
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
