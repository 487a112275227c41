package db

import (
	"time"

	"latchkey.dev/latchkey"
)

// A TokenKind is the kind of a token.
type TokenKind string

const (
	TokenAPI     TokenKind = "api"     // made by request, for a program
	TokenSession TokenKind = "session" // made by signing in
	TokenLink    TokenKind = "link"    // good for one sign-in, for nothing else
	TokenSetup   TokenKind = "setup"   // good for making the first account of a person
)

// A HeldToken is a token with the principal that it stands for.
type HeldToken struct {
	latchkey.Token
	Kind    TokenKind
	Revoked bool
	Idle    time.Duration // how long it may be out of use; 0 is for as long as it lasts
	Rotated *time.Time    // when its value was last replaced
	Salt    []byte        // what the value was made of then, besides the one before
	Holder  Principal     // Disabled also when it is deleted
}

// A SignIn says how, from where and with what a session was begun.
type SignIn struct {
	Method, Address, Client string
	Proof                   latchkey.ServicePrincipalCredentialID // of a service principal
	Idle                    time.Duration                         // how long it may be out of use; 0 is for as long as it lasts
}

const tokenCols = `t.id, t.name, t.principal_id, t.created_at, t.expires_at, t.last_used_at`

func tokenDest(t *latchkey.Token) []any {
	return []any{&t.ID, &t.Name, &t.Principal, timestamp{&t.CreatedAt}, timestamp{&t.ExpiresAt}, nullTime{&t.LastUsedAt}}
}

// HeldToken returns the token with a hash, whatever its state, or ErrNotFound.
func (tx *Tx) HeldToken(hash []byte) (HeldToken, error) { return tx.heldToken("t.hash", hash) }

// ReplacedToken returns the token whose value before the last one has a hash,
// whatever its state, or ErrNotFound.
func (tx *Tx) ReplacedToken(hash []byte) (HeldToken, error) { return tx.heldToken("t.old_hash", hash) }

func (tx *Tx) heldToken(column string, hash []byte) (HeldToken, error) {
	return one(tx, func(s scanner) (t HeldToken, err error) {
		dest := append(tokenDest(&t.Token), &t.Kind, &t.Revoked, duration{&t.Idle}, nullTime{&t.Rotated}, &t.Salt)
		return t, s.Scan(append(dest, t.Holder.dest()...)...)
	}, `SELECT `+tokenCols+`, t.kind, t.revoked_at IS NOT NULL, t.idle, t.rotated_at, t.salt,
		p.id, p.kind, p.name, p.tenant_admin, p.disabled_at IS NOT NULL OR p.deleted_at IS NOT NULL
		FROM tokens t JOIN principals p ON p.id = t.principal_id WHERE `+column+` = $1`, hash)
}

// RotateToken replaces the value of a token, of which there are the hashes of now
// and next, and reports whether it has: another may have before.
func (tx *Tx) RotateToken(id latchkey.TokenID, now, next, salt []byte) (bool, error) {
	n, err := tx.exec(`UPDATE tokens SET hash = $3, old_hash = $2, salt = $4, rotated_at = $5, last_used_at = $5 WHERE id = $1 AND hash = $2`,
		id, now, next, salt, ms(tx.Now))
	return n == 1, err
}

// RotateSoon has the values of a principal's sessions replaced when they are used
// next.
func (tx *Tx) RotateSoon(who latchkey.PrincipalID) error {
	_, err := tx.exec(`UPDATE tokens SET rotated_at = 0 WHERE principal_id = $1 AND kind = $2 AND idle > 0 AND revoked_at IS NULL`, who, TokenSession)
	return err
}

// Sessions lists a principal's sessions that have not ended, the newest first.
func (tx *Tx) Sessions(who latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.Session], error) {
	var w where
	w.add("t.principal_id = ?", who)
	w.add("t.kind = ?", TokenSession)
	w.add("t.revoked_at IS NULL")
	w.add("t.expires_at > ?", ms(tx.Now))
	w.add("(t.idle = 0 OR COALESCE(t.last_used_at, t.created_at) + t.idle > ?)", ms(tx.Now))
	if o.After != "" {
		_, id := parseCursor(o.After)
		w.add("t.id < ?", id)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, func(s scanner) (v latchkey.Session, err error) {
		return v, s.Scan(&v.ID, &v.Method, &v.Address, &v.Client, timestamp{&v.StartedAt}, nullTime{&v.LastUsedAt}, timestamp{&v.ExpiresAt})
	}, `SELECT t.id, t.method, t.address, t.client, t.created_at, t.last_used_at, t.expires_at FROM tokens t`+w.String()+` ORDER BY t.id DESC LIMIT `+w.last(), w.args...)
	return page(items, o, func(s latchkey.Session) (string, string) { return "", string(s.ID) }), err
}

