package latchkey

import "slices"

// An OwnedThing is a thing of an environment that somebody owns.
type OwnedThing struct {
	Kind Kind   `json:"kind" enum:"variable,credential,machine,machine group,flow,connection"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

// OwnedKinds are the kinds of things that have owners, in the order in which they
// are handed over: who is to own a connection must hold what it binds.
var OwnedKinds = []Kind{KindVariable, KindCredential, KindMachine, KindMachineGroup, KindFlow, KindConnection}

// MaxHandOver is how many things one request hands over at most.
const MaxHandOver = 500

// A HandOver asks for everything that one principal owns in an environment to be
// owned by another.
type HandOver struct {
	From  string `json:"from" doc:"id or login of the owner"`
	To    string `json:"to" doc:"id or login of the new owner, a user or a service principal"`
	Kinds []Kind `json:"kinds,omitempty" nullable:"false" enum:"variable,credential,machine,machine group,flow,connection" doc:"only things of these kinds; all unless given"`
	Keep  Role   `json:"keep,omitempty" enum:"co-owner,user-share,user" doc:"the role that the owner before keeps on each; none unless given. Of connections a person keeps none"`
	After string `json:"after,omitempty" doc:"next of the answer before"`
}

// Validate returns every fault, and fills in the defaults.
func (h *HandOver) Validate() error {
	var f faults
	if h.From == "" {
		f.add("from", "is required")
	}
	if h.To == "" {
		f.add("to", "is required")
	}
	for _, k := range h.Kinds {
		if !slices.Contains(OwnedKinds, k) {
			f.add("kinds", "must each be one of %v", OwnedKinds)
			break
		}
	}
	if len(h.Kinds) == 0 {
		h.Kinds = OwnedKinds
	}
	if h.Keep != RoleNone && !slices.Contains(shareRoles, h.Keep) {
		f.add("keep", "must be one of %v, or nothing", shareRoles)
	}
	return f.err()
}

// A HandedOver is what a HandOver has done.
type HandedOver struct {
	Things []OwnedThing `json:"things" nullable:"false" doc:"what has another owner now"`
	Left   []LeftThing  `json:"left" nullable:"false" doc:"what could not be handed over"`
	Next   string       `json:"next,omitempty" doc:"there is more than one request hands over: pass it as after to go on"`
}

// A LeftThing is a thing that could not be handed over.
type LeftThing struct {
	OwnedThing
	Reason string `json:"reason" doc:"why, and what to do"`
}
