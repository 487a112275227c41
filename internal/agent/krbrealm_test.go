package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func TestParseRealm(t *testing.T) {
	const good = "drivers = [\"kerberos\"]\ncommands = [\"/opt/*\"]\n[kerberos]\nrealm = \"CORP.EXAMPLE\"\nconfig = \"/opt/krb5.conf\"\nkinit = \"/opt/kinit\"\n"
	p, err := parsePolicy([]byte(good))
	if err != nil || p.Realm != "CORP.EXAMPLE" || p.Kerberos.Config != "/opt/krb5.conf" {
		t.Fatalf("policy %+v, %v", p, err)
	}
	if reason := p.Refuses("/opt/a", latchkey.DriverKerberos, "", latchkey.HandoverNone); reason != "" {
		t.Errorf("the driver is refused: %s", reason)
	}
	for what, reason := range map[string]string{
		"hands no values": p.Refuses("/opt/a", latchkey.DriverKerberos, "", latchkey.HandoverFile),
		"program":         p.Refuses("/bin/a", latchkey.DriverKerberos, "", latchkey.HandoverNone),
		"driver none":     p.Refuses("/opt/a", latchkey.DriverNone, "", latchkey.HandoverNone),
	} {
		if !strings.Contains(reason, what) {
			t.Errorf("refused with %q; want %q in it", reason, what)
		}
	}
	if shared, err := sharedUID(p.Policy); !shared || err != nil {
		t.Errorf("shared-uid %v, %v of flows that run as the agent's user; want true", shared, err)
	}
	for name, tt := range map[string][3]string{
		"misspelt":      {"realm =", "realms =", "not known"},
		"no realm":      {`"CORP.EXAMPLE"`, `""`, "realm must be"},
		"option":        {`"CORP.EXAMPLE"`, `"-E"`, "realm must be"},
		"relative":      {"/opt/krb5.conf", "krb5.conf", "absolute"},
		"two files":     {"/opt/krb5.conf", "/opt/krb5.conf:/tmp/x", "colon"},
		"relative tool": {"/opt/kinit", "kinit", "absolute"},
		"no part":       {good[strings.Index(good, "[kerberos]"):], "", "kerberos add"},
	} {
		text := strings.Replace(good, tt[0], tt[1], 1)
		if _, err := parsePolicy([]byte(text)); text == good || err == nil || !strings.Contains(err.Error(), tt[2]) {
			t.Errorf("%s: %v; want %q in it", name, err, tt[2])
		}
	}
}

func TestAddRealm(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, policyFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := &kerberosRealm{Realm: "CORP.EXAMPLE", Config: "/opt/krb5.conf", Kinit: "/opt/kinit"}
	write(string(newPolicy([]string{"/opt/*"}, "")))
	if err := addRealm(dir, k); err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(dir)
	if err != nil || p.Kerberos == nil || *p.Kerberos != *k || p.RefusesDriver(latchkey.DriverKerberos, "") != "" || p.RefusesDriver(latchkey.DriverNone, "") != "" {
		t.Errorf("policy %+v, %v; want the realm added, and the rest as it was", p, err)
	}
	if err := addRealm(dir, k); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second realm: %v", err)
	}
	write("commands = []\n")
	if err := addRealm(dir, k); err == nil || !strings.Contains(err.Error(), "[kerberos]") {
		t.Errorf("a file without drivers: %v; want what to add", err)
	}
}
