package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const (
	// maxUsedAssertions bounds the assertions of one service principal that are
	// remembered because they have not expired.
	maxUsedAssertions = 10_000
	// assertionBatch is how many that have expired go with each that comes.
	assertionBatch = 10

	// unknownClient is what failures are counted under of every client id that no
	// service principal has: anybody can make such ids up without end.
	unknownClient = "service-principal:unknown"
)

// A ServicePrincipalProof is how a service principal says who it is: by a secret
// or by an assertion, not both.
type ServicePrincipalProof struct {
	ClientID  string          // GUID, in either case, or id
	Secret    latchkey.Secret // one of its secrets
	Assertion string          // a JSON Web Token that a certificate's key signed (RFC 7523), or one of another issuer

	Audiences []string // that an assertion which a certificate's key signed may be for
	Again     bool     // such an assertion counts until it expires, and not once only
	Address   string   // network address that it came from, for the audit log
	RequestID string   // likewise
}

// AuthenticateServicePrincipal returns the service principal that a proof is of,
// and records that, with the reason when it does not count. The token of the
// caller is not set.
//
// Errors are ErrUnauthenticated with the codes client-unknown, secret-wrong,
// secret-expired, assertion-invalid, assertion-expired, assertion-audience and
// federated-mismatch, or ErrUnavailable with the code issuer-unavailable. A
// disabled or deleted service principal is answered as if it had no credentials. A
// request without either proof or with both is ErrInvalid.
//
// After some failures in a row those that follow are ErrDenied, code
// sign-in-throttled, until the time that it names, and are not recorded. A right
// proof counts meanwhile: secrets have 256 random bits, so that waiting protects the
// audit log and not them, and nobody who knows a client id can lock the program out.
// Client ids that nothing has wait together.
func (b *Broker) AuthenticateServicePrincipal(ctx context.Context, p ServicePrincipalProof) (latchkey.Caller, error) {
	return b.authenticateService(ctx, p, func(*op, db.Proof) error { return nil })
}

// SignInServicePrincipal returns an API token for a proof, valid for
// latchkey.ServicePrincipalTokenTTL. Errors are those of
// AuthenticateServicePrincipal.
func (b *Broker) SignInServicePrincipal(ctx context.Context, p ServicePrincipalProof) (t latchkey.NewToken, err error) {
	_, err = b.authenticateService(ctx, p, func(o *op, by db.Proof) error {
		value, hash := seal.NewToken(prefixAPI)
		t = latchkey.NewToken{Value: value, Token: latchkey.Token{
			ID: latchkey.TokenID(latchkey.NewID("tok", o.Now)), Name: "sign-in", Principal: o.who.ID,
			CreatedAt: o.Now, ExpiresAt: o.Now.Add(latchkey.ServicePrincipalTokenTTL).Truncate(time.Millisecond),
		}}
		o.who.Token = t.ID
		return o.CreateSession(t.Token, db.SignIn{Method: "service-principal", Address: p.Address, Proof: by.ID}, hash)
	})
	if err != nil {
		return latchkey.NewToken{}, err
	}
	return t, nil
}

// A serviceSignIn is one attempt of a service principal to sign in.
type serviceSignIn struct {
	ServicePrincipalProof
	account  db.ServiceAccount // zero when there is none
	failures string            // the login that failures are counted under, or ""
	retryAt  time.Time         // not zero when failures have to wait
	now      time.Time

	proven
	refusal *latchkey.Error
}

