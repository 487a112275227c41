package server

// examples are bodies of requests by operation, for the document and the
// reference page. A test reads each of them as the type that it is for.
var examples = map[string]string{
	"signIn":                        `{"login":"maya","password":"…"}`,
	"createToken":                   `{"name":"laptop","expiresIn":"720h"}`,
	"createUser":                    `{"login":"maya","displayName":"Maya Lind"}`,
	"updateUser":                    `{"disabled":true}`,
	"signInServicePrincipal":        `{"clientId":"00000000-0000-0000-0000-000000000000","secret":"lkc_…"}`,
	"createServicePrincipal":        `{"displayName":"Deploy pipeline","description":"deploys the ERP system"}`,
	"updateServicePrincipal":        `{"disabled":true}`,
	"addServicePrincipalCredential": `{"kind":"federated","name":"main branch","issuer":"https://token.actions.githubusercontent.com","subject":"repo:example/erp:ref:refs/heads/main"}`,
	"addExternalIdentity":           `{"issuer":"https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0","tenant":"00000000-0000-0000-0000-000000000000","objectId":"00000000-0000-0000-0000-000000000000"}`,
	"linkAzureTenant":               `{"id":"00000000-0000-0000-0000-000000000000"}`,
	"createEnvironment":             `{"name":"main","displayName":"Main"}`,
	"updateEnvironment":             `{"displayName":"Main"}`,
	"setMember":                     `{"role":"maker"}`,
	"createVariable":                `{"displayName":"ERP password","type":"secret","secret":{"subscriptionId":"00000000-0000-0000-0000-000000000000","resourceGroup":"latchkey","vault":"erp","secret":"bot-password"}}`,
	"updateVariable":                `{"value":"CONTOSO\\bot"}`,
	"overrideCheck":                 `{"reference":"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/erp/providers/Microsoft.KeyVault/vaults/erp-vault/secrets/erp-password","reason":"the vault is read through a private endpoint"}`,
	"createCredential":              `{"name":"ERP bot","store":"azure-key-vault","usages":["connection"],"authentication":"password","exposure":"session","slots":{"username":"new_ERPuser","password":"new_ERPpassword"}}`,
	"setCertificateBindings":        `{"bindings":[{"field":"SKI","attribute":"certificateUserIds"},{"field":"PrincipalName","attribute":"userPrincipalName"}],"affinity":"low"}`,
	"updateCredential":              `{"description":"signs in to the ERP system"}`,
	"createEnrolmentToken":          `{"expiresIn":"1h","uses":1}`,
	"updateMachine":                 `{"disabled":true}`,
	"createConnection":              `{"name":"ERP on build-07","target":{"machine":"mach_…"},"driver":"none","credential":"cred_…"}`,
	"updateConnection":              `{"name":"ERP on build-08"}`,
	"createFlow":                    `{"name":"Post invoices","command":["/usr/bin/env","true"],"timeout":"5m","handover":"descriptor","credentials":["cred_…"]}`,
	"reviseFlow":                    `{"name":"Post invoices","command":["/usr/bin/env","true"],"timeout":"10m","handover":"descriptor","credentials":["cred_…"]}`,
	"startRun":                      `{"flow":"flow_…","connection":"conn_…","inputs":{"MONTH":"2026-11"}}`,
	"createVault":                   `{"name":"erp"}`,
	"assignRole":                    `{"principal":"maya","role":"Key Vault Secrets User","secret":"bot-password"}`,
}
