package web

import "latchkey.dev/latchkey"

func (p *Pages) deletedRoutes() {
	p.inEnvironment("GET /e/{env}/deleted", p.deletedPage)
	p.inEnvironment("GET /e/{env}/deleted/{id}/restore", p.restorePage)
	p.inEnvironment("POST /e/{env}/deleted/{id}/restore", p.restore)
	p.inEnvironment("GET /e/{env}/deleted/{id}/purge", p.purgePage)
	p.inEnvironment("POST /e/{env}/deleted/{id}/purge", p.purge)
}

type deletedPage struct {
	shell
	List *list
	Rows []latchkey.Deleted
}

// deletedPage lists what can be restored.
func (p *Pages) deletedPage(v *view) error {
	page := deletedPage{shell: v.shell(v.t("deleted.title"), "deleted")}
	page.List = v.list("deleted", []column{{Key: "name"}, {Key: "kind"}, {Key: "when"}, {Key: "until"}})
	rows, err := p.b.Deleted(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("deleted", page)
}

// A deletedThing is one of them, to be restored or removed for good.
type deletedThing struct {
	shell
	ID, Name, Kind string
	Form           form
}

// deletedThing takes the names from the address: what was deleted can be listed
// only.
func (v *view) deletedThing(title string, f form) deletedThing {
	return deletedThing{v.shell(v.t(title, v.value("was")), "deleted"), v.r.PathValue("id"), v.value("was"), v.value("kind"), f}
}

func (p *Pages) restorePage(v *view) error {
	return v.show("deleted-restore", v.deletedThing("deleted.restore-thing", form{}))
}

func (p *Pages) restore(v *view) error {
	c, err := p.b.Restore(v.r.Context(), v.who, string(v.env.ID), v.r.PathValue("id"), latchkey.Restore{Name: v.value("name")})
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "deleted-restore", v.deletedThing("deleted.restore-thing", f))
	}
	return v.redirect(v.path("deleted"), "deleted.restored", c.Name)
}

func (p *Pages) purgePage(v *view) error {
	return v.show("deleted-purge", v.deletedThing("deleted.purge-thing", form{}))
}

func (p *Pages) purge(v *view) error {
	if err := p.b.Purge(v.r.Context(), v.who, string(v.env.ID), v.r.PathValue("id")); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "deleted-purge", v.deletedThing("deleted.purge-thing", f))
	}
	return v.redirect(v.path("deleted"), "deleted.purged", v.value("was"))
}
