package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/agent"
	"latchkey.dev/latchkey"
)

func (q *quickstart) agentDir() string { return filepath.Join(q.dir, "agent") }

// makeMachine enrols an agent unless one is enrolled, and starts it.
func (q *quickstart) makeMachine(ctx context.Context) (string, error) {
	enrolled, err := q.enrolled(ctx)
	if err != nil {
		return "", err
	}
	how := "enrolled"
	if enrolled {
		how = "enrolled earlier"
	} else if err := q.enrol(ctx); err != nil {
		return "", err
	}
	// The folder may have moved, and with it the one program that is allowed.
	if err := q.writePolicy(); err != nil {
		return "", err
	}
	if q.agent, err = q.startAgent(); err != nil {
		return "", err
	}
	return quickMachine + ", " + how, q.waitOnline(ctx)
}

// enrolled reports whether the agent of an earlier run can be used.
func (q *quickstart) enrolled(ctx context.Context) (bool, error) {
	state, err := agent.LoadState(q.agentDir())
	if err != nil {
		return false, nil // what cannot be read is replaced
	}
	m, err := q.client.Machine(ctx, quickEnv, state.Machine)
	if errors.Is(err, latchkey.ErrNotFound) || m.Status == latchkey.MachineQuarantined {
		return false, nil
	}
	if err == nil && m.Status == latchkey.MachineDisabled {
		enabled := false
		_, err = q.client.UpdateMachine(ctx, quickEnv, m.ID, latchkey.MachineUpdate{Disabled: &enabled})
	}
	q.machine = m.ID
	return true, err
}

// enrol makes a new machine of this one, in place of what an earlier run left.
func (q *quickstart) enrol(ctx context.Context) error {
	if err := q.removeMachines(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(q.agentDir()); err != nil {
		return err
	}
	if err := os.MkdirAll(q.agentDir(), 0o700); err != nil {
		return err
	}
	if err := q.writePolicy(); err != nil {
		return err
	}
	t, err := q.client.CreateEnrolmentToken(ctx, quickEnv, latchkey.EnrolmentTokenCreate{ExpiresIn: latchkey.Duration(5 * time.Minute)})
	if err != nil {
		return err
	}
	var said bytes.Buffer
	c, err := startChild(q.enrolProgram(latchkey.NewSecret(t.Token), &said))
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		c.stop()
		return ctx.Err()
	case <-c.ended:
	}
	if c.err != nil {
		return fmt.Errorf("%w: %s", c.err, strings.TrimSpace(said.String()))
	}
	state, err := agent.LoadState(q.agentDir())
	if err != nil {
		return err
	}
	q.machine = state.Machine
	return nil
}

// removeMachines removes the machine of an earlier run, and what is bound to it.
func (q *quickstart) removeMachines(ctx context.Context) error {
	for m, err := range q.client.Machines(ctx, quickEnv) {
		if err != nil {
			return err
		}
		if m.Name != quickMachine {
			continue
		}
		for c, err := range q.client.Connections(ctx, quickEnv) {
			if err != nil {
				return err
			}
			if c.Target.Machine == m.ID {
				if err := removeUsed(ctx, q.client, quickEnv, latchkey.KindConnection, string(c.ID)); err != nil {
					return err
				}
			}
		}
		if err := removeUsed(ctx, q.client, quickEnv, latchkey.KindMachine, string(m.ID)); err != nil {
			return err
		}
	}
	return nil
}

// writePolicy allows this machine to run one program, in one way.
func (q *quickstart) writePolicy() error {
	// Patterns are of package path, which has a meaning for these.
	program := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(q.binary)
	b, err := json.Marshal(program) // a JSON string is a TOML string too
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`# What the agent of this machine may do. The server cannot change it.
commands = [%s]
drivers = ["none"]
handovers = ["descriptor"]
`, b)
	return writeFile(q.policyPath(), []byte(text), 0o600)
}

func (q *quickstart) policyPath() string { return filepath.Join(q.agentDir(), "policy.toml") }

// agentProgram is this program as the agent.
func (q *quickstart) agentProgram(out io.Writer, args ...string) *exec.Cmd {
	cmd := exec.Command(q.binary, append([]string{"agent"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	for _, e := range os.Environ() {
		// What chooses a server or a token for people is not for the agent.
		if !strings.HasPrefix(e, "LATCHKEY_") || strings.HasPrefix(e, "LATCHKEY_TEST_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	return cmd
}

func (q *quickstart) enrolProgram(token latchkey.Secret, out io.Writer) *exec.Cmd {
	cmd := q.agentProgram(out, "enrol", "--dir", q.agentDir(), "--server", q.server.URL(), "--name", quickMachine, "--token-file", "-")
	cmd.Stdin = strings.NewReader(token.Reveal() + "\n")
	return cmd
}

// startAgent starts the agent as a process of its own. It ends with this one.
func (q *quickstart) startAgent() (*child, error) {
	log, err := os.OpenFile(filepath.Join(q.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	return startChild(q.agentProgram(log, "run", "--dir", q.agentDir(), "--server", q.server.URL()))
}

// waitOnline waits until the server has heard of the agent.
func (q *quickstart) waitOnline(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(checkPoll)
	defer tick.Stop()
	for {
		m, err := q.client.Machine(ctx, quickEnv, q.machine)
		if err != nil {
			return err
		}
		switch m.Status {
		case latchkey.MachineOnline:
			return nil
		case latchkey.MachineQuarantined:
			return errors.New(firstOf(m.StatusReason, "the machine is quarantined"))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent does not come online; its log is %s", filepath.Join(q.dir, "agent.log"))
		case <-q.agent.ended:
			return fmt.Errorf("the agent ended; its log is %s", filepath.Join(q.dir, "agent.log"))
		case <-tick.C:
		}
	}
}

// auditOf chooses what is on record about a run, oldest first.
func auditOf(id latchkey.RunID) client.AuditFilter {
	return client.AuditFilter{Environment: quickEnv, Run: id, Oldest: true}
}

// inUse reports whether a listener could not be made because the port is taken.
func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
