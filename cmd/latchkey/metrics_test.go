package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
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
