package azure

import (
	"testing"
)

func TestMatches(t *testing.T) {
	const get = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	tests := []struct {
		pattern string
		want    bool
	}{
		{get, true},
		{"microsoft.keyvault/VAULTS/secrets/getsecret/ACTION", true},
		{"*", true},
		{"Microsoft.KeyVault/vaults/*", true},
		{"Microsoft.KeyVault/vaults/secrets/*", true},
		{"Microsoft.KeyVault/vaults/*/action", true},
		{"*/getSecret/action", true},
		{"*/secrets/*/action", true},
		{"Microsoft.KeyVault/vaults/secrets/getSecret/action*", true},
		{"*secrets*Secret*action", true},
		{"", false},
		{"Microsoft.KeyVault/vaults/secrets", false},
		{"Microsoft.KeyVault/vaults/secrets/getSecret/actio", false},
		{"Microsoft.KeyVault/vaults/keys/*", false},
		{"*/readMetadata/action", false},
		{"*/action/*", false},
		{"*action*action", false}, // one run of characters fits one part of the pattern only
		{"Microsoft.KeyVault/vaults/secrets/getSecret/action/*", false},
	}
	for _, tt := range tests {
		if got := matches(tt.pattern, get); got != tt.want {
			t.Errorf("matches(%q, %q) = %v; want %v", tt.pattern, get, got, tt.want)
		}
	}
}

func TestCovers(t *testing.T) {
	const secret = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v/secrets/one"
	for scope, want := range map[string]bool{
		"/":                                  true,
		"":                                   true,
		"/subscriptions/s":                   true,
		"/subscriptions/S/resourcegroups/G":  true,
		"/subscriptions/s/resourceGroups/g/": true,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v": true,
		"/providers/Microsoft.Management/managementGroups/all":                    true,
		secret:                               true,
		"/subscriptions/s2":                  false,
		"/subscriptions":                     true,
		"/subscriptions/s/resourceGroups/":   true,
		"/subscriptions/s/resourceGroups/gg": false,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/vv":                    false,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v/secrets/on":          false,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v/secrets/one/1234567": false,
	} {
		if got := covers(scope, secret); got != want {
			t.Errorf("covers(%q) = %v; want %v", scope, got, want)
		}
	}
}

func TestDecide(t *testing.T) {
	const (
		get   = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
		vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
		one   = vault + "/secrets/one"
		me    = "11111111-1111-1111-1111-111111111111"
	)
	user := func(scope string) assignment {
		return assignment{scope: scope, role: "Key Vault Secrets User", entries: []entry{{data: []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}}}}
	}
	reader := assignment{scope: vault, role: "Key Vault Reader", entries: []entry{{data: []string{"Microsoft.KeyVault/vaults/secrets/readMetadata/action"}}}}
	allBut := assignment{scope: vault, role: "all but values", entries: []entry{{data: []string{"Microsoft.KeyVault/vaults/*"}, notData: []string{"*/getSecret/action"}}}}
	conditional := user(vault)
	conditional.conditional = true
	no := func(who ...principal) deny {
		return deny{name: "lock", scope: "/subscriptions/s", entries: []entry{{data: []string{"*"}}}, principals: who}
	}
	except := func(d deny, who ...principal) deny {
		d.exempted = who
		return d
	}
	tests := []struct {
		name     string
		assigned []assignment
		denies   []deny
		want     string // granted, denied, unsure or refused
	}{
		{"nothing", nil, nil, "refused"},
		{"at the vault", []assignment{user(vault)}, nil, "granted"},
		{"at the secret", []assignment{user(one)}, nil, "granted"},
		{"at the subscription", []assignment{user("/subscriptions/S")}, nil, "granted"},
		{"at another secret", []assignment{user(vault + "/secrets/two")}, nil, "refused"},
		{"metadata only", []assignment{reader}, nil, "refused"},
		{"left out by its own role", []assignment{allBut}, nil, "refused"},
		{"left out by one role, in another", []assignment{allBut, user(vault)}, nil, "granted"},
		{"under a condition", []assignment{conditional}, nil, "unsure"},
		{"under a condition, and without", []assignment{conditional, user(one)}, nil, "granted"},
		{"denied", []assignment{user(vault)}, []deny{no(principal{me, "User"})}, "denied"},
		{"denied to everyone", []assignment{user(vault)}, []deny{no(principal{everyone, "SystemDefined"})}, "denied"},
		{"denied to everyone else", []assignment{user(vault)}, []deny{except(no(principal{everyone, "SystemDefined"}), principal{me, "User"})}, "granted"},
		{"denied to everyone but a group", []assignment{user(vault)}, []deny{except(no(principal{everyone, "SystemDefined"}), principal{"g", "Group"})}, "unsure"},
		{"denied to somebody else", []assignment{user(vault)}, []deny{no(principal{"x", "User"})}, "granted"},
		{"denied to a group", []assignment{user(vault)}, []deny{no(principal{"g", "Group"})}, "unsure"},
		{"not granted, and denied to a group", nil, []deny{no(principal{"g", "Group"})}, "refused"},
		{"denied elsewhere", []assignment{user(vault)}, []deny{{name: "lock", scope: "/subscriptions/other", entries: []entry{{data: []string{"*"}}}, principals: []principal{{me, ""}}}}, "granted"},
		{"denied above, but not below there", []assignment{user(vault)}, []deny{{name: "lock", scope: vault, onlyHere: true, entries: []entry{{data: []string{"*"}}}, principals: []principal{{me, ""}}}}, "granted"},
		{"another action denied", []assignment{user(vault)}, []deny{{name: "lock", scope: vault, entries: []entry{{data: []string{"*"}, notData: []string{get}}}, principals: []principal{{me, ""}}}}, "granted"},
		{"denied to a group, then to me", []assignment{user(vault)}, []deny{no(principal{"g", "Group"}), no(principal{me, ""})}, "denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := decide(me, get, one, tt.assigned, tt.denies)
			got := "refused"
			switch {
			case v.granted:
				got = "granted"
			case v.denied != "":
				got = "denied"
			case v.unsure != "":
				got = "unsure"
			}
			if got != tt.want {
				t.Errorf("decide = %+v; want %s", v, tt.want)
			}
		})
	}
}
