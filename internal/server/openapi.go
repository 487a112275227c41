package server

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"latchkey.dev/latchkey"
)

// apiConfig returns huma's configuration: JSON only, no pages of its own, and
// no links in answers.
func (s *server) apiConfig() huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	schemas.RegisterTypeAlias(reflect.TypeFor[latchkey.Duration](), reflect.TypeFor[duration]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Latchkey", Version: s.Version,
				Description: "A self-hosted credential service for automation. Bodies are JSON, times are RFC 3339, ids are typed texts such as cred_…; failures are problems (RFC 9457) with a stable code. What a caller may not see does not exist for it.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer":  {Type: "http", Scheme: "bearer", Description: "an API token"},
					"session": {Type: "apiKey", In: "cookie", Name: s.cookieName(), Description: "the session of the pages"},
					"machine": {Type: "apiKey", In: "header", Name: latchkey.HeaderMAC, Description: "HMAC of an agent's message with the key of its session; see docs/security.md"},
				},
			},
			Tags: []*huma.Tag{
				{Name: "Signing in", Description: "Accounts, tokens and one-time links of the caller."},
				{Name: "Users", Description: "Local accounts."},
				{Name: "Groups", Description: "Sets of principals, groups among them, that roles and shares are given to as one."},
				{Name: "Service principals", Description: "Identities of programs that sign in by themselves, such as pipelines."},
				{Name: "Azure", Description: "Which of Azure's tenants have their vaults read."},
				{Name: "Environments", Description: "The workspaces that everything below lives in, and who has a role there."},
				{Name: "Variables", Description: "Texts and references to secrets, under a unique name."},
				{Name: "Credentials", Description: "A user name and a password by the variables that hold or refer to them."},
				{Name: "Machines", Description: "Where flows run."},
				{Name: "Machine groups", Description: "Machines that stand in for one another."},
				{Name: "Connections", Description: "A credential bound to a machine or a machine group."},
				{Name: "Flows", Description: "What machines run, in revisions that never change."},
				{Name: "Runs", Description: "One execution of one revision of a flow through a connection."},
				{Name: "Deleted components", Description: "What was deleted can be restored for 30 days."},
				{Name: "Embedded vaults", Description: "Azure Key Vaults that Latchkey serves itself."},
				{Name: "Audit", Description: "Who did or was refused what, and when."},
				{Name: "Agents", Description: "What the agents of machines speak. Every message in a session is authenticated both ways by its key."},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{s.toProblem},
	}
}

// schemaName names our own problem as its users do.
func schemaName(t reflect.Type, hint string) string {
	if t == reflect.TypeFor[problem]() {
		return "Problem"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// duration is how the document shows latchkey.Duration.
type duration struct{}

// Schema implements huma.SchemaProvider.
func (duration) Schema(huma.Registry) *huma.Schema {
	length := 32
	return &huma.Schema{
		Type: huma.TypeString, MaxLength: &length, Examples: []any{"5m"},
		Pattern: `^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h)){1,4}$`, PatternDescription: "a duration such as 90s, 5m or 1h30m",
	}
}

// finishOpenAPI returns the document, which is made when it is first asked for. The
// schemas of huma's own errors are in no answer of ours.
func finishOpenAPI(o *huma.OpenAPI) func() ([]byte, error) {
	delete(o.Components.Schemas.Map(), "ErrorModel")
	delete(o.Components.Schemas.Map(), "ErrorDetail")
	return sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(o, "", "  ") })
}

func (s *server) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	document, err := s.openAPI()
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(document)
}
