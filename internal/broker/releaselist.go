package broker

import (
	"context"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// Releases lists the releases of a credential, refused ones too, newest first, for
// whoever may read the credential. Flows that the caller may not see are left out of
// them, and reasons are for who sees every credential of the environment.
func (b *Broker) Releases(ctx context.Context, who latchkey.Caller, env string, id latchkey.CredentialID, page latchkey.PageOptions) (p latchkey.Page[latchkey.ReleaseRecord], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, c, err := o.credential(env, id, latchkey.ActCredentialRead)
		if err != nil {
			return err
		}
		events, err := o.Tx.Releases(c.ID, page)
		if err != nil {
			return err
		}
		p = latchkey.Page[latchkey.ReleaseRecord]{Next: events.Next}
		p.Items, err = o.releaseRecords(e.ID, events.Items)
		return err
	})
	return p, err
}

// releaseRecords returns what the caller sees of releases.
func (o *op) releaseRecords(env latchkey.EnvironmentID, events []latchkey.AuditEvent) ([]latchkey.ReleaseRecord, error) {
	var runs []latchkey.RunID
	for _, e := range events {
		if e.Run != "" {
			runs = append(runs, e.Run)
		}
	}
	ends, err := o.ReleaseEnds(runs)
	if err != nil {
		return nil, err
	}
	places, err := o.RunPlaces(runs)
	if err != nil {
		return nil, err
	}
	flows, err := o.visibleFlows(env, places)
	if err != nil {
		return nil, err
	}
	all, err := o.visible(env, latchkey.ActCredentialRead)
	if err != nil {
		return nil, err
	}
	records := make([]latchkey.ReleaseRecord, len(events))
	for i, e := range events {
		place := places[e.Run]
		r := latchkey.ReleaseRecord{
			ID: e.ID, Release: e.Release, At: e.At, Outcome: latchkey.ReleaseGranted, Code: e.Code, Reason: e.Reason,
			Run: e.Run, Kind: place.Kind, Machine: e.Machine, MachineName: place.MachineName,
		}
		if flows(place.Flow) {
			r.Flow, r.FlowName = place.Flow, place.FlowName
		}
		if e.Action == latchkey.ActReleaseDenied {
			r.Outcome = latchkey.ReleaseDenied
		} else if end, ok := ends[e.Release]; ok {
			r.Outcome, r.Code, r.Reason, r.Version = latchkey.ReleaseDelivered, end.Code, end.Reason, end.Details[db.AuditVersion]
			if end.Action == latchkey.ActReleaseFailed {
				r.Outcome = latchkey.ReleaseFailed
			}
		}
		if !all.Everything {
			r.Reason = ""
		}
		records[i] = r
	}
	return records, nil
}

// visibleFlows returns what says whether the caller may see a flow of some runs.
func (o *op) visibleFlows(env latchkey.EnvironmentID, places map[latchkey.RunID]db.RunPlace) (func(latchkey.FlowID) bool, error) {
	visible, err := o.visible(env, latchkey.ActFlowRead)
	if err != nil || visible.Everything {
		return func(id latchkey.FlowID) bool { return id != "" }, err
	}
	var ids []string
	for _, p := range places {
		if p.Flow != "" {
			ids = append(ids, string(p.Flow))
		}
	}
	roles, err := o.Roles(o.who.ID, ids)
	return func(id latchkey.FlowID) bool {
		return (latchkey.Access{Role: roles[string(id)]}).Can(latchkey.ActFlowRead)
	}, err
}
