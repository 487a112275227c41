package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"latchkey.dev/latchkey"
)

const (
	maxCAFile      = 1 << 20
	connectTimeout = 15 * time.Second
)

// serverAddress checks the address of a server. Plain http is refused beyond
// this machine unless it is allowed.
func serverAddress(server string, allowInsecure bool) (*url.URL, error) {
	if server == "" {
		return nil, badAddress("is missing")
	}
	// An error of Parse repeats the address, which may hold a password.
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, badAddress("must be one such as https://latchkey.example.org")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, badAddress("must have no user, query or fragment")
	}
	if u.Scheme == "http" && !allowInsecure && !isLoopback(u.Hostname()) {
		return nil, badAddress("is http://, which anybody on the way to %s can read: use https://", u.Hostname())
	}
	return u, nil
}

func badAddress(format string, args ...any) error {
	return &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "invalid", Msg: "the server's address " + fmt.Sprintf(format, args...)}
}

// isLoopback reports whether requests to host stay on this machine. Other
// spellings of localhost and names below it do not count: net/http would send
// them to the proxy of the environment.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// httpClient returns what carries requests. With neither conf nor a CA file it
// goes by the system's authorities.
func httpClient(conf *tls.Config, caFile string) (*http.Client, error) {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
		if caFile != "" {
			pool, err := loadCA(caFile)
			if err != nil {
				return nil, err
			}
			conf.RootCAs = pool
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSClientConfig:        conf,
			TLSHandshakeTimeout:    connectTimeout,
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        time.Minute,
			MaxIdleConnsPerHost:    8,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: noRedirect,
	}, nil
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

// readAnswer reads a whole answer. One that is larger than limit is tooLarge.
func readAnswer(resp *http.Response, limit int64, tooLarge error) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, noAnswer(err)
	}
	if int64(len(b)) > limit {
		return nil, tooLarge
	}
	return b, nil
}
