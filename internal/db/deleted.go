package db

import (
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// components are the kinds that can be deleted and restored, in the order in which
// they use one another.
var components = []latchkey.Kind{latchkey.KindVariable, latchkey.KindCredential, latchkey.KindMachine, latchkey.KindMachineGroup, latchkey.KindConnection, latchkey.KindFlow}

// A DeletedRow is a deleted component with its environment.
type DeletedRow struct {
	latchkey.Deleted
	Environment latchkey.EnvironmentID
}

func scanDeleted(s scanner) (d DeletedRow, err error) {
	err = s.Scan(&d.Kind, &d.ID, &d.Name, timestamp{&d.DeletedAt}, &d.DeletedBy, &d.Environment)
	d.PurgedAt = d.DeletedAt.Add(latchkey.DeletedTTL)
	return d, err
}

// deletedOf selects the deleted components of a kind that are not purged.
func deletedOf(kind latchkey.Kind) string {
	return `SELECT '` + string(kind) + `' AS kind, t.id, t.name, t.deleted_at, t.deleted_by, t.environment_id FROM ` + tables[kind] + ` t
		WHERE t.deleted_at IS NOT NULL AND t.purged_at IS NULL`
}

// allDeleted is deletedOf every kind, with a condition on t.
func allDeleted(condition string) string {
	parts := make([]string, len(components))
	for i, k := range components {
		parts[i] = deletedOf(k) + condition
	}
	return strings.Join(parts, ` UNION ALL `)
}

// Deleted lists what was deleted in an environment and can be restored, newest
// first: everything, or what a principal owns.
func (tx *Tx) Deleted(env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions) (latchkey.Page[latchkey.Deleted], error) {
	w := where{args: []any{env, ms(tx.Now.Add(-latchkey.DeletedTTL))}}
	condition := ` AND t.environment_id = $1 AND t.deleted_at > $2`
	if !visible.Everything {
		w.args = append(w.args, visible.Who)
		condition += ` AND EXISTS (SELECT 1 FROM grants g WHERE g.subject_id = t.id AND g.principal_id = $3 AND g.role = 'owner')`
	}
	if o.After != "" {
		_, id := parseCursor(o.After)
		// Newest first, by the time and the id of the one before.
		w.args = append(w.args, id)
		w.add(`(d.deleted_at, d.id) < (SELECT x.deleted_at, x.id FROM (` + allDeleted(` AND t.id = `+w.last()) + `) x)`)
	}
	w.args = append(w.args, o.Size()+1)
	rows, err := all(tx, scanDeleted, `SELECT d.kind, d.id, d.name, d.deleted_at, d.deleted_by, d.environment_id FROM (`+allDeleted(condition)+`) d`+w.String()+
		` ORDER BY d.deleted_at DESC, d.id DESC LIMIT `+w.last(), w.args...)
	p := page(rows, o, func(d DeletedRow) (string, string) { return "", d.ID })
	items := latchkey.Page[latchkey.Deleted]{Items: []latchkey.Deleted{}, Next: p.Next}
	for _, d := range p.Items {
		items.Items = append(items.Items, d.Deleted)
	}
	return items, err
}

// DeletedOne returns what was deleted in an environment by its id, if it can be
// restored, or ErrNotFound.
func (tx *Tx) DeletedOne(env latchkey.EnvironmentID, id string) (latchkey.Deleted, error) {
	d, err := one(tx, scanDeleted, allDeleted(` AND t.environment_id = $1 AND t.id = $2 AND t.deleted_at > $3`), env, id, ms(tx.Now.Add(-latchkey.DeletedTTL)))
	return d.Deleted, err
}

// searched are the columns that a search looks at, besides the unique name of a
// variable.
var searched = map[latchkey.Kind]string{
	latchkey.KindVariable:   `display_name, description`,
	latchkey.KindCredential: `name, description`,
	latchkey.KindMachine:    `name, description`,

	latchkey.KindMachineGroup: `name, description`,

	latchkey.KindConnection: `name, ''`,
	latchkey.KindFlow:       `name, description`,
}

// RestoreDeleted takes the deletion of a component back, under a name: of a variable
// its unique name. It returns ErrExists when that is taken meanwhile.
func (tx *Tx) RestoreDeleted(kind latchkey.Kind, id, name string) error {
	texts, err := one(tx, func(s scanner) (t [2]string, err error) { return t, s.Scan(&t[0], &t[1]) },
		`SELECT `+searched[kind]+` FROM `+tables[kind]+` WHERE id = $1`, id)
	if err != nil {
		return err
	}
	sets := `name = $2, search_key = $3, sort_key = $4`
	args := []any{id, name, latchkey.SearchKey(name, texts[1]), latchkey.SortKey(name)}
	if kind == latchkey.KindVariable { // which is ordered by its display name
		sets, args = `name = $2, search_key = $3, name_key = $4`, []any{id, name, latchkey.SearchKey(texts[0], name, texts[1]), strings.ToLower(name)}
	}
	if err := tx.execOne(`UPDATE `+tables[kind]+` SET deleted_at = NULL, deleted_by = '', `+sets+` WHERE id = $1 AND deleted_at IS NOT NULL AND purged_at IS NULL`, args...); err != nil {
		return err
	}
	if kind == latchkey.KindMachine {
		if _, err := tx.exec(`UPDATE principals SET deleted_at = NULL WHERE id = $1`, id); err != nil {
			return err
		}
	}
	if kind != latchkey.KindVariable {
		if err := tx.sortGrants(id, name); err != nil {
			return err
		}
	}
	return tx.bumpEpochOf(tables[kind], id)
}

// DueDeleted returns what was deleted longer ago than DeletedTTL and is not purged,
// at most limit. What uses others comes before them.
func (tx *Tx) DueDeleted(limit int) (due []DeletedRow, err error) {
	for _, kind := range slices.Backward(components) {
		some, err := all(tx, scanDeleted, deletedOf(kind)+` AND t.deleted_at <= $1 ORDER BY t.deleted_at LIMIT $2`, ms(tx.Now.Add(-latchkey.DeletedTTL)), limit-len(due))
		if err != nil {
			return nil, err
		}
		if due = append(due, some...); len(due) >= limit {
			break
		}
	}
	return due, nil
}

// purged are the columns that are emptied when a component is purged. Its row stays:
// the history of runs names it.
var purged = map[latchkey.Kind]string{
	latchkey.KindVariable:   `, search_key = '', description = '', default_value = NULL, current_value = NULL`,
	latchkey.KindCredential: `, search_key = '', description = ''`,
	latchkey.KindMachine:    `, search_key = '', description = ''`,
	latchkey.KindConnection: `, search_key = ''`,
	latchkey.KindFlow:       `, search_key = '', description = ''`,

	latchkey.KindMachineGroup: `, search_key = '', description = ''`,
}

// PurgeDeleted removes a deleted component for good, with its shares. What the
// history of runs and the audit log name it by stays.
func (tx *Tx) PurgeDeleted(kind latchkey.Kind, id string) error {
	if err := tx.execOne(`UPDATE `+tables[kind]+` SET purged_at = $2`+purged[kind]+` WHERE id = $1 AND deleted_at IS NOT NULL AND purged_at IS NULL`, id, ms(tx.Now)); err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM grants WHERE subject_id = $1`, id); err != nil {
		return err
	}
	if kind == latchkey.KindMachineGroup {
		if _, err := tx.exec(`UPDATE machines SET group_id = NULL WHERE group_id = $1`, id); err != nil {
			return err
		}
	}
	return tx.bumpEpochOf(tables[kind], id)
}
