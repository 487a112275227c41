//go:build linux

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// books are what was acknowledged besides runs and secrets. Only keepBooks and,
// when that has ended, the checks use them.
type books struct {
	n           int
	variables   map[string]string // name → value
	credentials map[latchkey.CredentialID]string
	deleted     map[latchkey.CredentialID]bool
	audit       map[latchkey.AuditID]latchkey.Action
	doubtful    string // name of the variable whose last change was not acknowledged
}

func (b *books) init() {
	b.variables, b.credentials, b.deleted = map[string]string{}, map[latchkey.CredentialID]string{}, map[latchkey.CredentialID]bool{}
	b.audit = map[latchkey.AuditID]latchkey.Action{}
}

const auditPeek = 20 // entries of the audit log that are remembered at a time

// keepBooks makes and changes things and reads the audit log until stop is
// closed.
func (w *world) keepBooks(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(100*time.Millisecond + rand.N(300*time.Millisecond)):
		}
		switch rand.IntN(8) {
		case 0, 1:
			w.createThings()
		case 2:
			w.deleteCredential()
		case 3, 4, 5:
			w.changeVariable()
		default:
			_ = w.try(func(ctx context.Context) error {
				n := 0
				for e, err := range w.anyServer().Audit(ctx, client.AuditFilter{Environment: envName}) {
					if err != nil {
						return err
					}
					w.books.audit[e.ID] = e.Action
					if n++; n == auditPeek {
						break
					}
				}
				return nil
			})
		}
	}
}

// createThings makes a variable and, if that was acknowledged, a credential.
func (w *world) createThings() {
	b := &w.books
	b.n++
	name := fmt.Sprintf("thing %d", b.n)
	text := "0"
	var v latchkey.Variable
	err := w.try(func(ctx context.Context) (err error) {
		v, err = w.anyServer().CreateVariable(ctx, envName, latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeText, Value: &text})
		return err
	})
	if err != nil {
		return
	}
	b.variables[v.Name] = text
	_ = w.try(func(ctx context.Context) error {
		c, err := w.anyServer().CreateCredential(ctx, envName, latchkey.CredentialCreate{
			Name: name, Usages: []latchkey.Usage{latchkey.UsageDesktopFlow},
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: v.Name, latchkey.SlotPassword: "new_other"},
		})
		if err == nil {
			b.credentials[c.ID] = name
		}
		return err
	})
}

// deleteCredential deletes one. When that is not acknowledged it may be there
// or not.
func (w *world) deleteCredential() {
	b := &w.books
	for id := range b.credentials { // a random one
		delete(b.credentials, id)
		err := w.try(func(ctx context.Context) error {
			return w.anyServer().DeleteCredential(ctx, envName, id, latchkey.Force{})
		})
		if err == nil {
			b.deleted[id] = true
		}
		return
	}
}

// changeVariable changes a variable. One change is repeated until it is
// acknowledged before another is made.
func (w *world) changeVariable() {
	b := &w.books
	if b.doubtful == "" {
		for name := range b.variables { // a random one
			b.doubtful = name
			b.n++
			b.variables[name] = fmt.Sprint(b.n)
			break
		}
	}
	if b.doubtful == "" {
		return
	}
	text := b.variables[b.doubtful]
	err := w.try(func(ctx context.Context) error {
		_, err := w.anyServer().UpdateVariable(ctx, envName, b.doubtful, latchkey.VariableUpdate{Value: &text})
		return err
	})
	if err == nil {
		b.doubtful = ""
	}
}

// checkBooks looks whether what was acknowledged is there.
func (w *world) checkBooks(events []latchkey.AuditEvent) {
	ctx, b := w.t.Context(), &w.books
	variables := map[string]latchkey.Variable{}
	for v, err := range w.api[0].Variables(ctx, envName, latchkey.TypeText) {
		w.must(err)
		variables[v.Name] = v
	}
	for name, want := range b.variables {
		v, ok := variables[name]
		got, _ := v.Effective()
		if !ok || got != want && name != b.doubtful {
			w.fault("the variable %s is there: %v, with %q; want %q, which was acknowledged", name, ok, got, want)
		}
	}
	credentials := map[latchkey.CredentialID]string{}
	for c, err := range w.api[0].Credentials(ctx, envName) {
		w.must(err)
		credentials[c.ID] = c.Name
	}
	for id, name := range b.credentials {
		if credentials[id] != name {
			w.fault("the credential %s %q was acknowledged and is %q", id, name, credentials[id])
		}
	}
	for id := range b.deleted {
		if name, ok := credentials[id]; ok {
			w.fault("the deletion of the credential %s %q was acknowledged, and it is there", id, name)
		}
	}
	there := make(map[latchkey.AuditID]latchkey.Action, len(events))
	created, deleted := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		there[e.ID] = e.Action
		if e.Action == latchkey.ActVariableCreate || e.Action == latchkey.ActCredentialCreate {
			created[e.Subject] = true
		}
		if e.Action == latchkey.ActCredentialDelete && e.Outcome == latchkey.OutcomeOK {
			deleted[e.Subject] = true
		}
	}
	for id, action := range b.audit {
		if there[id] != action {
			w.fault("the audit entry %s %s was read and is gone", id, action)
		}
	}
	for id := range b.deleted {
		if !deleted[string(id)] {
			w.fault("no audit entry of the deletion of %s", id)
		}
	}
	for id := range b.credentials {
		if !created[string(id)] {
			w.fault("no audit entry of the creation of %s", id)
		}
	}
	for name := range b.variables {
		if v := variables[name]; !created[string(v.ID)] {
			w.fault("no audit entry of the creation of %s", v.ID)
		}
	}
}
