package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// A node is one component of a graph.
type node struct {
	kind latchkey.Kind
	id   string
}

// A graph is what was found from one component on, nearest first.
type graph struct {
	nodes     []node // without the first
	edges     []db.Edge
	truncated bool
}

// walk follows edges from a component on: next returns those of some components of
// one kind, and other the end that is farther away.
func walk(from node, next func(latchkey.Kind, []string) ([]db.Edge, error), other func(db.Edge) node) (g graph, err error) {
	seen := map[node]bool{from: true}
	type key struct{ from, to, as string }
	drawn := map[key]bool{}
	level := []node{from}
	for len(level) > 0 && !g.truncated {
		byKind := map[latchkey.Kind][]string{}
		var kinds []latchkey.Kind
		for _, n := range level {
			if byKind[n.kind] == nil {
				kinds = append(kinds, n.kind)
			}
			byKind[n.kind] = append(byKind[n.kind], n.id)
		}
		level = nil
		for _, kind := range kinds {
			edges, err := next(kind, byKind[kind])
			if err != nil {
				return g, err
			}
			// Whatever the database's order: of too many the same are shown each time.
			slices.SortStableFunc(edges, func(a, b db.Edge) int { return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To)) })
			for _, e := range edges {
				n := other(e)
				if !seen[n] {
					if len(g.nodes) == latchkey.MaxComponents {
						g.truncated = true
						continue
					}
					seen[n] = true
					g.nodes, level = append(g.nodes, n), append(level, n)
				}
				if k := (key{e.From, e.To, e.As}); !drawn[k] {
					drawn[k] = true
					g.edges = append(g.edges, e)
				}
			}
		}
	}
	return g, nil
}

// dependencies returns what a component uses.
func (o *op) dependencies(from node) (graph, error) {
	return walk(from, o.Uses, func(e db.Edge) node { return node{e.ToKind, e.To} })
}

// dependents returns what uses a component.
func (o *op) dependents(from node) (graph, error) {
	return walk(from, o.UsedBy, func(e db.Edge) node { return node{e.FromKind, e.From} })
}

// components returns components that are not deleted, by their nodes.
func (o *op) components(nodes []node) (map[node]db.ComponentRow, error) {
	byKind := map[latchkey.Kind][]string{}
	found := map[node]db.ComponentRow{}
	for _, n := range nodes {
		if n.kind == latchkey.KindReference {
			found[n] = db.ComponentRow{Component: latchkey.Component{Kind: n.kind, ID: n.id, Name: referenceName(n.id)}}
			continue
		}
		byKind[n.kind] = append(byKind[n.kind], n.id)
	}
	for kind, ids := range byKind {
		rows, err := o.Components(kind, ids)
		if err != nil {
			return nil, err
		}
		for id, c := range rows {
			found[node{kind, id}] = c
		}
	}
	return found, nil
}

// referenceName is the end of an ARM id that people know a secret by.
func referenceName(id string) string {
	r, err := latchkey.ParseSecretReference(id)
	if err != nil {
		return id
	}
	return r.Vault + "/" + r.Secret
}

// sees returns which of some components the caller sees. A secret reference is seen
// by whoever sees a variable that has it, so that it always is.
func (o *op) sees(found map[node]db.ComponentRow) (func(node) bool, error) {
	type place struct {
		env  latchkey.EnvironmentID
		kind latchkey.Kind
	}
	everything, something := map[place]bool{}, map[place]bool{} // who has no role in an environment sees nothing
	var ids []string
	for n, c := range found {
		at := place{c.Environment, n.kind}
		if _, asked := everything[at]; asked || n.kind == latchkey.KindReference {
			continue
		}
		access, err := o.Access(o.who.ID, c.Environment, "")
		if err != nil {
			return nil, err
		}
		everything[at], something[at] = access.Can(latchkey.SharingOf[n.kind].Read), len(access.Environment) > 0
	}
	for n, c := range found {
		if n.kind != latchkey.KindReference && !everything[place{c.Environment, n.kind}] {
			ids = append(ids, n.id)
		}
	}
	roles, err := o.Roles(o.who.ID, ids)
	return func(n node) bool {
		c, ok := found[n]
		at := place{c.Environment, n.kind}
		return ok && (n.kind == latchkey.KindReference || everything[at] || something[at] && roles[n.id] != latchkey.RoleNone)
	}, err
}

