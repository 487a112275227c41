package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/arm"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/issuer"
	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/login"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/server"
	"latchkey.dev/internal/signon"
	"latchkey.dev/internal/site"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/internal/web"
	"latchkey.dev/latchkey"
)

// Files in the data folder.
const (
	adminTokenFile = "admin-token" // of the first start
	setupLinkFile  = "setup-link"  // the last one printed
	caFile         = "ca.pem"      // authority of the embedded vaults
	addressFile    = "server.json" // where the running server is
)

const (
	stopTime  = 10 * time.Second // for requests that are under way when the server stops
	pollTime  = 2 * time.Second  // after which those that merely wait are ended
	headerTTL = 10 * time.Second
	bodyTTL   = 30 * time.Second
	answerTTL = 60 * time.Second // more than the longest long poll
	idleTTL   = 2 * time.Minute
)

// issuersHere has issuers on this machine asked too; only tests set it.
var issuersHere bool

// A service is a running Latchkey server. Close stops it.
type service struct {
	config     serverConfig
	log        *slog.Logger
	lock       *os.File
	db         *db.DB
	broker     *broker.Broker
	metrics    *wiredMetrics
	readers    *readers
	main       net.Listener      // API and pages
	vaults     net.Listener      // embedded vaults
	files      *certificateFiles // of main; nil without TLS
	adminToken string            // file with the first admin token, if this is the first start

	stop    context.CancelFunc
	group   *errgroup.Group
	closing sync.Once
	err     error // of the group, set by closing
}

// addresses are what addressFile holds.
type addresses struct {
	URL         string `json:"url"`
	VaultListen string `json:"vaultListen"`
	VaultDomain string `json:"vaultDomain"`
	PID         int    `json:"pid"`
}

