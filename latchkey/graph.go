package latchkey

import "time"

// Bounds of what is said about dependencies.
const (
	MaxComponents = 500                 // of one graph
	MaxSecretUses = 500                 // of one search
	ObservedFor   = 30 * 24 * time.Hour // how far back runs and releases count as use
)

// A Component is a thing in a graph of dependencies: a secret reference, a
// variable, a credential, a connection, a flow, a machine or a machine group.
type Component struct {
	Kind        Kind          `json:"kind" enum:"secret reference,variable,credential,connection,flow,machine,machine group"`
	ID          string        `json:"id" doc:"of a secret reference its ARM id"`
	Name        string        `json:"name"`
	Environment EnvironmentID `json:"environment,omitempty"`
	LastUsedAt  *time.Time    `json:"lastUsedAt,omitempty" doc:"of a credential, a connection or a flow: when it was last released, or ran, within 30 days"`
}

// A Dependency is that one component uses another.
type Dependency struct {
	From       string     `json:"from" doc:"id of the component that uses the other"`
	To         string     `json:"to" doc:"id of the one that is used"`
	As         string     `json:"as" doc:"what as: a slot, credential, target, member, reference; ran-through for what only runs show"`
	Observed   bool       `json:"observed,omitempty" doc:"seen in runs of the last 30 days, and declared nowhere"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty" doc:"of what is observed"`
}

// Dependencies are the components that one uses, or that use it, directly or by
// others, as far as the caller may see them.
type Dependencies struct {
	Component    Component    `json:"component" doc:"the one that was asked about"`
	Components   []Component  `json:"components" nullable:"false" doc:"the others, nearest first"`
	Dependencies []Dependency `json:"dependencies" nullable:"false"`
	Hidden       int          `json:"hidden" doc:"how many more there are that the caller may not see"`
	Truncated    bool         `json:"truncated" doc:"there are more than 500"`
}

// A SecretUse is a variable that refers to a secret.
type SecretUse struct {
	Reference       SecretReference `json:"reference"`
	Environment     EnvironmentID   `json:"environment"`
	EnvironmentName string          `json:"environmentName"`
	Variable        VariableID      `json:"variable"`
	VariableName    string          `json:"variableName"`
	InForce         bool            `json:"inForce" doc:"releases read it; else it waits for its check"`
	Credentials     int             `json:"credentials" doc:"how many credentials use the variable"`
	Connections     int             `json:"connections" doc:"how many connections use these"`
}

// An ImpactAction is what an impact is asked for.
type ImpactAction string

const (
	ImpactDelete  ImpactAction = "delete"
	ImpactEdit    ImpactAction = "edit"    // of a variable's value
	ImpactDisable ImpactAction = "disable" // of a machine
	ImpactUnshare ImpactAction = "unshare" // with somebody
)

// ImpactActions returns what an impact on things of a kind can be asked for.
func ImpactActions(kind Kind) []ImpactAction {
	actions := []ImpactAction{ImpactDelete, ImpactUnshare}
	switch kind {
	case KindVariable:
		actions = append(actions, ImpactEdit)
	case KindMachine:
		actions = append(actions, ImpactDisable)
	}
	return actions
}

// An Effect is what happens to one component.
type Effect struct {
	Component
	Owner string `json:"owner,omitempty" doc:"name of the owner of a connection"`
	What  string `json:"what" doc:"what happens to it"`
}

// A Loss is what one principal loses.
type Loss struct {
	Principal PrincipalID   `json:"principal"`
	Kind      PrincipalKind `json:"kind" enum:"user,group,service-principal"`
	Name      string        `json:"name"`
	Role      Role          `json:"role" doc:"that it has on the thing"`
}

// An ObservedUse is that runs of a flow went through a connection.
type ObservedUse struct {
	Flow       FlowID       `json:"flow" doc:"empty if the caller may not see it"`
	FlowName   string       `json:"flowName" doc:"empty if the caller may not see it"`
	Connection ConnectionID `json:"connection" doc:"empty if the caller may not see it"`
	Runs       int          `json:"runs" doc:"of the newest 10,000 of the last 30 days"`
	LastAt     time.Time    `json:"lastAt"`
}

// An Impact is what an action on a thing would do.
type Impact struct {
	Component Component     `json:"component"`
	Action    ImpactAction  `json:"action" enum:"delete,edit,disable,unshare"`
	InUse     bool          `json:"inUse" doc:"something uses it, or has within 30 days: to delete it takes force, with the hash"`
	Effects   []Effect      `json:"effects" nullable:"false" doc:"what stops working, or gets another value"`
	Losses    []Loss        `json:"losses" nullable:"false" doc:"who loses what"`
	Open      int           `json:"open" doc:"how many runs wait or are under way"`
	Observed  []ObservedUse `json:"observed" nullable:"false" doc:"what ran within 30 days"`
	Hidden    int           `json:"hidden" doc:"how many more components are affected that the caller may not see"`
	Truncated bool          `json:"truncated" doc:"there are more than 500"`
	Hash      string        `json:"hash" doc:"of everything that is affected, hidden ones too; not of counts and times"`
}

// A Force says that something is to be deleted though it is in use. Hash is that of
// the impact which whoever decides has seen.
type Force struct {
	Force bool
	Hash  string
}

// DeletedTTL is for how long what was deleted can be restored.
const DeletedTTL = 30 * 24 * time.Hour

// A Deleted is a component that was deleted and can be restored.
type Deleted struct {
	Kind      Kind        `json:"kind" enum:"variable,credential,connection,flow,machine,machine group"`
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	DeletedAt time.Time   `json:"deletedAt"`
	DeletedBy PrincipalID `json:"deletedBy"`
	PurgedAt  time.Time   `json:"purgedAt" doc:"when it goes for good"`
}

// A Restore asks for a deleted component back.
type Restore struct {
	Name string `json:"name,omitempty" doc:"another name for it, when its own is taken meanwhile; of a variable the unique name"`
}