// show returns a graph as the caller may see it.
func (o *op) show(root thing, g graph) (d latchkey.Dependencies, err error) {
	d = latchkey.Dependencies{
		Component:  latchkey.Component{Kind: root.kind, ID: root.id, Name: root.name, Environment: root.env},
		Components: []latchkey.Component{}, Dependencies: []latchkey.Dependency{}, Truncated: g.truncated,
	}
	last, err := o.lastUsed(append([]node{{root.kind, root.id}}, g.nodes...))
	if err != nil {
		return d, err
	}
	d.Component.LastUsedAt = last(node{root.kind, root.id})
	found, err := o.components(g.nodes)
	if err != nil {
		return d, err
	}
	sees, err := o.sees(found)
	if err != nil {
		return d, err
	}
	shown := map[string]bool{root.id: true}
	for _, n := range g.nodes {
		c, ok := found[n]
		switch {
		case !ok: // deleted
		case !sees(n):
			d.Hidden++
		default:
			c.LastUsedAt = last(n)
			shown[n.id] = true
			d.Components = append(d.Components, c.Component)
		}
	}
	for _, e := range g.edges {
		if shown[e.From] && shown[e.To] {
			d.Dependencies = append(d.Dependencies, latchkey.Dependency{From: e.From, To: e.To, As: e.As, Observed: e.Observed, LastUsedAt: e.LastAt})
		}
	}
	return d, nil
}

// lastUsed returns when some components were last used, nil for never or unknown.
func (o *op) lastUsed(nodes []node) (func(node) *time.Time, error) {
	byKind := map[latchkey.Kind][]string{}
	for _, n := range nodes {
		byKind[n.kind] = append(byKind[n.kind], n.id)
	}
	last := map[node]time.Time{}
	for kind, ids := range byKind {
		at, err := o.LastUsed(kind, ids)
		if err != nil {
			return nil, err
		}
		for id, t := range at {
			last[node{kind, id}] = t
		}
	}
	return func(n node) *time.Time {
		if t, ok := last[n]; ok {
			return &t
		}
		return nil
	}, nil
}

// Dependencies returns what a thing uses, directly and by others.
func (b *Broker) Dependencies(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string) (latchkey.Dependencies, error) {
	return b.graphOf(ctx, who, env, kind, ref, (*op).dependencies)
}

// Dependents returns what uses a thing, directly and by others.
func (b *Broker) Dependents(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string) (latchkey.Dependencies, error) {
	return b.graphOf(ctx, who, env, kind, ref, (*op).dependents)
}

func (b *Broker) graphOf(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, find func(*op, node) (graph, error)) (d latchkey.Dependencies, err error) {
	err = b.view(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareRead)
		if err != nil {
			return err
		}
		g, err := find(o, node{s.kind, s.id})
		if err != nil {
			return err
		}
		d, err = o.show(s.thing, g)
		return err
	})
	return d, err
}

// SecretUses returns the variables that refer to a secret of a vault, or to any of
// the vault's when secret is "", in every environment, as far as the caller may see
// them: at most MaxSecretUses.
func (b *Broker) SecretUses(ctx context.Context, who latchkey.Caller, vault, secret string) (uses []latchkey.SecretUse, err error) {
	vault, secret, err = secretNames(vault, secret)
	if err != nil {
		return nil, err
	}
	err = b.view(ctx, who, func(o *op) error {
		uses, err = o.Tx.SecretUses(who.ID, latchkey.Permissions[latchkey.ActVariableRead].Environment, vault, secret, latchkey.MaxSecretUses)
		return err
	})
	return uses, err
}

// secretNames checks what secrets are searched by. A vault may be given as its
// address or ARM id, also as that of a secret.
func secretNames(vault, secret string) (string, string, error) {
	if r, err := latchkey.ParseSecretReference(vault); err == nil {
		return r.Vault, r.Secret, nil
	}
	if v, err := latchkey.ParseVaultID(vault); err == nil {
		vault = v.Vault
	}
	if err := latchkey.CheckVaultName(vault); err != nil {
		return "", "", latchkey.Invalid("vault", "must be the name of a vault, its ARM id or that of a secret: %v", err)
	}
	if secret != "" {
		if err := latchkey.CheckSecretName(secret); err != nil {
			return "", "", latchkey.Invalid("secret", "must be the name of a secret: %v", err)
		}
	}
	return vault, secret, nil
}

// componentText names a component in a sentence.
func componentText(c latchkey.Component) string { return fmt.Sprintf("the %s %q", c.Kind, c.Name) }
