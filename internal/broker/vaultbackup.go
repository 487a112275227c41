package broker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// maxBackupVersions is how many versions a backup holds at most (AKV).
const maxBackupVersions = 500

// MaxVaultBackup bounds the backup of an object in a vault, in bytes of base64url:
// 500 values of the greatest size fit.
const MaxVaultBackup = 32 << 20

// A backup of an object is a line that says what it is, followed by a box that is
// bound to this line. It opens as long as the master key that sealed it is held,
// also in another vault of the installation.
const backupMark = "latchkey-vault-backup/1"

func (b *Broker) backupLine(in latchkey.VaultCollection) string {
	return strings.Join([]string{backupMark, string(in), b.tenant}, " ")
}

// sealBackup returns the backup of an object.
func (b *Broker) sealBackup(o *vaultOp, content any) (string, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	line := b.backupLine(o.object.In)
	box, err := b.seal(o.Tx, text, "vault backup", line)
	if err != nil {
		return "", err
	}
	blob := base64.RawURLEncoding.EncodeToString(append([]byte(line+"\n"), box...))
	if len(blob) > MaxVaultBackup {
		return "", latchkey.Invalid("value", "would be more than %d bytes", MaxVaultBackup)
	}
	return blob, nil
}

// openBackup reads the backup of an object into content.
func (b *Broker) openBackup(in latchkey.VaultCollection, blob string, content any) error {
	if len(blob) > MaxVaultBackup {
		return latchkey.Invalid("value", "must be at most %d bytes", MaxVaultBackup)
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(blob, "="))
	line, box, ok := bytes.Cut(text, []byte("\n"))
	words := strings.Split(string(line), " ")
	switch {
	case err != nil || !ok || len(words) != 3 || words[0] != backupMark:
		return latchkey.Invalid("value", "is not the backup of an object in an embedded vault, or is damaged")
	case words[1] != string(in):
		return latchkey.Invalid("value", "is a backup of another kind of object: restore it where that belongs")
	case words[2] != b.tenant:
		return latchkey.Invalid("value", "is a backup that another installation made: it can be restored only there")
	}
	text, err = b.key.Open(box, "vault backup", string(line))
	if err != nil {
		return latchkey.Invalid("value", "cannot be opened: it is damaged, or the master key that it was made under has been retired")
	}
	if err := json.Unmarshal(text, content); err != nil {
		return fmt.Errorf("the backup of an object opens but cannot be read: %w", err)
	}
	return nil
}

// A secretBackup is what a backup of a secret holds.
type secretBackup struct {
	Name     string
	Versions []secretBackupVersion // oldest first
}

type secretBackupVersion struct {
	Version     string
	Value       []byte
	ContentType string
	Enabled     bool
	NotBefore   *time.Time
	Expires     *time.Time
	Tags        map[string]string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// BackupSecret returns a secret with all its versions, sealed.
func (b *Broker) BackupSecret(ctx context.Context, who latchkey.Caller, vault, name string) (blob string, err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultBackupSecret, latchkey.ActSecretBackup, func(o *vaultOp) error {
		s, err := o.ownSecret("", false, latchkey.ActSecretBackup)
		if err != nil {
			return err
		}
		backup := secretBackup{Name: s.Name}
		if backup.Versions, err = b.secretVersionsOf(o); err != nil {
			return err
		}
		if blob, err = b.sealBackup(o, backup); err != nil {
			return err
		}
		return o.note(latchkey.ActSecretBackup, "")
	})
	return blob, err
}

// secretVersionsOf returns all versions of the secret with the name of the
// operation's object.
func (b *Broker) secretVersionsOf(o *vaultOp) ([]secretBackupVersion, error) {
	stored, err := o.AllSecretVersions(o.v.ID, o.object.Name, maxBackupVersions+1)
	if err != nil {
		return nil, err
	}
	if len(stored) > maxBackupVersions {
		return nil, latchkey.Invalid("versions", "must be at most %d for a backup", maxBackupVersions)
	}
	var versions []secretBackupVersion
	for _, s := range stored {
		value, err := b.openSecret(o.v, s)
		if err != nil {
			return nil, err
		}
		versions = append(versions, secretBackupVersion{
			s.Version, []byte(value.Reveal()), s.ContentType, s.Enabled, s.NotBefore, s.Expires, s.Tags, s.CreatedAt, s.UpdatedAt,
		})
	}
	return versions, nil
}

