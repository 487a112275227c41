package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"latchkey.dev/latchkey"
)

type humaTag = huma.Tag

func isNil(v any) bool { return reflect.ValueOf(v).IsNil() }

var update = flag.Bool("update", false, "write docs/openapi.json")

// TestOpenAPIIsCurrent keeps the document in the repository the one that is
// served. go test ./internal/server -run OpenAPI -update writes it.
func TestOpenAPIIsCurrent(t *testing.T) {
	const file = "../../docs/openapi.json"
	f := newFixture(t, func(c *Config) { c.Version = "dev" })
	got := append(f.must(t, 200, "GET", "/openapi.json", "").body, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is not what the server serves; go test ./internal/server -run OpenAPI -update writes it")
	}
}

func TestOpenAPIHasNoSecretType(t *testing.T) {
	f := newFixture(t, nil)
	for name, schema := range f.api.OpenAPI().Components.Schemas.Map() {
		if name == "Secret" || name == "ErrorModel" || name == "ErrorDetail" {
			t.Errorf("the document has a type %s", name)
		}
		for field, p := range schema.Properties {
			if strings.HasSuffix(p.Ref, "/Secret") || p.Type == huma.TypeObject && p.Properties == nil && p.AdditionalProperties == nil {
				t.Errorf("%s.%s has no shape", name, field)
			}
		}
	}
	flow := f.api.OpenAPI().Components.Schemas.Map()["FlowCreate"]
	if got := flow.Properties["timeout"]; got == nil || got.Type != huma.TypeString {
		t.Errorf("FlowCreate.timeout = %+v; want a string", got)
	}
}

// TestExamplesAreValid reads each example strictly as the type it is for.
func TestExamplesAreValid(t *testing.T) {
	types := map[string]any{
		"signIn": &signInBody{}, "createToken": &latchkey.TokenCreate{}, "createUser": &latchkey.UserCreate{}, "updateUser": &latchkey.UserUpdate{},
		"createEnvironment": &latchkey.EnvironmentCreate{}, "updateEnvironment": &latchkey.EnvironmentUpdate{}, "setMember": &memberSet{},
		"createVariable": &latchkey.VariableCreate{}, "updateVariable": &latchkey.VariableUpdate{}, "overrideCheck": &checkOverride{}, "checkReference": &latchkey.SecretReference{},
		"createCredential": &latchkey.CredentialCreate{}, "updateCredential": &latchkey.CredentialUpdate{},
		"createEnrolmentToken": &latchkey.EnrolmentTokenCreate{}, "updateMachine": &latchkey.MachineUpdate{},
		"createMachineGroup": &latchkey.MachineGroupCreate{}, "updateMachineGroup": &latchkey.MachineGroupUpdate{},
		"createConnection": &latchkey.ConnectionCreate{}, "updateConnection": &latchkey.ConnectionUpdate{},
		"createFlow": &latchkey.FlowCreate{}, "reviseFlow": &latchkey.FlowCreate{}, "startRun": &latchkey.RunCreate{},
		"createVault": &latchkey.EmbeddedVaultCreate{}, "assignRole": &latchkey.RoleAssignmentCreate{},
		"addExternalIdentity": &latchkey.ExternalIdentity{}, "linkAzureTenant": &latchkey.AzureTenantLink{},
		"setCertificateBindings": &latchkey.CertificateBindings{},
		"createServicePrincipal": &latchkey.ServicePrincipalCreate{}, "updateServicePrincipal": &latchkey.ServicePrincipalUpdate{},
		"addServicePrincipalCredential": &latchkey.ServicePrincipalCredentialCreate{}, "signInServicePrincipal": &serviceSignInBody{},
		"setCertificateAccount": &latchkey.CertificateAccountSet{},
	}
	for id, text := range examples {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if types[id] == nil {
			t.Errorf("%s: no type to read its example as", id)
		} else if err := d.Decode(types[id]); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
