package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/passkey"
	"latchkey.dev/latchkey"
)

// Kinds of ceremonies with passkeys.
const (
	ceremonyRegister = "passkey-register"
	ceremonyPasskey  = "passkey-sign-in"
)

func passkeyThing(p latchkey.Passkey) thing {
	return thing{kind: latchkey.KindPasskey, id: string(p.ID), name: p.Name}
}

// registering is what a passkey is being made for.
type registering struct {
	User  latchkey.PrincipalID `json:"u"`
	State json.RawMessage      `json:"s"`
}

// OwnProofs returns the ways in which the caller, a user, signs in here.
func (b *Broker) OwnProofs(ctx context.Context, who latchkey.Caller) (p latchkey.OwnProofs, err error) {
	p.Passkeys = []latchkey.Passkey{}
	err = b.view(ctx, who, func(o *op) error {
		u, err := o.User(string(who.ID))
		if err != nil {
			return found(err, latchkey.KindUser)
		}
		a, err := o.Account(u.Login)
		if err != nil {
			return err
		}
		keys, err := o.Passkeys(who.ID)
		for _, k := range keys {
			p.Passkeys = append(p.Passkeys, k.Passkey)
		}
		p.Password = a.PasswordHash != ""
		return err
	})
	return p, err
}

// keyHolder returns a user with its passkeys, as ceremonies need it.
func keyHolder(tx *db.Tx, id latchkey.PrincipalID) (passkey.User, error) {
	u, err := tx.User(string(id))
	if err != nil {
		return passkey.User{}, err
	}
	holder := passkey.User{ID: []byte(u.ID), Login: u.Login, Name: u.DisplayName}
	keys, err := tx.Passkeys(id)
	for _, k := range keys {
		holder.Keys = append(holder.Keys, passkey.Key{ID: k.CredentialID, PublicKey: k.PublicKey, SignCount: k.SignCount, Flags: k.Flags})
	}
	return holder, err
}

// BeginPasskey begins to make a passkey of the caller, a user: options are for the
// browser, and so is the ceremony, to be handed to AddPasskey within ten minutes.
func (b *Broker) BeginPasskey(ctx context.Context, who latchkey.Caller, site *passkey.Site) (options []byte, ceremony string, err error) {
	var u passkey.User
	err = b.view(ctx, who, func(o *op) (err error) {
		if _, err := o.self(); err != nil {
			return err
		}
		u, err = keyHolder(o.Tx, who.ID)
		return found(err, latchkey.KindUser)
	})
	if err != nil {
		return nil, "", err
	}
	options, state, err := site.Register(u)
	if err != nil {
		return nil, "", err
	}
	ceremony, err = b.sealCeremony(ceremonyRegister, registering{who.ID, state})
	return options, ceremony, err
}

// AddPasskey adds the passkey that the caller's browser has made. The account is
// told, so that one that somebody else has added does not stay unseen.
func (b *Broker) AddPasskey(ctx context.Context, who latchkey.Caller, site *passkey.Site, name, ceremony string, response []byte) (p latchkey.Passkey, err error) {
	if err := latchkey.CheckName(name); err != nil {
		return p, latchkey.Invalid("name", "%v", err)
	}
	var begun registering
	used, err := b.openCeremony(ceremonyRegister, ceremony, &begun)
	if err != nil {
		return p, err
	}
	if begun.User != who.ID {
		return p, unauthenticated("ceremony-invalid", "the passkey was made for another account", "make another")
	}
	err = b.update(ctx, who, func(o *op) error {
		me, err := o.self()
		if err != nil {
			return err
		}
		u, err := keyHolder(o.Tx, who.ID)
		if err != nil {
			return found(err, latchkey.KindUser)
		}
		if len(u.Keys) >= latchkey.MaxPasskeys {
			return latchkey.Conflict("too-many", "the account has %d passkeys, and more are not kept; remove one first", len(u.Keys))
		}
		key, err := site.Registered(u, begun.State, response)
		if err != nil {
			return latchkey.Invalid("response", "is no passkey for this site; make another")
		}
		if err := used(o.Tx); err != nil {
			return err
		}
		p = latchkey.Passkey{ID: latchkey.PasskeyID(latchkey.NewID("pk", o.Now)), Name: name, CreatedAt: o.Now}
		stored := db.Passkey{Passkey: p, Holder: who.ID, CredentialID: key.ID, PublicKey: key.PublicKey, SignCount: key.SignCount, Flags: key.Flags}
		if err := o.CreatePasskey(stored); err != nil {
			if errors.Is(err, db.ErrExists) {
				err = latchkey.Conflict("exists", "this passkey was added already")
			}
			return err
		}
		t := passkeyThing(p)
		if err := o.tell(who.ID, thing{kind: latchkey.KindUser, id: string(me.ID), name: me.Name}, fmt.Sprintf("The passkey %q was added to your account. If that was not you, remove it, and change your password.", name)); err != nil {
			return err
		}
		return o.record(latchkey.ActPasskeyAdd, t, nil)
	})
	if err != nil {
		return latchkey.Passkey{}, err
	}
	return p, nil
}

