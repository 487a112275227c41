package broker

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// prefixClientSecret is what secrets of service principals begin with.
const prefixClientSecret = "lkc"

func servicePrincipalThing(p latchkey.ServicePrincipal) thing {
	return thing{latchkey.KindServicePrincipal, "", string(p.ID), p.DisplayName, latchkey.ActServicePrincipalRead}
}

// servicePrincipal returns the service principal with an id or a client id, if the
// caller may see it: one sees itself.
func (o *op) servicePrincipal(ref string) (latchkey.ServicePrincipal, error) {
	access, err := o.Access(o.who.ID, "", "")
	if err != nil {
		return latchkey.ServicePrincipal{}, err
	}
	if !access.Can(latchkey.ActServicePrincipalRead) {
		// See op.seen: no other is looked up.
		me, err := o.ServicePrincipal(string(o.who.ID))
		if err == nil && !strings.EqualFold(ref, string(me.ID)) && !strings.EqualFold(ref, me.ClientID) {
			err = db.ErrNotFound
		}
		return me, found(err, latchkey.KindServicePrincipal)
	}
	p, err := o.ServicePrincipal(ref)
	return p, found(err, latchkey.KindServicePrincipal)
}

// editableServicePrincipal is servicePrincipal for who may also do action on it.
func (o *op) editableServicePrincipal(ref string, action latchkey.Action) (latchkey.ServicePrincipal, error) {
	p, err := o.servicePrincipal(ref)
	if err != nil {
		return p, err
	}
	t := servicePrincipalThing(p)
	if p.ID == o.who.ID {
		t.read = "" // one sees itself: what is not allowed is refused
	}
	return p, o.allow(action, t)
}

// ServicePrincipal returns the service principal with an id or a client id. Who is
// no tenant admin sees only itself.
func (b *Broker) ServicePrincipal(ctx context.Context, who latchkey.Caller, ref string) (p latchkey.ServicePrincipal, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		p, err = o.servicePrincipal(ref)
		return err
	})
	if err != nil {
		return latchkey.ServicePrincipal{}, err
	}
	return p, nil
}

// ServicePrincipals lists the service principals that the caller may see, by
// display name. The service's own is none of them.
func (b *Broker) ServicePrincipals(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.ServicePrincipal], err error) {
	if err := page.Validate(); err != nil {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		only := who.ID
		if access.Can(latchkey.ActServicePrincipalRead) {
			only = ""
		}
		p, err = o.ServicePrincipals(only, page)
		return err
	})
	return p, err
}

// CreateServicePrincipal makes a service principal. It cannot sign in before it
// has a credential.
func (b *Broker) CreateServicePrincipal(ctx context.Context, who latchkey.Caller, c latchkey.ServicePrincipalCreate) (p latchkey.ServicePrincipal, err error) {
	if err := c.Validate(); err != nil {
		return p, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActServicePrincipalCreate, tenantThing); err != nil {
			return err
		}
		p = latchkey.ServicePrincipal{
			ID: latchkey.PrincipalID(latchkey.NewID("sp", o.Now)), ClientID: latchkey.NewGUID(), DisplayName: c.DisplayName, Description: c.Description,
			Credentials: []latchkey.ServicePrincipalCredential{}, CreatedAt: o.Now, UpdatedAt: o.Now,
		}
		if err := o.CreateServicePrincipal(p); err != nil {
			return serviceNameTaken(err)
		}
		return o.record(latchkey.ActServicePrincipalCreate, servicePrincipalThing(p), map[string]string{"clientId": p.ClientID})
	})
	if err != nil {
		return latchkey.ServicePrincipal{}, err
	}
	return p, nil
}

func serviceNameTaken(err error) error {
	if !errors.Is(err, db.ErrExists) {
		return err
	}
	e := latchkey.Conflict("name-taken", "there is a service principal with this display name already")
	e.Fields = []latchkey.FieldError{{Field: "displayName", Message: "is taken; choose another"}}
	return e
}

// UpdateServicePrincipal changes what u sets. A disabled one can do nothing from
// then on, and gets nothing for the runs that it owns or has started.
func (b *Broker) UpdateServicePrincipal(ctx context.Context, who latchkey.Caller, ref string, u latchkey.ServicePrincipalUpdate) (p latchkey.ServicePrincipal, err error) {
	if err := u.Validate(); err != nil {
		return p, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		if p, err = o.editableServicePrincipal(ref, latchkey.ActServicePrincipalUpdate); err != nil {
			return err
		}
		details := map[string]string{}
		change := func() error { return o.UpdateServicePrincipal(p) }
		if u.DisplayName != nil && *u.DisplayName != p.DisplayName {
			p.DisplayName = *u.DisplayName
			details["displayName"] = p.DisplayName
		}
		if u.Description != nil && *u.Description != p.Description {
			p.Description = *u.Description
			details["description"] = "changed"
		}
		if u.Disabled != nil && *u.Disabled != p.Disabled {
			p.Disabled = *u.Disabled
			details["disabled"] = strconv.FormatBool(p.Disabled)
			if p.Disabled {
				store := change
				change = func() error { return o.disabling(u.Force, details, store) }
			}
		}
		p.UpdatedAt = o.Now
		if err := change(); err != nil {
			return serviceNameTaken(err)
		}
		return o.record(latchkey.ActServicePrincipalUpdate, servicePrincipalThing(p), details)
	})
	if err != nil {
		return latchkey.ServicePrincipal{}, err
	}
	return p, nil
}

