// Package monitoring checks packaging/prometheus and packaging/grafana: strictly
// for their form, with Prometheus' own parser for every expression, and against
// docs/metrics.md for what servers show.
package monitoring

import (
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// A metric is one that servers show.
type metric struct {
	kind   string // counter, gauge or histogram
	labels []string
}

// metrics returns the table of docs/metrics.md, which a test in cmd/latchkey
// keeps as servers are, and what is shown beside it.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{
		"up":                            {kind: "gauge"},
		"process_cpu_seconds_total":     {kind: "counter"},
		"process_resident_memory_bytes": {kind: "gauge"},
	}
	name := regexp.MustCompile("`([a-z_]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| `(latchkey_[a-z_]+)` \\| ([a-z]+) \\| (.*?) \\|").FindAllStringSubmatch(string(b), -1) {
		m := metric{kind: row[2]}
		for _, label := range name.FindAllStringSubmatch(row[3], -1) {
			m.labels = append(m.labels, label[1])
		}
		all[row[1]] = m
	}
	if len(all) < 10 {
		t.Fatalf("docs/metrics.md has %d metrics", len(all))
	}
	return all
}

// A checker checks expressions, and notes which metrics they use.
type checker struct {
	all    map[string]metric
	routes string // the source that has every route
	used   map[string]bool
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	routes, err := os.ReadFile("../../internal/server/routes.go")
	if err != nil {
		t.Fatal(err)
	}
	return &checker{all: metrics(t), routes: string(routes), used: map[string]bool{}}
}

// find returns the metric that a series belongs to, and its name.
func (c *checker) find(series string) (metric, string, bool) {
	if m, ok := c.all[series]; ok && m.kind != "histogram" {
		return m, series, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		name := strings.TrimSuffix(series, suffix)
		if m, ok := c.all[name]; ok && name != series && m.kind == "histogram" {
			if suffix == "_bucket" {
				m.labels = append(slices.Clone(m.labels), "le")
			}
			return m, name, true
		}
	}
	return metric{}, "", false
}

// check parses an expression and looks for metrics, labels and routes that no
// server has. It returns the labels of the result.
func (c *checker) check(text string) ([]string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, err
	}
	if expr.Type() != parser.ValueTypeVector {
		return nil, fmt.Errorf("it is a %s; want a vector", expr.Type())
	}
	return c.labels(expr, false)
}

// labels returns the labels of what an expression gives; counted is whether it is
// made into a rate.
func (c *checker) labels(expr parser.Expr, counted bool) ([]string, error) {
	switch e := expr.(type) {
	case *parser.ParenExpr:
		return c.labels(e.Expr, counted)
	case *parser.MatrixSelector:
		return c.labels(e.VectorSelector, counted)
	case *parser.VectorSelector:
		return c.selector(e, counted)
	case *parser.AggregateExpr:
		if e.Without {
			return nil, fmt.Errorf("say by which labels, not without which: %s", e)
		}
		inner, err := c.labels(e.Expr, false)
		if err != nil {
			return nil, err
		}
		for _, l := range e.Grouping {
			if !slices.Contains(inner, l) {
				return nil, fmt.Errorf("%s has no label %s", e.Expr, l)
			}
		}
		return e.Grouping, nil
	case *parser.BinaryExpr:
		left, err := c.labels(e.LHS, false)
		if err != nil {
			return nil, err
		}
		right, err := c.labels(e.RHS, false)
		if err != nil {
			return nil, err
		}
		if e.LHS.Type() != parser.ValueTypeVector {
			return right, nil
		}
		return left, nil
	case *parser.Call:
		var found []string
		for _, arg := range e.Args {
			inner, err := c.labels(arg, e.Func.Name == "rate" || e.Func.Name == "increase")
			if err != nil {
				return nil, err
			}
			found = append(found, inner...)
		}
		if e.Func.Name == "histogram_quantile" {
			if !slices.Contains(found, "le") {
				return nil, fmt.Errorf("%s has no label le", e.Args[1])
			}
			found = slices.DeleteFunc(slices.Clone(found), func(l string) bool { return l == "le" })
		}
		return found, nil
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil, nil
	default:
		return nil, fmt.Errorf("the test does not know a %T: %s", e, e)
	}
}

func (c *checker) selector(e *parser.VectorSelector, counted bool) ([]string, error) {
	m, name, ok := c.find(e.Name)
	if !ok {
		return nil, fmt.Errorf("no server shows %q", e.Name)
	}
	c.used[name] = true
	if counter := m.kind != "gauge"; counter != counted {
		return nil, fmt.Errorf("%s is a %s: the rate of a counter means something, and of nothing else", e.Name, m.kind)
	}
	known := append(slices.Clone(m.labels), "instance", "job")
	for _, l := range e.LabelMatchers {
		if l.Name != model.MetricNameLabel && !slices.Contains(known, l.Name) {
			return nil, fmt.Errorf("%s has no label %s", e.Name, l.Name)
		}
		if l.Name == "route" && !strings.Contains(c.routes, " "+strings.TrimPrefix(l.Value, "/api/v1")+`"`) {
			return nil, fmt.Errorf("there is no route %s", l.Value)
		}
	}
	return known, nil
}

func TestMonitoring(t *testing.T) {
	c := newChecker(t)
	t.Run("rules", c.rules)
	t.Run("dashboard", c.dashboard)
	for name := range c.all {
		if !c.used[name] {
			t.Errorf("neither the rules nor the dashboard use %s", name)
		}
	}
}

