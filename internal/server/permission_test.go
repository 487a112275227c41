package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }

// What an operation answers, as far as permissions go.
const (
	yes    = "yes"     // it was decided in favour: it is done, or fails for another reason
	no     = "no"      // refused, on record
	hidden = "-"       // as if there were none
	unsent = ""        // the column has no such request
	signIn = "sign in" // it takes a token, or a machine's session
)

// A column is somebody who asks, with what they hold.
type column struct {
	name    string
	env     string // in whose paths they ask; "" is the chain's
	access  latchkey.Access
	guess   bool // ids are made up
	caller  latchkey.Caller
	token   string
	ownsRun bool
}

// A permitted is an operation with what decides about it.
type permitted struct {
	id     string          // operationId, and after a space what tells several cases of one apart
	kind   latchkey.Kind   // of the thing that it acts on; "" for none
	action latchkey.Action // "" for what everybody may who sees the thing
	query  string
	body   string                             // %d is a number that is new each time
	before func(w *permissions, t testing.TB) // makes what the request takes away
	expect func(c *column) string             // in place of the table
	guess  bool                               // of no thing whose id could be made up
}

// permissions are a service with a thing of each kind, and people with each role.
type permissions struct {
	*latchkeytest.Chain
	handler http.Handler
	paths   map[string]string // operationId → method and path
	columns []*column
	ids     map[string]string // beginning of a path's rest, such as credentials → the id there
	n       int
}

