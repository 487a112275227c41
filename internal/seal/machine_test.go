package seal

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func newMachine(t testing.TB) *MachineKeys {
	t.Helper()
	k, err := NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newServer(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, priv
}

func testPolicy() latchkey.Policy {
	return latchkey.Policy{
		Commands:  []string{"/usr/bin/env", "/opt/*"},
		Drivers:   []latchkey.Driver{latchkey.DriverNone},
		Handovers: []latchkey.Handover{latchkey.HandoverDescriptor, latchkey.HandoverFile},
		RunAs:     "robot",
		Realm:     "CORP.EXAMPLE",

		SSHServers: []latchkey.SSHServer{{Name: "erp", Commands: []string{"/opt/*"}}},
	}
}

func TestMachineKeysText(t *testing.T) {
	k := newMachine(t)
	text, err := k.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseMachineKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Sign.Equal(k.Sign) || !bytes.Equal(got.SealPublic(), k.SealPublic()) {
		t.Error("the keys changed on the way through text")
	}
	for _, bad := range []string{
		"", "\n", string(text) + "\n", " " + string(text), string(text[:len(text)-2]), machineKeysTag + " AAAA AAAA",
		strings.Repeat("x", 1000), strings.Replace(string(text), " ", "  ", 1), strings.Replace(string(text), "-1 ", "-2 ", 1),
	} {
		if _, err := ParseMachineKeys([]byte(bad)); err == nil {
			t.Errorf("ParseMachineKeys(%q): no error", bad)
		}
	}
	seed := strings.Fields(string(text))[1]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, k); got != "[machine keys]" || strings.Contains(got, seed) {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func enrolment(t *testing.T, k *MachineKeys) *latchkey.EnrolRequest {
	t.Helper()
	req := &latchkey.EnrolRequest{Token: "lke_x", Name: "robot-1", Environment: "prod", OS: "linux", Version: "1.0", SharedUID: true, Policy: testPolicy()}
	if err := SignEnrol(k, req); err != nil {
		t.Fatal(err)
	}
	return req
}

func TestEnrol(t *testing.T) {
	k := newMachine(t)
	req := enrolment(t, k)
	if !bytes.Equal(req.SignKey, k.SignPublic()) || !bytes.Equal(req.SealKey, k.SealPublic()) {
		t.Error("SignEnrol did not fill in the keys")
	}
	if err := VerifyEnrol(req); err != nil {
		t.Fatal(err)
	}
	tamper(t, *req, "", func(field string, changed latchkey.EnrolRequest) {
		if VerifyEnrol(&changed) == nil {
			t.Errorf("verifies with %s changed", field)
		}
	})

	// A point of low order: every secret agreed on with it would be zero.
	weak := clone(t, *req)
	weak.SealKey = make([]byte, 32)
	weak.Signature = ed25519.Sign(k.Sign, enrolTranscript(&weak))
	if err := VerifyEnrol(&weak); err == nil || !strings.Contains(err.Error(), "X25519") {
		t.Errorf("a weak sealing key: %v; want it refused", err)
	}
	if err := SignEnrol(&MachineKeys{}, &latchkey.EnrolRequest{}); err == nil {
		t.Error("SignEnrol without keys: no error")
	}
}

func TestEnrolResponse(t *testing.T) {
	req := enrolment(t, newMachine(t))
	pub, priv := newServer(t)
	resp := &latchkey.EnrolResponse{Machine: "mach_1", Name: "robot-1", Environment: "prod"}
	SignEnrolResponse(priv, req, resp)
	if err := VerifyEnrolResponse(pub, req, resp); err != nil {
		t.Fatal(err)
	}
	tamper(t, *resp, "", func(field string, changed latchkey.EnrolResponse) {
		if VerifyEnrolResponse(pub, req, &changed) == nil {
			t.Errorf("verifies with %s of the answer changed", field)
		}
	})
	tamper(t, *req, "Signature", func(field string, changed latchkey.EnrolRequest) {
		if VerifyEnrolResponse(pub, &changed, resp) == nil {
			t.Errorf("verifies with %s of the request changed", field)
		}
	})
	other, _ := newServer(t)
	for _, key := range []ed25519.PublicKey{nil, other, pub[:31]} {
		if VerifyEnrolResponse(key, req, resp) == nil {
			t.Errorf("verifies with the key %x", key)
		}
	}
}

func FuzzParseMachineKeys(f *testing.F) {
	text, _ := newMachine(f).MarshalText()
	f.Add(text)
	f.Add([]byte(machineKeysTag))
	f.Add([]byte(machineKeysTag + " " + strings.Repeat("0", 43) + "= " + strings.Repeat("0", 43) + "=")) // not clamped
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseMachineKeys(b)
		if err != nil {
			return
		}
		again, err := k.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		// The text may differ: RFC 9180, 7.1.2, clamps an X25519 key as it is written.
		same, err := ParseMachineKeys(again)
		if err != nil || !same.Sign.Equal(k.Sign) || !bytes.Equal(same.SealPublic(), k.SealPublic()) {
			t.Fatalf("keys are others when written and read again, or %v", err)
		}
	})
}
