package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

const (
	watchPoll     = 2 * time.Second
	watchPatience = 2 * time.Minute // with a server that is away
	// watchMissing bounds how many runs are asked for by themselves at a time.
	watchMissing = 50
)

// A screen shows one text after another at the same place of a terminal.
type screen struct{ out io.Writer }

// The alternate screen leaves what was on the terminal before as it was.
func openScreen(w io.Writer) screen {
	fmt.Fprint(w, "\033[?1049h")
	return screen{w}
}

func (s screen) show(text string) error {
	text = strings.ReplaceAll(text, "\n", "\033[K\n")
	_, err := fmt.Fprint(s.out, "\033[H"+text+"\033[J")
	return err
}

func (s screen) close() { fmt.Fprint(s.out, "\033[?1049l") }

// A watch looks again and again at what changes on the server.
type watch struct {
	pause time.Duration                    // after a look that saw all there was
	say   func(format string, args ...any) // tells a person that the server is away, and back
}

// until calls look until it says that there is no more to see, or ctx ends. It
// bears a server that is away for a while.
func (w watch) until(ctx context.Context, look func() (done bool, err error)) error {
	var away time.Time // since when
	for {
		pause := w.pause
		done, err := look()
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, latchkey.ErrUnavailable) && (away.IsZero() || time.Since(away) < watchPatience):
			if away.IsZero() {
				away = time.Now()
				w.say("%s; waiting for it", cli.Message(err)[0])
			}
			pause = watchPoll
		case err != nil:
			return err
		default:
			if !away.IsZero() {
				w.say("the server is back")
			}
			away = time.Time{}
			if done {
				return nil
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func silent(string, ...any) {}

// watching is a watch of runs. What is redrawn on a terminal has no place for
// messages.
func (a *app) watching(redrawn bool) watch {
	if redrawn {
		return watch{watchPoll, silent}
	}
	return watch{watchPoll, a.Say}
}

// runRow is a run's line in a table.
func runRow(r latchkey.Run) []string {
	code := ""
	if r.Error != nil {
		code = r.Error.Code
	}
	what := r.FlowName
	if r.Kind == latchkey.RunTest {
		what = "(connection test)"
	}
	return []string{string(r.ID), what, firstOf(r.MachineName, r.MachineGroupName), string(r.State), cli.When(r.QueuedAt), cli.WhenPtr(r.FinishedAt), code}
}

var runHeader = []string{"ID", "FLOW", "MACHINE", "STATE", "QUEUED", "FINISHED", "ERROR"}

// watchRuns shows the runs that list returns until ctx ends: on a terminal the
// list itself, elsewhere a line for each run that is new or has changed. one
// returns a run that the list has no longer.
func (a *app) watchRuns(ctx context.Context, list func() iter.Seq2[latchkey.Run, error], one func(latchkey.RunID) (latchkey.Run, error)) error {
	look, redrawn := a.runChanges(list, one), !a.JSON && a.Redraws(a.Out)
	if redrawn {
		s := openScreen(a.Out)
		var last cli.Table
		look = func() (bool, error) {
			t := cli.Table{Header: runHeader}
			for r, err := range list() {
				if err != nil {
					return false, err
				}
				t.Add(runRow(r))
			}
			last = t
			return false, s.show(a.runScreen(t))
		}
		defer func() {
			s.close()
			_ = last.Write(a.Out, cli.TerminalWidth(a.Out), a.Colors(a.Out)) // it is there to look at only
		}()
	}
	err := a.watching(redrawn).until(ctx, look)
	if ctx.Err() != nil {
		return nil // that is how it is ended
	}
	return err
}

// runScreen returns a table as it fits the terminal.
func (a *app) runScreen(t cli.Table) string {
	if height := cli.TerminalHeight(a.Out); height > 3 && len(t.Rows) > height-3 {
		t.Rows = t.Rows[:height-3]
	}
	var b strings.Builder
	_ = t.Write(&b, cli.TerminalWidth(a.Out), a.Colors(a.Out)) // a Builder takes everything
	return b.String() + "\nevery " + watchPoll.String() + "; an interrupt ends it"
}

// runChanges returns what prints a line for each run that is new or has changed
// since the last call.
func (a *app) runChanges(list func() iter.Seq2[latchkey.Run, error], one func(latchkey.RunID) (latchkey.Run, error)) func() (bool, error) {
	states := map[latchkey.RunID]latchkey.RunState{} // of the runs that were listed last, and of those that go on
	return func() (bool, error) {
		var runs []latchkey.Run
		listed := map[latchkey.RunID]latchkey.RunState{}
		for r, err := range list() {
			if err != nil {
				return false, err
			}
			runs = append(runs, r)
			listed[r.ID] = r.State
		}
		asked := 0
		for id, state := range states {
			if _, ok := listed[id]; ok || state.Done() {
				continue
			}
			if asked++; asked > watchMissing {
				listed[id] = state // for the next time
				continue
			}
			r, err := one(id)
			if errors.Is(err, latchkey.ErrNotFound) {
				continue
			}
			if err != nil {
				return false, err
			}
			runs = append(runs, r)
			listed[id] = r.State
		}
		slices.SortStableFunc(runs, func(x, y latchkey.Run) int { return strings.Compare(string(x.ID), string(y.ID)) })
		for _, r := range runs {
			if before, ok := states[r.ID]; ok && before == r.State {
				continue
			}
			if err := a.printChange(r); err != nil {
				return false, err
			}
		}
		states = listed
		return false, nil
	}
}

// printChange writes a line for a run's state.
func (a *app) printChange(r latchkey.Run) error {
	if a.JSON {
		b, err := cli.MarshalJSON(r, "")
		if err == nil {
			_, err = a.Out.Write(b)
		}
		return err
	}
	at := r.QueuedAt
	for _, t := range []*time.Time{r.ClaimedAt, r.StartedAt, r.FinishedAt} {
		if t != nil {
			at = *t
		}
	}
	code := ""
	if r.Error != nil {
		code = r.Error.Code
	}
	state := string(r.State)
	if a.Colors(a.Out) {
		state = cli.Paint(cli.StateColor(state), state)
	}
	line := []string{cli.When(at), string(r.ID), state, cli.CleanLine(r.FlowName), cli.CleanLine(firstOf(r.MachineName, r.MachineGroupName)), cli.CleanLine(code)}
	_, err := fmt.Fprintln(a.Out, strings.TrimSpace(strings.Join(line, "  ")))
	return err
}

// watchRun shows a run until it ends, and returns how it ended.
func (a *app) watchRun(ctx context.Context, c *client.Client, env string, id latchkey.RunID) error {
	var last latchkey.Run
	var names runNames
	draw, end, redrawn := a.printChange, func() {}, !a.JSON && a.Redraws(a.Out)
	if redrawn {
		s := openScreen(a.Out)
		draw = func(r latchkey.Run) error {
			var b strings.Builder
			if err := cli.WriteFields(&b, a.Colors(a.Out), shownRun(r, names)); err != nil {
				return err
			}
			return s.show(b.String())
		}
		end = func() {
			s.close()
			if last.ID != "" {
				_ = a.PrintOne(last, shownRun(last, names)...) // it is there to look at only
			}
		}
	}
	err := a.watching(redrawn).until(ctx, func() (bool, error) {
		r, err := c.Run(ctx, env, id)
		if err != nil {
			return false, err
		}
		if last.ID == "" {
			names = a.namesOfRun(ctx, c, env, r)
		}
		changed := r.State != last.State
		last = r
		if changed {
			err = draw(r)
		}
		return r.State.Done(), err
	})
	end()
	if err != nil {
		return err
	}
	return runOutcome(last)
}

// runOutcome is an error unless a run succeeded.
func runOutcome(r latchkey.Run) error {
	if r.State == latchkey.RunSucceeded {
		return nil
	}
	msg := fmt.Sprintf("run %s %s", r.ID, r.State)
	if r.Error != nil {
		msg += ": " + strings.TrimSuffix(r.Error.Message, ".")
	}
	return errors.New(msg)
}