func newPermissions(t *testing.T, url string) *permissions {
	t.Helper()
	ctx := t.Context()
	c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
	w := &permissions{Chain: c, handler: c.Handler(t), paths: map[string]string{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Broker.CreateEnvironment(ctx, c.Admin, latchkey.EnvironmentCreate{Name: "elsewhere"})
	must(err)
	env := func(r ...latchkey.EnvironmentRole) []latchkey.EnvironmentRole { return r }
	user := env(latchkey.EnvUser)
	w.columns = []*column{
		{name: "env-admin", access: latchkey.Access{Environment: env(latchkey.EnvAdmin)}},
		{name: "maker", access: latchkey.Access{Environment: env(latchkey.EnvMaker)}},
		{name: "auditor", access: latchkey.Access{Environment: env(latchkey.EnvAuditor)}},
		{name: "member", access: latchkey.Access{Environment: user}},
		{name: "owner", access: latchkey.Access{Environment: user, Role: latchkey.RoleOwner}, ownsRun: true},
		{name: "co-owner", access: latchkey.Access{Environment: user, Role: latchkey.RoleCoOwner}},
		{name: "user-share", access: latchkey.Access{Environment: user, Role: latchkey.RoleUserShare}},
		{name: "user", access: latchkey.Access{Environment: user, Role: latchkey.RoleUser}},
		{name: "tenant", access: latchkey.Access{Tenant: true}},
		{name: "stranger"},
		{name: "admin-else"},
		{name: "former"}, // has grants and no role in the environment
		{name: "anonymous"},
	}
	byName := map[string]*column{}
	for _, col := range w.columns {
		byName[col.name] = col
		if col.name == "anonymous" {
			continue
		}
		u, err := c.Broker.CreateUser(ctx, c.Admin, latchkey.UserCreate{Login: col.name, TenantAdmin: col.access.Tenant})
		must(err)
		col.caller = latchkey.Caller{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.Login}
		token, err := c.Broker.CreateToken(ctx, col.caller, latchkey.TokenCreate{Name: "test"})
		must(err)
		col.token = token.Value
		for _, role := range col.access.Environment {
			must(c.Broker.SetMember(ctx, c.Admin, c.Env, u.Login, role))
		}
	}
	owner := byName["owner"]
	must(c.Broker.SetMember(ctx, c.Admin, "elsewhere", "admin-else", latchkey.EnvAdmin))
	must(c.Broker.SetMember(ctx, c.Admin, "elsewhere", "owner", latchkey.EnvUser))
	w.columns = append(w.columns,
		&column{name: "owner:else", env: "elsewhere", access: latchkey.Access{Environment: user}, caller: owner.caller, token: owner.token},
		&column{name: "admin:guess", guess: true, access: byName["env-admin"].access, caller: byName["env-admin"].caller, token: byName["env-admin"].token})

	for _, login := range []string{"spare", "other"} {
		_ = c.User(t, login, c.Env, latchkey.EnvUser)
	}
	gone := w.variable(t, "Gone")
	robots, err := c.Broker.CreateMachineGroup(ctx, c.Admin, c.Env, latchkey.MachineGroupCreate{Name: "robots"})
	must(err)
	spareMachine := c.Service.Machine(t, c.Env, "bot2")
	// A connection holds the group, so that it is not deleted.
	_, err = c.Broker.CreateConnection(ctx, c.Admin, c.Env, latchkey.ConnectionCreate{
		Name: "on robots", Target: latchkey.Target{MachineGroup: robots.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
	})
	must(err)
	h, err := c.Broker.HandOver(ctx, c.Admin, c.Env, latchkey.HandOver{From: string(c.Admin.ID), To: "owner"})
	must(err)
	if len(h.Things) != 10 || len(h.Left) > 0 {
		t.Fatalf("handed over: %+v; want all 10 things", h)
	}
	e, err := c.Broker.Environment(ctx, c.Admin, c.Env)
	must(err)
	must(c.DB.Update(ctx, func(tx *db.Tx) error {
		for _, name := range []string{"co-owner", "user-share", "user", "former"} {
			role := byName[name].access.Role
			if name == "former" {
				role = latchkey.RoleCoOwner
			}
			for _, thing := range h.Things {
				// Also of the connection, which people are not given: the table has it.
				if err := tx.SetGrant(e.ID, thing.Kind, thing.ID, byName[name].caller.ID, role, "", owner.caller.ID); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	// A test and a run hold the connection and the flow, so that they are not deleted.
	_, err = c.Broker.TestConnection(ctx, owner.caller, c.Env, c.Connection.ID, false, 0)
	must(err)
	ended, err := c.Broker.StartRun(ctx, owner.caller, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
	must(err)
	_, err = c.Broker.CancelRun(ctx, owner.caller, c.Env, ended.ID)
	must(err)
	_, err = c.Broker.StartRun(ctx, owner.caller, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
	must(err)
	// What is deleted has a name that is taken again, so that it is not restored.
	must(c.Broker.DeleteVariable(ctx, c.Admin, c.Env, string(gone.ID), latchkey.Force{}))
	w.variable(t, "Gone")
	g, err := c.Broker.CreateGroup(ctx, c.Admin, latchkey.GroupCreate{Name: "staff"})
	must(err)
	w.ids = map[string]string{
		"variables": string(c.Password.ID), "credentials": string(c.Credential.ID), "machines": string(c.Machine.ID), "machine-groups": string(robots.ID), "members": string(spareMachine.ID), "connections": string(c.Connection.ID),
		"flows": string(c.Flow.ID), "runs": string(ended.ID), "deleted": string(gone.ID), "users": "other", "certificate-accounts": "bot@example.org", "groups": string(g.ID), "vaults": c.Vault.Name,
	}
	w.program(t)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(w.send(t, t.Context(), "GET", "/openapi.json", "", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			w.paths[o.OperationID] = strings.ToUpper(method) + " " + path
		}
	}
	return w
}

func (w *permissions) variable(t testing.TB, name string) latchkey.Variable {
	t.Helper()
	text := "x"
	v, err := w.Broker.CreateVariable(t.Context(), w.Admin, w.Env, latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeText, Value: &text})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// send sends a request as who holds a token, "" for nobody.
func (w *permissions) send(t testing.TB, ctx context.Context, method, path, body, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a := httptest.NewRecorder()
	w.handler.ServeHTTP(a, r)
	return a
}

// request returns the method, the path and the body of an operation, in the paths
// of an environment, and whether there is an id in it. With guess ids are made up.
func (w *permissions) request(t testing.TB, o permitted, env string, guess bool) (method, path, body string, named bool) {
	t.Helper()
	id, _, _ := strings.Cut(o.id, " ")
	method, path, ok := strings.Cut(w.paths[id], " ")
	if !ok {
		t.Fatalf("there is no operation %s", id)
	}
	made := func(real string) string {
		switch prefix, _, ok := strings.Cut(real, "_"); {
		case !guess || o.guess:
			return real
		case ok:
			return latchkey.NewID(prefix, time.UnixMilli(0))
		}
		return "nothing"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch s {
		case "{env}":
			segments[i] = env
		case "{principal}":
			segments[i] = "spare"
		case "{revision}":
			segments[i] = "1"
		case "{cred}":
			segments[i] = w.ids["proofs"]
		case "{machine}":
			segments[i] = made(w.ids[segments[i-1]])
		case "{id}", "{name}", "{user}", "{group}", "{vault}", "{upn}":
			real, ok := w.ids[segments[i-1]]
			if !ok {
				real = latchkey.NewID("none", time.UnixMilli(0)) // of nothing that the caller could name
			} else if !o.guess {
				named = true
			}
			segments[i] = made(real)
		}
	}
	path = strings.Join(segments, "/")
	w.n++
	body = strings.ReplaceAll(o.body, "%d", fmt.Sprint(w.n))
	if o.query != "" {
		query := o.query
		if id, ok := strings.CutPrefix(query, "kind=credential&id="); ok {
			query, named = strings.Replace(query, id, made(w.ids["credentials"]), 1)+"&principal=spare", true
		}
		path += "?" + query
	}
	return method, path, body, named
}

// outcome is what an answer says of permissions.
func outcome(o permitted, a *httptest.ResponseRecorder) string {
	switch {
	case a.Code == http.StatusUnauthorized:
		return signIn
	case a.Code == http.StatusForbidden:
		return no
	case a.Code == http.StatusNotFound:
		return hidden
	case o.id == "startRun" && a.Code == http.StatusUnprocessableEntity:
		return hidden // as a fault of the field that names what is not visible
	}
	return yes
}

// table is what the permission table says.
func table(o permitted, c *column) string {
	if c.name == "anonymous" {
		return signIn
	}
	if o.expect != nil {
		return o.expect(c)
	}
	can := c.access
	if o.kind == latchkey.KindRun {
		if can.Role = latchkey.RoleNone; c.ownsRun {
			can.Role = latchkey.RoleOwner
		}
	}
	decide := func(read latchkey.Action) string {
		switch {
		case read != "" && (c.guess || c.env != "" || !can.Can(read)):
			return hidden
		case o.action == "" || can.Can(o.action):
			return yes
		}
		return no
	}
	switch o.kind {
	case "":
		return decide("")
	case latchkey.KindUser:
		return decide(latchkey.ActUserRead)
	case latchkey.KindServicePrincipal:
		return decide(latchkey.ActServicePrincipalRead)
	case latchkey.KindGroup:
		return decide(latchkey.ActGroupRead)
	case latchkey.KindVault:
		return decide(latchkey.ActVaultRead)
	}
	if !can.Can(latchkey.ActEnvironmentRead) {
		return hidden
	}
	switch o.kind {
	case latchkey.KindEnvironment:
		return decide("")
	case latchkey.KindRun:
		return decide(latchkey.ActRunRead)
	case latchkey.KindDeleted:
		return decide(latchkey.ActRestore)
	}
	return decide(latchkey.SharingOf[o.kind].Read)
}

func always(outcome string) func(*column) string { return func(*column) string { return outcome } }

// operations are all operations, with what decides about each.
func operations() []permitted {
	K, E := latchkey.KindEnvironment, latchkey.ActEnvironmentRead
	all := []permitted{
		{id: "createSignInLink"}, {id: "getMe"}, {id: "listNotices"}, {id: "listTokens"}, {id: "listSessions"}, {id: "listSignIns"}, {id: "endOtherSessions"},
		{id: "dismissNotice", expect: always(hidden)}, // one's own alone
		{id: "createToken", body: `{"name":"t%d"}`},
		{id: "revokeToken", expect: always(hidden)}, // one's own alone
		{id: "listUsers"}, {id: "listGroups"}, {id: "listEnvironments"}, {id: "listVaults"}, {id: "getVaultConnection"}, {id: "createVaultToken"},
		{id: "listSecretUses", query: "vault=erp"},
		{id: "createUser", action: latchkey.ActUserCreate, body: `{"login":"new%d"}`},
		{id: "getUser", kind: latchkey.KindUser, action: latchkey.ActUserRead},
		{id: "updateUser", kind: latchkey.KindUser, action: latchkey.ActUserUpdate, body: `{}`},
		{id: "addExternalIdentity", kind: latchkey.KindUser, action: latchkey.ActIdentityAdd, body: `{"issuer":"https://example.org","objectId":"o%d"}`},
		{id: "removeExternalIdentity", kind: latchkey.KindUser, action: latchkey.ActIdentityRemove, query: "issuer=https://example.org&objectId=gone",
			before: func(w *permissions, t testing.TB) {
				_, err := w.Broker.AddIdentity(t.Context(), w.Admin, "other", latchkey.ExternalIdentity{Issuer: "https://example.org", ObjectID: "gone"})
				if err != nil && !strings.Contains(err.Error(), "belongs to") && !strings.Contains(err.Error(), "not kept") {
					t.Fatal(err)
				}
			}},
		{id: "createGroup", action: latchkey.ActGroupCreate, body: `{"name":"g%d"}`},
		{id: "getGroup", kind: latchkey.KindGroup, action: latchkey.ActGroupRead},
		{id: "updateGroup", kind: latchkey.KindGroup, action: latchkey.ActGroupUpdate, body: `{}`},
		{id: "listGroupMembers", kind: latchkey.KindGroup, action: latchkey.ActGroupRead},
		{id: "addGroupMember", kind: latchkey.KindGroup, action: latchkey.ActGroupMember},
		{id: "removeGroupMember", kind: latchkey.KindGroup, action: latchkey.ActGroupMember, before: func(w *permissions, t testing.TB) {
			if err := w.Broker.AddGroupMember(t.Context(), w.Admin, "staff", "spare"); err != nil {
				t.Fatal(err)
			}
		}},
		{id: "deleteGroup", kind: latchkey.KindGroup, action: latchkey.ActGroupDelete, before: func(w *permissions, t testing.TB) {
			g, err := w.Broker.Group(t.Context(), w.Admin, "leaving")
			if err != nil {
				g, err = w.Broker.CreateGroup(t.Context(), w.Admin, latchkey.GroupCreate{Name: "leaving"})
			}
			if err != nil {
				t.Fatal(err)
			}
			w.ids["groups"] = string(g.ID)
		}},
		{id: "listServicePrincipals"},
		{id: "createServicePrincipal", action: latchkey.ActServicePrincipalCreate, body: `{"displayName":"program %d"}`},
		{id: "getServicePrincipal", kind: latchkey.KindServicePrincipal, action: latchkey.ActServicePrincipalRead},
		{id: "updateServicePrincipal", kind: latchkey.KindServicePrincipal, action: latchkey.ActServicePrincipalUpdate, body: `{}`},
		{id: "addServicePrincipalCredential", kind: latchkey.KindServicePrincipal, action: latchkey.ActPrincipalProofAdd, body: `{"kind":"secret"}`},
		{id: "removeServicePrincipalCredential", kind: latchkey.KindServicePrincipal, action: latchkey.ActPrincipalProofRemove, before: (*permissions).program},
		{id: "deleteServicePrincipal", kind: latchkey.KindServicePrincipal, action: latchkey.ActServicePrincipalDelete, before: (*permissions).program},
		{id: "listAzureTenants", action: latchkey.ActAzureTenantRead},
		{id: "linkAzureTenant", action: latchkey.ActAzureTenantLink, body: `{"id":"11111111-1111-4111-8111-111111111111"}`},
		{id: "unlinkAzureTenant", action: latchkey.ActAzureTenantUnlink, guess: true, expect: func(c *column) string {
			if c.access.Tenant {
				return yes
			}
			return hidden
		}, before: func(w *permissions, t testing.TB) {
			w.ids["tenants"] = "22222222-2222-4222-8222-222222222222"
			_, err := w.Broker.LinkAzureTenant(t.Context(), w.Admin, latchkey.AzureTenantLink{ID: w.ids["tenants"]})
			if err != nil && !strings.Contains(err.Error(), "linked already") {
				t.Fatal(err)
			}
		}},
		{id: "getCertificateBindings", action: latchkey.ActBindingRead},
		{id: "setCertificateBindings", action: latchkey.ActBindingSet, body: jsonOf(latchkey.DefaultCertificateBindings())},
		{id: "listCertificateAccounts", action: latchkey.ActBindingRead},
		{id: "setCertificateAccount", action: latchkey.ActAccountSet, guess: true, body: `{}`},
		{id: "getCertificateAccount", action: latchkey.ActBindingRead, guess: true, before: (*permissions).account},
		{id: "removeCertificateAccount", action: latchkey.ActAccountRemove, guess: true, before: (*permissions).account},
		{id: "createEnvironment", action: latchkey.ActEnvironmentCreate, body: `{"name":"e%d"}`},
		{id: "createVault", action: latchkey.ActVaultCreate, body: `{"name":"vault%d"}`},
		{id: "getVault", kind: latchkey.KindVault, action: latchkey.ActVaultRead},
		{id: "deleteVault", kind: latchkey.KindVault, action: latchkey.ActVaultDelete},
		{id: "listRoleAssignments", kind: latchkey.KindVault, action: latchkey.ActVaultRead},
		{id: "assignRole", kind: latchkey.KindVault, action: latchkey.ActVaultRead, body: `{"principal":"spare","role":"Key Vault Reader"}`}, // or an administrator of the vault
		{id: "removeRole", kind: latchkey.KindVault, action: latchkey.ActVaultRead, before: func(w *permissions, t testing.TB) { // or an administrator of the vault
			spare, err := w.Broker.User(t.Context(), w.Admin, "spare")
			if err != nil {
				t.Fatal(err)
			}
			a, err := w.Broker.AssignRole(t.Context(), w.Admin, w.Vault.Name, latchkey.RoleAssignmentCreate{Principal: spare.ID, Role: latchkey.VaultSecretsUser})
			if err == nil {
				w.ids["role-assignments"] = string(a.ID)
			} else if !strings.Contains(err.Error(), "already") {
				t.Fatal(err)
			}
		}},
		{id: "doctor", action: latchkey.ActDoctor},
		{id: "doctor environment", kind: K, action: latchkey.ActDoctorIn, query: "environment=prod", guess: true},
		{id: "listAudit", expect: func(c *column) string { return yesIf(c.access.Tenant) }},
		{id: "listAudit environment", kind: K, action: latchkey.ActAuditRead, query: "environment=prod", guess: true},

		{id: "getEnvironment", kind: K, action: E},
		{id: "getAttention", kind: K, action: E}, {id: "getActivity", kind: K, action: E}, {id: "getChanges", kind: K, action: E},
		{id: "find", kind: K, action: E, query: "q=erp"},
		{id: "updateEnvironment", kind: K, action: latchkey.ActEnvironmentUpdate, body: `{}`},
		{id: "deleteEnvironment", kind: K, action: latchkey.ActEnvironmentDelete},
		{id: "listMembers", kind: K, action: E},
		{id: "setMember", kind: K, action: latchkey.ActMemberSet, body: `{"role":"user"}`},
		{id: "removeMember", kind: K, action: latchkey.ActMemberSet, before: func(w *permissions, t testing.TB) {
			for _, env := range []string{w.Env, "elsewhere"} {
				if err := w.Broker.SetMember(t.Context(), w.Admin, env, "spare", latchkey.EnvUser); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{id: "listPrincipals", kind: K, action: latchkey.ActDirectoryRead},
		{id: "explainAccess oneself", kind: K, action: E, query: "kind=environment"},
		{id: "explainAccess environment", kind: K, action: latchkey.ActAccessRead, query: "kind=environment&principal=spare"},
		{id: "explainAccess credential", kind: latchkey.KindCredential, action: latchkey.ActAccessExplain, query: "kind=credential&id=ID"},
		{id: "listOwned oneself", kind: K, action: E},
		{id: "listOwned", kind: K, action: latchkey.ActOwnedRead, query: "principal=spare"},
		{id: "handOver", kind: K, action: latchkey.ActOwnedHandOver, body: `{"from":"spare","to":"owner"}`},
		{id: "listDeleted", kind: K, action: E},
		{id: "purgeDeleted", kind: latchkey.KindDeleted, action: latchkey.ActPurge, before: (*permissions).purgeable},
		{id: "restoreDeleted", kind: latchkey.KindDeleted, action: latchkey.ActRestore, body: `{}`},

		{id: "listVariables", kind: K, action: E}, {id: "listCredentials", kind: K, action: E}, {id: "listMachines", kind: K, action: E}, {id: "listMachineGroups", kind: K, action: E},
		{id: "listConnections", kind: K, action: E}, {id: "listFlows", kind: K, action: E}, {id: "listRuns", kind: K, action: E},
		{id: "createVariable", kind: K, action: latchkey.ActVariableCreate, body: `{"displayName":"v%d","type":"text","value":"x"}`},
		{id: "checkReference", kind: K, action: latchkey.ActReferenceCheck, body: `{"subscriptionId":"11111111-1111-4111-8111-111111111111","resourceGroup":"g","vault":"none","secret":"s"}`},
		{id: "createCredential", kind: K, action: latchkey.ActCredentialCreate, body: `{"name":"c%d","usages":["connection"],"slots":{"username":"new_none","password":"new_none"}}`},
		{id: "createConnection", kind: K, action: latchkey.ActConnectionCreate, body: `{"name":"n%d","target":{"machine":"` + latchkey.NewID("mach", time.UnixMilli(0)) + `"},"driver":"none","credential":"` + latchkey.NewID("cred", time.UnixMilli(0)) + `"}`},
		{id: "createMachineGroup", kind: K, action: latchkey.ActMachineGroupCreate, body: `{"name":"m%d"}`},
		{id: "createFlow", kind: K, action: latchkey.ActFlowCreate, body: `{"name":"f%d","command":["/usr/bin/true"]}`},
		{id: "createEnrolmentToken", kind: K, action: latchkey.ActMachineToken, body: `{}`},
		{id: "revokeEnrolmentToken", kind: K, action: latchkey.ActMachineToken, guess: true, before: func(w *permissions, t testing.TB) {
			for _, env := range []string{"elsewhere", w.Env} {
				token, err := w.Broker.CreateEnrolmentToken(t.Context(), w.Admin, env, latchkey.EnrolmentTokenCreate{})
				if err != nil {
					t.Fatal(err)
				}
				w.ids["enrolment-tokens"] = string(token.ID)
			}
		}},
		{id: "listEnrolmentTokens", kind: K, action: latchkey.ActMachineToken},

		{id: "getVariable", kind: latchkey.KindVariable, action: latchkey.ActVariableRead},
		{id: "updateVariable", kind: latchkey.KindVariable, action: latchkey.ActVariableUpdate, body: `{}`},
		{id: "checkVariable", kind: latchkey.KindVariable, action: latchkey.ActVariableCheck},
		{id: "overrideCheck", kind: latchkey.KindVariable, action: latchkey.ActVariableOverride, body: `{"reference":"/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/g/providers/Microsoft.KeyVault/vaults/none/secrets/s","reason":"y"}`},
		{id: "getCredential", kind: latchkey.KindCredential, action: latchkey.ActCredentialRead},
		{id: "listCredentialReleases", kind: latchkey.KindCredential, action: latchkey.ActCredentialRead},
		{id: "updateCredential", kind: latchkey.KindCredential, action: latchkey.ActCredentialUpdate, body: `{}`},
		{id: "updateCredential exposure", kind: latchkey.KindCredential, action: latchkey.ActCredentialExpose, body: `{"exposure":"descriptor"}`},
		{id: "checkCredential", kind: latchkey.KindCredential, action: latchkey.ActCredentialCheck},
		{id: "getMachine", kind: latchkey.KindMachine, action: latchkey.ActMachineRead},
		{id: "updateMachine", kind: latchkey.KindMachine, action: latchkey.ActMachineUpdate, body: `{}`},
		{id: "getMachineGroup", kind: latchkey.KindMachineGroup, action: latchkey.ActMachineGroupRead},
		{id: "updateMachineGroup", kind: latchkey.KindMachineGroup, action: latchkey.ActMachineGroupUpdate, body: `{}`},
		{id: "listGroupMachines", kind: latchkey.KindMachineGroup, action: latchkey.ActMachineGroupRead},
		{id: "addGroupMachine", kind: latchkey.KindMachineGroup, action: latchkey.ActMachineGroupMember, before: memberOf(false)}, // who may update the machine
		{id: "removeGroupMachine", kind: latchkey.KindMachineGroup, action: latchkey.ActMachineGroupMember, before: memberOf(true)},
		{id: "getConnection", kind: latchkey.KindConnection, action: latchkey.ActConnectionRead},
		{id: "updateConnection", kind: latchkey.KindConnection, action: latchkey.ActConnectionUpdate, body: `{}`},
		{id: "testConnection", kind: latchkey.KindConnection, action: latchkey.ActConnectionTest, query: "wait=0s"},
		{id: "getConnectionTest", kind: latchkey.KindConnection, action: latchkey.ActConnectionTest},
		{id: "getFlow", kind: latchkey.KindFlow, action: latchkey.ActFlowRead},
		{id: "reviseFlow", kind: latchkey.KindFlow, action: latchkey.ActFlowUpdate, body: `{"name":"invoices","command":["/usr/bin/env","true"],"handover":"descriptor"}`},
		{id: "getFlowRevision", kind: latchkey.KindFlow, action: latchkey.ActFlowRead},
		{id: "getRun", kind: latchkey.KindRun, action: latchkey.ActRunRead},
		{id: "getRunLog", kind: latchkey.KindRun, action: latchkey.ActRunRead},
		{id: "cancelRun", kind: latchkey.KindRun, action: latchkey.ActRunCancel},
		{id: "startRun", kind: latchkey.KindFlow, action: latchkey.ActFlowRun, body: `{"flow":"FLOW","connection":"CONNECTION"}`},
	}
	for suffix, kind := range map[string]latchkey.Kind{"Variable": latchkey.KindVariable, "Credential": latchkey.KindCredential, "Machine": latchkey.KindMachine, "MachineGroup": latchkey.KindMachineGroup, "Connection": latchkey.KindConnection, "Flow": latchkey.KindFlow} {
		s := latchkey.SharingOf[kind]
		either := func(c *column) string { // the owner hands over, an admin takes over
			o := permitted{kind: kind, action: s.HandOver}
			if c.access.Can(s.Take) {
				o.action = s.Take
			}
			return table(o, c)
		}
		for _, o := range []permitted{
			{id: "delete" + suffix, action: s.Delete},
			{id: "get" + suffix + "Dependencies", action: s.Read}, {id: "get" + suffix + "Dependents", action: s.Read}, {id: "get" + suffix + "Impact", action: s.Read},
			{id: "list" + suffix + "Shares", action: s.List},
			{id: "get" + suffix + "Share", action: s.List, before: sharedBy(kind, "owner")},
			{id: "set" + suffix + "Share", action: s.Share, body: `{"role":"user"}`, before: sharedBy(kind, "")},
			{id: "remove" + suffix + "Share", action: s.Unshare, before: sharedBy(kind, "user-share")},
			{id: "set" + suffix + "Owner", expect: either, body: `{"principal":"owner"}`},
		} {
			o.kind = kind
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, func(a, b permitted) int { return strings.Compare(string(a.kind), string(b.kind)) })
	return all
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// account says what the directory has of a user of certificates.
func (w *permissions) account(t testing.TB) {
	t.Helper()
	if _, err := w.Broker.SetCertificateAccount(t.Context(), w.Admin, w.ids["certificate-accounts"], latchkey.CertificateAccountSet{}); err != nil {
		t.Fatal(err)
	}
}

// program makes another service principal that has a credential.
func (w *permissions) program(t testing.TB) {
	t.Helper()
	w.n++
	p, err := w.Broker.CreateServicePrincipal(t.Context(), w.Admin, latchkey.ServicePrincipalCreate{DisplayName: fmt.Sprintf("one more program %d", w.n)})
	if err != nil {
		t.Fatal(err)
	}
	proof, err := w.Broker.AddServicePrincipalCredential(t.Context(), w.Admin, string(p.ID), latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
	if err != nil {
		t.Fatal(err)
	}
	w.ids["service-principals"], w.ids["proofs"] = string(p.ID), string(proof.ID)
}

// purgeable deletes a variable of the owner, unless the one that it deleted before is
// still there.
func (w *permissions) purgeable(t testing.TB) {
	t.Helper()
	p, err := w.Broker.Deleted(t.Context(), w.Admin, w.Env, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Items {
		if w.ids["deleted"] = d.ID; strings.Contains(d.Name, "Purged") {
			return
		}
	}
	v := w.variable(t, "Purged")
	for _, c := range w.columns {
		if c.access.Role == latchkey.RoleNone || c.access.Role == latchkey.RoleOwner {
			continue
		}
		w.Share(t, latchkey.KindVariable, v.Name, c.name, c.access.Role)
	}
	if _, err := w.Broker.SetOwner(t.Context(), w.Admin, w.Env, latchkey.KindVariable, v.Name, latchkey.OwnerSet{Principal: "owner"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Broker.DeleteVariable(t.Context(), w.Admin, w.Env, v.Name, latchkey.Force{}); err != nil {
		t.Fatal(err)
	}
	w.ids["deleted"] = string(v.ID)
}

func yesIf(ok bool) string {
	if ok {
		return yes
	}
	return no
}

// sharedBy makes a share with spare that somebody gave, or takes it away.
func sharedBy(kind latchkey.Kind, by string) func(*permissions, testing.TB) {
	return func(w *permissions, t testing.TB) {
		t.Helper()
		collection := strings.ReplaceAll(string(kind), " ", "-") + "s"
		err := w.DB.Update(t.Context(), func(tx *db.Tx) error {
			e, err := tx.Environment(w.Env)
			if err != nil {
				return err
			}
			spare, err := tx.Principal("spare")
			if err != nil {
				return err
			}
			if by == "" {
				err = tx.RemoveGrant(e.ID, w.ids[collection], spare.ID, "")
				if err == db.ErrNotFound {
					err = nil
				}
				return err
			}
			giver, err := tx.Principal(by)
			if err != nil {
				return err
			}
			return tx.SetGrant(e.ID, kind, w.ids[collection], spare.ID, latchkey.RoleUser, "", giver.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// memberOf puts the machine that nobody waits for into the group, or takes it out.
func memberOf(in bool) func(*permissions, testing.TB) {
	return func(w *permissions, t testing.TB) {
		t.Helper()
		group := latchkey.MachineGroupID("")
		if in {
			group = latchkey.MachineGroupID(w.ids["machine-groups"])
		}
		if err := w.DB.Update(t.Context(), func(tx *db.Tx) error { return tx.SetMachineGroup(latchkey.MachineID(w.ids["members"]), group) }); err != nil {
			t.Fatal(err)
		}
	}
}

// without are the operations that are not in the table, with the reason.
var without = map[string]string{
	"signIn":                 "needs no token",
	"signInServicePrincipal": "needs no token",
	"agentEnrol":             "carries its own proof",
	"agentOpenSession":       "carries its own proof",
	"agentClaim":             "by a machine's session",
	"agentStart":             "by a machine's session",
	"agentHeartbeat":         "by a machine's session",
	"agentLog":               "by a machine's session",
	"agentRelease":           "by a machine's session",
	"agentFinish":            "by a machine's session",
}

// TestPermissions asks for every operation as everybody, and compares what is
// allowed, refused and hidden with the permission table. What it prints is a golden
// file, for people to review.
func TestPermissions(t *testing.T) {
	w := newPermissions(t, "")
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s", "")
	for _, c := range w.columns {
		fmt.Fprintf(&b, " %-11s", c.name)
	}
	b.WriteByte('\n')
	ids, asked := maps.Clone(w.ids), map[string]bool{}
	for _, o := range operations() {
		id, _, _ := strings.Cut(o.id, " ")
		asked[id] = true
		fmt.Fprintf(&b, "%-28s", o.id)
		for _, c := range w.columns {
			env := c.env
			if env == "" {
				env = w.Env
			}
			if o.before != nil {
				o.before(w, t)
			}
			method, path, body, named := w.request(t, o, env, c.guess)
			if c.guess && !named || c.env != "" && !strings.Contains(path, "/environments/"+env) {
				fmt.Fprintf(&b, " %-11s", unsent)
				continue
			}
			flow, connection := w.ids["flows"], w.ids["connections"]
			body = strings.NewReplacer("FLOW", flow, "CONNECTION", connection).Replace(body)
			a := w.send(t, t.Context(), method, path, body, c.token)
			got := outcome(o, a)
			if want := table(o, c); got != want {
				t.Errorf("%s as %s: %s %s = %q (%d %s); the permission table says %q", o.id, c.name, method, path, got, a.Code, a.Body, want)
			}
			fmt.Fprintf(&b, " %-11s", got)
		}
		b.WriteByte('\n')
		maps.Copy(w.ids, ids)
	}
	for id := range w.paths {
		if _, ok := without[id]; ok == asked[id] {
			t.Errorf("the operation %s must be in one of operations and without", id)
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	got := strings.Join(lines, "\n")
	const file = "testdata/permissions.txt"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what there is; with -update it is written (-want +got):\n%s", file, diff)
	}
}

// TestHiddenIsAbsent asks for what callers may not see and for what does not exist:
// the answers are the same, and come of as many statements.
func TestHiddenIsAbsent(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		w := newPermissions(t, url)
		ids := maps.Clone(w.ids)
		for _, c := range w.columns {
			if c.name == "anonymous" || c.guess || c.env != "" {
				continue
			}
			w.send(t, t.Context(), "GET", "/api/v1/me", "", c.token) // the use of the token is noted
			for _, o := range operations() {
				if table(o, c) != hidden || slices.Contains([]string{"dismissNotice", "revokeToken"}, o.id) {
					continue // of these two there are none that anybody else could name
				}
				maps.Copy(w.ids, ids)
				if o.before != nil {
					o.before(w, t)
				}
				ask := func(env string, guess bool) (status, statements int, body string) {
					method, path, body, _ := w.request(t, o, env, guess)
					flow, connection := w.ids["flows"], w.ids["connections"]
					if guess {
						flow, connection = latchkey.NewID("flow", time.UnixMilli(0)), latchkey.NewID("conn", time.UnixMilli(0))
					}
					body = strings.NewReplacer("FLOW", flow, "CONNECTION", connection).Replace(body)
					if env == "nothing" {
						path = strings.Replace(path, "environment=prod", "environment=nothing", 1)
					}
					ctx := db.WithTrace(t.Context(), func(string, []any) { statements++ })
					a := w.send(t, ctx, method, path, body, c.token)
					var p map[string]any
					if err := json.NewDecoder(bytes.NewReader(a.Body.Bytes())).Decode(&p); err != nil {
						t.Fatal(err)
					}
					delete(p, "requestId")
					return a.Code, statements, fmt.Sprint(p)
				}
				status, statements, body := ask(w.Env, false)
				compare := func(what, env string, guess bool) {
					if s, n, b := ask(env, guess); s != status || b != body || n != statements {
						t.Errorf("%s as %s: what is hidden = %d %s by %d statements; %s = %d %s by %d", o.id, c.name, status, body, statements, what, s, b, n)
					}
				}
				compare("what does not exist", w.Env, true)
				if !c.access.Can(latchkey.ActEnvironmentRead) && o.kind != latchkey.KindUser && o.kind != latchkey.KindGroup && o.kind != latchkey.KindServicePrincipal && o.kind != latchkey.KindVault {
					compare("in no environment", "nothing", true)
				}
			}
		}
	})
}

// TestHiddenIsNotCounted lists as those who do not see some things before and after
// there are more of them: the answers are the same, and come of as many statements.
func TestHiddenIsNotCounted(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		w := newPermissions(t, url)
		ctx := t.Context()
		type answer struct {
			code, statements int
			body             string
		}
		lists := func() map[string]answer {
			answers := map[string]answer{}
			for _, c := range w.columns {
				if c.name == "anonymous" || c.guess || c.env != "" || c.access.Tenant || c.access.Can(latchkey.ActVariableRead) && c.access.Role == latchkey.RoleNone {
					continue // who sees what is added
				}
				w.send(t, ctx, "GET", "/api/v1/me", "", c.token) // the use of the token is noted
				for _, o := range operations() {
					if !strings.HasPrefix(o.id, "list") && !strings.HasPrefix(o.id, "get") || o.id == "listPrincipals" || o.id == "getChanges" { // groups are shown to everybody there; that something changed, and never what
						continue
					}
					if o.before != nil {
						continue
					}
					method, path, body, _ := w.request(t, o, w.Env, false)
					statements := 0
					a := w.send(t, db.WithTrace(ctx, func(string, []any) { statements++ }), method, path, body, c.token)
					var p map[string]any
					if err := json.Unmarshal(a.Body.Bytes(), &p); err == nil {
						delete(p, "requestId")
						body = fmt.Sprint(p)
					} else {
						body = a.Body.String()
					}
					answers[o.id+" as "+c.name] = answer{a.Code, statements, body}
				}
			}
			return answers
		}
		before := lists()
		if n := len(before); n < 100 {
			t.Fatalf("only %d lists were asked for", n)
		}
		for _, env := range []string{w.Env, "third"} {
			if env == "third" {
				if _, err := w.Broker.CreateEnvironment(ctx, w.Admin, latchkey.EnvironmentCreate{Name: env}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 3 {
				name := fmt.Sprintf("More %d", i)
				user, err := w.Broker.CreateVariable(ctx, w.Admin, env, latchkey.VariableCreate{DisplayName: name + " user", Type: latchkey.TypeText, Value: new("x")})
				if err != nil {
					t.Fatal(err)
				}
				// Of the secret that the others refer to.
				secret, err := w.Broker.CreateVariable(ctx, w.Admin, env, latchkey.VariableCreate{DisplayName: name + " secret", Type: latchkey.TypeSecret, Secret: &w.Reference})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Broker.CreateCredential(ctx, w.Admin, env, latchkey.CredentialCreate{
					Name: name, Usages: []latchkey.Usage{latchkey.UsageConnection},
					Slots: map[latchkey.Slot]string{latchkey.SlotUsername: user.Name, latchkey.SlotPassword: secret.Name},
				}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Broker.CreateFlow(ctx, w.Admin, env, latchkey.FlowCreate{Name: name, Command: []string{latchkeytest.Program}}); err != nil {
					t.Fatal(err)
				}
				gone, err := w.Broker.CreateVariable(ctx, w.Admin, env, latchkey.VariableCreate{DisplayName: name + " gone", Type: latchkey.TypeText, Value: new("x")})
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Broker.DeleteVariable(ctx, w.Admin, env, gone.Name, latchkey.Force{}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Broker.CreateGroup(ctx, w.Admin, latchkey.GroupCreate{Name: name + " in " + env}); err != nil {
					t.Fatal(err)
				}
			}
		}
		after := lists()
		for _, ask := range slices.Sorted(maps.Keys(before)) {
			if before[ask] != after[ask] {
				t.Errorf("%s: %+v\nand with more that is hidden: %+v", ask, before[ask], after[ask])
			}
		}
	})
}
