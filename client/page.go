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

// A ListOption says what of a list is asked for, and in which order.
type ListOption func(url.Values)

// Search restricts a list to what has a text in its name or description, in any case.
func Search(text string) ListOption {
	return func(q url.Values) {
		if text != "" {
			q.Set("search", text)
		}
	}
}

// Sort chooses the order of a list: one of [latchkey.SortOrders], or "" for names.
// A list that does not have it answers latchkey.ErrInvalid.
func Sort(order string) ListOption {
	return func(q url.Values) {
		if order != "" {
			q.Set("sort", order)
		}
	}
}

// options returns a query with options added to it; q may be nil.
func options(q url.Values, options []ListOption) url.Values {
	if q == nil {
		q = url.Values{}
	}
	for _, o := range options {
		o(q)
	}
	return q
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
