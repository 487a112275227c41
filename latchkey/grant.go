package latchkey

import "slices"

// A Kind is the kind of a thing that operations act on.
type Kind string

const (
	KindTenant           Kind = "tenant"
	KindEnvironment      Kind = "environment"
	KindVariable         Kind = "variable"
	KindCredential       Kind = "credential"
	KindMachine          Kind = "machine"
	KindMachineGroup     Kind = "machine group"
	KindConnection       Kind = "connection"
	KindFlow             Kind = "flow"
	KindRun              Kind = "run"
	KindVault            Kind = "vault"
	KindVaultSecret      Kind = "secret"
	KindVaultCertificate Kind = "certificate"
	KindVaultKey         Kind = "key"
	KindVaultIssuer      Kind = "certificate issuer"
	KindUser             Kind = "user"
	KindToken            Kind = "token"
	KindPasskey          Kind = "passkey"
	KindEnrolment        Kind = "enrolment token"
	KindRole             Kind = "role assignment"
	KindMember           Kind = "member"
	KindAzureTenant      Kind = "Azure tenant"
	KindIdentity         Kind = "external identity"
	KindGroup            Kind = "group"
	KindShare            Kind = "share"
	KindPrincipal        Kind = "user, group or service principal"
	KindNotice           Kind = "notice"
	KindReference        Kind = "secret reference"
	KindDeleted          Kind = "deleted component"
	KindServicePrincipal Kind = "service principal"
	KindPrincipalProof   Kind = "credential of a service principal"
	KindAccount          Kind = "account of a certificate"
)

// A Role is a principal's role on one thing. A higher role includes the lower.
type Role string

const (
	RoleNone      Role = ""
	RoleUser      Role = "user"       // User (can view only)
	RoleUserShare Role = "user-share" // User (can view and share)
	RoleCoOwner   Role = "co-owner"   // Co-owner (can edit)
	RoleOwner     Role = "owner"
)

var roles = []Role{RoleNone, RoleUser, RoleUserShare, RoleCoOwner, RoleOwner}

// Includes reports whether r is at least other.
func (r Role) Includes(other Role) bool {
	return slices.Index(roles, r) >= slices.Index(roles, other)
}

// An EnvironmentRole is a principal's role in an environment.
type EnvironmentRole string

const (
	EnvAdmin   EnvironmentRole = "admin"
	EnvMaker   EnvironmentRole = "maker"
	EnvUser    EnvironmentRole = "user"
	EnvAuditor EnvironmentRole = "auditor"
)

// EnvironmentRoles are all roles in an environment.
var EnvironmentRoles = []EnvironmentRole{EnvAdmin, EnvMaker, EnvUser, EnvAuditor}

// An Action is an operation: the constant that permits it and the one that the
// audit log shows are the same.
type Action string

