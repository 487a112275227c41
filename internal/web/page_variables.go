package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) variableRoutes() {
	p.inEnvironment("GET /e/{env}/variables", p.variablesPage)
	p.inEnvironment("GET /e/{env}/variables/new", p.newVariablePage)
	p.inEnvironment("POST /e/{env}/variables/new", p.createVariable)
	p.inEnvironment("GET /e/{env}/variables/{id}", p.variablePage)
	p.inEnvironment("GET /e/{env}/variables/{id}/edit", p.editVariablePage)
	p.inEnvironment("POST /e/{env}/variables/{id}/edit", p.updateVariable)
	p.inEnvironment("POST /e/{env}/variables/{id}/check", p.checkVariable)
	p.inEnvironment("GET /e/{env}/variables/{id}/override", p.overridePage)
	p.inEnvironment("POST /e/{env}/variables/{id}/override", p.overrideVariable)
	p.inEnvironment("GET /e/{env}/reference", p.referencePage)
}

// VariableTypes are the types in the order in which a form offers them.
var variableTypes = []latchkey.VariableType{latchkey.TypeSecret, latchkey.TypeText, latchkey.TypeNumber, latchkey.TypeBoolean, latchkey.TypeJSON}

type variablesPage struct {
	shell
	List  *list
	Types []option // addresses of the list with one type alone
	Type  string
	Rows  []variableRow
	May   struct{ Create bool }
}

// A variableRow is a variable with what a list says of it.
type variableRow struct {
	latchkey.Variable
	Current, Default, Effective, State string
}

// Users returns how many credentials use the variable.
func (r variableRow) Users() int {
	if r.UsedBy == nil {
		return 0
	}
	return *r.UsedBy
}

// variablesPage lists the variables that one may see.
func (p *Pages) variablesPage(v *view) error {
	page := variablesPage{shell: v.shell(v.t("variables.title"), "variables")}
	page.List = v.list("variables", []column{
		{Key: "name", Sort: "name"}, {Key: "type"}, {Key: "current"}, {Key: "default", Hidden: true}, {Key: "effective", Hidden: true},
		{Key: "check"}, {Key: "owner"}, {Key: "access", Hidden: true}, {Key: "used-by", Number: true}, {Key: "modified", Sort: "modified", Hidden: true},
	}, "type")
	page.Type = v.value("type")
	page.Types = v.filters(page.List, "type", page.Type, v.t("variables.type-all"), variableTypes, "variables.type-")
	rows, err := p.b.Variables(v.r.Context(), v.who, string(v.env.ID), broker.VariableFilter{Type: latchkey.VariableType(page.Type)}, page.List.options())
	if err != nil {
		return err
	}
	for _, x := range rows.Items {
		row := variableRow{Variable: x, Current: shortValue(x.Type, x.Value), Default: shortValue(x.Type, x.DefaultValue), State: checkState(x)}
		if text, ok := x.Effective(); ok {
			row.Effective = shortValue(x.Type, &text)
		}
		page.Rows = append(page.Rows, row)
	}
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActVariableCreate)
	return v.show("variables", page)
}

// filters returns the addresses of a list with each value of a filter, after the one
// without it. texts is what the keys of the values begin with.
func (v *view) filters(l *list, name, now, all string, values []latchkey.VariableType, texts string) []option {
	other := *l
	offered := []option{}
	for _, value := range append([]latchkey.VariableType{""}, values...) {
		other.Filters = map[string][]string{}
		for n, have := range l.Filters {
			other.Filters[n] = have
		}
		delete(other.Filters, name)
		label := all
		if value != "" {
			other.Filters[name], label = []string{string(value)}, v.t(texts+string(value))
		}
		offered = append(offered, option{other.address("", l.Sort), label})
	}
	return offered
}

// maxShown is how much of a value a list shows, in characters.
const maxShown = 60

