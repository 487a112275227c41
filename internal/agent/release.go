package agent

import (
	"context"
	"errors"
	"fmt"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// release asks for the values that the flow is to be handed.
func (t *task) release(ctx context.Context) (h handout, err error) {
	if t.run.Handover == latchkey.HandoverNone {
		return h, nil
	}
	if h.connection, err = t.releaseOne(ctx, t.run.Credential); err != nil {
		return h, err
	}
	for _, id := range t.run.Credentials {
		v, err := t.releaseOne(ctx, id)
		if err != nil {
			return h, err
		}
		h.others = append(h.others, v)
	}
	return h, h.check(t.run.Handover)
}

func (t *task) releaseOne(ctx context.Context, id latchkey.CredentialID) (n named, err error) {
	t.a.releasing.Lock()
	defer t.a.releasing.Unlock()
	var doubtful *client.MachineSession
	err = t.persist(ctx, latchkey.RunLease/2, func(s *client.MachineSession) error {
		if s == doubtful {
			// The request before may still arrive, after the next one: by then its
			// session must be over, or the server takes it for a copy of the machine.
			return errSessionOver
		}
		sealed, err := s.Release(ctx, t.run.Run, latchkey.ReleaseRequest{Claim: t.run.Claim, Credential: id})
		if unanswered(err) {
			doubtful = s
		}
		if err != nil {
			return err
		}
		if err := misfit(sealed, t.run, t.a.state.Machine, id); err != nil {
			return err
		}
		n.name, n.expires, n.now = sealed.Name, sealed.Expires, s.Now
		if n.CredentialValues, err = s.Open(sealed); err == nil && !n.PFX.IsZero() {
			n.pair, err = openPair(n.PFX)
		}
		return err
	})
	if unanswered(err) {
		t.a.sessions.forget(doubtful)
	}
	return n, err
}

// misfit returns why a release must not be handed to the flow of a run, or nil.
// The server has decided about the exposure; the agent, which does the handing
// over, does not rely on that.
func misfit(s *latchkey.Sealed, run *latchkey.ClaimedRun, machine latchkey.MachineID, id latchkey.CredentialID) error {
	switch {
	case s.Run != run.Run || s.Claim != run.Claim || s.Credential != id || s.Machine != machine:
		return errors.New("the server released something else than was asked for")
	case !s.Exposure.Allows(run.Handover):
		return fmt.Errorf("the owner of the credential %s does not allow the handover %s", s.Name, run.Handover)
	}
	return nil
}