// startServer starts a server, which is ready when it returns and runs until
// Close or until ctx ends.
func startServer(ctx context.Context, c serverConfig) (_ *service, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &service{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.log, err = newLog(c); err != nil {
		return nil, err
	}
	if s.metrics, err = newWiredMetrics(); err != nil {
		return nil, err
	}
	s.log = s.metrics.log(s.log)
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if s.lock, err = lockData(c.Data); err != nil {
		return nil, err
	}
	if s.main, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, cli.Hint(err, "another address: --listen 127.0.0.1:0 takes a free port")
	}
	if s.vaults, err = net.Listen("tcp", c.VaultListen); err != nil {
		return nil, cli.Hint(err, "another address: --vault-listen 127.0.0.1:0 takes a free port")
	}
	if s.db, err = db.Open(ctx, db.Config{URL: c.databaseURL(), Log: s.log}); err != nil {
		return nil, err
	}
	if err := s.checkClock(ctx); err != nil {
		return nil, err
	}
	key, err := s.masterKey(ctx)
	if err != nil {
		return nil, err
	}
	// The broker is made after its readers, and asked by them.
	access, err := c.azure.Open(azure.Options{Log: s.log, Throttled: s.metrics.throttled.Inc, Tenants: func(ctx context.Context) ([]string, error) {
		return s.broker.LinkedAzureTenants(ctx)
	}})
	if err != nil {
		return nil, err
	}
	readers := newReaders(access)
	s.readers = readers
	if err := s.metrics.paused(readers.paused); err != nil {
		return nil, err
	}
	if s.broker, err = broker.New(ctx, broker.Config{
		DB: s.db, Key: key, Log: s.log, OpenVault: s.metrics.vaults(readers.open), Inspect: readers.inspect, Survey: readers.survey, VaultURL: s.vaultURL, Version: agent.Version(),
		IssuerKeys:  issuer.New(issuer.Config{Loopback: issuersHere, Log: s.log}).Keys,
		SessionIdle: c.idle,
	}); err != nil {
		return nil, err
	}
	tenant, authority := s.broker.Tenant(), login.Authority(s.vaultDomain(), s.broker.Tenant())
	vaultHandler, err := keyvault.New(keyvault.Config{Broker: s.broker, Log: s.log, Domain: s.vaultDomain(), Tenant: tenant, Authority: authority})
	if err != nil {
		return nil, err
	}
	readers.handler, readers.token, readers.url = vaultHandler, s.broker.ServiceVaultToken, s.vaultURL
	armHandler, err := arm.New(arm.Config{Broker: s.broker, Log: s.log, Tenant: tenant, Authority: authority, VaultURL: s.vaultURL})
	if err != nil {
		return nil, err
	}
	loginHandler, err := login.New(login.Config{Broker: s.broker, Log: s.log, Domain: s.vaultDomain(), Tenant: tenant})
	if err != nil {
		return nil, err
	}
	if readers.manager, err = azure.EmbeddedResourceManager(armHandler, s.broker.ServiceVaultToken, s.vaultURL(arm.Host)); err != nil {
		return nil, err
	}
	secure := c.TLSCert != "" || hasScheme(c.PublicURL, "https")
	handler, err := server.New(server.Config{
		Pages: func(h site.Host) (site.Pages, error) {
			return web.New(web.Config{Broker: s.broker, Log: s.log, Version: agent.Version(), PublicURL: s.URL, Secure: secure, SignOn: s.signOn()}, h)
		},
		Broker: s.broker, Log: s.log, Version: agent.Version(), PublicURL: s.URL, Registry: s.metrics.Registry,
		VaultAddress: reachable(s.vaults.Addr()), VaultDomain: s.vaultDomain(), CAPEM: s.broker.Authority(), VaultAuthority: s.vaultURL(login.Host),
		Secure: secure, Host: s.hostFindings, TrustedProxies: c.proxies,
	})
	if err != nil {
		return nil, err
	}
	mainTLS, err := s.mainTLS()
	if err != nil {
		return nil, err
	}
	if err := s.metrics.authority(s.broker.Authority()); err != nil {
		return nil, err
	}
	if err := s.writeFiles(ctx); err != nil {
		return nil, err
	}
	faces := map[string]http.Handler{arm.Host: armHandler, login.Host: loginHandler}
	s.run(ctx,
		serving{handler, s.main, mainTLS},
		serving{byHost(faces, vaultHandler), s.vaults, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.newCertificates().get}})
	return s, nil
}

// signOn returns the providers that people sign in with, or nil.
func (s *service) signOn() *signon.Providers {
	if len(s.config.oidc.Providers) == 0 {
		return nil
	}
	return signon.New(signon.Config{Settings: s.config.oidc, PublicURL: s.URL, Log: s.log})
}

// How far the clocks of servers on one database may be apart: a run whose agent
// was not heard of for latchkey.RunLease is given up by each server's own clock.
const (
	warnSkew = 5 * time.Second
	maxSkew  = latchkey.RunLease / 2
)

// checkClock compares this machine's clock with the database's.
func (s *service) checkClock(ctx context.Context) error {
	skew, err := s.db.Skew(ctx)
	switch skew = skew.Round(time.Millisecond); {
	case err != nil:
		return err
	case skew.Abs() > maxSkew:
		return fmt.Errorf("this machine's clock is %s ahead of the database server's: servers whose clocks are more than %s apart would end each other's runs; set the clock right", skew, maxSkew)
	case skew.Abs() > warnSkew:
		s.log.Warn("this machine's clock differs from the database server's; set it right", slog.Duration("ahead", skew))
	}
	return nil
}

// masterKey loads the key file. Without one it makes one, unless the database is
// sealed by a key already.
func (s *service) masterKey(ctx context.Context) (*seal.Key, error) {
	key, err := seal.LoadKey(s.config.MasterKey)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	sealed, err := broker.HasMasterKey(ctx, s.db)
	if err != nil {
		return nil, err
	}
	if sealed {
		return nil, fmt.Errorf("the master key file %s is missing, and the database cannot be read without it: restore the file, or name it with --master-key", s.config.MasterKey)
	}
	return seal.CreateKey(s.config.MasterKey)
}

