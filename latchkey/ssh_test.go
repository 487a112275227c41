package latchkey

import (
	"slices"
	"strings"
	"testing"
)

func TestPolicyOfSSH(t *testing.T) {
	p := Policy{
		Commands: []string{"/usr/bin/env"}, Drivers: []Driver{DriverSSH}, Handovers: []Handover{HandoverDescriptor},
		SSHServers: []SSHServer{{Name: "erp", Commands: []string{"/opt/erp/*"}}, {Name: "crm"}},
	}
	tests := []struct {
		program  string
		driver   Driver
		server   string
		handover Handover
		want     string // part of the reason
	}{
		{"/opt/erp/post", DriverSSH, "erp", HandoverNone, ""},
		{"/opt/erp/post", DriverSSH, "crm", HandoverNone, "program"},
		{"/opt/erp/post", DriverSSH, "hr", HandoverNone, "no SSH server"},
		{"/opt/erp/post", DriverSSH, "", HandoverNone, "no SSH server"},
		{"/usr/bin/env", DriverSSH, "erp", HandoverNone, "program"}, // it is the machine's own
		{"/opt/erp/post", DriverSSH, "erp", HandoverDescriptor, "handover"},
		{"/usr/bin/env", DriverNone, "", HandoverNone, "driver"},
		{"/opt/erp/post", DriverNone, "", HandoverNone, "program"},
	}
	for _, tt := range tests {
		got := p.Refuses(tt.program, tt.driver, tt.server, tt.handover)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("Refuses(%s, %s, %s, %s) = %q; want %q in it", tt.program, tt.driver, tt.server, tt.handover, got, tt.want)
		}
	}
}

// TestDriverRemedy: what a person is told to do must not be what has the agent
// refuse its policy.
func TestDriverRemedy(t *testing.T) {
	erp := []SSHServer{{Name: "erp"}}
	const (
		add  = "latchkey-agent ssh add NAME ADDRESS on the machine, and start the agent again"
		list = "add it to drivers in the machine's policy file, and start the agent again"
	)
	tests := []struct {
		name   string
		policy Policy
		driver Driver
		want   string // part of the reason
	}{
		{"nothing", Policy{}, DriverSSH, add},
		{"no server", Policy{Drivers: []Driver{DriverNone}}, DriverSSH, add},
		{"servers only", Policy{SSHServers: erp}, DriverSSH, list},
		{"another server", Policy{Drivers: []Driver{DriverSSH}, SSHServers: erp}, DriverSSH, "latchkey-agent ssh add crm ADDRESS on the machine, and start the agent again"},
		{"none", Policy{Drivers: []Driver{DriverSSH}, SSHServers: erp}, DriverNone, list},
	}
	for _, tt := range tests {
		if got := tt.policy.RefusesDriver(tt.driver, "crm"); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: RefusesDriver(%s, crm) = %q; want %q at its end", tt.name, tt.driver, got, tt.want)
		}
	}
}

func TestCheckAgentSSH(t *testing.T) {
	tests := []struct {
		name    string
		servers []SSHServer
		ok      bool
	}{
		{"good", []SSHServer{{Name: "erp", Commands: []string{"/opt/*"}}, {Name: "crm.example-1"}}, true},
		{"no name", []SSHServer{{}}, false},
		{"a name with a space", []SSHServer{{Name: "e rp"}}, false},
		{"a long name", []SSHServer{{Name: strings.Repeat("a", 65)}}, false},
		{"twice", []SSHServer{{Name: "erp"}, {Name: "erp"}}, false},
		{"long command", []SSHServer{{Name: "erp", Commands: []string{strings.Repeat("a", 501)}}}, false},
		{"many commands", []SSHServer{{Name: "erp", Commands: slices.Repeat([]string{"/a"}, 101)}}, false},
		{"many", slices.Repeat([]SSHServer{{Name: "erp"}}, 101), false},
	}
	for _, tt := range tests {
		if err := CheckAgent("linux", "1", Policy{SSHServers: tt.servers}); (err == nil) != tt.ok {
			t.Errorf("%s: %v; want it accepted: %v", tt.name, err, tt.ok)
		}
	}
}
