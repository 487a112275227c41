package seal

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)

func sessionMessages(k *MachineKeys) (*latchkey.SessionRequest, *latchkey.SessionResponse) {
	req := &latchkey.SessionRequest{
		Suite: latchkey.AgentSuite, Machine: "mach_1", Counter: 7, Nonce: bytes.Repeat([]byte{9}, 32), At: at,
		OS: "linux", Version: "1.0", SharedUID: true, Policy: testPolicy(),
	}
	SignSession(k, req)
	return req, &latchkey.SessionResponse{Suite: latchkey.AgentSuite, Session: "sess_1", At: at, ExpiresAt: at.Add(time.Hour)}
}

func TestHandshake(t *testing.T) {
	k := newMachine(t)
	pub, priv := newServer(t)
	req, resp := sessionMessages(k)
	secret, err := AcceptSession(priv, k.SignPublic(), k.SealPublic(), req, resp)
	if err != nil {
		t.Fatal(err)
	}
	got, err := FinishSession(k, pub, req, resp)
	if err != nil || !bytes.Equal(got, secret) || len(secret) != 32 {
		t.Fatalf("FinishSession = %x, %v; want the server's secret", got, err)
	}

	// As the messages really travel.
	wireReq, wireResp := clone(t, *req), clone(t, *resp)
	if got, err := FinishSession(k, pub, &wireReq, &wireResp); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("FinishSession after JSON: %v", err)
	}
	_, again := sessionMessages(k)
	if other, err := AcceptSession(priv, k.SignPublic(), k.SealPublic(), req, again); err != nil || bytes.Equal(other, secret) {
		t.Errorf("two sessions have the same secret, or %v", err)
	}
}

func TestHandshakeRefusesChanges(t *testing.T) {
	k := newMachine(t)
	pub, priv := newServer(t)
	req, resp := sessionMessages(k)
	if _, err := AcceptSession(priv, k.SignPublic(), k.SealPublic(), req, resp); err != nil {
		t.Fatal(err)
	}
	tamper(t, *req, "", func(field string, changed latchkey.SessionRequest) {
		_, fresh := sessionMessages(k)
		if _, err := AcceptSession(priv, k.SignPublic(), k.SealPublic(), &changed, fresh); err == nil {
			t.Errorf("the server accepts a request with %s changed", field)
		}
	})
	tamper(t, *req, "Signature", func(field string, changed latchkey.SessionRequest) {
		if _, err := FinishSession(k, pub, &changed, resp); err == nil {
			t.Errorf("the machine accepts an answer to a request with another %s", field)
		}
	})
	tamper(t, *resp, "", func(field string, changed latchkey.SessionResponse) {
		if _, err := FinishSession(k, pub, req, &changed); err == nil {
			t.Errorf("the machine accepts an answer with %s changed", field)
		}
	})
}

func TestHandshakeRefusesOtherKeys(t *testing.T) {
	k, other := newMachine(t), newMachine(t)
	pub, priv := newServer(t)
	otherPub, otherPriv := newServer(t)
	req, resp := sessionMessages(k)
	if _, err := AcceptSession(priv, other.SignPublic(), k.SealPublic(), req, resp); err == nil {
		t.Error("the server accepts another machine's signature")
	}
	if _, err := AcceptSession(priv, nil, k.SealPublic(), req, resp); err == nil {
		t.Error("the server accepts a machine without a key")
	}
	if _, err := AcceptSession(priv, k.SignPublic(), make([]byte, 32), req, resp); err == nil {
		t.Error("the server seals to a weak key")
	}
	secret, err := AcceptSession(priv, k.SignPublic(), k.SealPublic(), req, resp)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []ed25519.PublicKey{nil, otherPub} {
		if _, err := FinishSession(k, key, req, resp); err == nil {
			t.Error("the machine accepts another server")
		}
	}
	if got, err := FinishSession(other, pub, req, resp); err == nil && bytes.Equal(got, secret) {
		t.Error("another machine derives the secret")
	}

	// A server that passes on another's encapsulation as its own learns nothing,
	// and the two ends do not agree.
	relayed := clone(t, *resp)
	relayed.Signature = ed25519.Sign(otherPriv, sessionResponseTranscript(req, &relayed))
	if got, err := FinishSession(k, otherPub, req, &relayed); err == nil && bytes.Equal(got, secret) {
		t.Error("the secret does not depend on the server's identity")
	}
}

