package broker

import (
	"errors"
	"fmt"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// A run for a machine group waits for the group. Whichever of its machines asks first,
// and may execute it, claims it. A machine that may not, since a credential is not for
// it or its policy does not allow the flow, leaves the run to the others. If none may,
// the run ends.

// An unable is a machine that may not execute a run, and why.
type unable struct {
	machine string // name
	denial  denial
}

// among tells the machines of a group that may execute a run from those that may not.
func (t *terms) among(r db.Run, members []db.Machine) (able []db.Machine, others []unable) {
	for _, m := range members {
		if d := t.cannot(r, m); d.code != "" {
			others = append(others, unable{m.Name, d})
		} else {
			able = append(able, m)
		}
	}
	return able, others
}

// cannot says why one machine may not execute a run that others may.
func (t *terms) cannot(r db.Run, m db.Machine) denial {
	d := t.unfit(r, m)
	if d.code == "" {
		if reason := t.refuses(r, m); reason != "" {
			d = denial{code: latchkey.RunErrPolicy, reason: reason, identity: latchkey.PrincipalID(m.ID)}
		}
	}
	return d
}

// maxSaid bounds the machines of which a message says why they may not.
const maxSaid = 5

// said names machines and why they may not.
func said(others []unable) string {
	var parts []string
	for _, u := range others[:min(len(others), maxSaid)] {
		parts = append(parts, fmt.Sprintf("%q: %s", u.machine, u.denial.reason))
	}
	if more := len(others) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}

// groupEmpty is the denial of everything in a group without machines.
func groupEmpty(g *db.MachineGroup) denial {
	return denial{code: "group-empty", reason: fmt.Sprintf("the machine group %q has no machine", g.Name), remedy: "whoever may edit it can add one"}
}

// noMachine is the denial of a run that no machine of a group may execute.
func noMachine(g *db.MachineGroup, others []unable) denial {
	return denial{code: "group-no-machine", reason: fmt.Sprintf("no machine of the group %q can execute it: %s", g.Name, said(others))}
}

// denyStart says why a new run may not be started on its target. What the target's
// owner or the machine's administrator has to mend is an error.
func (o *op) denyStart(r db.Run, to target) (denial, error) {
	if to.group != nil {
		return o.denyStartIn(r, to)
	}
	m := to.machine
	switch {
	case m.Quarantined:
		return denial{}, quarantined(m)
	case m.Disabled:
		return denial{}, latchkey.Conflict("machine-disabled", "the machine %q is disabled; an environment admin can enable it", m.Name)
	}
	t, d, err := deny(o.Tx, r, m)
	if err != nil || d.code != "" {
		return d, err
	}
	if reason := t.refuses(r, m); reason != "" {
		return d, &latchkey.Error{Kind: latchkey.ErrConflict, Code: latchkey.RunErrPolicy, Msg: reason, Identity: string(m.ID), Check: "policy"}
	}
	return d, nil
}

func (o *op) denyStartIn(r db.Run, to target) (denial, error) {
	conflict := func(d denial) error {
		e := latchkey.Conflict(d.code, "%s", d.reason)
		if d.remedy != "" {
			e.Msg, e.Remedy = d.reason+"; "+d.remedy, d.remedy
		}
		return e
	}
	if len(to.members) == 0 {
		return denial{}, conflict(groupEmpty(to.group))
	}
	t, d, err := denyAnywhere(o.Tx, r)
	if err != nil || d.code != "" {
		return d, err
	}
	able, others := t.among(r, to.members)
	for _, m := range able {
		switch {
		case m.Quarantined:
			others = append(others, unable{m.Name, denial{code: codeQuarantined, reason: "it is quarantined"}})
		case m.Disabled:
			others = append(others, unable{m.Name, machineDisabled(m)})
		default:
			return denial{}, nil
		}
	}
	return denial{}, conflict(noMachine(to.group, others))
}

// judge says whether the machine may claim a queued run. skip is that it leaves the run
// to another machine of its group; the denial is why the run ends, if it does.
func (o *agentOp) judge(r db.Run) (skip bool, d denial, err error) {
	if r.MachineGroup == "" {
		_, d, err = deny(o.Tx, r, o.m)
		return false, d, err
	}
	t, d, err := denyAnywhere(o.Tx, r)
	if err != nil || d.code != "" || t.cannot(r, o.m).code == "" {
		return false, d, err
	}
	// One that is disabled or offline counts: it may come back.
	members, err := o.GroupMachines(r.MachineGroup)
	if err != nil {
		return false, d, err
	}
	able, others := t.among(r, members)
	if len(able) > 0 || o.m.MachineGroup != r.MachineGroup {
		return true, d, nil
	}
	g := db.MachineGroup{MachineGroup: latchkey.MachineGroup{ID: r.MachineGroup, Name: r.MachineGroupName}}
	return false, noMachine(&g, others), nil
}

// Bounds of what a machine looks at of its group's queue at once. Runs that have
// everything in common which decides about them are looked at once.
const (
	groupPage   = 100
	maxVariants = 200
)

// nextRun returns the queued run that the machine is to claim, or to end, next: the one
// that has waited longest among its own and those of its group that it does not leave to
// others. It returns "" if there is none.
func (o *agentOp) nextRun() (latchkey.RunID, error) {
	own, err := o.NextQueued(o.m.ID)
	if err != nil && !errors.Is(err, db.ErrNotFound) || o.m.MachineGroup == "" {
		return own.ID, ignoreNotFound(err)
	}
	skipped := map[matter]bool{}
	var after *db.Run
	for len(skipped) < maxVariants {
		runs, err := o.GroupQueued(o.m.MachineGroup, after, groupPage)
		if err != nil {
			return "", err
		}
		for _, r := range runs {
			if own.ID != "" && (own.QueuedAt.Before(r.QueuedAt) || own.QueuedAt.Equal(r.QueuedAt) && own.ID < r.ID) {
				return own.ID, nil
			}
			variant := matterOf(&r, "")
			if skipped[variant] {
				continue
			}
			skip, _, err := o.judge(r)
			if err != nil || !skip {
				return r.ID, err
			}
			skipped[variant] = true
		}
		if len(runs) < groupPage {
			break
		}
		after = &runs[len(runs)-1]
	}
	return own.ID, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}
