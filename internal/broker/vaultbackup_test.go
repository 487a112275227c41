package broker

import (
	"fmt"
	"strings"
	"testing"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// TestBackupLimit backs up as many versions as a backup may have, and one more.
func TestBackupLimit(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		v := o.safe("erp")
		if _, err := o.CreateVault(ctx, o.admin, latchkey.EmbeddedVaultCreate{Name: "other"}); err != nil {
			t.Fatal(err)
		}
		add := func(from, to int) {
			err := o.db.Update(ctx, func(tx *db.Tx) error {
				op := &vaultOp{op{tx, o.admin}, v, secretObject("many")}
				for n := from; n <= to; n++ {
					s := db.StoredSecret{Number: n, VaultSecret: latchkey.VaultSecret{Name: "many", Version: fmt.Sprintf("%032x", n), SecretAttributes: latchkey.SecretAttributes{Enabled: true}}}
					var err error
					if s.Value, err = o.seal(tx, fmt.Appendf(nil, "value %d", n), sealBinding(v.ID, s.Name, s.Version)...); err != nil {
						return err
					}
					if err := op.AddSecretVersion(v.ID, s); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		add(1, maxBackupVersions)
		blob, err := o.BackupSecret(ctx, o.admin, "erp", "many")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.RestoreSecret(ctx, o.admin, "other", blob); err != nil {
			t.Fatal(err)
		}
		for version, want := range map[string]string{"": "value 500", fmt.Sprintf("%032x", 7): "value 7"} {
			if _, value, err := o.Secret(ctx, o.admin, "other", "many", version); err != nil || value.Reveal() != want {
				t.Errorf("Secret %q after the restore = %v; want %s", version, err, want)
			}
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActSecretBackup}, "secret.backup ok  by admin on erp/many")
		o.wantTrail(db.AuditFilter{Action: latchkey.ActSecretRestore}, "secret.restore ok  by admin on other/many")
		add(maxBackupVersions+1, maxBackupVersions+1)
		if _, err := o.BackupSecret(ctx, o.admin, "erp", "many"); err == nil || !strings.Contains(err.Error(), "at most 500") {
			t.Errorf("BackupSecret of 501 versions = %v; want it to say that there are too many", err)
		}
	})
}