// authenticateService is AuthenticateServicePrincipal; then, which may be run
// several times, ends the transaction in which it succeeded, as the service
// principal.
func (b *Broker) authenticateService(ctx context.Context, p ServicePrincipalProof, then func(*op, db.Proof) error) (latchkey.Caller, error) {
	switch {
	case p.Secret.IsZero() && p.Assertion == "":
		return latchkey.Caller{}, latchkey.Invalid("secret", "must be given, or an assertion")
	case !p.Secret.IsZero() && p.Assertion != "":
		return latchkey.Caller{}, latchkey.Invalid("assertion", "must not be given beside a secret")
	}
	s := serviceSignIn{ServicePrincipalProof: p}
	if !latchkey.IsGUID(p.ClientID) && !latchkey.HasPrefix(strings.ToLower(p.ClientID), "sp") {
		// Nothing has it, and it may be a secret put in the wrong place.
		b.counts.SignInsDenied.Add(1)
		return latchkey.Caller{}, clientUnknown()
	}
	if err := b.db.View(ctx, s.load); err != nil {
		return latchkey.Caller{}, err
	}
	if err := b.verify(ctx, &s); err != nil {
		return latchkey.Caller{}, err
	}
	if s.refusal != nil && !s.retryAt.IsZero() {
		b.counts.SignInsDenied.Add(1)
		return latchkey.Caller{}, s.throttled()
	}
	// An attempt counts also when the client has not waited for the answer.
	ctx, cancel := afterwards(ctx)
	defer cancel()
	checked := s
	var who latchkey.Caller
	err := b.db.Update(ctx, func(tx *db.Tx) error {
		s = checked
		o := &op{tx, latchkey.Caller{Name: "nobody", Address: p.Address, RequestID: p.RequestID}}
		if err := s.end(o, then); err != nil {
			return err
		}
		who = o.who
		return nil
	})
	if err != nil {
		return latchkey.Caller{}, err
	}
	if s.refusal != nil {
		b.counts.SignInsDenied.Add(1)
		if !s.retryAt.IsZero() {
			return latchkey.Caller{}, s.throttled()
		}
		return latchkey.Caller{}, s.refusal
	}
	b.counts.SignIns.Add(1)
	return who, nil
}

// load finds the service principal, and whether failures have to wait.
func (s *serviceSignIn) load(tx *db.Tx) (err error) {
	s.now, s.failures = tx.Now, unknownClient
	if s.account, err = tx.ServiceAccount(s.ClientID); err == nil {
		s.failures = "sp:" + s.account.ClientID
	} else if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	return s.wait(tx)
}

// wait sets when the next failure counts, if that is not now.
func (s *serviceSignIn) wait(tx *db.Tx) error {
	s.retryAt = time.Time{}
	f, err := tx.SignInFailures(s.failures)
	if err == nil && tx.Now.Before(f.RetryAt) {
		s.retryAt = f.RetryAt
	}
	return err
}

// verify finds out whether the proof is right: s.refusal says why it is not.
func (b *Broker) verify(ctx context.Context, s *serviceSignIn) (err error) {
	account := s.account
	if account.Disabled {
		account.Proofs = nil
	}
	if !s.Secret.IsZero() {
		s.proven, s.refusal = bySecret(account, s.Secret, s.now)
	} else if a, err := parseAssertion(s.Assertion); err != nil {
		e, ok := errors.AsType[*latchkey.Error](err)
		if !ok {
			return err
		}
		s.refusal = e
	} else if a.own(account, s.ClientID) {
		s.proven, s.refusal = a.byCertificate(account, s.Audiences, s.now)
	} else if s.proven, s.refusal, err = b.byIssuer(ctx, a, account, s.retryAt.IsZero()); err != nil {
		return err
	}
	if account.ID == "" {
		s.refusal = clientUnknown()
	}
	return nil
}

// bySecret compares a secret with those of an account, with as many comparisons
// whichever it is.
func bySecret(account db.ServiceAccount, secret latchkey.Secret, now time.Time) (p proven, why *latchkey.Error) {
	hash := seal.HashToken(secret.Reveal())
	right := false
	for i := range latchkey.MaxServicePrincipalCredentials {
		of := db.Proof{Hash: make([]byte, len(hash))}
		if i < len(account.Proofs) && account.Proofs[i].Kind == latchkey.ProofSecret {
			of = account.Proofs[i]
		}
		if subtle.ConstantTimeCompare(of.Hash, hash) == 1 {
			p.proof, right = of, true
		}
	}
	switch {
	case !right:
		return p, refusedProof(latchkey.CodeSecretWrong, "check that it was copied whole, or make another", "the secret is none of this service principal's")
	case p.proof.ExpiresAt == nil || !p.proof.ExpiresAt.After(now):
		return p, refusedProof(latchkey.CodeSecretExpired, "make another", "the secret %q (%s) expired at %s", p.proof.Name, p.proof.ID, p.proof.ExpiresAt.Format(time.RFC3339))
	}
	return p, nil
}

