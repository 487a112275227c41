package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// CreateEnrolmentToken makes a token with which machines enrol.
func (c *Client) CreateEnrolmentToken(ctx context.Context, env string, in latchkey.EnrolmentTokenCreate) (latchkey.EnrolmentToken, error) {
	return call[latchkey.EnrolmentToken](ctx, c, http.MethodPost, join("environments", env, "machines", "enrolment-tokens"), in)
}

// EnrolmentTokens lists the enrolment tokens that can still be used, without
// their values.
func (c *Client) EnrolmentTokens(ctx context.Context, env string) iter.Seq2[latchkey.EnrolmentToken, error] {
	return list[latchkey.EnrolmentToken](ctx, c, join("environments", env, "machines", "enrolment-tokens"), nil)
}

// RevokeEnrolmentToken ends an enrolment token. Machines that it has enrolled
// stay.
func (c *Client) RevokeEnrolmentToken(ctx context.Context, env string, id latchkey.EnrolmentTokenID) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "machines", "enrolment-tokens", string(id)), nil, nil, nil)
}

// Machines lists the machines that the caller may see.
func (c *Client) Machines(ctx context.Context, env string, o ...ListOption) iter.Seq2[latchkey.Machine, error] {
	return list[latchkey.Machine](ctx, c, join("environments", env, "machines"), options(nil, o))
}

// Machine returns a machine.
func (c *Client) Machine(ctx context.Context, env string, id latchkey.MachineID) (latchkey.Machine, error) {
	return call[latchkey.Machine](ctx, c, http.MethodGet, join("environments", env, "machines", string(id)), nil)
}

// UpdateMachine changes what is not nil in in.
func (c *Client) UpdateMachine(ctx context.Context, env string, id latchkey.MachineID, in latchkey.MachineUpdate) (latchkey.Machine, error) {
	return call[latchkey.Machine](ctx, c, http.MethodPatch, join("environments", env, "machines", string(id)), in)
}

// DeleteMachine removes a machine, also one in use if f says so. It can be restored.
func (c *Client) DeleteMachine(ctx context.Context, env string, id latchkey.MachineID, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "machines", string(id)), forcing(f), nil, nil)
}
