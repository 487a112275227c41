package browsertest

import (
	"testing"

	"latchkey.dev/latchkey"
)

// pair makes a credential of two new variables of the first admin.
func (w *world) pair(t *testing.T, name string) latchkey.Credential {
	t.Helper()
	login := `CONTOSO\` + name
	v, err := w.client.Vault(t.Context(), "quickstart")
	if err != nil {
		t.Fatal(err)
	}
	ref := latchkey.SecretReference{SubscriptionID: v.SubscriptionID, ResourceGroup: v.ResourceGroup, Vault: v.Name, Secret: "erp-password"}
	c, err := w.client.CreateCredential(t.Context(), env, latchkey.CredentialCreate{
		Name: name, Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor, AllowSharedUID: true,
		Variables: map[latchkey.Slot]latchkey.VariableCreate{
			latchkey.SlotUsername: {DisplayName: name + " user", Value: &login}, latchkey.SlotPassword: {DisplayName: name + " password", Secret: &ref},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestShare shares a credential by the picker, changes a role, and removes a share
// with what travelled along.
func TestShare(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "sharon", latchkey.EnvUser)
	w.user(t, "sharif", latchkey.EnvMaker)
	c := w.pair(t, "Shared bot")
	here := "/e/quickstart/credentials/" + string(c.ID)
	b := w.open(t).signInAsAdmin()
	b.visit(here)
	b.look("credential")
	b.press(`.commands a[href$="/share"]`)
	b.fill("#f-q", "shar")
	b.says("#people", "sharif")
	b.look("share-picker")
	b.press(`#people label:has(input[value="` + w.id(t, "sharon") + `"])`)
	b.fill("#f-q", "shari")
	b.says("#people label:has(:checked)", "sharon")
	b.press(`#people label:has(input[value="` + w.id(t, "sharif") + `"])`)
	b.press(`#panel form[action$="/share"] .buttons button`)
	b.says("#panel .notice.good", "shared with them")
	b.says("#panel .shares", "sharon")
	b.look("share-panel")
	b.choose(`#panel select[aria-label="Role of sharon"]`, "co-owner")
	b.press(`#panel li:has([aria-label="Role of sharon"]) form button`)
	b.says("#panel .notice.good", "Co-owner")
	b.press(`#panel a[aria-label="Remove sharon"]`)
	b.says("#panel", "Nothing else gives it to sharon")
	b.look("share-remove")
	b.press(`#panel input[name=remove]`)
	b.press(`#panel button.danger`)
	b.says("#panel .notice.good", "sharon has it no longer")
	shares := map[string]latchkey.Role{}
	for s, err := range w.client.Shares(t.Context(), env, latchkey.KindCredential, string(c.ID)) {
		if err != nil {
			t.Fatal(err)
		}
		shares[s.Name] = s.Role
	}
	if len(shares) != 2 || shares["sharif"] != latchkey.RoleUser {
		t.Errorf("shares = %v; want the owner and sharif", shares)
	}
	for s, err := range w.client.Shares(t.Context(), env, latchkey.KindVariable, c.Slots[latchkey.SlotPassword]) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Name == "sharon" {
			t.Errorf("the variable is still shared with sharon: %+v", s)
		}
	}

	// Without script: a search is a page of its own.
	b.withoutScript()
	b.visit(here + "/share")
	b.fill("#f-q", "sharon")
	b.press(`.search-people button`)
	b.press(`#people label:has(input[value="` + w.id(t, "sharon") + `"])`)
	b.press(`form[action$="/share"] .buttons button`)
	b.says("main .notice.good", "is shared with sharon")
	b.visit(here + "/access?principal=sharon")
	b.says("#access", "The role User (can view only) on it")
	b.look("access")
}

// TestDelete deletes several credentials, of which one is used, with the impact that
// was shown and not with another.
func TestDelete(t *testing.T) {
	t.Parallel()
	w := need(t)
	used, free := w.pair(t, "Doomed used"), w.pair(t, "Doomed free")
	var machine latchkey.MachineID
	for m, err := range w.client.Machines(t.Context(), env) {
		if err != nil {
			t.Fatal(err)
		}
		machine = m.ID
	}
	connect := func(name string) {
		t.Helper()
		if _, err := w.client.CreateConnection(t.Context(), env, latchkey.ConnectionCreate{
			Name: name, Target: latchkey.Target{Machine: machine}, Driver: latchkey.DriverNone, Credential: used.ID,
		}); err != nil {
			t.Fatal(err)
		}
	}
	connect("Doomed connection")
	b := w.open(t).signInAsAdmin()
	b.visit("/e/quickstart/credentials?search=doomed")
	b.press(`input[value="` + string(used.ID) + `"]`)
	b.press(`input[value="` + string(free.ID) + `"]`)
	b.look("credentials-chosen")
	b.press(`button[formaction$="/credentials/delete"]`)
	b.says("#panel", "Doomed connection")
	b.look("delete-several")
	connect("Doomed later") // what was shown is stale now
	b.press(`#panel input[name=force]`)
	b.press(`#panel button.danger`)
	b.says("#panel [role=alert]", "has changed since you looked")
	b.says("#panel", "Doomed later")
	b.look("delete-stale")
	b.press(`#panel input[name=force]`)
	b.press(`#panel button.danger`)
	b.says("main .notice.good", "deleted")
	b.visit("/e/quickstart/credentials?search=doomed")
	b.says("main", "Nothing matches")
	b.visit("/e/quickstart/credentials/delete")
	b.says("main", "Tick the boxes")
}

// id returns the id of a user.
func (w *world) id(t *testing.T, login string) string {
	t.Helper()
	u, err := w.client.User(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return string(u.ID)
}
