package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

const certUser = "bot@contoso.example"

// mtls is a flow that signs in to a web service with the certificates that it is
// handed: that of the connection, and another one.
func mtls(url, ca string) error {
	root, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	type values struct{ Name, Username, Certificate, PrivateKey, CertificateFile, PrivateKeyFile string }
	var handed struct {
		Connection  values
		Credentials map[string]values
	}
	var r flowReport
	text, err := r.take()
	if err != nil {
		return err
	}
	if text != nil {
		if strings.Contains(string(text), "password") {
			return errors.New("there is a password")
		}
		err = json.Unmarshal(text, &handed)
	} else {
		of := func(prefix string) values {
			return values{Username: os.Getenv(prefix + "USERNAME"), CertificateFile: os.Getenv(prefix + "CERTIFICATE_FILE"), PrivateKeyFile: os.Getenv(prefix + "PRIVATE_KEY_FILE")}
		}
		handed.Connection, handed.Credentials = of("LATCHKEY_"), map[string]values{"Web bot": of("LATCHKEY_CREDENTIAL_WEB_BOT_")}
	}
	if err != nil {
		return err
	}
	for _, v := range []values{handed.Connection, handed.Credentials["Web bot"]} {
		pairs := [][2]string{}
		if v.Certificate != "" {
			pairs = append(pairs, [2]string{v.Certificate, v.PrivateKey})
		}
		if v.CertificateFile != "" {
			certificate, err := os.ReadFile(v.CertificateFile)
			key, err2 := os.ReadFile(v.PrivateKeyFile)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			info, err := os.Stat(v.PrivateKeyFile)
			if err != nil || info.Mode() != 0o600 {
				return fmt.Errorf("mode of the key's file: %v, %v", info.Mode(), err)
			}
			pairs = append(pairs, [2]string{string(certificate), string(key)})
		}
		for _, p := range pairs {
			cert, err := tls.X509KeyPair([]byte(p[0]), []byte(p[1]))
			if err != nil {
				return err
			}
			client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}}
			resp, err := client.Get(url)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			fmt.Println(v.Username, "is", string(body))
			client.CloseIdleConnections()
		}
	}
	return nil
}

// leakKey prints what a flow was handed of a certificate, in the ways in which
// programs do.
func leakKey() error {
	key, err := os.ReadFile(os.Getenv("LATCHKEY_PRIVATE_KEY_FILE"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(key)
	fmt.Print(string(key))
	for line := range strings.Lines(string(key)) {
		fmt.Print("> ", line)
	}
	quoted, err := json.Marshal(string(key))
	if err != nil {
		return err
	}
	fmt.Println(string(quoted))
	fmt.Println(base64.StdEncoding.EncodeToString(block.Bytes))
	fmt.Printf("%x\n", strings.TrimSpace(string(key)))
	return nil
}

// A webServer lets only those in whom its authority knows, and says who they are.
func webServer(t *testing.T, ca *pki.Authority) (url, caFile string) {
	t.Helper()
	pair := ca.Issue(t, pki.Options{DNS: []string{"localhost"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pki.PEM(ca.Cert), 0o644); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), caFile
}

// TestCertificateHandover has flows sign in to a web service that requires
// certificates of its clients, with each handover.
func TestCertificateHandover(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	ca := pki.NewAuthority(t, "Test CA")
	url, caFile := webServer(t, ca)
	in := latchkey.CredentialCreate{Authentication: latchkey.AuthenticationCertificate, Exposure: latchkey.ExposureEnvironment, AllowSharedUID: true, Usages: []latchkey.Usage{latchkey.UsageConnection}}
	f.SetCertificate(t, "host-cert", ca.Issue(t, pki.Options{CommonName: "host", UPN: certUser}).Secret(t))
	host := f.Bind(t, "Host cert", certUser, "host-cert", in)
	in.Usages = []latchkey.Usage{latchkey.UsageDesktopFlow}
	f.SetCertificate(t, "web-cert", ca.Issue(t, pki.Options{CommonName: "web", UPN: "web@contoso.example", Key: pki.RSAKey(t)}).Secret(t))
	web := f.Bind(t, "Web bot", "web@contoso.example", "web-cert", in)
	var err error
	f.Connection, err = f.Broker.CreateConnection(t.Context(), f.Admin, f.Env, latchkey.ConnectionCreate{
		Name: "By certificate", Target: latchkey.Target{Machine: f.machine}, Driver: latchkey.DriverNone, Credential: host.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	const once = certUser + " is host\nweb@contoso.example is web\n"
	const twice = certUser + " is host\n" + certUser + " is host\nweb@contoso.example is web\nweb@contoso.example is web\n"
	for _, tt := range []struct {
		how  latchkey.Handover
		want string
	}{{latchkey.HandoverDescriptor, once}, {latchkey.HandoverFile, twice}, {latchkey.HandoverEnvironment, once}} {
		t.Run(string(tt.how), func(t *testing.T) {
			c := f.flow(t, tt.how, time.Minute, "mtls", url, caFile)
			c.Credentials = []latchkey.CredentialID{web.ID}
			id := f.start(t, c, nil)
			f.await(t, id, latchkey.RunSucceeded, "")
			if got := f.output(t, id, "stdout"); got != tt.want {
				t.Errorf("the service says %q; want %q", got, tt.want)
			}
		})
	}
	t.Run("masked", func(t *testing.T) {
		id := f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak-key"), nil)
		f.await(t, id, latchkey.RunSucceeded, "")
		got := f.output(t, id, "stdout")
		if n := strings.Count(got, mask); n < 7 {
			t.Errorf("%d parts of the output are masked; want 7: %s", n, got)
		}
		for _, line := range strings.Fields(strings.NewReplacer(`\n`, " ", `"`, " ", ">", "", "-----BEGIN PRIVATE KEY-----", "", "-----END PRIVATE KEY-----", "").Replace(got)) {
			if line != mask {
				t.Errorf("the flow's output shows %q: %s", line, got)
			}
		}
	})
	t.Run("PEM", func(t *testing.T) {
		pair := ca.Issue(t, pki.Options{UPN: certUser})
		f.SetCertificate(t, "host-cert", string(pki.PEM(pair.Cert))+string(pair.KeyPEM(t)))
		r := f.await(t, f.start(t, f.flow(t, latchkey.HandoverDescriptor, time.Minute, "exit", "0"), nil), latchkey.RunFailed, latchkey.RunErrRelease)
		if !strings.Contains(r.Error.Message, "kept as PEM") || !strings.Contains(r.Error.Message, "application/x-pkcs12") {
			t.Errorf("the run failed with %q; want why and what to do", r.Error.Message)
		}
	})
	left, err := filepath.Glob(filepath.Join("/dev/shm", ownName(filePrefix, f.machine)+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files left in memory: %v, %v", left, err)
	}
}
