package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sync/errgroup"

	"latchkey.dev/client"
	"latchkey.dev/internal/login"
)

const proxyTimeout = 15 * time.Second // to connect

const proxyUser = "latchkey"

// A vaultProxy is an HTTP proxy for CONNECT only.
type vaultProxy struct {
	vaults   string            // address of the embedded vaults
	domain   string            // below which their names are, with the port
	standIns map[string]string // other hosts with their ports → address of what stands in for them
	upstream func(*url.URL) (*url.URL, error)
	dialer   net.Dialer
	password string          // that clients give: other users of this machine reach the address too
	ctx      context.Context // ends the tunnels; an http.Server does not know them
}

// startVaultProxy starts the proxy, which lives until ctx ends, and returns its
// address with the user and password to give.
func startVaultProxy(ctx context.Context, g *errgroup.Group, environ []string, vaults, domain string, standIns map[string]string) (string, error) {
	if !strings.Contains(domain, ":") {
		domain += ":443"
	}
	env := func(names ...string) string {
		for _, e := range environ {
			for _, n := range names {
				if v, ok := strings.CutPrefix(e, n+"="); ok && v != "" {
					return v
				}
			}
		}
		return ""
	}
	password := rand.Text()
	conf := httpproxy.Config{HTTPSProxy: env("HTTPS_PROXY", "https_proxy"), NoProxy: env("NO_PROXY", "no_proxy")}
	p := &vaultProxy{
		vaults: vaults, domain: strings.ToLower(domain), standIns: standIns, upstream: conf.ProxyFunc(), dialer: net.Dialer{Timeout: proxyTimeout}, password: password, ctx: ctx,
	}
	address, err := serveLoopback(ctx, g, p, nil)
	return strings.Replace(address, "http://", "http://"+proxyUser+":"+password+"@", 1), err
}

// serveLoopback serves h on a free port of this machine until ctx ends, with TLS
// unless secure is nil, and returns the address as http://….
func serveLoopback(ctx context.Context, g *errgroup.Group, h http.Handler, secure *tls.Config) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTTL, IdleTimeout: idleTTL, MaxHeaderBytes: 32 << 10}
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return "http://" + l.Addr().String(), nil
}

func (p *vaultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "this proxy carries https only", http.StatusMethodNotAllowed)
		return
	}
	if !p.authorized(r) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="latchkey"`)
		http.Error(w, "this proxy is for the command that it was started with", http.StatusProxyAuthRequired)
		return
	}
	out, err := p.dial(r.Context(), r.Host)
	if err != nil {
		http.Error(w, "cannot connect", http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "cannot tunnel", http.StatusInternalServerError)
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// The reader may already hold what the client sent after its header.
	head := make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered, head); err != nil {
		return
	}
	if _, err := out.Write(head); err != nil {
		return
	}
	tunnel(p.ctx, in, out)
}

// authorized reports whether a request has the proxy's user and password.
func (p *vaultProxy) authorized(r *http.Request) bool {
	basic := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, password, ok := basic.BasicAuth()
	return ok && user == proxyUser && subtle.ConstantTimeCompare([]byte(password), []byte(p.password)) == 1
}

// tunnel copies both ways until both are done or ctx ends.
func tunnel(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	move := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // a broken connection is the ends' to notice
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go move(a, b)
	go move(b, a)
	<-done
	<-done
}

// dial connects to host, which is an address with a port.
func (p *vaultProxy) dial(ctx context.Context, host string) (net.Conn, error) {
	if p.isVault(host) {
		return p.dialer.DialContext(ctx, "tcp", p.vaults)
	}
	if address, ok := p.standIns[strings.ToLower(host)]; ok {
		return p.dialer.DialContext(ctx, "tcp", address)
	}
	via, err := p.upstream(&url.URL{Scheme: "https", Host: host})
	if err != nil {
		return nil, err
	}
	if via == nil {
		return p.dialer.DialContext(ctx, "tcp", host)
	}
	return p.dialVia(ctx, via, host)
}

// isVault reports whether host is the address of an embedded vault.
func (p *vaultProxy) isVault(host string) bool {
	name, ok := strings.CutSuffix(strings.ToLower(host), "."+p.domain)
	return ok && name != "" && !strings.Contains(name, ".")
}

// dialVia connects to host through another proxy.
func (p *vaultProxy) dialVia(ctx context.Context, via *url.URL, host string) (net.Conn, error) {
	if via.Scheme != "http" {
		return nil, fmt.Errorf("a proxy with %s:// is not supported", via.Scheme)
	}
	address := via.Host
	if via.Port() == "" {
		address = net.JoinHostPort(via.Hostname(), "80")
	}
	conn, err := p.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: host}, Host: host, Header: http.Header{}}
	if u := via.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := connectThrough(conn, req); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func connectThrough(conn net.Conn, req *http.Request) error {
	if err := conn.SetDeadline(time.Now().Add(proxyTimeout)); err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// One byte at a time, so that nothing of the tunnel is read ahead.
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 16), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answers %s", resp.Status)
	}
	return conn.SetDeadline(time.Time{})
}

// oneByte reads at most one byte at a time.
type oneByte struct{ io.Reader }

func (r oneByte) Read(b []byte) (int, error) { return r.Reader.Read(b[:min(len(b), 1)]) }

// An identity is a managed identity as in Azure App Service (protocol of
// 2019-08-01): whoever knows the header gets the user's tokens.
type identity struct {
	client   *client.Client
	domain   string // of the embedded vaults, with the port
	endpoint string
	header   string
}

// startIdentity serves the identity on this machine until ctx ends. Domain is that of
// the embedded vaults.
func startIdentity(ctx context.Context, g *errgroup.Group, c *client.Client, domain string) (*identity, error) {
	i := &identity{client: c, domain: domain, header: rand.Text()}
	mux := http.NewServeMux()
	mux.Handle("GET /msi/token", i)
	base, err := serveLoopback(ctx, g, mux, nil)
	i.endpoint = base + "/msi/token"
	return i, err
}

func (i *identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	fail := func(status int, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"statusCode": status, "message": message})
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-IDENTITY-HEADER")), []byte(i.header)) != 1 {
		fail(http.StatusUnauthorized, "the header X-IDENTITY-HEADER is wrong")
		return
	}
	resource := r.URL.Query().Get("resource")
	if resource == "" {
		fail(http.StatusBadRequest, "the parameter resource is missing")
		return
	}
	// A token for anything else would be refused there, and is nobody else's to see.
	if !login.ForVaults(resource, i.domain) {
		fail(http.StatusBadRequest, "the resource is not one of this installation; there are tokens for "+strings.Join(login.Resources(i.domain), ", "))
		return
	}
	t, err := i.client.VaultToken(r.Context())
	if err != nil {
		fail(http.StatusBadGateway, "the server gives no token: "+err.Error())
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": t.Token, "expires_on": strconv.FormatInt(t.ExpiresAt.Unix(), 10),
		"resource": resource, "token_type": "Bearer", "client_id": "00000000-0000-0000-0000-000000000000",
	})
}
