package web

import (
	"slices"

	"latchkey.dev/latchkey"
)

// A shell is what every page shows around its own content.
type shell struct {
	Title        string
	Here         string // the page, for the navigation
	Said         string // what a form just did
	User         string // who is signed in; empty for nobody
	Admin        bool   // of the tenant
	Env          latchkey.Environment
	Environments []latchkey.Environment
	Prefs        preferences
	Version      string
	Lang, Dir    string
	Nav          []navItem // what is shown
	More         []navItem // and what is found under More
}

// A navItem is a page that the navigation leads to.
type navItem struct {
	Key, Icon, Path string
	Group           string // the key of the heading it is under, on the page that shows all
	Pinned, Fixed   bool
}

// shell returns what is around a page. title is text, not a key.
func (v *view) shell(title, here string) shell {
	s := shell{
		Title: title, Here: here, Said: v.takeFlash(), User: v.who.Name, Admin: v.me.TenantAdmin, Env: v.env, Environments: v.environments,
		Prefs: v.prefs, Version: v.p.Version, Lang: v.locale.tag.String(), Dir: v.locale.dir,
	}
	if v.who.ID != "" {
		for _, item := range v.navigation() {
			if item.Fixed || item.Pinned || item.Key == here {
				s.Nav = append(s.Nav, item)
			} else {
				s.More = append(s.More, item)
			}
		}
	}
	return s
}

// Shell returns what is around a page, for parts of templates that are about
// something else.
func (s shell) Shell() shell { return s }

// Path returns an address below the environment's, for templates.
func (s shell) Path(segments ...string) string { return envPath(s.Env.Name, segments...) }

// navigation returns every page that the person can come to by the navigation.
func (v *view) navigation() []navItem {
	var all []navItem
	add := func(group, key, icon, path string, pinned bool) {
		item := navItem{Key: key, Icon: icon, Path: path, Group: group, Fixed: key == "home"}
		item.Pinned = pinned != slices.Contains(v.prefs.Pins, key)
		all = append(all, item)
	}
	if v.env.ID != "" {
		add("work", "home", "home", v.path(), true)
		add("work", "credentials", "key", v.path("credentials"), true)
		add("work", "variables", "braces", v.path("variables"), true)
		add("work", "connections", "plug", v.path("connections"), true)
		add("work", "machines", "machine", v.path("machines"), true)
		add("work", "flows", "flow", v.path("flows"), true)
		add("work", "runs", "play", v.path("runs"), true)
		add("look", "map", "graph", v.path("map"), false)
		if v.may(latchkey.ActAuditRead) {
			add("look", "activity", "list", v.path("activity"), true)
		}
		add("look", "deleted", "bin", v.path("deleted"), false)
	}
	add("data", "vaults", "vault", "/vaults", true)
	if v.env.ID != "" && v.may(latchkey.ActAuditRead) || v.me.TenantAdmin {
		add("look", "doctor", "pulse", "/doctor", false)
	}
	add("manage", "environments", "layers", "/environments", false)
	add("manage", "groups", "people", "/groups", false)
	if v.me.TenantAdmin {
		add("manage", "users", "person", "/users", false)
		add("manage", "service-principals", "robot", "/service-principals", false)
	}
	return all
}
