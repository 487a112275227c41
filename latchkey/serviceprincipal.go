package latchkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // thumbprints name certificates, nothing rests on them
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// A ServicePrincipal is the identity of a program that signs in by itself, such as
// a pipeline.
type ServicePrincipal struct {
	ID          PrincipalID                  `json:"id"`
	ClientID    string                       `json:"clientId" doc:"the GUID by which Azure SDKs and OpenID Connect clients name it"`
	DisplayName string                       `json:"displayName" doc:"no two have the same"`
	Description string                       `json:"description"`
	Disabled    bool                         `json:"disabled"`
	Credentials []ServicePrincipalCredential `json:"credentials" nullable:"false" doc:"how it proves itself, the oldest first"`
	CreatedAt   time.Time                    `json:"createdAt"`
	UpdatedAt   time.Time                    `json:"updatedAt"`
}

// A ProofKind is a way in which a service principal proves itself.
type ProofKind string

const (
	ProofSecret      ProofKind = "secret"      // a secret that both sides know
	ProofCertificate ProofKind = "certificate" // an assertion that its key signed
	ProofFederated   ProofKind = "federated"   // a token of another issuer
)

// ProofKinds are all ways in which a service principal proves itself.
var ProofKinds = []ProofKind{ProofSecret, ProofCertificate, ProofFederated}

// A ServicePrincipalCredential is one way in which a service principal proves
// itself, without any value that would.
type ServicePrincipalCredential struct {
	ID         ServicePrincipalCredentialID `json:"id"`
	Kind       ProofKind                    `json:"kind" enum:"secret,certificate,federated"`
	Name       string                       `json:"name"`
	CreatedAt  time.Time                    `json:"createdAt"`
	ExpiresAt  *time.Time                   `json:"expiresAt,omitempty" doc:"absent for a federated one, which does not expire"`
	LastUsedAt *time.Time                   `json:"lastUsedAt,omitempty"`

	// Of a certificate.
	Thumbprint       string     `json:"thumbprint,omitempty" doc:"SHA-1 of the certificate in base64url, as x5t in an assertion's header"`
	ThumbprintSHA256 string     `json:"thumbprintSha256,omitempty" doc:"SHA-256 of the certificate in base64url, as x5t#S256 in an assertion's header"`
	NotBefore        *time.Time `json:"notBefore,omitempty" doc:"from when on the certificate counts"`

	// Of a federated one.
	Issuer   string `json:"issuer,omitempty"`
	Subject  string `json:"subject,omitempty"`
	Audience string `json:"audience,omitempty"`
}

// A NewServicePrincipalCredential is a new credential of a service principal; its
// secret, if it is one, is shown once.
type NewServicePrincipalCredential struct {
	ServicePrincipalCredential
	Secret string `json:"secret,omitempty" doc:"of kind secret; shown once"`
}

// Limits of service principals.
const (
	MaxServicePrincipalCredentials = 20
	DefaultClientSecretTTL         = 180 * 24 * time.Hour     // of a secret whose request does not say
	MaxClientSecretTTL             = 2 * 366 * 24 * time.Hour // of any secret: two years, whichever they are
	ServicePrincipalTokenTTL       = time.Hour                // of an API token that a service principal signs in for
	MaxAssertionTTL                = 24 * time.Hour           // from now, of an assertion that a certificate's key signs
	MaxAssertion                   = 12 << 10                 // bytes of an assertion
	MaxCertificatePEM              = 32 << 10                 // bytes of a certificate in PEM
	MinRSABits                     = 2048
	MaxRSABits                     = 4096
)

// DefaultFederatedAudience is the audience of a federated credential that does not
// say: the one that pipelines ask tokens for that are meant for Azure.
const DefaultFederatedAudience = "api://AzureADTokenExchange"

// ClientAssertionType is the type of assertions by which a service principal
// signs in, in the words of RFC 7523, section 2.2.
const ClientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// A ServicePrincipalCreate asks for a new service principal.
type ServicePrincipalCreate struct {
	DisplayName string `json:"displayName" doc:"1 to 100 characters; no other service principal may have it"`
	Description string `json:"description,omitempty"`
}

