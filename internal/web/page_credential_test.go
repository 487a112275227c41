package web_test

import (
	"net/url"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// TestWizardWithoutScript makes a credential as a browser without script does.
func TestWizardWithoutScript(t *testing.T) {
	s := newSite(t)
	at := "/e/" + s.Env + "/credentials/new"
	contains(t, s.get(t, s.AdminToken, at, 200), "Step 1:", `name="description"`)
	all := url.Values{"step": {"1"}, "go": {"next"}}
	contains(t, s.post(t, s.AdminToken, at, all, 422), "f-name-error")
	all.Set("name", "Web bot")
	contains(t, s.post(t, s.AdminToken, at, all, 200), `name="name" value="Web bot"`, "Step 2:", `name="usages"`)
	all.Set("step", "2")
	contains(t, s.post(t, s.AdminToken, at, all, 422), "Step 2:", "f-usages-error")
	all["usages"] = []string{"connection"}
	contains(t, s.post(t, s.AdminToken, at, all, 200), `name="usages" value="connection"`, "Step 3:", `value="Web bot user"`, `value="Web bot password"`)
	all.Set("step", "3")
	all.Set("go", "back")
	contains(t, s.post(t, s.AdminToken, at, all, 200), `name="name" value="Web bot"`, "Step 2:", `value="connection" checked`)

	const secret = "never-in-a-page-8731"
	fill := url.Values{
		"authentication": {"password"}, "userWay": {"new"}, "userValue": {`CONTOSO\web`}, "userDisplay": {"Web user"},
		"secretWay": {"new"}, "secretDisplay": {"Web password"},
		"subscriptionId": {s.Reference.SubscriptionID}, "resourceGroup": {s.Reference.ResourceGroup}, "vault": {s.Reference.Vault}, "secret": {"not-there"},
	}
	for name, values := range fill {
		all[name] = values
	}
	all.Set("go", "check")
	contains(t, s.post(t, s.AdminToken, at, all, 200), `class="failed"`, "Check now")
	all.Set("go", "create")
	contains(t, s.post(t, s.AdminToken, at, all, 422), "f", `class="failed"`)
	p, err := s.Broker.Variables(t.Context(), s.Admin, s.Env, broker.VariableFilter{}, latchkey.PageOptions{Search: "Web "})
	if err != nil || len(p.Items) != 0 {
		t.Fatalf("a refused form has made %d variables (%v); want none", len(p.Items), err)
	}

	// A new secret: the form comes back without its value when something else is wrong.
	all.Set("secretWay", "store")
	all.Set("storeVault", s.Vault.Name)
	all.Set("storeName", "web-bot")
	all.Set("secretValue", secret)
	all.Set("userValue", "")
	if page := s.post(t, s.AdminToken, at, all, 422); strings.Contains(page, secret) || !strings.Contains(page, "f-userValue-error") {
		t.Errorf("a form with a fault comes back as %.600s; want the fault, and not the secret", page)
	}
	all.Set("userValue", `CONTOSO\web`)
	to := s.post(t, s.AdminToken, at, all, 303)
	contains(t, s.get(t, s.AdminToken, to, 200), "Web bot", "new_Webuser", "new_Webpassword")
	s.AwaitCheck(t, "new_Webpassword", latchkey.CheckPassed)
	if _, value, err := s.Broker.Secret(t.Context(), s.Admin, s.Vault.Name, "web-bot", ""); err != nil || value.Reveal() != secret {
		t.Errorf("the vault has another secret (%v)", err)
	}

	// Once more with the same names: the secret is there, and nothing is overwritten.
	all.Set("secretValue", "another")
	contains(t, s.post(t, s.AdminToken, at, all, 409), "already")

	for what, text := range map[string]string{"log": s.Log.String()} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in the %s", what)
		}
	}
	user := s.token(t, "onlooker", latchkey.EnvUser)
	contains(t, s.get(t, user, at, 200), "takes the role maker")
}

// TestCredentialPages looks at the pages of a credential as everybody who may see it,
// which leaves no refusal on record.
func TestCredentialPages(t *testing.T) {
	s := newSite(t)
	here := "/e/" + s.Env + "/credentials/" + string(s.Credential.ID)
	s.Start(t)
	people := map[string]string{"admin": s.AdminToken}
	for _, role := range latchkey.EnvironmentRoles {
		people[string(role)] = s.token(t, "the-"+string(role), role)
	}
	for name, role := range map[string]latchkey.Role{"viewer": latchkey.RoleUser, "sharer": latchkey.RoleUserShare, "editor": latchkey.RoleCoOwner} {
		people[name] = s.token(t, name, latchkey.EnvUser)
		s.Share(t, latchkey.KindCredential, string(s.Credential.ID), name, role)
	}
	sees := map[string]bool{"admin": true, "viewer": true, "sharer": true, "editor": true, "auditor": true}
	for who, token := range people {
		want := 404
		if sees[who] || who == string(latchkey.EnvAdmin) {
			want = 200
		}
		for _, path := range []string{"", "/share", "/dependencies", "/delete", "/access", "/test"} {
			s.get(t, token, here+path, want)
			s.get(t, token, here+path, want, "HX-Request", "true", "HX-Target", "panel")
		}
		s.get(t, token, "/e/"+s.Env+"/credentials?mine=true&authentication=password&usage=connection&sort=-modified&search=erp", 200)
		s.get(t, token, "/e/"+s.Env+"/credentials/delete?id="+string(s.Credential.ID), want)
		s.get(t, token, "/e/"+s.Env+"/credentials/new", 200)
	}
	contains(t, s.get(t, people["editor"], here+"/edit", 200), "for its owner to change")
	s.get(t, people["viewer"], here+"/edit", 404)
	log, err := s.Broker.Audit(t.Context(), s.Admin, broker.AuditFilter{Outcome: latchkey.OutcomeDenied}, latchkey.PageOptions{})
	if err != nil || len(log.Items) != 0 {
		t.Errorf("looking at pages left %d refusals on record (%v): %+v", len(log.Items), err, log.Items)
	}
	for _, k := range []struct{ plural, ref string }{{"variables", string(s.Password.ID)}, {"machines", string(s.Machine.ID)}, {"flows", string(s.Flow.ID)}, {"connections", string(s.Connection.ID)}} {
		for _, path := range []string{"/share", "/dependencies", "/delete", "/access", "/share/owner"} {
			s.get(t, s.AdminToken, "/e/"+s.Env+"/"+k.plural+"/"+k.ref+path, 200)
		}
	}
}
