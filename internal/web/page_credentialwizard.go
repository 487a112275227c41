package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// The wizard of a new credential has three steps. What was filled in in the others
// goes along in hidden fields, so that it needs no script and nothing is kept; but for
// the value of a new secret, which is in the form of the last step alone. Nothing is
// made before that is sent.

// Ways to come to a variable.
const (
	wayNew      = "new"
	wayExisting = "existing"
	wayStore    = "store" // a new variable, of a secret that is stored in an embedded vault
)

// Of the lists to choose from.
const offeredVariables = 50

// wizardFields are the fields of each step, but for the value of a new secret.
var wizardFields = [][]string{
	{"name", "description"},
	{"store", "usages", "exposure"},
	{
		"authentication", "userWay", "userSearch", "user", "userDisplay", "userName", "userValue",
		"secretWay", "secretSearch", "secretVariable", "secretDisplay", "secretName", "storeVault", "storeName",
		fieldPaste, fieldPickVault, fieldPickSecret, fieldSubscription, fieldGroup, fieldVault, fieldSecret,
	},
}

type wizardPage struct {
	shell
	Form      form
	Step      int // 1 to 3
	Carried   []carried
	Exposures []option
	Users     pickList
	Secrets   pickList
	Reference referenceForm
	Vaults    []option // in which the person may store secrets
	Check     *wizardResult
	Stored    string // name of the secret that an attempt has stored already
}

// StepKeys are the steps, for their texts. Index is that of the one that is shown.
func (wizardPage) StepKeys() []string { return []string{"name", "store", "values"} }
func (p wizardPage) Index() int       { return p.Step - 1 }

// A carried is a value of another step.
type carried struct{ Name, Value string }

// A pickList is the variables to choose from for a slot.
type pickList struct {
	Field   field
	Options []option
	More    bool
}

// A wizardResult is what is known of the secret that is referred to.
type wizardResult struct {
	shell
	Hint    string // nothing was checked yet, since
	Fault   string
	State   latchkey.CheckState
	Results []latchkey.CheckResult
	Planned bool // the secret is stored in the last step
}

// wizardPage begins a new credential.
func (p *Pages) wizardPage(v *view) error {
	if !v.may(latchkey.ActCredentialCreate) {
		return v.show("wizard-may-not", v.shell(v.t("wizard.title"), "credentials"))
	}
	return v.showWizard(http.StatusOK, 1, form{}, nil)
}

// showWizard shows a step. A check, if there is one, is shown with it.
func (v *view) showWizard(status, step int, f form, check *wizardResult) error {
	f.Values = cloneValues(f.Values)
	f.Values.Del("secretValue")
	page := wizardPage{shell: v.shell(v.t("wizard.title"), "credentials"), Step: step, Check: check, Exposures: v.exposures(), Stored: f.Value("stored")}
	f.set("store", string(latchkey.StoreAzureKeyVault))
	f.set("exposure", string(latchkey.ExposureSession))
	f.set("authentication", string(latchkey.AuthenticationPassword))
	f.set("userWay", wayNew)
	f.set("secretWay", wayNew)
	if step == 3 {
		if name := f.Value("name"); name != "" {
			f.set("userDisplay", name+" user")
			f.set("secretDisplay", name+" "+f.Value("authentication"))
			f.set("storeName", secretNameOf(name))
		}
		var err error
		if page.Reference, err = v.referenceForm(&f, v.path("credentials", "new", "reference")); err != nil {
			return err
		}
		page.Reference.Inline = true
		if page.Users, err = v.pickList(latchkey.SlotUsername, f); err != nil {
			return err
		}
		if page.Secrets, err = v.pickList(latchkey.SlotPassword, f); err != nil {
			return err
		}
		if page.Vaults, err = v.storable(); err != nil {
			return err
		}
	}
	for i, fields := range wizardFields {
		if i == step-1 {
			continue
		}
		for _, name := range fields {
			for _, value := range f.Values[name] {
				page.Carried = append(page.Carried, carried{name, value})
			}
		}
	}
	page.Form = f
	return v.showWith(status, "wizard", page)
}

func cloneValues(values url.Values) url.Values {
	c := url.Values{}
	for name, all := range values {
		c[name] = slices.Clone(all)
	}
	return c
}

// secretNameOf makes the name of a secret of the name of a credential.
func secretNameOf(name string) string {
	s := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return strings.Trim(s[:min(len(s), 100)], "-")
}