func TestMessageMACs(t *testing.T) {
	s := NewSession(bytes.Repeat([]byte{1}, 32))
	other := NewSession(bytes.Repeat([]byte{2}, 32))
	base := s.RequestMAC("POST", "/a", []byte("n"), []byte("b"))
	different := map[string][]byte{
		"method":   s.RequestMAC("GET", "/a", []byte("n"), []byte("b")),
		"path":     s.RequestMAC("POST", "/b", []byte("n"), []byte("b")),
		"nonce":    s.RequestMAC("POST", "/a", []byte("m"), []byte("b")),
		"body":     s.RequestMAC("POST", "/a", []byte("n"), []byte("c")),
		"boundary": s.RequestMAC("POST", "/a", []byte("nb"), nil),
		"session":  other.RequestMAC("POST", "/a", []byte("n"), []byte("b")),
		"answer":   s.ResponseMAC(base, 200, []byte("b")),
		"status":   s.ResponseMAC(base, 201, []byte("b")),
		"result":   s.ResponseMAC(base, 200, []byte("c")),
		"request":  s.ResponseMAC(s.RequestMAC("POST", "/b", nil, nil), 200, []byte("b")),
	}
	seen := map[string]string{string(base): "base"}
	for name, mac := range different {
		if before, ok := seen[string(mac)]; ok {
			t.Errorf("the MACs of %s and %s are the same", name, before)
		}
		seen[string(mac)] = name
	}
	same := NewSession(bytes.Repeat([]byte{1}, 32))
	if !bytes.Equal(base, same.RequestMAC("POST", "/a", []byte("n"), []byte("b"))) {
		t.Error("both sides compute different MACs")
	}
	if got := fmt.Sprintf("%+v %x", s, s); got != "[session keys] [session keys]" {
		t.Errorf("a session prints as %q", got)
	}
}

func release() latchkey.Sealed {
	return latchkey.Sealed{
		Suite: latchkey.AgentSuite, Release: "rel_1", Run: "run_1", Claim: "claim_1", Machine: "mach_1",
		Credential: "cred_1", Name: "ERP bot", Version: "v9", Expires: at.Add(time.Minute), Exposure: latchkey.ExposureDescriptor,
	}
}

func TestRelease(t *testing.T) {
	s := NewSession(bytes.Repeat([]byte{1}, 32))
	want := latchkey.CredentialValues{Username: `CONTOSO\bot`, Password: latchkey.NewSecret("pä\"ss\n")}
	sealed := release()
	if err := s.SealRelease(want, &sealed); err != nil {
		t.Fatal(err)
	}
	wire := clone(t, sealed)
	got, err := s.OpenRelease(&wire, at)
	if err != nil {
		t.Fatal(err)
	}
	if got.Username != want.Username || got.Password.Reveal() != want.Password.Reveal() {
		t.Error("the values changed on the way")
	}
	tamper(t, sealed, "", func(field string, changed latchkey.Sealed) {
		if _, err := s.OpenRelease(&changed, at); err == nil {
			t.Errorf("opens with %s changed", field)
		}
	})
	if _, err := NewSession(bytes.Repeat([]byte{2}, 32)).OpenRelease(&sealed, at); err == nil {
		t.Error("opens in another session")
	}
	for _, now := range []time.Time{sealed.Expires, sealed.Expires.Add(time.Hour)} {
		if _, err := s.OpenRelease(&sealed, now); err == nil {
			t.Errorf("opens at %v, after its expiry", now)
		}
	}
	for _, bad := range []latchkey.Sealed{{Release: "rel_1"}, {Suite: latchkey.AgentSuite}} {
		if err := s.SealRelease(want, &bad); err == nil {
			t.Errorf("SealRelease into %+v: no error", bad)
		}
	}
}

func TestReleaseOfTheGreatestValue(t *testing.T) {
	s := NewSession(bytes.Repeat([]byte{1}, 32))
	sealed := release()
	want := string(bytes.Repeat([]byte{1}, latchkey.MaxSecretBytes)) // each byte is six in JSON
	if err := s.SealRelease(latchkey.CredentialValues{Username: want, Password: latchkey.NewSecret(want)}, &sealed); err != nil {
		t.Fatal(err)
	}
	if got, err := s.OpenRelease(&sealed, at); err != nil || got.Password.Reveal() != want {
		t.Errorf("OpenRelease: %v", err)
	}
}

// Transcripts of different lists differ even when their texts run together.
func TestTranscript(t *testing.T) {
	a := list(list(newTranscript("x"), []string{"a", "b"}), []string{"c"})
	b := list(list(newTranscript("x"), []string{"a"}), []string{"b", "c"})
	if bytes.Equal(a, b) {
		t.Error("the items of two lists run together")
	}
}

func FuzzOpenRelease(f *testing.F) {
	s := NewSession(make([]byte, 32))
	sealed := release()
	if err := s.SealRelease(latchkey.CredentialValues{Username: "u", Password: latchkey.NewSecret("p")}, &sealed); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Box, string(sealed.Release), sealed.Name)
	f.Add([]byte{}, "", "")
	f.Fuzz(func(t *testing.T, box []byte, id, name string) {
		from := release()
		from.Release, from.Name, from.Box = latchkey.ReleaseID(id), name, box
		got, err := s.OpenRelease(&from, at)
		if err == nil && (id != "rel_1" || name != "ERP bot" || got.Username != "u" || got.Password.Reveal() != "p") {
			t.Fatal("a made-up release opened")
		}
	})
}