const (
	ActEnvironmentCreate Action = "environment.create"
	ActEnvironmentRead   Action = "environment.read"
	ActEnvironmentUpdate Action = "environment.update"
	ActEnvironmentDelete Action = "environment.delete"
	ActMemberSet         Action = "environment.member.set"
	ActDirectoryRead     Action = "environment.directory.read" // whom something may be shared with
	ActAccessRead        Action = "environment.access.read"    // why somebody may do something with it, or not
	ActOwnedRead         Action = "environment.owned.read"     // what somebody owns there
	ActOwnedHandOver     Action = "environment.owned.hand-over"

	ActAccessExplain Action = "access.explain" // why somebody may do something with a thing, or not

	ActVariableCreate   Action = "variable.create"
	ActVariableRead     Action = "variable.read"
	ActVariableUpdate   Action = "variable.update"
	ActVariableDelete   Action = "variable.delete"
	ActVariableCheck    Action = "variable.check"
	ActVariableOverride Action = "variable.override"
	ActVariableBind     Action = "variable.bind" // make a credential of a secret variable

	ActReferenceCheck Action = "reference.check" // of a reference that is not saved yet

	ActCredentialCreate Action = "credential.create"
	ActCredentialRead   Action = "credential.read"
	ActCredentialUpdate Action = "credential.update"
	ActCredentialExpose Action = "credential.expose" // change exposure, shared-uid and machines
	ActCredentialDelete Action = "credential.delete"
	ActCredentialUse    Action = "credential.use"
	ActCredentialCheck  Action = "credential.check" // look at its certificate again

	ActCredentialShares   Action = "credential.share.list"
	ActCredentialShare    Action = "credential.share"
	ActCredentialUnshare  Action = "credential.unshare"
	ActCredentialHandOver Action = "credential.hand-over"
	ActCredentialTakeOver Action = "credential.take-over" // or hand over what is somebody else's

	ActVariableShares   Action = "variable.share.list"
	ActVariableShare    Action = "variable.share"
	ActVariableUnshare  Action = "variable.unshare"
	ActVariableHandOver Action = "variable.hand-over"
	ActVariableTakeOver Action = "variable.take-over"

	ActMachineShares   Action = "machine.share.list"
	ActMachineShare    Action = "machine.share"
	ActMachineUnshare  Action = "machine.unshare"
	ActMachineHandOver Action = "machine.hand-over"
	ActMachineTakeOver Action = "machine.take-over"

	ActMachineGroupShares   Action = "machine-group.share.list"
	ActMachineGroupShare    Action = "machine-group.share"
	ActMachineGroupUnshare  Action = "machine-group.unshare"
	ActMachineGroupHandOver Action = "machine-group.hand-over"
	ActMachineGroupTakeOver Action = "machine-group.take-over"

	ActConnectionShares   Action = "connection.share.list"
	ActConnectionShare    Action = "connection.share"
	ActConnectionUnshare  Action = "connection.unshare"
	ActConnectionHandOver Action = "connection.hand-over"
	ActConnectionTakeOver Action = "connection.take-over"

	ActFlowShares      Action = "flow.share.list"
	ActFlowShare       Action = "flow.share"
	ActFlowUnshare     Action = "flow.unshare"
	ActFlowHandOver    Action = "flow.hand-over"
	ActFlowTakeOver    Action = "flow.take-over"
	ActCertificateRead Action = "certificate.read" // by the service, to look at it

	ActBindingRead Action = "certificate-binding.read" // username bindings of certificates
	ActBindingSet  Action = "certificate-binding.set"

	ActAccountSet    Action = "certificate-account.set" // what the directory says of a user
	ActAccountRemove Action = "certificate-account.remove"

	ActMachineToken      Action = "machine.token" // make an enrolment token
	ActMachineRevoke     Action = "machine.token.revoke"
	ActMachineEnrol      Action = "machine.enrol"
	ActMachineRead       Action = "machine.read"
	ActMachineUpdate     Action = "machine.update"
	ActMachineDelete     Action = "machine.delete"
	ActMachineUse        Action = "machine.use"
	ActMachineSession    Action = "machine.session"
	ActMachineQuarantine Action = "machine.quarantine"

	ActMachineGroupCreate Action = "machine-group.create"
	ActMachineGroupRead   Action = "machine-group.read"
	ActMachineGroupUpdate Action = "machine-group.update"
	ActMachineGroupMember Action = "machine-group.member.set" // add or remove a machine
	ActMachineGroupDelete Action = "machine-group.delete"
	ActMachineGroupUse    Action = "machine-group.use"

	ActConnectionCreate Action = "connection.create"
	ActConnectionRead   Action = "connection.read"
	ActConnectionUpdate Action = "connection.update"
	ActConnectionDelete Action = "connection.delete"
	ActConnectionUse    Action = "connection.use"
	ActConnectionTest   Action = "connection.test"
	ActConnectionForce  Action = "connection.test.force" // test though the target has refused the secret repeatedly

	ActFlowCreate Action = "flow.create"
	ActFlowRead   Action = "flow.read"
	ActFlowUpdate Action = "flow.update"
	ActFlowDelete Action = "flow.delete"
	ActFlowRun    Action = "flow.run"

	ActRestore Action = "component.restore" // what was deleted
	ActPurge   Action = "component.purge"   // what was deleted, for good

	ActRunStart  Action = "run.start"
	ActRunRead   Action = "run.read"
	ActRunCancel Action = "run.cancel"
	ActRunClaim  Action = "run.claim"
	ActRunFinish Action = "run.finish"

	ActReleaseGranted   Action = "release.granted"
	ActReleaseDenied    Action = "release.denied"
	ActReleaseDelivered Action = "release.delivered"
	ActReleaseFailed    Action = "release.failed"

	ActVaultCreate   Action = "vault.create"
	ActVaultRead     Action = "vault.read"
	ActVaultDelete   Action = "vault.delete"
	ActVaultAssign   Action = "vault.role.assign"
	ActVaultRemove   Action = "vault.role.remove"
	ActVaultToken    Action = "vault.token"
	ActSecretGet     Action = "secret.get"
	ActSecretList    Action = "secret.list"
	ActSecretSet     Action = "secret.set"
	ActSecretUpdate  Action = "secret.update"
	ActSecretDelete  Action = "secret.delete"
	ActSecretRecover Action = "secret.recover"
	ActSecretPurge   Action = "secret.purge"
	ActSecretBackup  Action = "secret.backup"
	ActSecretRestore Action = "secret.restore"

	ActCertificateGet        Action = "certificate.get"
	ActCertificateList       Action = "certificate.list"
	ActCertificateCreate     Action = "certificate.create"
	ActCertificateIssue      Action = "certificate.issue" // of a pending one: the version is there
	ActCertificateImport     Action = "certificate.import"
	ActCertificateCancel     Action = "certificate.cancel" // a pending one
	ActCertificateUpdate     Action = "certificate.update"
	ActCertificateDelete     Action = "certificate.delete"
	ActCertificateRecover    Action = "certificate.recover"
	ActCertificatePurge      Action = "certificate.purge"
	ActCertificateBackup     Action = "certificate.backup"
	ActCertificateRestore    Action = "certificate.restore"
	ActCertificateRenew      Action = "certificate.renew"       // by itself, as its policy says
	ActCertificateNearExpiry Action = "certificate.near-expiry" // what a policy has people told
	ActIssuerGet             Action = "certificate-issuer.get"
	ActIssuerSet             Action = "certificate-issuer.set"
	ActIssuerDelete          Action = "certificate-issuer.delete"
	ActContactsGet           Action = "certificate-contacts.get"
	ActContactsSet           Action = "certificate-contacts.set"
	ActContactsDelete        Action = "certificate-contacts.delete"
	ActKeyGet                Action = "key.get"
	ActKeyList               Action = "key.list"

	ActUserCreate  Action = "user.create"
	ActUserRead    Action = "user.read"
	ActUserUpdate  Action = "user.update"
	ActGroupCreate Action = "group.create"
	ActGroupRead   Action = "group.read"
	ActGroupUpdate Action = "group.update"
	ActGroupDelete Action = "group.delete"
	ActGroupMember Action = "group.member.set"
	ActTokenCreate Action = "token.create"
	ActTokenRevoke Action = "token.revoke"
	ActSessionsEnd Action = "session.end-others"

	ActPasskeyAdd    Action = "passkey.add"
	ActPasskeyRemove Action = "passkey.remove"
	ActSignIn        Action = "sign-in"
	ActAuditRead     Action = "audit.read"
	ActDoctor        Action = "doctor.run"
	ActDoctorIn      Action = "doctor.environment.run"

	ActIdentityAdd    Action = "user.identity.add" // say who a user is in another directory
	ActIdentityRemove Action = "user.identity.remove"

	ActServicePrincipalCreate Action = "service-principal.create"
	ActServicePrincipalRead   Action = "service-principal.read"
	ActServicePrincipalUpdate Action = "service-principal.update"
	ActServicePrincipalDelete Action = "service-principal.delete"
	ActPrincipalProofAdd      Action = "service-principal.credential.add"
	ActPrincipalProofRemove   Action = "service-principal.credential.remove"

	ActAzureTenantLink   Action = "azure-tenant.link"
	ActAzureTenantRead   Action = "azure-tenant.read"
	ActAzureTenantUnlink Action = "azure-tenant.unlink"

	// Of whoever holds the database.
	ActBackupCreate    Action = "backup.create"
	ActBackupRestore   Action = "backup.restore"
	ActMasterKeyAdd    Action = "master-key.add"
	ActMasterKeyUse    Action = "master-key.use" // seal with another master key from now on
	ActMasterKeyRewrap Action = "master-key.rewrap"
	ActMasterKeyRetire Action = "master-key.retire"
)