// pickList returns the variables to choose from for a slot: those that a search
// finds, and the one that is chosen.
func (v *view) pickList(slot latchkey.Slot, f form) (l pickList, err error) {
	name, search := "user", "userSearch"
	if slot != latchkey.SlotUsername {
		name, search = "secretVariable", "secretSearch"
	}
	q := f.Value(search)
	if len(q) > latchkey.MaxSearch {
		q = ""
	}
	p, err := v.p.b.BindableVariables(v.r.Context(), v.who, string(v.env.ID), slot, latchkey.PageOptions{Limit: offeredVariables, Search: q})
	if err != nil {
		return l, err
	}
	l.More = p.Next != ""
	all := options("", v.t("wizard.choose"))
	for _, x := range p.Items {
		all = append(all, option{x.Name, variableLabel(v, x)})
	}
	if now := f.Value(name); now != "" && !slices.ContainsFunc(all, func(o option) bool { return o.Value == now }) {
		all = append(all, option{now, now})
	}
	l.Field, l.Options = newField(f, name, v.t("wizard.variable"), all), all
	return l, nil
}

// variableLabel names a variable in a list of choices, with what it holds.
func variableLabel(v *view, x latchkey.Variable) string {
	s := x.DisplayName
	switch value, ok := x.Effective(); {
	case x.Secret != nil:
		s += " — " + x.Secret.Vault + "/" + x.Secret.Secret
		if x.Check != nil && x.Check.State != latchkey.CheckPassed {
			s += " (" + v.t("state."+string(x.Check.State)) + ")"
		}
	case ok:
		s += " — " + value
	}
	return s
}

// storable returns the embedded vaults in which the person may store secrets, of
// those that the environment lists.
func (v *view) storable() (all []option, err error) {
	vaults, err := v.p.b.Vaults(v.r.Context(), v.who, latchkey.PageOptions{Limit: offeredVaults})
	if err != nil {
		return nil, err
	}
	for _, e := range vaults.Items {
		if !listsVault(v.env, e.Reference()) {
			continue
		}
		access, err := v.vaultAccess(e)
		if err != nil {
			return nil, err
		}
		if access.can(latchkey.VaultObject{}, latchkey.VaultSetSecret) {
			all = append(all, option{e.Name, e.Name})
		}
	}
	return all, nil
}

// wizard answers a step: it leads to another, or makes the credential.
func (p *Pages) wizard(v *view) error {
	f := v.filled("secretValue")
	step := 1
	switch v.value("step") {
	case "2":
		step = 2
	case "3":
		step = 3
	}
	if f.Value("secretWay") != wayExisting && f.Value("secretWay") != wayStore {
		f.Values.Set("secretWay", wayNew)
	}
	switch goTo := v.value("go"); {
	case goTo == "back":
		return v.showWizard(http.StatusOK, max(step-1, 1), f, nil)
	case f.Value("by") != "", goTo == "search": // without script
		return v.showWizard(http.StatusOK, 3, f, nil)
	case goTo == "check" && step == 3:
		check, err := v.checkWizard(f)
		if err != nil {
			return err
		}
		return v.showWizard(http.StatusOK, 3, f, check)
	case step < 3:
		v.wrongInStep(&f, step)
		if len(f.Errors) > 0 {
			return v.showWizard(http.StatusUnprocessableEntity, step, f, nil)
		}
		return v.showWizard(http.StatusOK, step+1, f, nil)
	}
	return v.createByWizard(f)
}

// wrongInStep says what is wrong with the fields of one of the first two steps.
func (v *view) wrongInStep(f *form, step int) {
	n := credentialOf(*f)
	fault, ok := errors.AsType[*latchkey.Error](n.Validate())
	if !ok {
		return
	}
	for _, e := range fault.Fields {
		if slices.Contains(wizardFields[step-1], e.Field) && f.Errors[e.Field] == "" {
			f.wrong(e.Field, e.Message)
		}
	}
}

// credentialOf returns what the form asks for, but for the variables.
func credentialOf(f form) latchkey.CredentialCreate {
	n := latchkey.CredentialCreate{
		Name: strings.TrimSpace(f.Value("name")), Description: strings.TrimSpace(f.Value("description")), Store: latchkey.Store(f.Value("store")),
		Authentication: latchkey.Authentication(f.Value("authentication")), Exposure: latchkey.Exposure(f.Value("exposure")),
		Slots: map[latchkey.Slot]string{}, Variables: map[latchkey.Slot]latchkey.VariableCreate{},
	}
	for _, u := range f.Values["usages"] {
		n.Usages = append(n.Usages, latchkey.Usage(u))
	}
	return n
}

// wizardNames are which field of the form is meant by a field of the request, in
// pairs.
func wizardNames(secret latchkey.Slot) []string {
	p := string(secret)
	return []string{
		"slots.username", "user", "variables.username.displayName", "userDisplay", "variables.username.name", "userName", "variables.username.value", "userValue",
		"slots." + p, "secretVariable", "variables." + p + ".displayName", "secretDisplay", "variables." + p + ".name", "secretName",
		"variables." + p + ".secret.subscriptionId", fieldSubscription, "variables." + p + ".secret.resourceGroup", fieldGroup,
		"variables." + p + ".secret.vault", fieldVault, "variables." + p + ".secret.secret", fieldSecret, "variables." + p + ".secret", fieldSecret,
		"secret.vault", fieldVault,
	}
}

