package seal

import (
	"errors"
	"fmt"
	"time"

	"latchkey.dev/latchkey"
)

// maxReleaseBox bounds what OpenRelease looks at: two values at their greatest,
// each byte escaped as JSON may.
const maxReleaseBox = 6*2*latchkey.MaxSecretBytes + 1024

// SealRelease seals v to the machine of the session into to.Box. Every other
// field of to must be set before: they are bound to the box, so that it opens
// for exactly this release, run, claim, credential, version and expiry.
func (s *Session) SealRelease(v latchkey.CredentialValues, to *latchkey.Sealed) error {
	if to.Suite != latchkey.AgentSuite {
		return fmt.Errorf("seal release: the suite must be %s", latchkey.AgentSuite)
	}
	if to.Release == "" {
		return errors.New("seal release: it has no id")
	}
	plaintext, err := v.EncodeForSealing()
	if err != nil {
		return errors.New("seal release: its values cannot be encoded")
	}
	defer clear(plaintext)
	to.Box = newGCM(s.releaseKey(to.Release)).Seal(nil, nil, plaintext, releaseTranscript(to))
	return nil
}

// OpenRelease returns the values that from carries. It refuses a release that
// has expired, was changed, or belongs to another session. That the release is
// the one the caller asked for is for the caller to compare.
func (s *Session) OpenRelease(from *latchkey.Sealed, now time.Time) (latchkey.CredentialValues, error) {
	switch {
	case from.Suite != latchkey.AgentSuite:
		return latchkey.CredentialValues{}, fmt.Errorf("the release is not sealed in the suite %s", latchkey.AgentSuite)
	case from.Release == "":
		return latchkey.CredentialValues{}, errors.New("the release has no id")
	case len(from.Box) > maxReleaseBox:
		return latchkey.CredentialValues{}, errors.New("the release is too large")
	case now.UnixMilli() >= from.Expires.UnixMilli():
		return latchkey.CredentialValues{}, errors.New("the release has expired")
	}
	plaintext, err := newGCM(s.releaseKey(from.Release)).Open(nil, nil, from.Box, releaseTranscript(from))
	if err != nil {
		return latchkey.CredentialValues{}, errors.New("the release does not open: it was changed, or sealed in another session")
	}
	defer clear(plaintext)
	v, err := latchkey.DecodeSealed(plaintext)
	if err != nil {
		return latchkey.CredentialValues{}, errors.New("the release does not hold a credential's values")
	}
	return v, nil
}

// releaseKey returns a key that only one release uses.
func (s *Session) releaseKey(id latchkey.ReleaseID) []byte {
	return derive(s.release, string(newTranscript("latchkey release key 1").text(string(id))))
}

func releaseTranscript(r *latchkey.Sealed) transcript {
	return newTranscript("latchkey release 1").
		text(r.Suite).
		text(string(r.Release)).
		text(string(r.Run)).
		text(string(r.Claim)).
		text(string(r.Machine)).
		text(string(r.Credential)).
		text(r.Name).
		text(r.Version).
		time(r.Expires).
		text(string(r.Exposure))
}
