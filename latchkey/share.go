package latchkey

import (
	"slices"
	"time"
)

// A Share is a role of a principal on a thing, as somebody gave it.
type Share struct {
	Principal PrincipalID   `json:"principal"`
	Kind      PrincipalKind `json:"kind" enum:"user,group,service-principal"`
	Name      string        `json:"name" doc:"the principal's"`
	Role      Role          `json:"role" enum:"owner,co-owner,user-share,user"`
	Disabled  bool          `json:"disabled,omitempty" doc:"the principal is deactivated: the share means nothing until it is enabled again"`

	// Of a variable: the credential by whose share the principal got it.
	Via     CredentialID `json:"via,omitempty" doc:"of a variable: the credential with which it was shared"`
	ViaName string       `json:"viaName,omitempty" doc:"its name, if the caller may see it"`
	Left    bool         `json:"left,omitempty" doc:"the principal no longer has a share of that credential: this is what was left of it"`

	CreatedBy PrincipalID `json:"createdBy"`
	CreatedAt time.Time   `json:"createdAt"`
}

// A ShareSet asks for a role of a principal on a thing.
type ShareSet struct {
	Role Role `json:"role" enum:"co-owner,user-share,user" doc:"co-owner can edit, user-share can view and share, user can view only; a connection's service principals are user or co-owner"`
}

// A ShareDetail is a share of a credential with what becomes of the variables
// that went along with it once it is removed.
type ShareDetail struct {
	Share
	Variables []SharedVariable `json:"variables,omitempty" doc:"of a credential: what becomes of the grants on its variables when the share is removed"`
}

// A SharedVariable is what a principal has of a variable by the share of a
// credential, and what else it has it by.
type SharedVariable struct {
	Variable VariableID `json:"variable"`
	Name     string     `json:"name"`
	Removed  bool       `json:"removed" doc:"the grant that the share made is removed, or would be; else it stays"`
	Loses    bool       `json:"loses" doc:"the principal no longer sees the variable then, since nothing else gives it"`
	Because  []string   `json:"because" nullable:"false" doc:"what else gives the variable to the principal, a sentence each"`
}

// An Unshared is what the removal of a share has left.
type Unshared struct {
	Variables []SharedVariable `json:"variables" nullable:"false" doc:"of a credential: what became of the grants on its variables"`
}

// An OwnerSet asks for another owner of a thing.
type OwnerSet struct {
	Principal string `json:"principal" doc:"id or login of the new owner, a user or a service principal"`
	Keep      Role   `json:"keep,omitempty" enum:"co-owner,user-share,user" doc:"the role that the owner before keeps; none unless given"`
}

// Sharing is how things of one kind are shared, owned and deleted.
type Sharing struct {
	Read, Delete         Action // of the thing itself
	List, Share, Unshare Action // of its shares
	HandOver, Take       Action
	Roles                []Role          // that can be given
	To                   []PrincipalKind // that they can be given to
}

var (
	shareRoles = []Role{RoleUser, RoleUserShare, RoleCoOwner}
	sharees    = []PrincipalKind{PrincipalUser, PrincipalGroup, PrincipalService}
)

// SharingOf says how things of each kind are shared. A connection is usable by
// its owner and the service principals that it is given to: whoever could use
// somebody's connection could run commands as them.
var SharingOf = map[Kind]Sharing{
	KindCredential: {
		Read: ActCredentialRead, Delete: ActCredentialDelete, List: ActCredentialShares, Share: ActCredentialShare, Unshare: ActCredentialUnshare,
		HandOver: ActCredentialHandOver, Take: ActCredentialTakeOver, Roles: shareRoles, To: sharees,
	},
	KindVariable: {
		Read: ActVariableRead, Delete: ActVariableDelete, List: ActVariableShares, Share: ActVariableShare, Unshare: ActVariableUnshare,
		HandOver: ActVariableHandOver, Take: ActVariableTakeOver, Roles: shareRoles, To: sharees,
	},
	KindMachine: {
		Read: ActMachineRead, Delete: ActMachineDelete, List: ActMachineShares, Share: ActMachineShare, Unshare: ActMachineUnshare,
		HandOver: ActMachineHandOver, Take: ActMachineTakeOver, Roles: shareRoles, To: sharees,
	},
	KindMachineGroup: {
		Read: ActMachineGroupRead, Delete: ActMachineGroupDelete, List: ActMachineGroupShares, Share: ActMachineGroupShare, Unshare: ActMachineGroupUnshare,
		HandOver: ActMachineGroupHandOver, Take: ActMachineGroupTakeOver, Roles: shareRoles, To: sharees,
	},
	KindFlow: {
		Read: ActFlowRead, Delete: ActFlowDelete, List: ActFlowShares, Share: ActFlowShare, Unshare: ActFlowUnshare,
		HandOver: ActFlowHandOver, Take: ActFlowTakeOver, Roles: shareRoles, To: sharees,
	},
	KindConnection: {
		Read: ActConnectionRead, Delete: ActConnectionDelete, List: ActConnectionShares, Share: ActConnectionShare, Unshare: ActConnectionUnshare,
		HandOver: ActConnectionHandOver, Take: ActConnectionTakeOver, Roles: []Role{RoleUser, RoleCoOwner}, To: []PrincipalKind{PrincipalService},
	},
}

// Gives reports whether a role that can be given on things of a kind.
func (s Sharing) Gives(r Role) bool { return slices.Contains(s.Roles, r) }
