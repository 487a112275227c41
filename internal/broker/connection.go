package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func connectionThing(env latchkey.EnvironmentID, c latchkey.Connection) thing {
	return thing{latchkey.KindConnection, env, string(c.ID), c.Name, latchkey.ActConnectionRead}
}

// connection returns a connection if the caller may do action on it.
func (o *op) connection(envRef string, id latchkey.ConnectionID, action latchkey.Action) (latchkey.Environment, latchkey.Connection, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return e, latchkey.Connection{}, err
	}
	access, err := o.seen(latchkey.KindConnection, e.ID, string(id), latchkey.ActConnectionRead)
	if err != nil {
		return e, latchkey.Connection{}, err
	}
	c, err := o.Connection(e.ID, id)
	if err != nil {
		return e, c, found(err, latchkey.KindConnection)
	}
	return e, c, o.decide(access, action, connectionThing(e.ID, c))
}

// Connection returns a connection.
func (b *Broker) Connection(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID) (c latchkey.Connection, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		e, found, err := o.connection(env, id, latchkey.ActConnectionRead)
		if err != nil {
			return err
		}
		c = found
		return o.describeConnections(e.ID, &c)
	})
	return c, err
}

// Connections lists the connections that the caller may see.
func (b *Broker) Connections(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Connection], err error) {
	if err := page.Validate(latchkey.SortOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActConnectionRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Connection], error) {
		p, err := o.Connections(id, visible, page)
		if err != nil {
			return p, err
		}
		return p, o.describeConnections(id, pointers(p.Items)...)
	})
}

// CreateConnection binds a credential that the caller may use to a machine, or a
// machine group, that the caller may use. The caller owns it. Of a group one machine
// must fit, if it has any; the others leave the connection's runs to those that do.
func (b *Broker) CreateConnection(ctx context.Context, who latchkey.Caller, env string, n latchkey.ConnectionCreate) (c latchkey.Connection, err error) {
	if err := n.Validate(); err != nil {
		return c, err
	}
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActConnectionCreate, environmentThing(e)); err != nil {
			return err
		}
		t, err := o.targetToUse(e.ID, n.Target)
		if err != nil {
			return err
		}
		credential, err := o.credentialIn(e.ID, n.Credential, latchkey.ActCredentialUse)
		if err != nil {
			return asField(err, "credential", "there is no such credential in this environment, or you may not see it")
		}
		if bad := hasUsage(credential, latchkey.UsageConnection); bad.code != "" {
			return latchkey.Invalid("credential", "%s; %s", bad.reason, bad.remedy)
		}
		if n.Driver == latchkey.DriverSSH && credential.Authentication != latchkey.AuthenticationPassword {
			return latchkey.Invalid("driver", "the driver ssh signs in with a password, and the credential has a certificate; use kerberos, or none with a flow that is handed the certificate")
		}
		if n.SSHServer, err = t.suits(n, credential); err != nil {
			return err
		}
		c = latchkey.Connection{
			ID: latchkey.ConnectionID(latchkey.NewID("conn", o.Now)), Name: n.Name, Target: n.Target, Driver: n.Driver, SSHServer: n.SSHServer,
			Credential: n.Credential, Owner: who.ID, CreatedAt: o.Now, UpdatedAt: o.Now,
		}
		made := connectionThing(e.ID, c)
		if err := o.CreateConnection(e.ID, c); err != nil {
			return taken(err, "you have a connection with this name in this environment already")
		}
		if err := o.SetGrant(e.ID, made.kind, made.id, who.ID, latchkey.RoleOwner, "", who.ID); err != nil {
			return err
		}
		details := t.details(map[string]string{"credential": string(credential.ID), "driver": string(c.Driver)})
		if c.SSHServer != "" {
			details["sshServer"] = c.SSHServer
		}
		return o.record(latchkey.ActConnectionCreate, made, details)
	})
	return c, err
}

// suitsMachine says why a new connection does not suit a machine, and returns its SSH
// server.
func suitsMachine(n latchkey.ConnectionCreate, c latchkey.Credential, m db.Machine) (string, error) {
	if bad := fitsOn(c, m); bad.code != "" {
		return "", latchkey.Invalid("credential", "%s; %s", bad.reason, bad.remedy)
	}
	if !slices.Contains(m.Policy.Drivers, n.Driver) {
		return "", latchkey.Invalid("driver", "the machine's policy does not allow this driver; %s", m.Policy.DriverRemedy(n.Driver))
	}
	if n.Driver == latchkey.DriverKerberos && m.Policy.Realm == "" {
		return "", latchkey.Invalid("driver", "the machine's configuration names no Kerberos realm; its administrator can add it with latchkey-agent kerberos add")
	}
	return sshServer(n, m)
}

// sshServer returns the SSH server of a new connection: the one that is named,
// or the machine's only one. It returns "" for another driver.
func sshServer(n latchkey.ConnectionCreate, m db.Machine) (string, error) {
	if n.Driver != latchkey.DriverSSH {
		return "", nil
	}
	servers := m.Policy.SSHServers
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.Name
	}
	switch {
	case len(servers) == 0:
		return "", latchkey.Invalid("sshServer", "the machine's configuration names no SSH server; %s", m.Policy.DriverRemedy(n.Driver))
	case n.SSHServer == "" && len(servers) == 1:
		return servers[0].Name, nil
	case n.SSHServer == "":
		return "", latchkey.Invalid("sshServer", "the machine's configuration names several; choose one of %s", strings.Join(names, ", "))
	case !slices.Contains(names, n.SSHServer):
		return "", latchkey.Invalid("sshServer", "the machine's configuration does not name it; it names %s", strings.Join(names, ", "))
	}
	return n.SSHServer, nil
}

// UpdateConnection changes what u sets.
func (b *Broker) UpdateConnection(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID, u latchkey.ConnectionUpdate) (c latchkey.Connection, err error) {
	if err := u.Validate(); err != nil {
		return c, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		if e, c, err = o.connection(env, id, latchkey.ActConnectionUpdate); err != nil {
			return err
		}
		set(&c.Name, u.Name)
		c.UpdatedAt = o.Now
		if err := o.RenameConnection(c); err != nil {
			return taken(err, "another connection of the same creator has this name")
		}
		return o.record(latchkey.ActConnectionUpdate, connectionThing(e.ID, c), nil)
	})
	return c, err
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func isNotFound(err error) bool { return errors.Is(err, latchkey.ErrNotFound) }

// asField turns "not found" into a fault of the request's field that named the
// thing.
func asField(err error, field, message string) error {
	if isNotFound(err) {
		return latchkey.Invalid(field, "%s", message)
	}
	return err
}
