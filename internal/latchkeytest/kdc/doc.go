// Package kdc runs real MIT Kerberos servers for tests, each with a realm, a
// database and a configuration of its own, on the loopback interface.
//
// It takes Debian's krb5-kdc, krb5-pkinit and krb5-user, and no root.
package kdc
