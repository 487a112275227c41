package db

import "context"

type traceKey struct{}

// WithTrace returns a context whose transactions call trace with each statement
// and its arguments before they run it. Tests look at how a database would carry
// out the statements that there really are.
func WithTrace(ctx context.Context, trace func(query string, args []any)) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

// traced tells who wants to know of a statement.
func (tx *Tx) traced(query string, args []any) {
	if tx.trace != nil {
		tx.trace(query, args)
	}
}
