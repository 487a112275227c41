package web

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

const (
	mapNodes = 200 // of one picture
	mapName  = 17  // columns of text that a box has room for
)

func (p *Pages) mapRoutes() {
	p.inEnvironment("GET /e/{env}/map", p.mapPage)
}

// mapLayers are the columns of a map, from the secret to where it is used.
var mapLayers = map[latchkey.Kind]int{
	latchkey.KindReference: 0, latchkey.KindVariable: 1, latchkey.KindCredential: 2, latchkey.KindConnection: 3, latchkey.KindMachineGroup: 4, latchkey.KindMachine: 5, latchkey.KindFlow: 5,
}

type mapPage struct {
	shell
	Of      *mapNode // nil for the environment as a whole
	Picture layout
	Columns []mapColumn
	Nodes   []*mapNode // as they are walked: by columns, from above
	Edges   []mapEdge
	LeftOut int  // known things that there was no room for
	More    bool // there are still others
	Hidden  int  // things that one may not see
}

// BoxWidth and BoxHeight are the size of a box.
func (mapPage) BoxWidth() int  { return boxWidth }
func (mapPage) BoxHeight() int { return boxHeight }

// A mapColumn is the heading of a column.
type mapColumn struct {
	Key string
	X   int
}

// A mapNode is a thing on a map.
type mapNode struct {
	Kind       latchkey.Kind
	ID, Name   string
	Short      string // what of the name a box has room for
	Path       string // of its page
	Map        string // of the map around it
	Status     string // a key of the states' texts, or ""
	LastUsedAt *time.Time
	Root       bool
	X, Y       int
	Uses, Used []*mapNode
}

// KindKey returns the key of the text that names the kind.
func (n *mapNode) KindKey() string { return "map.kind-" + slug(n.Kind) }

// Tone returns the class of the colour that a status has.
func (n *mapNode) Tone() string {
	switch n.Status {
	case "passed", "online", "ok", "succeeded":
		return "good"
	case "failed", "quarantined", "denied", "expired":
		return "bad"
	case "warning", "expiring", "pending", "overridden", "disabled":
		return "warn"
	case "checking":
		return "wait"
	}
	return "neutral"
}

// A mapEdge is a line of a map.
type mapEdge struct {
	D        string // the path
	Observed bool
}

// slug is the name of a kind in addresses.
func slug(k latchkey.Kind) string {
	if k == latchkey.KindReference {
		return "secret"
	}
	return strings.ReplaceAll(string(k), " ", "-")
}

// kindOf is the kind of a slug, "" for none that is on maps.
func kindOf(slug string) latchkey.Kind {
	for k := range mapLayers {
		if slug == strings.ReplaceAll(string(k), " ", "-") || k == latchkey.KindReference && slug == "secret" {
			return k
		}
	}
	return ""
}

// A drawing collects what is on a map.
type drawing struct {
	v       *view
	byID    map[string]*mapNode
	nodes   []*mapNode
	edges   []latchkey.Dependency
	drawn   map[[2]string]bool
	leftOut map[string]bool
}

func (v *view) drawing() *drawing {
	return &drawing{v: v, byID: map[string]*mapNode{}, drawn: map[[2]string]bool{}, leftOut: map[string]bool{}}
}

// add puts a thing on the map, if there is room, and reports whether it is there.
func (d *drawing) add(c latchkey.Component, status string) bool {
	if n := d.byID[c.ID]; n != nil {
		if n.Status == "" {
			n.Status = status
		}
		return true
	}
	if _, known := mapLayers[c.Kind]; !known {
		return false
	}
	if len(d.nodes) == mapNodes {
		d.leftOut[c.ID] = true
		return false
	}
	n := &mapNode{Kind: c.Kind, ID: c.ID, Name: c.Name, Short: cut(c.Name, mapName), Status: status, LastUsedAt: c.LastUsedAt}
	n.Map = d.v.path("map") + "?of=" + url.QueryEscape(slug(c.Kind)+":"+c.ID)
	n.Path = n.Map
	if plural := pluralOf(c.Kind); plural != "" {
		n.Path = d.v.path(plural, c.ID)
	}
	d.byID[c.ID] = n
	d.nodes = append(d.nodes, n)
	return true
}

