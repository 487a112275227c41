// Package vault reads secrets from the stores where they live. Each kind of
// store has a directory of its own below this one; package vaulttest is the
// contract that all of them keep.
package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey.dev/latchkey"
)

// The kinds of failure that readers of vaults tell apart with [errors.Is].
var (
	ErrNotFound    = errors.New("not found")   // no such vault or secret, or it is deleted
	ErrDenied      = errors.New("denied")      // the identity that reads may not
	ErrDisabled    = errors.New("disabled")    // the newest version is disabled
	ErrUnavailable = errors.New("unavailable") // no usable answer; try again later
)

// A Vault reads secrets from one vault, as the service's own identity. Its
// methods may be called concurrently, return within a bounded time, and return
// an *Error of one of the kinds above when they fail.
type Vault interface {
	// Get returns the newest version of a secret. Secrets outside their period
	// of validity are returned like others: see Value.NotBefore and Value.Expires.
	Get(ctx context.Context, name string) (Value, error)

	// CheckRead returns nil if the service's identity may see a secret that can
	// be read. It fetches no value. Where a role shows metadata only, such as
	// Azure's Key Vault Reader, CheckRead passes and Get is denied.
	CheckRead(ctx context.Context, name string) error
}

// A Value is one version of a secret.
type Value struct {
	Value       latchkey.Secret
	Version     string // the store's name for it
	ContentType string
	Enabled     bool
	NotBefore   *time.Time // informs only
	Expires     *time.Time // informs only
}

// An Error is why a vault was not read. No field of it holds a secret value.
type Error struct {
	Kind error  // one of the Err… values above
	Msg  string // for users: what failed, for which thing, and what to do
	Err  error  // the cause, for the log; may be nil

	// What is known about a refusal: which check failed ("" is that of the
	// service's rights; sign-in, tenant or network), who was refused, which action on
	// which thing, and what would help.
	Check    string
	Identity string
	Action   string
	Resource string
	Remedy   string

	Code    string // the store's own, such as ForbiddenByFirewall
	Address string // the service's network address, where the store says that it is refused
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return fmt.Sprintf("%s: %v", e.Msg, e.Err)
}

// Unwrap makes both the kind and the cause visible to [errors.Is].
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
