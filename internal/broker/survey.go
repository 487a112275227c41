package broker

import (
	"context"
	"fmt"
	"time"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Bounds of what doctor asks of vaults.
const (
	maxSurveys        = 2  // at the same time
	maxSurveyedVaults = 20 // of an environment
	maxSurveyedPeople = 5  // of those who refer to a vault
	surveyWait        = 5 * time.Second
)

// surveyEnvironment returns what is to be asked of the vaults that the references of
// an environment name, and what there is to say of it before. A vault that the
// environment does not list is not asked.
func (o *op) surveyEnvironment(b *Broker, e latchkey.Environment) (q vault.Survey, found []latchkey.Finding, err error) {
	rows, err := o.SurveyedVaults(e.ID)
	if err != nil {
		return q, nil, err
	}
	if q.Tenants, err = o.LinkedAzureTenants(); err != nil {
		return q, nil, err
	}
	last, skipped := "", 0
	for _, r := range rows {
		if !allowsVault(e, r.VaultRef()) {
			continue
		}
		if key := r.VaultRef().Key(); key != last {
			last = key
			if len(q.Vaults) == maxSurveyedVaults {
				skipped++
				continue
			}
			s := vault.Subject{Question: vault.Question{Reference: r.SecretReference, Tenants: q.Tenants}}
			if _, s.Embedded, err = embeddedVault(o.Tx, r.VaultRef()); err != nil {
				return q, nil, err
			}
			s.Read = b.metadata(s.Question)
			q.Vaults = append(q.Vaults, s)
		}
		if skipped > 0 {
			continue
		}
		s := &q.Vaults[len(q.Vaults)-1]
		if s.Embedded || len(s.People) == maxSurveyedPeople {
			continue
		}
		q.Azure = true
		p, err := personOf(o.Tx, r.SavedBy)
		if err != nil {
			return q, nil, err
		}
		p.Secret = r.Secret
		s.People = append(s.People, p)
	}
	if skipped > 0 {
		found = append(found, latchkey.Finding{Area: "vaults", Check: "vaults-asked", State: latchkey.FindingUnknown,
			Message: fmt.Sprintf("References name more than %d vaults: the others were not asked.", maxSurveyedVaults),
			Remedy:  "The checks of the references tell of each of them."})
	}
	return q, found, nil
}

// surveyInstallation returns what is to be asked of Azure for the installation:
// nothing, unless a tenant is linked there or anything refers to a vault there.
func (o *op) surveyInstallation() (q vault.Survey, err error) {
	if q.Tenants, err = o.LinkedAzureTenants(); err != nil {
		return q, err
	}
	if q.Azure = len(q.Tenants) > 0; !q.Azure {
		q.Azure, err = o.AzureUsed()
	}
	return q, err
}

// ask carries out a survey, unless it is not to be.
func (b *Broker) ask(ctx context.Context, q vault.Survey, offline bool) []latchkey.Finding {
	if !q.Azure && len(q.Vaults) == 0 {
		return nil
	}
	why := ""
	switch {
	case offline:
		why = "without the network nothing is asked"
	case b.survey == nil:
		why = "this server reads no vaults"
	default:
		wait := time.NewTimer(surveyWait)
		defer wait.Stop()
		select {
		case b.surveys <- struct{}{}:
			defer func() { <-b.surveys }()
			return b.survey(ctx, q)
		case <-wait.C:
			why = "others have them asked now; try again"
		case <-ctx.Done():
			why = "there was no time"
		}
	}
	var found []latchkey.Finding
	if q.Azure {
		found = append(found, latchkey.Finding{Area: "azure", Check: "azure-sign-in", State: latchkey.FindingUnknown, Message: "Whether the service can sign in to Azure was not asked: " + why + "."})
	}
	if n := len(q.Vaults); n > 0 {
		found = append(found, latchkey.Finding{Area: "vaults", Check: "vaults-asked", State: latchkey.FindingUnknown,
			Message: fmt.Sprintf("Of the vaults that references name (%d) none was asked: %s.", n, why)})
	}
	return found
}
