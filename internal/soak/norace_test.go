//go:build linux && !race

package soak

// withRace has the programs built with the race detector, as this test is.
const withRace = false
