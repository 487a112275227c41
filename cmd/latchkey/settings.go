package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/signon"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

// A serverConfig is everything that a server can be told. What administrators
// change while it runs is in the database instead.
type serverConfig struct {
	Data           string // folder of everything that is kept
	Listen         string // address of the API and the pages
	PublicURL      string // what people reach Listen by, if that is another address
	VaultListen    string // address of the embedded vaults
	VaultDomain    string // their names are {vault}.{VaultDomain}
	Database       string // postgres://…; empty is a SQLite file in Data
	TLSCert        string // PEM file of Listen's certificate chain
	TLSKey         string // PEM file of its key
	InsecureListen bool   // consent to listen beyond this machine without TLS
	Azure          string // TOML file of the cloud and the identity to read vaults in Azure; empty is the SDK's choice
	MasterKey      string // key file; empty is master.key in Data
	OIDC           string // TOML file of the providers that people sign in with; empty is none
	SessionIdle    string // how long a browser's session may be out of use
	TrustedProxies string // addresses and networks, separated by commas
	LogFormat      string // text or json
	LogLevel       string // debug, info, warn or error

	Out io.Writer // where the log and the addresses go

	azure   azure.Settings  // read from Azure by check
	oidc    signon.Settings // read from OIDC by check
	idle    time.Duration
	proxies []netip.Prefix
	faults  []error // of the environment; check returns them with its own
}

// A setting is one of the texts of a serverConfig: a flag, and an environment
// variable that is its default.
type setting struct {
	flag, standard, help string
	field                func(*serverConfig) *string
}

// variable returns the setting's environment variable.
func (s setting) variable() string {
	return "LATCHKEY_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

var serveSettings = []setting{
	{"data", "", "folder of everything that is kept; made if it does not exist", func(c *serverConfig) *string { return &c.Data }},
	{"listen", "127.0.0.1:8080", "address of the API and the pages", func(c *serverConfig) *string { return &c.Listen }},
	{"public-url", "", "address that people reach it by, if a proxy stands before it", func(c *serverConfig) *string { return &c.PublicURL }},
	{"vault-listen", "127.0.0.1:8443", "address of the embedded vaults, always TLS", func(c *serverConfig) *string { return &c.VaultListen }},
	{"vault-domain", "vault.localhost", "domain of the embedded vaults, which are {vault}.{domain}", func(c *serverConfig) *string { return &c.VaultDomain }},
	{"azure", "", "TOML file that says which of Azure's clouds vaults are in, and as whom to read them; default: the public cloud, as whoever Azure's SDK finds to be", func(c *serverConfig) *string { return &c.Azure }},
	{"database", "", "postgres://user@host/database; default: the SQLite file latchkey.db in the data folder", func(c *serverConfig) *string { return &c.Database }},
	{"tls-cert", "", "PEM file of the certificate chain for --listen", func(c *serverConfig) *string { return &c.TLSCert }},
	{"tls-key", "", "PEM file of its key", func(c *serverConfig) *string { return &c.TLSKey }},
	{"insecure-listen", "", "listen beyond this machine without TLS, for instance because a proxy does it", nil},
	{"master-key", "", "key file that everything sealed depends on; default: master.key in the data folder, made at the first start", func(c *serverConfig) *string { return &c.MasterKey }},
	{"oidc", "", "TOML file of the providers of OpenID Connect that people sign in with", func(c *serverConfig) *string { return &c.OIDC }},
	{"session-idle", "1h", "how long a browser's session may be out of use, 1m to 12h", func(c *serverConfig) *string { return &c.SessionIdle }},
	{"trusted-proxies", "", "addresses or networks, separated by commas, of proxies whose X-Forwarded-For is believed", func(c *serverConfig) *string { return &c.TrustedProxies }},
	{"log-format", "text", "text or json", func(c *serverConfig) *string { return &c.LogFormat }},
	{"log-level", "info", "debug, info, warn or error", func(c *serverConfig) *string { return &c.LogLevel }},
}

// settingsFlags adds the flags of some settings to a command. A setting that is
// no flag of the command keeps its environment variable.
func (a *app) settingsFlags(cmd *cobra.Command, c *serverConfig, only ...string) {
	has := func(name string) bool {
		for _, o := range only {
			if o == name {
				return true
			}
		}
		return len(only) == 0
	}
	for _, s := range serveSettings {
		if s.flag == "data" && len(only) > 0 {
			s.help = "data folder of the server, with its database"
			if has("master-key") {
				s.help += " and its master key; with --database, with its master key only"
			}
		}
		value := firstOf(a.Getenv(s.variable()), s.standard)
		switch {
		case s.field == nil:
			consent, err := parseBool(value)
			if err != nil {
				c.faults = append(c.faults, cli.Usagef("%s must be true or false", s.variable()))
			}
			c.InsecureListen = consent
			if has(s.flag) {
				cmd.Flags().BoolVar(&c.InsecureListen, s.flag, consent, s.help+" ["+s.variable()+"]")
				cmd.Flags().Lookup(s.flag).DefValue = "false"
			}
		case has(s.flag):
			cmd.Flags().StringVar(s.field(c), s.flag, value, s.help+" ["+s.variable()+"]")
			// What the environment says is not part of the help.
			cmd.Flags().Lookup(s.flag).DefValue = s.standard
		default:
			*s.field(c) = value
		}
	}
	c.Out = a.Err
	if err := checkEnviron(a.Environ); err != nil {
		c.faults = append(c.faults, err)
	}
	// Unknown variables are reported with the other faults, not before them.
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		// A command that needs no master key has no use for both.
		if len(only) > 0 && !has("master-key") && cmd.Flags().Changed("data") && c.Database != "" {
			return cli.Usagef("--data and --database [LATCHKEY_DATABASE] are both given, and the database is in one of them: leave one out")
		}
		return a.CheckColor()
	}
	if has("log-format") {
		completeFlag(cmd, "log-format", oneOf("text", "json"))
		completeFlag(cmd, "log-level", oneOf("debug", "info", "warn", "error"))
	}
}

