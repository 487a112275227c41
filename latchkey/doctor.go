package latchkey

import (
	"fmt"
	"slices"
	"time"
)

// A FindingState says how a prerequisite stands.
type FindingState string

const (
	FindingOK      FindingState = "ok"
	FindingWarning FindingState = "warning" // works, and may soon not, or is not as it should be
	FindingFailed  FindingState = "failed"  // something does not work until somebody acts
	FindingUnknown FindingState = "unknown" // could not be found out
)

// A Finding is how one prerequisite stands. It never holds a value.
type Finding struct {
	Area    string       `json:"area" enum:"server,database,audit,azure,vaults,environment,machines"`
	Check   string       `json:"check" doc:"the prerequisite, for programs"`
	Subject string       `json:"subject,omitempty" doc:"the thing that it is about, if there are several"`
	State   FindingState `json:"state" enum:"ok,warning,failed,unknown"`
	Message string       `json:"message" doc:"what was found, in a sentence"`
	Remedy  string       `json:"remedy,omitempty" doc:"what to do"`
	Command string       `json:"command,omitempty" doc:"the command that mends it"`
}

// findingAreas are the areas of findings, in the order in which they are told.
var findingAreas = []string{"server", "database", "audit", "azure", "vaults", "environment", "machines"}

// SortFindings puts findings in the order of their areas; within one they stay as
// they are.
func SortFindings(f []Finding) {
	slices.SortStableFunc(f, func(a, b Finding) int {
		return slices.Index(findingAreas, a.Area) - slices.Index(findingAreas, b.Area)
	})
}

// DoctorOptions choose what doctor looks at.
type DoctorOptions struct {
	Environment string // id or name; "" is the whole installation
	Offline     bool   // ask nothing over the network: no vault, and not Azure
}

// A DoctorReport is how the prerequisites of the service stand: those of the whole
// installation, or those of one environment.
type DoctorReport struct {
	At          time.Time `json:"at" doc:"when, by the server's clock"`
	Version     string    `json:"version" doc:"of the server that answered"`
	Environment string    `json:"environment,omitempty" doc:"name of the environment; absent for the installation"`
	Findings    []Finding `json:"findings" nullable:"false"`
}

// Failed reports whether something does not work.
func (r *DoctorReport) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.State == FindingFailed })
}

// EndOfCertificate returns how a certificate stands that ends at a time: it is a
// warning from within before that on.
func EndOfCertificate(area, check, name string, ends, now time.Time, within time.Duration) Finding {
	f := Finding{Area: area, Check: check, State: FindingOK, Message: fmt.Sprintf("%s is valid until %s.", name, ends.UTC().Format(time.RFC3339))}
	switch {
	case !now.Before(ends):
		f.State, f.Message = FindingFailed, fmt.Sprintf("%s ended on %s.", name, ends.UTC().Format(time.RFC3339))
		f.Remedy = "Renew it."
	case ends.Sub(now) < within:
		f.State, f.Remedy = FindingWarning, "Renew it before then."
	}
	return f
}
