package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

const (
	followPoll     = 2 * time.Second // between questions for news
	exportFailures = 15              // in a row, before it is given up
	exportPause    = 500 * time.Millisecond
	exportMaxPause = 30 * time.Second
)

const auditExportHelp = `Export writes the entries of the audit log as JSON lines, oldest first: all of them, or
those that the flags choose. It needs as little memory for a million as for ten.

With --output it goes on after the last entry that the file has, so that the same command
can run again and again: after an interrupt, a crash or a full disk no entry is missing
and none is there twice. A last line that was cut off is written anew; each page is on
disk before the next is asked for. The flags that choose have to stay the same: a file
with entries that they would not have chosen is refused. Only --since may differ, which
says where a new file begins. Without --output, give the id of the last line that you
have as --after.

The order is that in which entries became final, not that of their times or ids: entries
of several servers, of transactions that take long and of clocks that are set back find
their place as they become visible. On PostgreSQL an entry is given out once no
transaction that began to write before it is under way; until then --follow waits and
an export leaves it to the next one. So what was given out never changes, and nothing
comes in before it.

An answer that does not come is asked for again, with growing pauses, for some minutes.
With --follow it goes on with new entries until it is interrupted.`

func (a *app) auditExport() *cobra.Command {
	var f client.AuditFilter
	var v auditFlags
	var after, output string
	var follow bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "write the audit log as JSON lines, from where the last export ended",
		Long:  auditExportHelp,
		Example: `  latchkey audit export --output audit.jsonl
  latchkey audit export -e erp --action release. --since 24h | jq .actorName
  latchkey audit export --follow --output /var/log/latchkey/audit.jsonl`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case after != "" && output != "":
				return cli.Usagef("--after is for pipes: with --output the file says where to go on")
			case after != "" && !latchkey.HasPrefix(after, "aud"):
				return cli.Usagef("--after must be the id of an entry, such as aud_…")
			case follow && v.until != "":
				return cli.Usagef("--follow has no end: leave --until out")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := v.fill(cmd.Context(), a, c, &f); err != nil {
				return err
			}
			e := exporter{app: a, filter: f, follow: follow, next: c.AuditAfter, last: latchkey.AuditID(after), out: a.Out, sleep: sleep}
			if output == "" {
				return e.run(cmd.Context())
			}
			chose, err := v.chose(cmd.Context(), c, f)
			if err != nil {
				return err
			}
			file, last, err := openExport(output, chose)
			if err != nil {
				return err
			}
			if last != "" {
				a.Say("going on after %s", last)
				e.filter.Since = time.Time{} // what is between the two would be missing
			}
			e.out, e.last = file, last
			return errors.Join(e.run(cmd.Context()), file.Close())
		},
	}
	fl := cmd.Flags()
	v.add(a, cmd)
	fl.StringVarP(&output, "output", "o", "", "file to write to, and to go on from where it ends")
	fl.StringVar(&after, "after", "", "id of the entry to go on after")
	fl.BoolVarP(&follow, "follow", "f", false, "go on with new entries until an interrupt")
	return cmd
}

// An exporter copies the audit log.
type exporter struct {
	*app
	filter client.AuditFilter
	follow bool
	next   func(context.Context, client.AuditFilter, latchkey.AuditID) (latchkey.Page[latchkey.AuditEvent], error)
	out    io.Writer
	sleep  func(context.Context, time.Duration) error

	last    latchkey.AuditID // of what has been written
	written int
}

// run copies what there is and, when it follows, what comes, until ctx ends.
func (e *exporter) run(ctx context.Context) error {
	status := e.newStatus(e.out)
	err := e.copy(ctx, status)
	status.clear()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && e.follow {
		err = nil // that is how it is ended
	}
	switch {
	case err != nil && e.written > 0:
		e.Say("%s written, up to %s", counted(e.written, "entry", "entries"), e.last)
	case err == nil:
		e.Say("%s written", counted(e.written, "entry", "entries"))
	}
	return err
}

func (e *exporter) copy(ctx context.Context, status *statusLine) error {
	for {
		page, err := e.page(ctx, status)
		if err != nil {
			return err
		}
		if err := e.write(page.Items); err != nil {
			return err
		}
		if n := len(page.Items); n > 0 {
			status.set("%d entries, up to %s", e.written, cli.When(page.Items[n-1].At))
		}
		if page.Next != "" && len(page.Items) > 0 {
			continue
		}
		if !e.follow {
			return nil
		}
		if err := e.sleep(ctx, followPoll); err != nil {
			return err
		}
	}
}

// page asks for the next entries, again and again if the server is away for a
// while.
func (e *exporter) page(ctx context.Context, status *statusLine) (latchkey.Page[latchkey.AuditEvent], error) {
	pause := exportPause
	for failures := 1; ; failures++ {
		page, err := e.next(ctx, e.filter, e.last)
		if ctx.Err() != nil {
			return page, ctx.Err()
		}
		if err == nil && failures > 1 && status.out == nil {
			e.Say("the server is back")
		}
		if err == nil || !errors.Is(err, latchkey.ErrUnavailable) || failures == exportFailures {
			return page, err
		}
		if failures == 1 && status.out == nil {
			e.Say("%s; waiting for it", cli.Message(err)[0])
		}
		status.set("%s; trying again in %s", cli.Message(err)[0], pause)
		if err := e.sleep(ctx, pause); err != nil {
			return page, err
		}
		pause = min(2*pause, exportMaxPause)
	}
}

// write writes entries durably, where the output is a file.
func (e *exporter) write(entries []latchkey.AuditEvent) error {
	if len(entries) == 0 {
		return nil
	}
	var lines []byte
	for _, entry := range entries {
		line, err := cli.MarshalJSON(entry, "")
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	if _, err := e.out.Write(lines); err != nil {
		return fmt.Errorf("write entries: %w", err)
	}
	e.written += len(entries)
	e.last = entries[len(entries)-1].ID
	return nil
}

// counted writes how many of something there are.
func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// sleep waits for a while, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
