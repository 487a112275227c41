//go:build race

package accesstest

// The race detector makes the sequences several times as slow, and they find no
// races: make test runs them without it as well.
const (
	usual = 100
	quick = true
)
