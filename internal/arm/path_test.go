package arm

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	const vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
	for _, p := range []string{
		"/subscriptions/s/providers/Microsoft.KeyVault", vault, vault + "/secrets/one/providers/Microsoft.Authorization/permissions",
		vault + "/providers/Microsoft.Authorization/roleAssignments", "/providers/Microsoft.Authorization/roleDefinitions/x", "//%2f/%zz", "",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		p, ok := parse(escaped)
		if !ok {
			return
		}
		// Whatever case the path is in, and however many slashes, it names the same.
		again, ok := parse(strings.ReplaceAll(escaped, "/", "//"))
		if !ok && 2*len(escaped) < maxPath || ok && again != p {
			t.Errorf("parse(%q) = %+v; with doubled slashes %+v, %v", escaped, p, again, ok)
		}
		if p.what == whatVault && (p.vault.Vault == "" || p.object.Name != "") {
			t.Errorf("parse(%q) = %+v", escaped, p)
		}
	})
}
