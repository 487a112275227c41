package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const hostile = "a\x1b[31mb\x07\u009b2J\u202ec\u2066\r\n\tlatchkey: done\U000E0041"

// testConsole returns a console without a terminal.
func testConsole() (c *Console, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &Console{Program: "program", In: strings.NewReader(""), Out: stdout, Err: stderr, Color: ColorAuto}, stdout, stderr
}

func TestClean(t *testing.T) {
	if got, want := Clean(hostile), "a[31mb2Jc\n\tlatchkey: done"; got != want {
		t.Errorf("Clean = %q; want %q", got, want)
	}
	if got, want := CleanLine(hostile), "a[31mb2Jc  latchkey: done"; got != want {
		t.Errorf("CleanLine = %q; want %q", got, want)
	}
	if got := Clean("Größe 大 \xff"); got != "Größe 大 \uFFFD" {
		t.Errorf("Clean = %q; want letters as they are", got)
	}
}

func TestJSONIsEscaped(t *testing.T) {
	b, err := MarshalJSON(map[string]string{"name": hostile}, "  ")
	if err != nil {
		t.Fatal(err)
	}
	if Clean(string(b)) != string(b) {
		t.Errorf("JSON = %q; want nothing that a terminal acts on", b)
	}
	var back map[string]string
	if err := json.Unmarshal(b, &back); err != nil || back["name"] != hostile {
		t.Errorf("read back = %q, %v; want what was written", back["name"], err)
	}
}

func TestColors(t *testing.T) {
	for _, tt := range []struct {
		color string
		want  bool
	}{{ColorAuto, false}, {ColorNever, false}, {ColorAlways, true}} {
		c, stdout, stderr := testConsole()
		c.Color = tt.color
		if err := PrintList(c, WithoutErrors([]string{"failed"}), []string{"STATE"}, func(s string) []string { return []string{s} }); err != nil {
			t.Fatal(err)
		}
		if err := c.PrintOne(nil, Field{"State", "online"}); err != nil {
			t.Fatal(err)
		}
		c.Report(t.Context(), fmt.Errorf("it broke"))
		for _, got := range []string{stdout.String(), stderr.String()} {
			if strings.Contains(got, "\033[3") != tt.want {
				t.Errorf("--color %s writes %q to a pipe; want colours: %v", tt.color, got, tt.want)
			}
		}
	}
}

func TestQuiet(t *testing.T) {
	c, _, stderr := testConsole()
	c.Quiet = true
	c.Say("something")
	if stderr.Len() != 0 {
		t.Errorf("--quiet says %q", stderr)
	}
	if c.Report(t.Context(), fmt.Errorf("it broke")); stderr.Len() == 0 {
		t.Error("--quiet hides errors")
	}
}

func TestTableFits(t *testing.T) {
	tab := Table{Header: []string{"NAME", "ARM ID", "ID"}}
	tab.Add([]string{strings.Repeat("n", 40), "/" + strings.Repeat("s", 50) + "/end", "cred_06h0e9ar16009rtdky4ekg8gnr"})
	for _, width := range []int{0, 200, 100, 80, 20} {
		var b strings.Builder
		if err := tab.Write(&b, width, false); err != nil {
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
		{[]string{"ID", "FLOW", "MACHINE", "STATE", "QUEUED", "FINISHED", "ERROR"}, []string{id, "Month end of the year", "bot1", "timed-out", at, at, "exit-code"}, []string{id, Paint(Red, "timed-out"), "11-23 08:09", "Month end"}, []string{"FINISHED"}},
		{[]string{"NAME", "STATUS", "SHARED UID", "RUNNING", "QUEUED", "LAST SEEN", "ID"}, []string{"machine-in-the-cellar", "quarantined", "yes", "1", "2", at, "mach_06h0e9ar16009rtdky4ekg8gnr"},
			[]string{"machine-in-", Paint(Red, "quarantined"), "11-23 08:09", "mach_06h0e9ar16009rtdky4ekg8gnr"}, []string{"RUNNING", "2026"}},
		{[]string{"NAME", "MACHINE", "DRIVER", "CREDENTIAL", "ID"}, []string{"ERP on bot1", "bot1", "none", "ERP bot", "conn_06h0e9ar16009rtdky4ekg8gnr"},
			[]string{"bot1", "DRIVER", "ERP bot", "conn_06h0e9ar16009rtdky4ekg8gnr"}, []string{"…"}},
	} {
		tab := Table{Header: tt.header}
		tab.Add(tt.row)
		var b strings.Builder
		if err := tab.Write(&b, 80, true); err != nil {
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
		if err := tab.Write(&plain, 80, false); err != nil {
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
		if got := Nearest(name, names); got != want {
			t.Errorf("Nearest(%q) = %q; want %q", name, got, want)
		}
	}
}

func TestRoff(t *testing.T) {
	if got, want := roff(".x\n'y' -a \\n …"), `\&.x`+"\n"+`\(aqy\(aq \-a \en \[u2026]`; got != want {
		t.Errorf("roff = %q; want %q", got, want)
	}
}
