package azure

import (
	"bytes"
	"cmp"
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

// maxFile bounds a file of settings, a secret or certificates, in bytes.
const maxFile = 1 << 20

// Kinds of identity that a server has in Azure.
const (
	identityDefault           = "default"
	identityManaged           = "managed-identity"
	identityWorkload          = "workload-identity"
	identityClientSecret      = "client-secret"
	identityClientCertificate = "client-certificate"
	identityAzureCLI          = "azure-cli"
	identityAzureDeveloperCLI = "azure-developer-cli"
)

var identityNames = []string{
	identityDefault, identityManaged, identityWorkload, identityClientSecret, identityClientCertificate, identityAzureCLI, identityAzureDeveloperCLI,
}

// Settings say which of Azure's clouds a server reads vaults of, and as whom. No
// field holds a secret: those are in files that are named. The zero value is the
// public cloud and the identity that Azure's SDK finds around the process.
type Settings struct {
	Cloud                   string `toml:"cloud"`            // public, usgov, china or custom
	Identity                string `toml:"identity"`         // one of identityNames
	Tenant                  string `toml:"tenant"`           // id of the tenant that the identity is of
	ClientID                string `toml:"client-id"`        // of an application, or of a user-assigned managed identity
	ResourceID              string `toml:"resource-id"`      // of a user-assigned managed identity
	SecretFile              string `toml:"secret-file"`      // the secret of client-secret
	CertificateFile         string `toml:"certificate-file"` // PEM or PFX with the key, of client-certificate
	CertificatePasswordFile string `toml:"certificate-password-file"`
	TokenFile               string `toml:"token-file"` // the token of workload-identity
	CAFile                  string `toml:"ca-file"`    // PEM of authorities that are trusted besides the system's

	Custom *struct {
		Authority               string `toml:"authority"`
		VaultSuffix             string `toml:"vault-suffix"`
		ResourceManager         string `toml:"resource-manager"`
		ResourceManagerAudience string `toml:"resource-manager-audience"`
	} `toml:"custom-cloud"`
}

// LoadSettings reads settings from a TOML file. Paths in it are relative to its
// folder.
func LoadSettings(path string) (Settings, error) {
	b, err := readFile(path)
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(b)
	for _, p := range []*string{&s.SecretFile, &s.CertificateFile, &s.CertificatePasswordFile, &s.TokenFile, &s.CAFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return s, err
}

// ParseSettings returns the settings of a TOML text. A key that is not known is an
// error: it would do nothing.
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
	return s, nil
}

// resourceIDRE is the form of the ARM id of a user-assigned managed identity.
var resourceIDRE = regexp.MustCompile(`(?i)^/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/\s]{1,90}/providers/microsoft\.managedidentity/userassignedidentities/[^/\s]{1,128}$`)

// Check returns every fault of the settings at once, those of the files that they
// name included.
func (s *Settings) Check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Cloud == "" {
		s.Cloud = cloudPublic
	}
	if s.Identity == "" {
		s.Identity = identityDefault
	}
	switch {
	case !slices.Contains(cloudNames, s.Cloud):
		fault("cloud must be one of %s", strings.Join(cloudNames, ", "))
	case (s.Cloud == cloudCustom) != (s.Custom != nil):
		fault("cloud = %q and the table [custom-cloud] belong together", cloudCustom)
	case s.Custom != nil:
		for _, a := range []struct{ key, value string }{{"authority", s.Custom.Authority}, {"resource-manager", s.Custom.ResourceManager}, {"resource-manager-audience", s.Custom.ResourceManagerAudience}} {
			if a.value == "" && a.key != "authority" {
				continue
			}
			if err := checkAddress(a.value); err != nil {
				fault("%s of [custom-cloud] %w", a.key, err)
			}
		}
		if err := checkSuffix(s.Custom.VaultSuffix); err != nil {
			fault("vault-suffix of [custom-cloud] %w", err)
		}
		if (s.Custom.ResourceManager == "") != (s.Custom.ResourceManagerAudience == "") {
			fault("resource-manager and resource-manager-audience of [custom-cloud] belong together")
		}
	}
	if !slices.Contains(identityNames, s.Identity) {
		fault("identity must be one of %s", strings.Join(identityNames, ", "))
	} else {
		faults = append(faults, s.checkKeys()...)
	}
	for _, id := range []struct{ key, value string }{{"tenant", s.Tenant}, {"client-id", s.ClientID}} {
		if id.value != "" && !latchkey.IsGUID(id.value) {
			fault("%s must be a GUID such as 00000000-0000-0000-0000-000000000000", id.key)
		}
	}
	if s.ResourceID != "" && !resourceIDRE.MatchString(s.ResourceID) {
		fault("resource-id must be /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…")
	}
	if s.CAFile != "" {
		if _, err := s.roots(); err != nil {
			faults = append(faults, err)
		}
	}
	// Files are looked at when the rest is right, so that each fault is told once.
	if len(faults) == 0 {
		if err := s.checkFiles(); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// checkKeys returns which keys an identity lacks, and which it has no use for.
func (s *Settings) checkKeys() (faults []error) {
	const optional, needed = 1, 2
	keys := map[string]int{}
	switch s.Identity {
	case identityDefault, identityAzureCLI, identityAzureDeveloperCLI:
		keys = map[string]int{"tenant": optional}
	case identityManaged:
		keys = map[string]int{"client-id": optional, "resource-id": optional}
		if s.ClientID != "" && s.ResourceID != "" {
			faults = append(faults, errors.New("client-id and resource-id name one identity twice: leave one out"))
		}
	case identityWorkload: // the webhook of Azure's clusters sets variables for all three
		keys = map[string]int{"tenant": optional, "client-id": optional, "token-file": optional}
	case identityClientSecret:
		keys = map[string]int{"tenant": needed, "client-id": needed, "secret-file": needed}
	case identityClientCertificate:
		keys = map[string]int{"tenant": needed, "client-id": needed, "certificate-file": needed, "certificate-password-file": optional}
	}
	for _, k := range []struct{ key, value string }{
		{"tenant", s.Tenant}, {"client-id", s.ClientID}, {"resource-id", s.ResourceID}, {"secret-file", s.SecretFile},
		{"certificate-file", s.CertificateFile}, {"certificate-password-file", s.CertificatePasswordFile}, {"token-file", s.TokenFile},
	} {
		switch {
		case k.value == "" && keys[k.key] == needed:
			faults = append(faults, fmt.Errorf("identity = %q takes %s", s.Identity, k.key))
		case k.value != "" && keys[k.key] == 0:
			faults = append(faults, fmt.Errorf("identity = %q has no use for %s", s.Identity, k.key))
		}
	}
	return faults
}

// checkFiles returns what is wrong with what the identity is made of.
func (s *Settings) checkFiles() error {
	switch s.Identity {
	case identityClientSecret:
		_, err := s.secret()
		return err
	case identityClientCertificate:
		_, _, err := s.certificate()
		return err
	case identityWorkload:
		if s.TokenFile != "" {
			_, err := readFile(s.TokenFile)
			return err
		}
	}
	return nil
}

// A reader is as whom vaults are read, in words.
type reader struct {
	name   string
	nobody why // when there is no token for it, and nobody says why
}

func (s *Settings) reader() reader {
	id := cmp.Or(s.ResourceID, s.ClientID)
	if id != "" {
		id = " " + id
	}
	as := func(what string) string { return "the service's identity (" + what + ")" }
	switch s.Identity {
	case identityManaged:
		return reader{as("managed identity" + id), why{"the machine has no such identity", "assign it to the machine, or correct the server's Azure settings"}}
	case identityWorkload:
		return reader{as("workload identity" + id), why{"there is no token to exchange", "see the token file, and the variables that the cluster's webhook sets"}}
	case identityClientSecret, identityClientCertificate:
		return reader{as("application" + id), why{"there was no usable answer", "correct the server's Azure settings"}}
	case identityAzureCLI:
		return reader{as("whoever signed in with az"), why{"az gave no token", "run az login as the account that the server runs as"}}
	case identityAzureDeveloperCLI:
		return reader{as("whoever signed in with azd"), why{"azd gave no token", "run azd auth login as the account that the server runs as"}}
	}
	return reader{"the service's identity", why{"there is nobody to sign in as: no managed or workload identity, no AZURE_ variables and no az login were found", "say who the server is, with --azure"}}
}

// cloud returns the cloud that checked settings name.
func (s *Settings) cloud() Cloud {
	if c := s.Custom; c != nil {
		return Cloud{strings.TrimSuffix(c.Authority, "/"), c.VaultSuffix, c.ResourceManager, c.ResourceManagerAudience, true}
	}
	c, _ := microsofts(s.Cloud)
	return c
}

// roots returns the authorities that are trusted, nil for the system's.
func (s *Settings) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	b, err := readFile(s.CAFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("certificate authorities of the system: %w", err)
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("there is no certificate in PEM in %s", s.CAFile)
	}
	return pool, nil
}

// readFile returns what a file holds, if that is not too much.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return b, err
}
