package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const keyCheckText = "latchkey master key"

// keyCheckBinding is where the check of the master key is bound to.
func keyCheckBinding() []string { return []string{"sealed_settings", "box", sealedKeyCheck} }

// checkKey makes sure that the key is the database's: that it has every master
// key that something may be sealed with. At the first start it becomes the
// database's.
func (b *Broker) checkKey(tx *db.Tx) error {
	known, err := tx.MasterKeys()
	if err != nil {
		return err
	}
	if len(known) == 0 {
		if err := tx.UseMasterKey(b.key.ID()); err != nil {
			return err
		}
	}
	if err := holdsKeys(b.key, known); err != nil {
		return err
	}
	for _, k := range known {
		if k.Seals {
			if err := b.key.Use(k.ID); err != nil {
				return err
			}
		}
	}
	text, err := b.sealedSetting(tx, sealedKeyCheck, func() ([]byte, error) { return []byte(keyCheckText), nil })
	if err != nil || string(text) != keyCheckText {
		return wrongKey()
	}
	return nil
}

func wrongKey() error {
	return errors.New("the master key is not the one that this database was sealed with: give the right key file")
}

// holdsKeys returns an error that says which master keys are missing.
func holdsKeys(key *seal.Key, known []db.MasterKey) error {
	var lacks []string
	for _, k := range known {
		if !key.Holds(k.ID) {
			lacks = append(lacks, k.ID)
		}
	}
	switch {
	case len(lacks) == 0:
		return nil
	case len(lacks) == len(known):
		return fmt.Errorf("%w: it is sealed with %s, the file holds %s", wrongKey(), strings.Join(lacks, ", "), strings.Join(key.IDs(), ", "))
	}
	return fmt.Errorf("the master key file lacks the key %s, which this database is sealed with too: it is being changed from one master key to another; give the file that holds both", strings.Join(lacks, ", "))
}

// seal seals a box that the transaction stores, with the master key that the
// database says: no box comes to be under another one once that has changed.
func (b *Broker) seal(tx *db.Tx, plaintext []byte, binding ...string) ([]byte, error) {
	id, err := tx.SealingKey()
	if err != nil {
		return nil, fmt.Errorf("read which master key seals: %w", err)
	}
	return b.key.SealWith(id, plaintext, binding...)
}

// followKey takes up the master key that the database says to seal with.
func (b *Broker) followKey(ctx context.Context) error {
	var id string
	err := b.db.View(ctx, func(tx *db.Tx) (err error) {
		id, err = tx.SealingKey()
		return err
	})
	if err != nil {
		return err
	}
	return b.key.Use(id)
}

// RecordKeyAdded puts on record that a master key was added to a key file. The
// key seals nothing yet.
func RecordKeyAdded(ctx context.Context, d *db.DB, id, account string) error {
	return d.Update(ctx, func(tx *db.Tx) error {
		o := &op{tx, localAdministration}
		return o.record(latchkey.ActMasterKeyAdd, installation, map[string]string{"key": id, "account": account})
	})
}

// installation is what operations on the whole database act on.
var installation = thing{kind: latchkey.KindTenant, name: "installation"}

// A KeyStatus says what is sealed with a master key.
type KeyStatus struct {
	ID     string           `json:"id"`
	Seals  bool             `json:"seals"`           // what is sealed from now on is sealed with it
	Held   bool             `json:"held"`            // the key file has it
	Known  bool             `json:"known"`           // the database says that something may be sealed with it
	Sealed int64            `json:"sealed"`          // how many values are sealed with it
	In     map[string]int64 `json:"in"`              // by table and column; every sealed column is there
	Bad    int64            `json:"bad,omitempty"`   // of the values, how many do not open; with check only
	First  string           `json:"first,omitempty"` // where the first of those is
}

// KeyStatuses counts what is sealed with which master key, over everything that
// is sealed, in one state of the database. With check it also opens each box
// whose key is held.
func KeyStatuses(ctx context.Context, d *db.DB, key *seal.Key, check bool) ([]KeyStatus, error) {
	var statuses []KeyStatus
	err := d.View(ctx, func(tx *db.Tx) (err error) {
		statuses, err = keyStatuses(tx, key)
		if err != nil || !check {
			return err
		}
		return checkBoxes(tx, key, statuses)
	})
	return statuses, err
}

