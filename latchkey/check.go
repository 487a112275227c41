package latchkey

// A CheckStep names one step of the check of a secret reference.
type CheckStep string

const (
	CheckListed   CheckStep = "listed"   // the environment lists the vault
	CheckProvider CheckStep = "provider" // the vault's kind of resource is switched on in its subscription
	CheckVault    CheckStep = "vault"    // the vault is there
	CheckTenant   CheckStep = "tenant"   // it belongs to an Azure tenant that is linked
	CheckNetwork  CheckStep = "network"  // it can be reached
	CheckService  CheckStep = "service"  // the service's identity may read the secret
	CheckSecret   CheckStep = "secret"   // the secret is there and enabled
	CheckPerson   CheckStep = "person"   // the person who saved the reference may read it
)

// CheckSteps are the steps of a check, in their order.
var CheckSteps = []CheckStep{CheckListed, CheckProvider, CheckVault, CheckTenant, CheckNetwork, CheckService, CheckSecret, CheckPerson}

// A CheckResult is what came of one step of the check of a reference. It never
// holds a value.
type CheckResult struct {
	Step     CheckStep  `json:"step" enum:"listed,provider,vault,tenant,network,service,secret,person"`
	State    CheckState `json:"state" enum:"passed,failed,unknown"`
	Message  string     `json:"message" doc:"what was found, in a sentence"`
	Warning  string     `json:"warning,omitempty" doc:"what is no failure here, but may be one elsewhere"`
	Identity string     `json:"identity,omitempty" doc:"the identity that was asked about"`
	Scope    string     `json:"scope,omitempty" doc:"ARM id of what was asked about"`
	Action   string     `json:"action,omitempty" doc:"the data action that is missing"`
	Role     string     `json:"role,omitempty" doc:"the smallest role that permits it"`
	Remedy   string     `json:"remedy,omitempty" doc:"what to do, where no command does"`
	Command  string     `json:"command,omitempty" doc:"the command that mends it"`
}

// The orders in which the steps of a check that has not passed are looked at for
// the one that says why.
var (
	failedOrder  = []CheckStep{CheckListed, CheckProvider, CheckVault, CheckTenant, CheckNetwork, CheckPerson, CheckService, CheckSecret}
	unknownOrder = []CheckStep{CheckNetwork, CheckService, CheckSecret, CheckPerson, CheckTenant, CheckVault, CheckProvider}
)

// Conclude returns what follows from the steps of a check: it has failed if one has,
// is unknown if one is, and has passed otherwise.
func Conclude(results []CheckResult) Check {
	find := func(state CheckState, order []CheckStep) (Check, bool) {
		for _, step := range order {
			for _, r := range results {
				if r.Step != step || r.State != state {
					continue
				}
				c := Check{State: state, Check: string(step), Identity: r.Identity, Message: r.Message, Remedy: r.Remedy, Results: results}
				if c.Remedy == "" && r.Command != "" {
					c.Remedy = "Run " + r.Command + "; then check again."
				}
				return c, true
			}
		}
		return Check{}, false
	}
	if c, ok := find(CheckFailed, failedOrder); ok {
		return c
	}
	if c, ok := find(CheckUnknown, unknownOrder); ok {
		return c
	}
	return Check{State: CheckPassed, Message: "The person who saved it and the service may read the secret.", Results: results}
}
