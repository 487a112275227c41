package browsertest

import (
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func TestEnvironments(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "erna", "")
	b := w.open(t).signInAsAdmin()
	b.visit("/environments")
	b.look("environments")
	b.press(`a[href="/environments/new"]`)
	b.fill("#f-displayName", "Finance and a very long name that goes on and on, as names do when people are left to it")
	b.fill("#f-name", "Not a name")
	b.press("form.card button")
	b.see("#f-name-error")
	b.look("environment-new-refused")
	b.fill("#f-name", "finance")
	b.press("form.card button")
	b.says(".notice", "was made")
	b.visit("/e/finance/members")
	b.fill("#f-principal", "nobody.there")
	b.press("form.card button")
	b.see("#f-principal-error")
	b.fill("#f-principal", "erna")
	b.press("form.card button")
	b.says("tbody", "erna")
	b.look("environment-members")
	b.press(`a[href*="/members/remove"][href*="erna"]`)
	b.see("dialog[open] .danger")
	b.look("environment-member-remove")
	b.press("dialog[open] .danger")
	b.says(".notice", "erna has no role here")
	b.visit("/e/finance/settings")
	b.look("environment-settings")
	b.narrow()
	b.visit("/environments")
	b.fits()
	b.look("environments-phone")
}

func TestActivityAndDoctor(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "audrey", latchkey.EnvAuditor)
	b := w.open(t).signIn("audrey")
	b.visit("/e/quickstart/activity?action=release.")
	b.says("tbody", "release.granted")
	b.look("activity")
	var lines string
	b.eval(`fetch("/e/quickstart/activity/export?action=release.granted").then((r) => r.text())`, &lines)
	if !strings.Contains(lines, `"action":"release.granted"`) || strings.Contains(lines, "environment.create") {
		t.Errorf("the export is %.300q; want the releases alone", lines)
	}
	var status int
	if b.eval(`fetch("/e/quickstart/activity?since=nonsense").then((r) => r.status)`, &status); status != 422 {
		t.Errorf("a date that is none = %d; want 422", status)
	}
	b.visit("/doctor")
	b.press("form.card button")
	b.see("#report .checklist")
	b.look("doctor")
}

func TestDeleted(t *testing.T) {
	t.Parallel()
	w := need(t)
	value := "x"
	for _, name := range []string{"Deleted one", "Deleted two"} {
		v, err := w.client.CreateVariable(t.Context(), env, latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeText, Value: &value})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.client.DeleteVariable(t.Context(), env, v.Name, latchkey.Force{}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.open(t).signInAsAdmin()
	b.visit("/e/quickstart/deleted")
	b.look("deleted")
	b.press(`a[href*="Deleted%20one"][href*="/restore"], a[href*="Deletedone"][href*="/restore"]`)
	b.see("dialog[open] #f-name")
	b.look("deleted-restore")
	b.press("dialog[open] form button:not(.quiet):not(.plain)")
	b.says(".notice", "was restored")
	b.withoutScript()
	b.visit("/e/quickstart/deleted")
	b.press(`a[href*="two"][href*="/purge"]`)
	b.press("main .danger")
	b.says(".notice", "gone for good")
}
