package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// Codes of refusals of embedded vaults, as Azure Key Vault names them where that
// is known.
const (
	codeVaultNotFound              = "VaultNotFound"
	codeSecretNotFound             = "SecretNotFound"
	codeDeletedSecretNotFound      = "DeletedSecretNotFound"
	codeCertificateNotFound        = "CertificateNotFound"
	codeDeletedCertificateNotFound = "DeletedCertificateNotFound"
	codePendingNotFound            = "PendingCertificateNotFound"
	codeIssuerNotFound             = "CertificateIssuerNotFound"
	codeContactsNotFound           = "CertificateContactsNotFound"
	codeKeyNotFound                = "KeyNotFound"
	codeSecretDisabled             = "SecretDisabled"
	codeDeletedButRecoverable      = "ObjectIsDeletedButRecoverable"
	codeForbiddenByRbac            = "ForbiddenByRbac"
	codeManaged                    = "SecretManagedByCertificate"
)

// maxVersions bounds the versions of one secret or certificate.
const maxVersions = 10_000

// A vaultOp is an operation on an object in an embedded vault, or on the vault
// when the object's name is "".
type vaultOp struct {
	op
	v      latchkey.EmbeddedVault
	object latchkey.VaultObject
}

// onVault runs an operation of the data plane: the caller's roles are decided
// and the operation is on record in the transaction in which f does it, before
// anything is answered.
func (b *Broker) onVault(ctx context.Context, who latchkey.Caller, vault string, object latchkey.VaultObject, a latchkey.VaultAction, audited latchkey.Action, f func(*vaultOp) error) error {
	return b.update(ctx, who, func(base *op) error { return decideVault(base, vault, object, a, audited, f) })
}

// beforeVault is for what costs something before its transaction, which decides
// again: f looks at what there is, and nothing is on record but a refusal.
func (b *Broker) beforeVault(ctx context.Context, who latchkey.Caller, vault string, object latchkey.VaultObject, a latchkey.VaultAction, audited latchkey.Action, f func(*vaultOp) error) error {
	return b.view(ctx, who, func(base *op) error { return decideVault(base, vault, object, a, audited, f) })
}

func decideVault(base *op, vault string, object latchkey.VaultObject, a latchkey.VaultAction, audited latchkey.Action, f func(*vaultOp) error) error {
	v, err := base.Vault(vault)
	if errors.Is(err, db.ErrNotFound) {
		return missing(codeVaultNotFound, "there is no such vault")
	}
	if err != nil {
		return err
	}
	o := &vaultOp{*base, v, object}
	if object.Name != "" {
		if err := latchkey.CheckSecretName(object.Name); err != nil {
			return latchkey.Invalid("name", "%v", err)
		}
	}
	ok, err := o.vaultCan(o.who.ID, v, object, a)
	if err != nil {
		return err
	}
	if !ok {
		return o.forbid(a, audited)
	}
	return f(o)
}

// missing returns the error for what is not there.
func missing(code, format string, args ...any) error {
	return &latchkey.Error{Kind: latchkey.ErrNotFound, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// nouns are what one object of a collection is called, and its kind.
var nouns = map[latchkey.VaultCollection]struct {
	noun string
	kind latchkey.Kind
}{
	latchkey.VaultSecrets:      {"Secret", latchkey.KindVaultSecret},
	latchkey.VaultCertificates: {"Certificate", latchkey.KindVaultCertificate},
	latchkey.VaultKeys:         {"Key", latchkey.KindVaultKey},
}

// thing is what the audit log says the operation acts on.
func (o *vaultOp) thing() thing {
	if o.object.Name == "" {
		return vaultThing(o.v)
	}
	return thing{kind: nouns[o.object.In].kind, id: o.resource(), name: o.v.Name + "/" + o.object.Name}
}

// resource is the ARM id of what the operation acts on.
func (o *vaultOp) resource() string {
	if o.object.Name == "" {
		return o.v.ARMID
	}
	return o.v.ARMID + "/" + o.object.String()
}

// forbid returns the refusal of an action, which says which role would permit
// it.
func (o *vaultOp) forbid(a latchkey.VaultAction, audited latchkey.Action) error {
	smallest := latchkey.VaultAdministrator
	for _, r := range latchkey.VaultRoles {
		if r.Allows(a) {
			smallest = r
			break
		}
	}
	remedy := fmt.Sprintf("it takes the role %s in the vault", smallest)
	if o.object.Name != "" {
		remedy += ", or on the " + string(nouns[o.object.In].kind)
	}
	r := o.refuse(audited, o.thing(), codeForbiddenByRbac, remedy)
	r.err.Check = string(a)
	r.err.Fields = []latchkey.FieldError{{Field: "resource", Message: o.resource()}}
	return r
}

// note adds the operation to the audit log, with the version it was about.
func (o *vaultOp) note(action latchkey.Action, version string) error {
	var d map[string]string
	if version != "" {
		d = map[string]string{"version": version}
	}
	return o.record(action, o.thing(), d)
}

// deletedObject is the error for a name that a deleted object has (AKV).
func (o *vaultOp) deletedObject(name string) error {
	return latchkey.Conflict(codeDeletedButRecoverable, "%s %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the %s can only be recovered or purged.",
		nouns[o.object.In].noun, name, nouns[o.object.In].kind)
}

func newVersion() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
