package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"latchkey.dev/latchkey"
)

// An AuditFilter chooses entries of the audit log; empty fields choose all.
type AuditFilter struct {
	Environment  string // id or name
	Action       latchkey.Action
	Outcome      latchkey.Outcome
	Actor        latchkey.PrincipalID
	Subject      string
	Run          latchkey.RunID
	Machine      latchkey.MachineID
	Credential   latchkey.CredentialID
	Since, Until time.Time
	Oldest       bool // oldest first; otherwise newest first
}

// Audit lists entries of the audit log.
func (c *Client) Audit(ctx context.Context, f AuditFilter) iter.Seq2[latchkey.AuditEvent, error] {
	q := f.query()
	if f.Oldest {
		q.Set("order", "oldest")
	}
	return list[latchkey.AuditEvent](ctx, c, "/audit", q)
}

// AuditAfter returns the entries of the audit log that follow one, or the first
// ones after "", in the order in which entries became final. The log may be
// followed by it: nothing comes in before the last entry of an answer. Next is
// empty when there are no more yet; f.Oldest does not matter. An entry that the
// log does not have is an ErrConflict with the code "audit-entry-unknown".
func (c *Client) AuditAfter(ctx context.Context, f AuditFilter, after latchkey.AuditID) (latchkey.Page[latchkey.AuditEvent], error) {
	q := f.query()
	q.Set("order", "committed")
	q.Set("limit", strconv.Itoa(latchkey.MaxPage))
	if after != "" {
		q.Set("after", string(after))
	}
	var p latchkey.Page[latchkey.AuditEvent]
	err := c.do(ctx, http.MethodGet, "/audit", q, nil, &p)
	return p, err
}

func (f AuditFilter) query() url.Values {
	q := filter("environment", f.Environment, "action", string(f.Action), "outcome", string(f.Outcome),
		"actor", string(f.Actor), "subject", f.Subject, "run", string(f.Run), "machine", string(f.Machine),
		"credential", string(f.Credential))
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.UTC().Format(time.RFC3339Nano))
	}
	return q
}

// OpenAPI returns the server's OpenAPI document.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return c.send(ctx, http.MethodGet, c.base+"/openapi.json", nil)
}

// Ready returns nil if the server says that it can do its work.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.send(ctx, http.MethodGet, c.base+"/readyz", nil)
	return err
}
