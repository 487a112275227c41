package db

import (
	"errors"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A Principal is what principals of every kind have.
type Principal struct {
	ID          latchkey.PrincipalID
	Kind        latchkey.PrincipalKind
	Name        string
	TenantAdmin bool
	Disabled    bool
}

const principalCols = `p.id, p.kind, p.name, p.tenant_admin, p.disabled_at IS NOT NULL`

func (p *Principal) dest() []any {
	return []any{&p.ID, &p.Kind, &p.Name, &p.TenantAdmin, &p.Disabled}
}

func scanPrincipal(s scanner) (p Principal, err error) { return p, s.Scan(p.dest()...) }

// Principal returns the principal with an id, or else the user with a login, or
// else the service principal with a client id, or ErrNotFound.
func (tx *Tx) Principal(ref string) (Principal, error) {
	ref = strings.ToLower(ref)
	// An id comes first: a login may be shaped like one.
	p, err := one(tx, scanPrincipal, `SELECT `+principalCols+` FROM principals p WHERE p.id = $1 AND p.deleted_at IS NULL`, ref)
	if !errors.Is(err, ErrNotFound) {
		return p, err
	}
	p, err = one(tx, scanPrincipal, `SELECT `+principalCols+` FROM users u JOIN principals p ON p.id = u.id
		WHERE u.login = $1 AND p.deleted_at IS NULL`, ref)
	if !errors.Is(err, ErrNotFound) || !latchkey.IsGUID(ref) {
		return p, err
	}
	return one(tx, scanPrincipal, `SELECT `+principalCols+` FROM service_principals s JOIN principals p ON p.id = s.id
		WHERE s.client_id = $1 AND p.deleted_at IS NULL`, ref)
}

// KnownPrincipal returns the principal with an id though it may be deleted, which
// makes it Disabled.
func (tx *Tx) KnownPrincipal(id latchkey.PrincipalID) (Principal, error) {
	return one(tx, scanPrincipal, `SELECT p.id, p.kind, p.name, p.tenant_admin, p.disabled_at IS NOT NULL OR p.deleted_at IS NOT NULL
		FROM principals p WHERE p.id = $1`, id)
}

// EnsurePrincipal stores a principal unless there is one with its id.
func (tx *Tx) EnsurePrincipal(id latchkey.PrincipalID, kind latchkey.PrincipalKind, name string) error {
	_, err := tx.exec(`INSERT INTO principals (id, kind, name, sort_key, search_key, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (id) DO NOTHING`,
		id, kind, name, latchkey.SortKey(name), latchkey.SearchKey(name), ms(tx.Now))
	return err
}

// TenantAdminCount returns how many enabled principals are tenant admin.
func (tx *Tx) TenantAdminCount() (int, error) {
	return one(tx, func(s scanner) (n int, err error) { return n, s.Scan(&n) },
		`SELECT count(*) FROM principals WHERE tenant_admin AND disabled_at IS NULL AND deleted_at IS NULL`)
}

const userCols = `p.id, u.login, p.name, p.tenant_admin, p.disabled_at IS NOT NULL, p.created_at, p.updated_at`

func scanUser(s scanner) (u latchkey.User, err error) {
	u.ExternalIdentities = []latchkey.ExternalIdentity{}
	return u, s.Scan(&u.ID, &u.Login, &u.DisplayName, &u.TenantAdmin, &u.Disabled, timestamp{&u.CreatedAt}, timestamp{&u.UpdatedAt})
}

// User returns the user with an id, or else the one with a login, or
// ErrNotFound.
func (tx *Tx) User(ref string) (latchkey.User, error) {
	p, err := tx.Principal(ref)
	if err != nil {
		return latchkey.User{}, err
	}
	u, err := one(tx, scanUser, `SELECT `+userCols+` FROM users u JOIN principals p ON p.id = u.id WHERE p.id = $1`, p.ID)
	if err != nil {
		return u, err
	}
	users := []latchkey.User{u}
	err = tx.addIdentities(users)
	return users[0], err
}

// Users lists the users by display name: all, or with only set that one.
func (tx *Tx) Users(only latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.User], error) {
	p, err := principals(tx, scanUser, userCols, `users u ON u.id = p.id`, only, o,
		func(u latchkey.User) (string, string) { return latchkey.SortKey(u.DisplayName), string(u.ID) })
	if err != nil {
		return p, err
	}
	return p, tx.addIdentities(p.Items)
}