func keyStatuses(tx *db.Tx, key *seal.Key) ([]KeyStatus, error) {
	known, err := tx.MasterKeys()
	if err != nil {
		return nil, err
	}
	byID := map[string]*KeyStatus{}
	var order []string
	status := func(id string) *KeyStatus {
		s := byID[id]
		if s == nil {
			s = &KeyStatus{ID: id, Held: key.Holds(id), In: map[string]int64{}}
			for _, c := range db.SealedColumns() {
				s.In[c.String()] = 0
			}
			byID[id], order = s, append(order, id)
		}
		return s
	}
	for _, k := range known {
		s := status(k.ID)
		s.Known, s.Seals = true, k.Seals
	}
	for _, id := range key.IDs() {
		status(id)
	}
	for _, c := range db.SealedColumns() {
		counts, err := tx.BoxCounts(c)
		if err != nil {
			return nil, err
		}
		for _, id := range slices.Sorted(maps.Keys(counts)) {
			s := status(id)
			s.In[c.String()] = counts[id]
			s.Sealed += counts[id]
		}
	}
	all := make([]KeyStatus, len(order))
	for i, id := range order {
		all[i] = *byID[id]
	}
	return all, nil
}

const boxBatch = 200 // boxes that are read or changed at once

// checkBoxes opens every box whose key is held, and counts those that do not
// open.
func checkBoxes(tx *db.Tx, key *seal.Key, statuses []KeyStatus) error {
	for _, c := range db.SealedColumns() {
		var after []string
		for {
			boxes, err := tx.Boxes(c, after, "", boxBatch)
			if err != nil {
				return err
			}
			for _, box := range boxes {
				after = box.Keys
				if plain, err := key.Open(box.Box, c.Binding(box.Keys)...); err != nil {
					i := slices.IndexFunc(statuses, func(s KeyStatus) bool { return s.ID == box.Key() })
					if i < 0 {
						return fmt.Errorf("%s of %s was not counted: %w", c, strings.Join(box.Keys, ", "), err)
					}
					if statuses[i].Bad++; statuses[i].First == "" {
						statuses[i].First = c.String() + " of " + strings.Join(box.Keys, ", ")
					}
				} else {
					clear(plain)
				}
			}
			if len(boxes) < boxBatch {
				break
			}
		}
	}
	return nil
}

// A Rewrapped says what Rewrap did.
type Rewrapped struct {
	Key      string `json:"key"`      // id of the master key that seals
	Switched bool   `json:"switched"` // it seals since this call
	Changed  int64  `json:"changed"`  // how many values were
	Left     int64  `json:"left"`     // how many are under other keys
}

// noNewerKey is the error of changing from the only master key there is.
func noNewerKey(id string) error {
	return latchkey.Conflict("no-newer-key", "the key file holds the master key %s only, and everything is sealed with it: there is no newer key: run latchkey master-key add first", id)
}

// Rewrap makes the newest master key of the file the one that seals, and seals
// with it the data key of everything that another one sealed. It refuses when
// there is one master key only. It works in small
// transactions beside running servers; after an interruption the next call goes
// on where this one ended. progress, when not nil, is told how many are done.
func Rewrap(ctx context.Context, d *db.DB, key *seal.Key, account string, progress func(done int64)) (r Rewrapped, err error) {
	ids := key.IDs()
	newest := ids[len(ids)-1]
	if err := key.Use(newest); err != nil {
		return r, err
	}
	r.Key = newest
	err = d.Update(ctx, func(tx *db.Tx) error {
		r.Switched = false
		known, err := tx.MasterKeys()
		if err != nil {
			return err
		}
		if err := holdsKeys(key, known); err != nil {
			return err
		}
		if len(ids) == 1 && len(known) == 1 {
			return noNewerKey(newest)
		}
		// The key has to open what the database has before it may seal for it.
		box, err := tx.SealedSetting(sealedKeyCheck)
		if err != nil {
			return fmt.Errorf("read the check of the master key: %w", err)
		}
		if text, err := key.Open(box, keyCheckBinding()...); err != nil || string(text) != keyCheckText {
			return wrongKey()
		}
		old, err := tx.SealingKey()
		if err != nil || old == newest {
			return err
		}
		r.Switched = true
		if err := tx.UseMasterKey(newest); err != nil {
			return err
		}
		o := &op{tx, localAdministration}
		return o.record(latchkey.ActMasterKeyUse, installation, map[string]string{"key": newest, "before": old, "account": account})
	})
	if err != nil {
		return r, err
	}
	// A transaction that was under way when the key changed may still have sealed
	// with the old one. The second pass finds it.
	for range 2 {
		for _, c := range db.SealedColumns() {
			if err := rewrapColumn(ctx, d, key, c, newest, &r.Changed, progress); err != nil {
				return r, err
			}
		}
		statuses, err := KeyStatuses(ctx, d, key, false)
		if err != nil {
			return r, err
		}
		if r.Left = sealedOtherwise(statuses, newest); r.Left == 0 {
			break
		}
	}
	err = d.Update(ctx, func(tx *db.Tx) error {
		o := &op{tx, localAdministration}
		return o.record(latchkey.ActMasterKeyRewrap, installation, map[string]string{
			"key": newest, "changed": strconv.FormatInt(r.Changed, 10), "left": strconv.FormatInt(r.Left, 10), "account": account,
		})
	})
	return r, err
}

