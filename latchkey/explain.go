package latchkey

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// inEnvironment are the actions on an environment whose names do not begin with
// its kind.
var inEnvironment = []Action{
	ActVariableCreate, ActCredentialCreate, ActConnectionCreate, ActFlowCreate, ActMachineGroupCreate, ActMachineToken, ActAuditRead, ActDoctorIn, ActReferenceCheck,
}

// ExplainedKinds are the kinds of things that an Explanation is about.
var ExplainedKinds = []Kind{KindEnvironment, KindVariable, KindCredential, KindMachine, KindMachineGroup, KindConnection, KindFlow, KindRun}

// ActionsOf returns the actions of the permission table that are decided about a
// thing of one of the ExplainedKinds, in order. Of another kind it returns none.
func ActionsOf(kind Kind) []Action {
	if !slices.Contains(ExplainedKinds, kind) {
		return nil
	}
	return slices.Sorted(func(yield func(Action) bool) {
		for a := range maps.Keys(Permissions) {
			if KindOf(a) == kind && !yield(a) {
				return
			}
		}
	})
}

// KindOf returns the kind of the things that an action of the permission table is
// decided about, or "" for one that concerns no thing of an environment and for what
// is no such action.
func KindOf(a Action) Kind {
	_, known := Permissions[a]
	noun, _, _ := strings.Cut(string(a), ".")
	kind := Kind(strings.ReplaceAll(noun, "-", " "))
	switch {
	case !known:
		return ""
	case slices.Contains(inEnvironment, a):
		return KindEnvironment
	case a == ActEnvironmentCreate:
		return "" // there is none yet
	case slices.Contains(ExplainedKinds, kind):
		return kind
	}
	return ""
}

// A Way is how a principal comes to what it holds.
type Way string

const (
	WayTenantAdmin Way = "tenant-admin"     // it is one
	WayMember      Way = "environment-role" // of its own or of a group
	WayShare       Way = "share"            // a role on the thing, of its own or of a group
	WayRun         Way = "run"              // the run is its own, or it started it
	WayVault       Way = "vault-role"       // it may read the secret itself
)

// An Explanation says what a principal may do with a thing of an environment, and
// why.
type Explanation struct {
	Environment EnvironmentID    `json:"environment"`
	Principal   DirectoryEntry   `json:"principal"`
	Kind        Kind             `json:"kind" enum:"environment,variable,credential,machine,machine group,connection,flow,run"`
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Decisions   []AccessDecision `json:"decisions" nullable:"false" doc:"of the action that was asked about, or of every action on things of this kind"`
	Sources     []AccessSource   `json:"sources" nullable:"false" doc:"all that the principal holds with regard to the thing"`
	Obstacles   []Obstacle       `json:"obstacles" nullable:"false" doc:"what keeps it from counting"`
}

// An AccessDecision is whether a principal may do an action, as it would be decided
// now.
type AccessDecision struct {
	Action  Action       `json:"action"`
	Allowed bool         `json:"allowed"`
	Note    string       `json:"note,omitempty" doc:"what else there is to know, such as how far the permission goes"`
	Change  []AccessStep `json:"change,omitempty" doc:"when it is refused: the least that would permit it, all of it; none when nothing would"`
}

// An AccessSource is one thing that a principal holds, with where it is from.
type AccessSource struct {
	Way             Way             `json:"way" enum:"tenant-admin,environment-role,share,run,vault-role"`
	EnvironmentRole EnvironmentRole `json:"environmentRole,omitempty" enum:"admin,maker,user,auditor"`
	Role            Role            `json:"role,omitempty" enum:"owner,co-owner,user-share,user" doc:"on the thing"`

	// To is who was given it: the principal, or a group that it is in.
	To     PrincipalID `json:"to"`
	ToName string      `json:"toName"`
	Groups []string    `json:"groups,omitempty" doc:"names of the groups from the one that the principal is in to the one that holds it: the shortest chain, of perhaps several"`

	Via     CredentialID `json:"via,omitempty" doc:"the credential with whose share a variable came; left out when the caller may not see it"`
	ViaName string       `json:"viaName,omitempty"`
	With    bool         `json:"with,omitempty" doc:"it came with the share of a credential"`
	Left    bool         `json:"left,omitempty" doc:"that share was removed: this was left of it"`

	By     PrincipalID `json:"by,omitempty" doc:"who gave it"`
	ByName string      `json:"byName,omitempty"`
	At     *time.Time  `json:"at,omitempty" doc:"when"`

	Counts  bool     `json:"counts" doc:"false when an obstacle keeps it from counting"`
	Permits []Action `json:"permits" nullable:"false" doc:"the actions among decisions that it permits by itself, or would if it counted"`
}