func (c *checker) rules(t *testing.T) {
	b, err := os.ReadFile("../../packaging/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = yaml.YAMLToJSONStrict(b); err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	strict, err := json.UnmarshalStrict(b, &file)
	if err != nil || len(strict) > 0 {
		t.Fatal(err, strict)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("the rules are %+v; want one group", file)
	}
	names := map[string]bool{}
	for _, a := range file.Groups[0].Rules {
		if names[a.Alert] {
			t.Errorf("there are two alerts %s", a.Alert)
		}
		names[a.Alert] = true
		found, err := c.check(a.Expr)
		if err != nil {
			t.Errorf("%s: %v", a.Alert, err)
			continue
		}
		if a.For != "" {
			if _, err := model.ParseDuration(a.For); err != nil {
				t.Errorf("%s: %v", a.Alert, err)
			}
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || len(a.Labels) != 1 {
			t.Errorf("%s has the labels %v; want a severity: critical, warning or info", a.Alert, a.Labels)
		}
		if keys := slices.Sorted(maps.Keys(a.Annotations)); !slices.Equal(keys, []string{"description", "summary"}) {
			t.Errorf("%s has the annotations %v; want a summary and a description", a.Alert, keys)
		}
		for _, text := range a.Annotations {
			if err := expand(text, found); err != nil {
				t.Errorf("%s: %v", a.Alert, err)
			}
			for _, name := range regexp.MustCompile(`\blatchkey_\w+`).FindAllString(text, -1) {
				if _, ok := c.all[name]; !ok {
					t.Errorf("%s names %s, which no server shows", a.Alert, name)
				}
			}
		}
	}
}

// expand fills in an annotation as Prometheus does
// (https://prometheus.io/docs/prometheus/latest/configuration/template_reference/),
// for a result with these labels.
func expand(text string, found []string) error {
	tmpl, err := template.New("annotation").Option("missingkey=error").
		Funcs(template.FuncMap{"humanizeDuration": func(float64) string { return "" }}).
		Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, l := range found {
		values[l] = "x"
	}
	return tmpl.Execute(io.Discard, struct {
		Labels map[string]string
		Value  float64
	}{values, 1})
}

func (c *checker) dashboard(t *testing.T) {
	b, err := os.ReadFile("../../packaging/grafana/latchkey.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Templating struct {
			List []struct {
				Name  string `json:"name"`
				Type  string `json:"type"`
				Query string `json:"query"`
			} `json:"list"`
		} `json:"templating"`
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			Targets []struct {
				Expr         string `json:"expr"`
				LegendFormat string `json:"legendFormat"`
			} `json:"targets"`
		} `json:"panels"`
	}
	strict, err := json.UnmarshalStrict(b, &d, json.DisallowDuplicateFields)
	if err != nil || len(strict) > 0 {
		t.Fatal(err, strict)
	}
	if len(d.Panels) == 0 {
		t.Fatal("the dashboard has no panels")
	}
	// What Grafana fills in, with an example.
	variables := map[string]string{"$__rate_interval": "1m"}
	for _, v := range d.Templating.List {
		variables["$"+v.Name] = "x"
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`).FindStringSubmatch(v.Query)
		if m == nil {
			t.Errorf("the variable %s asks for %q", v.Name, v.Query)
			continue
		}
		if found, err := c.check(m[1]); err != nil || !slices.Contains(found, m[2]) {
			t.Errorf("the variable %s: %s has the labels %v, %v; want %s", v.Name, m[1], found, err, m[2])
		}
	}
	variable := regexp.MustCompile(`\$\w+`)
	legend := regexp.MustCompile(`{{\s*(.*?)\s*}}`)
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("the panel %s is a %s with %d expressions", p.Title, p.Type, len(p.Targets))
		}
		for _, target := range p.Targets {
			expr := variable.ReplaceAllStringFunc(target.Expr, func(name string) string {
				if variables[name] == "" {
					t.Errorf("%s: there is no variable %s", p.Title, name)
				}
				return variables[name]
			})
			found, err := c.check(expr)
			if err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
			for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(found, m[1]) {
					t.Errorf("%s: the legend names %s; the labels are %v", p.Title, m[1], found)
				}
			}
		}
	}
}

// TestCheck has the checker find what is wrong.
func TestCheck(t *testing.T) {
	tests := []struct{ expr, want string }{
		{`sum(latchkey_ready`, "parse error"},
		{`latchkey_ready[5m]`, "it is a matrix"},
		{`latchkey_redy`, "no server shows"},
		{`latchkey_http_request_duration_seconds`, "no server shows"},
		{`latchkey_machines{state="online"}`, "no label state"},
		{`sum by (kind) (latchkey_machines)`, "no label kind"},
		{`rate(latchkey_machines[5m])`, "is a gauge"},
		{`latchkey_denials_total > 5`, "is a counter"},
		{`histogram_quantile(0.9, sum by (kind) (rate(latchkey_vault_request_duration_seconds_bucket[5m])))`, "no label le"},
		{`rate(latchkey_http_requests_total{route="/api/v1/nothing"}[5m])`, "no route"},
		{`sum without (le) (latchkey_ready)`, "say by which"},
	}
	c := newChecker(t)
	for _, tt := range tests {
		if _, err := c.check(tt.expr); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v; want one with %q", tt.expr, err, tt.want)
		}
	}
	for text, found := range map[string][]string{"{{ $labels.instance }}": {"job"}, "{{ $value ": nil, "{{ $value | humanise }}": nil} {
		if err := expand(text, found); err == nil {
			t.Errorf("%s was filled in with the labels %v", text, found)
		}
	}
}