// Tokens lists a principal's API tokens that are neither expired nor revoked, the
// oldest first.
func (tx *Tx) Tokens(who latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.Token], error) {
	var w where
	w.add("t.principal_id = ?", who)
	w.add("t.kind = ?", TokenAPI)
	w.add("t.revoked_at IS NULL")
	w.add("t.expires_at > ?", ms(tx.Now))
	if o.After != "" {
		_, id := parseCursor(o.After)
		w.add("t.id > ?", id)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, func(s scanner) (t latchkey.Token, err error) { return t, s.Scan(tokenDest(&t)...) },
		`SELECT `+tokenCols+` FROM tokens t`+w.String()+` ORDER BY t.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(t latchkey.Token) (string, string) { return "", string(t.ID) }), err
}

// CreateToken stores a new token under the hash of its value.
func (tx *Tx) CreateToken(t latchkey.Token, kind TokenKind, hash []byte) error {
	_, err := tx.exec(`INSERT INTO tokens (id, kind, principal_id, name, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ID, kind, t.Principal, t.Name, hash, ms(tx.Now), ms(t.ExpiresAt))
	return err
}

// CreateSession stores a new session under the hash of its token's value.
func (tx *Tx) CreateSession(t latchkey.Token, in SignIn, hash []byte) error {
	_, err := tx.exec(`INSERT INTO tokens (id, kind, principal_id, name, hash, proof_id, method, address, client, idle, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		t.ID, TokenSession, t.Principal, t.Name, hash, in.Proof, in.Method, in.Address, in.Client, in.Idle.Milliseconds(), ms(tx.Now), ms(t.ExpiresAt))
	return err
}

// TouchToken notes that a token is in use now, unless it was noted after since.
func (tx *Tx) TouchToken(id latchkey.TokenID, since time.Time) error {
	_, err := tx.exec(`UPDATE tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)`,
		id, ms(tx.Now), ms(since))
	return err
}

// RevokeToken revokes a token of a principal and returns its name. It returns
// ErrNotFound when the principal has no such token that counts.
func (tx *Tx) RevokeToken(who latchkey.PrincipalID, id latchkey.TokenID) (name string, err error) {
	return one(tx, func(s scanner) (name string, err error) { return name, s.Scan(&name) },
		`UPDATE tokens SET revoked_at = $3 WHERE id = $1 AND principal_id = $2 AND revoked_at IS NULL AND expires_at > $3 RETURNING name`,
		id, who, ms(tx.Now))
}

// RevokeSignIns revokes what signing in has given a principal, but for the session
// except: its sessions and the links that were not used. It returns how many.
func (tx *Tx) RevokeSignIns(who latchkey.PrincipalID, except latchkey.TokenID) (int64, error) {
	return tx.exec(`UPDATE tokens SET revoked_at = $2 WHERE principal_id = $1 AND kind <> $3 AND id <> $4 AND revoked_at IS NULL AND expires_at > $2`,
		who, ms(tx.Now), TokenAPI, except)
}

// RevokeSignInsBy revokes the sessions that a service principal signed in for with
// a credential, and returns how many.
func (tx *Tx) RevokeSignInsBy(who latchkey.PrincipalID, proof latchkey.ServicePrincipalCredentialID) (int64, error) {
	return tx.exec(`UPDATE tokens SET revoked_at = $2 WHERE principal_id = $1 AND proof_id = $3 AND revoked_at IS NULL AND expires_at > $2`,
		who, ms(tx.Now), proof)
}

// PurgeTokens deletes at most limit tokens that expired before a time, and
// returns how many. The audit log keeps what was done with them.
func (tx *Tx) PurgeTokens(before time.Time, limit int) (int64, error) {
	return tx.exec(`DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at < $1 LIMIT $2)`, ms(before), limit)
}
