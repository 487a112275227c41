package server

import (
	"net/http"

	"latchkey.dev/latchkey"
)

// An access says whom a route answers.
type access string

const (
	public   access = "anyone"
	signedIn access = "signed-in callers"
	session  access = "machines" // with a session, by MAC
)

// A route is one line of the table below, for the tests that walk it.
type route struct {
	pattern string
	access  access
}

// handle adds a route that is no operation of the API.
func (s *server) handle(pattern string, who access, h http.HandlerFunc) {
	s.routes = append(s.routes, route{pattern, who})
	s.mux.HandleFunc(pattern, h)
}

// handleAll is every address that the server answers, with who may come.
//
// Health and metrics are public, so that probes and collectors need no secret:
// they carry no name and no id of anything.
func (s *server) handleAll() {
	s.handle("GET /healthz", public, s.healthz)
	s.handle("GET /readyz", public, s.readyz)
	s.handle("GET /metrics", public, s.metrics.serve)
	s.handle("GET /openapi.json", public, s.serveOpenAPI)

	if s.pages.Reference != nil {
		s.handle("GET /docs", public, s.docsPage)
	}
	for _, r := range s.pages.Routes {
		who := signedIn
		if r.Public {
			who = public
		}
		s.handle(r.Pattern, who, r.Handler)
	}

	t := "Signing in"
	anyone(s, op{t, "POST /sign-in", "signIn", "Sign in with login and password", "Returns an API token of the account, valid for 12 hours. After several wrong passwords the account waits longer and longer."}, s.signIn)
	caller(s, op{t, "POST /sign-in/link", "createSignInLink", "Make a one-time sign-in link", "The link signs the caller in to the pages. It works once, within ten minutes; its secret is in the fragment of the address, which browsers do not send."}, s.createSignInLink)
	anyone(s, op{t, "POST /sign-in/service-principal", "signInServicePrincipal", "Sign in as a service principal", "With one of its secrets, or an assertion that proves it. Returns an API token that is valid for one hour. After several wrong proofs the ones that follow wait longer and longer; a right one is always let in. Reasons of a refusal have the codes client-unknown, secret-wrong, secret-expired, assertion-invalid, assertion-expired, assertion-audience, federated-mismatch and issuer-unavailable."}, s.signInServicePrincipal)
	caller(s, op{t, "GET /me", "getMe", "Show the caller's own account", "Of a user. A service principal sees itself in the list of service principals."}, s.me)
	caller(s, op{t, "GET /me/notices", "listNotices", "List the caller's notices", "What others did with things of the caller's, such as taking one over; oldest first. They go after 90 days."}, s.notices)
	caller(s, op{t, "DELETE /me/notices/{id}", "dismissNotice", "Put a notice away", ""}, s.dismissNotice)
	caller(s, op{t, "GET /me/sign-ins", "listSignIns", "List how the caller was signed in", "And how that was refused: the audit log's entries, newest first."}, s.signIns)
	caller(s, op{t, "GET /sessions", "listSessions", "List the caller's own sessions", "What signing in began and has not ended, newest first. A browser's session ends when it is not used for an hour, unless the server says otherwise, and after 12 hours at the latest. One is ended by its id as a token is revoked."}, s.sessions)
	caller(s, op{t, "POST /sessions/end-others", "endOtherSessions", "End the caller's other sessions", "All but the one of this request, and sign-in links that were not used. API tokens stay."}, s.endOtherSessions)
	caller(s, op{t, "GET /tokens", "listTokens", "List the caller's own API tokens", "Without their values, which are shown once, and without sessions."}, s.tokens)
	caller(s, op{t, "POST /tokens", "createToken", "Make an API token of the caller", "The value is in this answer and nowhere else."}, s.createToken)
	caller(s, op{t, "DELETE /tokens/{id}", "revokeToken", "Revoke one of the caller's own tokens, or end a session", "It stops working at once."}, s.revokeToken)

	t = "Users"
	caller(s, op{t, "GET /users", "listUsers", "List the accounts", "For tenant admins."}, s.users)
	caller(s, op{t, "POST /users", "createUser", "Make a local account", "For tenant admins."}, s.createUser)
	caller(s, op{t, "GET /users/{user}", "getUser", "Show an account", ""}, s.user)
	caller(s, op{t, "PATCH /users/{user}", "updateUser", "Change an account", "Disabling an account ends its tokens and sessions and stops its releases at once. The last enabled tenant admin stays."}, s.updateUser)

	caller(s, op{t, "POST /users/{user}/external-identities", "addExternalIdentity", "Say who a user is in another directory", "For tenant admins. An identity is one principal's at most. By it, what a person may read in Azure can be found out."}, s.addIdentity)
	caller(s, op{t, "DELETE /users/{user}/external-identities", "removeExternalIdentity", "Take an external identity of a user away", "For tenant admins."}, s.removeIdentity)

	t = "Groups"
	caller(s, op{t, "GET /groups", "listGroups", "List the groups", "All for tenant admins, for others those that they are in."}, s.groups)
	caller(s, op{t, "POST /groups", "createGroup", "Make a group", "For tenant admins."}, s.createGroup)
	caller(s, op{t, "GET /groups/{group}", "getGroup", "Show a group", ""}, s.group)
	caller(s, op{t, "PATCH /groups/{group}", "updateGroup", "Change a group", "For tenant admins."}, s.updateGroup)
	caller(s, op{t, "DELETE /groups/{group}", "deleteGroup", "Delete a group", "For tenant admins. What its members had by it they have no more, at once."}, s.deleteGroup)
	caller(s, op{t, "GET /groups/{group}/members", "listGroupMembers", "List who is in a group", "By itself: members of groups in it are not listed. For tenant admins."}, s.groupMembers)
	caller(s, op{t, "PUT /groups/{group}/members/{principal}", "addGroupMember", "Put a principal into a group", "A user, a service principal or another group. For tenant admins."}, s.addGroupMember)
	caller(s, op{t, "DELETE /groups/{group}/members/{principal}", "removeGroupMember", "Take a principal out of a group", "What it had by the group it has no more, at once. For tenant admins."}, s.removeGroupMember)

	t = "Service principals"
	caller(s, op{t, "GET /service-principals", "listServicePrincipals", "List the service principals", "For tenant admins; a service principal sees itself."}, s.servicePrincipals)
	caller(s, op{t, "POST /service-principals", "createServicePrincipal", "Make a service principal", "The identity of a program, such as a pipeline. It cannot sign in before it has a credential. For tenant admins."}, s.createServicePrincipal)
	caller(s, op{t, "GET /service-principals/{id}", "getServicePrincipal", "Show a service principal", "With its credentials, never their values."}, s.servicePrincipal)
	caller(s, op{t, "PATCH /service-principals/{id}", "updateServicePrincipal", "Change a service principal", "Disabling one ends its tokens and stops the releases of its runs at once. For tenant admins."}, s.updateServicePrincipal)
	caller(s, op{t, "DELETE /service-principals/{id}", "deleteServicePrincipal", "Delete a service principal", "What it holds counts no more, at once. For tenant admins."}, s.deleteServicePrincipal)
	caller(s, op{t, "POST /service-principals/{id}/credentials", "addServicePrincipalCredential", "Add a credential to a service principal", "A secret that the server makes, whose value is in this answer and nowhere else; a certificate, without its key; or tokens of another issuer, with exactly this subject and audience. At most 20 each. For tenant admins."}, s.addServicePrincipalCredential)
	caller(s, op{t, "DELETE /service-principals/{id}/credentials/{cred}", "removeServicePrincipalCredential", "Remove a credential of a service principal", "API tokens that it was signed in for with it end at once. For tenant admins."}, s.removeServicePrincipalCredential)

	t = "Azure"
	caller(s, op{t, "GET /azure/tenants", "listAzureTenants", "List the linked Azure tenants", "For tenant admins. Vaults of other tenants are sent no token."}, s.azureTenants)
	caller(s, op{t, "POST /azure/tenants", "linkAzureTenant", "Link an Azure tenant", "For tenant admins. Vaults of the tenant are read from now on, if the server's identity may."}, s.linkAzureTenant)
	caller(s, op{t, "DELETE /azure/tenants/{id}", "unlinkAzureTenant", "Unlink an Azure tenant", "For tenant admins. Vaults of the tenant are read no more, at once."}, s.unlinkAzureTenant)

	t = "Environments"
	caller(s, op{t, "GET /environments", "listEnvironments", "List the environments", "Those in which the caller has a role; all of them for tenant admins."}, s.environments)
	caller(s, op{t, "POST /environments", "createEnvironment", "Make an environment", "For tenant admins. The caller becomes its admin."}, s.createEnvironment)
	caller(s, op{t, "GET /environments/{env}", "getEnvironment", "Show an environment", ""}, s.environment)
	caller(s, op{t, "PATCH /environments/{env}", "updateEnvironment", "Change an environment", "Its display name, and the vaults that references in it may name."}, s.updateEnvironment)
	caller(s, op{t, "DELETE /environments/{env}", "deleteEnvironment", "Delete an environment", "It must be empty."}, s.deleteEnvironment)
	caller(s, op{t, "GET /environments/{env}/members", "listMembers", "List who has a role in an environment", ""}, s.members)
	caller(s, op{t, "PUT /environments/{env}/members/{principal}", "setMember", "Give a principal a role in an environment", "It replaces the role that the principal had."}, s.setMember)
	caller(s, op{t, "DELETE /environments/{env}/members/{principal}", "removeMember", "Take a principal's role away", "The last admin stays."}, s.removeMember)

	caller(s, op{t, "GET /environments/{env}/attention", "getAttention", "Show what wants attention", "Of what the caller may see: checks that failed, secrets and certificates that expire within 30 days, machines that run nothing, releases denied and runs failed within 7 days, and notices; the gravest first."}, s.attention)
	caller(s, op{t, "GET /environments/{env}/activity", "getActivity", "Count runs and releases by day", "Of everybody for who sees every run, for others of the runs that they own or have started. Of more than 100,000 the oldest are not counted."}, s.activity)
	caller(s, op{t, "GET /environments/{env}/changes", "getChanges", "Wait for a change", "Answers when anything of the environment has changed since the cursor, or the time passed: a run, a release, a check, a share, or how many machines are online. What has changed is not said."}, s.changes)
	caller(s, op{t, "GET /environments/{env}/find", "find", "Find things by name", "Of every kind, as far as the caller may see them; those that begin with the text first."}, s.find)
	caller(s, op{t, "GET /environments/{env}/principals", "listPrincipals", "List whom something may be shared with", "Users, groups and service principals by name; those that are deactivated are left out. For whoever has a role in the environment."}, s.directory)

	caller(s, op{t, "GET /environments/{env}/access", "explainAccess", "Say why somebody may do something, or not", "Of a thing of the environment that the caller may see, or of the environment itself: the decision as an operation would make it now, what the principal holds and where it is from, and when it is refused the least that would permit it. Everybody may ask about themselves; about others the thing's owner and co-owners, and admins and auditors of the environment."}, s.access)
	caller(s, op{t, "GET /environments/{env}/owned", "listOwned", "List what somebody owns", "In the order in which it is handed over. Everybody may ask about themselves, about others admins and auditors of the environment."}, s.owned)
	caller(s, op{t, "POST /environments/{env}/hand-over", "handOver", "Hand over everything that somebody owns", "By the owner, or by an admin of the environment, who takes it over so: each is on record, and the owner is told. At most 500 at a time; `next` says that there is more. What cannot be handed over is listed with the reason."}, s.handOver)

	t = "Variables"
	caller(s, op{t, "GET /environments/{env}/variables", "listVariables", "List the variables", ""}, s.variables)
	caller(s, op{t, "POST /environments/{env}/variables", "createVariable", "Make a variable", "The unique name is made from the display name unless it is given: `ERP user` becomes `new_ERPuser`. A variable of type secret holds where a secret is, never the secret; whether it may be read is checked in the background, and the result is in `check`."}, s.createVariable)
	caller(s, op{t, "GET /environments/{env}/variables/{name}", "getVariable", "Show a variable", ""}, s.variable)
	caller(s, op{t, "PATCH /environments/{env}/variables/{name}", "updateVariable", "Change a variable", "Name and type never change. After a reference is edited the new one is checked, and the old one stays in force until it passed."}, s.updateVariable)
	caller(s, op{t, "DELETE /environments/{env}/variables/{name}", "deleteVariable", "Delete a variable", "What is in use is deleted with force and the hash of the impact only. It can be restored for 30 days."}, s.deleteVariable)
	caller(s, op{t, "POST /environments/{env}/variables/{name}/check", "checkVariable", "Check a secret reference again", "The answer says `checking`; ask for the variable to see the result."}, s.checkVariable)
	caller(s, op{t, "POST /environments/{env}/variables/{name}/override", "overrideCheck", "Use a reference whose check did not pass", "For admins of the environment, with a reason, on record."}, s.overrideCheck)
	caller(s, op{t, "POST /environments/{env}/references/check", "checkReference", "Check a secret reference before it is saved", "As the check of a variable does, for the caller in place of the person who saved it; nothing is saved. For whoever may make variables. The answer takes up to 30 seconds, and is on record."}, s.checkReference)
	s.shareRoutes(t, latchkey.KindVariable, "variables", "Variable")
	s.graphRoutes(t, latchkey.KindVariable, "variables", "Variable")

	t = "Credentials"
	caller(s, op{t, "GET /environments/{env}/credentials", "listCredentials", "List the credentials", ""}, s.credentials)
	caller(s, op{t, "POST /environments/{env}/credentials", "createCredential", "Make a credential", "It binds a text variable (`ERP user`) and a secret variable whose check passed (`ERP password`). The choice never changes: change the variable's value or the vault's secret."}, s.createCredential)
	caller(s, op{t, "GET /environments/{env}/credentials/{id}", "getCredential", "Show a credential", "Nobody ever gets its secret from here."}, s.credential)
	caller(s, op{t, "PATCH /environments/{env}/credentials/{id}", "updateCredential", "Change a credential", "Exposure, machines and shared-uid are its owner's to change."}, s.updateCredential)
	caller(s, op{t, "DELETE /environments/{env}/credentials/{id}", "deleteCredential", "Delete a credential", "Its variables stay. What is in use is deleted with force and the hash of the impact only. It can be restored for 30 days."}, s.deleteCredential)
	caller(s, op{t, "GET /environments/{env}/credentials/{id}/releases", "listCredentialReleases", "List the releases of a credential", "Newest first, refused ones too: when, for which run, to which machine, and which version of the secret. For whoever sees the credential; flows that the caller may not see are left out."}, s.credentialReleases)
	caller(s, op{t, "POST /environments/{env}/credentials/{id}/check", "checkCredential", "Look at a credential's certificate again", "The answer says `checking`; ask for the credential to see the result. A certificate is also looked at when the credential is made, when its variables or the username bindings change, after a release of another version, and daily."}, s.checkCredential)
	caller(s, op{t, "GET /certificate-bindings", "getCertificateBindings", "Show the username bindings of certificates", "For tenant admins."}, s.certificateBindings)
	caller(s, op{t, "PUT /certificate-bindings", "setCertificateBindings", "Set the username bindings of certificates", "As they are in the tenant's directory. Every certificate is looked at again. For tenant admins."}, s.setCertificateBindings)
	s.shareRoutes(t, latchkey.KindCredential, "credentials", "Credential")
	s.graphRoutes(t, latchkey.KindCredential, "credentials", "Credential")
	caller(s, op{t, "GET /certificate-accounts", "listCertificateAccounts", "List what the directory has of users of certificates", "Of those of whom somebody has said it. For tenant admins."}, s.certificateAccounts)
	caller(s, op{t, "GET /certificate-accounts/{upn}", "getCertificateAccount", "Show what the directory has of a user of certificates", "For tenant admins."}, s.certificateAccount)
	caller(s, op{t, "PUT /certificate-accounts/{upn}", "setCertificateAccount", "Say what the directory has of a user of certificates", "The attributes that username bindings compare certificates with, as they are in the tenant's directory, in place of what was said before. Certificates that sign in by the name are looked at again. For tenant admins."}, s.setCertificateAccount)
	caller(s, op{t, "DELETE /certificate-accounts/{upn}", "removeCertificateAccount", "Take back what the directory has of a user of certificates", "For tenant admins."}, s.removeCertificateAccount)

	t = "Machines"
	caller(s, op{t, "GET /environments/{env}/machines/enrolment-tokens", "listEnrolmentTokens", "List enrolment tokens", "Those that can still be used, without their values. For admins of the environment."}, s.listEnrolmentTokens)
	caller(s, op{t, "DELETE /environments/{env}/machines/enrolment-tokens/{id}", "revokeEnrolmentToken", "Revoke an enrolment token", "Machines that it has enrolled stay. For admins of the environment."}, s.revokeEnrolmentToken)
	caller(s, op{t, "POST /environments/{env}/machines/enrolment-tokens", "createEnrolmentToken", "Make an enrolment token", "For admins of the environment. It is shown once; whoever has it can enrol a machine into this environment."}, s.createEnrolmentToken)
	caller(s, op{t, "GET /environments/{env}/machines", "listMachines", "List the machines", ""}, s.machines)
	caller(s, op{t, "GET /environments/{env}/machines/{id}", "getMachine", "Show a machine", ""}, s.machine)
	caller(s, op{t, "PATCH /environments/{env}/machines/{id}", "updateMachine", "Change a machine", "A disabled machine claims no run and gets no secret."}, s.updateMachine)
	caller(s, op{t, "DELETE /environments/{env}/machines/{id}", "deleteMachine", "Remove a machine", "Its keys count no longer. What is in use is removed with force and the hash of the impact only. It can be restored for 30 days."}, s.deleteMachine)
	s.shareRoutes(t, latchkey.KindMachine, "machines", "Machine")
	s.graphRoutes(t, latchkey.KindMachine, "machines", "Machine")

	t = "Machine groups"
	caller(s, op{t, "GET /environments/{env}/machine-groups", "listMachineGroups", "List the machine groups", ""}, s.machineGroups)
	caller(s, op{t, "POST /environments/{env}/machine-groups", "createMachineGroup", "Make a machine group", "Without machines. Sharing it is sharing the right to run flows on its machines."}, s.createMachineGroup)
	caller(s, op{t, "GET /environments/{env}/machine-groups/{id}", "getMachineGroup", "Show a machine group", ""}, s.machineGroup)
	caller(s, op{t, "PATCH /environments/{env}/machine-groups/{id}", "updateMachineGroup", "Change a machine group", ""}, s.updateMachineGroup)
	caller(s, op{t, "DELETE /environments/{env}/machine-groups/{id}", "deleteMachineGroup", "Delete a machine group", "Its machines stay. What is in use is deleted with force and the hash of the impact only. It can be restored for 30 days, with the machines that have joined no other group."}, s.deleteMachineGroup)
	caller(s, op{t, "GET /environments/{env}/machine-groups/{id}/members", "listGroupMachines", "List the machines of a group", "Also those on which the caller has no role by themselves; at most 50."}, s.groupMachines)
	caller(s, op{t, "PUT /environments/{env}/machine-groups/{id}/members/{machine}", "addGroupMachine", "Put a machine into a group", "It takes that the caller may change both. A machine is in one group at most."}, s.addGroupMachine)
	caller(s, op{t, "DELETE /environments/{env}/machine-groups/{id}/members/{machine}", "removeGroupMachine", "Take a machine out of its group", "By whoever may change the group, or the machine. Runs of the group that it executes get no secret any more, at once."}, s.removeGroupMachine)
	s.shareRoutes(t, latchkey.KindMachineGroup, "machine-groups", "MachineGroup")
	s.graphRoutes(t, latchkey.KindMachineGroup, "machine-groups", "MachineGroup")

	t = "Connections"
	caller(s, op{t, "GET /environments/{env}/connections", "listConnections", "List the connections", ""}, s.connections)
	caller(s, op{t, "POST /environments/{env}/connections", "createConnection", "Make a connection", "A credential bound to a machine, or to a machine group: sign in there as this."}, s.createConnection)
	caller(s, op{t, "GET /environments/{env}/connections/{id}", "getConnection", "Show a connection", ""}, s.connection)
	caller(s, op{t, "PATCH /environments/{env}/connections/{id}", "updateConnection", "Rename a connection", ""}, s.updateConnection)
	caller(s, op{t, "DELETE /environments/{env}/connections/{id}", "deleteConnection", "Delete a connection", "What is in use, or ran within 30 days, is deleted with force and the hash of the impact only. It can be restored for 30 days."}, s.deleteConnection)
	caller(s, op{t, "POST /environments/{env}/connections/{id}/test", "testConnection", "Test a connection", "Its agent really signs in at the target, with the stored configuration and without a flow. The answer is the steps that it took, never a value; it comes when the test ended or `wait` passed, and the test goes on. What is known to fail beforehand queues nothing and releases nothing. A connection has one test at a time."}, s.testConnection)
	caller(s, op{t, "GET /environments/{env}/connections/{id}/test", "getConnectionTest", "Show a test of a connection", "The newest one, or that of `run`."}, s.connectionTest)
	s.shareRoutes(t, latchkey.KindConnection, "connections", "Connection")
	s.graphRoutes(t, latchkey.KindConnection, "connections", "Connection")

	t = "Flows"
	caller(s, op{t, "GET /environments/{env}/flows", "listFlows", "List the flows", "Each in its newest revision."}, s.flows)
	caller(s, op{t, "POST /environments/{env}/flows", "createFlow", "Make a flow", "A command that machines run; no shell is involved."}, s.createFlow)
	caller(s, op{t, "GET /environments/{env}/flows/{id}", "getFlow", "Show a flow", "In its newest revision."}, s.flow)
	caller(s, op{t, "PUT /environments/{env}/flows/{id}", "reviseFlow", "Make the next revision of a flow", "Revisions never change; runs that were queued keep theirs."}, s.reviseFlow)
	caller(s, op{t, "GET /environments/{env}/flows/{id}/revisions/{revision}", "getFlowRevision", "Show a revision of a flow", ""}, s.flowRevision)
	caller(s, op{t, "DELETE /environments/{env}/flows/{id}", "deleteFlow", "Delete a flow", "What ran within 30 days is deleted with force and the hash of the impact only. It can be restored for 30 days."}, s.deleteFlow)
	s.shareRoutes(t, latchkey.KindFlow, "flows", "Flow")
	s.graphRoutes(t, latchkey.KindFlow, "flows", "Flow")

	t = "Runs"
	caller(s, op{t, "GET /environments/{env}/runs", "listRuns", "List the runs", "Newest first."}, s.runs)
	caller(s, op{t, "POST /environments/{env}/runs", "startRun", "Start a run", "It is queued until its machine claims it, or the first of its group that may, and executed at most once."}, s.startRun)
	caller(s, op{t, "GET /environments/{env}/runs/{id}", "getRun", "Show a run", ""}, s.run)
	caller(s, op{t, "POST /environments/{env}/runs/{id}/cancel", "cancelRun", "Cancel a run", "A queued run ends at once; of a running one the machine ends the whole process tree."}, s.cancelRun)
	caller(s, op{t, "GET /environments/{env}/runs/{id}/log", "getRunLog", "Read a run's output", "With `wait` the answer comes when there is output after `offset`, when the run ended, or when the time passed."}, s.runLog)

	t = "Deleted components"
	caller(s, op{t, "GET /environments/{env}/deleted", "listDeleted", "List what was deleted and can be restored", "For 30 days, newest first: all of it for admins of the environment, for others what they own."}, s.deleted)
	caller(s, op{t, "POST /environments/{env}/deleted/{id}/restore", "restoreDeleted", "Restore what was deleted", "With its shares. Under another name if its own is taken meanwhile; what it uses must be there."}, s.restore)
	caller(s, op{t, "DELETE /environments/{env}/deleted/{id}", "purgeDeleted", "Remove what was deleted for good", "With its shares, before the 30 days are over."}, s.purge)

	t = "Embedded vaults"
	caller(s, op{t, "GET /vaults", "listVaults", "List the embedded vaults", "Those in which the caller has a role; all of them for tenant admins. Secrets are set and read at the vault's own address, with the Azure SDKs."}, s.vaults)
	caller(s, op{t, "POST /vaults", "createVault", "Make an embedded vault", "For tenant admins. The caller becomes its Key Vault Administrator."}, s.createVault)
	caller(s, op{t, "GET /vaults/connection", "getVaultConnection", "Say how to reach the embedded vaults", "Their address, their domain, the certificate that vouches for them, and where service principals sign in to them."}, s.vaultConnection)
	caller(s, op{t, "POST /vaults/access-token", "createVaultToken", "Make an access token for the embedded vaults", "It stands for the caller there, for one hour, and is good for nothing else."}, s.vaultToken)
	caller(s, op{t, "GET /vaults/{vault}", "getVault", "Show an embedded vault", ""}, s.vault)
	caller(s, op{t, "DELETE /vaults/{vault}", "deleteVault", "Delete an embedded vault", ""}, s.deleteVault)
	caller(s, op{t, "GET /vaults/{vault}/role-assignments", "listRoleAssignments", "List who has a role in an embedded vault", ""}, s.roleAssignments)
	caller(s, op{t, "POST /vaults/{vault}/role-assignments", "assignRole", "Give a principal a role in an embedded vault", "Of the whole vault or of one secret. For the vault's Key Vault Administrators."}, s.assignRole)
	caller(s, op{t, "DELETE /vaults/{vault}/role-assignments/{id}", "removeRole", "Take a role in an embedded vault away", ""}, s.removeRole)

	caller(s, op{t, "GET /secret-uses", "listSecretUses", "Find who uses a secret", "The variables of every environment that refer to a secret, of an embedded vault or one in Azure, as far as the caller may see them; at most 500."}, s.secretUses)

	t = "Audit"
	caller(s, op{t, "GET /audit", "listAudit", "Read the audit log", "Of one environment for its admins and auditors, of the whole installation for tenant admins. Every release is here before the secret left, and every refusal."}, s.audit)

	caller(s, op{t, "GET /doctor", "doctor", "Look at the prerequisites", "Of the whole installation for tenant admins: the server that answers, the database, the audit log, keys and certificates, signing in to Azure, and how the references of each environment stand. Of one environment for its admins and auditors: its vaults and what they depend on in Azure, the check of each secret reference, the certificates of credentials, and its machines. Unless `offline` is true, vaults and Azure are asked, which takes less than a minute; no secret is read. It is on record."}, s.doctor)

	t = "Agents"
	machine(s, op{t, "POST /agent/enrol", "agentEnrol", "Enrol a machine", "With an enrolment token and proof of the machine's new key. The answer is signed by the server."}, s.agentEnrol)
	machine(s, op{t, "POST /agent/sessions", "agentOpenSession", "Open a session", "Signed by the machine's key; the answer, signed by the server, carries what both derive the session's keys from."}, s.agentOpenSession)
	inSession(s, op{t, "POST /agent/claim", "agentClaim", "Claim a run", "Waits for one, at most 30 seconds."}, s.agentClaim)
	inSession(s, op{t, "POST /agent/runs/{run}/start", "agentStart", "Say that a claimed run is about to start", ""}, s.agentStart)
	inSession(s, op{t, "POST /agent/runs/{run}/heartbeat", "agentHeartbeat", "Keep the lease of a claimed run", ""}, s.agentHeartbeat)
	inSession(s, op{t, "POST /agent/runs/{run}/log", "agentLog", "Append output of a claimed run", ""}, s.agentLog)
	inSession(s, op{t, "POST /agent/runs/{run}/release", "agentRelease", "Get a credential of a claimed run", "Sealed to the machine. It is in the audit log first."}, s.agentRelease)
	inSession(s, op{t, "POST /agent/runs/{run}/finish", "agentFinish", "End a claimed run", ""}, s.agentFinish)
}
