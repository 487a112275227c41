package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// A language is one whose clients are tried by scripts in a folder beside this
// program. All of them have the same scripts, and those the same cases.
type language struct {
	name, folder, suffix string
	command              string                                      // that runs a script
	install              func(ctx context.Context, dir string) error // what the scripts need, in the folder with them; nil is nothing
}

// The Python is Debian's, because the clients are.
var languages = []language{
	{"javascript", "js", ".mjs", "node", npmInstall},
	{"python", "python", ".py", "/usr/bin/python3", nil},
}

func names(of []language) string {
	var all []string
	for _, l := range of {
		all = append(all, l.name)
	}
	return strings.Join(all, ", ")
}

// A script is one file of every language, and the names of its cases.
type script struct {
	name     string
	asClient bool // the script signs in by itself, as a service principal
	cases    []string
}

var scripts = []script{
	{"vault", false, []string{
		"secret set and get", "secret versions", "secret list", "secret update", "secret names in another case", "secret disabled",
		"secret delete, recover and purge", "secret backup and restore", "secret not found", "secret conflict", "secret bad name",
		"certificate create self-signed", "certificate policy", "certificate import PFX", "certificate import PEM", "certificate linked secret",
		"certificate list, versions and update", "certificate operation", "certificate delete, recover and purge", "certificate backup and restore",
		"certificate issuers", "certificate contacts", "certificate not found", "certificate conflict", "denied without a role",
	}},
	{"login", true, []string{
		"sign in by default", "sign in with a secret", "sign in with a certificate", "sign in for several scopes",
		"sign in, wrong secret", "sign in, wrong tenant", "sign in, wrong scope", "sign in, wrong assertion",
	}},
}

// npmInstall installs what package-lock.json names, and runs none of its scripts.
// What npm has in its cache it does not fetch again.
func npmInstall(ctx context.Context, dir string) error {
	return command(ctx, "npm", "--prefix", dir, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error").Run()
}

// A world is what scripts find: a vault of their language's, one in which they may
// do nothing, a service principal, and certificates.
type world struct {
	*program
	dir      string // of temporary files
	denied   vault
	client   struct{ ID, ClientID string }
	password string // of the service principal
}

// importPassword is the password of the certificate to import.
const importPassword = "päss word"

// prepare makes what scripts find.
func (p *program) prepare(ctx context.Context, dir string) (w *world, err error) {
	w = &world{program: p, dir: dir}
	if w.denied, err = p.createVault(ctx, "denied"); err != nil {
		return nil, err
	}
	var roles []struct{ ID, PrincipalKind string }
	if err := p.ask(ctx, &roles, "vault", "role", "list", "denied"); err != nil {
		return nil, fmt.Errorf("list the roles in a vault: %w", err)
	}
	for _, r := range roles {
		if r.PrincipalKind != "user" {
			continue
		}
		if err := p.admin(ctx, "vault", "role", "remove", "denied", r.ID, "--yes", "--quiet").Run(); err != nil {
			return nil, fmt.Errorf("remove a role in a vault: %w", err)
		}
	}
	key, cert, text, err := newCertificate("import.example")
	if err != nil {
		return nil, err
	}
	if err := w.createClient(ctx); err != nil {
		return nil, fmt.Errorf("make a service principal: %w", err)
	}
	pfx, err := pkcs12.Modern2023.Encode(key, cert, nil, importPassword)
	if err != nil {
		return nil, err
	}
	return w, errors.Join(
		os.WriteFile(filepath.Join(dir, "import.pem"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "import.pfx"), pfx, 0o600),
	)
}

// createClient makes a service principal with a secret and a certificate.
func (w *world) createClient(ctx context.Context) error {
	const name = "conformance"
	if err := w.ask(ctx, &w.client, "service-principal", "create", name); err != nil {
		return err
	}
	_, _, text, err := newCertificate("client.example")
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "client.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	var added struct{ Secret string }
	if err := w.ask(ctx, &added, "service-principal", "credential", "add-certificate", name, file); err != nil {
		return err
	}
	err = w.ask(ctx, &added, "service-principal", "credential", "add-secret", name)
	w.password = added.Secret
	return err
}

// newCertificate makes a key and its certificate, which are also returned as PEM.
// Microsoft's credentials take RSA only.
func newCertificate(name string) (*rsa.PrivateKey, *x509.Certificate, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 30)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, nil, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return key, cert, text, nil
}

// try runs the scripts of a language, which are in a folder below from, and
// returns the counts and whether each case passed.
func (w *world) try(ctx context.Context, l language, from string) (line string, ok bool, err error) {
	dir := filepath.Join(w.dir, l.folder)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(from, l.folder))); err != nil {
		return "", false, err
	}
	if l.install != nil {
		if err := l.install(ctx, dir); err != nil {
			return "", false, fmt.Errorf("install the clients: %w", err)
		}
	}
	v, err := w.createVault(ctx, l.name)
	if err != nil {
		return "", false, err
	}
	// What the service principal may read, and may not change.
	set := w.admin(ctx, "vault", "secret", "set", l.name, "known", "--quiet")
	set.Stdin = strings.NewReader("a value")
	for _, cmd := range []*exec.Cmd{set, w.admin(ctx, "vault", "role", "assign", l.name, w.client.ID, "Key Vault Secrets User", "--quiet")} {
		cmd.Stdout = nil
		if err := cmd.Run(); err != nil {
			return "", false, fmt.Errorf("%v: %w", cmd.Args[len(cmd.Args)-5:], err)
		}
	}
	passed, of := 0, 0
	for _, s := range scripts {
		n, err := w.run(ctx, l, s, filepath.Join(dir, s.name+l.suffix), v.URL)
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", s.name, err)
		}
		passed, of = passed+n, of+len(s.cases)
	}
	return fmt.Sprintf("%s %d of %d cases passed", l.name, passed, of), passed == of, nil
}

// run runs a script and returns how many of its cases passed. It prints the
// names of the others; what went wrong the script itself has told.
func (w *world) run(ctx context.Context, l language, s script, path, vault string) (passed int, err error) {
	args := []string{"vault", "env", "--", l.command, path}
	env := os.Environ()
	if s.asClient {
		args = slices.Insert(args, 2, "--as-service-principal")
		env = append(env, "AZURE_CLIENT_ID="+w.client.ClientID, "AZURE_CLIENT_SECRET="+w.password)
	}
	cmd := w.admin(ctx, args...)
	cmd.Env = append(env, "VAULT_URL="+vault, "DENIED_URL="+w.denied.URL, "FIXTURES="+w.dir, "IMPORT_PASSWORD="+importPassword)
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	outcome := map[string]string{} // by the name of a case: ok or FAIL
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if is, name, found := strings.Cut(lines.Text(), " "); found && (is == "ok" || is == "FAIL") {
			outcome[name] = is
		}
	}
	failed := errors.Join(lines.Err(), cmd.Wait()) // a script fails with a case
	for _, name := range s.cases {
		switch outcome[name] {
		case "ok":
			passed++
		case "":
			fmt.Printf("%s %s: did not run\n", l.name, name)
		default:
			fmt.Printf("%s %s: failed\n", l.name, name)
		}
	}
	for name := range outcome {
		if !slices.Contains(s.cases, name) {
			return passed, fmt.Errorf("%s is not one of the cases of every language", name)
		}
	}
	if failed != nil && passed == len(s.cases) {
		return passed, failed
	}
	return passed, nil
}
