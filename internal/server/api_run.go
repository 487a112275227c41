package server

import (
	"context"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// maxLogWait bounds the long poll for a run's output.
const maxLogWait = 30 * time.Second

// InRun is the part of a request that names a run.
type InRun struct {
	InEnv
	ID latchkey.RunID `path:"id" doc:"id of the run, run_…"`
}

type runIn struct{ InRun }

type runsIn struct {
	InEnv
	Paging
	Kind       latchkey.RunKind      `query:"kind" enum:"flow,test" doc:"flow, the default, or test: only runs of this kind"`
	State      latchkey.RunState     `query:"state" enum:"queued,running,succeeded,failed,cancelled,timed-out" doc:"only runs in this state"`
	Flow       latchkey.FlowID       `query:"flow" doc:"only runs of this flow"`
	Connection latchkey.ConnectionID `query:"connection" doc:"only runs through this connection"`
	Machine    latchkey.MachineID    `query:"machine" doc:"only runs on this machine"`

	MachineGroup latchkey.MachineGroupID `query:"machineGroup" doc:"only runs for this machine group"`
}

func (s *server) runs(ctx context.Context, who latchkey.Caller, in *runsIn) (*listOf[latchkey.Run], error) {
	return list(s.b.Runs(ctx, who, in.Env, broker.RunFilter{
		Kind: in.Kind, State: in.State, Flow: in.Flow, Connection: in.Connection, Machine: in.Machine, MachineGroup: in.MachineGroup,
	}, in.options()))
}

func (s *server) startRun(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.RunCreate]) (*created[latchkey.Run], error) {
	r, err := s.b.StartRun(ctx, who, in.Env, in.Body)
	return at(r, "environments", in.Env, "runs", string(r.ID)), err
}

func (s *server) run(ctx context.Context, who latchkey.Caller, in *runIn) (*one[latchkey.Run], error) {
	return show(s.b.Run(ctx, who, in.Env, in.ID))
}

func (s *server) cancelRun(ctx context.Context, who latchkey.Caller, in *runIn) (*one[latchkey.Run], error) {
	return show(s.b.CancelRun(ctx, who, in.Env, in.ID))
}

type runLogIn struct {
	InRun
	Offset int64  `query:"offset" minimum:"0" doc:"next of the answer before; 0 is the beginning"`
	Wait   string `query:"wait" example:"20s" doc:"how long to wait for output, at most 30s"`
}

func (s *server) runLog(ctx context.Context, who latchkey.Caller, in *runLogIn) (*one[latchkey.RunLog], error) {
	wait, err := parseWait(in.Wait, 0, maxLogWait)
	if err != nil {
		return nil, err
	}
	log, err := s.b.RunLog(ctx, who, in.Env, in.ID, in.Offset, wait)
	if log.Chunks == nil {
		log.Chunks = []latchkey.LogChunk{}
	}
	return show(log, err)
}

// parseWait reads how long a request may wait.
func parseWait(text string, unset, limit time.Duration) (time.Duration, error) {
	if text == "" {
		return unset, nil
	}
	var wait latchkey.Duration
	if err := wait.UnmarshalText([]byte(text)); err != nil {
		return 0, latchkey.Invalid("wait", "%v", err)
	}
	return min(max(time.Duration(wait), 0), limit), nil
}
