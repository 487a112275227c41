package client

import (
	"context"
	"iter"
	"net/http"
	"strconv"
	"time"

	"latchkey.dev/latchkey"
)

// A RunFilter chooses runs; empty fields choose all.
type RunFilter struct {
	Kind       latchkey.RunKind // "" is flows
	State      latchkey.RunState
	Flow       latchkey.FlowID
	Connection latchkey.ConnectionID
	Machine    latchkey.MachineID

	MachineGroup latchkey.MachineGroupID
}

// Runs lists the runs that the caller may see, newest first.
func (c *Client) Runs(ctx context.Context, env string, f RunFilter) iter.Seq2[latchkey.Run, error] {
	return list[latchkey.Run](ctx, c, join("environments", env, "runs"), filter("kind", string(f.Kind), "state", string(f.State),
		"flow", string(f.Flow), "connection", string(f.Connection), "machine", string(f.Machine),
		"machineGroup", string(f.MachineGroup)))
}

// Run returns a run.
func (c *Client) Run(ctx context.Context, env string, id latchkey.RunID) (latchkey.Run, error) {
	return call[latchkey.Run](ctx, c, http.MethodGet, join("environments", env, "runs", string(id)), nil)
}

// StartRun queues a run of a flow through a connection.
func (c *Client) StartRun(ctx context.Context, env string, in latchkey.RunCreate) (latchkey.Run, error) {
	return call[latchkey.Run](ctx, c, http.MethodPost, join("environments", env, "runs"), in)
}

// CancelRun asks to end a run; a queued one ends at once.
func (c *Client) CancelRun(ctx context.Context, env string, id latchkey.RunID) (latchkey.Run, error) {
	return call[latchkey.Run](ctx, c, http.MethodPost, join("environments", env, "runs", string(id), "cancel"), nil)
}

// RunLog returns a run's output from offset on. It waits for some, at most as
// long as wait, while the run goes on.
func (c *Client) RunLog(ctx context.Context, env string, id latchkey.RunID, offset int64, wait time.Duration) (latchkey.RunLog, error) {
	var out latchkey.RunLog
	q := filter("offset", strconv.FormatInt(offset, 10))
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	err := c.do(ctx, http.MethodGet, join("environments", env, "runs", string(id), "log"), q, nil, &out)
	return out, err
}