// Validate returns every fault.
func (c *ServicePrincipalCreate) Validate() error {
	var f faults
	f.check("displayName", checkServiceName(c.DisplayName))
	f.check("description", checkText(c.Description, MaxDescription))
	return f.err()
}

// checkServiceName is CheckName for what must not be taken for an identifier.
func checkServiceName(s string) error {
	if err := CheckName(s); err != nil {
		return err
	}
	if guidRE.MatchString(s) || idRE.MatchString(s) {
		return errors.New("must not look like an identifier")
	}
	return nil
}

// A ServicePrincipalUpdate changes what is not nil.
type ServicePrincipalUpdate struct {
	DisplayName *string `json:"displayName,omitempty"`
	Description *string `json:"description,omitempty"`
	Disabled    *bool   `json:"disabled,omitempty" doc:"takes effect at once, also for runs that are under way"`
	Force       bool    `json:"force,omitempty" doc:"disable it though an environment is left without an admin, which is on record"`
}

// Validate returns every fault.
func (u *ServicePrincipalUpdate) Validate() error {
	var f faults
	if u.DisplayName != nil {
		f.check("displayName", checkServiceName(*u.DisplayName))
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	return f.err()
}

// A ServicePrincipalCredentialCreate asks for a new credential of a service
// principal.
type ServicePrincipalCredentialCreate struct {
	Kind        ProofKind `json:"kind" doc:"secret, certificate or federated"`
	Name        string    `json:"name,omitempty" doc:"what it is for; defaults to the kind"`
	ExpiresIn   Duration  `json:"expiresIn,omitempty" doc:"of a secret: 4320h, which is 180 days, unless given; at most 17568h"`
	Certificate string    `json:"certificate,omitempty" doc:"of kind certificate: the certificate alone in PEM, without its key; RSA of 2048 to 4096 bits, P-256, P-384 or P-521"`
	Issuer      string    `json:"issuer,omitempty" doc:"of kind federated: issuer of the tokens, an https address, exactly as they name it"`
	Subject     string    `json:"subject,omitempty" doc:"of kind federated: subject of the tokens, exactly"`
	Audience    string    `json:"audience,omitempty" doc:"of kind federated: audience of the tokens; api://AzureADTokenExchange unless given"`
}

// Validate returns every fault, and fills in the defaults. Whether a certificate
// counts at this time is not looked at.
func (c *ServicePrincipalCredentialCreate) Validate() error {
	if c.Name == "" {
		c.Name = string(c.Kind)
	}
	var f faults
	switch c.Kind {
	case ProofSecret:
		if c.ExpiresIn == 0 {
			c.ExpiresIn = Duration(DefaultClientSecretTTL)
		}
		if d := time.Duration(c.ExpiresIn); d < time.Minute || d > MaxClientSecretTTL {
			f.add("expiresIn", "must be from 1m to 17568h")
		}
	case ProofCertificate:
		_, err := ParseClientCertificate(c.Certificate)
		f.check("certificate", err)
	case ProofFederated:
		if c.Audience == "" {
			c.Audience = DefaultFederatedAudience
		}
		f.check("issuer", CheckIssuer(c.Issuer))
		for _, text := range [][2]string{{"subject", c.Subject}, {"audience", c.Audience}} {
			if text[1] == "" || checkText(text[1], 500) != nil || strings.TrimSpace(text[1]) != text[1] {
				f.add(text[0], "must be 1 to 500 characters, without white space around them")
			}
		}
		if strings.Contains(c.Subject, "*") {
			f.add("subject", "is compared exactly: * stands for nothing else")
		}
	default:
		f.add("kind", "must be one of secret, certificate, federated")
		return f.err()
	}
	f.check("name", CheckName(c.Name))
	for _, other := range []struct {
		field string
		set   bool
		kind  ProofKind
	}{
		{"expiresIn", c.ExpiresIn != 0, ProofSecret}, {"certificate", c.Certificate != "", ProofCertificate},
		{"issuer", c.Issuer != "", ProofFederated}, {"subject", c.Subject != "", ProofFederated}, {"audience", c.Audience != "", ProofFederated},
	} {
		if other.set && other.kind != c.Kind {
			f.add(other.field, "is for the kind %s only", other.kind)
		}
	}
	return f.err()
}

// CheckIssuer returns what is wrong with the issuer of tokens, as OpenID Connect
// Discovery 1.0, section 3, has it: an https address without query and fragment.
// An IP address must not be a [LocalAddress].
func CheckIssuer(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		strings.ContainsAny(s, "?#") || checkText(s, 500) != nil || strings.ContainsAny(s, " \t\r\n") {
		return errors.New("must be an https address of at most 500 characters, without query and fragment, as tokens name it")
	} else if a, err := netip.ParseAddr(u.Hostname()); err == nil && LocalAddress(a) {
		return errors.New("must not be at a loopback, link-local, unspecified or multicast address")
	}
	return nil
}

// LocalAddress reports whether an address is of the machine itself or its link, or
// of nobody: loopback, link-local, unspecified or multicast, also an IPv4 address
// within one of IPv6. Clouds tell machines their secrets at link-local addresses.
func LocalAddress(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()
}

// ParseClientCertificate returns the one certificate in text, by whose key a
// service principal may prove itself.
func ParseClientCertificate(text string) (*x509.Certificate, error) {
	if len(text) > MaxCertificatePEM {
		return nil, fmt.Errorf("must be at most %d bytes", MaxCertificatePEM)
	}
	var cert *x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("has a private key in it: that stays with the program; give the certificate alone, and make another key")
		case block.Type != "CERTIFICATE":
			return nil, errors.New("must be a certificate in PEM, and nothing else")
		case cert != nil:
			return nil, errors.New("must be one certificate, not several")
		}
		var err error
		if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, errors.New("is no certificate that can be read")
		}
	}
	if cert == nil {
		return nil, errors.New("must be a certificate in PEM: a block that begins with BEGIN CERTIFICATE")
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < MinRSABits || n > MaxRSABits {
			return nil, fmt.Errorf("has an RSA key of %d bits; it must be %d to %d", n, MinRSABits, MaxRSABits)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return nil, errors.New("has a key on another curve than P-256, P-384 and P-521")
		}
	default:
		return nil, errors.New("has a key that is neither RSA nor on P-256, P-384 or P-521")
	}
	return cert, nil
}

