package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode/utf8"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// prove runs the flow twice, with a rotation in between, and checks what it
// got.
func (q *quickstart) prove(ctx context.Context) error {
	q.say("\nRunning the flow")
	var first, second, old latchkey.Secret
	var version string
	steps := []quickStep{
		{"new password in the vault", func() (_ string, err error) {
			first, version, err = q.setSecret(ctx)
			q.passwords = append(q.passwords, first)
			return "version " + abbreviated(version), err
		}},
		{"run 1", func() (string, error) { return q.runOnce(ctx, first, version) }},
		{"rotation: another password in the vault; nothing else is edited", func() (_ string, err error) {
			old = first
			second, version, err = q.setSecret(ctx)
			q.passwords = append(q.passwords, second)
			return "version " + abbreviated(version), err
		}},
		{"run 2", func() (string, error) {
			if old.Reveal() == second.Reveal() {
				return "", errors.New("the rotation did not change the password")
			}
			return q.runOnce(ctx, second, version)
		}},
	}
	for _, s := range steps {
		if err := q.step(s.text, s.do); err != nil {
			return err
		}
	}
	return nil
}

// runOnce runs the flow and checks that it got this password: only who has it
// can answer the challenge.
func (q *quickstart) runOnce(ctx context.Context, password latchkey.Secret, version string) (string, error) {
	challenge := rand.Text()
	r, err := q.client.StartRun(ctx, quickEnv, latchkey.RunCreate{
		Flow: q.flow.ID, Connection: q.connection.ID, Inputs: map[string]string{proofInput: challenge},
	})
	if err != nil {
		return "", err
	}
	q.runs = append(q.runs, quickRun{r.ID, version})
	var stdout, stderr bytes.Buffer
	if err := copyLog(ctx, q.client, watch{logPause, silent}, quickEnv, r.ID, &stdout, &stderr); err != nil {
		return "", err
	}
	if r, err = q.client.Run(ctx, quickEnv, r.ID); err != nil {
		return "", err
	}
	if r.State != latchkey.RunSucceeded {
		msg := string(r.State)
		if r.Error != nil {
			msg += ": " + r.Error.Message
		}
		if text := strings.TrimSpace(stderr.String()); text != "" {
			msg += "\nthe flow said: " + text
		}
		return "", errors.New(msg)
	}
	got, ok := strings.CutPrefix(strings.TrimSpace(stdout.String()), proofPrefix)
	if !ok || got != proof(challenge, q.login, password) {
		return "", errors.New("the flow did not get the password that is in the vault now")
	}
	return fmt.Sprintf("succeeded, with the password of version %s (proof %s)", abbreviated(version), abbreviated(got)), nil
}

// showAudit prints what is on record about the two runs, and checks that each
// release was granted before it was delivered, and which version it was.
func (q *quickstart) showAudit(ctx context.Context) error {
	q.say("\nWhat is on record about the two releases")
	w := tabwriter.NewWriter(q.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "  TIME\tRUN\tACTION\tOUTCOME\tWHO\tWHAT\tVAULT VERSION")
	for i, r := range q.runs {
		var granted, delivered bool
		for e, err := range q.client.Audit(ctx, auditOf(r.id)) {
			if err != nil {
				return err
			}
			version := e.Details["version"]
			switch e.Action {
			case latchkey.ActReleaseGranted:
				granted = true
			case latchkey.ActReleaseDelivered:
				if !granted || version != r.version {
					return fmt.Errorf("the record of run %d does not fit what it got", i+1)
				}
				delivered = true
			}
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\t%s\n", e.At.Local().Format("15:04:05.000"), i+1, e.Action, e.Outcome,
				e.ActorName, firstOf(e.SubjectName, e.Subject), abbreviated(version))
		}
		if !delivered {
			return fmt.Errorf("the audit log shows no release for run %d", i+1)
		}
	}
	return w.Flush()
}

// abbreviated is the beginning of a version.
func abbreviated(version string) string {
	if len(version) <= 8 {
		return version
	}
	return version[:8] + "…"
}

// searchFiles looks for the passwords in everything that the server and the
// agent keep. In the vault they are sealed, and they should be nowhere else.
func (q *quickstart) searchFiles() (string, error) {
	files := 0
	err := filepath.WalkDir(q.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file that came and went
		}
		if err != nil {
			return err
		}
		if d.IsDir() && path == filepath.Dir(q.binary) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		files++
		for _, p := range q.passwords {
			if bytes.Contains(b, []byte(p.Reveal())) {
				return fmt.Errorf("%s holds a password in clear", path)
			}
		}
		return nil
	})
	return fmt.Sprintf("in none of %d", files), err
}

// next says what to try now.
func (q *quickstart) next() {
	program := cli.QuoteWord(q.binary)
	lines := [][2]string{
		{program + " quickstart --serve --data " + cli.QuoteWord(q.dir), "stay up and look around"},
		{program + " serve --data ./latchkey-data", "a server to keep"},
		{"rm -r " + cli.QuoteWord(q.dir), "remove all of this"},
	}
	width := 0
	for _, l := range lines {
		width = max(width, utf8.RuneCountInString(l[0]))
	}
	q.say("\nNext")
	for _, l := range lines {
		q.say("  %-*s # %s", width, l[0], l[1])
	}
}

// A quickResult is what quickstart prints for programs.
type quickResult struct {
	Dir         string           `json:"dir"`
	Server      string           `json:"server"`
	Environment string           `json:"environment"`
	Runs        []latchkey.RunID `json:"runs"`
	SignInLink  string           `json:"signInLink,omitempty"`
}

// result prints where everything is, and the link that signs in if there is one,
// to whom the rest is not shown.
func (q *quickstart) result(link string) error {
	switch {
	case q.app.JSON:
		r := quickResult{Dir: q.dir, Server: q.server.URL(), Environment: quickEnv, SignInLink: link}
		for _, run := range q.runs {
			r.Runs = append(r.Runs, run.id)
		}
		return q.app.PrintJSON(r)
	case q.app.Quiet && link != "":
		_, err := fmt.Fprintln(q.app.Out, cli.CleanLine(link))
		return err
	}
	return nil
}

// serve keeps server and agent up until an interrupt.
func (q *quickstart) serve(ctx context.Context) error {
	link, err := q.client.SignInLink(ctx)
	if err != nil {
		return err
	}
	program := cli.QuoteWord(q.binary)
	q.say("\nThe server stays up at %s until you press Ctrl-C.", q.server.URL())
	q.say("Sign in to its pages, once, within ten minutes: %s", link.URL)
	q.say("\nIn another terminal")
	q.say("  %s login --server %s --token-file %s -e %s", program, q.server.URL(), cli.QuoteWord(q.dir+string(os.PathSeparator)+adminTokenFile), quickEnv)
	q.say("  %s vault secret set %s %s", program, quickVault, quickSecret)
	q.say("  %s run start %s -c %s -i %s=hello --wait", program, cli.QuoteWord(quickFlow), cli.QuoteWord(quickConnection), proofInput)
	q.say("  %s audit list -e %s", program, quickEnv)
	q.say("To clean up afterwards: rm -r %s", cli.QuoteWord(q.dir))
	if err := q.result(link.URL); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	var kept sync.WaitGroup
	agent := q.agent
	q.agent = nil // keepRunning stops it
	kept.Go(func() { keepRunning(ctx, agent, q.startAgent) })
	stopped := make(chan error, 1)
	go func() { stopped <- q.server.Wait() }()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-stopped:
	}
	cancel()
	kept.Wait()
	if err == nil {
		err = q.server.Close()
	}
	return err
}
