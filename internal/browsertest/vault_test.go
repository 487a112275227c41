package browsertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// choose chooses an option of a select by its value, or the beginning of its label.
func (b *tab) choose(css, option string) {
	b.t.Helper()
	b.see(css)
	var found bool
	b.eval(fmt.Sprintf(`((s) => {
		const o = [...s.options].find((o) => o.value === %[2]q || o.label.startsWith(%[2]q));
		if (!o) return false;
		s.value = o.value;
		s.dispatchEvent(new Event("input", {bubbles: true}));
		s.dispatchEvent(new Event("change", {bubbles: true}));
		return true;
	})(document.querySelector(%[1]q))`, css, option), &found)
	if !found {
		b.t.Fatalf("%s has no option %s: %s", css, option, b.text(css))
	}
}

// write puts a text of several lines into a field, which typing would end early.
func (b *tab) write(css, text string) {
	b.t.Helper()
	b.see(css)
	var done bool
	b.eval(fmt.Sprintf(`((f) => { f.value = %q; f.dispatchEvent(new Event("input", {bubbles: true})); return true; })(document.querySelector(%q))`, text, css), &done)
}

// has waits until a field has a value.
func (b *tab) has(css, value string) {
	b.t.Helper()
	var now string
	deadline := time.Now().Add(30 * time.Second)
	for {
		if b.eval(fmt.Sprintf(`document.querySelector(%q)?.value ?? ""`, css), &now); now == value {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s has %q; want %q", css, now, value)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestVariables makes a reference to a secret that is not there, puts it there, and
// sees the check pass.
func TestVariables(t *testing.T) {
	t.Parallel()
	w := need(t)
	vikram := w.user(t, "vikram", latchkey.EnvMaker)
	vault, err := w.client.Vault(t.Context(), "quickstart")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.AssignRole(t.Context(), "quickstart", latchkey.RoleAssignmentCreate{Principal: vikram.ID, Role: latchkey.VaultSecretsOfficer}); err != nil {
		t.Fatal(err)
	}
	b := w.open(t).signIn("vikram")
	b.visit("/e/quickstart/variables")
	b.look("variables-empty")
	b.press(`.commands a[href$="/variables/new"]`)
	b.fill("#panel #f-displayName", "Till of Vikram")
	b.has("#panel #f-name", "new_TillofVikram")
	b.fill("#panel #f-paste", vault.URL+"/secrets/vikram-till/0123456789abcdef0123456789abcdef")
	b.keys("\t") // out of the field, which is taken then
	b.has("#panel #f-secret", "vikram-till")
	b.has("#panel #f-subscriptionId", vault.SubscriptionID)
	b.has("#panel #f-pickVault", "quickstart")
	b.look("variable-new")
	b.press("#panel .buttons button:not(.small)")
	b.says("#check > p > .state", "Failed")
	b.look("variable-failed")
	b.press(`#check a[href*="new-secret"]`)
	b.has("#panel #f-name", "vikram-till")
	b.fill("#panel #f-value", "a till's password")
	b.look("vault-secret-new")
	b.press("#panel .buttons button")
	b.says("h1", "vikram-till")
	b.says("main", "new_TillofVikram")
	b.press(`a[href*="/variables/"]`)
	b.press("#check form button")
	b.says("#check > p > .state", "Passed")
	b.look("variable-passed")
	if text := b.text("body"); strings.Contains(text, "a till's password") {
		t.Error("the page of the variable has the secret's value")
	}

	b.visit("/e/quickstart/variables/new")
	b.fill("#f-displayName", "Limits of Vikram")
	b.choose("#f-type", "json")
	b.see(".code-editor #f-value")
	b.write("#f-value", "{\"daily\": 100,\n \"weekly\" 500}")
	b.press("main .buttons button")
	b.says("#f-value-error", "line 2, column 11")
	b.look("variable-json-refused")
	b.write("#f-value", `{"daily": 100, "weekly": 500}`)
	b.press("main .buttons button")
	b.says(".values pre", "\"daily\": 100,\n")
	b.look("variable-json")
	b.press(`.commands a[href$="/edit"]`)
	b.has("#panel #f-value", "{\n  \"daily\": 100,\n  \"weekly\": 500\n}")

	b.narrow()
	b.visit("/e/quickstart/variables?search=vikram")
	b.says("tbody", "Limits of Vikram")
	b.fits()
	b.look("variables-phone")
}

// TestConnection makes a connection and follows its test to the end.
func TestConnection(t *testing.T) {
	t.Parallel()
	b := need(t).open(t).signInAsAdmin()
	b.visit("/e/quickstart/connections")
	b.look("connections")
	b.press(`.commands a[href$="/connections/new"]`)
	b.fill("#panel #f-name", "Tested in a browser")
	b.press("#panel .buttons button")
	b.see("#panel #f-credential-error")
	b.choose("#panel #f-credential", "ERP bot")
	b.choose("#panel #f-machine", "this-machine")
	b.see("#panel [name=driver]:checked")
	b.look("connection-new")
	b.press("#panel .buttons button")
	b.says("h1", "Tested in a browser")
	b.press("#test-result .buttons button")
	b.says("#test-result", "The test passed")
	b.look("connection")
	b.press(`.commands a[href$="/edit"]`)
	b.fill("#panel #f-name", "Tested and renamed")
	b.press("#panel .buttons button")
	b.says("h1", "Tested and renamed")
	b.narrow()
	b.visit("/e/quickstart/connections")
	b.fits()
	b.look("connections-phone")
}

// TestVault keeps a secret in a vault of its own, and sees that a value is shown to
// those alone who may read it, and on record.
func TestVault(t *testing.T) {
	t.Parallel()
	w := need(t)
	rhea := w.user(t, "rhea", latchkey.EnvMaker)
	b := w.open(t).signInAsAdmin()
	b.visit("/vaults")
	b.look("vaults")
	b.press(`.commands a[href="/new-vault"]`)
	b.fill("#panel #f-name", "no--vault")
	b.press("#panel .buttons button")
	b.see("#panel #f-name-error")
	b.fill("#panel #f-name", "browser-vault")
	b.press("#panel .buttons button")
	b.says("h1", "browser-vault")
	b.look("vault-empty")
	b.press(`.commands a[href$="/new-secret"]`)
	b.fill("#panel #f-name", "payroll")
	b.fill("#panel #f-value", "first of payroll")
	b.press("#panel .buttons button")
	b.says("h1", "payroll")
	b.press(`.commands a[href$="/set"]`)
	b.fill("#panel #f-value", "second of payroll")
	b.press("#panel .buttons button")
	b.says(".notice", "new version")
	b.look("vault-secret")
	b.press("[data-reveal]")
	b.press("#panel form button")
	b.says("#panel .reveal", "second of payroll")
	b.look("vault-reveal")
	b.press("#panel [data-close-panel]")
	var kept bool
	if b.eval(`document.body.textContent.includes("second of payroll")`, &kept); kept {
		t.Error("the value is in the page after the panel was closed")
	}
	shown := 0
	for e, err := range w.client.Audit(t.Context(), client.AuditFilter{Action: latchkey.ActSecretGet}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.SubjectName == "browser-vault/payroll" && e.Outcome == latchkey.OutcomeOK {
			shown++
		}
	}
	if shown != 1 {
		t.Errorf("the audit log has %d readings of the secret; want the one", shown)
	}
	b.press(`.commands a[href$="/secrets/payroll/delete"]`)
	b.look("vault-secret-delete")
	b.press("#panel .danger")
	b.says(".notice", "payroll was deleted")
	b.visit("/vaults/browser-vault/deleted")
	b.look("vault-deleted")
	b.press(`a[href$="/secrets/payroll/recover"]`)
	b.press("#panel form button")
	b.says(".notice", "payroll was recovered")

	if _, err := w.client.AssignRole(t.Context(), "browser-vault", latchkey.RoleAssignmentCreate{Principal: rhea.ID, Role: latchkey.VaultReader}); err != nil {
		t.Fatal(err)
	}
	r := w.open(t).signIn("rhea")
	r.narrow()
	r.visit("/vaults/browser-vault")
	r.says("tbody", "payroll")
	r.fits()
	r.look("vault-phone")
	r.visit("/vaults/browser-vault/secrets/payroll")
	var offered bool
	if r.eval(`!!document.querySelector("[href$=reveal], [href$=set], [href$=delete]")`, &offered); offered {
		t.Error("a reader of names is offered to reveal, set or delete the secret")
	}
	r.fits()
	r.look("vault-secret-phone")
}

// TestVaultCertificate makes a certificate in a vault, and assigns a role there.
func TestVaultCertificate(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "rufus", latchkey.EnvMaker)
	if _, err := w.client.CreateVault(t.Context(), latchkey.EmbeddedVaultCreate{Name: "certified"}); err != nil {
		t.Fatal(err)
	}
	b := w.open(t).signInAsAdmin()
	b.visit("/vaults/certified/new-certificate")
	b.fill("#f-name", "signer")
	b.fill("#f-subject", "CN=signer.example.com")
	b.look("vault-certificate-new")
	b.press("main .buttons button")
	b.says("h1", "signer")
	b.look("vault-certificate")

	b.visit("/vaults/certified/roles")
	b.press(`.commands a[href$="/new-role"]`)
	b.fill("#panel #f-principal", "rufus")
	b.choose("#panel #f-role", string(latchkey.VaultReader))
	b.look("vault-role-new")
	b.press("#panel .buttons button")
	b.says("tbody", "rufus")
	b.look("vault-roles")
	b.visit("/vaults/certified/use")
	b.look("vault-use")
}