func clientUnknown() *latchkey.Error {
	return refusedProof(latchkey.CodeClientUnknown, "check the client id and the address of the server", "there is no service principal with this client id")
}

// throttled returns the error about a proof that does not count while failures
// have to wait.
func (s *serviceSignIn) throttled() *latchkey.Error {
	if s.refusal.Code == latchkey.CodeIssuerUnavailable {
		return s.refusal
	}
	e := throttled(s.retryAt, false)
	e.Msg = "signing in with this client id has failed too often: " + e.Remedy
	if s.account.ID == "" {
		e.Remedy = "check the client id and the address of the server; " + e.Remedy
		e.Msg = "there is no service principal with this client id, and too many tried such ones: " + e.Remedy
	}
	return e
}

// end stores and records the outcome. The service principal may have changed
// while the proof was verified.
func (s *serviceSignIn) end(o *op, then func(*op, db.Proof) error) error {
	t := thing{kind: latchkey.KindServicePrincipal, id: string(s.account.ID), name: s.account.Name}
	if s.account.ID == "" {
		t.name = strings.ToLower(s.ClientID)
	}
	now := s.account
	if s.refusal == nil {
		var err error
		if now, err = o.ServiceAccount(string(s.account.ID)); err != nil {
			return err
		}
		if s.refusal, err = s.stillProven(o, now); err != nil {
			return err
		}
	}
	if s.refusal != nil {
		// Others may have failed since load: of many at once, not all are recorded.
		if err := s.wait(o.Tx); err != nil || !s.retryAt.IsZero() {
			return err
		}
		if err := o.countFailure(s.failures); err != nil {
			return err
		}
		e := o.event(latchkey.ActSignIn, t)
		e.Outcome, e.Code, e.Reason = latchkey.OutcomeDenied, s.refusal.Code, s.refusal.Msg
		if now.Disabled {
			e.Code, e.Reason = latchkey.CodeClientDisabled, "the service principal is disabled or deleted; it was answered: "+s.refusal.Msg
		}
		return o.Record(e)
	}
	if err := o.SetSignInFailures(s.failures, db.Failures{}); err != nil {
		return err
	}
	o.who.ID, o.who.Kind, o.who.Name = now.ID, now.Kind, now.Name
	if err := then(o, s.proof); err != nil {
		return err
	}
	return o.record(latchkey.ActSignIn, t, map[string]string{"by": string(s.proof.Kind), "credential": string(s.proof.ID)})
}

// stillProven uses the proof up and notes that, or returns why it does not count
// any more.
func (s *serviceSignIn) stillProven(o *op, now db.ServiceAccount) (*latchkey.Error, error) {
	gone := refusedProof(latchkey.CodeSecretWrong, "use another", "the secret is none of this service principal's")
	switch s.proof.Kind {
	case latchkey.ProofCertificate:
		gone = assertionInvalid("no certificate of this service principal is the one that the assertion's header names")
	case latchkey.ProofFederated:
		gone = refusedProof(latchkey.CodeFederatedMismatch, "use another", "no federated credential of this service principal names the issuer of the assertion")
	}
	if now.Disabled {
		return gone, nil
	}
	if s.once != nil && !s.Again {
		n, err := o.UsedAssertions(now.ID)
		if err != nil {
			return nil, err
		}
		if n >= maxUsedAssertions {
			return assertionInvalid("%d assertions of this service principal have not expired, and more are not remembered; let them end sooner", n), nil
		}
		fresh, err := o.UseAssertion(now.ID, s.once, s.until)
		if err != nil {
			return nil, err
		}
		if !fresh {
			return assertionInvalid("the assertion was used already: each works once"), nil
		}
		if err := o.PurgeAssertions(assertionBatch); err != nil {
			return nil, err
		}
	}
	err := o.ProofUsed(now.ID, s.proof.ID)
	if errors.Is(err, db.ErrNotFound) {
		return gone, nil
	}
	return nil, err
}
