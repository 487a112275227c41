package web

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) activityRoutes() {
	p.inEnvironment("GET /e/{env}/activity", p.activityPage)
	p.inEnvironment("GET /e/{env}/activity/export", p.exportActivity)
	p.signedIn("GET /activity", p.installationActivity)
	p.signedIn("GET /activity/export", p.exportInstallationActivity)
}

// maxExport is how many entries one download has at most. What is longer is for
// latchkey audit export, which goes on where it was cut off.
const maxExport = 50_000

type activityPage struct {
	shell
	Whole   bool // the whole installation
	Form    form
	List    *list
	Rows    []latchkey.AuditEvent
	Actions []option
	Export  string
}

// activityFilters are the fields of the filter.
var activityFilters = []string{"actor", "subject", "credential", "machine", "run", "action", "outcome", "since", "until"}

func (p *Pages) activityPage(v *view) error { return p.showActivity(v, string(v.env.ID)) }

func (p *Pages) installationActivity(v *view) error { return p.showActivity(v, "") }

func (p *Pages) showActivity(v *view, env string) error {
	page := activityPage{shell: v.shell(v.t("activity.title"), "activity"), Whole: env == "", Form: v.filled()}
	page.List = v.list("activity", []column{{Key: "when"}, {Key: "who"}, {Key: "what"}, {Key: "thing"}, {Key: "outcome"}, {Key: "from", Hidden: true}}, activityFilters...)
	page.Actions = v.actions()
	page.Export = strings.Replace(page.List.address("", ""), "/activity", "/activity/export", 1)
	f, err := v.activityFilter(env, &page.Form)
	if err != nil {
		return err
	}
	if len(page.Form.Errors) > 0 {
		return v.showWith(http.StatusUnprocessableEntity, "activity", page)
	}
	rows, err := p.b.Audit(v.r.Context(), v.who, f, page.List.options())
	if err != nil {
		status, err := v.refused(&page.Form, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "activity", page)
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("activity", page)
}

// actions returns what can be chosen as action: the beginnings that several have,
// and each.
func (v *view) actions() []option {
	all := []option{{"", v.t("activity.any-action")}}
	seen := map[string]bool{}
	for _, a := range slices.Sorted(maps.Keys(latchkey.Permissions)) {
		group, _, ok := strings.Cut(string(a), ".")
		if ok && !seen[group] {
			seen[group] = true
			all = append(all, option{group + ".", v.t("activity.all-of", group)})
		}
		all = append(all, option{string(a), string(a)})
	}
	return all
}

// activityFilter reads the filter, and says in the form what is wrong with it.
func (v *view) activityFilter(env string, f *form) (filter broker.AuditFilter, err error) {
	filter = broker.AuditFilter{
		Environment: env, Action: latchkey.Action(v.value("action")), Outcome: latchkey.Outcome(v.value("outcome")), Subject: v.value("subject"),
		Run: latchkey.RunID(v.value("run")), Machine: latchkey.MachineID(v.value("machine")), Credential: latchkey.CredentialID(v.value("credential")), Newest: true,
	}
	for name, at := range map[string]*time.Time{"since": &filter.Since, "until": &filter.Until} {
		text := v.value(name)
		if text == "" {
			continue
		}
		if *at, err = time.Parse("2006-01-02", text); err != nil {
			if *at, err = time.Parse("2006-01-02T15:04", text); err != nil {
				f.wrong(name, v.t("activity.date-wrong"))
			}
		}
	}
	if actor := v.value("actor"); actor != "" {
		filter.Actor = latchkey.PrincipalID(actor)
		if !strings.Contains(actor, "_") && env != "" && v.env.MyRole != "" {
			// A name or a login: the one principal that has it.
			found, err := v.p.b.Directory(v.r.Context(), v.who, env, actor, latchkey.PageOptions{Limit: 10})
			if err != nil {
				return filter, err
			}
			for _, e := range found.Items {
				if strings.EqualFold(e.Login, actor) || strings.EqualFold(e.Name, actor) {
					filter.Actor = e.ID
				}
			}
		}
	}
	return filter, nil
}

func (p *Pages) exportActivity(v *view) error { return p.export(v, string(v.env.ID)) }

func (p *Pages) exportInstallationActivity(v *view) error { return p.export(v, "") }

// export sends the entries that the filter chooses as a file, JSON lines or CSV,
// newest first.
func (p *Pages) export(v *view, env string) error {
	var form form
	f, err := v.activityFilter(env, &form)
	if err != nil {
		return err
	}
	for name, message := range form.Errors {
		return latchkey.Invalid(name, "%s", message)
	}
	asCSV := v.value("format") == "csv"
	o := latchkey.PageOptions{Limit: latchkey.MaxPage}
	// Refusals come before the file begins.
	rows, err := p.b.Audit(v.r.Context(), v.who, f, o)
	if err != nil {
		return err
	}
	kind, name := "application/jsonl", "latchkey-activity.jsonl"
	if asCSV {
		kind, name = "text/csv; charset=utf-8", "latchkey-activity.csv"
	}
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	lines, table := json.NewEncoder(v.w), csv.NewWriter(v.w)
	if asCSV {
		_ = table.Write([]string{"id", "at", "actor", "actorName", "action", "outcome", "reason", "subjectKind", "subject", "subjectName", "run", "machine", "credential", "address", "details"})
	}
	// What cannot be written any more is for nobody; what cannot be read any more
	// ends the file early, which its last line says.
	for n := 0; ; {
		for _, e := range rows.Items {
			if asCSV {
				err = table.Write(record(e))
			} else {
				err = lines.Encode(e)
			}
			if err != nil {
				return nil
			}
		}
		if n += len(rows.Items); rows.Next == "" {
			break
		}
		if n >= maxExport {
			v.cut(table, asCSV, v.t("activity.cut", n))
			break
		}
		o.After = rows.Next
		if rows, err = p.b.Audit(v.r.Context(), v.who, f, o); err != nil {
			v.cut(table, asCSV, p.Fault(v.r.Context(), err).Detail)
			break
		}
	}
	table.Flush()
	return nil
}

// cut ends a file that is not whole with the reason.
func (v *view) cut(table *csv.Writer, asCSV bool, why string) {
	if asCSV {
		_ = table.Write([]string{"", "", "", "", "", "", why})
		return
	}
	_ = json.NewEncoder(v.w).Encode(map[string]string{"incomplete": why})
}

// record returns an entry as a row. Programs that calculate take texts that begin
// like formulas for such, so those get an apostrophe.
func record(e latchkey.AuditEvent) []string {
	details := url.Values{}
	for k, d := range e.Details {
		details.Set(k, d)
	}
	r := []string{
		string(e.ID), e.At.UTC().Format(time.RFC3339Nano), string(e.Actor), e.ActorName, string(e.Action), string(e.Outcome), e.Reason,
		string(e.SubjectKind), e.Subject, e.SubjectName, string(e.Run), string(e.Machine), string(e.Credential), e.Address, details.Encode(),
	}
	for i, s := range r {
		if s != "" && strings.ContainsAny(s[:1], "=+-@\t\r") {
			r[i] = "'" + s
		}
	}
	return r
}

// Link returns the address of the component that an entry is about, or "".
func (p activityPage) Link(e latchkey.AuditEvent) string {
	if e.Environment == "" || p.Whole || p.Env.MyRole == "" {
		return ""
	}
	return p.ThingPath(e.SubjectKind, e.Subject)
}

// Details returns what else an entry says, in order.
func (activityPage) Details(e latchkey.AuditEvent) (all []string) {
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		all = append(all, fmt.Sprintf("%s: %s", k, e.Details[k]))
	}
	return all
}
