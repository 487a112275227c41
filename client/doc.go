// Package client speaks to a Latchkey server: for programs, for the command
// line and, in machine.go, for the agent.
//
// A [Client] has one method for every operation of the REST API. Failures that
// the server explains are *latchkey.Error, so that errors.Is tells their kinds
// apart as it does inside the server. Lists are iterators that fetch page after
// page as they are used.
package client
