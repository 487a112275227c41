package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// An op is one operation of one caller inside its transaction.
type op struct {
	*db.Tx
	who latchkey.Caller
}

// A refusal is a denial on its way to the audit log: the transaction in which
// it was decided is undone, and event is recorded in one of its own.
type refusal struct {
	event latchkey.AuditEvent
	err   *latchkey.Error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// update runs an operation that changes something. A refusal is recorded before
// it is returned; if it cannot be recorded, that is the error.
func (b *Broker) update(ctx context.Context, who latchkey.Caller, f func(*op) error) error {
	err := b.db.Update(ctx, func(tx *db.Tx) error { return f(&op{tx, who}) })
	return b.recordRefusal(ctx, err)
}

// view runs an operation that only reads.
func (b *Broker) view(ctx context.Context, who latchkey.Caller, f func(*op) error) error {
	err := b.db.View(ctx, func(tx *db.Tx) error { return f(&op{tx, who}) })
	return b.recordRefusal(ctx, err)
}

// recordTimeout bounds what is still recorded when the client has gone away.
const recordTimeout = 10 * time.Second

// afterwards returns a context for what has to be recorded though the client
// may have gone away.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// recordRefusal records a refusal and returns the error for the caller.
func (b *Broker) recordRefusal(ctx context.Context, err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	b.counts.Denials.Add(1)
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := b.db.Update(ctx, func(tx *db.Tx) error { return tx.Record(r.event) }); err != nil {
		return fmt.Errorf("record denial %s: %w", r.err.Code, err)
	}
	return r.err
}

// serviceCaller is the service itself, as the actor of its background work.
var serviceCaller = latchkey.Caller{ID: latchkey.ServiceIdentity, Kind: latchkey.PrincipalService, Name: latchkey.ServiceIdentityName}

// A thing is what an operation acts on, as the permission table and the audit
// log see it.
type thing struct {
	kind latchkey.Kind
	env  latchkey.EnvironmentID
	id   string
	name string
	read latchkey.Action // the action that makes it visible
}

// allow returns nil if the caller may do action on t. If t is not visible to
// the caller it returns latchkey.ErrNotFound, else a refusal.
func (o *op) allow(action latchkey.Action, t thing) error {
	access, err := o.Access(o.who.ID, t.env, t.id)
	if err != nil {
		return err
	}
	return o.decide(access, action, t)
}

// decide is allow for a caller who holds access with regard to t.
func (o *op) decide(access latchkey.Access, action latchkey.Action, t thing) error {
	switch {
	case access.Can(action):
		return nil
	case t.read != "" && !access.Can(t.read):
		return latchkey.NotFound(t.kind)
	}
	return o.refuse(action, t, "not-authorized", need(action))
}

// refuse returns the denial of an action, to be recorded by update or view.
func (o *op) refuse(action latchkey.Action, t thing, code, remedy string) *refusal {
	return o.refuseWith(action, t, &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: code,
		Msg:      fmt.Sprintf("%s may not %s: %s", o.who.Name, phrase(action, t), remedy),
		Identity: string(o.who.ID), Check: string(action), Remedy: remedy,
	})
}

// refuseWith is refuse with an error of one's own.
func (o *op) refuseWith(action latchkey.Action, t thing, err *latchkey.Error) *refusal {
	e := o.event(action, t)
	e.Outcome, e.Code, e.Reason = latchkey.OutcomeDenied, err.Code, err.Msg
	return &refusal{e, err}
}

// record adds an entry for something done to the audit log.
func (o *op) record(action latchkey.Action, t thing, details map[string]string) error {
	e := o.event(action, t)
	e.Details = details
	return o.Record(e)
}

// event returns the audit entry of an action that succeeded.
func (o *op) event(action latchkey.Action, t thing) latchkey.AuditEvent {
	e := latchkey.AuditEvent{
		Environment: t.env, Action: action, Outcome: latchkey.OutcomeOK,
		Actor: o.who.ID, ActorKind: o.who.Kind, ActorName: o.who.Name,
		Token: o.who.Token, Address: o.who.Address, RequestID: o.who.RequestID,
		Subject: t.id, SubjectKind: t.kind, SubjectName: t.name,
	}
	switch t.kind {
	case latchkey.KindCredential:
		e.Credential = latchkey.CredentialID(t.id)
	case latchkey.KindMachine:
		e.Machine = latchkey.MachineID(t.id)
	case latchkey.KindRun:
		e.Run = latchkey.RunID(t.id)
	}
	return e
}

// phrases are the actions whose names make no sentence with a thing.
var phrases = map[latchkey.Action]string{
	latchkey.ActAuditRead:          "read the audit log of",
	latchkey.ActGroupMember:        "set the members of",
	latchkey.ActDirectoryRead:      "list the principals for",
	latchkey.ActAccessRead:         "ask about the access of others to",
	latchkey.ActAccessExplain:      "ask about the access of others to",
	latchkey.ActOwnedRead:          "list what others own in",
	latchkey.ActOwnedHandOver:      "hand over what others own in",
	latchkey.ActMachineToken:       "make enrolment tokens for",
	latchkey.ActMemberSet:          "set the members of",
	latchkey.ActReferenceCheck:     "check references in",
	latchkey.ActMachineGroupCreate: "create a machine group in",
	latchkey.ActMachineGroupMember: "add or remove machines of",
	latchkey.ActVariableOverride:   "override the check of",
	latchkey.ActVariableBind:       "make a credential of",
	latchkey.ActCredentialExpose:   "change the exposure of",
	latchkey.ActConnectionForce:    "test with force",
	latchkey.ActVaultAssign:        "assign roles in",
	latchkey.ActBindingRead:        "read the username bindings of",
	latchkey.ActBindingSet:         "set the username bindings of",
	latchkey.ActAccountSet:         "say what the directory has of",
	latchkey.ActAccountRemove:      "take back what the directory has of",
	latchkey.ActVaultRemove:        "remove roles in",
	latchkey.ActAzureTenantRead:    "list the Azure tenants of",
	latchkey.ActIdentityAdd:        "add an identity to",
	latchkey.ActIdentityRemove:     "remove an identity of",

	latchkey.ActServicePrincipalCreate: "create a service principal in",
	latchkey.ActPrincipalProofAdd:      "add a credential to",
	latchkey.ActPrincipalProofRemove:   "remove a credential of",

	latchkey.ActCertificateCreate: "create",
	latchkey.ActCertificateIssue:  "merge",
	latchkey.ActCertificateCancel: "cancel what is pending of",
	latchkey.ActIssuerGet:         "see the certificate issuers of",
	latchkey.ActIssuerSet:         "set certificate issuers of",
	latchkey.ActIssuerDelete:      "remove certificate issuers of",
	latchkey.ActContactsGet:       "see the certificate contacts of",
	latchkey.ActContactsSet:       "set the certificate contacts of",
	latchkey.ActContactsDelete:    "remove the certificate contacts of",
}

