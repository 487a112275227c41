// Package broker is where Latchkey decides. Every operation of the service is a
// method of [Broker] that takes its caller, or the [AgentSession] of a machine's
// agent, and does the same three things in one transaction: authorize, do, record.
//
// What the caller may not see does not exist for it: such operations return
// latchkey.ErrNotFound, by the same path as for things that do not exist. What
// it may see but not do is latchkey.ErrDenied, and the denial is in the audit
// log. No operation makes a network call inside a transaction.
package broker