// createByWizard makes the credential with its new variables, after a new secret of
// it is stored and a new reference of it has not failed its check.
func (v *view) createByWizard(f form) error {
	n := credentialOf(f)
	slot := n.Authentication.SecretSlot()
	again := func(err error) error {
		status, err := v.refused(&f, err, wizardNames(slot)...)
		if err != nil {
			return err
		}
		return v.showWizard(status, stepOf(f), f, nil)
	}
	if f.Value("userWay") == wayExisting {
		n.Slots[latchkey.SlotUsername] = f.Value("user")
	} else {
		value := strings.TrimSpace(f.Value("userValue"))
		if value == "" {
			f.wrong("userValue", v.t("wizard.no-user"))
		}
		n.Variables[latchkey.SlotUsername] = latchkey.VariableCreate{DisplayName: strings.TrimSpace(f.Value("userDisplay")), Name: strings.TrimSpace(f.Value("userName")), Type: latchkey.TypeText, Value: &value}
	}
	ref, value := f.reference(), v.secret("secretValue")
	var into latchkey.EmbeddedVault
	switch f.Value("secretWay") {
	case wayExisting:
		n.Slots[slot] = f.Value("secretVariable")
	case wayStore:
		var err error
		if into, err = v.storeInto(f); err != nil {
			return again(err)
		}
		ref = latchkey.SecretReference{SubscriptionID: into.SubscriptionID, ResourceGroup: into.ResourceGroup, Vault: into.Name, Secret: strings.TrimSpace(f.Value("storeName"))}
		if err := latchkey.CheckSecretName(ref.Secret); err != nil {
			f.wrong("storeName", err.Error())
		}
		if err := latchkey.CheckSecretValue(value); err != nil || value.Reveal() == "" {
			f.wrong("secretValue", v.t("wizard.no-value"))
		}
		fallthrough
	default:
		n.Variables[slot] = latchkey.VariableCreate{DisplayName: strings.TrimSpace(f.Value("secretDisplay")), Name: strings.TrimSpace(f.Value("secretName")), Type: latchkey.TypeSecret, Secret: &ref}
	}
	if err := v.validateWizard(n, slot); err != nil {
		return again(err)
	}
	if len(f.Errors) > 0 {
		return v.showWizard(http.StatusUnprocessableEntity, stepOf(f), f, nil)
	}
	switch f.Value("secretWay") {
	case wayStore:
		attributes := latchkey.SecretAttributes{Enabled: true, Tags: map[string]string{}}
		if _, err := v.p.b.CreateSecret(v.r.Context(), v.who, into.Name, ref.Secret, value, attributes); err != nil {
			status, err := v.refused(&f, err, "name", "storeName", "value", "secretValue", "resource", "storeVault")
			if err != nil {
				return err
			}
			return v.showWizard(status, 3, f, nil)
		}
		// From here on it is a secret that is there.
		f.Values.Set("secretWay", wayNew)
		f.Values.Set("stored", into.Name+"/"+ref.Secret)
		f.setReference(ref)
	case wayNew:
		check, err := v.checkWizard(f)
		if err != nil {
			return err
		}
		if check.State == latchkey.CheckFailed {
			f.wrong("reference", v.t("wizard.check-failed"))
			return v.showWizard(http.StatusUnprocessableEntity, 3, f, check)
		}
	}
	c, err := v.p.b.CreateCredential(v.r.Context(), v.who, string(v.env.ID), n)
	if err != nil {
		return again(err)
	}
	return v.redirect(v.path("credentials", string(c.ID)), "credentials.created", c.Name)
}

// storeInto returns the vault that a new secret is to be stored in.
func (v *view) storeInto(f form) (latchkey.EmbeddedVault, error) {
	name := f.Value("storeVault")
	if name == "" {
		return latchkey.EmbeddedVault{}, latchkey.Invalid("storeVault", "%s", v.t("wizard.no-vault"))
	}
	e, err := v.p.b.Vault(v.r.Context(), v.who, name)
	if errors.Is(err, latchkey.ErrNotFound) {
		err = latchkey.Invalid("storeVault", "%s", v.t("wizard.no-vault"))
	}
	return e, err
}

