package db

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A SealedColumn is a column of boxes that the master key seals. A box is bound
// to table, column and the values of the row's Keys, in this order.
type SealedColumn struct {
	Table  string
	Column string
	Keys   []string // text columns that tell rows apart
}

// String returns table and column.
func (c SealedColumn) String() string { return c.Table + "." + c.Column }

// Binding returns what the box of a row is bound to.
func (c SealedColumn) Binding(keys []string) []string {
	return append([]string{c.Table, c.Column}, keys...)
}

// SealedColumns returns every column of boxes. A test holds the list against
// the schema.
func SealedColumns() []SealedColumn {
	return []SealedColumn{
		{"sealed_settings", "box", []string{"name"}},
		{"machine_sessions", "secret", []string{"id"}},
		{"vault_secret_versions", "value", []string{"vault_id", "name_key", "version"}},
		{"vault_certificate_keys", "private_key", []string{"vault_id", "name_key", "version"}},
		{"vault_issuers", "password", []string{"vault_id", "name_key"}},
	}
}

// Where the id of the master key is in a box; see seal.Key.
const (
	boxKeyAt   = 2 // the first byte is 1, as in SQL
	boxKeySize = 8
)

// keyOf returns the expression for the id of the master key in a column.
func (c SealedColumn) keyOf() string {
	return fmt.Sprintf(`substr(%s, %d, %d)`, c.Column, boxKeyAt, boxKeySize)
}

// BoxCounts returns how many boxes of a column there are under each master key,
// by its id.
func (tx *Tx) BoxCounts(c SealedColumn) (map[string]int64, error) {
	type row struct {
		id []byte
		n  int64
	}
	rows, err := all(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.n) },
		`SELECT `+c.keyOf()+`, count(*) FROM `+c.Table+` GROUP BY `+c.keyOf())
	counts := make(map[string]int64, len(rows))
	for _, r := range rows {
		counts[hex.EncodeToString(r.id)] = r.n
	}
	return counts, err
}

// A Box is a sealed value with the values of its column's Keys.
type Box struct {
	Keys []string
	Box  []byte
}

// Key returns the id of the master key that the box is counted under, also when
// it is damaged: of a box that is too short, what there is of an id.
func (b Box) Key() string {
	return hex.EncodeToString(b.Box[min(boxKeyAt-1, len(b.Box)):min(boxKeyAt-1+boxKeySize, len(b.Box))])
}

// Boxes returns at most limit boxes of a column, in the order of their keys and
// after those given; nil is the begin. Unless except is "", boxes under the
// master key with this id are left out.
func (tx *Tx) Boxes(c SealedColumn, after []string, except string, limit int) ([]Box, error) {
	var w where
	keys := strings.Join(c.Keys, ", ")
	if after != nil {
		w.add(`(`+keys+`) > (`+placeholders(1, len(after))+`)`, in(after)...)
	}
	if except != "" {
		id, err := hex.DecodeString(except)
		if err != nil {
			return nil, fmt.Errorf("db: the id of a master key is not hexadecimal: %w", err)
		}
		w.add(c.keyOf()+` <> ?`, id)
	}
	w.args = append(w.args, limit)
	return all(tx, func(s scanner) (b Box, err error) {
		b.Keys = make([]string, len(c.Keys))
		var dest []any
		for i := range b.Keys {
			dest = append(dest, &b.Keys[i])
		}
		return b, s.Scan(append(dest, &b.Box)...)
	}, `SELECT `+keys+`, `+c.Column+` FROM `+c.Table+w.String()+` ORDER BY `+keys+` LIMIT `+w.last(), w.args...)
}

// ReplaceBox stores a box in place of the one that was there when Boxes read it,
// and reports whether it was still there.
func (tx *Tx) ReplaceBox(c SealedColumn, old Box, box []byte) (bool, error) {
	var w where
	w.args = []any{box}
	for i, k := range c.Keys {
		w.add(k+` = ?`, old.Keys[i])
	}
	w.add(c.Column+` = ?`, old.Box)
	n, err := tx.exec(`UPDATE `+c.Table+` SET `+c.Column+` = $1`+w.String(), w.args...)
	return n > 0, err
}

// A MasterKey is a master key that something may be sealed with.
type MasterKey struct {
	ID        string
	Seals     bool // what is sealed from now on is sealed with it
	CreatedAt time.Time
}

// MasterKeys lists the master keys that something may be sealed with, the oldest
// first.
func (tx *Tx) MasterKeys() ([]MasterKey, error) {
	return all(tx, func(s scanner) (k MasterKey, err error) { return k, s.Scan(&k.ID, &k.Seals, timestamp{&k.CreatedAt}) },
		`SELECT id, seals, created_at FROM master_keys ORDER BY created_at, id`)
}

// SealingKey returns the id of the master key to seal with, or ErrNotFound
// before the first start. It is part of the transaction: what it was when a box
// was stored, it was when the transaction committed.
func (tx *Tx) SealingKey() (string, error) {
	return one(tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, `SELECT id FROM master_keys WHERE seals`)
}

// UseMasterKey makes a master key the one to seal with.
func (tx *Tx) UseMasterKey(id string) error {
	if _, err := tx.exec(`UPDATE master_keys SET seals = FALSE WHERE seals AND id <> $1`, id); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO master_keys (id, seals, created_at) VALUES ($1, TRUE, $2) ON CONFLICT (id) DO UPDATE SET seals = TRUE`, id, ms(tx.Now))
	return err
}

// ForgetMasterKeys removes all master keys but the one to seal with, and returns
// their ids. Nothing may be sealed with them any more.
func (tx *Tx) ForgetMasterKeys() ([]string, error) {
	ids, err := all(tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) },
		`DELETE FROM master_keys WHERE NOT seals RETURNING id`)
	slices.Sort(ids)
	return ids, err
}
