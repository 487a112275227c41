package web

import (
	"net/http"

	"latchkey.dev/internal/passkey"
	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

const ceremonyCookie = "latchkey_ceremony"

func (p *Pages) oidcRoutes() {
	p.anyone("GET /sign-in/oidc/{provider}/start", p.startSignOn)
	p.anyone("GET /sign-in/oidc/{provider}", p.finishSignOn)

	p.anyone("POST /sign-in/passkey/options", p.passkeySignInOptions)
	p.anyone("POST /sign-in/passkey", p.signInByPasskey)
	p.signedIn("POST /account/passkeys/options", p.passkeyOptions)
	p.signedIn("POST /account/passkeys", p.addPasskey)
	p.signedIn("GET /account/passkeys/{id}/remove", p.removePasskeyPage)
	p.signedIn("POST /account/passkeys/{id}/remove", p.removePasskey)

	p.anyone("GET /setup", p.setupPage)
	p.anyone("POST /setup", p.setUp)
}

// setCeremony has the browser keep what signing in was begun with; empty takes it
// away.
func (p *Pages) setCeremony(w http.ResponseWriter, ceremony string) {
	c := &http.Cookie{Name: p.ceremonyName(), Value: ceremony, Path: "/", HttpOnly: true, Secure: p.Secure, SameSite: http.SameSiteLaxMode, MaxAge: 600}
	if ceremony == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (p *Pages) ceremonyName() string {
	if p.Secure {
		return "__Host-" + ceremonyCookie
	}
	return ceremonyCookie
}

func (p *Pages) ceremony(r *http.Request) string {
	c, err := r.Cookie(p.ceremonyName())
	if err != nil || len(c.Value) > 4096 {
		return ""
	}
	return c.Value
}

// startSignOn leads to a provider's sign-in page. It is no form: a form may not lead
// elsewhere, by our own policy.
func (p *Pages) startSignOn(w http.ResponseWriter, r *http.Request) {
	v := p.nobody(w, r)
	address, begun, err := p.SignOn.Begin(r.Context(), r.PathValue("provider"))
	if err == nil {
		begun.To = ownPath(r.FormValue("to"), "")
		if len(begun.To) > 500 {
			begun.To = ""
		}
		var ceremony string
		if ceremony, err = p.b.SealSignOn(begun); err == nil {
			p.setCeremony(w, ceremony)
			http.Redirect(w, r, address, http.StatusSeeOther)
			return
		}
	}
	v.signInFailed(err, "")
}

// finishSignOn takes what a provider has sent the browser back with.
func (p *Pages) finishSignOn(w http.ResponseWriter, r *http.Request) {
	v, ceremony := p.nobody(w, r), p.ceremony(r)
	p.setCeremony(w, "")
	begun, err := p.b.OpenSignOn(ceremony)
	var person signon.Person
	if err == nil {
		person, err = p.SignOn.Finish(r.Context(), r.PathValue("provider"), begun, r.URL.Query())
	}
	var session latchkey.NewToken
	if err == nil {
		session, err = p.b.SignInExternal(r.Context(), person, ceremony, p.Visitor(r))
	}
	if err == nil {
		err = v.begin(session)
	}
	if err != nil {
		v.signInFailed(err, begun.To)
		return
	}
	http.Redirect(w, r, ownPath(begun.To, "/"), http.StatusSeeOther)
}

// signInFailed shows the sign-in page with what went wrong.
func (v *view) signInFailed(cause error, to string) {
	var f form
	status, err := v.refused(&f, cause)
	if err == nil {
		err = v.showWith(status, "sign-in", v.signIn(f, to))
	}
	v.answer(err)
}

// site returns what passkeys are for, or why there can be none.
func (p *Pages) site() (*passkey.Site, error) { return passkey.New(p.PublicURL()) }

// passkeyFault returns the key of the text that says why there can be no passkeys, or
// "".
func (v *view) passkeyFault() string {
	switch _, err := v.p.site(); err {
	case nil:
		return ""
	case passkey.ErrAddress:
		return "account.passkey-ip"
	}
	return "account.passkey-http"
}

func noPasskeys(err error) error {
	return latchkey.Conflict("no-passkeys", "%v: the server's administrator sets its address with --public-url", err)
}

// answerOptions answers a script with what a browser needs for a passkey.
func (v *view) answerOptions(options []byte, ceremony string, err error) error {
	if err != nil {
		return err
	}
	v.p.setCeremony(v.w, ceremony)
	v.w.Header().Set("Content-Type", "application/json")
	_, _ = v.w.Write(options) // the client may be gone
	return nil
}

func (p *Pages) passkeySignInOptions(w http.ResponseWriter, r *http.Request) {
	v := p.nobody(w, r)
	site, err := p.site()
	if err != nil {
		v.fail(noPasskeys(err))
		return
	}
	options, ceremony, err := p.b.BeginPasskeySignIn(site)
	v.answer(v.answerOptions(options, ceremony, err))
}

func (p *Pages) signInByPasskey(w http.ResponseWriter, r *http.Request) {
	ceremony := p.ceremony(r)
	p.setCeremony(w, "")
	p.signInWith(w, r, func(v *view) (latchkey.NewToken, error) {
		site, err := p.site()
		if err != nil {
			return latchkey.NewToken{}, noPasskeys(err)
		}
		return p.b.SignInPasskey(r.Context(), site, ceremony, []byte(v.value("response")), p.Visitor(r))
	})
}

func (p *Pages) passkeyOptions(v *view) error {
	site, err := p.site()
	if err != nil {
		return noPasskeys(err)
	}
	options, ceremony, err := p.b.BeginPasskey(v.r.Context(), v.who, site)
	return v.answerOptions(options, ceremony, err)
}

func (p *Pages) addPasskey(v *view) error {
	site, err := p.site()
	if err != nil {
		return noPasskeys(err)
	}
	ceremony := p.ceremony(v.r)
	p.setCeremony(v.w, "")
	k, err := p.b.AddPasskey(v.r.Context(), v.who, site, v.value("name"), ceremony, []byte(v.value("response")))
	if err != nil {
		return err
	}
	return v.redirect("/account", "account.passkey-added", k.Name)
}

func (v *view) removingPasskey(cause error) error {
	id := latchkey.PasskeyID(v.r.PathValue("id"))
	proofs, err := v.p.b.OwnProofs(v.r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, k := range proofs.Passkeys {
		if k.ID == id {
			return v.confirm(cause, confirmPage{
				shell: v.shell(v.t("account.remove-passkey", k.Name), "account"), Crumbs: options("/account", v.t("account.title")),
				About: v.t("account.remove-passkey-about"), Do: v.t("account.remove"), Action: "/account/passkeys/" + string(id) + "/remove", Back: "/account", Hidden: map[string]string{"name": k.Name},
			})
		}
	}
	return latchkey.NotFound(latchkey.KindPasskey)
}

func (p *Pages) removePasskeyPage(v *view) error { return v.removingPasskey(nil) }

func (p *Pages) removePasskey(v *view) error {
	if err := p.b.RemovePasskey(v.r.Context(), v.who, latchkey.PasskeyID(v.r.PathValue("id"))); err != nil {
		return err
	}
	return v.redirect("/account", "account.passkey-removed", v.value("name"))
}

type setupPage struct {
	shell
	Form     form
	Passkeys bool // can be had here
}

func (v *view) settingUp(f form) setupPage {
	f.set("login", "admin")
	f.set("by", "password")
	return setupPage{v.shell(v.t("setup.title"), "setup"), f, v.passkeyFault() == ""}
}

func (p *Pages) setupPage(w http.ResponseWriter, r *http.Request) {
	v := p.nobody(w, r)
	v.answer(v.show("setup", v.settingUp(form{})))
}

// setUp makes the first account of a person, and leads on to the first environment.
func (p *Pages) setUp(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := p.nobody(w, r)
	if err := v.parseForm(); err != nil {
		v.fail(err)
		return
	}
	c, next := latchkey.UserCreate{Login: v.value("login"), DisplayName: v.value("displayName")}, "/environments/new"
	if v.value("by") == "passkey" {
		next = "/account"
	} else {
		password := v.secret("password").Reveal()
		c.Password = &password
	}
	session, err := p.b.SetUp(r.Context(), v.code(), c, p.Visitor(r))
	if err == nil {
		err = v.begin(session)
	}
	if err == nil {
		said := "setup.done"
		if next == "/account" {
			said = "setup.done-passkey"
		}
		v.answer(v.redirect(next, said))
		return
	}
	f := v.filled("password")
	status, err := v.refused(&f, err)
	if err == nil {
		err = v.showWith(status, "setup", v.settingUp(f))
	}
	v.answer(err)
}
