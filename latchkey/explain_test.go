package latchkey

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestActionsOf sees that every action that a role on a thing or in an environment
// permits is explained.
func TestActionsOf(t *testing.T) {
	except := []Action{ActAccessExplain, ActRestore, ActPurge} // of things of several kinds; of what is deleted
	for action, p := range Permissions {
		if concerns := p.Role != RoleNone || len(p.Environment) > 0; concerns == (KindOf(action) == "") && !slices.Contains(except, action) {
			t.Errorf("KindOf(%s) = %q; want one exactly if it is permitted by a role on a thing or in an environment", action, KindOf(action))
		}
	}
	for _, kind := range ExplainedKinds {
		if len(ActionsOf(kind)) < 2 {
			t.Errorf("ActionsOf(%s) = %v; want some", kind, ActionsOf(kind))
		}
	}
	if got := ActionsOf(KindVault); got != nil {
		t.Errorf("ActionsOf(vault) = %v; want none", got)
	}
}

func TestMissing(t *testing.T) {
	member := Access{Environment: []EnvironmentRole{EnvUser}}
	for _, tt := range []struct {
		name   string
		has    Access
		action Action
		to     PrincipalKind
		want   []AccessStep
		never  bool
	}{
		{"a share is less than a role in the environment", member, ActCredentialRead, PrincipalUser, []AccessStep{{Give: GiveShare, Role: RoleUser}}, false},
		{"what auditors and admins may", member, ActAuditRead, PrincipalUser, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvAuditor}}, false},
		{"what makers may", Access{}, ActFlowCreate, PrincipalGroup, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvMaker}}, false},
		{"what every member may", Access{}, ActEnvironmentRead, PrincipalUser, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvUser}}, false},
		{"both", Access{}, ActMachineUse, PrincipalUser, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvUser}, {Give: GiveShare, Role: RoleUser}}, false},
		{"a share that does not count", Access{Role: RoleCoOwner}, ActMachineUse, PrincipalUser, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvUser}}, false},
		{"a connection of a person", member, ActConnectionUse, PrincipalUser, []AccessStep{{Give: GiveHandOver}}, false},
		{"a connection of a program", member, ActConnectionUpdate, PrincipalService, []AccessStep{{Give: GiveShare, Role: RoleCoOwner}}, false},
		{"what owners may", member, ActCredentialExpose, PrincipalUser, []AccessStep{{Give: GiveHandOver}}, false},
		{"what owners may and groups cannot be", member, ActCredentialExpose, PrincipalGroup, nil, true},
		{"a run of somebody else", member, ActRunRead, PrincipalUser, []AccessStep{{Give: GiveMember, EnvironmentRole: EnvAuditor}}, false},
		{"allowed", Access{Environment: []EnvironmentRole{EnvUser}, Role: RoleOwner}, ActFlowRun, PrincipalUser, nil, false},
	} {
		got, ok := tt.has.Missing(tt.action, KindOf(tt.action), tt.to)
		if ok == tt.never || !cmp.Equal(tt.want, got) {
			t.Errorf("%s: Missing(%s) = %+v, %t; want %+v", tt.name, tt.action, got, ok, tt.want)
		}
	}
}
