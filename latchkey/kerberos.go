package latchkey

import (
	"errors"
	"regexp"
)

var realmRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// CheckRealm returns what is wrong with the name of a Kerberos realm.
func CheckRealm(realm string) error {
	if !realmRE.MatchString(realm) {
		return errors.New("must be the name of a Kerberos realm, such as CORP.EXAMPLE.COM")
	}
	return nil
}

// SignInRefused reports whether a run with a code of error ended since its target
// refused who signed in. That is counted.
func SignInRefused(code string) bool { return code == RunErrSignIn || code == RunErrCertificate }
