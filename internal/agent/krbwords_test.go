package agent

import (
	"strings"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

// TestKinitWords translates what kinit says. The texts are those of MIT Kerberos
// 1.20; those that a test with a KDC brings about are in TestKerberos as well.
func TestKinitWords(t *testing.T) {
	k := &tickets{realm: &kerberosRealm{Realm: "CORP.EXAMPLE", Config: "/etc/krb5.conf"}}
	password := named{CredentialValues: latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret("wrong-one")}}
	cert := named{CredentialValues: latchkey.CredentialValues{Username: "bot", PFX: latchkey.NewSecret("file")}, pair: &pair{expired: func(time.Time) string { return "" }}}
	tests := []struct {
		who  named
		said string
		code string
		want string
	}{
		{password, "kinit: Password incorrect while getting initial credentials", latchkey.RunErrSignIn, "set the right password"},
		{password, "kinit: Preauthentication failed while getting initial credentials", latchkey.RunErrSignIn, "set the right password"},
		{password, "kinit: Client 'bot@CORP.EXAMPLE' not found in Kerberos database while getting initial credentials", latchkey.RunErrAccount, "no account for bot"},
		{password, "kinit: Client's credentials have been revoked while getting initial credentials", latchkey.RunErrAccount, "locked"},
		{password, "kinit: Client's entry in database has expired while getting initial credentials", latchkey.RunErrAccount, "expired"},
		{password, "Password expired.  You must change it now.\nkinit: Password has expired while getting initial credentials", latchkey.RunErrExpired, "set a new one"},
		{password, "kinit: Cannot contact any KDC for realm 'CORP.EXAMPLE' while getting initial credentials", latchkey.RunErrUnreachable, "/etc/krb5.conf"},
		{password, "kinit: Cannot find KDC for realm \"CORP.EXAMPLE\" while getting initial credentials", latchkey.RunErrUnreachable, "/etc/krb5.conf"},
		{password, "kinit: Clock skew too great while getting initial credentials", latchkey.RunErrKerberos, "clock"},
		{password, "kinit: Improper format of Kerberos configuration file while initializing Kerberos 5 library", latchkey.RunErrKerberos, "Improper format"},
		{password, "kinit: echo of wrong-one\x1b[2J", latchkey.RunErrKerberos, "echo of ***"},
		{cert, "kinit: Revoked certificate while getting initial credentials", latchkey.RunErrCertificate, "has been revoked"},
		{cert, "kinit: Client name mismatch while getting initial credentials", latchkey.RunErrCertificate, "it is not bot's"},
		{cert, "kinit: Client not trusted while getting initial credentials", latchkey.RunErrCertificate, "not trusted"},
		{cert, "kinit: Pre-authentication failed: Failed to verify own certificate (depth 0): unable to get local issuer certificate while getting initial credentials", latchkey.RunErrCertificate, "not trusted"},
		{cert, "kinit: Pre-authentication failed: Failed to verify own certificate (depth 1): certificate has expired while getting initial credentials", latchkey.RunErrCertificate, "outside its validity"},
		{cert, "kinit: Inconsistent key purpose while getting initial credentials", latchkey.RunErrCertificate, "smart card"},
		{cert, "kinit: Pre-authentication failed: Preauthentication failed while getting initial credentials", latchkey.RunErrCertificate, "krb5-pkinit"},
		{cert, "kinit: Pre-authentication failed: Failed to verify received certificate (depth 0): unable to get local issuer certificate while getting initial credentials", latchkey.RunErrKerberos, "did not prove itself"},
		{cert, "kinit: Client's credentials have been revoked while getting initial credentials", latchkey.RunErrAccount, "locked"},
		{cert, "", latchkey.RunErrKerberos, "by certificate"},
	}
	for _, tt := range tests {
		err := k.refused(tt.who, tt.said)
		if codeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%q is %s: %v; want %s, %q", tt.said, codeOf(err), err, tt.code, tt.want)
		}
	}
}
