package web

import "latchkey.dev/latchkey"

func (p *Pages) credentialRoutes() {
	p.inEnvironment("GET /e/{env}/credentials", p.credentialsPage)
}

type credentialsPage struct {
	shell
	List *list
	Rows []latchkey.Credential
	May  struct{ Create bool }
}

// credentialsPage lists the credentials that one may see.
func (p *Pages) credentialsPage(v *view) error {
	page := credentialsPage{shell: v.shell(v.t("credentials.title"), "credentials")}
	page.List = v.list("credentials", []column{
		{Key: "name", Sort: "name"}, {Key: "usages"}, {Key: "store", Hidden: true}, {Key: "authentication"}, {Key: "access"}, {Key: "modified", Sort: "modified"},
	})
	rows, err := p.b.Credentials(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActCredentialCreate)
	return v.show("credentials", page)
}
