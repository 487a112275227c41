package web

type homePage struct {
	shell
}

// homePage is where somebody begins in an environment.
func (p *Pages) homePage(v *view) error {
	if v.prefs.Environment != v.env.Name {
		v.prefs.Environment = v.env.Name
		p.writePreferences(v.w, v.prefs)
	}
	return v.show("home", homePage{v.shell(v.env.DisplayName, "home")})
}
