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
)

// A HeldToken is a token with the principal that it stands for.
type HeldToken struct {
	latchkey.Token
	Kind    TokenKind
	Revoked bool
	Holder  Principal // Disabled also when it is deleted
}

const tokenCols = `t.id, t.name, t.principal_id, t.created_at, t.expires_at, t.last_used_at`

func tokenDest(t *latchkey.Token) []any {
	return []any{&t.ID, &t.Name, &t.Principal, timestamp{&t.CreatedAt}, timestamp{&t.ExpiresAt}, nullTime{&t.LastUsedAt}}
}

// HeldToken returns the token with a hash, whatever its state, or ErrNotFound.
func (tx *Tx) HeldToken(hash []byte) (HeldToken, error) {
	return one(tx, func(s scanner) (t HeldToken, err error) {
		dest := append(tokenDest(&t.Token), &t.Kind, &t.Revoked)
		return t, s.Scan(append(dest, t.Holder.dest()...)...)
	}, `SELECT `+tokenCols+`, t.kind, t.revoked_at IS NOT NULL,
		p.id, p.kind, p.name, p.tenant_admin, p.disabled_at IS NOT NULL OR p.deleted_at IS NOT NULL
		FROM tokens t JOIN principals p ON p.id = t.principal_id WHERE t.hash = $1`, hash)
}

// Tokens lists a principal's API tokens and sessions that are neither expired
// nor revoked, the oldest first.
func (tx *Tx) Tokens(who latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.Token], error) {
	var w where
	w.add("t.principal_id = ?", who)
	w.add("t.kind <> ?", TokenLink)
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
	return tx.CreateServiceToken(t, kind, hash, "")
}

// CreateServiceToken is CreateToken for a service principal that signed in with a
// credential.
func (tx *Tx) CreateServiceToken(t latchkey.Token, kind TokenKind, hash []byte, proof latchkey.ServicePrincipalCredentialID) error {
	_, err := tx.exec(`INSERT INTO tokens (id, kind, principal_id, name, hash, proof_id, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.ID, kind, t.Principal, t.Name, hash, proof, ms(tx.Now), ms(t.ExpiresAt))
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

// RevokeSignIns revokes what signing in has given a principal: its sessions and
// the links that were not used. It returns how many.
func (tx *Tx) RevokeSignIns(who latchkey.PrincipalID) (int64, error) {
	return tx.exec(`UPDATE tokens SET revoked_at = $2 WHERE principal_id = $1 AND kind <> $3 AND revoked_at IS NULL AND expires_at > $2`,
		who, ms(tx.Now), TokenAPI)
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
