package broker

import (
	"context"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const (
	purgeBatch       = 100
	tokenRetention   = 30 * 24 * time.Hour // of tokens that have ended, for people to look at
	sessionRetention = 24 * time.Hour      // of agents' sessions that have ended
)

// purge removes what was deleted and whose retention has ended, in vaults and in
// environments, tokens, sessions and notices from long ago, and assertions and
// ceremonies that have expired, a batch each.
func (b *Broker) purge(ctx context.Context) error {
	return b.db.Update(ctx, func(tx *db.Tx) error {
		due, err := tx.DueSecrets(purgeBatch)
		if err != nil {
			return err
		}
		for _, d := range due {
			if err := tx.PurgeSecret(d.Vault, d.Name); err != nil {
				return err
			}
			o := &op{tx, serviceCaller}
			if err := o.record(latchkey.ActSecretPurge, thing{kind: latchkey.KindVaultSecret, id: string(d.Vault), name: d.Name}, nil); err != nil {
				return err
			}
		}
		certificates, err := tx.DuePurges(purgeBatch)
		if err != nil {
			return err
		}
		for _, d := range certificates {
			if err := tx.PurgeCertificate(d.Vault, d.Name); err != nil {
				return err
			}
			o := &op{tx, serviceCaller}
			if err := o.record(latchkey.ActCertificatePurge, thing{kind: latchkey.KindVaultCertificate, id: string(d.Vault), name: d.VaultName + "/" + d.Name}, nil); err != nil {
				return err
			}
		}
		if _, err := tx.PurgeTokens(tx.Now.Add(-tokenRetention), purgeBatch); err != nil {
			return err
		}
		if err := purgeDeleted(tx); err != nil {
			return err
		}
		if err := tx.PurgeNotices(tx.Now.Add(-latchkey.NoticeTTL), purgeBatch); err != nil {
			return err
		}
		if err := tx.PurgeAssertions(purgeBatch); err != nil {
			return err
		}
		if err := tx.PurgeCeremonies(purgeBatch); err != nil {
			return err
		}
		return tx.PurgeMachineSessions(tx.Now.Add(-sessionRetention), purgeBatch)
	})
}