// DeleteServicePrincipal deletes a service principal: what it holds counts no more
// from then on, and its client id is never anybody else's. What it owns has to be
// handed over first, since everything has an owner, and an environment keeps an
// admin; to stop it at once it is disabled.
func (b *Broker) DeleteServicePrincipal(ctx context.Context, who latchkey.Caller, ref string) error {
	return b.update(ctx, who, func(o *op) error {
		p, err := o.editableServicePrincipal(ref, latchkey.ActServicePrincipalDelete)
		if err != nil {
			return err
		}
		owns, err := o.OwnsIn(p.ID)
		if err != nil {
			return err
		}
		if len(owns) > 0 {
			return latchkey.Conflict("owner", "%s owns something in %s; an admin there hands it over first (environment member hand-over). To stop it at once, disable it", p.DisplayName, environments(owns))
		}
		if err := o.keepAdmins(func() error { return o.DeleteServicePrincipal(p.ID) }); err != nil {
			return err
		}
		return o.record(latchkey.ActServicePrincipalDelete, servicePrincipalThing(p), map[string]string{"clientId": p.ClientID})
	})
}

// AddServicePrincipalCredential gives a service principal another way to prove
// itself. A secret is returned here and never again.
func (b *Broker) AddServicePrincipalCredential(ctx context.Context, who latchkey.Caller, ref string, c latchkey.ServicePrincipalCredentialCreate) (n latchkey.NewServicePrincipalCredential, err error) {
	if err := c.Validate(); err != nil {
		return n, err
	}
	var der []byte
	if c.Kind == latchkey.ProofCertificate {
		cert, err := latchkey.ParseClientCertificate(c.Certificate)
		if err != nil {
			return n, latchkey.Invalid("certificate", "%v", err)
		}
		der = cert.Raw
	}
	err = b.update(ctx, who, func(o *op) error {
		p, err := o.editableServicePrincipal(ref, latchkey.ActPrincipalProofAdd)
		if err != nil {
			return err
		}
		if len(p.Credentials) >= latchkey.MaxServicePrincipalCredentials {
			return latchkey.Conflict("too-many", "the service principal has %d credentials, and more are not kept; remove one first", len(p.Credentials))
		}
		n, err = o.addProof(p, c, der)
		return err
	})
	if err != nil {
		return latchkey.NewServicePrincipalCredential{}, err
	}
	return n, nil
}

// addProof stores and records a new credential; der is a certificate.
func (o *op) addProof(p latchkey.ServicePrincipal, c latchkey.ServicePrincipalCredentialCreate, der []byte) (n latchkey.NewServicePrincipalCredential, err error) {
	proof := db.Proof{ServicePrincipalCredential: latchkey.ServicePrincipalCredential{
		ID: latchkey.ServicePrincipalCredentialID(latchkey.NewID("spc", o.Now)), Kind: c.Kind, Name: c.Name, CreatedAt: o.Now,
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience,
	}}
	details := map[string]string{"credential": string(proof.ID), "kind": string(c.Kind), "name": c.Name}
	switch c.Kind {
	case latchkey.ProofSecret:
		n.Secret, proof.Hash = seal.NewToken(prefixClientSecret)
		end := o.Now.Add(time.Duration(c.ExpiresIn)).Truncate(time.Millisecond)
		proof.ExpiresAt = &end
	case latchkey.ProofCertificate:
		proof.Certificate = bytes.Clone(der)
		if err := proof.DescribeCertificate(der); err != nil {
			return n, err
		}
		if !proof.ExpiresAt.After(o.Now) {
			return n, latchkey.Invalid("certificate", "expired at %s; give one that counts", proof.ExpiresAt.Format(time.RFC3339))
		}
		details["thumbprint"] = proof.Thumbprint
	case latchkey.ProofFederated:
		details["issuer"], details["subject"], details["audience"] = c.Issuer, c.Subject, c.Audience
	}
	if proof.ExpiresAt != nil {
		details["expiresAt"] = proof.ExpiresAt.Format(time.RFC3339)
	}
	for _, other := range p.Credentials {
		same := c.Kind == latchkey.ProofCertificate && other.ThumbprintSHA256 == proof.ThumbprintSHA256 ||
			c.Kind == latchkey.ProofFederated && other.Issuer == c.Issuer && other.Subject == c.Subject && other.Audience == c.Audience
		if same && other.Kind == c.Kind {
			return n, latchkey.Conflict("exists", "the service principal has this credential already: %s", other.ID)
		}
	}
	n.ServicePrincipalCredential = proof.ServicePrincipalCredential
	if err := o.AddProof(p.ID, proof); err != nil {
		return n, err
	}
	return n, o.record(latchkey.ActPrincipalProofAdd, servicePrincipalThing(p), details)
}

// RemoveServicePrincipalCredential takes a credential of a service principal away,
// and ends the API tokens that it signed in for with it.
func (b *Broker) RemoveServicePrincipalCredential(ctx context.Context, who latchkey.Caller, ref string, id latchkey.ServicePrincipalCredentialID) error {
	return b.update(ctx, who, func(o *op) error {
		p, err := o.editableServicePrincipal(ref, latchkey.ActPrincipalProofRemove)
		if err != nil {
			return err
		}
		if err := o.RemoveProof(p.ID, id); err != nil {
			return found(err, latchkey.KindPrincipalProof)
		}
		ended, err := o.RevokeSignInsBy(p.ID, id)
		if err != nil {
			return err
		}
		details := map[string]string{"credential": string(id), "endedSessions": strconv.FormatInt(ended, 10)}
		for _, c := range p.Credentials {
			if c.ID == id {
				details["kind"], details["name"] = string(c.Kind), c.Name
			}
		}
		return o.record(latchkey.ActPrincipalProofRemove, servicePrincipalThing(p), details)
	})
}