// phrase says what an action does with a thing.
func phrase(a latchkey.Action, t thing) string {
	if p, ok := phrases[a]; ok {
		return p + " " + describe(t)
	}
	noun, verb, _ := strings.Cut(string(a), ".")
	switch verb {
	case "create":
		return fmt.Sprintf("create a %s in %s", noun, describe(t))
	case "share.list":
		return "list the shares of " + describe(t)
	case "hand-over":
		return "hand over " + describe(t)
	case "take-over":
		return "take over " + describe(t)
	}
	return verb + " " + describe(t)
}

// describe names a thing in a sentence.
func describe(t thing) string {
	switch {
	case t.kind == latchkey.KindTenant:
		return "this installation"
	case t.name == "":
		return "this " + string(t.kind)
	}
	return fmt.Sprintf("the %s %q", t.kind, t.name)
}

// need says which roles permit an action.
func need(a latchkey.Action) string {
	p := latchkey.Permissions[a]
	var who []string
	if p.Role != latchkey.RoleNone {
		who = append(who, fmt.Sprintf("the role %s on it", p.Role))
	}
	for _, r := range p.Environment {
		who = append(who, fmt.Sprintf("the role %s in the environment", r))
	}
	if p.Tenant {
		who = append(who, "being a tenant admin")
	}
	return "it takes " + strings.Join(who, ", or ")
}

// environment returns the environment with an id or a name, if the caller may
// see it.
func (o *op) environment(ref string) (latchkey.Environment, error) {
	e, err := o.Environment(ref)
	if err != nil {
		return e, o.unseen(err, latchkey.KindEnvironment, "")
	}
	access, err := o.Access(o.who.ID, e.ID, "")
	if err != nil {
		return e, err
	}
	if !access.Can(latchkey.ActEnvironmentRead) {
		return e, latchkey.NotFound(latchkey.KindEnvironment)
	}
	e.MyRole = access.Highest()
	return e, nil
}

// What a caller may not see takes the same statements as what does not exist, so
// that nobody tells them apart by the time that an answer takes. seen and unseen
// are how: a thing that is named by its id is looked up only for who may see it,
// and for one that cannot be, since its id is not known before, the decision is
// asked for when there is none too.

// seen returns what the caller holds on a thing of an environment with an id, or
// latchkey.ErrNotFound if read, which makes things of its kind visible, is not
// allowed. There need be no such thing.
func (o *op) seen(kind latchkey.Kind, env latchkey.EnvironmentID, id string, read latchkey.Action) (latchkey.Access, error) {
	access, err := o.Access(o.who.ID, env, id)
	if err == nil && !access.Can(read) {
		err = latchkey.NotFound(kind)
	}
	return access, err
}

// unseen is found for what was looked up before it was decided about.
func (o *op) unseen(err error, kind latchkey.Kind, env latchkey.EnvironmentID) error {
	if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if _, err := o.Access(o.who.ID, env, ""); err != nil {
		return err
	}
	return latchkey.NotFound(kind)
}

// visible returns the filter of a list: what the caller may see of an
// environment's things. Who has no role there, but sees the environment as a tenant
// admin, sees none of them.
func (o *op) visible(env latchkey.EnvironmentID, read latchkey.Action) (db.Visible, error) {
	access, err := o.Access(o.who.ID, env, "")
	if len(access.Environment) == 0 {
		return db.Visible{}, err
	}
	return db.Visible{Who: o.who.ID, Everything: access.Can(read)}, err
}

// list returns a page of an environment's things: f lists those that the filter
// lets through.
func list[T any](ctx context.Context, b *Broker, who latchkey.Caller, env string, read latchkey.Action, f func(*op, latchkey.EnvironmentID, db.Visible) (latchkey.Page[T], error)) (p latchkey.Page[T], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		visible, err := o.visible(e.ID, read)
		if err != nil {
			return err
		}
		p, err = f(o, e.ID, visible)
		return err
	})
	return p, err
}

// found turns db.ErrNotFound into the error that callers see.
func found(err error, kind latchkey.Kind) error {
	if errors.Is(err, db.ErrNotFound) {
		return latchkey.NotFound(kind)
	}
	return err
}

// taken turns db.ErrExists into a conflict about a name.
func taken(err error, format string, args ...any) error {
	if errors.Is(err, db.ErrExists) {
		e := latchkey.Conflict("name-taken", format, args...)
		e.Fields = []latchkey.FieldError{{Field: "name", Message: "is taken; choose another"}}
		return e
	}
	return err
}
