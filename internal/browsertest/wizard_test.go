package browsertest

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

const newCredential = "/e/quickstart/credentials/new"

// TestWizard makes a credential of new variables, after the check of what it refers
// to has failed and that was mended.
func TestWizard(t *testing.T) {
	t.Parallel()
	b := need(t).open(t).signInAsAdmin()
	b.visit(newCredential)
	b.fill("#f-name", "Wizard bot")
	b.look("wizard-1")
	b.press(`.wizard .buttons button[value=next]`)
	b.see("#f-exposure")
	b.press(`.wizard .buttons button[value=next]`)
	b.see("#f-usages-error")
	b.press(`input[name=usages][value=connection]`)
	b.look("wizard-2")
	b.press(`.wizard .buttons button[value=next]`)
	b.fill("#f-userValue", `CONTOSO\wizard`)
	b.fill("#f-userDisplay", "Wizard login")
	b.says("#check", "Once it is filled in")
	b.choose("#f-pickVault", "quickstart")
	b.see(`#f-vault[value="quickstart"]`)
	b.fill("#f-secret", "not-there")
	b.says("#check", "It cannot be read as it is")
	var name string
	if b.eval(`document.querySelector("#f-userName").value`, &name); name != "new_Wizardlogin" {
		t.Errorf("the unique name is %q; want it made from the display name", name)
	}
	b.look("wizard-failing")
	b.press(`.wizard .buttons button[value=create]`)
	b.see(".wizard [role=alert]")
	b.says("#check", "It cannot be read as it is")
	b.choose("#f-pickSecret", "erp-password")
	b.says("#check", "You and Latchkey may read it")
	b.look("wizard-3")
	b.press(`.wizard .buttons button[value=back]`)
	b.see("#f-exposure")
	b.press(`.wizard .buttons button[value=next]`)
	b.see("#f-userValue")
	b.eval(`document.querySelector("#f-userValue").value`, &name)
	if name != `CONTOSO\wizard` {
		t.Errorf("after going back and forth the user name is %q; want what was filled in", name)
	}
	b.press(`.wizard .buttons button[value=create]`)
	b.says("main .notice.good", "Wizard bot is made")
	b.says("main", "new_Wizardlogin")
}

// TestWizardByKeys makes a credential with a new secret by the keyboard alone. The
// secret is nowhere but in the vault.
func TestWizardByKeys(t *testing.T) {
	t.Parallel()
	w := need(t)
	const secret = "typed-by-keys-4471"
	b := w.open(t).signInAsAdmin()
	b.visit(newCredential)
	b.see(".wizard h2:focus") // of each step, so that one begins there
	b.keys(kb.Tab + "Keys bot" + kb.Enter)
	b.see("#f-exposure")
	b.see(".wizard h2:focus")
	b.keys(kb.Tab + kb.Tab + " " + kb.Enter)
	b.see("#f-userValue")
	b.see(".wizard h2:focus")
	b.keys(kb.Tab + kb.Tab + kb.Tab + `CONTOSO\keys` + kb.Tab + kb.Tab + kb.Tab + kb.ArrowDown)
	b.see("#f-secretValue")
	b.keys(kb.Tab + kb.Tab + kb.Tab + kb.Tab + kb.Tab + secret)
	b.says("#check", "The secret is stored when you create the credential")
	b.look("wizard-store")
	b.keys(kb.Enter)
	b.says("main .notice.good", "Keys bot is made")
	v, err := w.client.Variable(t.Context(), env, "new_Keysbotpassword")
	if err != nil || v.Secret == nil || v.Secret.Secret != "keys-bot" {
		t.Errorf("the variable is %+v (%v); want one of the new secret", v, err)
	}
	log, err := os.ReadFile(w.log.Name())
	if err != nil || strings.Contains(string(log), secret) {
		t.Errorf("the secret is in the log (%v)", err)
	}
	for e, err := range w.client.Audit(t.Context(), client.AuditFilter{Environment: env}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range e.Details {
			if strings.Contains(d, secret) {
				t.Errorf("the secret is in the audit log: %+v", e)
			}
		}
	}
}

// TestWizardOnPhone makes a certificate's credential without script, on a phone, of a
// variable that exists.
func TestWizardOnPhone(t *testing.T) {
	t.Parallel()
	w := need(t)
	c := w.pair(t, "Phone source")
	b := w.open(t).signInAsAdmin()
	b.narrow()
	b.withoutScript()
	b.visit(newCredential)
	b.fits()
	b.fill("#f-name", "Phone bot")
	b.press(`.wizard .buttons button[value=next]`)
	b.press(`input[name=usages][value=connection]`)
	b.press(`.wizard .buttons button[value=next]`)
	b.press(`input[name=authentication][value=certificate]`)
	b.see(".notice.only-certificate")
	b.press(`input[name=userWay][value=existing]`)
	b.press(`input[name=secretWay][value=existing]`)
	b.fill("#f-userSearch", "phone source")
	b.fill("#f-secretSearch", "phone source")
	b.press(`button[value=search]`)
	b.see(`#f-userSearch[value="phone source"]`)
	b.fits()
	for css, value := range map[string]string{"#f-user": c.Slots[latchkey.SlotUsername], "#f-secretVariable": c.Slots[latchkey.SlotPassword]} {
		b.eval(`document.querySelector("`+css+`").value = "`+value+`"`, new(string))
	}
	b.press(`button[value=check]`)
	b.see("#check .checklist")
	b.look("wizard-phone")
	b.press(`.wizard .buttons button[value=create]`)
	b.says("main .notice.good", "Phone bot is made")
	b.says("main", "Certificate")
	b.fits()
	b.look("credential-phone")
	b.visit("/e/quickstart/credentials")
	b.fits()
	b.look("credentials-phone")
}