// principals lists what is joined to principals, in the order of their names: all,
// or with only set that one's.
func principals[T any](tx *Tx, scan func(scanner) (T, error), cols, join string, only latchkey.PrincipalID, o latchkey.PageOptions, key func(T) (string, string)) (latchkey.Page[T], error) {
	var w where
	w.add("p.deleted_at IS NULL")
	if only != "" {
		w.add("p.id = ?", only)
	}
	w.contains("p.search_key", o.Search)
	w.after(o, "p.sort_key", "p.id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scan, `SELECT `+cols+` FROM principals p JOIN `+join+w.String()+` ORDER BY p.sort_key, p.id LIMIT `+w.last(), w.args...)
	return page(items, o, key), err
}

// addIdentities fills in who the users are in other directories.
func (tx *Tx) addIdentities(users []latchkey.User) error {
	if len(users) == 0 {
		return nil
	}
	index := map[latchkey.PrincipalID]int{} // user → its place in users
	args := make([]any, len(users))
	for i, u := range users {
		index[u.ID] = i
		args[i] = u.ID
	}
	type row struct {
		id latchkey.PrincipalID
		e  latchkey.ExternalIdentity
	}
	rows, err := all(tx, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.id, &r.e.Issuer, &r.e.Tenant, &r.e.ObjectID)
	}, `SELECT principal_id, issuer, tenant, object_id FROM external_identities
		WHERE principal_id IN (`+placeholders(1, len(users))+`) ORDER BY issuer, tenant, object_id`, args...)
	if err != nil {
		return err
	}
	for _, r := range rows {
		u := &users[index[r.id]]
		u.ExternalIdentities = append(u.ExternalIdentities, r.e)
	}
	return nil
}

// ExternalIdentities returns who a principal is in other directories.
func (tx *Tx) ExternalIdentities(id latchkey.PrincipalID) ([]latchkey.ExternalIdentity, error) {
	return all(tx, func(s scanner) (e latchkey.ExternalIdentity, err error) {
		return e, s.Scan(&e.Issuer, &e.Tenant, &e.ObjectID)
	},
		`SELECT issuer, tenant, object_id FROM external_identities WHERE principal_id = $1 ORDER BY issuer, tenant, object_id`, id)
}

