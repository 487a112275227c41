package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const hostile = "a\x1b[31mb\x07\u009b2J\u202ec\u2066\r\n\tlatchkey: done\U000E0041"

func TestClean(t *testing.T) {
	if got, want := clean(hostile), "a[31mb2Jc\n\tlatchkey: done"; got != want {
		t.Errorf("clean = %q; want %q", got, want)
	}
	if got, want := cleanLine(hostile), "a[31mb2Jc  latchkey: done"; got != want {
		t.Errorf("cleanLine = %q; want %q", got, want)
	}
	if got := clean("Größe 大 \xff"); got != "Größe 大 \uFFFD" {
		t.Errorf("clean = %q; want letters as they are", got)
	}
}

func TestJSONIsEscaped(t *testing.T) {
	b, err := marshalJSON(map[string]string{"name": hostile}, "  ")
	if err != nil {
		t.Fatal(err)
	}
	if clean(string(b)) != string(b) {
		t.Errorf("JSON = %q; want nothing that a terminal acts on", b)
	}
	var back map[string]string
	if err := json.Unmarshal(b, &back); err != nil || back["name"] != hostile {
		t.Errorf("read back = %q, %v; want what was written", back["name"], err)
	}
}

func TestNothingActsOnTheTerminal(t *testing.T) {
	a, stdout, stderr := testApp(t, "")
	if err := printList(a, withoutErrors([]string{hostile}), []string{"NAME", "STATE"}, func(s string) []string { return []string{s, "failed"} }); err != nil {
		t.Fatal(err)
	}
	if err := a.printOne(nil, field{hostile, hostile}); err != nil {
		t.Fatal(err)
	}
	a.say("%s", hostile)
	a.report(t.Context(), vaultProblem(403, []byte(`{"error":{"code":"\u001b[2JForbidden","message":"no\u001b]0;title\u0007 `+strings.Repeat("x", 10000)+`"}}`)))
	for name, got := range map[string]string{"standard output": stdout.String(), "standard error": stderr.String()} {
		if clean(got) != got {
			t.Errorf("%s = %q; want nothing that a terminal acts on", name, got)
		}
	}
	if stderr.Len() > 5000 {
		t.Errorf("%d bytes of messages; want them bounded", stderr.Len())
	}
}

func TestColors(t *testing.T) {
	for _, tt := range []struct {
		color string
		want  bool
	}{{colorAuto, false}, {colorNever, false}, {colorAlways, true}} {
		a, stdout, stderr := testApp(t, "")
		a.color = tt.color
		if err := printList(a, withoutErrors([]string{"failed"}), []string{"STATE"}, func(s string) []string { return []string{s} }); err != nil {
			t.Fatal(err)
		}
		if err := a.printOne(nil, field{"State", "online"}); err != nil {
			t.Fatal(err)
		}
		a.report(t.Context(), fmt.Errorf("it broke"))
		for _, got := range []string{stdout.String(), stderr.String()} {
			if strings.Contains(got, "\033[3") != tt.want {
				t.Errorf("--color %s writes %q to a pipe; want colours: %v", tt.color, got, tt.want)
			}
		}
	}
}

func TestQuiet(t *testing.T) {
	a, _, stderr := testApp(t, "")
	a.quiet = true
	a.say("something")
	if stderr.Len() != 0 {
		t.Errorf("--quiet says %q", stderr)
	}
	if a.report(t.Context(), fmt.Errorf("it broke")); stderr.Len() == 0 {
		t.Error("--quiet hides errors")
	}
}

func TestTableFits(t *testing.T) {
	tab := table{header: []string{"NAME", "ARM ID", "ID"}}
	tab.add([]string{strings.Repeat("n", 40), "/" + strings.Repeat("s", 50) + "/end", "cred_06h0e9ar16009rtdky4ekg8gnr"})
	for _, width := range []int{0, 200, 100, 80, 20} {
		var b strings.Builder
		if err := tab.write(&b, width, false); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		longest := max(len([]rune(lines[0])), len([]rune(lines[1])))
		if width >= 80 && longest > width || width == 0 && longest < 100 {
			t.Errorf("at width %d a line has %d characters:\n%s", width, longest, b.String())
		}
		if !strings.Contains(b.String(), "cred_06h0e9ar16009rtdky4ekg8gnr") {
			t.Errorf("at width %d the id is cut:\n%s", width, b.String())
		}
		if width == 80 && !strings.Contains(b.String(), "/end") {
			t.Errorf("the end of an ARM id is cut:\n%s", b.String())
		}
	}
}

// TestTableKeepsWhatMatters writes lists of people's servers at 80 columns.
func TestTableKeepsWhatMatters(t *testing.T) {
	const id, at = "run_06h0e9ar16009rtdky4ekg8gnr", "2026-11-23 08:09:10"
	for _, tt := range []struct {
		header, row, want, without []string
	}{
		{runHeader, []string{id, "Month end of the year", "bot1", "timed-out", at, at, "exit-code"}, []string{id, paint(red, "timed-out"), "11-23 08:09", "Month end"}, []string{"FINISHED"}},
		{[]string{"NAME", "STATUS", "SHARED UID", "RUNNING", "QUEUED", "LAST SEEN", "ID"}, []string{"machine-in-the-cellar", "quarantined", "yes", "1", "2", at, "mach_06h0e9ar16009rtdky4ekg8gnr"},
			[]string{"machine-in-", paint(red, "quarantined"), "11-23 08:09", "mach_06h0e9ar16009rtdky4ekg8gnr"}, []string{"RUNNING", "2026"}},
		{[]string{"NAME", "MACHINE", "DRIVER", "CREDENTIAL", "ID"}, []string{"ERP on bot1", "bot1", "none", "ERP bot", "conn_06h0e9ar16009rtdky4ekg8gnr"},
			[]string{"bot1", "DRIVER", "ERP bot", "conn_06h0e9ar16009rtdky4ekg8gnr"}, []string{"…"}},
	} {
		tab := table{header: tt.header}
		tab.add(tt.row)
		var b strings.Builder
		if err := tab.write(&b, 80, true); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("the list lacks %q:\n%s", want, b.String())
			}
		}
		for _, unwanted := range tt.without {
			if strings.Contains(b.String(), unwanted) {
				t.Errorf("the list has %q:\n%s", unwanted, b.String())
			}
		}
		var plain strings.Builder
		if err := tab.write(&plain, 80, false); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(plain.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
				t.Errorf("a line has %d characters: %s", n, line)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"ERP bot", "Invoices", "Month end", "x1", "prod-payments"}
	for name, want := range map[string]string{
		"ERP Bot": "ERP bot", "erp bot": "ERP bot", "Invoces": "Invoices", "invoice": "Invoices", "Mont ehnd": "Month end", "prod": "prod-payments",
		"payroll": "", "zz": "", "": "", "y": "",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("nearest(%q) = %q; want %q", name, got, want)
		}
	}
}
