package browsertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"latchkey.dev/internal/latchkeytest/openid"
	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

// fresh starts a server of its own that nobody has set up, with a provider to sign in
// with, and returns it with its setup link.
func (w *world) fresh(t *testing.T) (own *world, link string, provider *openid.Provider) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	own = &world{dir: t.TempDir(), url: fmt.Sprintf("http://localhost:%d", port), browser: w.browser}
	provider = openid.New(t, own.url+signon.Path("company"))
	files := map[string]string{"ca.pem": string(provider.CA), "secret": openid.ClientSecret, "oidc.toml": fmt.Sprintf(`[[provider]]
id = "company"
name = "The company"
issuer = %q
client-id = %q
client-secret-file = "secret"
ca-file = "ca.pem"
groups-claim = "groups"
`, provider.URL, openid.ClientID)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(own.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own.cmd = exec.CommandContext(w.browser, filepath.Join(filepath.Dir(w.dir), "latchkey"), "serve", "--data", filepath.Join(own.dir, "data"),
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--public-url", own.url, "--vault-listen", "127.0.0.1:0", "--oidc", filepath.Join(own.dir, "oidc.toml"))
	own.cmd.Cancel = func() error { return own.cmd.Process.Signal(os.Interrupt) }
	own.cmd.WaitDelay = 20 * time.Second
	said, err := own.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := own.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = own.cmd.Process.Signal(os.Interrupt)
		if err := own.cmd.Wait(); err != nil {
			t.Error("the server ended with", err)
		}
	})
	lines := bufio.NewScanner(said)
	var all []string
	for link == "" && lines.Scan() {
		all = append(all, lines.Text())
		if _, code, ok := strings.Cut(lines.Text(), own.url+"/setup#"); ok {
			link = own.url + "/setup#" + strings.TrimSpace(code)
		}
	}
	if link == "" {
		t.Fatalf("the server printed no setup link:\n%s", strings.Join(all, "\n"))
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // it ends with the server
	if kept, err := os.ReadFile(filepath.Join(own.dir, "data", "setup-link")); err != nil || strings.TrimSpace(string(kept)) != link {
		t.Errorf("the file setup-link has %q, %v; want the link", kept, err)
	}
	if info, err := os.Stat(filepath.Join(own.dir, "data", "setup-link")); err == nil && info.Mode().Perm() != 0o600 {
		t.Errorf("the file setup-link has the mode %v", info.Mode())
	}
	return own, link, provider
}

// TestSetUpAndSignIn sets a server up, and then signs in there in every way.
func TestSetUpAndSignIn(t *testing.T) {
	t.Parallel()
	own, link, provider := need(t).fresh(t)
	provider.SetGroups(openid.Subject, "makers")
	b := own.open(t)

	// The setup link makes an account, once.
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	b.see("#f-displayName")
	if at := b.where(); strings.Contains(at, "#") {
		t.Errorf("the page is at %s; want the code out of the address", at)
	}
	b.look("setup")
	b.fill("#f-displayName", "Root Person")
	b.fill("#f-login", "root.person")
	b.fill("#f-password", "too short")
	b.press(`form[action="/setup"] button`)
	b.see("#f-password-error")
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	b.fill("#f-displayName", "Root Person")
	b.fill("#f-login", "root.person")
	b.fill("#f-password", password)
	b.press(`form[action="/setup"] button`)
	b.see("#f-prefix")
	b.fill("#f-displayName", "First")
	b.fill("#f-name", "first")
	b.press(`form[action="/environments"] button`)
	b.says("main", "First")
	again := own.open(t)
	again.do(chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	again.fill("#f-displayName", "Another")
	again.fill("#f-password", password)
	again.press(`form[action="/setup"] button`)
	again.says("[role=alert]", "used already")

	// A passkey.
	if _, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, AutomaticPresenceSimulation: true, IsUserVerified: true,
	}}); err != nil {
		t.Fatal(err)
	}
	b.visit("/account")
	b.fill("#f-passkey", "My laptop")
	b.press(".passkey-add button")
	b.says(".list", "My laptop")
	b.says(".notice", "was added to your account")
	b.look("account")
	b.press(".who summary")
	b.press(".who .last button")
	b.see("#f-login")
	b.look("sign-in-every-way")
	b.press(`form[data-passkey=get] button`)
	b.see(".who")
	b.visit("/account/sessions")
	b.says("main", "Passkey")
	b.look("sessions")

	testProvider(t, own, provider)
}

