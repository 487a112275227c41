package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"latchkey.dev/latchkey"
)

// A page answers a request of somebody who is signed in. An error that it
// returns becomes a page that says what failed.
type page func(*view) error

// anyone adds an address that answers everybody.
func (p *Pages) anyone(pattern string, h http.HandlerFunc) {
	p.routes = append(p.routes, Route{Pattern: pattern, Public: true, Handler: h})
}

// signedIn adds a page of the installation.
func (p *Pages) signedIn(pattern string, h page) { p.add(pattern, false, h) }

// inEnvironment adds a page about an environment, /e/{env}/….
func (p *Pages) inEnvironment(pattern string, h page) { p.add(pattern, true, h) }

func (p *Pages) add(pattern string, inEnv bool, h page) {
	p.routes = append(p.routes, Route{Pattern: pattern, Handler: func(w http.ResponseWriter, r *http.Request) {
		who, err := p.Identify(w, r)
		if errors.Is(err, latchkey.ErrUnauthenticated) {
			p.toSignIn(w, r)
			return
		}
		v := p.view(w, r, who)
		if err == nil {
			err = v.load(inEnv)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err == nil {
			err = v.parseForm()
		}
		if err == nil {
			err = h(v)
		}
		if err != nil {
			v.fail(err)
		}
	}})
}

// toSignIn sends somebody to sign in, and back to the page that they asked for.
func (p *Pages) toSignIn(w http.ResponseWriter, r *http.Request) {
	to := "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/" && r.Header.Get("HX-Request") == "" {
		to += "?to=" + url.QueryEscape(r.URL.RequestURI())
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// ownPath returns a path of ours to go to, or another: an address that names
// another host would send people elsewhere.
func ownPath(path, otherwise string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`) || len(path) > 2000 {
		return otherwise
	}
	return path
}

// handleAll is every address of the pages.
func (p *Pages) handleAll() {
	p.anyone("GET /static/{name}", p.assets.serve)
	p.anyone("GET /sign-in", p.signInPage)
	p.anyone("POST /sign-in", p.signInByPassword)
	p.anyone("POST /sign-in/link", p.signInByLink)
	p.anyone("POST /sign-out", p.signOut)
	p.anyone("POST /preferences", p.setPreferences)

	p.signedIn("GET /{$}", p.startPage)
	p.inEnvironment("GET /e/{env}", p.homePage)
	p.inEnvironment("GET /e/{env}/more", p.morePage)

	p.thingRoutes()
	p.credentialRoutes()
	p.variableRoutes()
	p.connectionRoutes()
	p.vaultRoutes()
	p.machineRoutes()
	p.machineGroupRoutes()
	p.flowRoutes()
	p.runRoutes()
	p.mapRoutes()
	p.liveRoutes()
	p.accountRoutes()
	p.oidcRoutes()
	p.principalRoutes()
	p.environmentRoutes()
	p.activityRoutes()
	p.doctorRoutes()
	p.deletedRoutes()
	p.findRoutes()
}
