// Package signon signs people in with providers of OpenID Connect: the authorization
// code flow with PKCE (RFC 7636), state and nonce.
//
// It finds out who somebody is to a provider; what that is worth here is decided by
// whoever asks.
package signon

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"latchkey.dev/latchkey"
)

const (
	maxFile      = 1 << 20 // bytes of a file of settings, a secret or certificates
	maxProviders = 20
)

// Settings are a file of providers.
type Settings struct {
	Providers []Provider `toml:"provider"`
}

// A Provider is a provider of OpenID Connect as an administrator describes it. No
// field holds a secret: that is in a file that is named.
type Provider struct {
	ID               string   `toml:"id"`                 // in addresses: /sign-in/oidc/{id}
	Name             string   `toml:"name"`               // what people know it by
	Issuer           string   `toml:"issuer"`             // https address, exactly as its tokens have it
	ClientID         string   `toml:"client-id"`          // of this server there
	ClientSecretFile string   `toml:"client-secret-file"` // without one the client is a public one
	CAFile           string   `toml:"ca-file"`            // PEM of authorities that are trusted besides the system's
	Scopes           []string `toml:"scopes"`             // openid, profile and email unless given
	Entra            bool     `toml:"entra"`              // people are known by tid and oid; set for Microsoft's own issuers
	GroupsClaim      string   `toml:"groups-claim"`       // claim with the ids of groups; without it groups are left alone

	// Who may sign in; empty lists let everybody of the provider.
	Tenants []string `toml:"tenants"` // of Entra: values of tid
	Domains []string `toml:"domains"` // of e-mail addresses that the provider says are verified
	Groups  []string `toml:"groups"`  // ids in groups-claim, of which one is enough

	// CreateAccounts has an account made at the first sign-in, with these roles in
	// environments, by their names.
	CreateAccounts bool                                `toml:"create-accounts"`
	Environments   map[string]latchkey.EnvironmentRole `toml:"environments"`

	secret string
	roots  *x509.CertPool
}

// LoadSettings reads providers from a TOML file, and the files that it names. Paths in
// it are relative to its folder. It returns every fault at once.
func LoadSettings(path string) (Settings, error) {
	b, err := readFile(path)
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(b)
	if err != nil {
		return s, err
	}
	var faults []error
	for i := range s.Providers {
		p := &s.Providers[i]
		for _, name := range []*string{&p.ClientSecretFile, &p.CAFile} {
			if *name != "" && !filepath.IsAbs(*name) {
				*name = filepath.Join(filepath.Dir(path), *name)
			}
		}
		faults = append(faults, p.load())
	}
	return s, errors.Join(faults...)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, err
}

// load reads the files that a provider names.
func (p *Provider) load() error {
	if p.ClientSecretFile != "" {
		b, err := readFile(p.ClientSecretFile)
		if err != nil {
			return fmt.Errorf("provider %s: client-secret-file: %w", p.ID, err)
		}
		if p.secret = strings.TrimSpace(string(b)); p.secret == "" || strings.ContainsAny(p.secret, "\r\n") {
			return fmt.Errorf("provider %s: client-secret-file %s must have one line", p.ID, p.ClientSecretFile)
		}
	}
	if p.CAFile != "" {
		b, err := readFile(p.CAFile)
		if err != nil {
			return fmt.Errorf("provider %s: ca-file: %w", p.ID, err)
		}
		if p.roots, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("provider %s: the system's authorities: %w", p.ID, err)
		}
		if !p.roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("provider %s: ca-file %s has no certificate in PEM", p.ID, p.CAFile)
		}
	}
	return nil
}

var (
	idRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

	// entraHosts are where Microsoft's own issuers are.
	entraHosts = []string{"https://login.microsoftonline.com/", "https://login.microsoftonline.us/", "https://login.partner.microsoftonline.cn/"}
)

// ParseSettings returns the providers of a TOML text, with what they leave out filled
// in, or every fault at once. A key that is not known is an error: it would do
// nothing.
func ParseSettings(text []byte) (s Settings, err error) {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return s, fmt.Errorf("a key that is not known:\n%s", strict.String())
		}
		if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := syntax.Position()
			return s, fmt.Errorf("line %d: %w", line, err)
		}
		return s, err
	}
	if len(s.Providers) == 0 || len(s.Providers) > maxProviders {
		return s, fmt.Errorf("there must be 1 to %d tables [[provider]]", maxProviders)
	}
	var faults []error
	for i := range s.Providers {
		p := &s.Providers[i]
		for _, fault := range p.check() {
			faults = append(faults, fmt.Errorf("provider %d (%s): %w", i+1, p.ID, fault))
		}
		if slices.ContainsFunc(s.Providers[:i], func(o Provider) bool { return o.ID == p.ID }) {
			faults = append(faults, fmt.Errorf("provider %d: the id %q is taken by another", i+1, p.ID))
		}
	}
	return s, errors.Join(faults...)
}

func (p *Provider) check() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !idRE.MatchString(p.ID) {
		fault("id must be 1 to 32 lower-case letters, digits and -")
	}
	if p.Name == "" {
		p.Name = p.ID
	}
	if err := latchkey.CheckName(p.Name); err != nil {
		fault("name %w", err)
	}
	if err := latchkey.CheckIssuer(p.Issuer); err != nil {
		fault("issuer %w", err)
	}
	for _, host := range entraHosts {
		if rest, ok := strings.CutPrefix(p.Issuer, host); ok {
			p.Entra = true
			if tenant, _, _ := strings.Cut(rest, "/"); !latchkey.IsGUID(tenant) {
				fault("issuer must name one tenant by its id, as in %s00000000-0000-0000-0000-000000000000/v2.0: write a provider for each tenant that may sign in", host)
			}
		}
	}
	if p.ClientID == "" || len(p.ClientID) > 300 {
		fault("client-id must be 1 to 300 bytes")
	}
	if len(p.Scopes) == 0 {
		p.Scopes = []string{"openid", "profile", "email"}
	}
	if !slices.Contains(p.Scopes, "openid") || len(p.Scopes) > 20 {
		fault("scopes must have openid among them, and be at most 20")
	}
	if len(p.Tenants) > 0 && !p.Entra {
		fault("tenants are of Entra: set entra = true, or leave them out")
	}
	if len(p.Groups) > 0 && p.GroupsClaim == "" {
		fault("groups needs groups-claim")
	}
	for i := range p.Domains {
		p.Domains[i] = strings.ToLower(p.Domains[i])
	}
	if len(p.Environments) > 0 && !p.CreateAccounts {
		fault("environments are for accounts that are made: set create-accounts = true, or leave them out")
	}
	for env, role := range p.Environments {
		if !slices.Contains(latchkey.EnvironmentRoles, role) {
			fault("the role in environment %s must be one of %v", env, latchkey.EnvironmentRoles)
		}
	}
	return faults
}