// DescribeCertificate fills in what is known of a certificate, given in DER.
func (c *ServicePrincipalCredential) DescribeCertificate(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("parse certificate: %w", err)
	}
	one, two := sha1.Sum(der), sha256.Sum256(der)
	notBefore, notAfter := cert.NotBefore.UTC(), cert.NotAfter.UTC()
	c.Thumbprint, c.ThumbprintSHA256 = base64.RawURLEncoding.EncodeToString(one[:]), base64.RawURLEncoding.EncodeToString(two[:])
	c.NotBefore, c.ExpiresAt = &notBefore, &notAfter
	return nil
}

// Codes of why a service principal could not sign in. A disabled or deleted one is
// answered as if it had no credentials.
const (
	CodeSecretWrong       = "secret-wrong"
	CodeSecretExpired     = "secret-expired"     // the secret was right
	CodeClientUnknown     = "client-unknown"     // nothing has this client id
	CodeAssertionInvalid  = "assertion-invalid"  // malformed, unknown certificate, wrong signature, used before
	CodeAssertionExpired  = "assertion-expired"  // the signature was right
	CodeAssertionAudience = "assertion-audience" // the signature was right
	CodeFederatedMismatch = "federated-mismatch" // no federated credential with this issuer or subject
	CodeIssuerUnavailable = "issuer-unavailable"
	CodeClientDisabled    = "client-disabled" // in the audit log only
	CodeSignInThrottled   = "sign-in-throttled"
)
