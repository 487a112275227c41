package web

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

const (
	recentRuns = 10 // on the page of a flow, a machine or a group
	spareRows  = 2  // empty rows for inputs
	revisions  = 50 // that a flow's page leads to
)

func (p *Pages) flowRoutes() {
	p.inEnvironment("GET /e/{env}/flows", p.flowsPage)
	p.inEnvironment("GET /e/{env}/flows/new", p.newFlowPage)
	p.inEnvironment("POST /e/{env}/flows", p.createFlow)
	p.inEnvironment("GET /e/{env}/flows/{id}", p.flowPage)
	p.inEnvironment("GET /e/{env}/flows/{id}/edit", p.editFlowPage)
	p.inEnvironment("POST /e/{env}/flows/{id}/edit", p.reviseFlow)
	p.inEnvironment("GET /e/{env}/flows/{id}/run", p.startRunPage)
	p.inEnvironment("POST /e/{env}/flows/{id}/run", p.startRun)
}

type flowsPage struct {
	shell
	List *list
	Rows []latchkey.Flow
	May  struct{ Create bool }
}

// flowsPage lists the flows that one may see.
func (p *Pages) flowsPage(v *view) error {
	page := flowsPage{shell: v.shell(v.t("flows.title"), "flows")}
	page.List = v.list("flows", []column{
		{Key: "name", Sort: "name"}, {Key: "command"}, {Key: "handover", Hidden: true}, {Key: "revision", Number: true}, {Key: "last-run"},
		{Key: "owner"}, {Key: "access"}, {Key: "modified", Sort: "modified"},
	})
	rows, err := p.b.Flows(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActFlowCreate)
	return v.show("flows", page)
}

// commandText shows a command as one may type it, quoted where that is needed.
func commandText(command []string) string {
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`*?&|;<>()#~") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// limitText writes a time limit without the units that it has none of: 3h, not 3h0m0s.
func limitText(d latchkey.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// argumentLines writes arguments one a line. One that would not come back from a
// line as it is stands there as JSON.
func argumentLines(args []string) string {
	var b strings.Builder
	for _, a := range args {
		if a == "" || strings.HasPrefix(a, `"`) || a != strings.Trim(a, " \t") || strings.ContainsAny(a, "\r\n") {
			text, err := json.Marshal(a)
			if err == nil {
				a = string(text)
			}
		}
		b.WriteString(a + "\n")
	}
	return b.String()
}

// parseArguments reads what argumentLines writes. Empty lines are none.
func parseArguments(text string) (args []string, err error) {
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		line = strings.Trim(line, " \t")
		switch {
		case line == "":
		case strings.HasPrefix(line, `"`):
			var a string
			if json.Unmarshal([]byte(line), &a) != nil {
				return nil, latchkey.Invalid("arguments", "line %d begins with a quotation mark and is no JSON text", i+1)
			}
			args = append(args, a)
		default:
			args = append(args, line)
		}
	}
	return args, nil
}

type flowForm struct {
	shell
	Flow        latchkey.Flow // zero for a new one
	Form        form
	Credentials []option // that flows may ask for, and this person may use
	Handovers   []option
}

func (v *view) flowForm(f latchkey.Flow) (page flowForm, err error) {
	title := v.t("flows.new")
	if f.ID != "" {
		title = v.t("flows.edit-of", f.Name)
	}
	page = flowForm{shell: v.shell(title, "flows"), Flow: f}
	for _, h := range []latchkey.Handover{latchkey.HandoverNone, latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment} {
		page.Handovers = append(page.Handovers, option{string(h), v.t("flows.handover-" + string(h))})
	}
	all, err := v.p.b.Credentials(v.r.Context(), v.who, string(v.env.ID), latchkey.PageOptions{Limit: choices})
	for _, c := range all.Items {
		if slices.Contains(c.Usages, latchkey.UsageDesktopFlow) && v.mayOn(c.MyRole, latchkey.ActCredentialUse) || slices.Contains(f.Credentials, c.ID) {
			page.Credentials = append(page.Credentials, option{string(c.ID), c.Name})
		}
	}
	return page, err
}

func (p *Pages) newFlowPage(v *view) error {
	if !v.may(latchkey.ActFlowCreate) {
		return v.redirect(v.path("flows"), "")
	}
	page, err := v.flowForm(latchkey.Flow{})
	if err != nil {
		return err
	}
	page.Form.set("timeout", limitText(latchkey.Duration(latchkey.DefaultTimeout)))
	page.Form.set("handover", string(latchkey.HandoverNone))
	return v.show("flow-form", page)
}