// sealedOtherwise returns how many boxes are under other keys than one.
func sealedOtherwise(statuses []KeyStatus, id string) (n int64) {
	for _, s := range statuses {
		if s.ID != id {
			n += s.Sealed
		}
	}
	return n
}

// rewrapColumn seals the data keys of a column's boxes with the key that seals.
func rewrapColumn(ctx context.Context, d *db.DB, key *seal.Key, c db.SealedColumn, newest string, done *int64, progress func(int64)) error {
	var after []string
	for {
		var boxes []db.Box
		var changed int64
		err := d.UpdateRows(ctx, func(tx *db.Tx) (err error) {
			changed = 0
			if boxes, err = tx.Boxes(c, after, newest, boxBatch); err != nil {
				return err
			}
			for _, old := range boxes {
				box, err := key.Rewrap(old.Box, c.Binding(old.Keys)...)
				if err != nil {
					return fmt.Errorf("%s of %s %w", c, strings.Join(old.Keys, ", "), err)
				}
				replaced, err := tx.ReplaceBox(c, old, box)
				if err != nil {
					return err
				}
				if replaced {
					changed++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		*done += changed
		if progress != nil && changed > 0 {
			progress(*done)
		}
		if len(boxes) < boxBatch {
			return nil
		}
		after = boxes[len(boxes)-1].Keys
	}
}

// RetireKeys makes the database do without every master key but the one that
// seals, and returns their ids. It refuses while anything is sealed with one of
// them, while the file holds a later key than the one that seals, which would be
// lost, and when there is one master key only.
func RetireKeys(ctx context.Context, d *db.DB, key *seal.Key, account string) (sealing string, retired []string, err error) {
	check := func(tx *db.Tx) (done bool, err error) {
		if sealing, err = tx.SealingKey(); err != nil {
			return false, err
		}
		statuses, err := keyStatuses(tx, key)
		if err != nil {
			return false, err
		}
		ids := key.IDs()
		at := slices.Index(ids, sealing)
		switch {
		case at < 0:
			return false, holdsKeys(key, []db.MasterKey{{ID: sealing}})
		case at < len(ids)-1:
			return false, latchkey.Conflict("key-unused", "the master key %s has not been used yet, and %s still seals: run latchkey master-key rewrap first", ids[len(ids)-1], sealing)
		case len(statuses) == 1:
			return false, noNewerKey(sealing)
		}
		done = true
		for _, s := range statuses {
			if s.ID != sealing && s.Sealed > 0 {
				return false, latchkey.Conflict("key-in-use", "%d values are still sealed with the master key %s: run latchkey master-key rewrap first", s.Sealed, s.ID)
			}
			done = done && (s.ID == sealing || !s.Known)
		}
		return done, nil
	}
	// Most refusals need no transaction that others could collide with.
	done := false
	err = d.View(ctx, func(tx *db.Tx) (err error) {
		done, err = check(tx)
		return err
	})
	if err != nil || done {
		return sealing, nil, err
	}
	err = d.Update(ctx, func(tx *db.Tx) (err error) {
		if _, err = check(tx); err != nil {
			return err
		}
		if retired, err = tx.ForgetMasterKeys(); err != nil {
			return err
		}
		o := &op{tx, localAdministration}
		return o.record(latchkey.ActMasterKeyRetire, installation, map[string]string{
			"key": sealing, "retired": strings.Join(retired, " "), "account": account,
		})
	})
	return sealing, retired, err
}
