package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) vaultRoutes() {
	p.signedIn("GET /vaults", p.vaultsPage)
	p.signedIn("GET /new-vault", p.newVaultPage)
	p.signedIn("POST /new-vault", p.createVault)
	p.signedIn("GET /vaults/{vault}", p.vaultPage)
	p.signedIn("GET /vaults/{vault}/deleted", p.deletedInVaultPage)
	p.signedIn("GET /vaults/{vault}/use", p.vaultUsePage)
	p.signedIn("GET /vaults/{vault}/delete", p.deleteVaultPage)
	p.signedIn("POST /vaults/{vault}/delete", p.deleteVault)

	p.signedIn("GET /vaults/{vault}/roles", p.vaultRolesPage)
	p.signedIn("GET /vaults/{vault}/new-role", p.newVaultRolePage)
	p.signedIn("POST /vaults/{vault}/new-role", p.assignVaultRole)
	p.signedIn("GET /vaults/{vault}/roles/{id}/remove", p.removeVaultRolePage)
	p.signedIn("POST /vaults/{vault}/roles/{id}/remove", p.removeVaultRole)

	p.signedIn("GET /vaults/{vault}/new-secret", p.newSecretPage)
	p.signedIn("POST /vaults/{vault}/new-secret", p.setSecret)
	p.signedIn("GET /vaults/{vault}/secrets/{name}", p.secretPage)
	p.signedIn("GET /vaults/{vault}/secrets/{name}/set", p.newVersionPage)
	p.signedIn("POST /vaults/{vault}/secrets/{name}/set", p.setSecret)
	p.signedIn("GET /vaults/{vault}/secrets/{name}/{version}/edit", p.editVersionPage)
	p.signedIn("POST /vaults/{vault}/secrets/{name}/{version}/edit", p.updateVersion)
	p.signedIn("POST /vaults/{vault}/secrets/{name}/{version}/enabled", p.enableVersion)
	p.signedIn("GET /vaults/{vault}/secrets/{name}/{version}/reveal", p.revealPage)
	p.signedIn("POST /vaults/{vault}/secrets/{name}/{version}/reveal", p.reveal)
	for _, do := range []string{"delete", "recover", "purge"} {
		p.signedIn("GET /vaults/{vault}/secrets/{name}/"+do, func(v *view) error { return p.removeObjectPage(v, latchkey.VaultSecrets, do) })
		p.signedIn("POST /vaults/{vault}/secrets/{name}/"+do, func(v *view) error { return p.removeObject(v, latchkey.VaultSecrets, do) })
		p.signedIn("GET /vaults/{vault}/certificates/{name}/"+do, func(v *view) error { return p.removeObjectPage(v, latchkey.VaultCertificates, do) })
		p.signedIn("POST /vaults/{vault}/certificates/{name}/"+do, func(v *view) error { return p.removeObject(v, latchkey.VaultCertificates, do) })
	}
	p.vaultCertificateRoutes()
}

// A vaultAccess is what somebody holds in an embedded vault.
type vaultAccess struct {
	own    []latchkey.RoleAssignment
	keeper bool // may see and change the roles of others
}

// vaultAccess returns what the person holds in a vault, for the choice of what is
// offered. Nothing is recorded.
func (v *view) vaultAccess(e latchkey.EmbeddedVault) (a vaultAccess, err error) {
	if a.own, err = v.p.b.OwnVaultRoles(v.r.Context(), v.who, e.Name); err != nil {
		return a, err
	}
	a.keeper = v.me.TenantAdmin || slices.ContainsFunc(a.own, func(r latchkey.RoleAssignment) bool {
		return r.Role == latchkey.VaultAdministrator && r.Object() == latchkey.VaultObject{}
	})
	return a, nil
}

// can reports whether the person may do something with an object, or with the vault.
func (a vaultAccess) can(o latchkey.VaultObject, action latchkey.VaultAction) bool {
	return slices.ContainsFunc(a.own, func(r latchkey.RoleAssignment) bool {
		on := r.Object()
		return r.Role.Allows(action) && (on == latchkey.VaultObject{} || on.In == o.In && strings.EqualFold(on.Name, o.Name))
	})
}