// validateWizard returns every fault that can be found before anything is done.
func (v *view) validateWizard(n latchkey.CredentialCreate, secret latchkey.Slot) error {
	all := &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "invalid", Msg: "the request is not valid"}
	add := func(prefix string, err error) {
		if e, ok := errors.AsType[*latchkey.Error](err); ok {
			for _, f := range e.Fields {
				all.Fields = append(all.Fields, latchkey.FieldError{Field: prefix + f.Field, Message: f.Message})
			}
		}
	}
	add("", n.Validate())
	for _, slot := range []latchkey.Slot{latchkey.SlotUsername, secret} {
		if c, ok := n.Variables[slot]; ok {
			add("variables."+string(slot)+".", c.Validate(v.env.Prefix))
		}
	}
	if len(all.Fields) == 0 {
		return nil
	}
	return all
}

// stepOf returns the first step that has a fault, or the last.
func stepOf(f form) int {
	for i, fields := range wizardFields {
		for _, name := range fields {
			if f.Errors[name] != "" {
				return i + 1
			}
		}
	}
	return 3
}

// checkWizard says whether the secret that the form refers to may be read. Nothing is
// saved.
func (v *view) checkWizard(f form) (*wizardResult, error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	w := &wizardResult{shell: v.shell(v.t("wizard.check"), "credentials")}
	ref := f.reference()
	switch f.Value("secretWay") {
	case wayExisting:
		if f.Value("secretVariable") == "" {
			w.Hint = v.t("wizard.check-choose")
			return w, nil
		}
		x, err := v.p.b.Variable(ctx, v.who, env, f.Value("secretVariable"))
		if errors.Is(err, latchkey.ErrNotFound) || err == nil && x.Check == nil {
			w.Hint = v.t("wizard.check-choose")
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		w.State, w.Results = x.Check.State, x.Check.Results
		return w, nil
	case wayStore:
		e, err := v.storeInto(f)
		if err != nil || f.Value("storeName") == "" {
			w.Hint = v.t("wizard.check-fill")
			return w, nil
		}
		w.Planned = true
		ref = latchkey.SecretReference{SubscriptionID: e.SubscriptionID, ResourceGroup: e.ResourceGroup, Vault: e.Name, Secret: strings.TrimSpace(f.Value("storeName"))}
	default:
		if ref.SubscriptionID == "" || ref.ResourceGroup == "" || ref.Vault == "" || ref.Secret == "" {
			w.Hint = v.t("wizard.check-fill")
			return w, nil
		}
	}
	c, err := v.p.b.CheckReference(ctx, v.who, env, ref)
	if err != nil {
		fault := v.p.Fault(ctx, err)
		if fault.Status >= http.StatusInternalServerError || fault.Code == "not-found" {
			return nil, err
		}
		w.Fault = fault.Detail
		for _, e := range fault.Fields {
			w.Fault = e.Field + ": " + e.Message
		}
		return w, nil
	}
	w.State, w.Results = c.State, c.Results
	if w.Planned {
		w.plan(v.t("wizard.will-be-stored"), v.t("wizard.is-there"))
	}
	return w, nil
}

// plan turns the check of a secret into that of one that is to be stored: that there
// is none yet is as it should be.
func (w *wizardResult) plan(stored, there string) {
	for i, r := range w.Results {
		if r.Step != latchkey.CheckSecret {
			continue
		}
		switch r.State {
		case latchkey.CheckFailed:
			w.Results[i] = latchkey.CheckResult{Step: r.Step, State: latchkey.CheckPassed, Message: stored}
		case latchkey.CheckPassed:
			w.Results[i] = latchkey.CheckResult{Step: r.Step, State: latchkey.CheckFailed, Message: there}
		}
	}
	w.State = latchkey.Conclude(w.Results).State
}

// wizardCheck answers the form of the last step with the check alone.
func (p *Pages) wizardCheck(v *view) error {
	w, err := v.checkWizard(v.filled("secretValue"))
	if err != nil {
		return err
	}
	return v.show("wizard-check", w)
}

type wizardPart struct {
	shell
	Reference referenceForm
	List      pickList
}

// wizardVariables answers a search for a variable with the choices alone.
func (p *Pages) wizardVariables(v *view) (err error) {
	part := wizardPart{shell: v.shell(v.t("wizard.title"), "credentials")}
	slot := latchkey.SlotUsername
	if v.value("slot") == "secret" {
		slot = latchkey.SlotPassword
	}
	if part.List, err = v.pickList(slot, v.filled("secretValue")); err != nil {
		return err
	}
	return v.show("wizard-variables", part)
}

// wizardReference answers what was pasted or picked with the fields filled in.
func (p *Pages) wizardReference(v *view) error {
	f := v.filled("secretValue")
	r, err := v.referenceForm(&f, v.path("credentials", "new", "reference"))
	if err != nil {
		return err
	}
	r.Inline = true
	return v.show("reference", wizardPart{shell: v.shell(v.t("wizard.title"), "credentials"), Reference: r})
}