// shortValue returns what a list says of a value.
func shortValue(t latchkey.VariableType, value *string) string {
	if value == nil {
		return ""
	}
	text := *value
	if t == latchkey.TypeSecret {
		if r, err := latchkey.ParseSecretReference(text); err == nil {
			return r.Vault + "/" + r.Secret
		}
	}
	text, rest, more := strings.Cut(text, "\n")
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	if more && rest != "" {
		text += "…"
	}
	return text
}

type variablePage struct {
	shell
	Crumbs                      []option
	Variable                    latchkey.Variable
	Current, Default, Effective string
	State                       string
	Polled                      bool
	Vault                       string // the embedded vault that the reference names
	Missing                     bool   // the check failed for want of the secret
	Uses                        *latchkey.Dependencies
	May                         struct{ Edit, Share, Delete, Check, Override bool }
}

// variablePage shows a variable, what uses it, and the check of its reference, which
// is followed until it has ended.
func (p *Pages) variablePage(v *view) error {
	ctx, env, id := v.r.Context(), string(v.env.ID), v.r.PathValue("id")
	x, err := p.b.Variable(ctx, v.who, env, id)
	if err != nil {
		return err
	}
	page := variablePage{
		shell: v.shell(x.DisplayName, "variables"), Crumbs: []option{{v.path("variables"), v.t("variables.title")}}, Variable: x,
		Current: longValue(x.Type, x.Value), Default: longValue(x.Type, x.DefaultValue), State: checkState(x), Polled: v.part() == "check",
	}
	if text, ok := x.Effective(); ok {
		page.Effective = longValue(x.Type, &text)
	}
	may := func(a latchkey.Action) bool { return v.mayOn(x.MyRole, a) }
	page.May.Edit, page.May.Share, page.May.Delete = may(latchkey.ActVariableUpdate), may(latchkey.ActVariableShares), may(latchkey.ActVariableDelete)
	page.May.Check, page.May.Override = may(latchkey.ActVariableCheck), may(latchkey.ActVariableOverride)
	if x.Secret != nil {
		switch e, err := p.b.VaultResource(ctx, v.who, x.Secret.VaultRef()); {
		case err == nil:
			page.Vault = e.Name
		case !errors.Is(err, latchkey.ErrNotFound):
			return err
		}
		page.Missing = x.Check != nil && x.Check.State == latchkey.CheckFailed && x.Check.Check == string(latchkey.CheckSecret)
	}
	if !page.Polled {
		uses, err := p.b.Dependents(ctx, v.who, env, latchkey.KindVariable, string(x.ID))
		if err != nil {
			return err
		}
		page.Uses = &uses
	}
	return v.show("variable", page)
}

// longValue returns a value as its page shows it.
func longValue(t latchkey.VariableType, value *string) string {
	if value == nil {
		return ""
	}
	if t == latchkey.TypeJSON {
		return prettyJSON(*value)
	}
	return *value
}

// prettyJSON returns JSON in lines, or a text as it is if it is none.
func prettyJSON(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}

// readJSON returns what somebody typed as JSON without the space in it, or where its
// first fault is.
func (v *view) readJSON(text string) (string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value any
	err := d.Decode(&value)
	at := d.InputOffset()
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			rest := text[at:]
			at += int64(len(rest)-len(strings.TrimLeft(rest, " \t\r\n"))) + 1
			err = errors.New(v.t("variables.json-more"))
		}
	} else if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
		at = syntax.Offset
	} else {
		at = int64(len(text)) + 1
		err = errors.New(v.t("variables.json-end"))
	}
	if err != nil {
		before := text[:min(max(at-1, 0), int64(len(text)))]
		line := strings.Count(before, "\n") + 1
		column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
		return "", errors.New(v.t("variables.json-fault", line, column, err))
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return "", err
	}
	return b.String(), nil
}

type variableForm struct {
	shell
	Crumbs    []option
	Form      form
	New       bool
	Action    string
	Type      latchkey.VariableType
	Types     []option
	Variable  latchkey.Variable
	Reference referenceForm
}

