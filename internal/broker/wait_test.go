package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"latchkey.dev/internal/vault"
)

// TestAnswerIsNotOlderThanTheQuestion rotates a secret while it is being read,
// and then asks again, several at a time.
func TestAnswerIsNotOlderThanTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version, reads := "old", 0
		var mu sync.Mutex // guards version and reads
		hold := make(chan struct{})
		read := func(context.Context) (vault.Value, error) {
			mu.Lock()
			reads++
			v := vault.Value{Version: version}
			mu.Unlock()
			<-hold
			return v, nil
		}
		s := newSharedReads()
		got := make([]string, 4)
		var wg sync.WaitGroup
		ask := func(i int) {
			wg.Go(func() {
				v, err := s.get(t.Context(), "secret", read)
				if err != nil {
					t.Error(err)
				}
				got[i] = v.Version
			})
		}
		ask(0)
		synctest.Wait() // the first has its value
		mu.Lock()
		version = "new"
		mu.Unlock()
		for i := 1; i < len(got); i++ {
			ask(i)
		}
		synctest.Wait()
		mu.Lock()
		if reads != 1 {
			t.Errorf("the secret is being read %d times at once; want 1", reads)
		}
		mu.Unlock()
		close(hold)
		wg.Wait()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if want := "[old new new new]"; fmt.Sprint(got) != want {
			t.Errorf("answers = %v; want %s", got, want)
		}
		if reads != 2 {
			t.Errorf("the secret was read %d times; want 2, one of them shared", reads)
		}
		if len(s.calls) != 0 {
			t.Errorf("%d readings are kept; want none", len(s.calls))
		}
	})
}

// TestSharedReadOutlivesItsAsker has who asked first go away.
func TestSharedReadOutlivesItsAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		s := newSharedReads()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.get(ctx, "secret", func(ctx context.Context) (vault.Value, error) { <-hold; return vault.Value{}, ctx.Err() }); err != context.Canceled {
				t.Errorf("get of who went away = %v; want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, err := s.get(t.Context(), "secret", func(ctx context.Context) (vault.Value, error) { return vault.Value{Version: "other"}, ctx.Err() }); err != nil {
				t.Errorf("get of who waits = %+v, %v", v, err)
			}
		})
		synctest.Wait()
		cancel()
		close(hold)
		wg.Wait()
	})
}
