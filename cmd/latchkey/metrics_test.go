package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
)

const metricsDoc = "../../docs/metrics.md"

// families returns the metrics of a server that has answered a request, without
// those of Go and the process.
func families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	s, err := startServer(t.Context(), serverConfig{
		Data: t.TempDir(), Listen: "127.0.0.1:0", VaultListen: "127.0.0.1:0", VaultDomain: "vault.localhost",
		LogFormat: "text", LogLevel: "info", Out: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.Get(s.URL() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "latchkey_") {
			found[f.GetName()] = f
		}
	}
	return found
}

// TestMetricsDoc compares the table of docs/metrics.md with what a server shows.
func TestMetricsDoc(t *testing.T) {
	var rows strings.Builder
	all := families(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	b, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	const head = "|---|---|---|---|\n"
	before, rest, ok := strings.Cut(string(b), head)
	table, after, ok2 := strings.Cut(rest, "\n\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no table of metrics", metricsDoc)
	}
	want := strings.TrimPrefix(table, "\n")
	if got := strings.TrimSuffix(rows.String(), "\n"); got != want {
		if !*update {
			t.Fatalf("%s is not what the server shows; run this test with -update:\n%s", metricsDoc, cmp.Diff(want, got))
		}
		if err := os.WriteFile(metricsDoc, []byte(before+head+got+"\n\n"+strings.TrimPrefix(after, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMonitoring looks for metrics, labels and routes in the rules and the
// dashboard that no server has.
func TestMonitoring(t *testing.T) {
	all := families(t)
	routes, err := os.ReadFile("../../internal/server/routes.go")
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\blatchkey_[a-z_]+`)
	label := regexp.MustCompile(`(latchkey_[a-z_]+)\{([^}]*)\}`)
	matcher := regexp.MustCompile(`([a-z_]+)=~?\\?"`)
	route := regexp.MustCompile(`route=\\?"/api/v1([^"\\]*)`)
	base := func(name string) string {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if b := strings.TrimSuffix(name, suffix); all[b] != nil && all[b].GetType() == dto.MetricType_HISTOGRAM {
				return b
			}
		}
		return name
	}
	used := map[string]bool{}
	for _, file := range []string{"prometheus/rules.yml", "grafana/latchkey.json"} {
		b, err := os.ReadFile(filepath.Join(packaging, file))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, name := range metric.FindAllString(text, -1) {
			used[base(name)] = true
			if all[base(name)] == nil {
				t.Errorf("%s names %s, which no server shows", file, name)
			}
		}
		for _, m := range label.FindAllStringSubmatch(text, -1) {
			f := all[base(m[1])]
			if f == nil {
				continue
			}
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				known := l[1] == "instance" || l[1] == "job" || slices.ContainsFunc(f.Metric[0].Label, func(p *dto.LabelPair) bool { return p.GetName() == l[1] })
				if !known {
					t.Errorf("%s asks for the label %s of %s, which it has not", file, l[1], m[1])
				}
			}
		}
		for _, m := range route.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(routes), " "+m[1]+`"`) {
				t.Errorf("%s names the route %s, which there is not", file, m[1])
			}
		}
	}
	for name := range all {
		if !used[name] {
			t.Errorf("neither the rules nor the dashboard use %s", name)
		}
	}
}