// variableForm is what the forms of a new and of an existing variable have in common.
func (v *view) variableForm(f form, x latchkey.Variable) (page variableForm, err error) {
	page = variableForm{Form: f, New: x.ID == "", Variable: x, Type: x.Type, Crumbs: []option{{v.path("variables"), v.t("variables.title")}}}
	if page.New {
		page.shell, page.Action = v.shell(v.t("variables.new"), "variables"), v.path("variables", "new")
		page.Type = latchkey.VariableType(f.Value("type"))
		known := false
		for _, t := range variableTypes {
			page.Types = append(page.Types, option{string(t), v.t("variables.type-" + string(t))})
			known = known || t == page.Type
		}
		if !known {
			page.Type = variableTypes[0]
		}
	} else {
		page.shell, page.Action = v.shell(v.t("variables.edit-of", x.DisplayName), "variables"), v.path("variables", string(x.ID), "edit")
		page.Crumbs = append(page.Crumbs, option{v.path("variables", string(x.ID)), x.DisplayName})
	}
	if page.Type == latchkey.TypeSecret {
		page.Reference, err = v.referenceForm(&page.Form, page.Action)
	}
	return page, err
}

// newVariablePage shows the form of a new variable. Fields in the address are filled
// in, so that a type can be chosen without script.
func (p *Pages) newVariablePage(v *view) error {
	page, err := v.variableForm(v.filled(), latchkey.Variable{})
	if err != nil {
		return err
	}
	return v.show("variable-edit", page)
}

// createVariable makes a variable of what was filled in.
func (p *Pages) createVariable(v *view) error {
	f := v.filled()
	create := latchkey.VariableCreate{
		Name: v.value("name"), DisplayName: v.value("displayName"), Description: v.text("description"), Type: latchkey.VariableType(v.value("type")),
	}
	create.Value, create.DefaultValue, create.Secret = v.variableValues(&f, create.Type)
	var made latchkey.Variable
	var err error
	if len(f.Errors) == 0 {
		made, err = p.b.CreateVariable(v.r.Context(), v.who, string(v.env.ID), create)
	}
	if err != nil || len(f.Errors) > 0 {
		return v.variableAgain(f, err, latchkey.Variable{})
	}
	return v.redirect(v.path("variables", string(made.ID)), "variables.made", made.DisplayName)
}

// text returns a field of several lines, as they are written here.
func (v *view) text(name string) string {
	return strings.TrimSpace(strings.ReplaceAll(v.r.FormValue(name), "\r\n", "\n"))
}

// variableValues returns the values in the form of a variable. An empty field is none.
func (v *view) variableValues(f *form, t latchkey.VariableType) (value, byDefault *string, secret *latchkey.SecretReference) {
	of := func(name string) *string {
		text := v.text(name)
		if text == "" {
			return nil
		}
		if t == latchkey.TypeJSON {
			compact, err := v.readJSON(text)
			if err != nil {
				f.wrong(name, err.Error())
				return nil
			}
			text = compact
		}
		return &text
	}
	byDefault = of("defaultValue")
	if t != latchkey.TypeSecret {
		return of("value"), byDefault, nil
	}
	if r := f.reference(); r != (latchkey.SecretReference{}) {
		secret = &r
	}
	return nil, byDefault, secret
}

// variableAgain shows the form of a variable with what was wrong with it.
func (v *view) variableAgain(f form, err error, x latchkey.Variable) error {
	status := 422
	if err != nil {
		if status, err = v.refused(&f, err, "secret.subscriptionId", fieldSubscription, "secret.resourceGroup", fieldGroup, "secret.vault", fieldVault, "secret.secret", fieldSecret); err != nil {
			return err
		}
	}
	f.Values.Del("by") // nothing was pasted or picked
	page, err := v.variableForm(f, x)
	if err != nil {
		return err
	}
	return v.showWith(status, "variable-edit", page)
}

