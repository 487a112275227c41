package web

import (
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

const pastedVault = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/ops/providers/Microsoft.KeyVault/vaults/contoso"

func TestParsePasted(t *testing.T) {
	whole := latchkey.SecretReference{SubscriptionID: "11111111-2222-3333-4444-555555555555", ResourceGroup: "ops", Vault: "contoso", Secret: "erp"}
	vault := whole
	vault.Secret = ""
	for _, test := range []struct {
		text string
		want latchkey.SecretReference
		host string
	}{
		{pastedVault + "/secrets/erp", whole, ""},
		{pastedVault + "/secrets/erp/0123456789abcdef0123456789abcdef", whole, ""},
		{pastedVault, vault, ""},
		{pastedVault + "/", vault, ""},
		{"https://contoso.vault.azure.net", latchkey.SecretReference{Vault: "contoso"}, "contoso.vault.azure.net"},
		{"https://Contoso.vault.azure.net/secrets/erp/0123456789abcdef0123456789abcdef", latchkey.SecretReference{Vault: "contoso", Secret: "erp"}, "contoso.vault.azure.net"},
		{"https://contoso.vault.localhost:8443/certificates/erp", latchkey.SecretReference{Vault: "contoso", Secret: "erp"}, "contoso.vault.localhost"},
	} {
		got, host, err := parsePasted(test.text)
		if err != nil || got != test.want || host != test.host {
			t.Errorf("parsePasted(%q) = %+v, %q, %v; want %+v, %q", test.text, got, host, err, test.want, test.host)
		}
	}
	for _, text := range []string{
		"erp", "http://contoso.vault.azure.net", "https://", "https://x.vault.azure.net", "https://contoso.vault.azure.net/secrets/a%20b",
		"/subscriptions/1/resourceGroups/ops", pastedVault + "/keys/erp", strings.Repeat("/", maxPasted+1),
	} {
		if got, host, err := parsePasted(text); err == nil {
			t.Errorf("parsePasted(%q) = %+v, %q; want an error", text, got, host)
		}
	}
}

func FuzzParsePasted(f *testing.F) {
	f.Add(pastedVault + "/secrets/erp")
	f.Add("https://contoso.vault.azure.net/secrets/erp/1")
	f.Fuzz(func(t *testing.T, text string) {
		r, host, err := parsePasted(text)
		if err != nil {
			return
		}
		if err := latchkey.CheckVaultName(r.Vault); err != nil {
			t.Errorf("parsePasted(%q) names the vault %q: %v", text, r.Vault, err)
		}
		if host == "" && r.Secret != "" {
			if err := r.Validate(); err != nil {
				t.Errorf("parsePasted(%q) = %+v: %v", text, r, err)
			}
		}
	})
}

// TestReadJSON: a fault of JSON is told with its line and column.
func TestReadJSON(t *testing.T) {
	v := &view{locale: pagesIn(t, nil).locales[0]}
	for _, tt := range []struct{ text, want, fault string }{
		{" {\n \"a\" : 1.50, \"b\": [ ] }\n", `{"a":1.50,"b":[]}`, ""},
		{"12345678901234567890", "12345678901234567890", ""},
		{`{"a": 1,` + "\n" + ` "b" 2}`, "", "line 2, column 6: "},
		{`{"a": 1`, "", "line 1, column 8: the value is not complete"},
		{"{}\n  {}", "", "line 2, column 3: something follows"},
		{"{\"ä\": nope}", "", "line 1, column 8: "},
	} {
		got, err := v.readJSON(tt.text)
		if got != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.HasPrefix(err.Error(), tt.fault) {
			t.Errorf("readJSON(%q) = %q, %v; want %q, %q", tt.text, got, err, tt.want, tt.fault)
		}
	}
}
