package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func runFields(r latchkey.Run, names runNames) []cli.Field {
	what := cli.Field{"Flow", fmt.Sprintf("%s, revision %d (%s)", r.FlowName, r.Revision, r.Flow)}
	if r.Kind == latchkey.RunTest {
		what = cli.Field{"Kind", "connection test"}
	}
	fields := []cli.Field{
		{"ID", string(r.ID)}, what,
		{"Connection", named(names.connections, r.Connection)}, {"Machine", named(map[latchkey.MachineID]string{r.Machine: r.MachineName}, r.Machine)},
		{"Machine group", named(map[latchkey.MachineGroupID]string{r.MachineGroup: r.MachineGroupName}, r.MachineGroup)},
		{"Shared uid", cli.Yes(r.SharedUID)}, {"State", string(r.State)},
	}
	if r.Error != nil {
		fields = append(fields, cli.Field{"Error", r.Error.Code + ": " + r.Error.Message})
	}
	if r.ExitCode != nil {
		fields = append(fields, cli.Field{"Exit code", strconv.Itoa(*r.ExitCode)})
	}
	return append(fields, cli.Field{"Releases", strconv.Itoa(r.Releases)}, cli.Field{"Owner", named(names.principals, r.Owner)}, cli.Field{"Started by", named(names.principals, r.StartedBy)},
		cli.Field{"Queued", cli.When(r.QueuedAt)}, cli.Field{"Claimed", cli.WhenPtr(r.ClaimedAt)}, cli.Field{"Started", cli.WhenPtr(r.StartedAt)}, cli.Field{"Finished", cli.WhenPtr(r.FinishedAt)})
}

func (a *app) runCommand() *cobra.Command {
	cmd := cli.Group("run", "executions of flows", `A run is one execution of one revision of a flow through a connection, on one machine,
at most once.`, "runs")
	cmd.AddCommand(a.runStart(), a.runList(), a.runShow(), a.runLog(), a.runCancel())
	return cmd
}

// completeRuns offers the ids of runs, newest first; with live only of those
// that have not ended.
func (a *app) completeRuns(live bool) completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Run, error] {
		return first(maxCompletions, c.Runs(ctx, env, client.RunFilter{}))
	}, func(r latchkey.Run) string {
		if live && r.State.Done() {
			return ""
		}
		return described(r.ID, r.FlowName)
	})
}

func (a *app) runStart() *cobra.Command {
	var connection string
	var inputs []string
	var wait bool
	cmd := &cobra.Command{
		Use:   "start FLOW --connection CONNECTION",
		Short: "run a flow through a connection",
		Long: `Start queues a run of a flow's newest revision. With --wait it shows the flow's output
as it comes, on standard output and standard error as the flow wrote it, and ends
with the exit code 0 if the run succeeded and 1 if not. It waits for a server that is
away, for two minutes; after that, and after an interrupt, the run still goes on.`,
		Example: `  latchkey run start "Month end" --connection erp --input MONTH=2026-11 --wait`,
		Args:    cli.Exactly("FLOW"), ValidArgsFunction: a.completeFlows(),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, env, err := a.within(ctx)
			if err != nil {
				return err
			}
			if connection == "" {
				return cli.Hint(cli.Usagef("--connection is needed"), "latchkey connection list")
			}
			in := latchkey.RunCreate{}
			if in.Inputs, err = parseInputs(inputs); err != nil {
				return err
			}
			if in.Flow, err = flowID(ctx, c, env, args[0]); err != nil {
				return err
			}
			if in.Connection, err = connectionID(ctx, c, env, connection); err != nil {
				return err
			}
			r, err := c.StartRun(ctx, env, in)
			if err != nil {
				return err
			}
			if !wait {
				return a.PrintOne(r, runFields(r, a.namesOfRun(ctx, c, env, r))...)
			}
			return a.follow(ctx, c, env, r.ID)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&connection, "connection", "c", "", "connection to run through")
	f.StringArrayVarP(&inputs, "input", "i", nil, "NAME=VALUE, which the flow finds as LATCHKEY_INPUT_NAME; not for secrets; repeatable")
	f.BoolVar(&wait, "wait", false, "show the output and wait for the end")
	completeFlag(cmd, "connection", a.completeConnections())
	return cmd
}

// parseInputs reads inputs given as NAME=VALUE. A flow finds them in its
// environment in upper case, so that names must differ in more than case.
func parseInputs(inputs []string) (map[string]string, error) {
	parsed := make(map[string]string, len(inputs))
	names := make(map[string]string, len(inputs)) // as given, by what the flow finds
	for _, input := range inputs {
		name, value, ok := strings.Cut(input, "=")
		if !ok {
			return nil, cli.Usagef("--input must be NAME=VALUE")
		}
		upper := strings.ToUpper(name)
		switch before, seen := names[upper]; {
		case seen && before == name:
			return nil, cli.Usagef("--input: %q is given twice", name)
		case seen:
			return nil, cli.Usagef("--input: %q and %q must differ in more than case", before, name)
		}
		names[upper], parsed[name] = name, value
	}
	return parsed, nil
}