// A Permission says who may do an action: whoever has at least Role on the
// thing, or one of the Environment roles in the thing's environment, or, where
// Tenant is set, a tenant admin.
type Permission struct {
	Role        Role // RoleNone: no role on the thing suffices
	Environment []EnvironmentRole
	Tenant      bool
}

var (
	anyEnvRole = EnvironmentRoles
	readers    = []EnvironmentRole{EnvAdmin, EnvAuditor}
	makers     = []EnvironmentRole{EnvAdmin, EnvMaker}
	admins     = []EnvironmentRole{EnvAdmin}
)

// Permissions is the permission table. An action that is not in it is allowed
// to nobody. Being a tenant admin implies no role on a thing and none in an
// environment: it lets one hand out environment roles, on record.
var Permissions = map[Action]Permission{
	ActEnvironmentCreate: {Tenant: true},
	ActEnvironmentRead:   {Environment: anyEnvRole, Tenant: true},
	ActEnvironmentUpdate: {Environment: admins},
	ActEnvironmentDelete: {Environment: admins},
	ActMemberSet:         {Environment: admins, Tenant: true},
	ActDirectoryRead:     {Environment: anyEnvRole, Tenant: true},
	ActAccessRead:        {Environment: readers, Tenant: true}, // of oneself everybody may
	ActOwnedRead:         {Environment: readers},               // of oneself everybody may
	ActOwnedHandOver:     {Environment: admins},                // everybody hands over what they own

	ActAccessExplain: {Role: RoleCoOwner, Environment: readers}, // of oneself everybody may

	ActVariableCreate:   {Environment: makers},
	ActVariableRead:     {Role: RoleUser, Environment: readers},
	ActVariableUpdate:   {Role: RoleCoOwner},
	ActVariableDelete:   {Role: RoleOwner, Environment: admins},
	ActVariableCheck:    {Role: RoleUser, Environment: admins},
	ActVariableOverride: {Environment: admins},
	ActVariableBind:     {Role: RoleCoOwner}, // or whoever may read the secret itself

	ActReferenceCheck: {Environment: makers}, // as for saving one

	ActCredentialCreate: {Environment: makers},
	ActCredentialRead:   {Role: RoleUser, Environment: readers},
	ActCredentialUpdate: {Role: RoleCoOwner},
	ActCredentialExpose: {Role: RoleOwner},
	ActCredentialDelete: {Role: RoleOwner, Environment: admins},
	ActCredentialUse:    {Role: RoleUser},
	ActCredentialCheck:  {Role: RoleUser, Environment: admins},

	ActCredentialShares:   {Role: RoleUserShare, Environment: readers},
	ActCredentialShare:    {Role: RoleUserShare},
	ActCredentialUnshare:  {Role: RoleUserShare},
	ActCredentialHandOver: {Role: RoleOwner},
	ActCredentialTakeOver: {Environment: admins},

	ActVariableShares:   {Role: RoleUserShare, Environment: readers},
	ActVariableShare:    {Role: RoleUserShare},
	ActVariableUnshare:  {Role: RoleUserShare},
	ActVariableHandOver: {Role: RoleOwner},
	ActVariableTakeOver: {Environment: admins},

	ActMachineShares:   {Role: RoleUserShare, Environment: readers},
	ActMachineShare:    {Role: RoleUserShare},
	ActMachineUnshare:  {Role: RoleUserShare},
	ActMachineHandOver: {Role: RoleOwner},
	ActMachineTakeOver: {Environment: admins},

	ActMachineGroupShares:   {Role: RoleUserShare, Environment: readers},
	ActMachineGroupShare:    {Role: RoleUserShare},
	ActMachineGroupUnshare:  {Role: RoleUserShare},
	ActMachineGroupHandOver: {Role: RoleOwner},
	ActMachineGroupTakeOver: {Environment: admins},

	ActConnectionShares:   {Role: RoleOwner, Environment: readers},
	ActConnectionShare:    {Role: RoleOwner},
	ActConnectionUnshare:  {Role: RoleOwner},
	ActConnectionHandOver: {Role: RoleOwner},
	ActConnectionTakeOver: {Environment: admins},

	ActFlowShares:   {Role: RoleUserShare, Environment: readers},
	ActFlowShare:    {Role: RoleUserShare},
	ActFlowUnshare:  {Role: RoleUserShare},
	ActFlowHandOver: {Role: RoleOwner},
	ActFlowTakeOver: {Environment: admins},

	ActMachineToken:  {Environment: admins},
	ActMachineRead:   {Role: RoleUser, Environment: readers},
	ActMachineUpdate: {Role: RoleCoOwner, Environment: admins},
	ActMachineDelete: {Role: RoleOwner, Environment: admins},
	ActMachineUse:    {Role: RoleUser},

	ActMachineGroupCreate: {Environment: makers},
	ActMachineGroupRead:   {Role: RoleUser, Environment: readers},
	ActMachineGroupUpdate: {Role: RoleCoOwner, Environment: admins},
	ActMachineGroupMember: {Role: RoleCoOwner, Environment: admins}, // who may update the machine as well
	ActMachineGroupDelete: {Role: RoleCoOwner, Environment: admins},
	ActMachineGroupUse:    {Role: RoleUser},

	ActConnectionCreate: {Environment: makers},
	ActConnectionRead:   {Role: RoleUser, Environment: readers},
	ActConnectionUpdate: {Role: RoleCoOwner},
	ActConnectionDelete: {Role: RoleOwner, Environment: admins},
	ActConnectionUse:    {Role: RoleUser},
	ActConnectionTest:   {Role: RoleUser},
	ActConnectionForce:  {Role: RoleOwner},

	ActFlowCreate: {Environment: makers},
	ActFlowRead:   {Role: RoleUser, Environment: readers},
	ActFlowUpdate: {Role: RoleCoOwner},
	ActFlowDelete: {Role: RoleOwner, Environment: admins},
	ActFlowRun:    {Role: RoleUser},

	ActRestore: {Role: RoleOwner, Environment: admins},
	ActPurge:   {Role: RoleOwner, Environment: admins},

	// A run's owner and who started it have RoleOwner on it.
	ActRunRead:   {Role: RoleOwner, Environment: readers},
	ActRunCancel: {Role: RoleOwner, Environment: admins},

	ActVaultCreate: {Tenant: true},
	ActVaultRead:   {Tenant: true}, // and whoever has a role in the vault
	ActVaultDelete: {Tenant: true},

	ActBindingRead: {Tenant: true},
	ActBindingSet:  {Tenant: true},

	ActAccountSet:    {Tenant: true},
	ActAccountRemove: {Tenant: true},

	ActUserCreate: {Tenant: true},
	ActUserRead:   {Tenant: true},
	ActUserUpdate: {Tenant: true},

	ActGroupCreate: {Tenant: true},
	ActGroupRead:   {Tenant: true}, // and its members
	ActGroupUpdate: {Tenant: true},
	ActGroupDelete: {Tenant: true},
	ActGroupMember: {Tenant: true},

	ActIdentityAdd:    {Tenant: true},
	ActIdentityRemove: {Tenant: true},

	ActServicePrincipalCreate: {Tenant: true},
	ActServicePrincipalRead:   {Tenant: true}, // and itself
	ActServicePrincipalUpdate: {Tenant: true},
	ActServicePrincipalDelete: {Tenant: true},
	ActPrincipalProofAdd:      {Tenant: true},
	ActPrincipalProofRemove:   {Tenant: true},

	ActAzureTenantLink:   {Tenant: true},
	ActAzureTenantRead:   {Tenant: true},
	ActAzureTenantUnlink: {Tenant: true},

	ActAuditRead: {Environment: readers, Tenant: true},
	ActDoctor:    {Tenant: true},
	ActDoctorIn:  {Environment: readers},
}

// Access is what a principal holds with regard to one thing.
type Access struct {
	Tenant      bool              // is a tenant admin
	Environment []EnvironmentRole // roles in the thing's environment, own and by groups
	Role        Role              // highest role on the thing
}

// Highest returns the role to show for an environment: the first that a holds
// of admin, maker, user and auditor, or "".
func (a Access) Highest() EnvironmentRole {
	for _, r := range EnvironmentRoles {
		if slices.Contains(a.Environment, r) {
			return r
		}
	}
	return ""
}

// Can reports whether access a permits the action.
func (a Access) Can(action Action) bool {
	p, ok := Permissions[action]
	if !ok {
		return false
	}
	return p.Role != RoleNone && a.Role.Includes(p.Role) ||
		slices.ContainsFunc(a.Environment, func(r EnvironmentRole) bool { return slices.Contains(p.Environment, r) }) ||
		p.Tenant && a.Tenant
}
