package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// Impact says what an action on a thing would do: what stops working, who loses
// what, what ran lately and what waits. For ImpactUnshare principal says with whom
// the thing would no longer be shared.
func (b *Broker) Impact(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, action latchkey.ImpactAction, principal string) (i latchkey.Impact, err error) {
	err = b.view(ctx, who, func(o *op) error {
		read := shareRead
		if action == latchkey.ImpactUnshare {
			read = shareList
		}
		s, err := o.shareable(env, kind, ref, read)
		if err != nil {
			return err
		}
		if possible := latchkey.ImpactActions(kind); !slices.Contains(possible, action) {
			return latchkey.Invalid("action", "must be one of %v for a %s", possible, kind)
		}
		var from *db.Grant
		if action == latchkey.ImpactUnshare {
			_, grants, err := o.grantsOf(s, principal)
			if err != nil {
				return err
			}
			from = &grants[0]
		}
		i, err = o.impact(s, action, from)
		return err
	})
	return i, err
}

// impact is Impact for a thing that the caller sees. from is the grant that would be
// removed.
func (o *op) impact(s shareable, action latchkey.ImpactAction, from *db.Grant) (i latchkey.Impact, err error) {
	root := node{s.kind, s.id}
	i = latchkey.Impact{
		Component: latchkey.Component{Kind: s.kind, ID: s.id, Name: s.name, Environment: s.env.ID}, Action: action,
		Effects: []latchkey.Effect{}, Losses: []latchkey.Loss{}, Observed: []latchkey.ObservedUse{},
	}
	last, err := o.lastUsed([]node{root})
	if err != nil {
		return i, err
	}
	i.Component.LastUsedAt = last(root)
	g, err := o.affected(s, action)
	if err != nil {
		return i, err
	}
	i.Truncated = g.truncated
	ran, err := o.ran(s, g)
	if err != nil {
		return i, err
	}
	nodes := slices.Clone(g.nodes)
	for _, e := range ran { // of what ran, whose ends need not be in the graph
		for _, n := range []node{{e.FromKind, e.From}, {e.ToKind, e.To}} {
			if n != root && !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	found, err := o.components(nodes)
	if err != nil {
		return i, err
	}
	sees, err := o.sees(found)
	if err != nil {
		return i, err
	}
	stops := map[node]bool{root: action != latchkey.ImpactUnshare}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s %s\n", action, s.kind, s.id)
	var affected []string
	for _, n := range g.nodes {
		c, ok := found[n]
		if !ok {
			continue
		}
		what, err := o.effect(s, action, from, n, g, ran)
		if err != nil {
			return i, err
		}
		if what == "" {
			continue
		}
		stops[n] = true
		affected = append(affected, string(n.kind)+" "+n.id)
		if !sees(n) {
			i.Hidden++
			continue
		}
		i.Effects = append(i.Effects, latchkey.Effect{Component: c.Component, Owner: c.Owner, What: what})
	}
	if err := o.addObserved(&i, s, g, ran, stops, found, sees); err != nil {
		return i, err
	}
	if err := o.addLosses(&i, s, action, from); err != nil {
		return i, err
	}
	for _, l := range i.Losses {
		affected = append(affected, "loss "+string(l.Principal)+" "+string(l.Role))
	}
	slices.Sort(affected)
	fmt.Fprintf(hash, "%s\nopen %t used %t", strings.Join(affected, "\n"), i.Open > 0, i.Component.LastUsedAt != nil)
	i.Hash = hex.EncodeToString(hash.Sum(nil)[:16])
	i.InUse = len(i.Effects)+i.Hidden+i.Open+len(i.Observed) > 0
	return i, nil
}

// lists reports whether a component of a graph is a flow that lists a credential of
// it, and not one that only ran through a connection.
func (g graph) lists(n node) bool {
	return n.kind == latchkey.KindFlow && slices.ContainsFunc(g.edges, func(e db.Edge) bool { return e.From == n.id && !e.Observed })
}

// ran returns what ran lately through a thing and what uses it: which flows through
// which connections. Flows that list a credential count with every connection.
func (o *op) ran(s shareable, g graph) (ran []db.Edge, err error) {
	var flows []string
	if s.kind == latchkey.KindFlow {
		flows = append(flows, s.id)
	}
	for _, n := range g.nodes {
		if g.lists(n) {
			flows = append(flows, n.id)
		}
	}
	edges, err := o.Tx.Observed("flow_id", flows)
	for _, e := range append(edges, g.edges...) {
		same := func(r db.Edge) bool { return r.From == e.From && r.To == e.To }
		if e.Observed && !slices.ContainsFunc(ran, same) {
			ran = append(ran, e)
		}
	}
	return ran, err
}

// affected returns what uses a thing and can be affected by an action on it. Behind a
// group that goes on with other machines nothing is affected by what happens to one.
func (o *op) affected(s shareable, action latchkey.ImpactAction) (graph, error) {
	usedBy := func(kind latchkey.Kind, ids []string) ([]db.Edge, error) {
		if s.kind != latchkey.KindMachine || kind != latchkey.KindMachineGroup {
			return o.UsedBy(kind, ids)
		}
		if action == latchkey.ImpactUnshare {
			return nil, nil // who has the group does not need the machine
		}
		var emptied []string
		for _, id := range ids {
			members, err := o.GroupMachines(latchkey.MachineGroupID(id))
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(members, func(m db.Machine) bool { return string(m.ID) != s.id && !m.Disabled }) {
				emptied = append(emptied, id)
			}
		}
		return o.UsedBy(kind, emptied)
	}
	return walk(node{s.kind, s.id}, usedBy, func(e db.Edge) node { return node{e.FromKind, e.From} })
}

// effect says what an action on a thing does to what uses it, "" for nothing. ran is
// what ran lately.
func (o *op) effect(s shareable, action latchkey.ImpactAction, from *db.Grant, n node, g graph, ran []db.Edge) (string, error) {
	switch action {
	case latchkey.ImpactEdit:
		switch {
		case n.kind == latchkey.KindCredential:
			return "it has the new value from the next release on", nil
		case n.kind == latchkey.KindConnection:
			return "it signs in with the new value from its next run on", nil
		}
		return "it gets the new value from its next run on", nil
	case latchkey.ImpactUnshare:
		return o.effectOfUnshare(s, from, n, g, ran)
	}
	verb := "deleted"
	if action == latchkey.ImpactDisable {
		verb = "disabled"
	}
	switch {
	case n.kind == latchkey.KindCredential:
		return "it cannot be released any more: its variable is " + verb, nil
	case n.kind == latchkey.KindMachineGroup:
		return "it has one machine less: this one is " + verb, nil
	case n.kind == latchkey.KindConnection && s.kind == latchkey.KindMachine && !slices.ContainsFunc(g.edges, func(e db.Edge) bool { return e.From == n.id && e.To == s.id }):
		return "its runs are refused: the last machine of its group that works is " + verb, nil
	case n.kind == latchkey.KindConnection && (s.kind == latchkey.KindMachine || s.kind == latchkey.KindMachineGroup):
		return fmt.Sprintf("its runs are refused: its %s is %s", s.kind, verb), nil
	case n.kind == latchkey.KindConnection:
		return "its runs are refused: they get no secret", nil
	case !g.lists(n):
		return "it ran through what stops, within 30 days", nil
	}
	return "its runs are refused: it lists a credential that it would not get", nil
}

// effectOfUnshare says what the removal of a grant does to a connection or a flow
// that uses the thing: the owner of the connection may have the thing in another way.
func (o *op) effectOfUnshare(s shareable, from *db.Grant, n node, g graph, ran []db.Edge) (string, error) {
	switch {
	case n.kind == latchkey.KindConnection && (s.kind == latchkey.KindCredential || s.kind == latchkey.KindMachine || s.kind == latchkey.KindMachineGroup):
		owner, loses, err := o.losesBy(s, from, n.id)
		if !loses {
			return "", err
		}
		return fmt.Sprintf("its runs are refused: %s, its owner, has the %s by this share alone", owner, s.kind), err
	case s.kind == latchkey.KindCredential && g.lists(n):
		for _, e := range ran {
			if e.From != n.id {
				continue
			}
			if owner, loses, err := o.losesBy(s, from, e.To); err != nil || loses {
				return fmt.Sprintf("its runs through a connection of %s are refused, who has the credential by this share alone", owner), err
			}
		}
	}
	return "", nil
}

// losesBy reports whether the owner of a connection, whose name it returns, has a
// thing by one grant alone.
func (o *op) losesBy(s shareable, from *db.Grant, connection string) (owner string, loses bool, err error) {
	g, err := o.OwnerOf(connection)
	if errors.Is(err, db.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	grants, err := o.GrantsReaching(g.Principal, s.id)
	return g.Name, len(grants) == 1 && grants[0].ID == from.ID, err
}

// addObserved adds what runs show: what ran, and what waits, of what the action stops.
func (o *op) addObserved(i *latchkey.Impact, s shareable, g graph, ran []db.Edge, stops map[node]bool, found map[node]db.ComponentRow, sees func(node) bool) (err error) {
	switch {
	case s.kind == latchkey.KindMachine && i.Action != latchkey.ImpactUnshare:
		i.Open, err = o.OpenRunsOn(latchkey.MachineID(s.id))
	case s.kind == latchkey.KindMachineGroup && i.Action != latchkey.ImpactUnshare:
		i.Open, err = o.OpenRunsFor(latchkey.MachineGroupID(s.id))
	default:
		// Runs of a flow that only ran through a connection count with the connection.
		var connections, flows []string
		for n := range stops {
			switch {
			case !stops[n]:
			case n.kind == latchkey.KindConnection:
				connections = append(connections, n.id)
			case i.Action != latchkey.ImpactUnshare && (n.kind == latchkey.KindFlow && n.id == s.id || g.lists(n)):
				flows = append(flows, n.id)
			}
		}
		i.Open, err = o.OpenRunsThrough(connections, flows)
	}
	if err != nil {
		return err
	}
	for _, e := range ran {
		flow, connection := node{latchkey.KindFlow, e.From}, node{latchkey.KindConnection, e.To}
		if !stops[flow] && !stops[connection] {
			continue
		}
		u := latchkey.ObservedUse{Runs: e.Runs, LastAt: *e.LastAt}
		switch {
		case e.From == s.id:
			u.Flow, u.FlowName = latchkey.FlowID(e.From), s.name
		case sees(flow):
			u.Flow, u.FlowName = latchkey.FlowID(e.From), found[flow].Name
		}
		if e.To == s.id || sees(connection) {
			u.Connection = latchkey.ConnectionID(e.To)
		}
		i.Observed = append(i.Observed, u)
	}
	slices.SortFunc(i.Observed, func(a, b latchkey.ObservedUse) int { return b.LastAt.Compare(a.LastAt) })
	return nil
}

// addLosses adds who loses the thing.
func (o *op) addLosses(i *latchkey.Impact, s shareable, action latchkey.ImpactAction, from *db.Grant) error {
	access, err := o.Access(o.who.ID, s.env.ID, s.id)
	if err != nil || !access.Can(s.List) {
		return err // who may not see the shares is not told of them
	}
	switch action {
	case latchkey.ImpactUnshare:
		i.Losses = append(i.Losses, latchkey.Loss{Principal: from.Principal, Kind: from.Kind, Name: from.Name, Role: from.Role})
	case latchkey.ImpactDelete:
		page := latchkey.PageOptions{Limit: latchkey.MaxPage}
		p, err := o.Tx.Shares(s.id, page)
		if err != nil {
			return err
		}
		for _, sh := range p.Items {
			if sh.Role != latchkey.RoleOwner {
				i.Losses = append(i.Losses, latchkey.Loss{Principal: sh.Principal, Kind: sh.Kind, Name: sh.Name, Role: sh.Role})
			}
		}
		i.Truncated = i.Truncated || p.Next != ""
	}
	return nil
}

// mayDelete returns nil if a thing that the caller may delete is not in use, or if f
// says to delete it all the same, by the hash of the impact as it is now. It returns
// what the audit log says of it.
func (o *op) mayDelete(s shareable, f latchkey.Force) (map[string]string, error) {
	i, err := o.impact(s, latchkey.ImpactDelete, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case !i.InUse:
		return nil, nil
	case !f.Force:
		return nil, inUse(i)
	case f.Hash == "":
		return nil, latchkey.Invalid("impact", "must be the hash of the impact: look at it before something in use is deleted")
	case f.Hash != i.Hash:
		return nil, latchkey.Conflict("impact-changed", "what deleting %s would do has changed since you looked: look again, and give the new hash", describe(s.thing))
	}
	details := map[string]string{"forced": "true", "impact": i.Hash, "affected": fmt.Sprint(len(i.Effects) + i.Hidden)}
	if i.Open > 0 {
		details["openRuns"] = fmt.Sprint(i.Open)
	}
	return details, nil
}

// maxNamed bounds what an error names of what uses a thing.
const maxNamed = 5

// inUse is the refusal to delete what is in use.
func inUse(i latchkey.Impact) error {
	var uses []string
	for _, e := range i.Effects[:min(len(i.Effects), maxNamed)] {
		uses = append(uses, componentText(e.Component))
	}
	if more := len(i.Effects) - len(uses) + i.Hidden; more > 0 && len(uses) > 0 {
		uses = append(uses, fmt.Sprintf("%d more", more))
	} else if more > 0 {
		uses = append(uses, count(more, "component")+" that you may not see")
	}
	switch {
	case i.Open > 0:
		uses = append(uses, count(i.Open, "run")+" that have not ended")
	case len(uses) == 0:
		uses = append(uses, "what ran within 30 days")
	}
	return latchkey.Conflict("in-use", "%s is used by %s; delete what uses it first, or look at the impact and delete it with force and the impact's hash",
		componentText(i.Component), strings.Join(uses, ", "))
}