// editVariablePage shows the form of a variable with what it has now.
func (p *Pages) editVariablePage(v *view) error {
	x, err := p.b.Variable(v.r.Context(), v.who, string(v.env.ID), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	f := v.filled()
	f.set("displayName", x.DisplayName)
	f.set("description", x.Description)
	f.set("defaultValue", longValue(x.Type, x.DefaultValue))
	if x.Type != latchkey.TypeSecret {
		f.set("value", longValue(x.Type, x.Value))
	} else if x.Value != nil && !f.Values.Has(fieldVault) {
		if ref, err := latchkey.ParseSecretReference(*x.Value); err == nil {
			f.setReference(ref)
		}
	}
	page, err := v.variableForm(f, x)
	if err != nil {
		return err
	}
	return v.show("variable-edit", page)
}

// updateVariable changes a variable to what was filled in.
func (p *Pages) updateVariable(v *view) error {
	ctx, env, id := v.r.Context(), string(v.env.ID), v.r.PathValue("id")
	x, err := p.b.Variable(ctx, v.who, env, id)
	if err != nil {
		return err
	}
	f := v.filled()
	value, byDefault, secret := v.variableValues(&f, x.Type)
	none := ""
	if value == nil {
		value = &none
	}
	if byDefault == nil {
		byDefault = &none
	}
	if secret != nil {
		value = nil
	}
	if len(f.Errors) > 0 {
		return v.variableAgain(f, nil, x)
	}
	changed, err := p.b.UpdateVariable(ctx, v.who, env, id, latchkey.VariableUpdate{
		DisplayName: new(v.value("displayName")), Description: new(v.text("description")), Value: value, DefaultValue: byDefault, Secret: secret,
	})
	if err != nil {
		return v.variableAgain(f, err, x)
	}
	return v.redirect(v.path("variables", string(x.ID)), "variables.saved", changed.DisplayName)
}

// referencePage answers a form that says where a secret is: with the fields filled in
// from what was pasted or picked.
func (p *Pages) referencePage(v *view) error {
	f := v.filled()
	r, err := v.referenceForm(&f, v.path("reference"))
	if err != nil {
		return err
	}
	return v.show("reference", struct {
		shell
		Reference referenceForm
	}{v.shell(v.t("variables.reference"), "variables"), r})
}

// checkVariable has a reference checked again.
func (p *Pages) checkVariable(v *view) error {
	if _, err := p.b.CheckVariable(v.r.Context(), v.who, string(v.env.ID), v.r.PathValue("id")); err != nil {
		return err
	}
	if v.part() == "check" {
		return p.variablePage(v)
	}
	return v.redirect(v.path("variables", v.r.PathValue("id")), "")
}

type overridePage struct {
	shell
	Crumbs   []option
	Form     form
	Variable latchkey.Variable
}

// overridePage asks for the reason to use a reference whose check has not passed.
func (p *Pages) overridePage(v *view) error { return v.showOverride(200, v.filled()) }

func (v *view) showOverride(status int, f form) error {
	x, err := v.p.b.Variable(v.r.Context(), v.who, string(v.env.ID), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	page := overridePage{v.shell(v.t("variables.override-of", x.DisplayName), "variables"), []option{{v.path("variables"), v.t("variables.title")}, {v.path("variables", string(x.ID)), x.DisplayName}}, f, x}
	return v.showWith(status, "variable-override", page)
}

// overrideVariable puts a reference in force though its check has not passed.
func (p *Pages) overrideVariable(v *view) error {
	id := v.r.PathValue("id")
	x, err := p.b.OverrideCheck(v.r.Context(), v.who, string(v.env.ID), id, v.value("reference"), v.value("reason"))
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showOverride(status, f)
	}
	return v.redirect(v.path("variables", string(x.ID)), "variables.overridden", x.DisplayName)
}
