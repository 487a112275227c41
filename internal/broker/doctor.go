package broker

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Bounds of what doctor finds worth saying.
const (
	doctorSkew     = 5 * time.Second     // of the clocks of server and database
	doctorEnd      = 30 * 24 * time.Hour // before the end of a certificate
	doctorHeld     = 10 * time.Minute    // that a transaction may hold the committed order of the audit log up
	doctorTroubles = 20                  // of one kind that are named
)

// Doctor looks at the prerequisites of the installation, or of an environment. Of an
// environment it asks the vaults that references name, and what of Azure they depend
// on, unless it is told to stay offline; what it says of single references is what
// their checks found last. It reads no secret. Asking takes less than a minute.
func (b *Broker) Doctor(ctx context.Context, who latchkey.Caller, options latchkey.DoctorOptions) (r latchkey.DoctorReport, err error) {
	r = latchkey.DoctorReport{At: b.now().UTC(), Version: b.version, Findings: []latchkey.Finding{}}
	var q vault.Survey
	if options.Environment != "" {
		var e latchkey.Environment
		err = b.update(ctx, who, func(o *op) (err error) {
			if e, err = o.environment(options.Environment); err != nil {
				return err
			}
			t := thing{latchkey.KindEnvironment, e.ID, "", e.Name, latchkey.ActEnvironmentRead}
			if err := o.allow(latchkey.ActDoctorIn, t); err != nil {
				return err
			}
			r.Environment = e.Name
			return o.record(latchkey.ActDoctorIn, t, nil)
		})
		if err != nil {
			return r, err
		}
		// It takes a while in a large environment: nobody shall wait to write meanwhile.
		err = b.view(ctx, who, func(o *op) (err error) {
			if r.Findings, err = o.doctorEnvironment(e, b.version); err != nil {
				return err
			}
			var more []latchkey.Finding
			q, more, err = o.surveyEnvironment(b, e)
			r.Findings = append(r.Findings, more...)
			return err
		})
		if err == nil {
			r.Findings = append(r.Findings, b.ask(ctx, q, options.Offline)...)
		}
		return r, err
	}
	// That this is on record shows that the audit log takes entries.
	if err := b.update(ctx, who, func(o *op) (err error) {
		if err := o.allow(latchkey.ActDoctor, tenantThing); err != nil {
			return err
		}
		if q, err = o.surveyInstallation(); err != nil {
			return err
		}
		return o.record(latchkey.ActDoctor, installation, nil)
	}); err != nil {
		return r, err
	}
	r.Findings = append(r.Findings, latchkey.Finding{Area: "audit", Check: "audit-written", State: latchkey.FindingOK, Message: "The audit log takes entries."})
	for _, f := range []func(context.Context) ([]latchkey.Finding, error){b.doctorDatabase, b.doctorKeys, b.doctorAuthority, b.doctorEnvironments} {
		found, err := f(ctx)
		if err != nil {
			return r, err
		}
		r.Findings = append(r.Findings, found...)
	}
	r.Findings = append(r.Findings, b.ask(ctx, q, options.Offline)...)
	return r, nil
}

