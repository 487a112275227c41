package vault

import (
	"time"

	"latchkey.dev/latchkey"
)

// A Survey asks how vaults stand: whether they can be reached, who may read them,
// and how near they are to their limits. No secret is read for it.
type Survey struct {
	Azure   bool     // whether the service can sign in to Azure is asked too
	Tenants []string // ids of the tenants of Azure that are linked
	Vaults  []Subject
}

// A Subject is one vault of a survey. Its question is that of a secret in it which
// somebody refers to, but for the person.
type Subject struct {
	Question
	People []Person
}

// A Person is one who refers to a secret in a vault: a user or a service principal.
type Person struct {
	ID        latchkey.PrincipalID
	Program   bool // a service principal, which is in no directory of Azure
	Name      string
	Secret    string            // that the person refers to
	ObjectIDs map[string]string // as in [Question]
}

// Usage is how much this process has asked of a vault in the last hour.
type Usage struct {
	Requests  int       // that were answered or not
	Peak      int       // most of them in ten seconds
	Throttled int       // answers that there were too many
	LastAt    time.Time // of the last such answer in that time; zero if there was none
}