// follow shows a run's output until it ends, and returns how it ended.
func (a *app) follow(ctx context.Context, c *client.Client, env string, id latchkey.RunID) error {
	a.Say("run %s", id)
	out := a.Out
	if a.JSON {
		out = a.Err // standard output is for the result
	}
	arrived := a.spin("waiting for the machine")
	defer arrived()
	w := watch{logPause, func(format string, args ...any) {
		arrived()
		a.Say(format, args...)
	}}
	var r latchkey.Run
	err := copyLog(ctx, c, w, env, id, before(arrived, a.output(out)), before(arrived, a.output(a.Err)))
	if err == nil {
		err = w.until(ctx, func() (done bool, err error) {
			r, err = c.Run(ctx, env, id)
			return true, err
		})
	}
	arrived()
	switch {
	case err != nil && ctx.Err() != nil:
		return cli.Hint(errors.New("stopped watching; the run goes on"), fmt.Sprintf("latchkey run log -f %s, or latchkey run cancel %s", id, id))
	case errors.Is(err, latchkey.ErrUnauthenticated):
		return fmt.Errorf("stopped watching; the run goes on: %w", err) // to sign in comes first
	case err != nil:
		return cli.Hint(fmt.Errorf("stopped watching; the run goes on: %w", err), fmt.Sprintf("latchkey run log -f %s, then latchkey run show %s", id, id))
	}
	if a.JSON {
		if err := a.PrintJSON(r); err != nil {
			return err
		}
	}
	if r.State == latchkey.RunSucceeded {
		a.Say("run %s succeeded", id)
		return nil
	}
	return runOutcome(r)
}

// output returns w for the output of a flow: as it is into pipes and files,
// without what a terminal would act on otherwise.
func (a *app) output(w io.Writer) io.Writer {
	if cli.IsTerminal(w) {
		return cleanWriter{w}
	}
	return w
}

// A cleanWriter cleans what is written to it, one text at a time.
type cleanWriter struct{ w io.Writer }

