package web

import (
	"strings"

	"latchkey.dev/latchkey"
)

func (p *Pages) findRoutes() {
	p.inEnvironment("GET /e/{env}/find", p.findPage)
}

type findPage struct {
	shell
	Query string
	Pages []navItem
	Found []latchkey.Found
}

// findPage finds any page, and any thing of the environment by its name.
func (p *Pages) findPage(v *view) error {
	page := findPage{shell: v.shell(v.t("find.title"), "find"), Query: v.value("q")}
	wanted := strings.ToLower(page.Query)
	for _, item := range v.navigation() {
		if strings.Contains(strings.ToLower(v.t("nav."+item.Key)), wanted) {
			page.Pages = append(page.Pages, item)
		}
	}
	if page.Query != "" && v.env.MyRole != "" {
		var err error
		if page.Found, err = p.b.Find(v.r.Context(), v.who, string(v.env.ID), page.Query, latchkey.MaxFound); err != nil {
			return err
		}
	}
	return v.show("find", page)
}
