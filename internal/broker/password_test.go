package broker

import (
	"context"
	"errors"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

// cheap keeps tests short where the cost is not the point.
var cheap = argon2Cost{memory: 64, time: 1, threads: 1}

// stored returns the text of a password's hash.
func stored(password string, cost argon2Cost) string {
	salt := []byte("0123456789abcdef")
	return storedPassword{cost, salt, cost.hash(latchkey.NewSecret(password), salt, hashBytes)}.String()
}

func TestHashPassword(t *testing.T) {
	password := latchkey.NewSecret("correct horse battery staple")
	a, b := hashPassword(password), hashPassword(password)
	if a == b {
		t.Error("two hashes of one password are equal; want a salt in each")
	}
	if want := "$argon2id$v=19$m=19456,t=2,p=1$"; !strings.HasPrefix(a, want) {
		t.Errorf("hash = %q; want it to begin with %q", a, want)
	}
	if right, outdated, err := checkPassword(a, password); !right || outdated || err != nil {
		t.Errorf("checkPassword = %t, %t, %v; want true, false, nil", right, outdated, err)
	}
}

func TestCheckPassword(t *testing.T) {
	// OpenSSL's hash of the password, not ours.
	const password = "correct horse"
	const good = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MjZP1+1U9JUbDWvDvtLyEsZiNXOKEUxfi6O2oe46uxA"
	tests := []struct {
		name            string
		stored          string
		password        string
		right, outdated bool
		damaged         bool
	}{
		{"right", good, password, true, true, false},
		{"wrong", good, "incorrect horse", false, true, false},
		{"empty", good, "", false, true, false},
		{"no password is right", "", "", false, false, false},
		{"no password is right either", "", password, false, false, false},
		{"other kind", strings.Replace(good, "argon2id", "argon2i", 1), password, false, false, true},
		{"other version", strings.Replace(good, "v=19", "v=16", 1), password, false, false, true},
		{"costly memory", strings.Replace(good, "m=64", "m=4194304", 1), password, false, false, true},
		{"costly time", strings.Replace(good, "t=1", "t=1000", 1), password, false, false, true},
		{"no threads", strings.Replace(good, "p=1", "p=0", 1), password, false, false, true},
		{"leading zero", strings.Replace(good, "t=1", "t=01", 1), password, false, false, true},
		{"cut", good[:len(good)-19], password, false, true, false},
		{"cut short", good[:len(good)-30], password, false, false, true},
		{"not base64", good[:len(good)-1] + "!", password, false, false, true},
		{"plain text", password, password, false, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			right, outdated, err := checkPassword(test.stored, latchkey.NewSecret(test.password))
			if test.damaged {
				if !errors.Is(err, errPasswordHash) {
					t.Errorf("error = %v; want %v", err, errPasswordHash)
				}
				return
			}
			if right != test.right || outdated != test.outdated || err != nil {
				t.Errorf("checkPassword = %t, %t, %v; want %t, %t, nil", right, outdated, err, test.right, test.outdated)
			}
		})
	}
}

func FuzzParsePassword(f *testing.F) {
	f.Add("")
	f.Add(stored("correct horse", cheap))
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$argon2id$v=19$m=19456,t=2,p=1,x=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePassword(s)
		if err != nil {
			return
		}
		if got := p.String(); got != s {
			t.Errorf("parsePassword(%q).String() = %q", s, got)
		}
		if p.cost.memory > 1<<20 || p.cost.time > 16 || p.cost.threads > 16 || p.cost.threads == 0 || p.cost.time == 0 {
			t.Errorf("parsePassword(%q) lets the cost %+v pass", s, p.cost)
		}
	})
}

// TestPasswordSlots fills the slots: one more waits, and gives up with its
// context.
func TestPasswordSlots(t *testing.T) {
	b := &Broker{passwords: make(chan struct{}, maxPasswordHashes)}
	var releases []func()
	for range maxPasswordHashes {
		release, err := b.passwordSlot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.newPassword(ctx, "correct horse"); !errors.Is(err, context.Canceled) {
		t.Errorf("newPassword without a slot = %v; want context.Canceled", err)
	}
	for _, release := range releases {
		release()
	}
	if _, err := b.newPassword(t.Context(), "correct horse"); err != nil {
		t.Error(err)
	}
	if n := len(b.passwords); n != 0 {
		t.Errorf("%d slots are still taken; want none", n)
	}
}