// CreateUser stores a new user. With passwordHash "" no password is right. It
// returns ErrExists when the login is taken.
func (tx *Tx) CreateUser(u latchkey.User, passwordHash string) error {
	if _, err := tx.exec(`INSERT INTO principals (id, kind, name, sort_key, search_key, tenant_admin, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`,
		u.ID, latchkey.PrincipalUser, u.DisplayName, latchkey.SortKey(u.DisplayName), latchkey.SearchKey(u.DisplayName, u.Login), u.TenantAdmin, ms(tx.Now)); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO users (id, login, login_key, password_hash) VALUES ($1, $2, $3, $4)`, u.ID, u.Login, latchkey.SortKey(u.Login), passwordHash)
	return err
}

// UpdateUser stores a user's display name, whether it is a tenant admin, and
// whether it is disabled.
func (tx *Tx) UpdateUser(u latchkey.User) error {
	if err := tx.execOne(`UPDATE principals SET name = $2, sort_key = $3, tenant_admin = $4, updated_at = $6, search_key = $7,
		disabled_at = CASE WHEN $5 THEN COALESCE(disabled_at, $6) END WHERE id = $1`,
		u.ID, u.DisplayName, latchkey.SortKey(u.DisplayName), u.TenantAdmin, u.Disabled, ms(tx.Now), latchkey.SearchKey(u.DisplayName, u.Login)); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// SetPassword stores the hash of a user's password.
func (tx *Tx) SetPassword(id latchkey.PrincipalID, passwordHash string) error {
	return tx.execOne(`UPDATE users SET password_hash = $2 WHERE id = $1`, id, passwordHash)
}

// SetExternalIdentities stores who a principal is in other directories, in
// place of what was known. It returns ErrExists when one of the identities is
// another principal's.
func (tx *Tx) SetExternalIdentities(id latchkey.PrincipalID, identities []latchkey.ExternalIdentity) error {
	if _, err := tx.exec(`DELETE FROM external_identities WHERE principal_id = $1`, id); err != nil {
		return err
	}
	for _, e := range identities {
		if _, err := tx.exec(`INSERT INTO external_identities (issuer, tenant, object_id, principal_id) VALUES ($1, $2, $3, $4)`,
			e.Issuer, e.Tenant, e.ObjectID, id); err != nil {
			return err
		}
	}
	return nil
}

// PrincipalOf returns the principal that an external identity belongs to, or
// ErrNotFound.
func (tx *Tx) PrincipalOf(e latchkey.ExternalIdentity) (Principal, error) {
	return one(tx, scanPrincipal, `SELECT `+principalCols+` FROM external_identities e JOIN principals p ON p.id = e.principal_id
		WHERE e.issuer = $1 AND e.tenant = $2 AND e.object_id = $3 AND p.deleted_at IS NULL`, e.Issuer, e.Tenant, e.ObjectID)
}

// An Account is what signing in with a password takes.
type Account struct {
	Principal
	Login        string
	PasswordHash string // "" when no password is right
}

// Account returns the account with a login, or ErrNotFound.
func (tx *Tx) Account(login string) (Account, error) {
	return one(tx, func(s scanner) (a Account, err error) {
		return a, s.Scan(append(a.dest(), &a.Login, &a.PasswordHash)...)
	}, `SELECT `+principalCols+`, u.login, u.password_hash FROM users u JOIN principals p ON p.id = u.id
		WHERE u.login = $1 AND p.deleted_at IS NULL`, login)
}

// failuresKept is how long the last wrong password of a login is remembered.
const failuresKept = 24 * time.Hour

// Failures says how often in a row signing in with a login has failed, and that
// it is not tried again before RetryAt. The zero value is none.
type Failures struct {
	Count   int
	RetryAt time.Time
	LastAt  time.Time // when it was last counted; SetSignInFailures sets it
}

// SignInFailures returns the failures of a login, whether or not an account has
// it.
func (tx *Tx) SignInFailures(login string) (Failures, error) {
	f, err := one(tx, func(s scanner) (f Failures, err error) {
		return f, s.Scan(&f.Count, timestamp{&f.RetryAt}, timestamp{&f.LastAt})
	},
		`SELECT failures, retry_at, last_at FROM sign_in_failures WHERE login = $1`, login)
	if errors.Is(err, ErrNotFound) {
		return Failures{}, nil
	}
	return f, err
}

// SetSignInFailures stores the failures of a login, and forgets those of other
// logins that are long past. No failures leave nothing behind.
func (tx *Tx) SetSignInFailures(login string, f Failures) error {
	if _, err := tx.exec(`DELETE FROM sign_in_failures WHERE login = $1 OR last_at < $2`, login, ms(tx.Now.Add(-failuresKept))); err != nil {
		return err
	}
	if f.Count == 0 {
		return nil
	}
	_, err := tx.exec(`INSERT INTO sign_in_failures (login, failures, retry_at, last_at) VALUES ($1, $2, $3, $4)`,
		login, f.Count, ms(f.RetryAt), ms(tx.Now))
	return err
}