// onSecret is can for a secret.
func (a vaultAccess) onSecret(name string, action latchkey.VaultAction) bool {
	return a.can(latchkey.VaultObject{In: latchkey.VaultSecrets, Name: name}, action)
}

func (a vaultAccess) onCertificate(name string, action latchkey.VaultAction) bool {
	return a.can(latchkey.VaultObject{In: latchkey.VaultCertificates, Name: name}, action)
}

// A vaultShell is around the pages about one vault.
type vaultShell struct {
	shell
	Crumbs []option
	Vault  latchkey.EmbeddedVault
	Base   string // address of the vault
	Tab    string
	Roles  []latchkey.RoleAssignment // the person's own
	May    struct {
		List, Set, Certificates, Create, Import, Keep, Delete bool
	}
	access vaultAccess
	now    time.Time
}

// At returns an address below the vault's.
func (s vaultShell) At(segments ...string) string { return joinPath(s.Base, segments...) }

// vaultShell is for a page about the vault that the address names.
func (v *view) vaultShell(title, tab string) (s vaultShell, err error) {
	e, err := v.p.b.Vault(v.r.Context(), v.who, v.r.PathValue("vault"))
	if err != nil {
		return s, err
	}
	a, err := v.vaultAccess(e)
	if err != nil {
		return s, err
	}
	s = vaultShell{shell: v.shell(cmp.Or(title, e.Name), "vaults"), Vault: e, Base: joinPath("/vaults", e.Name), Tab: tab, Roles: a.own, access: a, now: v.p.Now()}
	s.Crumbs = []option{{"/vaults", v.t("vaults.title")}}
	if title != "" || tab != "" && tab != "secrets" {
		s.Crumbs = append(s.Crumbs, option{s.Base, e.Name})
	}
	whole := latchkey.VaultObject{}
	s.May.List, s.May.Set = a.can(whole, latchkey.VaultReadMetadata), a.can(whole, latchkey.VaultSetSecret)
	s.May.Certificates, s.May.Create = a.can(whole, latchkey.VaultReadCertificate), a.can(whole, latchkey.VaultCreateCertificate)
	s.May.Import, s.May.Keep, s.May.Delete = a.can(whole, latchkey.VaultImportCertificate), a.keeper, v.may(latchkey.ActVaultDelete)
	return s, nil
}

type vaultsPage struct {
	shell
	List *list
	Rows []latchkey.EmbeddedVault
	May  struct{ Create bool }
}

// vaultsPage lists the embedded vaults that one may see.
func (p *Pages) vaultsPage(v *view) error {
	page := vaultsPage{shell: v.shell(v.t("vaults.title"), "vaults")}
	page.List = v.list("vaults", []column{{Key: "name", Sort: "name"}, {Key: "url"}, {Key: "retention", Number: true}, {Key: "created"}})
	rows, err := p.b.Vaults(v.r.Context(), v.who, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActVaultCreate)
	return v.show("vaults", page)
}

type vaultForm struct {
	shell
	Crumbs []option
	Form   form
}

func (p *Pages) newVaultPage(v *view) error { return v.showVaultForm(http.StatusOK, form{}) }

func (v *view) showVaultForm(status int, f form) error {
	f.set("resourceGroup", latchkey.DefaultResourceGroup)
	f.set("retentionDays", strconv.Itoa(latchkey.DefaultRetentionDays))
	return v.showWith(status, "vault-new", vaultForm{v.shell(v.t("vaults.new"), "vaults"), []option{{"/vaults", v.t("vaults.title")}}, f})
}

// createVault makes an embedded vault.
func (p *Pages) createVault(v *view) error {
	days, err := strconv.Atoi(v.value("retentionDays"))
	f := v.filled()
	if err != nil {
		f.wrong("retentionDays", v.t("vaults.retention-wrong"))
		return v.showVaultForm(http.StatusUnprocessableEntity, f)
	}
	e, err := p.b.CreateVault(v.r.Context(), v.who, latchkey.EmbeddedVaultCreate{
		Name: v.value("name"), SubscriptionID: v.value("subscriptionId"), ResourceGroup: v.value("resourceGroup"), RetentionDays: days,
	})
	if err != nil {
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showVaultForm(status, f)
	}
	return v.redirect(joinPath("/vaults", e.Name), "vaults.made", e.Name)
}