// mainTLS returns the TLS configuration of the main address, or nil.
func (s *service) mainTLS() (*tls.Config, error) {
	if s.config.TLSCert == "" {
		return nil, nil
	}
	s.files = &certificateFiles{cert: s.config.TLSCert, key: s.config.TLSKey, log: s.log, now: time.Now, loaded: func(cert *tls.Certificate) error {
		return s.metrics.certificate("listen", cert.Certificate[0])
	}}
	if _, err := s.files.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.files.get}, nil
}

// writeFiles leaves in the data folder what people and programs need to get in.
func (s *service) writeFiles(ctx context.Context) error {
	created, token, err := s.broker.Bootstrap(ctx)
	if err != nil {
		return err
	}
	if created {
		s.adminToken = filepath.Join(s.config.Data, adminTokenFile)
		if err := writeFile(s.adminToken, []byte(token+"\n"), 0o600); err != nil {
			return cli.Hint(fmt.Errorf("write the first admin token: %w", err), "latchkey admin token --data "+cli.QuoteWord(s.config.Data))
		}
	}
	ca := filepath.Join(s.config.Data, caFile)
	if old, err := os.ReadFile(ca); err != nil || string(old) != string(s.broker.Authority()) {
		if err := writeFile(ca, s.broker.Authority(), 0o644); err != nil {
			return fmt.Errorf("write CA certificate: %w", err)
		}
	}
	b, err := json.MarshalIndent(addresses{s.URL(), s.vaults.Addr().String(), s.vaultDomain(), os.Getpid()}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.config.Data, addressFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write addresses: %w", err)
	}
	return nil
}

