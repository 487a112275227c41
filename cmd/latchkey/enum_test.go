package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestFlagFaults(t *testing.T) {
	for _, tt := range []struct {
		args, want string
	}{
		{"run list --state runing", `latchkey: --state must be queued, running, succeeded, failed, cancelled or timed-out (did you mean "running"?), not "runing"`},
		{"run list --kind x", `latchkey: --kind must be flow or test, not "x"`},
		{"audit list --outcome nonsense", `latchkey: --outcome must be ok, denied or failed, not "nonsense"`},
		{"audit list --limit -1", `latchkey: --limit must be a whole number, 0 or more, not "-1"`},
		{"run list --limit x", `latchkey: --limit must be a whole number, 0 or more, not "x"`},
		{"credential create c --exposure foo", `latchkey: --exposure must be session, descriptor, file or environment, not "foo"`},
		{"connection create c --driver foo", `latchkey: --driver must be none, ssh or kerberos, not "foo"`},
		{"flow create f --handover foo -- /bin/true", `latchkey: --handover must be none, descriptor, file or environment, not "foo"`},
		{"flow create f --timeout x -- /bin/true", `latchkey: --timeout must be a duration such as 90s, 5m or 1h30m, not "x"`},
		{"flow show f --revision x", `latchkey: --revision must be a whole number, not "x"`},
		{"run list --watch=maybe", `latchkey: --watch must be true or false, not "maybe"`},
		{"audit list --action foo --server http://127.0.0.1:1", `latchkey: --action: there is no action "foo"`},
		{"audit list --action relese.granted --server http://127.0.0.1:1", "latchkey: try: --action release.granted"},
		{"audit list --run nope --server http://127.0.0.1:1", `latchkey: --run must be the id of a run, run_…, not "nope"`},
		{"audit list --subject nope --server http://127.0.0.1:1", `latchkey: --subject must be an id, such as cred_…, not "nope"`},
	} {
		a, _, _ := testApp(t, "", "LATCHKEY_TOKEN=lk_one")
		var stderr strings.Builder
		code := run(strings.Fields(tt.args), stdio{strings.NewReader(""), io.Discard, &stderr}, a.Environ)
		if code != 2 || !strings.Contains(stderr.String(), tt.want+"\n") {
			t.Errorf("%s = %d, %q; want 2 and %q", tt.args, code, stderr.String(), tt.want)
		}
	}
}

// TestAuditActions compares what --action takes with the actions that there are.
func TestAuditActions(t *testing.T) {
	source, err := os.ReadFile("../../latchkey/grant.go")
	if err != nil {
		t.Fatal(err)
	}
	actions := auditActions()
	found := regexp.MustCompile(`Action = "([^"]+)"`).FindAllSubmatch(source, -1)
	if len(found) < 50 {
		t.Fatalf("%d actions are declared; want all of them", len(found))
	}
	for _, m := range found {
		if !slices.Contains(actions, string(m[1])) {
			t.Errorf("--action does not take %s", m[1])
		}
	}
}