type vaultPage struct {
	vaultShell
	List    *list
	Rows    []latchkey.VaultSecret
	Objects []option // addresses of what the person has a role on, when it is not the vault
}

// vaultPage shows a vault and the secrets in it.
func (p *Pages) vaultPage(v *view) error {
	s, err := v.vaultShell("", "secrets")
	if err != nil {
		return err
	}
	page := vaultPage{vaultShell: s, List: v.list("vault-secrets", []column{
		{Key: "name"}, {Key: "state"}, {Key: "content-type"}, {Key: "expires"}, {Key: "modified"}, {Key: "version", Hidden: true},
	})}
	if !s.May.List {
		for _, r := range s.Roles {
			if o := r.Object(); (o.In == latchkey.VaultSecrets && r.Role.Allows(latchkey.VaultReadMetadata)) ||
				(o.In == latchkey.VaultCertificates && r.Role.Allows(latchkey.VaultReadCertificate)) {
				page.Objects = append(page.Objects, option{s.At(string(o.In), o.Name), o.Name})
			}
		}
		return v.show("vault", page)
	}
	rows, err := p.b.Secrets(v.r.Context(), v.who, s.Vault.Name, latchkey.PageOptions{After: page.List.after, Limit: rowsOfPage})
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("vault", page)
}

// versionState returns the state of a version, as the texts name it.
func versionState(enabled bool, expires *time.Time, now time.Time) string {
	switch {
	case !enabled:
		return "disabled"
	case expires != nil && !expires.After(now):
		return "expired"
	}
	return "enabled"
}

// State returns the state of a version for templates.
func (s vaultShell) State(x latchkey.VaultSecret) string {
	return versionState(x.Enabled, x.Expires, s.now)
}

type deletedInVault struct {
	vaultShell
	List         *list
	Secrets      []latchkey.VaultSecret
	Certificates []latchkey.VaultCertificate
	// By the address, since deciding is by name.
	Recover, Purge map[string]bool
}

// deletedInVaultPage shows what of a vault is deleted and can be recovered.
func (p *Pages) deletedInVaultPage(v *view) error {
	s, err := v.vaultShell("", "deleted")
	if err != nil {
		return err
	}
	page := deletedInVault{vaultShell: s, List: v.list("vault-deleted", []column{{Key: "name"}}), Recover: map[string]bool{}, Purge: map[string]bool{}}
	ctx, options := v.r.Context(), latchkey.PageOptions{Limit: latchkey.MaxPage}
	if s.May.List {
		secrets, err := p.b.DeletedSecrets(ctx, v.who, s.Vault.Name, options)
		if err != nil {
			return err
		}
		page.Secrets = slices.DeleteFunc(secrets.Items, func(x latchkey.VaultSecret) bool { return x.Managed }) // they go with their certificates
		for _, x := range page.Secrets {
			page.Recover["secrets/"+x.Name] = s.access.onSecret(x.Name, latchkey.VaultRecoverSecret)
			page.Purge["secrets/"+x.Name] = s.access.onSecret(x.Name, latchkey.VaultPurgeSecret)
		}
	}
	if s.May.Certificates {
		certificates, err := p.b.Certificates(ctx, v.who, s.Vault.Name, broker.CertificateList{Deleted: true}, options)
		if err != nil {
			return err
		}
		page.Certificates = certificates.Items
		for _, x := range page.Certificates {
			page.Recover["certificates/"+x.Name] = s.access.onCertificate(x.Name, latchkey.VaultRecoverCertificate)
			page.Purge["certificates/"+x.Name] = s.access.onCertificate(x.Name, latchkey.VaultPurgeCertificate)
		}
	}
	return v.show("vault-deleted", page)
}

// vaultUsePage says how programs reach a vault.
func (p *Pages) vaultUsePage(v *view) error {
	s, err := v.vaultShell("", "use")
	if err != nil {
		return err
	}
	return v.show("vault-use", struct {
		vaultShell
		Server string
	}{s, p.PublicURL()})
}

type vaultConfirm struct {
	vaultShell
	Form   form
	Name   string // of what it is about
	Text   string // key of what happens
	Button string // key of the command
	Danger bool
	Action string
	Uses   []latchkey.SecretUse
}

