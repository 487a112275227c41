package server

import (
	"context"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

type auditIn struct {
	Paging
	Environment string                `query:"environment" doc:"id or name; without it the whole installation"`
	Action      latchkey.Action       `query:"action" example:"release." doc:"an action such as release.granted, or the beginning of some with its dot"`
	Outcome     latchkey.Outcome      `query:"outcome" enum:"ok,denied,failed" doc:"how it ended"`
	Actor       latchkey.PrincipalID  `query:"actor" doc:"id of who did it"`
	Subject     string                `query:"subject" doc:"id of the thing acted on"`
	Run         latchkey.RunID        `query:"run" doc:"only entries of this run"`
	Machine     latchkey.MachineID    `query:"machine" doc:"only entries of this machine"`
	Credential  latchkey.CredentialID `query:"credential" doc:"only entries of this credential"`
	Since       time.Time             `query:"since" doc:"not before this time"`
	Until       time.Time             `query:"until" doc:"before this time"`
	Order       string                `query:"order" enum:"newest,oldest,committed" doc:"which come first; newest unless given. To follow the log take committed: the order in which entries became final, in which nothing comes in before what has been read; after may then be the id of the last entry that you have"`
}

func (s *server) audit(ctx context.Context, who latchkey.Caller, in *auditIn) (*listOf[latchkey.AuditEvent], error) {
	return list(s.b.Audit(ctx, who, broker.AuditFilter{
		Environment: in.Environment, Action: in.Action, Outcome: in.Outcome, Actor: in.Actor, Subject: in.Subject,
		Run: in.Run, Machine: in.Machine, Credential: in.Credential, Since: in.Since, Until: in.Until, Newest: in.Order != "oldest", Committed: in.Order == "committed",
	}, in.options()))
}
