// Package client speaks to a Latchkey server: for programs, for the command
// line and, in agent.go, for the agent.
//
// A [Client] has one method for every operation of the REST API. Failures that
// the server explains are *latchkey.Error, so that errors.Is tells their kinds
// apart as it does inside the server. A request without an answer, also one whose
// context has ended, is an ErrUnavailable with [CodeUnreachable]. Lists are iterators that fetch page after
// page as they are used.
package client
