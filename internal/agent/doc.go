// Package agent is what a machine runs: it enrols the machine, keeps a session
// with the server, claims runs and executes them.
//
// The agent decides by the machine's own policy file, which the server cannot
// change, before it starts anything. Released values are held no longer than it
// takes to hand them to the flow, and are never logged.
package agent