// parseBool reads a bool from an environment variable; unset is false.
func parseBool(s string) (bool, error) {
	switch s {
	case "", "no":
		return false, nil
	case "yes":
		return true, nil
	}
	return strconv.ParseBool(s)
}

// check returns every fault of the configuration at once, and fills in what
// follows from the rest.
func (c *serverConfig) check() error {
	faults := slices.Clone(c.faults)
	fault := func(format string, args ...any) { faults = append(faults, cli.Usagef(format, args...)) }
	if c.Data == "" {
		fault("--data is missing: the folder of everything that is kept")
	} else if abs, err := filepath.Abs(c.Data); err != nil {
		fault("--data: %v", err)
	} else {
		c.Data = abs
	}
	if c.MasterKey == "" {
		c.MasterKey = filepath.Join(c.Data, "master.key")
	} else if info, err := os.Stat(filepath.Dir(c.MasterKey)); err != nil || !info.IsDir() {
		fault("--master-key %s: there is no folder %s", c.MasterKey, filepath.Dir(c.MasterKey))
	}
	if host, err := splitListen(c.Listen); err != nil {
		fault("--listen %q must be an address and a port from 0 to 65535, such as 127.0.0.1:8080", c.Listen)
	} else if !loopback(host) && c.TLSCert == "" && !c.InsecureListen {
		fault("--listen %s is beyond this machine and would be without TLS: give --tls-cert and --tls-key, or --insecure-listen if a proxy does TLS", c.Listen)
	}
	if _, err := splitListen(c.VaultListen); err != nil {
		fault("--vault-listen %q must be an address and a port from 0 to 65535, such as 127.0.0.1:8443", c.VaultListen)
	}
	if !validDomain(c.VaultDomain) {
		fault("--vault-domain must be a domain such as vault.localhost, in lower case and without a port")
	}
	if c.Azure != "" {
		var err error
		if c.azure, err = azure.LoadSettings(c.Azure); err != nil {
			fault("--azure %s: %v", c.Azure, err)
		} else if err := c.azure.Check(); err != nil {
			for line := range strings.Lines(err.Error()) {
				fault("--azure %s: %s", c.Azure, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	if c.OIDC != "" {
		var err error
		if c.oidc, err = signon.LoadSettings(c.OIDC); err != nil {
			for line := range strings.Lines(err.Error()) {
				fault("--oidc %s: %s", c.OIDC, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	if c.SessionIdle != "" { // not every command has it
		var err error
		if c.idle, err = time.ParseDuration(c.SessionIdle); err != nil || c.idle < latchkey.MinSessionIdle || c.idle > latchkey.MaxSessionIdle {
			fault("--session-idle must be from 1m to 12h")
		}
	}
	for p := range strings.SplitSeq(c.TrustedProxies, ",") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		network, err := netip.ParsePrefix(p)
		if ip, single := netip.ParseAddr(p); err != nil && single == nil {
			network, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			fault("--trusted-proxies: %q is neither an address nor a network such as 10.0.0.0/8", p)
			continue
		}
		c.proxies = append(c.proxies, network)
	}
	if c.Database != "" && !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://") {
		fault("--database must begin with postgres://; leave it out for SQLite")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("--tls-cert and --tls-key belong together")
	}
	for _, f := range []struct{ flag, path string }{{"--tls-cert", c.TLSCert}, {"--tls-key", c.TLSKey}} {
		if f.path != "" {
			if _, err := os.Stat(f.path); err != nil {
				fault("%s: %v", f.flag, err)
			}
		}
	}
	if c.PublicURL != "" {
		if u, err := url.Parse(c.PublicURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" {
			fault("--public-url must be an address such as https://latchkey.example.org")
		}
		c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("--log-format must be text or json")
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		fault("--log-level must be debug, info, warn or error")
	}
	return errors.Join(faults...)
}

// splitListen checks an address to listen on, and returns its host.
func splitListen(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	_, err = net.LookupPort("tcp", port)
	return host, err
}

// loopback reports whether a listener on host is reached from this machine
// only.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func validDomain(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		ok := l != "" && len(l) <= 63 && !strings.HasPrefix(l, "-") && !strings.HasSuffix(l, "-") &&
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
		if !ok {
			return false
		}
	}
	// A certificate for every name directly below a top-level domain would not
	// be accepted.
	return len(labels) >= 2 && len(s) <= 200
}

func (c *serverConfig) databaseURL() string {
	return firstOf(c.Database, filepath.Join(c.Data, "latchkey.db"))
}

func (c *serverConfig) publicURL(listening net.Addr) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, reachable(listening))
}

// reachable returns an address at which a listener is reached from this
// machine.
func reachable(addr net.Addr) string {
	t, ok := addr.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("localhost:%d", t.Port)
}
