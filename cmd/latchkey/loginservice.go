package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// maxPEMFile bounds a file with a certificate, its key and its chain, in bytes.
const maxPEMFile = 256 << 10

// assertionTTL is how long an assertion that login signs counts: it is used at
// once.
const assertionTTL = 5 * time.Minute

// A serviceLogin says how a service principal signs in.
type serviceLogin struct {
	client          string // its client id or id; "" for everybody else
	secretFile      string
	certificateFile string
	tokenFile       string // with a token of another issuer
}

// check returns what is wrong with the flags.
func (l serviceLogin) check(login string, tokenStdin bool) error {
	given := 0
	for _, file := range []string{l.secretFile, l.certificateFile, l.tokenFile} {
		if file != "" {
			given++
		}
	}
	switch {
	case l.client == "" && (l.secretFile != "" || l.certificateFile != ""):
		return cli.Usagef("--secret-file and --certificate-file go with --service-principal")
	case l.client == "":
		return nil
	case login != "" || tokenStdin:
		return cli.Usagef("--service-principal does not go with --user and --token-stdin")
	case given != 1:
		return cli.Usagef("say by what the service principal proves itself: one of --secret-file, --certificate-file and --token-file")
	case !latchkey.IsGUID(l.client) && !strings.HasPrefix(l.client, "sp_"):
		return cli.Usagef("--service-principal is the client id, which latchkey service-principal show prints, not %q", cli.CleanLine(l.client))
	}
	return nil
}

// signIn returns a token of the service principal.
func (a *app) signInService(ctx context.Context, c *client.Client, l serviceLogin) (latchkey.NewToken, error) {
	switch {
	case l.secretFile == "-":
		secret, err := a.readSecret(a.In, "standard input", true)
		if err != nil {
			return latchkey.NewToken{}, err
		}
		return c.SignInWithSecret(ctx, l.client, secret)
	case l.secretFile != "":
		secret, err := readTokenFile(l.secretFile)
		if err != nil {
			return latchkey.NewToken{}, err
		}
		return c.SignInWithSecret(ctx, l.client, secret)
	case l.tokenFile != "":
		b, err := readFile(l.tokenFile, latchkey.MaxAssertion)
		if err != nil {
			return latchkey.NewToken{}, fmt.Errorf("read token: %w", err)
		}
		return c.SignInWithAssertion(ctx, l.client, latchkey.NewSecret(strings.TrimSpace(string(b))))
	}
	b, err := readFile(l.certificateFile, maxPEMFile)
	if err != nil {
		return latchkey.NewToken{}, err
	}
	assertion, err := signAssertion(b, l.client, c.Server()+client.ServicePrincipalSignInPath, time.Now())
	if err != nil {
		return latchkey.NewToken{}, fmt.Errorf("%s: %w", l.certificateFile, err)
	}
	return c.SignInWithAssertion(ctx, l.client, assertion)
}

// signAssertion returns an assertion that the key in text, which is PEM with a
// certificate and its key, signs as RFC 7523 has it.
func signAssertion(text []byte, clientID, audience string, now time.Time) (latchkey.Secret, error) {
	defer clear(text)
	if bytes.Contains(text, []byte("ENCRYPTED")) {
		return latchkey.Secret{}, cli.Hint(errors.New("the key is encrypted"), "openssl pkey -in FILE, which asks for the password")
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return latchkey.Secret{}, cli.Hint(errors.New("it is not a certificate with its key in PEM"), "a file with both blocks, the certificate first")
	}
	algorithm, err := algorithmOf(pair.PrivateKey)
	if err != nil {
		return latchkey.Secret{}, err
	}
	sum := sha256.Sum256(pair.Certificate[0])
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: pair.PrivateKey}, options)
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("sign: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: clientID, Subject: clientID, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionTTL)),
	}).Serialize()
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("sign: %w", err)
	}
	return latchkey.NewSecret(token), nil
}

func algorithmOf(key crypto.PrivateKey) (jose.SignatureAlgorithm, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return jose.PS256, nil
	case *ecdsa.PrivateKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	}
	return "", errors.New("the key is neither RSA nor on P-256, P-384 or P-521")
}