// flowCreate reads the form of a flow, and says in it what cannot be read.
func (v *view) flowCreate(f *form) latchkey.FlowCreate {
	c := latchkey.FlowCreate{Name: v.value("name"), Description: v.value("description"), Handover: latchkey.Handover(v.value("handover"))}
	args, err := parseArguments(v.r.PostFormValue("arguments"))
	if err != nil {
		_, _ = v.refused(f, err) // it is the field's
	}
	if program := v.value("program"); program != "" {
		c.Command = append([]string{program}, args...)
	}
	if text := v.value("timeout"); text != "" {
		if err := c.Timeout.UnmarshalText([]byte(text)); err != nil {
			f.wrong("timeout", err.Error())
		}
	}
	for _, id := range v.r.PostForm["credentials"] {
		c.Credentials = append(c.Credentials, latchkey.CredentialID(id))
	}
	return c
}

func (p *Pages) createFlow(v *view) error {
	page, err := v.flowForm(latchkey.Flow{})
	if err != nil {
		return err
	}
	page.Form = v.filled()
	c := v.flowCreate(&page.Form)
	if page.Form.Errors == nil {
		f, err := p.b.CreateFlow(v.r.Context(), v.who, string(v.env.ID), c)
		if err == nil {
			return v.redirect(v.path("flows", string(f.ID)), "flows.said-created", f.Name)
		}
		if _, err := v.refused(&page.Form, err, "command", "program"); err != nil {
			return err
		}
	}
	return v.showWith(http.StatusUnprocessableEntity, "flow-form", page)
}

