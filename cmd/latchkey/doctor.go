package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

const doctorHelp = `Doctor looks at what has to be so that flows run, and says of everything that is not
how to mend it. Without --environment it looks at the installation, for tenant admins:
the server that answers, the database, the audit log, keys and certificates, whether the
server can sign in to Azure, and in short at each environment. With --environment it looks
at one, for its admins and auditors: the vaults that references name, whether they answer,
who may read them and how near they are to their limits, with what they depend on in Azure;
the check of each secret reference; the certificates of credentials; and the machines with
their agents.

Vaults and Azure are asked while it runs, which takes less than a minute; --offline asks
neither. What cannot be found out is unknown. It changes nothing and reads no secret; that
it was run is in the audit log. It ends with the exit code 1 if something does not work, and
with 0 if there are at most warnings.`

func (a *app) doctorCommand() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "look at the prerequisites, and say how to mend what is wrong",
		Long:  doctorHelp,
		Example: `  latchkey doctor
  latchkey doctor --environment prod --json`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			began := time.Now()
			stop := a.spin("looking at everything, vaults included")
			r, err := c.Doctor(cmd.Context(), latchkey.DoctorOptions{Environment: a.environment, Offline: offline})
			stop()
			ended := time.Now()
			if e, ok := errors.AsType[*latchkey.Error](err); ok && e.Check == string(latchkey.ActDoctor) {
				return cli.Hint(err, "latchkey doctor --environment NAME, for one that you are an admin of")
			}
			if err != nil {
				return err
			}
			if f, ok := ownClock(r.At, began, ended); ok && a.environment == "" {
				r.Findings = append(r.Findings, f)
			}
			if err := a.printDoctor(r); err != nil {
				return err
			}
			if r.Failed() {
				return errors.New("something does not work; see above")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask nothing over the network: no vault, and not Azure")
	return cmd
}

// clockApart is how far this machine's clock may be from the server's: agents date
// their requests by the server's clock, people's machines need not agree so well.
const clockApart = time.Minute

// ownClock returns what there is to say of this machine's clock, when the server's
// was at a time between began and ended.
func ownClock(at, began, ended time.Time) (latchkey.Finding, bool) {
	apart := max(began.Sub(at), at.Sub(ended))
	if apart < clockApart {
		return latchkey.Finding{}, false
	}
	return latchkey.Finding{Area: "server", Check: "clock-here", State: latchkey.FindingWarning,
		Message: fmt.Sprintf("This machine's clock and the server's are %s apart.", apart.Round(time.Second)),
		Remedy:  "Set right whichever is wrong: tokens and leases are judged by the server's."}, true
}

// findingMarks stand before findings.
var findingMarks = map[latchkey.FindingState]struct{ text, color string }{
	latchkey.FindingOK: {"ok", cli.Green}, latchkey.FindingWarning: {"warning", cli.Yellow},
	latchkey.FindingFailed: {"FAILED", cli.Red}, latchkey.FindingUnknown: {"unknown", cli.Yellow},
}

// printDoctor writes what was found, area by area.
func (a *app) printDoctor(r latchkey.DoctorReport) error {
	if a.JSON {
		return a.PrintJSON(r)
	}
	var b strings.Builder
	colors, area := a.Colors(a.Out), ""
	for _, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteByte('\n')
			}
			area = f.Area
			fmt.Fprintf(&b, "%s\n", cli.CleanLine(area))
		}
		mark := findingMarks[f.State]
		text := fmt.Sprintf("%-7s", mark.text)
		if colors {
			text = cli.Paint(mark.color, text)
		}
		message := f.Message
		if f.Subject != "" {
			message = f.Subject + ": " + message
		}
		fmt.Fprintf(&b, "  %s  %s\n", text, cli.CleanLine(message))
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%11s%s\n", "", cli.CleanLine(f.Remedy))
		}
		if f.Command != "" {
			fmt.Fprintf(&b, "%11stry: %s\n", "", cli.CleanLine(f.Command))
		}
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}