func (c cleanWriter) Write(b []byte) (int, error) {
	if _, err := io.WriteString(c.w, cli.Clean(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A beforeWriter calls do before each writing.
type beforeWriter struct {
	do func()
	w  io.Writer
}

func before(do func(), w io.Writer) io.Writer { return beforeWriter{do, w} }

func (b beforeWriter) Write(p []byte) (int, error) {
	b.do()
	return b.w.Write(p)
}

const (
	logWait  = 20 * time.Second       // of one long poll
	logPause = 500 * time.Millisecond // after an answer without news
)

// copyLog writes a run's output as it comes until the run ends.
func copyLog(ctx context.Context, c *client.Client, w watch, env string, id latchkey.RunID, stdout, stderr io.Writer) error {
	var offset int64
	return w.until(ctx, func() (bool, error) {
		for {
			log, err := c.RunLog(ctx, env, id, offset, logWait)
			if err != nil {
				return false, err
			}
			offset = max(offset, log.Next)
			for _, chunk := range log.Chunks {
				w := stdout
				if chunk.Stream == "stderr" {
					w = stderr
				}
				if _, err := io.WriteString(w, chunk.Text); err != nil {
					return false, err
				}
			}
			if len(log.Chunks) > 0 {
				continue
			}
			if log.State.Done() && log.Truncated {
				fmt.Fprintln(stderr, "latchkey: the output was longer than what is kept")
			}
			return log.State.Done(), nil
		}
	})
}

func (a *app) runList() *cobra.Command {
	var kind, state, flow, connection, machine, group string
	var limit int
	var watch bool
	cmd := &cobra.Command{
		Use: "list", Short: "list runs, newest first", Args: cli.Exactly(),
		Long: `List shows runs, newest first. With --watch it goes on until an interrupt: on a terminal
it shows the list anew every two seconds; elsewhere, and with --json, it writes a line for
each of these runs and then for each that is new or changes its state. Of many runs that
come at once it sees the newest --limit.`,
		Example: `  latchkey run list --state failed
  latchkey run list --watch --flow "Month end"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, env, err := a.within(ctx)
			if err != nil {
				return err
			}
			filter := client.RunFilter{Kind: latchkey.RunKind(kind), State: latchkey.RunState(state)}
			if flow != "" {
				if filter.Flow, err = flowID(ctx, c, env, flow); err != nil {
					return err
				}
			}
			if connection != "" {
				if filter.Connection, err = connectionID(ctx, c, env, connection); err != nil {
					return err
				}
			}
			if machine != "" {
				if filter.Machine, err = machineID(ctx, c, env, machine); err != nil {
					return err
				}
			}
			if group != "" {
				if filter.MachineGroup, err = machineGroupID(ctx, c, env, group); err != nil {
					return err
				}
			}
			list := func() iter.Seq2[latchkey.Run, error] { return first(limit, c.Runs(ctx, env, filter)) }
			if watch {
				if limit <= 0 {
					return cli.Usagef("--watch needs a --limit")
				}
				return a.watchRuns(ctx, list, func(id latchkey.RunID) (latchkey.Run, error) { return c.Run(ctx, env, id) })
			}
			return cli.PrintList(&a.Console, list(), runHeader, runRow)
		},
	}
	f := cmd.Flags()
	cli.EnumFlag(cmd, &kind, "kind", string(latchkey.RunFlow), "flow, or test for connection tests", latchkey.RunFlow, latchkey.RunTest)
	cli.EnumFlag(cmd, &state, "state", "", "only runs in this state: queued, running, succeeded, failed, cancelled or timed-out",
		latchkey.RunQueued, latchkey.RunRunning, latchkey.RunSucceeded, latchkey.RunFailed, latchkey.RunCancelled, latchkey.RunTimedOut)
	f.StringVar(&flow, "flow", "", "only runs of this flow")
	f.StringVar(&connection, "connection", "", "only runs through this connection")
	f.StringVar(&machine, "machine", "", "only runs on this machine")
	f.StringVar(&group, "machine-group", "", "only runs for this machine group")
	cli.LimitFlag(cmd, &limit, 100)
	f.BoolVarP(&watch, "watch", "w", false, "go on and show what changes, until an interrupt")
	completeFlag(cmd, "flow", a.completeFlows())
	completeFlag(cmd, "connection", a.completeConnections())
	completeFlag(cmd, "machine", a.completeMachines())
	completeFlag(cmd, "machine-group", a.completeMachineGroups())
	return cmd
}

func (a *app) runShow() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "show RUN", Short: "show a run", Args: cli.Exactly("RUN"), ValidArgsFunction: a.completeRuns(false),
		Long: `Show shows a run. With --watch it goes on until the run ends, and ends with the exit code
0 if the run succeeded and 1 if not; on a terminal it shows the run anew, elsewhere, and
with --json, it writes a line for each state. To see the output take run log --follow.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			if watch {
				return a.watchRun(cmd.Context(), c, env, latchkey.RunID(args[0]))
			}
			r, err := c.Run(cmd.Context(), env, latchkey.RunID(args[0]))
			if err != nil {
				return err
			}
			return a.PrintOne(r, shownRun(r, a.namesOfRun(cmd.Context(), c, env, r))...)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until the run ends")
	return cmd
}

// shownRun is a run with its inputs.
func shownRun(r latchkey.Run, names runNames) []cli.Field {
	fields := runFields(r, names)
	for _, name := range slices.Sorted(maps.Keys(r.Inputs)) {
		fields = append(fields, cli.Field{"Input " + name, r.Inputs[name]})
	}
	return fields
}

func (a *app) runLog() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "log RUN", Short: "show a run's output", Args: cli.Exactly("RUN"), ValidArgsFunction: a.completeRuns(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, env, err := a.within(ctx)
			if err != nil {
				return err
			}
			id := latchkey.RunID(args[0])
			if follow {
				return copyLog(ctx, c, watch{logPause, a.Say}, env, id, a.output(a.Out), a.output(a.Err))
			}
			all := latchkey.RunLog{Chunks: []latchkey.LogChunk{}}
			for {
				log, err := c.RunLog(ctx, env, id, all.Next, 0)
				if err != nil {
					return err
				}
				more := len(log.Chunks) > 0 && log.Next > all.Next
				all.Next, all.State, all.Truncated = log.Next, log.State, log.Truncated
				for _, chunk := range log.Chunks {
					switch {
					case a.JSON:
						all.Chunks = append(all.Chunks, chunk)
					case chunk.Stream == "stderr":
						io.WriteString(a.output(a.Err), chunk.Text)
					default:
						io.WriteString(a.output(a.Out), chunk.Text)
					}
				}
				if !more {
					break
				}
			}
			if a.JSON {
				return a.PrintJSON(all)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	return cmd
}

func (a *app) runCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "end a run and everything it started", Args: cli.Exactly("RUN"), ValidArgsFunction: a.completeRuns(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.CancelRun(cmd.Context(), env, latchkey.RunID(args[0]))
			if err != nil {
				return err
			}
			if !r.State.Done() {
				a.Say("cancelling is under way: the agent ends the run and everything it started")
			}
			return a.PrintOne(r, runFields(r, a.namesOfRun(cmd.Context(), c, env, r))...)
		},
	}
	cmd.Flags().Bool("yes", false, "as with commands that ask; cancel does not")
	return cmd
}
