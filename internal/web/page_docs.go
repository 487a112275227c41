package web

import "net/http"

// A Reference is the API, for people to read.
type Reference struct {
	Server      string // the address of the API
	Description string
	Sections    []Section
	Types       []Type
}

// A Section is a part of the API.
type Section struct {
	ID, Name, Description string
	Operations            []Operation
}

// An Operation is one of the API's. Status, Answer and Failures say what it
// answers: a status, the name of a type, and statuses with commas.
type Operation struct {
	ID, Method, Path, Summary, Description string
	Public                                 bool
	Parameters, Body                       []Field
	Status, Answer, Failures, Curl         string
}

// A Type is one of the API's objects.
type Type struct {
	Name   string
	Fields []Field
}

// A Field is one of a type, or a parameter. Link is the name of its type if that
// is among the Reference's.
type Field struct {
	Name, Type, Link, Description string
	Required                      bool
}

type docsPage struct {
	shell
	Reference
}

// ServeReference answers with the page of the API, to anybody.
func (p *Pages) ServeReference(w http.ResponseWriter, r *http.Request, ref Reference) {
	who, _ := p.Identify(r)
	v := p.view(w, r, who)
	if who.ID != "" {
		if err := v.load(false); err != nil {
			v.fail(err)
			return
		}
	}
	v.answer(v.show("docs", docsPage{v.shell(v.t("docs.title"), "docs"), ref}))
}