// Access returns what the source alone amounts to.
func (s AccessSource) Access() Access {
	a := Access{Role: s.Role, Tenant: s.Way == WayTenantAdmin}
	if s.EnvironmentRole != "" {
		a.Environment = []EnvironmentRole{s.EnvironmentRole}
	}
	return a
}

// An Obstacle keeps what a principal holds from counting.
type Obstacle struct {
	Code    string `json:"code" enum:"account-disabled,no-environment-role,group"`
	Message string `json:"message"`
}

// Codes of obstacles.
const (
	ObstacleDisabled = "account-disabled"
	ObstacleOutside  = "no-environment-role"
	ObstacleGroup    = "group" // what its members have is decided member by member
)

// A Give is what an AccessStep asks for.
type Give string

const (
	GiveEnable   Give = "enable"
	GiveMember   Give = "environment-role"
	GiveShare    Give = "share"
	GiveHandOver Give = "hand-over"
	GiveTenant   Give = "tenant-admin"
)

// An AccessStep is something that has to be given for an action to be permitted.
type AccessStep struct {
	Give            Give             `json:"give" enum:"enable,environment-role,share,hand-over,tenant-admin"`
	EnvironmentRole EnvironmentRole  `json:"environmentRole,omitempty" enum:"admin,maker,user,auditor"`
	Role            Role             `json:"role,omitempty" enum:"co-owner,user-share,user"`
	Message         string           `json:"message" doc:"what to give and who can, in a sentence"`
	Who             []DirectoryEntry `json:"who,omitempty" doc:"some of those who can, as far as the caller may see them"`
}

// least are the roles in an environment, those first that can do less.
var least = []EnvironmentRole{EnvUser, EnvAuditor, EnvMaker, EnvAdmin}

// Missing returns the least that a principal, who holds a with regard to a thing of
// a kind and all of this if it counted, has to be given so that it may do an action;
// false when nothing that can be given would do. A role on the thing is less than
// one in the environment, which concerns everything there. Messages and people are
// not filled in.
func (a Access) Missing(action Action, kind Kind, to PrincipalKind) ([]AccessStep, bool) {
	counts := a
	if len(a.Environment) == 0 {
		counts.Role = RoleNone
	}
	if counts.Can(action) {
		return nil, true
	}
	p := Permissions[action]
	var steps []AccessStep
	if len(a.Environment) == 0 && (kind != KindEnvironment || slices.Contains(p.Environment, EnvUser)) {
		// Nothing on a thing counts without a role in its environment.
		steps = append(steps, AccessStep{Give: GiveMember, EnvironmentRole: EnvUser})
		a.Environment = []EnvironmentRole{EnvUser}
		if a.Can(action) {
			return steps, true
		}
	}
	if p.Role != RoleNone {
		s := SharingOf[kind]
		if slices.Contains(s.To, to) {
			for _, r := range s.Roles { // the lowest first
				if r.Includes(p.Role) {
					return append(steps, AccessStep{Give: GiveShare, Role: r}), true
				}
			}
		}
		if s.HandOver != "" && (to == PrincipalUser || to == PrincipalService) {
			return append(steps, AccessStep{Give: GiveHandOver}), true
		}
	}
	for _, r := range least {
		if slices.Contains(p.Environment, r) {
			return []AccessStep{{Give: GiveMember, EnvironmentRole: r}}, true
		}
	}
	if p.Tenant && to == PrincipalUser {
		return []AccessStep{{Give: GiveTenant}}, true
	}
	return nil, false
}
