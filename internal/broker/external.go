package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

const ceremonyExternal = "external"

// maxLogins bounds how many logins are tried for a new account.
const maxLogins = 50

// SealSignOn returns what signing in with a provider was begun with, for the browser
// to keep.
func (b *Broker) SealSignOn(begun signon.Begun) (ceremony string, err error) {
	return b.sealCeremony(ceremonyExternal, begun)
}

// OpenSignOn is the inverse of SealSignOn, for ten minutes. It returns
// ErrUnauthenticated, code ceremony-invalid, for what it has not sealed.
func (b *Broker) OpenSignOn(ceremony string) (begun signon.Begun, err error) {
	_, err = b.openCeremony(ceremonyExternal, ceremony, &begun)
	return begun, err
}

// SignInExternal returns a session for somebody who has signed in with a provider, by
// the ceremony, which counts once. The account is the one with the external identity;
// if there is none it is made, where the provider's settings say so, and else it is
// ErrDenied, code identity-unknown, which names the identity. Groups that are linked
// to the provider's have the person as a member or not, from then on, as it says.
func (b *Broker) SignInExternal(ctx context.Context, p signon.Person, ceremony string, from Visitor) (session latchkey.NewToken, err error) {
	used, err := b.openCeremony(ceremonyExternal, ceremony, &signon.Begun{})
	if err != nil {
		return session, err
	}
	var refused *latchkey.Error
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		refused = nil
		o := &op{tx, latchkey.Caller{Name: "nobody", Address: from.Address}}
		if err := used(tx); err != nil {
			return err
		}
		details := identityDetails(p.External)
		details["provider"] = p.Provider.ID
		known, err := tx.PrincipalOf(p.External)
		switch {
		case errors.Is(err, db.ErrNotFound) && p.Provider.CreateAccounts:
			if known, err = b.welcome(ctx, o, p); err != nil {
				return err
			}
		case errors.Is(err, db.ErrNotFound):
			refused = identityUnknown(p)
			return o.refusedSignIn(thing{kind: latchkey.KindUser, name: p.External.ObjectID}, refused, details)
		case err != nil:
			return err
		}
		u, err := tx.User(string(known.ID))
		if errors.Is(err, db.ErrNotFound) {
			refused = identityUnknown(p)
			return o.refusedSignIn(thing{kind: latchkey.KindUser, name: p.External.ObjectID}, refused, details)
		}
		if err != nil {
			return err
		}
		if u.Disabled {
			refused = accountDisabled()
			return o.refusedSignIn(userThing(u), refused, details)
		}
		session, err = b.begin(o, known, u.Login, from, "oidc:"+p.Provider.ID, details)
		if err != nil {
			return err
		}
		return o.follow(p, u)
	})
	return b.counted(session, refused, err)
}

// identityUnknown says that no account has an identity, and how one can have it.
func identityUnknown(p signon.Person) *latchkey.Error {
	e := p.External
	who := fmt.Sprintf("issuer %s, object id %s", e.Issuer, e.ObjectID)
	if e.Tenant != "" {
		who = fmt.Sprintf("issuer %s, tenant %s, object id %s", e.Issuer, e.Tenant, e.ObjectID)
	}
	const remedy = "ask a tenant admin to add this identity to your account"
	return &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: "identity-unknown", Identity: e.ObjectID, Check: string(latchkey.ActSignIn), Remedy: remedy,
		Msg: fmt.Sprintf("%s knows you, but no account here has your identity there (%s): %s", p.Provider.Name, who, remedy),
	}
}

// welcome makes the account of somebody who signs in for the first time.
func (b *Broker) welcome(ctx context.Context, o *op, p signon.Person) (db.Principal, error) {
	own := &op{o.Tx, serviceCaller}
	own.who.Address = o.who.Address
	base := loginOf(p.Login)
	c := latchkey.UserCreate{Login: base, DisplayName: strings.TrimSpace(p.Name)}
	if latchkey.CheckName(c.DisplayName) != nil {
		c.DisplayName = ""
	}
	free := false
	for n := 1; n <= maxLogins; n++ {
		if n > 1 {
			c.Login = fmt.Sprintf("%s-%d", base, n)
		}
		if _, err := o.Account(c.Login); errors.Is(err, db.ErrNotFound) {
			free = true
			break
		} else if err != nil {
			return db.Principal{}, err
		}
	}
	if !free {
		return db.Principal{}, latchkey.Conflict("name-taken", "no login like %q is free; a tenant admin can make the account by hand", base)
	}
	if err := c.Validate(); err != nil {
		return db.Principal{}, err
	}
	u, err := own.createUser(c, "")
	if err != nil {
		return db.Principal{}, err
	}
	if err := own.setIdentities(u, []latchkey.ExternalIdentity{p.External}); err != nil {
		return db.Principal{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Provider.Environments)) {
		role := p.Provider.Environments[name]
		e, err := o.Environment(name)
		if errors.Is(err, db.ErrNotFound) {
			b.log.LogAttrs(ctx, slog.LevelWarn, "an environment that new accounts get a role in does not exist", slog.String("environment", name), slog.String("provider", p.Provider.ID))
			continue
		}
		if err != nil {
			return db.Principal{}, err
		}
		if err := o.SetMember(e.ID, u.ID, role, own.who.ID); err != nil {
			return db.Principal{}, err
		}
		if err := own.record(latchkey.ActMemberSet, environmentThing(e), map[string]string{"principal": string(u.ID), "name": u.DisplayName, "role": string(role)}); err != nil {
			return db.Principal{}, err
		}
	}
	return o.Principal(string(u.ID))
}

// loginOf returns a login that is like what a provider calls somebody.
func loginOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+-", r) {
			return r
		}
		return -1
	}, strings.ToLower(s))
	const most = 90 // leaves room for a number
	s = strings.Trim(s[:min(len(s), most)], "._@+-")
	if (&latchkey.UserCreate{Login: s}).Validate() != nil {
		return "person"
	}
	return s
}

// follow has a user in the groups that are linked to those which the provider says,
// and in no other that is linked to one of its.
func (o *op) follow(p signon.Person, u latchkey.User) error {
	if p.Provider.GroupsClaim == "" {
		return nil
	}
	groups, in, err := o.LinkedGroups(p.Provider.Issuer, u.ID)
	if err != nil {
		return err
	}
	for _, g := range groups {
		want := slices.Contains(p.Groups, g.External.ID)
		if want == in[g.ID] {
			continue
		}
		switch {
		case !want:
			err = o.RemoveGroupMember(g.ID, u.ID)
		case g.Members >= latchkey.MaxGroupMembers:
			err = latchkey.Conflict("group-full", "the group %q has %d members, the most that one may have; a tenant admin has to make room", g.Name, g.Members)
		default:
			err = o.SetGroupMember(g.ID, u.ID)
		}
		if err != nil {
			return err
		}
		if err := o.record(latchkey.ActGroupMember, groupThing(g), map[string]string{
			"principal": string(u.ID), "name": u.DisplayName, "member": fmt.Sprint(want), "by": "oidc:" + p.Provider.ID,
		}); err != nil {
			return err
		}
	}
	return nil
}
