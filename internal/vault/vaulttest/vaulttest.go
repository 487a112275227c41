// Package vaulttest is the contract of package vault, as tests.
package vaulttest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// A Harness is a vault under test, with an empty store behind it and the means
// to change that store. Functions that the kind of store has no notion of are
// nil: their tests are skipped.
type Harness struct {
	Vault vault.Vault

	// Set stores a new version and returns its name. Of v it uses Value,
	// ContentType, NotBefore and Expires.
	Set func(t testing.TB, name string, v vault.Value) (version string)

	Disable func(t testing.TB, name string) // disables the newest version
	Delete  func(t testing.TB, name string) // deletes the secret
	Revoke  func(t testing.TB)              // takes away the reader's right to read
	Break   func(t testing.TB)              // makes the store answer nothing useful
}

// Run tests that a kind of vault keeps the contract. New is called once for
// each test.
func Run(t *testing.T, New func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Get", testGet},
		{"NewestVersion", testNewest},
		{"Values", testValues},
		{"Validity", testValidity},
		{"NotFound", testNotFound},
		{"BadName", testBadName},
		{"Disabled", testDisabled},
		{"Deleted", testDeleted},
		{"Denied", testDenied},
		{"Unavailable", testUnavailable},
		{"Cancelled", testCancelled},
		{"Concurrent", testConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, New(t)) })
	}
}

const canary = "vaulttest-canary-7f3a"

func text(s string) vault.Value { return vault.Value{Value: latchkey.NewSecret(s)} }

func testGet(t *testing.T, h Harness) {
	version := h.Set(t, "erp-password", vault.Value{Value: latchkey.NewSecret(canary), ContentType: "text/plain"})
	got, err := h.Vault.Get(t.Context(), "erp-password")
	if err != nil {
		t.Fatal(err)
	}
	if got.Value.Reveal() != canary || got.Version != version || got.ContentType != "text/plain" || !got.Enabled {
		t.Errorf("Get = version %q, content type %q, enabled %v, right value %v; want version %q, text/plain, enabled, the value set",
			got.Version, got.ContentType, got.Enabled, got.Value.Reveal() == canary, version)
	}
	if got.NotBefore != nil || got.Expires != nil {
		t.Errorf("Get = valid from %v to %v; want neither", got.NotBefore, got.Expires)
	}
	if err := h.Vault.CheckRead(t.Context(), "erp-password"); err != nil {
		t.Errorf("CheckRead = %v; want nil", err)
	}
}

func testNewest(t *testing.T, h Harness) {
	first := h.Set(t, "rotated", text("one"))
	second := h.Set(t, "rotated", text("two"))
	if first == second {
		t.Fatalf("two versions have the name %q", first)
	}
	got, err := h.Vault.Get(t.Context(), "rotated")
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != second || got.Value.Reveal() != "two" {
		t.Errorf("Get = version %q; want the newest, %q, with its value", got.Version, second)
	}
}

func testValues(t *testing.T, h Harness) {
	for name, value := range map[string]string{
		"lines":  "a\r\nb\n",
		"json":   `{"value":"x","id":"<&>\u2028"}`,
		"spaces": "  x ",
		"wide":   "päss–wörd 🔑",
		"long":   strings.Repeat("0123456789abcdef", latchkey.MaxSecretBytes/16),
	} {
		h.Set(t, name, text(value))
		got, err := h.Vault.Get(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got.Value.Reveal() != value {
			t.Errorf("%s: Get did not return the value set", name)
		}
	}
}

func testValidity(t *testing.T, h Harness) {
	past, future := time.Unix(1_000_000_000, 0), time.Unix(4_000_000_000, 0)
	h.Set(t, "not-yet", vault.Value{Value: latchkey.NewSecret(canary), NotBefore: &future})
	h.Set(t, "expired", vault.Value{Value: latchkey.NewSecret(canary), Expires: &past})
	got, err := h.Vault.Get(t.Context(), "not-yet")
	if err != nil {
		t.Errorf("Get of a secret that is not valid yet = %v; want its value", err)
	} else if got.NotBefore == nil || !got.NotBefore.Equal(future) {
		t.Errorf("NotBefore = %v; want %v", got.NotBefore, future)
	}
	got, err = h.Vault.Get(t.Context(), "expired")
	if err != nil {
		t.Errorf("Get of an expired secret = %v; want its value", err)
	} else if got.Expires == nil || !got.Expires.Equal(past) {
		t.Errorf("Expires = %v; want %v", got.Expires, past)
	}
}

func testNotFound(t *testing.T, h Harness) {
	fails(t, h, "nothing-here", vault.ErrNotFound)
}

func testBadName(t *testing.T, h Harness) {
	h.Set(t, "plain", text(canary))
	for _, name := range []string{"", "..", "../secrets/plain", "plain/versions", "a b", "plain?x=1", "pl%61in", strings.Repeat("a", 128)} {
		if _, err := h.Vault.Get(t.Context(), name); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("Get(%q) = %v; want not found", name, err)
		}
		if err := h.Vault.CheckRead(t.Context(), name); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("CheckRead(%q) = %v; want not found", name, err)
		}
	}
}