// testProvider signs somebody in with a provider, and has it say which groups they
// are in.
func testProvider(t *testing.T, own *world, provider *openid.Provider) {
	b := own.open(t).signIn("root.person")
	b.visit("/groups")
	b.look("groups-empty")
	b.press(`.empty-state .button`)
	b.fill("#f-name", "Makers of the company")
	b.fill("#f-issuer", provider.URL)
	b.fill("#f-externalId", "makers")
	b.press(`form[action="/groups"] button`)
	b.says("main", "when they sign in")

	// The provider knows somebody whom nobody here knows, until an admin says who it is.
	sam := own.open(t)
	if _, err := chromedp.Call(sam.ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true}); err != nil {
		t.Fatal(err)
	}
	sam.visit("/account/tokens")
	signIn := func() {
		sam.press(`.providers a`)
		sam.fill("#username", openid.Username) // the provider keeps no session
		sam.fill("#password", openid.Password)
		sam.press("button")
	}
	signIn()
	sam.says("[role=alert]", "object id "+openid.Subject)
	sam.look("sign-in-unknown")
	b.visit("/users/new")
	b.fill("#f-login", "sam")
	b.fill("#f-displayName", "Sam")
	b.press(`form[action="/users"] button`)
	b.says("h1", "Sam")
	b.press(`a[href$="/identities/new"]`)
	b.fill("#panel #f-issuer", provider.URL)
	b.fill("#panel #f-objectId", openid.Subject)
	b.press(`#panel form button:not([data-close-panel])`)
	b.says("#identities ~ .list, .list", openid.Subject)
	b.look("user")
	signIn()
	sam.see(".who")
	sam.visit("/groups")
	sam.says("#rows", "Makers of the company")
	b.visit("/groups")
	b.press("#rows a.name")
	b.says(".table", "Sam")
	b.look("group")
	// Who is in the group no more there is so here too, at the next sign-in.
	provider.SetGroups(openid.Subject)
	sam.press(".who summary")
	sam.press(".who .last button")
	signIn()
	sam.see(".who")
	sam.visit("/groups")
	sam.says("main", "You are in no group")
}

func TestAccountAndIdentities(t *testing.T) {
	t.Parallel()
	w := need(t)
	u := w.user(t, "olga", latchkey.EnvMaker)
	w.user(t, "heir", latchkey.EnvMaker)
	b := w.open(t).signIn("olga")
	// A token is shown once.
	b.visit("/account/tokens")
	b.look("tokens-empty")
	b.fill("#f-name", "nightly")
	b.press(`form[action="/account/tokens"] button`)
	b.see(".once code")
	value := b.text(".once code")
	if !strings.HasPrefix(value, "lk_") {
		t.Errorf("the token is shown as %q", value)
	}
	b.look("token-made")
	b.visit("/account/tokens")
	b.says(".table", "nightly")
	if strings.Contains(b.text("body"), value) {
		t.Error("the token is shown again")
	}
	b.press(`a[href*="/revoke"]`)
	b.see("#panel form")
	b.press("#panel button.danger")
	b.see(".empty-state")
	// Another session ends with a new password.
	other := w.open(t).signIn("olga")
	b.visit("/account")
	b.fill("#f-currentPassword", password)
	b.fill("#f-password", "another correct horse")
	b.press(`form[action="/account/password"] button`)
	b.says(".notice", "other sessions have ended")
	other.visit("/account")
	other.see("#f-login")
	b.narrow()
	for _, page := range []string{"/account", "/account/tokens", "/account/sessions"} {
		b.visit(page)
		b.fits()
	}

	// Somebody who leaves hands over what is theirs.
	text := "x"
	asOlga := w.client.WithToken(w.token(t, "olga", "another correct horse"))
	if _, err := asOlga.CreateVariable(t.Context(), env, latchkey.VariableCreate{DisplayName: "Text of olga", Type: latchkey.TypeText, Value: &text}); err != nil {
		t.Fatal(err)
	}
	a := w.open(t).signInAsAdmin()
	a.visit("/users?search=olga")
	a.look("users")
	a.press(`#rows a.name`)
	a.says(".plain-list", "Textofolga")
	a.press(`a[href$="/disable"]`)
	a.see("#f-to")
	a.look("user-disable")
	a.fill("#f-to", "nobody-at-all")
	a.press(`form[action$="/disable"] button`)
	a.see("#f-to-error")
	a.fill("#f-to", "heir")
	a.press(`form[action$="/disable"] button`)
	a.says(".notice", "is disabled")
	a.says("main", "Nothing in the environments")
	if got, err := w.client.User(t.Context(), string(u.ID)); err != nil || !got.Disabled {
		t.Errorf("olga = %+v, %v; want it disabled", got, err)
	}

	// A program, with a secret that is shown once.
	a.visit("/service-principals/new")
	a.fill("#f-displayName", "Pipeline of the test")
	a.press(`form[action="/service-principals"] button`)
	a.says("h1", "Pipeline of the test")
	a.press(`a[href$="kind=secret"]`)
	a.see("#panel #f-expiresIn")
	a.press("#panel form button:not(.plain)")
	a.see("#panel .copy code")
	a.look("secret-made")
	secret := a.text("#panel .copy code")
	a.press("#panel .button")
	a.see(".table")
	a.look("service-principal")
	if !strings.HasPrefix(secret, "lkc_") || strings.Contains(a.text("body"), secret) {
		t.Error("the secret is not shown once")
	}
	a.narrow()
	for _, page := range []string{"/users", "/users/" + string(u.ID), "/groups", "/service-principals"} {
		a.visit(page)
		a.fits()
	}
}

// token signs somebody in by the API.
func (w *world) token(t *testing.T, login, password string) latchkey.Secret {
	t.Helper()
	token, err := w.client.SignIn(t.Context(), login, latchkey.NewSecret(password))
	if err != nil {
		t.Fatal(err)
	}
	return latchkey.NewSecret(token.Value)
}
