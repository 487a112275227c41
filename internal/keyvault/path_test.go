package keyvault

import (
	"net/http"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	tests := []struct {
		in   string
		want path
		ok   bool
	}{
		{"/secrets", path{kind: "secrets"}, true},
		{"//Secrets/", path{kind: "secrets"}, true},
		{"/secrets/Name/", path{kind: "secrets", name: "Name"}, true},
		{"/secrets/a%2Fb/versions", path{kind: "secrets", name: "a/b", rest: "versions"}, true},
		{"", path{}, false},
		{"/", path{}, false},
		{"/Certificates/Name/pending//Merge/", path{"certificates", "Name", "pending", "merge"}, true},
		{"/a/b/c/d/e", path{}, false},
		{"/secrets/%zz", path{}, false},
		{"/" + strings.Repeat("a", 256), path{}, false},
	}
	for _, tt := range tests {
		if got, ok := parsePath(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("parsePath(%q) = %v, %v; want %v, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestVaultOf(t *testing.T) {
	tests := []struct {
		host, domain, want string
		ok                 bool
	}{
		{"ERP.vault.localhost:8443", "vault.localhost:8443", "erp", true},
		{"erp.vault.azure.net:443", "vault.azure.net", "erp", true},
		{"erp.vault.localhost", "vault.localhost:8443", "", false},
		{"vault.localhost:8443", "vault.localhost:8443", "", false},
		{".vault.localhost:8443", "vault.localhost:8443", "", false},
		{"a.b.vault.localhost:8443", "vault.localhost:8443", "", false},
		{"erpvault.localhost:8443", "vault.localhost:8443", "", false},
	}
	for _, tt := range tests {
		if got, ok := vaultOf(tt.host, tt.domain); ok != tt.ok || ok && got != tt.want {
			t.Errorf("vaultOf(%q, %q) = %q, %v; want %q, %v", tt.host, tt.domain, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/secrets/a/versions", "//secrets//a/", "/%2e%2e/%2F", "/secrets/%zz", "/deletedsecrets/a/recover"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parsePath(s)
		if !ok {
			if p != (path{}) {
				t.Errorf("parsePath(%q) = %v, false; want nothing", s, p)
			}
			return
		}
		if p.kind == "" || p.name == "" && p.rest != "" || len(p.name) > maxSegment || len(p.rest) > maxSegment {
			t.Errorf("parsePath(%q) = %v", s, p)
		}
		if again, ok := parsePath(s + "//"); !ok || again != p {
			t.Errorf("parsePath(%q) = %v, %v; slashes at the end must not count", s+"//", again, ok)
		}
	})
}

func FuzzHost(f *testing.F) {
	f.Add("erp.vault.localhost:8443")
	f.Add("a.b.vault.localhost:8443:443")
	f.Fuzz(func(t *testing.T, host string) {
		name, ok := vaultOf(host, "vault.localhost:8443")
		if ok && (name == "" || strings.Contains(name, ".") || name != strings.ToLower(name)) {
			t.Errorf("vaultOf(%q) = %q", host, name)
		}
	})
}

func TestMethod(t *testing.T) {
	tests := []struct {
		method, override, want string
		ok                     bool
	}{
		{"GET", "", "GET", true},
		{"HEAD", "", "GET", true},
		{"GET", "DELETE", "GET", true},
		{"POST", "delete", "DELETE", true},
		{"POST", "GET", "", false},
		{"TRACE", "", "", false},
	}
	for _, tt := range tests {
		r := &http.Request{Method: tt.method, Header: http.Header{}}
		r.Header.Set("X-HTTP-METHOD", tt.override)
		if got, ok := method(r); ok != tt.ok || ok && got != tt.want {
			t.Errorf("method of %s with %q = %s, %v; want %s, %v", tt.method, tt.override, got, ok, tt.want, tt.ok)
		}
	}
}
