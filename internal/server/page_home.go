package server

import (
	"context"
	"net/http"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// How much of each the overview shows.
const (
	homeEnvironments = 20
	homeItems        = 8
)

type homePage struct {
	shell
	Server       string
	TenantAdmin  bool
	Environments []homeEnvironment
}

type homeEnvironment struct {
	latchkey.Environment
	Runs        []latchkey.Run
	Credentials []latchkey.Credential
	Machines    []latchkey.Machine
	MayAudit    bool
	Audit       []latchkey.AuditEvent
}

func (s *server) homePage(w http.ResponseWriter, r *http.Request, who latchkey.Caller) error {
	me, err := s.b.Me(r.Context(), who)
	if err != nil {
		return err
	}
	environments, err := s.b.Environments(r.Context(), who, latchkey.PageOptions{Limit: homeEnvironments})
	if err != nil {
		return err
	}
	page := homePage{shell: s.shell("Overview", "home", who), Server: s.PublicURL(), TenantAdmin: me.TenantAdmin}
	for _, e := range environments.Items {
		h, err := s.homeEnvironment(r.Context(), who, e, me.TenantAdmin)
		if err != nil {
			return err
		}
		page.Environments = append(page.Environments, h)
	}
	s.render(w, r, http.StatusOK, "home", page)
	return nil
}

func (s *server) homeEnvironment(ctx context.Context, who latchkey.Caller, e latchkey.Environment, tenantAdmin bool) (h homeEnvironment, err error) {
	h.Environment = e
	few, id := latchkey.PageOptions{Limit: homeItems}, string(e.ID)
	runs, err := s.b.Runs(ctx, who, id, broker.RunFilter{}, few)
	if err != nil {
		return h, err
	}
	credentials, err := s.b.Credentials(ctx, who, id, few)
	if err != nil {
		return h, err
	}
	machines, err := s.b.Machines(ctx, who, id, few)
	if err != nil {
		return h, err
	}
	h.Runs, h.Credentials, h.Machines = runs.Items, credentials.Items, machines.Items
	// Asked by somebody else it would be refused, and the refusal on record.
	access := latchkey.Access{Tenant: tenantAdmin, Environment: []latchkey.EnvironmentRole{e.MyRole}}
	if h.MayAudit = access.Can(latchkey.ActAuditRead); h.MayAudit {
		log, err := s.b.Audit(ctx, who, broker.AuditFilter{Environment: id, Newest: true}, few)
		if err != nil {
			return h, err
		}
		h.Audit = log.Items
	}
	return h, nil
}
