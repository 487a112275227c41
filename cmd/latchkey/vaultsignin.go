package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"latchkey.dev/client"
	"latchkey.dev/internal/login"
)

// discoveryHost is whom Microsoft's libraries ask about every authority that they
// do not know. Who is asked so cannot be set from outside of a program.
const discoveryHost = "login.microsoftonline.com"

// standInYears is how long the stand-in's certificate lasts, which is as long as a
// command may run.
const standInYears = 2

// startDiscovery stands in for discoveryHost on this machine until ctx ends. It
// answers what libraries ask about the vaults' own authority, and nothing else. It
// returns its address, and in PEM the authority of its certificate: that was made
// for it, is for that host alone, and its key is nowhere but in this process.
func startDiscovery(ctx context.Context, g *errgroup.Group, at client.VaultConnection) (address, ca string, err error) {
	cert, ca, err := standInCertificate(discoveryHost, time.Now())
	if err != nil {
		return "", "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /common/discovery/instance", func(w http.ResponseWriter, r *http.Request) {
		about := r.URL.Query().Get("authorization_endpoint")
		if answer, ok := login.Instance(about, at.Domain); ok {
			sendDiscovery(w, http.StatusOK, answer)
			return
		}
		// The library for Python asks about Microsoft's own to learn the names of all.
		if strings.HasPrefix(about, "https://"+discoveryHost+"/") {
			sendDiscovery(w, http.StatusOK, map[string]any{"api-version": "1.1", "metadata": login.Metadata(at.Domain)})
			return
		}
		refuseDiscovery(w, at)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { refuseDiscovery(w, at) })
	base, err := serveLoopback(ctx, g, mux, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
	return strings.TrimPrefix(base, "http://"), ca, err
}

func refuseDiscovery(w http.ResponseWriter, at client.VaultConnection) {
	sendDiscovery(w, http.StatusNotFound, map[string]string{
		"error": "not_found",
		"error_description": "This is not " + discoveryHost + " but latchkey vault env --as-service-principal, which answers in its place what Microsoft's libraries ask about " +
			at.Authority + ", and nothing else. A program that also signs in to Azure cannot be run by it.",
	})
}

func sendDiscovery(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked may have gone
}

// standInCertificate makes a certificate for a host and an authority that can vouch
// for nothing else, which is returned in PEM.
func standInCertificate(host string, now time.Time) (cert tls.Certificate, ca string, err error) {
	template := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(standInYears, 0, 0),
		}
	}
	root := template("latchkey vault env", now.UnixNano()) // no two that may meet are the same
	root.IsCA, root.MaxPathLenZero, root.KeyUsage = true, true, x509.KeyUsageCertSign
	root.PermittedDNSDomainsCritical, root.PermittedDNSDomains = true, []string{host}
	leaf := template(host, 2)
	leaf.DNSNames, leaf.KeyUsage, leaf.ExtKeyUsage = []string{host}, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, "", err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, "", err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return cert, "", err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return cert, "", err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		return cert, "", err
	}
	ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}))
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}, ca, nil
}

// signInVariables returns what a command finds that signs in as a service principal
// by itself, and which variables would lead it elsewhere.
func (a *app) signInVariables(at client.VaultConnection) (set map[string]string, unset []string, err error) {
	// Without the address the command would show its secret to Microsoft.
	if at.Authority == "" || at.Tenant == "" {
		return nil, nil, errors.New("the server does not say where service principals sign in: it is older than this program")
	}
	set = map[string]string{"AZURE_AUTHORITY_HOST": at.Authority, "AZURE_TENANT_ID": at.Tenant}
	unset = []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT", "MSI_SECRET"}
	has := func(name string) bool { return a.Getenv(name) != "" }
	switch id := has("AZURE_CLIENT_ID"); {
	case id && (has("AZURE_CLIENT_SECRET") || has("AZURE_CLIENT_CERTIFICATE_PATH")):
		set["AZURE_TOKEN_CREDENTIALS"] = "EnvironmentCredential"
	case id && has("AZURE_FEDERATED_TOKEN_FILE"):
		set["AZURE_TOKEN_CREDENTIALS"] = "WorkloadIdentityCredential"
	default:
		a.Say("AZURE_CLIENT_ID is not set, or none of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE: the command has to know itself as whom it signs in")
	}
	return set, unset, nil
}
