package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"latchkey.dev/internal/latchkeytest/sshd"
)

// TestSSHScript signs in over SSH by hand, as the guide tells it, on a real
// server.
func TestSSHScript(t *testing.T) {
	const password = "Tr0ub4dor&3-canary-of-ssh"
	server := sshd.New(t, sshd.Options{Users: []sshd.User{{Name: `CONTOSO\bot`, Password: password}}})
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(server.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	p := scripts(testscript.Params{Dir: "testdata/ssh"})
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("SSH_ADDRESS", server.Address)
		e.Setenv("SSH_FINGERPRINT", ssh.FingerprintSHA256(key))
		e.Setenv("SSH_PASSWORD", password)
		return setup(e)
	}
	testscript.Run(t, p)
}