func (p *Pages) editFlowPage(v *view) error {
	f, err := p.b.Flow(v.r.Context(), v.who, string(v.env.ID), latchkey.FlowID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	if !v.mayOn(f.MyRole, latchkey.ActFlowUpdate) {
		return v.redirect(v.path("flows", string(f.ID)), "")
	}
	page, err := v.flowForm(f)
	if err != nil {
		return err
	}
	fill := &page.Form
	fill.set("name", f.Name)
	fill.set("description", f.Description)
	fill.set("program", f.Command[0])
	fill.set("arguments", argumentLines(f.Command[1:]))
	fill.set("timeout", limitText(f.Timeout))
	fill.set("handover", string(f.Handover))
	var ids []string
	for _, id := range f.Credentials {
		ids = append(ids, string(id))
	}
	fill.set("credentials", ids...)
	return v.show("flow-form", page)
}

func (p *Pages) reviseFlow(v *view) error {
	f, err := p.b.Flow(v.r.Context(), v.who, string(v.env.ID), latchkey.FlowID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	page, err := v.flowForm(f)
	if err != nil {
		return err
	}
	page.Form = v.filled()
	c := v.flowCreate(&page.Form)
	if page.Form.Errors == nil {
		f, err := p.b.ReviseFlow(v.r.Context(), v.who, string(v.env.ID), f.ID, c)
		if err == nil {
			return v.redirect(v.path("flows", string(f.ID)), "flows.said-revised", strconv.Itoa(f.Revision))
		}
		if _, err := v.refused(&page.Form, err, "command", "program"); err != nil {
			return err
		}
	}
	return v.showWith(http.StatusUnprocessableEntity, "flow-form", page)
}

type flowPage struct {
	shell
	Flow        latchkey.Flow // in the revision that is shown
	Newest      int
	Credentials []namedLink
	Revisions   []int // newest first
	Runs        []latchkey.Run
	Here        string
	May         struct{ Run, Update, Share, Delete bool }
}

// A namedLink is a thing that a page leads to. Without a path one may not see it.
type namedLink struct{ Name, Path string }

// flowPage shows a flow, in its newest or another revision.
func (p *Pages) flowPage(v *view) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	f, err := p.b.Flow(ctx, v.who, env, latchkey.FlowID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	page := flowPage{Flow: f, Newest: f.Revision, Here: v.r.URL.RequestURI()}
	if n, err := strconv.Atoi(v.value("revision")); err == nil && n != f.Revision {
		if page.Flow, err = p.b.FlowRevision(ctx, v.who, env, f.ID, n); err != nil {
			return err
		}
	}
	page.shell = v.shell(f.Name, "flows")
	for _, id := range page.Flow.Credentials {
		link := namedLink{Name: string(id)}
		if c, err := p.b.Credential(ctx, v.who, env, id); err == nil {
			link = namedLink{c.Name, v.path("credentials", string(id))}
		}
		page.Credentials = append(page.Credentials, link)
	}
	for n := f.Revision; n > max(0, f.Revision-revisions); n-- {
		page.Revisions = append(page.Revisions, n)
	}
	runs, err := p.b.Runs(ctx, v.who, env, broker.RunFilter{Flow: f.ID}, latchkey.PageOptions{Limit: recentRuns})
	if err != nil {
		return err
	}
	page.Runs = runs.Items
	page.May.Run, page.May.Update = v.mayOn(f.MyRole, latchkey.ActFlowRun), v.mayOn(f.MyRole, latchkey.ActFlowUpdate)
	page.May.Share, page.May.Delete = v.mayOn(f.MyRole, latchkey.ActFlowShares), v.mayOn(f.MyRole, latchkey.ActFlowDelete)
	return v.show("flow", page)
}

type startRunPage struct {
	shell
	Flow        latchkey.Flow
	Form        form
	Connections []option
	Inputs      []runInput
	May         struct{ Connect bool } // make a connection
}

// startRunForm returns the form that starts a flow, with the connections that one
// may use.
func (v *view) startRunForm() (page startRunPage, err error) {
	ctx, b, env := v.r.Context(), v.p.b, string(v.env.ID)
	f, err := b.Flow(ctx, v.who, env, latchkey.FlowID(v.r.PathValue("id")))
	if err != nil {
		return page, err
	}
	page = startRunPage{shell: v.shell(v.t("flows.run-of", f.Name), "flows"), Flow: f}
	page.May.Connect = v.may(latchkey.ActConnectionCreate)
	names := map[string]string{} // of what runs go to
	machines, err := b.Machines(ctx, v.who, env, latchkey.PageOptions{Limit: latchkey.MaxPage})
	if err != nil {
		return page, err
	}
	for _, m := range machines.Items {
		names[string(m.ID)] = m.Name + ", " + v.t("state."+string(m.Status))
	}
	groups, err := b.MachineGroups(ctx, v.who, env, latchkey.PageOptions{Limit: latchkey.MaxPage})
	if err != nil {
		return page, err
	}
	for _, g := range groups.Items {
		names[string(g.ID)] = v.t("flows.group-online", g.Name, g.Online, g.Machines)
	}
	all, err := b.Connections(ctx, v.who, env, latchkey.PageOptions{Limit: choices})
	for _, c := range all.Items {
		if !v.mayOn(c.MyRole, latchkey.ActConnectionUse) {
			continue
		}
		label := c.Name
		if name := names[cmp.Or(string(c.Target.MachineGroup), string(c.Target.Machine))]; name != "" {
			label += " (" + name + ")"
		}
		page.Connections = append(page.Connections, option{string(c.ID), label})
	}
	return page, err
}

func (p *Pages) startRunPage(v *view) error {
	page, err := v.startRunForm()
	if err != nil {
		return err
	}
	if !v.mayOn(page.Flow.MyRole, latchkey.ActFlowRun) {
		return v.redirect(v.path("flows", string(page.Flow.ID)), "")
	}
	// The inputs of an earlier run: with their values if that is to be done again.
	before, again := latchkey.RunID(v.value("again")), true
	if before == "" && page.Flow.LastRun != nil {
		before, again = page.Flow.LastRun.Run, false
	}
	if before != "" {
		r, err := p.b.Run(v.r.Context(), v.who, string(v.env.ID), before)
		if err == nil && r.Flow == page.Flow.ID {
			page.Form.set("connection", string(r.Connection))
			for _, name := range slices.Sorted(maps.Keys(r.Inputs)) {
				in := runInput{Name: name}
				if again {
					in.Value = r.Inputs[name]
				}
				page.Inputs = append(page.Inputs, in)
			}
		}
	}
	page.Inputs = append(page.Inputs, make([]runInput, spareRows)...)
	return v.show("flow-run", page)
}

// startRun starts a flow, or adds rows for inputs to the form.
func (p *Pages) startRun(v *view) error {
	page, err := v.startRunForm()
	if err != nil {
		return err
	}
	page.Form = v.filled()
	names, values := v.r.PostForm["input-name"], v.r.PostForm["input-value"]
	n := latchkey.RunCreate{Flow: page.Flow.ID, Connection: latchkey.ConnectionID(v.value("connection")), Inputs: map[string]string{}}
	for i, name := range names[:min(len(names), len(values), latchkey.MaxInputs+spareRows)] {
		name = strings.TrimSpace(name)
		page.Inputs = append(page.Inputs, runInput{name, values[i]})
		_, twice := n.Inputs[name]
		switch {
		case name != "" && twice:
			page.Form.wrong("inputs", v.t("flows.input-twice", name))
		case name == "" && values[i] != "":
			page.Form.wrong("inputs", v.t("flows.input-nameless"))
		case name != "":
			n.Inputs[name] = values[i]
		}
	}
	if v.value("more") != "" {
		page.Form.Errors = nil
		page.Inputs = append(page.Inputs, make([]runInput, spareRows)...)
		return v.show("flow-run", page)
	}
	status := http.StatusUnprocessableEntity
	if page.Form.Errors == nil {
		r, err := p.b.StartRun(v.r.Context(), v.who, string(v.env.ID), n)
		if err == nil {
			return v.redirect(v.path("runs", string(r.ID)), "runs.said-started")
		}
		if status, err = v.refused(&page.Form, err); err != nil {
			return err
		}
	}
	return v.showWith(status, "flow-run", page)
}
