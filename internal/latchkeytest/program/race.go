//go:build race

package program

// Race reports whether the test was built with the race detector.
const Race = true