func (p *Pages) deleteVaultPage(v *view) error { return v.confirmDeleteVault(http.StatusOK, form{}) }

func (v *view) confirmDeleteVault(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.delete-of", v.r.PathValue("vault")), "")
	if err != nil {
		return err
	}
	return v.showWith(status, "vault-confirm", vaultConfirm{vaultShell: s, Form: f, Name: s.Vault.Name, Text: "vaults.delete-about", Button: "vaults.delete", Danger: true, Action: s.At("delete")})
}

// deleteVault deletes a vault that nothing is in and nothing refers to.
func (p *Pages) deleteVault(v *view) error {
	name := v.r.PathValue("vault")
	if err := p.b.DeleteVault(v.r.Context(), v.who, name); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.confirmDeleteVault(status, f)
	}
	return v.redirect("/vaults", "vaults.deleted", name)
}

type vaultRolesPage struct {
	vaultShell
	List *list
	Rows []latchkey.RoleAssignment
}

// vaultRolesPage shows who has which role in a vault: everybody's to those who keep
// them, and to others their own.
func (p *Pages) vaultRolesPage(v *view) error {
	s, err := v.vaultShell("", "roles")
	if err != nil {
		return err
	}
	page := vaultRolesPage{vaultShell: s, Rows: s.Roles, List: v.list("vault-roles", []column{{Key: "principal"}, {Key: "role"}, {Key: "scope"}, {Key: "since"}, {Key: "remove"}})}
	if s.May.Keep {
		rows, err := p.b.RoleAssignments(v.r.Context(), v.who, s.Vault.Name, latchkey.PageOptions{After: page.List.after, Limit: rowsOfPage})
		if err != nil {
			return err
		}
		page.Rows = rows.Items
		page.List.more(rows.Next)
	}
	return v.show("vault-roles", page)
}

type vaultRoleForm struct {
	vaultShell
	Form   form
	Roles  []option
	Scopes []option
	Known  []latchkey.DirectoryEntry // to choose from
}

func (p *Pages) newVaultRolePage(v *view) error {
	f := v.filled()
	f.set("role", string(latchkey.VaultSecretsUser))
	return v.showVaultRoleForm(http.StatusOK, f)
}

// offeredPrincipals is how many principals a form offers to choose from.
const offeredPrincipals = 100

func (v *view) showVaultRoleForm(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.assign"), "")
	if err != nil {
		return err
	}
	page := vaultRoleForm{vaultShell: s, Form: f}
	for _, r := range latchkey.VaultRoles {
		page.Roles = append(page.Roles, option{string(r), string(r)})
	}
	page.Scopes = options("vault", v.t("vaults.scope-vault"), "secret", v.t("vaults.scope-secret"), "certificate", v.t("vaults.scope-certificate"), "key", v.t("vaults.scope-key"))
	if v.env.ID != "" {
		known, err := v.p.b.Directory(v.r.Context(), v.who, string(v.env.ID), "", latchkey.PageOptions{Limit: offeredPrincipals})
		if err != nil {
			return err
		}
		page.Known = known.Items
	}
	return v.showWith(status, "vault-role", page)
}

// assignVaultRole gives a principal a role in a vault or on an object in it.
func (p *Pages) assignVaultRole(v *view) error {
	f := v.filled()
	c := latchkey.RoleAssignmentCreate{Principal: latchkey.PrincipalID(v.value("principal")), Role: latchkey.VaultRole(v.value("role"))}
	name := v.value("object")
	switch v.value("scope") {
	case "secret":
		c.Secret = name
	case "certificate":
		c.Certificate = name
	case "key":
		c.Key = name
	}
	if scope := v.value("scope"); scope != "" && scope != "vault" && name == "" {
		f.wrong("object", v.t("vaults.object-missing"))
		return v.showVaultRoleForm(http.StatusUnprocessableEntity, f)
	}
	a, err := p.b.AssignRole(v.r.Context(), v.who, v.r.PathValue("vault"), c)
	if err != nil {
		status, err := v.refused(&f, err, "secret", "object", "certificate", "object", "key", "object")
		if err != nil {
			return err
		}
		return v.showVaultRoleForm(status, f)
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "roles"), "vaults.assigned", a.PrincipalName, string(a.Role))
}