// join notes that one thing uses another. What is not on the map is left out.
func (d *drawing) join(e latchkey.Dependency) {
	if k := [2]string{e.From, e.To}; !d.drawn[k] {
		d.drawn[k] = true
		d.edges = append(d.edges, e)
	}
}

// take puts a graph of the broker on the map.
func (d *drawing) take(g latchkey.Dependencies) {
	d.add(g.Component, "")
	for _, c := range g.Components {
		d.add(c, "")
	}
	for _, e := range g.Dependencies {
		d.join(e)
	}
}

// cut shortens a text to some columns; wide letters take two.
func cut(s string, columns int) string {
	width := 0
	for i, r := range s {
		if width++; r >= 0x1100 { // Hangul and what follows: about
			width++
		}
		if width > columns {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// mapPage shows what depends on what, as a picture and as a table: around one thing
// that the address names (kind:id), or in the environment.
func (p *Pages) mapPage(v *view) error {
	page, d := mapPage{}, v.drawing()
	var err error
	title := v.t("map.title")
	if of := v.value("of"); of != "" {
		slug, id, _ := strings.Cut(of, ":")
		if err = d.around(&page, kindOf(slug), id); err != nil {
			return err
		}
		page.Of = d.nodes[0]
		page.Of.Root = true
		title = v.t("map.of", page.Of.Name)
	} else if err = d.environment(&page); err != nil {
		return err
	}
	if err := d.addStatus(); err != nil {
		return err
	}
	page.shell = v.shell(title, "map")
	page.LeftOut = len(d.leftOut)
	d.draw(&page)
	return v.show("map", page)
}

// around draws what a thing uses and what uses it, and what the connections among
// these use.
func (d *drawing) around(page *mapPage, kind latchkey.Kind, id string) error {
	ctx, b, env := d.v.r.Context(), d.v.p.b, string(d.v.env.ID)
	if kind == "" || id == "" || len(id) > 1000 {
		return latchkey.Invalid("of", "must be a kind and an id, such as credential:cred_…; kinds are secret, variable, credential, connection, flow and machine")
	}
	around := func(kind latchkey.Kind, id string) error {
		uses, err := b.Dependencies(ctx, d.v.who, env, kind, id)
		if err != nil {
			return err
		}
		used, err := b.Dependents(ctx, d.v.who, env, kind, id)
		if err != nil {
			return err
		}
		d.take(uses)
		d.take(used)
		page.Hidden += uses.Hidden + used.Hidden
		page.More = page.More || uses.Truncated || used.Truncated
		return nil
	}
	if kind == latchkey.KindReference {
		if err := d.aroundSecret(page, id, around); err != nil {
			return err
		}
	} else if err := around(kind, id); err != nil {
		return err
	}
	for _, n := range slices.Clone(d.nodes) {
		if n.Kind != latchkey.KindConnection || n.ID == id {
			continue
		}
		uses, err := b.Dependencies(ctx, d.v.who, env, n.Kind, n.ID)
		if errors.Is(err, latchkey.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		d.take(uses)
	}
	return nil
}

// aroundSecret draws the variables of the environment that refer to a secret, and
// what is around them.
func (d *drawing) aroundSecret(page *mapPage, id string, around func(latchkey.Kind, string) error) error {
	ref, err := latchkey.ParseSecretReference(id)
	if err != nil {
		return latchkey.Invalid("of", "must name a secret by its ARM id")
	}
	d.add(latchkey.Component{Kind: latchkey.KindReference, ID: ref.String(), Name: ref.Vault + "/" + ref.Secret}, "")
	uses, err := d.v.p.b.SecretUses(d.v.r.Context(), d.v.who, ref.Vault, ref.Secret)
	if err != nil {
		return err
	}
	done := map[latchkey.VariableID]bool{}
	for _, u := range uses {
		switch {
		case u.Environment != d.v.env.ID || u.Reference != ref || done[u.Variable]:
		case len(d.nodes) == mapNodes:
			d.leftOut[string(u.Variable)] = true
		default:
			done[u.Variable] = true
			if err := around(latchkey.KindVariable, string(u.Variable)); err != nil {
				return err
			}
		}
	}
	page.More = page.More || len(uses) == latchkey.MaxSecretUses
	return nil
}

// environment draws the environment: its connections first, with what they use, then
// flows, credentials, secrets and machines that none of these leads to.
func (d *drawing) environment(page *mapPage) error {
	ctx, b, who, env := d.v.r.Context(), d.v.p.b, d.v.who, string(d.v.env.ID)
	first := latchkey.PageOptions{Limit: latchkey.MaxPage}
	connections, err := b.Connections(ctx, who, env, first)
	if err != nil {
		return err
	}
	flows, err := b.Flows(ctx, who, env, first)
	if err != nil {
		return err
	}
	list, err := b.Credentials(ctx, who, env, first)
	if err != nil {
		return err
	}
	machines, err := b.Machines(ctx, who, env, first)
	if err != nil {
		return err
	}
	groups, err := b.MachineGroups(ctx, who, env, first)
	if err != nil {
		return err
	}
	variables, err := b.Variables(ctx, who, env, broker.VariableFilter{}, first)
	if err != nil {
		return err
	}
	page.More = connections.Next+flows.Next+list.Next+machines.Next+groups.Next+variables.Next != ""
	byName := map[string]latchkey.Variable{}
	for _, x := range variables.Items {
		byName[x.Name] = x
	}
	credentials := map[latchkey.CredentialID]latchkey.Credential{}
	for _, c := range list.Items {
		credentials[c.ID] = c
	}
	places := map[latchkey.MachineID]latchkey.Machine{}
	for _, m := range machines.Items {
		places[m.ID] = m
	}
	gathered := map[latchkey.MachineGroupID]latchkey.MachineGroup{}
	for _, g := range groups.Items {
		gathered[g.ID] = g
	}
	variable := func(x latchkey.Variable) bool {
		ok := d.add(latchkey.Component{Kind: latchkey.KindVariable, ID: string(x.ID), Name: x.DisplayName}, checkState(x))
		for _, ref := range []*latchkey.SecretReference{x.Secret, x.InForce} {
			if ref != nil && d.add(latchkey.Component{Kind: latchkey.KindReference, ID: ref.String(), Name: ref.Vault + "/" + ref.Secret}, "") {
				d.join(latchkey.Dependency{From: string(x.ID), To: ref.String()})
			}
		}
		return ok
	}
	credential := func(id latchkey.CredentialID) bool {
		c, ok := credentials[id]
		if !ok {
			return false
		}
		ok = d.add(latchkey.Component{Kind: latchkey.KindCredential, ID: string(c.ID), Name: c.Name}, credentialState(c))
		for _, name := range c.Slots {
			if x, found := byName[name]; found && variable(x) {
				d.join(latchkey.Dependency{From: string(c.ID), To: string(x.ID)})
			}
		}
		return ok
	}
	group := func(id latchkey.MachineGroupID) bool {
		g, ok := gathered[id]
		return ok && d.add(latchkey.Component{Kind: latchkey.KindMachineGroup, ID: string(g.ID), Name: g.Name}, "")
	}
	machine := func(id latchkey.MachineID) bool {
		m, ok := places[id]
		if !ok || !d.add(latchkey.Component{Kind: latchkey.KindMachine, ID: string(m.ID), Name: m.Name}, string(m.Status)) {
			return false
		}
		if group(m.MachineGroup) {
			d.join(latchkey.Dependency{From: string(m.MachineGroup), To: string(m.ID)})
		}
		return true
	}
	for _, c := range connections.Items {
		d.add(latchkey.Component{Kind: latchkey.KindConnection, ID: string(c.ID), Name: c.Name}, connectionState(c))
		if credential(c.Credential) {
			d.join(latchkey.Dependency{From: string(c.ID), To: string(c.Credential)})
		}
		if machine(c.Target.Machine) {
			d.join(latchkey.Dependency{From: string(c.ID), To: string(c.Target.Machine)})
		}
		if group(c.Target.MachineGroup) {
			d.join(latchkey.Dependency{From: string(c.ID), To: string(c.Target.MachineGroup)})
		}
	}
	for _, f := range flows.Items {
		d.add(latchkey.Component{Kind: latchkey.KindFlow, ID: string(f.ID), Name: f.Name}, "")
		for _, id := range f.Credentials {
			if credential(id) {
				d.join(latchkey.Dependency{From: string(f.ID), To: string(id)})
			}
		}
	}
	// That a flow runs through a connection is seen, and declared nowhere.
	runs, err := b.Runs(ctx, who, env, broker.RunFilter{}, first)
	if err != nil {
		return err
	}
	for _, r := range runs.Items {
		if d.v.p.Now().Sub(r.QueuedAt) < latchkey.ObservedFor {
			d.join(latchkey.Dependency{From: string(r.Flow), To: string(r.Connection), Observed: true})
		}
	}
	for _, c := range list.Items {
		credential(c.ID)
	}
	for _, x := range variables.Items {
		if x.Type == latchkey.TypeSecret {
			variable(x)
		}
	}
	for _, m := range machines.Items {
		machine(m.ID)
	}
	for _, g := range groups.Items {
		group(g.ID)
	}
	return nil
}

// checkState returns the state of a secret variable's check, "" for none.
func checkState(x latchkey.Variable) string {
	switch {
	case x.Check == nil:
		return ""
	case x.Check.Overridden && x.Check.State != latchkey.CheckPassed:
		return "overridden"
	}
	return string(x.Check.State)
}

func credentialState(c latchkey.Credential) string { return string(c.Status) }

// connectionState says when a connection's target has refused its credential too
// often.
func connectionState(c latchkey.Connection) string {
	if c.Refusals >= latchkey.MaxRefusals {
		return "denied"
	}
	return ""
}

// addStatus asks how the things on the map are of which that is not known yet. What
// was deleted meanwhile stays without.
func (d *drawing) addStatus() error {
	ctx, b, who, env := d.v.r.Context(), d.v.p.b, d.v.who, string(d.v.env.ID)
	for _, n := range d.nodes {
		if n.Status != "" {
			continue
		}
		var err error
		switch n.Kind {
		case latchkey.KindVariable:
			var x latchkey.Variable
			if x, err = b.Variable(ctx, who, env, n.ID); err == nil {
				n.Name, n.Status = x.DisplayName, checkState(x)
				n.Short = cut(n.Name, mapName)
			}
		case latchkey.KindCredential:
			var c latchkey.Credential
			if c, err = b.Credential(ctx, who, env, latchkey.CredentialID(n.ID)); err == nil {
				n.Status = credentialState(c)
			}
		case latchkey.KindConnection:
			var c latchkey.Connection
			if c, err = b.Connection(ctx, who, env, latchkey.ConnectionID(n.ID)); err == nil {
				n.Status = connectionState(c)
			}
		case latchkey.KindMachine:
			var m latchkey.Machine
			if m, err = b.Machine(ctx, who, env, latchkey.MachineID(n.ID)); err == nil {
				n.Status = string(m.Status)
			}
		}
		if err != nil && !errors.Is(err, latchkey.ErrNotFound) {
			return err
		}
	}
	return nil
}

// draw lays the map out.
func (d *drawing) draw(page *mapPage) {
	index := map[string]int{}
	nodes := make([]layoutNode, len(d.nodes))
	for i, n := range d.nodes {
		index[n.ID] = i
		nodes[i] = layoutNode{mapLayers[n.Kind], strings.ToLower(n.Name) + "\x00" + n.ID}
	}
	var edges []layoutEdge
	var drawn []latchkey.Dependency
	for _, e := range d.edges {
		from, ok := index[e.To] // what is used is left of what uses it, but for machines
		to, also := index[e.From]
		if !ok || !also {
			continue
		}
		edges = append(edges, layoutEdge{from, to})
		drawn = append(drawn, e)
		d.nodes[to].Uses = append(d.nodes[to].Uses, d.nodes[from])
		d.nodes[from].Used = append(d.nodes[from].Used, d.nodes[to])
	}
	page.Picture = layOut(nodes, edges)
	for i, n := range d.nodes {
		n.X, n.Y = page.Picture.Nodes[i].X, page.Picture.Nodes[i].Y
	}
	for i, line := range page.Picture.Edges {
		page.Edges = append(page.Edges, mapEdge{curve(line), drawn[i].Observed})
	}
	keys := map[int]string{0: "secret", 1: "variable", 2: "credential", 3: "connection", 4: "group", 5: "end"}
	for i, layer := range page.Picture.Layers {
		page.Columns = append(page.Columns, mapColumn{keys[layer], i * (boxWidth + columnGap)})
	}
	page.Nodes = slices.Clone(d.nodes)
	slices.SortFunc(page.Nodes, func(a, b *mapNode) int { return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y)) })
	for _, n := range page.Nodes {
		byPlace := func(a, b *mapNode) int { return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y)) }
		slices.SortFunc(n.Uses, byPlace)
		slices.SortFunc(n.Used, byPlace)
	}
}
