package db

// Setting returns a setting of the installation, or ErrNotFound.
func (tx *Tx) Setting(name string) (string, error) {
	return one(tx, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		`SELECT value FROM settings WHERE name = $1`, name)
}

// SetSetting stores a setting in place of the value it had.
func (tx *Tx) SetSetting(name, value string) error {
	_, err := tx.exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// SealedSetting returns one of the service's own secrets, sealed, or
// ErrNotFound.
func (tx *Tx) SealedSetting(name string) ([]byte, error) {
	return one(tx, func(s scanner) (v []byte, err error) { return v, s.Scan(&v) },
		`SELECT box FROM sealed_settings WHERE name = $1`, name)
}

// CreateSealedSetting stores one of the service's own secrets, sealed. It
// returns ErrExists when there is one.
func (tx *Tx) CreateSealedSetting(name string, box []byte) error {
	_, err := tx.exec(`INSERT INTO sealed_settings (name, box) VALUES ($1, $2)`, name, box)
	return err
}
