package client

import (
	"context"
	"net/http"
	"net/url"

	"latchkey.dev/latchkey"
)

// Doctor returns how the prerequisites of the installation stand, or those of an
// environment, by its id or name, unless that is "".
func (c *Client) Doctor(ctx context.Context, environment string) (r latchkey.DoctorReport, err error) {
	q := url.Values{}
	if environment != "" {
		q.Set("environment", environment)
	}
	err = c.do(ctx, http.MethodGet, "/doctor", q, nil, &r)
	return r, err
}
