package db

import (
	"time"

	"latchkey.dev/latchkey"
)

func scanNotice(s scanner) (n latchkey.Notice, err error) {
	return n, s.Scan(&n.ID, &n.Environment, &n.Kind, &n.Subject, &n.Name, &n.Message, timestamp{&n.At})
}

// CreateNotice stores what a principal is told. It sets its id and time.
func (tx *Tx) CreateNotice(to latchkey.PrincipalID, n latchkey.Notice) error {
	_, err := tx.exec(`INSERT INTO notices (id, principal_id, environment_id, subject_kind, subject_id, subject_name, message, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		latchkey.NewID("note", tx.Now), to, n.Environment, n.Kind, n.Subject, n.Name, n.Message, ms(tx.Now))
	return err
}

// Notices lists what a principal was told and has not put away, oldest first.
func (tx *Tx) Notices(who latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.Notice], error) {
	var w where
	w.add("principal_id = ?", who)
	w.after(o, "id", "id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanNotice, `SELECT id, environment_id, subject_kind, subject_id, subject_name, message, created_at FROM notices`+w.String()+
		` ORDER BY id LIMIT `+w.last(), w.args...)
	return page(items, o, func(n latchkey.Notice) (string, string) { return string(n.ID), string(n.ID) }), err
}

// DeleteNotice removes a principal's notice, or returns ErrNotFound.
func (tx *Tx) DeleteNotice(who latchkey.PrincipalID, id latchkey.NoticeID) error {
	return tx.execOne(`DELETE FROM notices WHERE id = $1 AND principal_id = $2`, id, who)
}

// PurgeNotices removes at most limit notices from before a time.
func (tx *Tx) PurgeNotices(before time.Time, limit int) error {
	_, err := tx.exec(`DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE created_at < $1 ORDER BY created_at LIMIT $2)`, ms(before), limit)
	return err
}
