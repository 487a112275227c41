package web

import (
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

func (p *Pages) accountRoutes() {
	p.signedIn("GET /account", p.accountPage)
	p.signedIn("POST /account", p.saveProfile)
	p.signedIn("POST /account/password", p.changePassword)
	p.signedIn("POST /account/notices/{id}", p.dismissNotice)
	p.signedIn("GET /account/tokens", p.tokensPage)
	p.signedIn("POST /account/tokens", p.createToken)
	p.signedIn("GET /account/tokens/{id}/revoke", p.revokeTokenPage)
	p.signedIn("POST /account/tokens/{id}/revoke", p.revokeToken)
	p.signedIn("GET /account/sessions", p.sessionsPage)
	p.signedIn("POST /account/sessions/end-others", p.endOtherSessions)
	p.signedIn("POST /account/sessions/{id}/end", p.endSession)
}

type accountPage struct {
	shell
	Me       latchkey.User
	Profile  form
	Password form
	Notices  []latchkey.Notice
	More     bool // there are more notices
	Passkeys []latchkey.Passkey
	NoKeys   string // the key of why there can be no passkeys, or ""
	HasPass  bool   // the account has a password
}

// someNotices is how many notices the account page shows at once.
const someNotices = 20

// account returns one's own account with its forms.
func (v *view) account(profile, password form) (page accountPage, err error) {
	page = accountPage{shell: v.shell(v.t("account.title"), "account"), Me: v.me, Profile: profile, Password: password}
	page.Profile.set("displayName", v.me.DisplayName)
	page.Password.set("login", v.me.Login)
	notices, err := v.p.b.Notices(v.r.Context(), v.who, latchkey.PageOptions{Limit: someNotices})
	if err != nil {
		return page, err
	}
	page.Notices, page.More = notices.Items, notices.Next != ""
	if v.me.ID == "" {
		return page, nil
	}
	page.NoKeys = v.passkeyFault()
	proofs, err := v.p.b.OwnProofs(v.r.Context(), v.who)
	page.HasPass, page.Passkeys = proofs.Password, proofs.Passkeys
	return page, err
}

func (p *Pages) accountPage(v *view) error {
	page, err := v.account(form{}, form{})
	if err != nil {
		return err
	}
	return v.show("account", page)
}

// again shows the account page with what was refused.
func (v *view) accountAgain(cause error, secrets []string, place func(form) (profile, password form)) error {
	f := v.filled(secrets...)
	status, err := v.refused(&f, cause)
	if err != nil {
		return err
	}
	profile, password := place(f)
	page, err := v.account(profile, password)
	if err != nil {
		return err
	}
	return v.showWith(status, "account", page)
}

func (p *Pages) saveProfile(v *view) error {
	name := v.value("displayName")
	if _, err := p.b.UpdateUser(v.r.Context(), v.who, string(v.me.ID), latchkey.UserUpdate{DisplayName: &name}); err != nil {
		return v.accountAgain(err, nil, func(f form) (form, form) { return f, form{} })
	}
	return v.redirect("/account", "account.saved")
}

func (p *Pages) changePassword(v *view) error {
	now, next := v.secret("currentPassword").Reveal(), v.secret("password").Reveal()
	u := latchkey.UserUpdate{Password: &next}
	if now != "" {
		u.CurrentPassword = &now
	}
	_, err := p.b.UpdateUser(v.r.Context(), v.who, string(v.me.ID), u)
	if err == nil {
		return v.redirect("/account", "account.password-changed")
	}
	return v.accountAgain(err, []string{"currentPassword", "password"}, func(f form) (form, form) { return form{}, f })
}

func (p *Pages) dismissNotice(v *view) error {
	if err := p.b.DismissNotice(v.r.Context(), v.who, latchkey.NoticeID(v.r.PathValue("id"))); err != nil {
		return err
	}
	return v.redirect("/account", "")
}

type tokensPage struct {
	shell
	List *list
	Rows []latchkey.Token
	Form form
	New  latchkey.NewToken // just made; its value is shown here and never again
	May  bool              // make one
}

func (v *view) tokens(f form) (page tokensPage, err error) {
	page = tokensPage{shell: v.shell(v.t("account.tokens"), "account"), Form: f, May: v.me.ID != ""}
	page.Form.set("expiresIn", "720h")
	page.List = v.list("tokens", []column{{Key: "name"}, {Key: "created"}, {Key: "used"}, {Key: "expires"}})
	page.List.Path = "/account/tokens"
	rows, err := v.p.b.Tokens(v.r.Context(), v.who, page.List.options())
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return page, err
}

func (p *Pages) tokensPage(v *view) error {
	page, err := v.tokens(form{})
	if err != nil {
		return err
	}
	return v.show("tokens", page)
}

// createToken answers with the value itself: it is in no other answer, and not in
// the browser's history.
func (p *Pages) createToken(v *view) error {
	c := latchkey.TokenCreate{Name: v.value("name")}
	f := v.filled()
	d, err := time.ParseDuration(v.value("expiresIn"))
	if err != nil {
		d = -1 // is refused
	}
	c.ExpiresIn = latchkey.Duration(d)
	made, err := p.b.CreateToken(v.r.Context(), v.who, c)
	if err != nil {
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		page, err := v.tokens(f)
		if err != nil {
			return err
		}
		return v.showWith(status, "tokens", page)
	}
	page, err := v.tokens(form{})
	if err != nil {
		return err
	}
	page.New = made
	return v.show("tokens", page)
}

// A confirmPage asks whether something is really to be done.
type confirmPage struct {
	shell
	Form        form
	Crumbs      []option
	About, Do   string            // text: what follows, and of the button
	Action      string            // address of the form
	Back        string            // address of the page to go back to
	Hidden      map[string]string // further fields
	Depends     []string          // what depends on it, by name
	DependsHead string
}

func (v *view) confirm(cause error, c confirmPage) error {
	if cause == nil {
		return v.show("confirm", c)
	}
	c.Form = v.filled()
	status, err := v.refused(&c.Form, cause)
	if err != nil {
		return err
	}
	return v.showWith(status, "confirm", c)
}

func (v *view) revoking(cause error) error {
	id, name := v.r.PathValue("id"), v.value("name")
	return v.confirm(cause, confirmPage{
		shell: v.shell(v.t("account.revoke-token", name), "account"), Crumbs: options("/account/tokens", v.t("account.tokens")),
		About: v.t("account.revoke-about", name), Do: v.t("account.revoke"), Action: "/account/tokens/" + id + "/revoke", Back: "/account/tokens", Hidden: map[string]string{"name": name},
	})
}

func (p *Pages) revokeTokenPage(v *view) error { return v.revoking(nil) }

func (p *Pages) revokeToken(v *view) error {
	if err := p.b.RevokeToken(v.r.Context(), v.who, latchkey.TokenID(v.r.PathValue("id"))); err != nil {
		return v.revoking(err)
	}
	return v.redirect("/account/tokens", "account.revoked", v.value("name"))
}

type sessionsPage struct {
	shell
	Rows    []sessionRow
	SignIns []latchkey.AuditEvent
	Others  bool   // there is another session
	Next    string // address of more sign-ins
	First   string // address of the first ones, when these are not
}

// A sessionRow is a session as people know it.
type sessionRow struct {
	latchkey.Session
	Browser string
}

func (p *Pages) sessionsPage(v *view) error {
	page := sessionsPage{shell: v.shell(v.t("account.sessions"), "account")}
	rows, err := p.b.Sessions(v.r.Context(), v.who, latchkey.PageOptions{Limit: rowsOfPage})
	if err != nil {
		return err
	}
	for _, s := range rows.Items {
		page.Rows = append(page.Rows, sessionRow{s, browserName(s.Client)})
		page.Others = page.Others || !s.Current
	}
	l := v.list("sign-ins", []column{{Key: "when"}})
	events, err := p.b.SignIns(v.r.Context(), v.who, latchkey.PageOptions{After: l.after, Limit: someNotices})
	if err != nil {
		return err
	}
	l.more(events.Next)
	page.SignIns, page.Next, page.First = events.Items, l.Next, l.First
	return v.show("sessions", page)
}

func (p *Pages) endSession(v *view) error {
	if err := p.b.RevokeToken(v.r.Context(), v.who, latchkey.TokenID(v.r.PathValue("id"))); err != nil {
		return err
	}
	return v.redirect("/account/sessions", "account.session-ended")
}

func (p *Pages) endOtherSessions(v *view) error {
	if _, err := p.b.EndOtherSessions(v.r.Context(), v.who); err != nil {
		return err
	}
	return v.redirect("/account/sessions", "account.others-ended")
}

// browserName returns which browser it is on which system, as far as what it says
// of itself is known; else that, cut.
func browserName(client string) string {
	first := func(words ...string) string {
		for i := 0; i+1 < len(words); i += 2 {
			if strings.Contains(client, words[i]) {
				return words[i+1]
			}
		}
		return ""
	}
	// Most claim to be several, so that the order matters.
	browser := first("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Chromium/", "Chromium", "Version/", "Safari")
	system := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	switch {
	case browser != "" && system != "":
		return browser + ", " + system
	case browser != "":
		return browser
	}
	name, _, _ := strings.Cut(client, " ")
	return name
}
