package vault

import (
	"context"

	"latchkey.dev/latchkey"
)

// A Question is whether a secret may be read: by the service, and by the person
// who refers to it.
type Question struct {
	Reference latchkey.SecretReference
	Embedded  bool   // the vault is one of the installation's own
	Person    string // the person's name here
	Program   bool   // the person is a service principal

	// ObjectIDs are who the person is in directories: tenant id → object id. Tenants
	// are the ids of the directories that the vault may belong to.
	ObjectIDs map[string]string
	Tenants   []string

	// Read looks at the secret's metadata, as [Vault.CheckRead] does.
	Read func(context.Context) error
}
