package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const (
	// rotateAfter is how long a browser's session that is in use keeps the value of
	// its token.
	rotateAfter = time.Hour

	// replacedGrace is how long a value counts after it was replaced: requests that
	// the browser sent at the same time have it still, and so has a browser that did
	// not wait for the answer with the new one.
	replacedGrace = 20 * time.Second

	maxClient = 200 // bytes of what a browser says of itself that are kept
)

// begin begins and records a session of somebody who has proven to be a user, with
// method. details, which may be nil, go on record with it.
func (b *Broker) begin(o *op, who db.Principal, login string, from Visitor, method string, details map[string]string) (latchkey.NewToken, error) {
	prefix, name, in := prefixAPI, "sign-in", db.SignIn{Method: method, Address: from.Address, Client: printable(from.Client)}
	if from.Browser {
		prefix, name, in.Idle = prefixSession, "browser session", b.sessionIdle
	}
	value, hash := seal.NewToken(prefix)
	t := latchkey.NewToken{Value: value, Token: latchkey.Token{
		ID: latchkey.TokenID(latchkey.NewID("tok", o.Now)), Name: name, Principal: who.ID,
		CreatedAt: o.Now, ExpiresAt: o.Now.Add(latchkey.SignInTokenTTL).Truncate(time.Millisecond),
	}}
	if err := o.CreateSession(t.Token, in, hash); err != nil {
		return latchkey.NewToken{}, err
	}
	o.who.ID, o.who.Kind, o.who.Name, o.who.Token = who.ID, who.Kind, who.Name, t.ID
	all := map[string]string{"by": method}
	if from.Browser {
		all["session"] = string(t.ID)
	}
	maps.Copy(all, details)
	return t, o.record(latchkey.ActSignIn, thing{kind: latchkey.KindUser, id: string(who.ID), name: login}, all)
}

// printable returns what a client says of itself, cut and without what no text has.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for len(s) > maxClient {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// sessionOf returns the session whose token's value has a hash, or had it before it
// was replaced.
func sessionOf(tx *db.Tx, hash []byte) (t db.HeldToken, replaced bool, err error) {
	t, err = tx.HeldToken(hash)
	if errors.Is(err, db.ErrNotFound) {
		replaced = true
		t, err = tx.ReplacedToken(hash)
	}
	return t, replaced, err
}

// A Continued is what becomes of a browser's session with a request.
type Continued struct {
	Caller  latchkey.Caller // Address and RequestID are not set
	Next    string          // the value that the browser has to send from now on; mostly ""
	Expires time.Time
}

// Continue returns whom the session of a browser stands for, and at least once an
// hour of use a new value of its token, with which the old one ends shortly after.
// With used false the request is none that somebody has made, and does not count as
// use. Errors are those of Authenticate.
func (b *Broker) Continue(ctx context.Context, token string, used bool) (c Continued, err error) {
	invalid := unauthenticated("token-invalid", "the session is not valid", "sign in again")
	if !isToken(token, prefixSession) {
		return c, invalid
	}
	hash := seal.HashToken(token)
	var t db.HeldToken
	var replaced bool
	var now time.Time
	load := func(tx *db.Tx) error {
		found, old, err := sessionOf(tx, hash)
		if err == nil {
			t, replaced, now = found, old, tx.Now
		}
		return err
	}
	if err := b.db.View(ctx, load); err != nil {
		if errors.Is(err, db.ErrNotFound) {
			err = invalid
		}
		return c, err
	}
	if t.Kind != db.TokenSession {
		return c, invalid
	}
	if err := usable(t, now); err != nil {
		return c, err
	}
	since := t.CreatedAt
	if t.Rotated != nil {
		since = *t.Rotated
	}
	switch {
	case replaced:
	case used && now.Sub(since) >= rotateAfter:
		salt := make([]byte, 32)
		rand.Read(salt)
		_, next, err := seal.NextToken(prefixSession, token, salt)
		if err != nil {
			return c, err
		}
		b.noteUse(ctx, t.ID, func(tx *db.Tx) error {
			if _, err := tx.RotateToken(t.ID, hash, next, salt); err != nil {
				return err
			}
			return load(tx) // a request at the same time may have been first
		})
	case used && (t.LastUsedAt == nil || now.Sub(*t.LastUsedAt) >= touchAfter):
		b.touch(ctx, t.ID)
	}
	c.Caller, c.Expires = callerOf(t), t.ExpiresAt
	if replaced {
		if t.Rotated == nil || now.Sub(*t.Rotated) > replacedGrace {
			return Continued{}, invalid
		}
		if c.Next, _, err = seal.NextToken(prefixSession, token, t.Salt); err != nil {
			return Continued{}, err
		}
	}
	return c, nil
}

// noteUse stores something about a token that is in use. Where that cannot be
// written the request goes on: it may be one that only reads.
func (b *Broker) noteUse(ctx context.Context, id latchkey.TokenID, f func(*db.Tx) error) {
	bounded, cancel := context.WithTimeout(ctx, touchWait)
	defer cancel()
	err := b.db.Update(bounded, f)
	if err != nil && ctx.Err() == nil {
		b.log.LogAttrs(ctx, slog.LevelError, "the use of a token was not noted", slog.String("token", string(id)), slog.Any("error", err))
	}
}

// Sessions lists the caller's sessions, the newest first.
func (b *Broker) Sessions(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.Session], err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		p, err = o.Sessions(who.ID, page)
		return err
	})
	for i := range p.Items {
		p.Items[i].Current = p.Items[i].ID == who.Token
	}
	return p, err
}

// EndOtherSessions ends every session of the caller but the one that asks, and
// the sign-in links that were not used. It returns how many.
func (b *Broker) EndOtherSessions(ctx context.Context, who latchkey.Caller) (n latchkey.EndedSessions, err error) {
	err = b.update(ctx, who, func(o *op) error {
		p, err := o.self()
		if err != nil {
			return err
		}
		ended, err := o.RevokeSignIns(who.ID, who.Token)
		if err != nil {
			return err
		}
		n.Ended = int(ended)
		return o.record(latchkey.ActSessionsEnd, thing{kind: latchkey.KindUser, id: string(p.ID), name: p.Name}, map[string]string{"ended": strconv.Itoa(n.Ended)})
	})
	return n, err
}

// SignIns lists how the caller was signed in, and how that was refused, as the
// audit log has it; the newest first.
func (b *Broker) SignIns(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.AuditEvent], err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		p, err = o.Audit(db.AuditFilter{Action: latchkey.ActSignIn, Subject: string(who.ID), Newest: true}, page)
		return err
	})
	return p, err
}