// byHost hands each request to the handler of the label that its host begins with,
// and those of other labels to another handler.
func byHost(labels map[string]http.Handler, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(r.Host, ".")
		if its, ok := labels[strings.ToLower(first)]; ok {
			its.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// A serving is one listener with what it serves; tls may be nil.
type serving struct {
	handler http.Handler
	at      net.Listener
	tls     *tls.Config
}

// run starts what goes on until the server stops. If a part fails, all stop.
func (s *service) run(ctx context.Context, parts ...serving) {
	ctx, s.stop = context.WithCancel(ctx)
	s.group, ctx = errgroup.WithContext(ctx)
	s.group.Go(func() error { return s.broker.Work(ctx) })
	for _, p := range parts {
		// Requests live on when the server stops, for as long as they may.
		base, end := context.WithCancel(context.WithoutCancel(ctx))
		h := &http.Server{
			Handler: p.handler, TLSConfig: p.tls,
			ReadHeaderTimeout: headerTTL, ReadTimeout: bodyTTL, WriteTimeout: answerTTL, IdleTimeout: idleTTL,
			MaxHeaderBytes: 32 << 10,
			BaseContext:    func(net.Listener) context.Context { return base },
			ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		s.group.Go(func() error {
			var err error
			if p.tls != nil {
				err = h.ServeTLS(p.at, "", "")
			} else {
				err = h.Serve(p.at)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
		s.group.Go(func() error {
			<-ctx.Done()
			limit, cancel := context.WithTimeout(context.Background(), stopTime)
			defer cancel()
			polls := time.AfterFunc(pollTime, end)
			defer polls.Stop()
			defer end()
			if err := h.Shutdown(limit); err != nil {
				return errors.Join(fmt.Errorf("requests were cut off: %w", err), h.Close())
			}
			return nil
		})
	}
}

// URL returns the address of the API and the pages.
func (s *service) URL() string { return s.config.publicURL(s.main.Addr()) }

// local returns an address of the API that works from this machine.
func (s *service) local() string {
	c := s.config
	c.PublicURL = ""
	return c.publicURL(s.main.Addr())
}

// listening says for people where the API and the pages are.
func (s *service) listening() string {
	at := s.local()
	if t, ok := s.main.Addr().(*net.TCPAddr); ok && t.IP.IsUnspecified() {
		host, _, _ := net.SplitHostPort(s.config.Listen) // it has been listened on
		at = fmt.Sprintf("%s (all interfaces), here %s", net.JoinHostPort(host, strconv.Itoa(t.Port)), at)
	}
	if s.config.PublicURL != "" {
		at += ", for " + s.config.PublicURL
	}
	return at
}

// inTheOpen reports whether the API and the pages are reached from other
// machines without TLS.
func (s *service) inTheOpen() bool {
	t, ok := s.main.Addr().(*net.TCPAddr)
	return s.config.TLSCert == "" && ok && !t.IP.IsLoopback()
}

// vaultDomain returns the embedded vaults' domain with the port, as in their
// addresses.
func (s *service) vaultDomain() string {
	if _, port, err := net.SplitHostPort(s.vaults.Addr().String()); err == nil && port != "443" {
		return s.config.VaultDomain + ":" + port
	}
	return s.config.VaultDomain
}

func (s *service) vaultURL(name string) string { return "https://" + name + "." + s.vaultDomain() }

// Wait returns when the server has stopped, with the reason if it is a failure.
func (s *service) Wait() error {
	s.closing.Do(func() {
		s.err = s.group.Wait()
		s.stop()
		s.err = errors.Join(s.err, s.release())
	})
	return s.err
}

// Close stops the server and waits until it has stopped.
func (s *service) Close() error {
	s.stop()
	return s.Wait()
}

// release gives back what a server holds, in the reverse order.
func (s *service) release() error {
	var errs []error
	for _, l := range []net.Listener{s.vaults, s.main} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// firstSetup prints the link by which a person sets a new server up, and leaves it in
// the data folder.
func (a *app) firstSetup(ctx context.Context, s *service) error {
	code, expires, err := s.broker.SetupLink(ctx)
	if err != nil {
		return err
	}
	link := s.URL() + "/setup#" + code
	file := filepath.Join(s.config.Data, setupLinkFile)
	if err := writeFile(file, []byte(link+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the setup link: %w", err)
	}
	a.Say("first start: set it up in a browser, once, before %s: %s", cli.When(expires), link)
	a.Say("the link is in %s too; another: latchkey admin setup-link --data %s", file, cli.QuoteWord(s.config.Data))
	return nil
}

func (a *app) serveCommand() *cobra.Command {
	var c serverConfig
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "run a server",
		Long: `Serve runs a server with everything it keeps in one data folder. The first start makes
the master key, the authority of the embedded vaults (ca.pem), an administrator for
programs with a first token (admin-token, good for a day), and a link by which a person
sets it up in a browser (setup-link, good for ten minutes, once).

Without --tls-cert and --tls-key it listens on this machine only. Each flag can be set
by the environment variable in brackets instead. An interrupt stops it; requests that
are under way are finished first. Where it listens is also in server.json in the data
folder.`,
		Example: `  latchkey serve --data /var/lib/latchkey
  latchkey serve --data /var/lib/latchkey --listen :443 --tls-cert chain.pem --tls-key key.pem`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := startServer(cmd.Context(), c)
			if err != nil {
				return err
			}
			a.Say("listening on %s", s.listening())
			if s.inTheOpen() {
				a.Say("warning: what goes to and from this address is not encrypted: let only a proxy that does TLS reach it")
			}
			a.Say("embedded vaults on https://{vault}.%s at %s", s.vaultDomain(), s.vaults.Addr())
			if s.adminToken != "" {
				if err := a.firstSetup(cmd.Context(), s); err != nil {
					return errors.Join(err, s.Close())
				}
				a.Say("first start: the admin token is in %s", s.adminToken)
				a.Say("for programs and the command line: latchkey login --server %s --token-file %s", s.local(), cli.QuoteWord(s.adminToken))
			}
			return s.Wait()
		},
	}
	a.settingsFlags(cmd, &c)
	return cmd
}
