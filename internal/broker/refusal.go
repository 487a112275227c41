package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey.dev/internal/certauth"
	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// forceEvery is how often a refused version may be tried once more: accounts
// that are locked for a while are mostly open again after less.
const forceEvery = time.Hour

// signInTarget returns where the connection's credential is used to sign in, or
// nil: another one is for the flow.
func signInTarget(c latchkey.Connection, id latchkey.CredentialID) *db.SignInTarget {
	if c.Driver == latchkey.DriverNone || c.Credential != id {
		return nil
	}
	return &db.SignInTarget{Credential: c.Credential, Place: cmp.Or(string(c.Target.Machine), string(c.Target.MachineGroup)), SSHServer: c.SSHServer}
}

// beginSignIn records how a release ends that is for a sign-in: it is delivered
// if the sign-in may be tried. Both are decided in one transaction, so that of
// runs at the same time no more try than may.
func (b *Broker) beginSignIn(ctx context.Context, g grant, address, version string) (failure, err error) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	err = b.db.Update(ctx, func(tx *db.Tx) (err error) {
		if failure, err = blockSignIn(tx, g, version); err != nil {
			return err
		}
		if failure == nil {
			if err := tx.BeginSignIn(g.run.ID, db.SignInTry{Target: *g.target, Version: version}); err != nil {
				return err
			}
		}
		return tx.Record(g.outcome(address, version, failure))
	})
	return failure, err
}

// blockSignIn returns a *blockedError if another attempt with a version of the
// secret might lock the account. Attempts under way count like refused ones, since
// they may become that.
func blockSignIn(tx *db.Tx, g grant, version string) (blocked, err error) {
	run, err := tx.Run(g.run.ID)
	if err != nil {
		return nil, err
	}
	if run.State != latchkey.RunRunning || run.Claim != g.run.Claim {
		return &blockedError{"claim-lost", "the run has ended meanwhile"}, nil
	}
	if own, err := tx.SignInTry(run.ID); err == nil && own.Version == version {
		return nil, nil // its answer was lost; it counts as an attempt already
	} else if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	r, err := tx.Refusals(*g.target)
	if err != nil {
		return nil, err
	}
	if r.Version != version {
		r = db.Refusals{}
	}
	others, err := tx.OtherSignIns(*g.target, run.ID)
	if err != nil {
		return nil, err
	}
	forced := r.ForcedAt != nil && tx.Now.Sub(*r.ForcedAt) < forceEvery
	switch {
	case r.N+others < latchkey.MaxRefusals:
		return nil, nil
	case r.N >= latchkey.MaxRefusals && (!run.Forced || forced):
		e := &blockedError{codeRefusedBefore, fmt.Sprintf("the target has refused this version of the secret %d times in a row; it is not tried again, since that might lock the account", r.N)}
		if run.Forced {
			e.msg += ", and a test with force has tried it within the hour"
		}
		return e, nil
	case others > 0:
		return &blockedError{
			latchkey.RunErrPending, fmt.Sprintf("other runs are signing in at the target with the same credential, %d at present; if all of them were refused, one more might lock the account", others),
		}, nil
	}
	return nil, tx.NoteForced(*g.target)
}

// codeRefusedBefore is the code of a release that fails since the target has
// refused the same secret repeatedly.
const codeRefusedBefore = "refused-before"

// A blockedError says why a secret is not tried now.
type blockedError struct{ code, msg string }

func (e *blockedError) Error() string { return e.msg }

// blockedRemedies are what to do, by code.
var blockedRemedies = map[string]string{
	codeRefusedBefore: "set the right password or certificate in the vault; or, when the account or the user name was put right, the connection's owner tests the connection with force, once an hour",

	latchkey.RunErrPending: "start it again when they have signed in",
}

// answer is what the agent is told.
func (e *blockedError) answer(g grant) error {
	msg, remedy := e.msg, blockedRemedies[e.code]
	if remedy != "" {
		msg += "; " + remedy
	}
	return &latchkey.Error{Kind: latchkey.ErrConflict, Code: e.code, Msg: msg, Identity: g.username, Check: "sign-in", Remedy: remedy}
}

// failureCode is the code of a release that failed.
func failureCode(err error) string {
	if blocked, ok := errors.AsType[*blockedError](err); ok {
		return blocked.code
	}
	if _, ok := errors.AsType[*certauth.Error](err); ok {
		return codeUnusable
	}
	return "vault"
}

// refusedAtTarget reports whether a run ended because its target refused user
// name and password or certificate.
func refusedAtTarget(req latchkey.FinishRequest) bool {
	return req.Error != nil && latchkey.SignInRefused(req.Error.Code)
}

// endSignIn notes how the sign-in of a run went, if it is under way: what an agent
// says again, or of a secret that it was not given, counts for nothing.
func (o *agentOp) endSignIn(run latchkey.RunID, signedIn, refused bool) error {
	t, err := o.SignInTry(run)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case signedIn:
		err = o.ForgetRefusals(t)
	case refused:
		err = o.AddRefusal(t.Target, t.Version)
	}
	if err != nil {
		return err
	}
	return o.EndSignIn(run)
}