// RestoreSecret makes a secret from a backup, with its name and versions. There
// must be none of this name, not even a deleted one.
func (b *Broker) RestoreSecret(ctx context.Context, who latchkey.Caller, vault, blob string) (s latchkey.VaultSecret, err error) {
	if err := b.MayRestore(ctx, who, vault, latchkey.VaultSecrets); err != nil {
		return s, err
	}
	var backup secretBackup
	if err := b.openBackup(latchkey.VaultSecrets, blob, &backup); err != nil {
		return s, err
	}
	err = b.onVault(ctx, who, vault, secretObject(""), latchkey.VaultRestoreSecret, latchkey.ActSecretRestore, func(o *vaultOp) error {
		o.object.Name = backup.Name
		if err := o.nameIsFree(); err != nil {
			return err
		}
		if s, err = b.restoreVersions(o, backup.Versions, false); err != nil {
			return err
		}
		return o.note(latchkey.ActSecretRestore, s.Version)
	})
	return s, err
}

// MayRestore returns an error if the caller may not restore backups into a vault:
// they are large, and who may not is told so before one is read.
func (b *Broker) MayRestore(ctx context.Context, who latchkey.Caller, vault string, in latchkey.VaultCollection) error {
	action, audited := latchkey.VaultRestoreSecret, latchkey.ActSecretRestore
	if in == latchkey.VaultCertificates {
		action, audited = latchkey.VaultRestoreCertificate, latchkey.ActCertificateRestore
	}
	return b.beforeVault(ctx, who, vault, latchkey.VaultObject{In: in}, action, audited, func(*vaultOp) error { return nil })
}

// restoreVersions stores the versions of the secret with the name of the
// operation's object, and returns the newest.
func (b *Broker) restoreVersions(o *vaultOp, versions []secretBackupVersion, managed bool) (s latchkey.VaultSecret, err error) {
	for i, v := range versions {
		s = latchkey.VaultSecret{
			Name: o.object.Name, Version: v.Version, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, RetentionDays: o.v.RetentionDays, Managed: managed,
			SecretAttributes: latchkey.SecretAttributes{ContentType: v.ContentType, Enabled: v.Enabled, NotBefore: v.NotBefore, Expires: v.Expires, Tags: v.Tags},
		}
		box, err := b.seal(o.Tx, v.Value, sealBinding(o.v.ID, s.Name, s.Version)...)
		if err != nil {
			return s, err
		}
		if err := o.AddSecretVersion(o.v.ID, db.StoredSecret{VaultSecret: s, Number: i + 1, Value: box}); err != nil {
			return s, err
		}
	}
	return s, nil
}

// nameIsFree returns an error if the name of the operation's object is taken by
// a secret or a certificate, deleted ones included.
func (o *vaultOp) nameIsFree() error {
	s, err := o.VaultSecret(o.v.ID, o.object.Name, "")
	if errors.Is(err, db.ErrNotFound) {
		// A certificate that is pending for the first time has no secret.
		var c db.StoredCertificate
		c, err = o.Certificate(o.v.ID, o.object.Name, "")
		s.Name, s.DeletedAt = c.Name, c.DeletedAt
	}
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil
	case err != nil:
		return err
	case s.DeletedAt != nil:
		return o.deletedObject(s.Name)
	}
	return o.nameTaken(s.Name)
}

func (o *vaultOp) nameTaken(name string) error {
	return latchkey.Conflict("ObjectAlreadyExists", "%s %s cannot be made: there is a secret or a certificate of this name in the vault already.", nouns[o.object.In].noun, name)
}
