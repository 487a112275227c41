package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// What tokens begin with, so that people and scanners see what one is.
const (
	prefixAPI     = "lk"
	prefixSession = "lks"
	prefixLink    = "lkl"
)

const (
	maxToken   = 100         // bytes of anything that may be a token
	touchAfter = time.Minute // how exact the time of a token's last use is
	touchWait  = time.Second // how long noting it may take
)

func tokenThing(t latchkey.Token) thing {
	return thing{kind: latchkey.KindToken, id: string(t.ID), name: t.Name}
}

// unauthenticated returns an ErrUnauthenticated; remedy says what to do.
func unauthenticated(code, msg, remedy string) *latchkey.Error {
	return &latchkey.Error{
		Kind: latchkey.ErrUnauthenticated, Code: code, Msg: msg + ": " + remedy, Check: "authentication", Remedy: remedy,
	}
}

// isToken reports whether s begins as tokens of one of the kinds do.
func isToken(s string, prefixes ...string) bool {
	if len(s) > maxToken {
		return false
	}
	prefix, _, ok := strings.Cut(s, "_")
	for _, p := range prefixes {
		if ok && prefix == p {
			return true
		}
	}
	return false
}

// usable returns nil if a token counts now, or an ErrUnauthenticated.
func usable(t db.HeldToken, now time.Time) error {
	const again = "sign in again with latchkey login, or use another token"
	var err *latchkey.Error
	switch {
	case t.Revoked:
		err = unauthenticated("token-invalid", "the token was revoked", again)
	case !t.ExpiresAt.After(now):
		err = unauthenticated("token-expired", "the token expired at "+t.ExpiresAt.Format(time.RFC3339), again)
	case t.Idle > 0 && now.Sub(lastUse(t)) > t.Idle:
		err = unauthenticated("token-expired", "the session was not used for "+t.Idle.String(), "sign in again")
	case t.Holder.Disabled:
		err = accountDisabled()
	default:
		return nil
	}
	err.Identity = string(t.Holder.ID)
	return err
}

// lastUse returns when a token was last used, to about touchAfter.
func lastUse(t db.HeldToken) time.Time {
	if t.LastUsedAt != nil {
		return *t.LastUsedAt
	}
	return t.CreatedAt
}

func accountDisabled() *latchkey.Error {
	return unauthenticated("account-disabled", "the account is disabled", "ask a tenant admin to enable it")
}

// callerOf returns the holder of a token, as its user.
func callerOf(t db.HeldToken) latchkey.Caller {
	return latchkey.Caller{ID: t.Holder.ID, Kind: t.Holder.Kind, Name: t.Holder.Name, Token: t.ID}
}

// Authenticate returns whom an API token stands for. It returns ErrUnauthenticated
// with the code token-invalid, token-expired or account-disabled; of a browser's
// session too, which is for Continue. Address and RequestID of the caller are not
// set.
func (b *Broker) Authenticate(ctx context.Context, token string) (latchkey.Caller, error) {
	invalid := unauthenticated("token-invalid", "the token is not valid", "sign in with latchkey login, or check that the token was copied whole")
	if !isToken(token, prefixAPI) {
		return latchkey.Caller{}, invalid
	}
	var t db.HeldToken
	var now time.Time
	err := b.db.View(ctx, func(tx *db.Tx) (err error) {
		now = tx.Now
		t, err = tx.HeldToken(seal.HashToken(token))
		return err
	})
	if errors.Is(err, db.ErrNotFound) || err == nil && t.Kind != db.TokenAPI && t.Kind != db.TokenSession {
		return latchkey.Caller{}, invalid
	}
	if err != nil {
		return latchkey.Caller{}, err
	}
	if err := usable(t, now); err != nil {
		return latchkey.Caller{}, err
	}
	if t.LastUsedAt == nil || now.Sub(*t.LastUsedAt) >= touchAfter {
		b.touch(ctx, t.ID)
	}
	return callerOf(t), nil
}

// touch notes that a token is in use.
func (b *Broker) touch(ctx context.Context, id latchkey.TokenID) {
	b.noteUse(ctx, id, func(tx *db.Tx) error { return tx.TouchToken(id, tx.Now.Add(-touchAfter)) })
}

// self returns the caller's principal, which must be enabled: what a principal
// may do with its own tokens is in no permission table.
func (o *op) self() (db.Principal, error) {
	p, err := o.Principal(string(o.who.ID))
	if errors.Is(err, db.ErrNotFound) || err == nil && p.Disabled {
		return p, accountDisabled()
	}
	return p, err
}

// issue stores a new token of a principal and returns it with its value.
func (o *op) issue(who latchkey.PrincipalID, kind db.TokenKind, prefix, name string, ttl time.Duration) (latchkey.NewToken, error) {
	value, hash := seal.NewToken(prefix)
	t := latchkey.Token{
		ID: latchkey.TokenID(latchkey.NewID("tok", o.Now)), Name: name, Principal: who,
		CreatedAt: o.Now, ExpiresAt: o.Now.Add(ttl).Truncate(time.Millisecond),
	}
	return latchkey.NewToken{Token: t, Value: value}, o.CreateToken(t, kind, hash)
}

