package client

import (
	"context"
	"net/http"
	"net/url"

	"latchkey.dev/latchkey"
)

// Doctor returns how the prerequisites of the installation stand, or those of an
// environment. Vaults are asked for it, which may take most of a minute.
func (c *Client) Doctor(ctx context.Context, o latchkey.DoctorOptions) (r latchkey.DoctorReport, err error) {
	q := url.Values{}
	if o.Environment != "" {
		q.Set("environment", o.Environment)
	}
	if o.Offline {
		q.Set("offline", "true")
	}
	err = c.do(ctx, http.MethodGet, "/doctor", q, nil, &r)
	return r, err
}
