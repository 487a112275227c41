package seal

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
)

func TestNewToken(t *testing.T) {
	token, hash := NewToken("lkt")
	if !strings.HasPrefix(token, "lkt_") || len(token) != len("lkt_")+43 {
		t.Errorf("NewToken = %q", token)
	}
	if !bytes.Equal(hash, HashToken(token)) || len(hash) != 32 {
		t.Errorf("hash of the new token is not HashToken of it")
	}
	if other, _ := NewToken("lkt"); other == token {
		t.Error("two tokens are the same")
	}
}

func TestEnrolmentToken(t *testing.T) {
	pub, _, _ := ed25519.GenerateKey(nil)
	token, proof, hash := EnrolmentToken(pub)
	gotProof, gotKey, err := ParseEnrolmentToken(token)
	if err != nil || gotProof != proof || !gotKey.Equal(pub) {
		t.Fatalf("ParseEnrolmentToken = %q, %v, %v; want %q, %v", gotProof, gotKey, err, proof, pub)
	}
	if !bytes.Equal(hash, HashToken(proof)) {
		t.Error("the hash is not of the proof")
	}
	tests := []string{
		"", ".", "lke_", "lke_.", proof, token + "A", token[1:], token[:len(token)-1], "lkt" + token[3:],
		token + ".x", " " + token, token + "\n", token[:10] + "\n" + token[11:], strings.Repeat(token, 1000),
	}
	for _, bad := range tests {
		_, _, err := ParseEnrolmentToken(bad)
		if err == nil {
			t.Errorf("ParseEnrolmentToken(%.80q): no error", bad)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[5:15]) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}

func FuzzParseEnrolmentToken(f *testing.F) {
	token, _, _ := EnrolmentToken(make([]byte, 32))
	f.Add(token)
	f.Add("lke_.")
	f.Fuzz(func(t *testing.T, token string) {
		proof, key, err := ParseEnrolmentToken(token)
		if err == nil && proof+"."+tokenEncoding.EncodeToString(key) != token {
			t.Fatalf("%q is not the one form of what it parses as", token)
		}
	})
}
