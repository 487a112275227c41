package broker

import (
	"errors"
	"fmt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// refusals are how often in a row the target of a connection has refused a
// version of a secret.
type refusals struct {
	n       int
	version string
}

func signInTarget(c latchkey.Connection) db.SignInTarget {
	return db.SignInTarget{Credential: c.Credential, Machine: c.Target.Machine, SSHServer: c.SSHServer}
}

// refusalsAt returns the refusals of a connection's credential at its target; of
// another credential there are none.
func refusalsAt(tx *db.Tx, c latchkey.Connection, id latchkey.CredentialID) (r refusals, err error) {
	if c.Driver == latchkey.DriverNone || c.Credential != id {
		return r, nil
	}
	r.n, r.version, err = tx.Refusals(signInTarget(c))
	return r, err
}

// blocks returns an error if a version of the secret has been refused so often
// that another attempt might lock the account.
func (r refusals) blocks(version string) error {
	if r.n < latchkey.MaxRefusals || r.version != version {
		return nil
	}
	return &blockedError{r.n}
}

// codeRefusedBefore is the code of a release that fails since the target has
// refused the same secret repeatedly.
const codeRefusedBefore = "refused-before"

// A blockedError says that a secret is not tried again.
type blockedError struct{ n int }

func (e *blockedError) Error() string {
	return fmt.Sprintf("the target has refused this version of the secret %d times in a row; it is not tried again, since that might lock the account", e.n)
}

const blockedRemedy = "set the right password in the vault; or, when the account or the user name was put right, the connection's owner tests the connection with force"

// answer is what the agent is told.
func (e *blockedError) answer(g grant) error {
	return &latchkey.Error{
		Kind: latchkey.ErrConflict, Code: codeRefusedBefore, Msg: e.Error() + "; " + blockedRemedy,
		Identity: g.username, Check: "sign-in", Remedy: blockedRemedy,
	}
}

// failureCode is the code of a release that failed.
func failureCode(err error) string {
	if _, ok := errors.AsType[*blockedError](err); ok {
		return codeRefusedBefore
	}
	return "vault"
}

// refusedAtTarget reports whether a run ended because its target refused user
// name and password.
func refusedAtTarget(req latchkey.FinishRequest) bool {
	return req.Error != nil && req.Error.Code == latchkey.RunErrSignIn
}

// countSignIn notes what the end of a run says about the credential at the
// connection's target.
func (o *agentOp) countSignIn(r db.Run, req latchkey.FinishRequest) error {
	if !req.SignedIn && !refusedAtTarget(req) {
		return nil
	}
	c, err := o.Connection(r.Environment, r.Connection)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil || c.Driver == latchkey.DriverNone { // with that one there is nothing to sign in to
		return err
	}
	if req.SignedIn {
		if c.Refusals == 0 {
			return nil
		}
		return o.LimitRefusals(signInTarget(c), 0)
	}
	version, err := o.DeliveredVersion(r.ID, c.Credential)
	if errors.Is(err, db.ErrNotFound) {
		return nil // an agent that talks nonsense: without a release nothing was refused
	}
	if err != nil {
		return err
	}
	return o.AddRefusal(signInTarget(c), version)
}
