package web

import (
	"net/http"

	"latchkey.dev/internal/site"
)

type docsPage struct {
	shell
	site.Reference
}

// serveReference answers with the page of the API, to anybody.
func (p *Pages) serveReference(w http.ResponseWriter, r *http.Request, ref site.Reference) {
	who, _ := p.Identify(w, r)
	v := p.view(w, r, who)
	if who.ID != "" {
		if err := v.load(false); err != nil {
			v.fail(err)
			return
		}
	}
	v.answer(v.show("docs", docsPage{v.shell(v.t("docs.title"), "docs"), ref}))
}
