package db

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A Health is what can be said of a database while it is used.
type Health struct {
	Engine  string // name and version
	Schema  int64  // version that the database has
	Program int64  // version that the program has
	Size    int64  // bytes

	// Lax are the settings with which what is committed may be lost, each as it is
	// written in the engine's configuration.
	Lax []string

	// Oldest is how long the oldest transaction has been going on that holds up the
	// committed order of the audit log; 0 if there is none.
	Oldest time.Duration
}

// Health looks at the database itself. It reads no table of ours.
func (d *DB) Health(ctx context.Context) (h Health, err error) {
	provider, err := d.ownProvider()
	if err != nil {
		return h, err
	}
	if h.Schema, h.Program, err = provider.GetVersions(ctx); err != nil {
		return h, fmt.Errorf("version of the schema: %w", err)
	}
	err = d.View(ctx, func(tx *Tx) error {
		if d.engine == enginePostgres {
			return tx.postgresHealth(&h)
		}
		return tx.sqliteHealth(&h)
	})
	return h, err
}

func (tx *Tx) postgresHealth(h *Health) error {
	version, err := one(tx, scanString, `SELECT current_setting('server_version')`)
	if err != nil {
		return err
	}
	number, _, _ := strings.Cut(version, " ")
	h.Engine = "PostgreSQL " + number
	if h.Size, err = one(tx, scanInt64, `SELECT pg_database_size(current_database())`); err != nil {
		return err
	}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		value, err := one(tx, scanString, `SELECT current_setting($1)`, name)
		if err != nil {
			return err
		}
		if value == "off" {
			h.Lax = append(h.Lax, name+" = off")
		}
	}
	seconds, err := one(tx, scanInt64, `SELECT CAST(COALESCE(EXTRACT(EPOCH FROM max(clock_timestamp() - xact_start)), 0) AS BIGINT)
		FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()`)
	h.Oldest = time.Duration(seconds) * time.Second
	return err
}

func (tx *Tx) sqliteHealth(h *Health) error {
	version, err := one(tx, scanString, `SELECT sqlite_version()`)
	if err != nil {
		return err
	}
	h.Engine = "SQLite " + version
	if h.Size, err = one(tx, scanInt64, `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`); err != nil {
		return err
	}
	mode, err := one(tx, scanString, `SELECT journal_mode FROM pragma_journal_mode`)
	if err != nil {
		return err
	}
	if mode != "wal" {
		h.Lax = append(h.Lax, "journal_mode = "+mode)
	}
	level, err := one(tx, scanInt64, `SELECT synchronous FROM pragma_synchronous`)
	if err == nil && level < 2 { // 2 is full
		h.Lax = append(h.Lax, "synchronous = "+strconv.FormatInt(level, 10))
	}
	return err
}

func scanString(s scanner) (v string, err error) { return v, s.Scan(&v) }
func scanInt64(s scanner) (v int64, err error)   { return v, s.Scan(&v) }

// A ReferenceState is how the checks of an environment's secret references stand.
type ReferenceState struct {
	Variable string // unique name
	State    latchkey.CheckState
	Message  string
	Remedy   string
	InForce  bool // this reference is the one that releases read
	Override bool // an admin let it be used without a passed check
}

// ReferenceTroubles returns the newest references of an environment's variables
// whose check has not passed, at most limit of them, and how many there are of all.
func (tx *Tx) ReferenceTroubles(env latchkey.EnvironmentID, limit int) (troubles []ReferenceState, total int, err error) {
	const from = ` FROM secret_references r JOIN variables v ON v.id = r.variable_id WHERE v.environment_id = $1 AND v.deleted_at IS NULL AND r.newest`
	if total, err = one(tx, scanInt, `SELECT count(*)`+from, env); err != nil {
		return nil, 0, err
	}
	troubles, err = all(tx, func(s scanner) (r ReferenceState, err error) {
		return r, s.Scan(&r.Variable, &r.State, &r.Message, &r.Remedy, &r.InForce, &r.Override)
	}, `SELECT v.name, r.check_state, r.check_message, r.check_remedy, r.in_force, r.overridden_at IS NOT NULL`+from+` AND r.check_state <> 'passed' ORDER BY v.sort_key, v.id LIMIT $2`, env, limit)
	return troubles, total, err
}

// A CertificateState is how the certificate of a credential stands.
type CertificateState struct {
	Name string // of the credential
	CertificateCheck
}

// CertificateTroubles returns the credentials of an environment whose certificate
// ends before a time, or whose check has not passed, the first to end first: at most
// limit of them, and how many have a certificate at all.
func (tx *Tx) CertificateTroubles(env latchkey.EnvironmentID, before time.Time, limit int) (troubles []CertificateState, total int, err error) {
	const from = ` FROM certificate_checks k JOIN credentials c ON c.id = k.credential_id WHERE c.environment_id = $1 AND c.deleted_at IS NULL`
	if total, err = one(tx, scanInt, `SELECT count(*)`+from, env); err != nil || total == 0 {
		return nil, total, err
	}
	troubles, err = all(tx, func(s scanner) (r CertificateState, err error) {
		return r, s.Scan(append(r.dest(), &r.Name)...)
	}, `SELECT `+certificateCols+`, c.name`+from+` AND (k.state <> 'passed' OR k.expires_at < $2) ORDER BY COALESCE(k.expires_at, 0), c.sort_key, c.id LIMIT $3`,
		env, ms(before), limit)
	return troubles, total, err
}

// A Surveyed is a vault that references of an environment name, one person who saved
// such references, and one of the secrets that they name.
type Surveyed struct {
	latchkey.SecretReference
	SavedBy latchkey.PrincipalID
}

// maxSurveyed bounds the rows of SurveyedVaults.
const maxSurveyed = 2000

// SurveyedVaults returns which vaults the references of an environment name, and for
// each who saved them: those who saved most first. Only the newest references and
// those in force count.
func (tx *Tx) SurveyedVaults(env latchkey.EnvironmentID) ([]Surveyed, error) {
	return all(tx, func(s scanner) (r Surveyed, err error) {
		return r, s.Scan(&r.SubscriptionID, &r.ResourceGroup, &r.Vault, &r.Secret, &r.SavedBy)
	}, `SELECT min(r.subscription_id), min(r.resource_group), min(r.vault), COALESCE(min(CASE WHEN r.in_force THEN r.secret END), min(r.secret)), r.saved_by
		FROM secret_references r JOIN variables v ON v.id = r.variable_id
		WHERE v.environment_id = $1 AND v.deleted_at IS NULL AND (r.newest OR r.in_force)
		GROUP BY substr(r.reference_key, 1, length(r.reference_key) - length(r.secret)), r.saved_by
		ORDER BY substr(r.reference_key, 1, length(r.reference_key) - length(r.secret)), count(*) DESC, r.saved_by LIMIT $2`, env, maxSurveyed)
}

// AzureUsed reports whether anything refers to a vault in Azure.
func (tx *Tx) AzureUsed() (bool, error) {
	n, err := one(tx, scanInt, `SELECT count(*) FROM (SELECT 1 FROM secret_references r WHERE (r.newest OR r.in_force) AND `+inAzure+` LIMIT 1) a`)
	return n > 0, err
}
