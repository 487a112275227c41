package web

import (
	"net/http"
	"slices"
)

type startPage struct {
	shell
}

// startPage leads to the environment that was last looked at, or says how to
// begin when there is none.
func (p *Pages) startPage(v *view) error {
	if v.env.ID != "" {
		http.Redirect(v.w, v.r, v.path(), http.StatusSeeOther)
		return nil
	}
	return v.show("start", startPage{v.shell(v.t("start.title"), "start")})
}

type morePage struct {
	shell
	Groups []moreGroup
}

type moreGroup struct {
	Key   string
	Items []navItem
}

// morePage shows every page of the navigation, to be found and pinned.
func (p *Pages) morePage(v *view) error {
	page := morePage{shell: v.shell(v.t("nav.more"), "more")}
	for _, item := range v.navigation() {
		i := slices.IndexFunc(page.Groups, func(g moreGroup) bool { return g.Key == item.Group })
		if i < 0 {
			i = len(page.Groups)
			page.Groups = append(page.Groups, moreGroup{Key: item.Group})
		}
		page.Groups[i].Items = append(page.Groups[i].Items, item)
	}
	return v.show("more", page)
}