// RemovePasskey removes one of the caller's passkeys.
func (b *Broker) RemovePasskey(ctx context.Context, who latchkey.Caller, id latchkey.PasskeyID) error {
	return b.update(ctx, who, func(o *op) error {
		name, err := o.RemovePasskey(who.ID, id)
		if err != nil {
			return found(err, latchkey.KindPasskey)
		}
		return o.record(latchkey.ActPasskeyRemove, passkeyThing(latchkey.Passkey{ID: id, Name: name}), nil)
	})
}

// BeginPasskeySignIn begins to sign somebody in with a passkey, whoever it will be.
func (b *Broker) BeginPasskeySignIn(site *passkey.Site) (options []byte, ceremony string, err error) {
	options, state, err := site.SignIn()
	if err != nil {
		return nil, "", err
	}
	ceremony, err = b.sealCeremony(ceremonyPasskey, json.RawMessage(state))
	return options, ceremony, err
}

// SignInPasskey returns a session for whoever has signed with a passkey. Whatever is
// wrong with that is ErrUnauthenticated, code passkey-refused.
func (b *Broker) SignInPasskey(ctx context.Context, site *passkey.Site, ceremony string, response []byte, from Visitor) (session latchkey.NewToken, err error) {
	refusal := unauthenticated("passkey-refused", "this passkey is not one of an account here", "use another, or sign in otherwise")
	var state json.RawMessage
	used, err := b.openCeremony(ceremonyPasskey, ceremony, &state)
	if err != nil {
		return session, err
	}
	var refused *latchkey.Error
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		refused = nil
		o := &op{tx, latchkey.Caller{Name: "nobody", Address: from.Address}}
		var stored db.Passkey
		var failed error // of the database
		key, err := site.SignedIn(state, response, func(key, id []byte) (passkey.User, error) {
			if stored, failed = tx.PasskeyOf(key); failed != nil {
				return passkey.User{}, failed
			}
			if !bytes.Equal(id, []byte(stored.Holder)) {
				return passkey.User{}, errors.New("the passkey is another account's")
			}
			var u passkey.User
			u, failed = keyHolder(tx, stored.Holder)
			return u, failed
		})
		if failed != nil && !errors.Is(failed, db.ErrNotFound) {
			return failed
		}
		if err != nil {
			// What is no passkey of anybody is not on record: anybody could fill the log.
			b.log.LogAttrs(ctx, slog.LevelInfo, "a passkey was refused", slog.String("address", from.Address), slog.Any("error", err))
			refused = refusal
			if stored.ID == "" {
				return nil
			}
			return o.refusedSignIn(thing{kind: latchkey.KindUser, id: string(stored.Holder)}, refused, map[string]string{"by": "passkey", "passkey": string(stored.ID)})
		}
		if err := used(tx); err != nil {
			return err
		}
		u, err := tx.User(string(stored.Holder))
		if err != nil {
			return err
		}
		if u.Disabled {
			refused = accountDisabled()
			return o.refusedSignIn(userThing(u), refused, map[string]string{"by": "passkey", "passkey": string(stored.ID)})
		}
		if err := tx.UsePasskey(stored.ID, key.SignCount, key.Flags); err != nil {
			return err
		}
		session, err = b.begin(o, db.Principal{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.DisplayName}, u.Login, from, "passkey", map[string]string{"passkey": string(stored.ID)})
		return err
	})
	return b.counted(session, refused, err)
}