// Tokens lists the caller's API tokens, the oldest first.
func (b *Broker) Tokens(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.Token], err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		p, err = o.Tokens(who.ID, page)
		return err
	})
	return p, err
}

// CreateToken makes an API token of the caller. Its value is returned here and
// never again.
func (b *Broker) CreateToken(ctx context.Context, who latchkey.Caller, c latchkey.TokenCreate) (t latchkey.NewToken, err error) {
	if err := c.Validate(); err != nil {
		return t, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		p, err := o.self()
		if err != nil {
			return err
		}
		if p.Kind == latchkey.PrincipalService {
			return o.refuseWith(latchkey.ActTokenCreate, thing{kind: latchkey.KindToken, name: c.Name}, &latchkey.Error{
				Kind: latchkey.ErrDenied, Code: "service-principal-token", Identity: string(who.ID), Check: string(latchkey.ActTokenCreate),
				Msg:    "a service principal makes no API tokens, which would outlast its credentials: it signs in for one that lasts an hour",
				Remedy: "sign in again with the service principal's credential",
			})
		}
		if t, err = o.issue(who.ID, db.TokenAPI, prefixAPI, c.Name, time.Duration(c.ExpiresIn)); err != nil {
			return err
		}
		return o.record(latchkey.ActTokenCreate, tokenThing(t.Token), map[string]string{"expiresAt": t.ExpiresAt.Format(time.RFC3339)})
	})
	if err != nil {
		return latchkey.NewToken{}, err
	}
	return t, nil
}

// RevokeToken ends one of the caller's tokens or sessions at once.
func (b *Broker) RevokeToken(ctx context.Context, who latchkey.Caller, id latchkey.TokenID) error {
	if !latchkey.HasPrefix(string(id), "tok") {
		return latchkey.NotFound(latchkey.KindToken)
	}
	return b.update(ctx, who, func(o *op) error {
		name, err := o.RevokeToken(who.ID, id)
		if err != nil {
			return found(err, latchkey.KindToken)
		}
		return o.record(latchkey.ActTokenRevoke, tokenThing(latchkey.Token{ID: id, Name: name}), nil)
	})
}

// localAdministration is the actor of what is done by whoever holds the data
// folder.
var localAdministration = latchkey.Caller{Name: "local administration"}

const firstAdmin = "admin" // login

// Bootstrap makes the first tenant admin, with an API token that lives for
// latchkey.AdminTokenTTL. When there is an enabled tenant admin it does nothing
// and created is false.
func (b *Broker) Bootstrap(ctx context.Context) (created bool, token string, err error) {
	err = b.update(ctx, localAdministration, func(o *op) error {
		created, token = false, ""
		n, err := o.TenantAdminCount()
		if err != nil || n > 0 {
			return err
		}
		created = true
		token, err = o.adminToken(firstAdmin, "first admin token", latchkey.AdminTokenTTL)
		return err
	})
	if err != nil {
		return false, "", err
	}
	return created, token, nil
}

// AdminToken returns a new API token of the tenant admin with a login, for
// whoever holds the data folder and lost every other way in. The account is made,
// enabled or made tenant admin as needed. A ttl of 0 is latchkey.AdminTokenTTL.
func (b *Broker) AdminToken(ctx context.Context, login string, ttl time.Duration) (token string, err error) {
	if ttl == 0 {
		ttl = latchkey.AdminTokenTTL
	}
	c := latchkey.TokenCreate{Name: "recovery token", ExpiresIn: latchkey.Duration(ttl)}
	if err := c.Validate(); err != nil {
		return "", err
	}
	err = b.update(ctx, localAdministration, func(o *op) (err error) {
		token, err = o.adminToken(login, c.Name, ttl)
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// adminToken makes an API token of a tenant admin, and the account if need be.
func (o *op) adminToken(login, name string, ttl time.Duration) (string, error) {
	u, err := o.ensureAdmin(login)
	if err != nil {
		return "", err
	}
	t, err := o.issue(u.ID, db.TokenAPI, prefixAPI, name, ttl)
	if err != nil {
		return "", err
	}
	return t.Value, o.record(latchkey.ActTokenCreate, tokenThing(t.Token), map[string]string{
		"principal": string(u.ID), "login": u.Login, "expiresAt": t.ExpiresAt.Format(time.RFC3339),
	})
}

// ensureAdmin returns the user with a login as an enabled tenant admin who may
// sign in at once.
func (o *op) ensureAdmin(login string) (latchkey.User, error) {
	c := latchkey.UserCreate{Login: login, TenantAdmin: true}
	if err := c.Validate(); err != nil {
		return latchkey.User{}, err
	}
	a, err := o.Account(login)
	if errors.Is(err, db.ErrNotFound) {
		return o.createUser(c, "")
	}
	if err != nil {
		return latchkey.User{}, err
	}
	if err := o.SetSignInFailures(login, db.Failures{}); err != nil {
		return latchkey.User{}, fmt.Errorf("forget failed sign-ins: %w", err)
	}
	u, err := o.User(string(a.ID))
	if err != nil || u.TenantAdmin && !u.Disabled {
		return u, err
	}
	was := u
	u.TenantAdmin, u.Disabled = true, false
	return u, o.changeUser(was, u, map[string]string{}, func() error { return o.UpdateUser(u) })
}