func (b *Broker) doctorDatabase(ctx context.Context) ([]latchkey.Finding, error) {
	h, err := b.db.Health(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	found := []latchkey.Finding{{Area: "database", Check: "database", State: latchkey.FindingOK, Message: fmt.Sprintf("%s answers; the database has %s.", h.Engine, megabytes(h.Size))}}
	if h.Schema == h.Program {
		found = append(found, latchkey.Finding{Area: "database", Check: "migrations", State: latchkey.FindingOK, Message: fmt.Sprintf("The schema has version %d, as this program's.", h.Schema)})
	} else {
		found = append(found, latchkey.Finding{Area: "database", Check: "migrations", State: latchkey.FindingFailed,
			Message: fmt.Sprintf("The schema has version %d, and this program's is %d: a server of another version has been started on the database.", h.Schema, h.Program),
			Remedy:  "Run the same version everywhere, and restart the servers."})
	}
	durable := latchkey.Finding{Area: "database", Check: "durability", State: latchkey.FindingOK, Message: "What is committed survives a loss of power, as far as the disks keep their word."}
	if len(h.Lax) > 0 {
		durable.State, durable.Message = latchkey.FindingFailed, fmt.Sprintf("What is committed may be lost: the database runs with %s.", strings.Join(h.Lax, ", "))
		durable.Remedy = "Turn that on in the database's configuration: nothing may be released whose record can be lost."
	}
	found = append(found, durable)
	skew, err := b.db.Skew(ctx)
	if err != nil {
		return nil, err
	}
	clock := latchkey.Finding{Area: "database", Check: "clock", State: latchkey.FindingOK, Message: "This server's clock agrees with the database's."}
	switch {
	case strings.HasPrefix(h.Engine, "SQLite"):
		clock.Message = "The database is in this process and has no clock of its own to compare with; how far agents' and vaults' clocks are off is said where it matters."
	case skew.Abs() > doctorSkew:
		clock.State, clock.Message = latchkey.FindingWarning, fmt.Sprintf("This server's clock is %s ahead of the database server's.", skew.Round(time.Millisecond))
		clock.Remedy = "Have both take the time from the same source: servers judge each other's leases by their clocks."
	}
	found = append(found, clock)
	order := latchkey.Finding{Area: "audit", Check: "audit-order", State: latchkey.FindingOK, Message: "Nothing holds up the export of the audit log."}
	if h.Oldest > doctorHeld {
		order.State, order.Message = latchkey.FindingWarning, fmt.Sprintf("A transaction that has been open for %s holds up the export of the audit log; its list is not affected.", h.Oldest.Round(time.Second))
		order.Remedy = "Look for it in pg_stat_activity, and end it."
	}
	return append(found, order), nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// doctorKeys looks at the master keys.
func (b *Broker) doctorKeys(ctx context.Context) ([]latchkey.Finding, error) {
	var known []db.MasterKey
	old := 0
	err := b.db.View(ctx, func(tx *db.Tx) (err error) {
		if known, err = tx.MasterKeys(); err != nil {
			return err
		}
		if old = 0; len(known) < 2 {
			return nil
		}
		seals, err := tx.SealingKey()
		if err != nil {
			return err
		}
		for _, c := range db.SealedColumns() {
			counts, err := tx.BoxCounts(c)
			if err != nil {
				return err
			}
			for id, n := range counts {
				if id != seals {
					old += int(n)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := holdsKeys(b.key, known); err != nil {
		return []latchkey.Finding{{Area: "server", Check: "master-key", State: latchkey.FindingFailed, Message: strings.ToUpper(err.Error()[:1]) + err.Error()[1:] + ".", Remedy: "Put the key file in place that holds every key of the database."}}, nil
	}
	f := latchkey.Finding{Area: "server", Check: "master-key", State: latchkey.FindingOK, Message: "The master key is the database's."}
	switch {
	case old > 0:
		f.State, f.Message, f.Command = latchkey.FindingWarning, fmt.Sprintf("A change of the master key is not finished: %s still sealed with an older one.", areSealed(old)), "latchkey master-key rewrap"
	case len(known) > 1:
		f.State, f.Message, f.Command = latchkey.FindingWarning, "A change of the master key is not finished: nothing is sealed with the older one any more, and it has not been retired.", "latchkey master-key retire"
	}
	return []latchkey.Finding{f}, nil
}

func areSealed(n int) string {
	if n == 1 {
		return "1 value is"
	}
	return fmt.Sprintf("%d values are", n)
}

// doctorAuthority looks at the certificate that vouches for the embedded vaults.
func (b *Broker) doctorAuthority(context.Context) ([]latchkey.Finding, error) {
	block, _ := pem.Decode(b.Authority())
	if block == nil {
		return nil, nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	return []latchkey.Finding{latchkey.EndOfCertificate("vaults", "vault-authority", "The certificate of the embedded vaults' authority", c.NotAfter, b.now(), doctorEnd)}, nil
}

// doctorEnvironments looks at every environment without naming what is in it.
func (b *Broker) doctorEnvironments(ctx context.Context) (found []latchkey.Finding, err error) {
	page := latchkey.PageOptions{Limit: latchkey.MaxPage}
	for {
		var some []latchkey.Finding
		next := ""
		err := b.db.View(ctx, func(tx *db.Tx) error {
			some = nil
			p, err := tx.Environments(latchkey.ServiceIdentity, true, page)
			if err != nil {
				return err
			}
			for _, e := range p.Items {
				f, err := referenceSummary(tx, e)
				if err != nil {
					return err
				}
				rest, err := (&op{tx, serviceCaller}).restSummary(e, b.version)
				if err != nil {
					return err
				}
				some = append(some, f, rest)
			}
			next = p.Next
			return nil
		})
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
		if page.After = next; next == "" {
			return found, nil
		}
	}
}

func referenceSummary(tx *db.Tx, e latchkey.Environment) (latchkey.Finding, error) {
	troubles, total, err := tx.ReferenceTroubles(e.ID, doctorTroubles+1)
	f := latchkey.Finding{Area: "environment", Check: "references", Subject: e.Name, State: latchkey.FindingOK}
	switch {
	case total == 0:
		f.Message = "There is no secret reference."
	case len(troubles) == 0:
		f.Message = fmt.Sprintf("The checks of all of %s have passed.", count(total, "secret reference"))
	default:
		f.State, f.Message = latchkey.FindingWarning, fmt.Sprintf("Of %s the checks of %s have not passed.", count(total, "secret reference"), upTo(len(troubles)))
		f.Command = "latchkey doctor --environment " + e.Name
	}
	return f, err
}

// restSummary says how the machines of an environment, their agents and the
// certificates of its credentials stand, and names none.
func (o *op) restSummary(e latchkey.Environment, version string) (latchkey.Finding, error) {
	f := latchkey.Finding{Area: "environment", Check: "components", Subject: e.Name, State: latchkey.FindingOK, Message: "Its machines, their agents and the certificates of its credentials are in order."}
	found, err := o.doctorMachines(e, version)
	if err != nil {
		return f, err
	}
	groups, err := o.doctorMachineGroups(e)
	if err != nil {
		return f, err
	}
	certificates, err := o.doctorCertificates(e)
	if err != nil {
		return f, err
	}
	found = append(found, groups...)
	counts := map[latchkey.FindingState]int{}
	for _, x := range append(found, certificates...) {
		if x.Check != "certificates" { // which sums the others up
			counts[x.State]++
		}
	}
	var parts []string
	for _, s := range []latchkey.FindingState{latchkey.FindingUnknown, latchkey.FindingWarning, latchkey.FindingFailed} { // the gravest counts
		if n := counts[s]; n > 0 {
			f.State = s
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) > 0 {
		f.Message = fmt.Sprintf("Of its machines, their agents and the certificates of its credentials: %s.", strings.Join(parts, ", "))
		f.Command = "latchkey doctor --environment " + e.Name
	}
	return f, nil
}

// upTo says how many there are of what is counted up to doctorTroubles only.
func upTo(n int) string {
	if n > doctorTroubles {
		return fmt.Sprintf("more than %d", doctorTroubles)
	}
	return fmt.Sprint(n)
}

// doctorEnvironment looks at what runs of an environment depend on. version is the
// server's.
func (o *op) doctorEnvironment(e latchkey.Environment, version string) ([]latchkey.Finding, error) {
	vaults := latchkey.Finding{Area: "environment", Check: "vaults-listed", State: latchkey.FindingOK, Message: fmt.Sprintf("References may name %s.", count(len(e.Vaults), "vault"))}
	switch {
	case slices.Contains(e.Vaults, latchkey.AnyVault):
		vaults.State, vaults.Message = latchkey.FindingWarning, "References may name any vault that their makers may read."
		vaults.Remedy = "List the vaults that this environment is for."
	case len(e.Vaults) == 0:
		vaults.State, vaults.Message = latchkey.FindingWarning, "References may name no vault: none is listed."
		vaults.Remedy = "List the vaults that this environment is for."
	}
	summary, err := referenceSummary(o.Tx, e)
	if err != nil {
		return nil, err
	}
	summary.Command, summary.Subject = "", ""
	found := []latchkey.Finding{vaults, summary}
	troubles, _, err := o.ReferenceTroubles(e.ID, doctorTroubles)
	if err != nil {
		return nil, err
	}
	for _, t := range troubles {
		f := latchkey.Finding{Area: "environment", Check: "reference", Subject: t.Variable, State: latchkey.FindingFailed, Message: t.Message, Remedy: t.Remedy}
		switch {
		case t.State == latchkey.CheckChecking:
			f.State, f.Message = latchkey.FindingUnknown, "It is being checked."
		case t.InForce || t.Override:
			f.State = latchkey.FindingWarning // releases read it all the same
		case t.State == latchkey.CheckUnknown:
			f.State = latchkey.FindingUnknown
		}
		found = append(found, f)
	}
	for _, f := range []func() ([]latchkey.Finding, error){
		func() ([]latchkey.Finding, error) { return o.doctorCertificates(e) },
		func() ([]latchkey.Finding, error) { return o.doctorMachines(e, version) },
		func() ([]latchkey.Finding, error) { return o.doctorMachineGroups(e) },
	} {
		some, err := f()
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// doctorCertificates looks at the certificates of an environment's credentials: at
// what their checks found last, and at when they end.
func (o *op) doctorCertificates(e latchkey.Environment) ([]latchkey.Finding, error) {
	troubles, total, err := o.CertificateTroubles(e.ID, o.Now.Add(doctorEnd), doctorTroubles+1)
	if err != nil || total == 0 {
		return nil, err
	}
	all := latchkey.Finding{Area: "environment", Check: "certificates", State: latchkey.FindingOK, Message: fmt.Sprintf("The checks of all of %s of credentials have passed, and none ends within %d days.", count(total, "certificate"), doctorEnd/(24*time.Hour))}
	if len(troubles) > 0 {
		all.State = latchkey.FindingWarning
		all.Message = fmt.Sprintf("Of %s of credentials %s are not in order, or end within %d days.", count(total, "certificate"), upTo(len(troubles)), doctorEnd/(24*time.Hour))
	}
	found := []latchkey.Finding{all}
	for _, t := range troubles[:min(len(troubles), doctorTroubles)] {
		f := latchkey.Finding{}
		if t.ExpiresAt != nil {
			f = latchkey.EndOfCertificate("", "", "The certificate", *t.ExpiresAt, o.Now, doctorEnd)
		}
		f.Area, f.Check, f.Subject = "environment", "certificate", t.Name
		switch {
		case f.State == latchkey.FindingFailed: // it has ended, whatever else is
			f.Remedy = "Make a new version of it in the vault."
		case t.State == latchkey.CheckFailed:
			f.State, f.Message, f.Remedy = latchkey.FindingFailed, sentence(t.Message), sentence(t.Remedy)
		case t.State == latchkey.CheckUnknown:
			f.State, f.Message, f.Remedy = latchkey.FindingUnknown, sentence(t.Message), sentence(t.Remedy)
		case t.State == latchkey.CheckChecking && f.State != latchkey.FindingWarning:
			f.State, f.Message, f.Remedy = latchkey.FindingUnknown, "It is being looked at.", ""
		case f.State == latchkey.FindingWarning:
			f.Remedy = "Make a new version of it in the vault before then."
		}
		if f.State != latchkey.FindingOK && t.State != latchkey.CheckChecking {
			f.Command = fmt.Sprintf("latchkey credential check %s --environment %s", t.Credential, e.Name)
		}
		found = append(found, f)
	}
	return found, nil
}

// sentence returns a part of a sentence as a sentence.
func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// maxDoctorMachines bounds the machines that doctor looks at.
const maxDoctorMachines = 5000

// doctorMachines looks at the machines of an environment.
func (o *op) doctorMachines(e latchkey.Environment, version string) (found []latchkey.Finding, err error) {
	total, online, named := 0, 0, 0
	page := latchkey.PageOptions{Limit: latchkey.MaxPage}
	for {
		p, err := o.Machines(e.ID, db.Visible{Everything: true}, page)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Items {
			total++
			f := latchkey.Finding{Area: "machines", Check: "machine", Subject: m.Name}
			switch {
			case m.Status == latchkey.MachineQuarantined:
				f.State, f.Message = latchkey.FindingFailed, "It is quarantined: "+m.StatusReason+"."
				f.Remedy, f.Command = "Find out why, and enrol it anew.", "latchkey machine token --machine "+m.Name
			case m.Status == latchkey.MachineOffline:
				f.State, f.Message = latchkey.FindingWarning, "Its agent has not been heard of for a minute."
				f.Remedy = "See that its agent runs and reaches the server: latchkey-agent status on the machine."
			case m.AgentVersion != version:
				f.State, f.Message = latchkey.FindingWarning, fmt.Sprintf("Its agent has version %s, and the server %s.", m.AgentVersion, version)
				f.Remedy = "Install the server's version on the machine, and restart the agent."
			}
			if m.Status == latchkey.MachineOnline {
				online++
			}
			if f.State != "" && named < doctorTroubles {
				named++
				found = append(found, f)
			}
		}
		if page.After = p.Next; page.After == "" || total >= maxDoctorMachines {
			break
		}
	}
	all := latchkey.Finding{Area: "machines", Check: "machines", State: latchkey.FindingOK, Message: fmt.Sprintf("%d of %s are online.", online, count(total, "machine"))}
	switch {
	case total == 0:
		all.State, all.Message = latchkey.FindingWarning, "There is no machine."
		all.Command = "latchkey machine token --environment " + e.Name
	case online == 0:
		all.State = latchkey.FindingFailed
	}
	return append([]latchkey.Finding{all}, found...), nil
}

// doctorMachineGroups looks at the machine groups of an environment, a page of those
// that come first: it says which of them have no machine that could run anything now.
func (o *op) doctorMachineGroups(e latchkey.Environment) (found []latchkey.Finding, err error) {
	p, err := o.MachineGroups(e.ID, db.Visible{Everything: true}, latchkey.PageOptions{Limit: latchkey.MaxPage})
	if err != nil {
		return nil, err
	}
	groups := make([]*latchkey.MachineGroup, len(p.Items))
	for i := range p.Items {
		groups[i] = &p.Items[i]
	}
	if err := o.AddGroupLoad(groups...); err != nil {
		return nil, err
	}
	for _, g := range groups {
		f := latchkey.Finding{Area: "machines", Check: "machine-group", Subject: g.Name, State: latchkey.FindingWarning}
		switch {
		case g.Machines == 0:
			f.Message, f.Command = "It has no machine, so that runs for it are refused.", fmt.Sprintf("latchkey machine-group add %s MACHINE --environment %s", g.ID, e.Name)
		case g.Online == 0:
			f.State, f.Message = latchkey.FindingFailed, fmt.Sprintf("Of %s none is online.", count(g.Machines, "machine"))
			f.Remedy = "See that an agent runs on one of them and reaches the server, and that it is not disabled."
		default:
			continue
		}
		if found = append(found, f); len(found) == doctorTroubles {
			break
		}
	}
	return found, nil
}
