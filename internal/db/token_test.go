package db

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

func TestTokens(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		ada, bob := newUser(t, d, "ada"), newUser(t, d, "bob")
		create := func(id string, kind TokenKind, who latchkey.PrincipalID, ttl time.Duration) latchkey.Token {
			t.Helper()
			token := latchkey.Token{ID: latchkey.TokenID(id), Name: "token " + id, Principal: who, CreatedAt: now, ExpiresAt: now.Add(ttl)}
			update(t, d, func(tx *Tx) error { return tx.CreateToken(token, kind, []byte("hash "+id)) })
			return token
		}
		api := create("tok_1", TokenAPI, ada.ID, time.Hour)
		session := create("tok_2", TokenSession, ada.ID, time.Hour)
		link := create("tok_3", TokenLink, ada.ID, time.Hour)
		create("tok_4", TokenAPI, ada.ID, time.Minute)
		other := create("tok_5", TokenSession, bob.ID, time.Hour)
		now = now.Add(time.Minute)

		list := func() (items []latchkey.Token) {
			t.Helper()
			o := latchkey.PageOptions{Limit: 1}
			for range 10 {
				view(t, d, func(tx *Tx) error {
					p, err := tx.Tokens(ada.ID, o)
					items = append(items, p.Items...)
					o.After = p.Next
					return err
				})
				if o.After == "" {
					break
				}
			}
			return items
		}
		if diff := cmp.Diff([]latchkey.Token{api}, list()); diff != "" {
			t.Errorf("Tokens (-want +got):\n%s", diff)
		}

		held := func(id latchkey.TokenID) (h HeldToken) {
			t.Helper()
			view(t, d, func(tx *Tx) (err error) {
				h, err = tx.HeldToken([]byte("hash " + id))
				return err
			})
			return h
		}
		want := HeldToken{Token: session, Kind: TokenSession, Holder: Principal{ID: ada.ID, Kind: latchkey.PrincipalUser, Name: ada.DisplayName}}
		if diff := cmp.Diff(want, held(session.ID)); diff != "" {
			t.Errorf("HeldToken (-want +got):\n%s", diff)
		}
		view(t, d, func(tx *Tx) error {
			if _, err := tx.HeldToken([]byte("no such hash")); !errors.Is(err, ErrNotFound) {
				t.Errorf("HeldToken of nobody = %v; want ErrNotFound", err)
			}
			return nil
		})

		// The time of use is noted only when the last one is long enough past.
		first := now
		for range 3 {
			update(t, d, func(tx *Tx) error { return tx.TouchToken(api.ID, tx.Now.Add(-time.Minute)) })
			if got := held(api.ID).LastUsedAt; got == nil || !got.Equal(first) {
				t.Errorf("last used at %v; want %v", got, first)
			}
			now = now.Add(25 * time.Second)
		}
		update(t, d, func(tx *Tx) error { return tx.TouchToken(api.ID, tx.Now.Add(-time.Minute)) })
		if got := held(api.ID).LastUsedAt; got == nil || !got.Equal(now) {
			t.Errorf("last used at %v; want %v", got, now)
		}

		revoke := func(who latchkey.PrincipalID, id latchkey.TokenID) (name string, err error) {
			err = d.Update(t.Context(), func(tx *Tx) (err error) {
				name, err = tx.RevokeToken(who, id)
				return err
			})
			return name, err
		}
		for _, id := range []latchkey.TokenID{other.ID, "tok_4", "tok_none"} {
			if _, err := revoke(ada.ID, id); !errors.Is(err, ErrNotFound) {
				t.Errorf("revoking %s = %v; want ErrNotFound", id, err)
			}
		}
		if name, err := revoke(ada.ID, api.ID); err != nil || name != api.Name {
			t.Errorf("RevokeToken = %q, %v; want %q", name, err, api.Name)
		}
		if _, err := revoke(ada.ID, api.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoking twice = %v; want ErrNotFound", err)
		}

		extra, kept := create("tok_6", TokenAPI, ada.ID, time.Hour), create("tok_7", TokenSession, ada.ID, time.Hour)
		update(t, d, func(tx *Tx) error {
			n, err := tx.RevokeSignIns(ada.ID, kept.ID)
			if n != 2 {
				t.Errorf("RevokeSignIns = %d; want 2", n)
			}
			return err
		})
		for id, revoked := range map[latchkey.TokenID]bool{session.ID: true, link.ID: true, extra.ID: false, kept.ID: false, other.ID: false} {
			if got := held(id).Revoked; got != revoked {
				t.Errorf("%s revoked = %t; want %t", id, got, revoked)
			}
		}
		bob.Disabled = true
		update(t, d, func(tx *Tx) error { return tx.UpdateUser(bob) })
		if !held(other.ID).Holder.Disabled {
			t.Error("the token of a disabled user does not say so")
		}
	})
}

