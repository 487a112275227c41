package issuer

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"latchkey.dev/latchkey"
)

// errLocal is why no connection is made to an address.
var errLocal = errors.New("a loopback, link-local, unspecified or multicast address, where no issuer is asked")

// A transport asks issuers, whose documents name any address they like: it
// connects to none of this machine or its link, where services may trust whoever
// reaches them. Private networks are not refused, as CI systems are there.
type transport struct {
	direct, proxied http.RoundTripper
	proxy           func(*http.Request) (*url.URL, error)
	refused         func(netip.Addr) bool
}

// newTransport returns a transport; with loopback, this machine is not refused.
func newTransport(loopback bool) *transport {
	t := &transport{proxy: http.ProxyFromEnvironment, refused: func(a netip.Addr) bool {
		return latchkey.LocalAddress(a) && !(loopback && a.IsLoopback())
	}}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConns, base.MaxIdleConnsPerHost, base.MaxResponseHeaderBytes = 10, 1, 32<<10
	// A proxy may be on this machine, and it is the one who resolves names.
	base.Proxy = t.proxy
	t.proxied = base
	direct := base.Clone()
	direct.Proxy = nil
	direct.DialContext = (&net.Dialer{Timeout: askTimeout, KeepAlive: 30 * time.Second, Control: t.control}).DialContext
	t.direct = direct
	return t
}

// control refuses connections, after names are resolved.
func (t *transport) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if t.refused(to.Addr()) {
		return errLocal
	}
	return nil
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	via, err := t.proxy(r)
	if err != nil {
		return nil, err
	}
	if via == nil {
		return t.direct.RoundTrip(r)
	}
	if a, err := netip.ParseAddr(r.URL.Hostname()); err == nil && t.refused(a) {
		return nil, errLocal
	}
	return t.proxied.RoundTrip(r)
}
