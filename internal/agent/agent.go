package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const (
	claimWait         = 25 * time.Second
	heartbeatInterval = 3 * time.Second
	stopGrace         = 15 * time.Second // to report runs that were ended because the agent stops
)

// A Config says how to run the agent of a machine.
type Config struct {
	Dir      string // the agent's folder, of an enrolled machine
	Server   string // address of the server in place of the one enrolled with; "" keeps that
	Slots    int    // runs at the same time; 0 is 1
	Insecure bool   // plain http to another host
	Log      *slog.Logger
}

// An Agent is the running agent of a machine. There is one for a folder.
type Agent struct {
	dir       string
	log       *slog.Logger
	server    *client.Machine
	keys      *seal.MachineKeys
	policy    policy
	sharedUID bool
	unlock    func() error
	slots     chan struct{} // one for each run under way
	sessions  sessions
	state     *State     // Counter is guarded by sessions.mu
	releasing sync.Mutex // releases are asked for one at a time: their counter only grows

	trouble string // noted on disk; only Run uses it

	mu   sync.Mutex
	runs map[latchkey.RunID]bool // claimed runs that the agent has; guarded by mu
}

// New reads the agent's folder and locks it. Close releases it.
func New(c Config) (_ *Agent, err error) {
	if c.Log == nil {
		return nil, errors.New("agent: Config.Log is nil")
	}
	a := &Agent{dir: c.Dir, log: c.Log, slots: make(chan struct{}, max(c.Slots, 1)), runs: make(map[latchkey.RunID]bool)}
	a.sessions.a = a
	notEnrolled := fmt.Errorf("no machine is enrolled in %s; enrol it first: latchkey-agent enrol --server URL --token TOKEN", c.Dir)
	// Locked before anything is read: an enrolment under way would replace it.
	if a.unlock, err = lock(filepath.Join(c.Dir, lockFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, notEnrolled
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.unlock())
		}
	}()
	if a.state, err = LoadState(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, notEnrolled
	} else if err != nil {
		return nil, err
	}
	if a.keys, err = loadKeys(c.Dir); err != nil {
		return nil, err
	}
	if a.policy, err = loadPolicy(c.Dir); err != nil {
		return nil, err
	}
	if a.sharedUID, err = sharedUID(a.policy.Policy); err != nil {
		return nil, err
	}
	if c.Server == "" {
		c.Server = a.state.Server
	}
	if a.server, err = client.NewMachine(c.Server, client.MachineOptions{CAFile: a.state.CAFile, AllowInsecure: c.Insecure, UserAgent: userAgent()}); err != nil {
		return nil, err
	}
	return a, nil
}

// Close releases the agent's folder.
func (a *Agent) Close() error {
	a.server.Close()
	return a.unlock()
}

// Run claims and executes runs until ctx ends, and then ends those that are
// under way and reports them. It returns an error when the machine has to be
// enrolled anew.
func (a *Agent) Run(ctx context.Context) error {
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("keep track of processes: %w", err)
	}
	a.endLeftovers(ctx)
	if t, err := loadTrouble(a.dir); err == nil {
		a.trouble = t.Message
	}
	if len(a.policy.Commands) == 0 && len(a.policy.SSH) == 0 {
		a.log.LogAttrs(ctx, slog.LevelWarn, "the policy allows no command, so no flow can run", slog.String("policy", filepath.Join(a.dir, policyFile)))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "agent started", slog.String("machine", string(a.state.Machine)), slog.String("name", a.state.Name), slog.Bool("sharedUid", a.sharedUID))
	var runs sync.WaitGroup
	defer runs.Wait()
	for attempt := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case a.slots <- struct{}{}:
		}
		run, err := a.claim(ctx)
		if run != nil {
			a.hold(run.Run, true)
			runs.Go(func() {
				defer func() {
					a.hold(run.Run, false)
					<-a.slots
				}()
				a.execute(ctx, run)
			})
			attempt = 0
			a.note(ctx, nil)
			continue
		}
		<-a.slots
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			a.note(ctx, nil)
			attempt = 0
			continue
		case errors.Is(err, context.Canceled): // a new session was needed
			attempt = 0
			continue
		}
		a.note(ctx, err)
		if fatal(err) {
			return err
		}
		attempt++
		a.log.LogAttrs(ctx, slog.LevelWarn, "no run could be claimed; trying again", slog.Int("attempt", attempt), slog.Any("error", err))
		if !backoff(ctx, attempt) {
			return nil
		}
	}
}

// claim waits for a run.
func (a *Agent) claim(ctx context.Context) (run *latchkey.ClaimedRun, err error) {
	err = a.sessions.poll(ctx, func(ctx context.Context, s *client.MachineSession) error {
		run, err = s.Claim(ctx, latchkey.ClaimRequest{Wait: latchkey.Duration(claimWait), Holding: a.held()})
		return err
	})
	return run, err
}

func (a *Agent) hold(id latchkey.RunID, has bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if has {
		a.runs[id] = true
	} else {
		delete(a.runs, id)
	}
}

func (a *Agent) held() []latchkey.RunID {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := make([]latchkey.RunID, 0, len(a.runs))
	for id := range a.runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// alone reports whether no other run is under way.
func (a *Agent) alone() bool { return len(a.held()) <= 1 }