func TestSessions(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		ada := newUser(t, d, "ada")
		create := func(id string, idle time.Duration) {
			t.Helper()
			token := latchkey.Token{ID: latchkey.TokenID(id), Name: id, Principal: ada.ID, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
			in := SignIn{Method: "password", Address: "192.0.2.1", Client: "Browser", Idle: idle}
			update(t, d, func(tx *Tx) error { return tx.CreateSession(token, in, []byte("hash "+id)) })
		}
		create("tok_1", 0)
		create("tok_2", 10*time.Minute)
		create("tok_3", time.Minute)
		now = now.Add(5 * time.Minute)
		update(t, d, func(tx *Tx) error {
			for i, want := range []bool{true, false} {
				if ok, err := tx.RotateToken("tok_2", []byte("hash tok_2"), []byte("next"), []byte("salt")); err != nil || ok != want {
					t.Errorf("RotateToken number %d = %t, %v; want %t", i, ok, err, want)
				}
			}
			old, err := tx.ReplacedToken([]byte("hash tok_2"))
			if err != nil || old.ID != "tok_2" || string(old.Salt) != "salt" || old.Rotated == nil || !old.Rotated.Equal(now) || old.Idle != 10*time.Minute {
				t.Errorf("ReplacedToken = %+v, %v", old, err)
			}
			if _, err := tx.HeldToken([]byte("hash tok_2")); !errors.Is(err, ErrNotFound) {
				t.Errorf("HeldToken of a replaced value = %v; want ErrNotFound", err)
			}
			if next, err := tx.HeldToken([]byte("next")); err != nil || next.ID != "tok_2" {
				t.Errorf("HeldToken = %+v, %v; want tok_2", next, err)
			}
			return nil
		})
		now = now.Add(9 * time.Minute)
		var got []latchkey.TokenID
		o := latchkey.PageOptions{Limit: 1}
		for range 5 {
			view(t, d, func(tx *Tx) error {
				p, err := tx.Sessions(ada.ID, o)
				for _, s := range p.Items {
					if s.Method != "password" || s.Address != "192.0.2.1" || s.Client != "Browser" {
						t.Errorf("session = %+v; want how it was begun", s)
					}
					got = append(got, s.ID)
				}
				o.After = p.Next
				return err
			})
			if o.After == "" {
				break
			}
		}
		if diff := cmp.Diff([]latchkey.TokenID{"tok_2", "tok_1"}, got); diff != "" {
			t.Errorf("Sessions (-want +got):\n%s", diff)
		}
	})
}

func TestPurgeTokens(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		ada := newUser(t, d, "ada")
		update(t, d, func(tx *Tx) error {
			for i := range 5 {
				id := fmt.Sprintf("tok_%d", i)
				token := latchkey.Token{ID: latchkey.TokenID(id), Principal: ada.ID, ExpiresAt: now.Add(time.Duration(i) * time.Second)}
				if err := tx.CreateToken(token, TokenLink, []byte(id)); err != nil {
					return err
				}
			}
			return nil
		})
		for _, want := range []int64{2, 1, 0} {
			update(t, d, func(tx *Tx) error {
				n, err := tx.PurgeTokens(now.Add(3*time.Second), 2)
				if n != want {
					t.Errorf("PurgeTokens = %d; want %d", n, want)
				}
				return err
			})
		}
	})
}