func testDisabled(t *testing.T, h Harness) {
	if h.Disable == nil {
		t.Skip("this kind of store cannot disable")
	}
	h.Set(t, "off", text(canary))
	h.Disable(t, "off")
	fails(t, h, "off", vault.ErrDisabled)
	h.Set(t, "off", text(canary))
	if _, err := h.Vault.Get(t.Context(), "off"); err != nil {
		t.Errorf("Get of an enabled version after a disabled one = %v; want its value", err)
	}
}

func testDeleted(t *testing.T, h Harness) {
	if h.Delete == nil {
		t.Skip("this kind of store cannot delete")
	}
	h.Set(t, "gone", text(canary))
	h.Delete(t, "gone")
	fails(t, h, "gone", vault.ErrNotFound)
}

func testDenied(t *testing.T, h Harness) {
	if h.Revoke == nil {
		t.Skip("this kind of store cannot take rights away")
	}
	h.Set(t, "locked", text(canary))
	h.Revoke(t)
	fails(t, h, "locked", vault.ErrDenied)
	_, err := h.Vault.Get(t.Context(), "locked")
	e, ok := errors.AsType[*vault.Error](err)
	if !ok || e.Identity == "" || e.Action == "" || e.Resource == "" || e.Remedy == "" {
		t.Errorf("Get = %#v; want who was refused what on which thing, and a remedy", e)
	}
}

func testUnavailable(t *testing.T, h Harness) {
	if h.Break == nil {
		t.Skip("this kind of store cannot be broken")
	}
	h.Set(t, "there", text(canary))
	h.Break(t)
	fails(t, h, "there", vault.ErrUnavailable)
}

func testCancelled(t *testing.T, h Harness) {
	h.Set(t, "there", text(canary))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Vault.Get(ctx, "there"); !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a cancelled context = %v; want unavailable because of the context", err)
	}
}

func testConcurrent(t *testing.T, h Harness) {
	h.Set(t, "shared", text(canary))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := h.Vault.Get(t.Context(), "shared"); err != nil || got.Value.Reveal() != canary {
				t.Errorf("concurrent Get: %v; want the value", err)
			}
		})
	}
	wg.Wait()
}

// fails checks that both ways of reading fail in the same way, with a message,
// and without the value.
func fails(t *testing.T, h Harness, name string, kind error) {
	t.Helper()
	_, getErr := h.Vault.Get(t.Context(), name)
	for op, err := range map[string]error{"Get": getErr, "CheckRead": h.Vault.CheckRead(t.Context(), name)} {
		e, ok := errors.AsType[*vault.Error](err)
		switch {
		case !errors.Is(err, kind):
			t.Errorf("%s(%q) = %v; want %v", op, name, err, kind)
		case !ok || e.Msg == "" || e.Kind != kind:
			t.Errorf("%s(%q) = %#v; want a *vault.Error with its kind and a message", op, name, err)
		case strings.Contains(err.Error(), canary):
			t.Errorf("%s(%q): the error holds the value", op, name)
		}
	}
}
