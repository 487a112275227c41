//go:build !linux

package broker_test

import "testing"

// newCluster skips the test: clusters of a test's own are for Linux.
func newCluster(t *testing.T) string {
	t.Helper()
	t.Skip("a second PostgreSQL cluster is for Linux")
	return ""
}
