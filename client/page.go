package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"latchkey.dev/latchkey"
)

// list returns an iterator over a list. It fetches the next page when the one
// before is used up, and ends after the first error.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{}
		for k, v := range query {
			q[k] = v
		}
		for {
			var page latchkey.Page[T]
			if err := c.do(ctx, http.MethodGet, path, q, nil, &page); err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" || page.Next == q.Get("after") {
				return
			}
			q.Set("after", page.Next)
		}
	}
}

// filter returns the pairs whose value is not empty as a query.
func filter(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}