func (p *Pages) removeVaultRolePage(v *view) error {
	return v.confirmRemoveRole(http.StatusOK, form{})
}

func (v *view) confirmRemoveRole(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.remove-role"), "")
	if err != nil {
		return err
	}
	if !s.May.Keep {
		return latchkey.NotFound(latchkey.KindRole)
	}
	a, err := v.roleAssignment(s, latchkey.RoleAssignmentID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	scope := v.t("vaults.scope-vault")
	if o := a.Object(); o.Name != "" {
		scope = o.String()
	}
	return v.showWith(status, "vault-confirm", vaultConfirm{
		vaultShell: s, Form: f, Name: v.t("vaults.role-of", a.PrincipalName, string(a.Role), scope), Text: "vaults.remove-role-about", Button: "vaults.remove-role", Danger: true,
		Action: s.At("roles", string(a.ID), "remove"),
	})
}

// maxWalk bounds how many pages of a list are walked through for one of ours.
const maxWalk = 20

// roleAssignment returns a role assignment of a vault.
func (v *view) roleAssignment(s vaultShell, id latchkey.RoleAssignmentID) (latchkey.RoleAssignment, error) {
	after := ""
	for range maxWalk {
		rows, err := v.p.b.RoleAssignments(v.r.Context(), v.who, s.Vault.Name, latchkey.PageOptions{After: after, Limit: latchkey.MaxPage})
		if err != nil {
			return latchkey.RoleAssignment{}, err
		}
		for _, a := range rows.Items {
			if a.ID == id {
				return a, nil
			}
		}
		if after = rows.Next; after == "" {
			break
		}
	}
	return latchkey.RoleAssignment{}, latchkey.NotFound(latchkey.KindRole)
}

// removeVaultRole takes a role assignment away.
func (p *Pages) removeVaultRole(v *view) error {
	err := p.b.RemoveRole(v.r.Context(), v.who, v.r.PathValue("vault"), latchkey.RoleAssignmentID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	to := joinPath("/vaults", v.r.PathValue("vault"), "roles")
	if _, err := p.b.Vault(v.r.Context(), v.who, v.r.PathValue("vault")); errors.Is(err, latchkey.ErrNotFound) {
		to = "/vaults" // it was the last role of one's own
	}
	return v.redirect(to, "vaults.role-removed")
}

type secretForm struct {
	vaultShell
	Form    form
	Name    string // of a secret that there is
	Version string // of a version whose attributes are changed
	Action  string
}

func (p *Pages) newSecretPage(v *view) error {
	f := v.filled()
	f.Values.Del("value") // a value in an address would be in the browser's history
	return v.showSecretForm(http.StatusOK, f)
}

func (p *Pages) newVersionPage(v *view) error { return v.showSecretForm(http.StatusOK, form{}) }

func (v *view) showSecretForm(status int, f form) error {
	name := v.r.PathValue("name")
	title := v.t("vaults.new-secret")
	if name != "" {
		title = v.t("vaults.new-version-of", name)
	}
	s, err := v.vaultShell(title, "")
	if err != nil {
		return err
	}
	page := secretForm{vaultShell: s, Form: f, Name: name, Action: s.At("new-secret")}
	if name != "" {
		page.Action = s.At("secrets", name, "set")
		page.Crumbs = append(page.Crumbs, option{s.At("secrets", name), name})
	}
	return v.showWith(status, "vault-secret-set", page)
}

// setSecret stores a new secret, or a new version of one.
func (p *Pages) setSecret(v *view) error {
	f := v.filled("value")
	name := cmp.Or(v.r.PathValue("name"), v.value("name"))
	a := latchkey.SecretAttributes{ContentType: v.value("contentType"), Enabled: true, NotBefore: v.moment(&f, "notBefore"), Expires: v.moment(&f, "expires"), Tags: v.tags(&f)}
	err := latchkey.CheckSecretName(name)
	if err != nil {
		f.wrong("name", err.Error())
	}
	if v.r.PathValue("name") == "" && err == nil && len(f.Errors) == 0 {
		// A secret of this name gets a new version only by intent.
		switch taken, err := v.secretTaken(name); {
		case err != nil:
			return err
		case taken:
			f.wrong("name", v.t("vaults.secret-taken"))
		}
	}
	if len(f.Errors) > 0 {
		return v.showSecretForm(http.StatusUnprocessableEntity, f)
	}
	if _, err := p.b.SetSecret(v.r.Context(), v.who, v.r.PathValue("vault"), name, v.secret("value"), a); err != nil {
		status, err := v.refused(&f, err, "attributes.exp", "expires")
		if err != nil {
			return err
		}
		return v.showSecretForm(status, f)
	}
	said := "vaults.secret-made"
	if v.r.PathValue("name") != "" {
		said = "vaults.version-made"
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "secrets", name), said, name)
}

// secretTaken reports whether there is a secret of a name, as far as the person may
// see that.
func (v *view) secretTaken(name string) (bool, error) {
	s, err := v.vaultShell("", "")
	if err != nil || !s.access.onSecret(name, latchkey.VaultReadMetadata) {
		return false, err
	}
	versions, err := v.p.b.SecretVersions(v.r.Context(), v.who, s.Vault.Name, name, latchkey.PageOptions{Limit: 1})
	return len(versions.Items) > 0, err
}

// momentForm is how a browser writes a time that was chosen. It is UTC here.
const momentForm = "2006-01-02T15:04"

// moment returns a time in the form, or nil.
func (v *view) moment(f *form, name string) *time.Time {
	text := v.value(name)
	if text == "" {
		return nil
	}
	t, err := time.Parse(momentForm, text[:min(len(text), len(momentForm))])
	if err != nil {
		f.wrong(name, v.t("vaults.moment-wrong"))
		return nil
	}
	return &t
}

// tags returns the tags in the form: name=value, one in a line.
func (v *view) tags(f *form) map[string]string {
	tags := map[string]string{}
	for line := range strings.SplitSeq(v.text("tags"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			f.wrong("tags", v.t("vaults.tags-wrong"))
			return tags
		}
		tags[name] = strings.TrimSpace(value)
	}
	return tags
}

// tagLines is what tags reads.
func tagLines(tags map[string]string) string {
	var lines []string
	for name, value := range tags {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

type secretPage struct {
	vaultShell
	Name     string
	Now      latchkey.VaultSecret
	Versions []latchkey.VaultSecret // newest first
	Hidden   int                    // older ones
	Tags     string
	ARMID    string
	Uses     []latchkey.SecretUse
	Can      struct{ Set, Update, Delete, Reveal bool }
}

// versionsShown is how many versions of an object are shown.
const versionsShown = 50

// newest walks to the end of a list that begins with the oldest. It returns the last
// items, newest first, and how many came before.
func newest[T any](ctx context.Context, list func(context.Context, latchkey.PageOptions) (latchkey.Page[T], error)) (last []T, before int, err error) {
	after := ""
	for range maxWalk {
		page, err := list(ctx, latchkey.PageOptions{After: after, Limit: latchkey.MaxPage})
		if err != nil {
			return nil, 0, err
		}
		last = append(last, page.Items...)
		if extra := len(last) - versionsShown; extra > 0 {
			last, before = last[extra:], before+extra
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.Reverse(last)
	return last, before, nil
}

// secretPage shows a secret: its versions and what refers to it, never a value.
func (p *Pages) secretPage(v *view) error {
	name := v.r.PathValue("name")
	s, err := v.vaultShell(name, "")
	if err != nil {
		return err
	}
	page := secretPage{vaultShell: s, Name: name}
	if !s.access.onSecret(name, latchkey.VaultReadMetadata) {
		return &latchkey.Error{Kind: latchkey.ErrNotFound, Code: "not-found", Msg: v.t("vaults.secret-hidden")}
	}
	page.Versions, page.Hidden, err = newest(v.r.Context(), func(ctx context.Context, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
		return p.b.SecretVersions(ctx, v.who, s.Vault.Name, name, o)
	})
	if err != nil {
		return err
	}
	if len(page.Versions) == 0 {
		return latchkey.NotFound(latchkey.KindVaultSecret)
	}
	page.Now = page.Versions[0]
	page.Tags, page.ARMID = tagLines(page.Now.Tags), s.Vault.ARMID+"/secrets/"+page.Now.Name
	if page.Uses, err = p.b.SecretUses(v.r.Context(), v.who, s.Vault.Name, name); err != nil {
		return err
	}
	page.Uses = ofVault(page.Uses, s.Vault)
	page.Can.Reveal = s.access.onSecret(name, latchkey.VaultGetSecret)
	if !page.Now.Managed {
		page.Can.Set, page.Can.Update = s.access.onSecret(name, latchkey.VaultSetSecret), s.access.onSecret(name, latchkey.VaultUpdateSecret)
		page.Can.Delete = s.access.onSecret(name, latchkey.VaultDeleteSecret)
	}
	return v.show("vault-secret", page)
}

// ofVault returns the uses of one vault's secrets, of those of every vault of its name.
func ofVault(uses []latchkey.SecretUse, e latchkey.EmbeddedVault) []latchkey.SecretUse {
	return slices.DeleteFunc(uses, func(u latchkey.SecretUse) bool { return u.Reference.VaultRef().Key() != e.Reference().Key() })
}

// version returns the version that the address names, of a secret whose metadata the
// person may read.
func (v *view) version(s vaultShell) (x latchkey.VaultSecret, err error) {
	name, version := v.r.PathValue("name"), strings.ToLower(v.r.PathValue("version"))
	missing := latchkey.NotFound(latchkey.KindVaultSecret)
	if !s.access.onSecret(name, latchkey.VaultReadMetadata) {
		return x, missing
	}
	after := ""
	for range maxWalk {
		page, err := v.p.b.SecretVersions(v.r.Context(), v.who, s.Vault.Name, name, latchkey.PageOptions{After: after, Limit: latchkey.MaxPage})
		if err != nil {
			return x, err
		}
		for _, x := range page.Items {
			if x.Version == version {
				return x, nil
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	return x, missing
}

func (p *Pages) editVersionPage(v *view) error { return v.showVersionForm(http.StatusOK, form{}) }

func (v *view) showVersionForm(status int, f form) error {
	name := v.r.PathValue("name")
	s, err := v.vaultShell(v.t("vaults.attributes-of", name), "")
	if err != nil {
		return err
	}
	x, err := v.version(s)
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		f.set("contentType", x.ContentType)
		f.set("tags", tagLines(x.Tags))
		for field, t := range map[string]*time.Time{"notBefore": x.NotBefore, "expires": x.Expires} {
			if t != nil {
				f.set(field, t.UTC().Format(momentForm))
			}
		}
	}
	page := secretForm{vaultShell: s, Form: f, Name: name, Version: x.Version, Action: s.At("secrets", name, x.Version, "edit")}
	page.Crumbs = append(page.Crumbs, option{s.At("secrets", name), name})
	return v.showWith(status, "vault-secret-edit", page)
}

// updateVersion changes the attributes of a version.
func (p *Pages) updateVersion(v *view) error {
	f := v.filled()
	name, version := v.r.PathValue("name"), v.r.PathValue("version")
	u := broker.SecretUpdate{ContentType: new(v.value("contentType")), NotBefore: v.moment(&f, "notBefore"), Expires: v.moment(&f, "expires"), Tags: new(v.tags(&f))}
	if len(f.Errors) == 0 {
		s, err := v.vaultShell("", "")
		if err != nil {
			return err
		}
		x, err := v.version(s)
		if err != nil {
			return err
		}
		// As in Azure, a time that is set can be moved, and not be taken away.
		for field, was := range map[string]*time.Time{"notBefore": x.NotBefore, "expires": x.Expires} {
			if was != nil && v.value(field) == "" {
				f.wrong(field, v.t("vaults.moment-stays"))
			}
		}
	}
	if len(f.Errors) > 0 {
		return v.showVersionForm(http.StatusUnprocessableEntity, f)
	}
	if _, err := p.b.UpdateSecret(v.r.Context(), v.who, v.r.PathValue("vault"), name, version, u); err != nil {
		status, err := v.refused(&f, err, "attributes.exp", "expires")
		if err != nil {
			return err
		}
		return v.showVersionForm(status, f)
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "secrets", name), "vaults.version-saved")
}

// enableVersion enables or disables a version.
func (p *Pages) enableVersion(v *view) error {
	enabled := v.value("enabled") == "true"
	name := v.r.PathValue("name")
	if _, err := p.b.UpdateSecret(v.r.Context(), v.who, v.r.PathValue("vault"), name, v.r.PathValue("version"), broker.SecretUpdate{Enabled: &enabled}); err != nil {
		return err
	}
	said := "vaults.version-disabled"
	if enabled {
		said = "vaults.version-enabled"
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "secrets", name), said)
}

type revealPage struct {
	vaultShell
	Name, Version, Action string
	Value                 latchkey.Secret
	Shown                 bool
}

// ValueText is the value, once it is shown.
func (p revealPage) ValueText() string { return p.Value.Reveal() }

// revealPage asks whether a value shall be shown.
func (p *Pages) revealPage(v *view) error { return v.showReveal(latchkey.Secret{}, "") }

func (v *view) showReveal(value latchkey.Secret, version string) error {
	name := v.r.PathValue("name")
	s, err := v.vaultShell(v.t("vaults.reveal-of", name), "")
	if err != nil {
		return err
	}
	if !s.access.onSecret(name, latchkey.VaultGetSecret) {
		return latchkey.NotFound(latchkey.KindVaultSecret)
	}
	page := revealPage{vaultShell: s, Name: name, Version: cmp.Or(version, v.r.PathValue("version")), Value: value, Shown: version != ""}
	page.Action = s.At("secrets", name, page.Version, "reveal")
	page.Crumbs = append(page.Crumbs, option{s.At("secrets", name), name})
	return v.show("vault-reveal", page)
}

// reveal shows the value of a version, once; that is on record before. The answer is
// not kept by browsers, as no page is (no-store).
func (p *Pages) reveal(v *view) error {
	x, value, err := p.b.Secret(v.r.Context(), v.who, v.r.PathValue("vault"), v.r.PathValue("name"), v.r.PathValue("version"))
	if err != nil {
		return err
	}
	return v.showReveal(value, x.Version)
}

// removeObjectPage asks whether a secret or certificate shall be deleted, recovered or
// purged, and says what depends on it.
func (p *Pages) removeObjectPage(v *view, in latchkey.VaultCollection, do string) error {
	return v.confirmRemove(http.StatusOK, form{}, in, do)
}

func (v *view) confirmRemove(status int, f form, in latchkey.VaultCollection, do string) error {
	name := v.r.PathValue("name")
	kind := strings.TrimSuffix(string(in), "s")
	s, err := v.vaultShell(v.t("vaults."+do+"-of", name), "")
	if err != nil {
		return err
	}
	page := vaultConfirm{vaultShell: s, Form: f, Name: name, Text: "vaults." + do + "-" + kind, Button: "vaults." + do, Danger: do != "recover", Action: s.At(string(in), name, do)}
	if do == "delete" {
		uses, err := v.p.b.SecretUses(v.r.Context(), v.who, s.Vault.Name, name)
		if err != nil {
			return err
		}
		page.Uses = ofVault(uses, s.Vault)
	}
	return v.showWith(status, "vault-confirm", page)
}

// removeObject deletes, recovers or purges a secret or certificate.
func (p *Pages) removeObject(v *view, in latchkey.VaultCollection, do string) (err error) {
	ctx, vault, name := v.r.Context(), v.r.PathValue("vault"), v.r.PathValue("name")
	to := joinPath("/vaults", vault)
	switch {
	case in == latchkey.VaultSecrets && do == "delete":
		_, err = p.b.DeleteSecret(ctx, v.who, vault, name)
	case in == latchkey.VaultSecrets && do == "recover":
		_, err = p.b.RecoverSecret(ctx, v.who, vault, name)
		to = joinPath(to, "secrets", name)
	case in == latchkey.VaultSecrets:
		err = p.b.PurgeSecret(ctx, v.who, vault, name)
		to = joinPath(to, "deleted")
	case do == "delete":
		_, err = p.b.DeleteCertificate(ctx, v.who, vault, name)
		to = joinPath(to, "certificates")
	case do == "recover":
		_, err = p.b.RecoverCertificate(ctx, v.who, vault, name)
		to = joinPath(to, "certificates", name)
	default:
		err = p.b.PurgeCertificate(ctx, v.who, vault, name)
		to = joinPath(to, "deleted")
	}
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.confirmRemove(status, f, in, do)
	}
	return v.redirect(to, fmt.Sprintf("vaults.done-%s", do), name)
}
