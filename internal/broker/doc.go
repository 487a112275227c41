// Package broker is where Latchkey decides. Every operation of the service is a
// method of [Broker] that takes its caller, or the [AgentSession] of a machine's
// agent, and does the same three things in one transaction: authorize, do, record.
//
// Backups, restores and changes of the master key are the exception: Backup,
// VerifyBackup, Restore, EndRestored, KeyStatuses, RecordKeyAdded, Rewrap,
// RetireKeys and HasMasterKey are functions on a database. They work where no
// Broker can be, on a database that is empty, half restored or without its key, and
// without a server. Whoever calls them holds the database and the key file, and
// with these everything: there is nobody to authorize. They do and record; the
// actor on record is local administration, with the account of the operating
// system among the details.
//
// What the caller may not see does not exist for it: such operations return
// latchkey.ErrNotFound, by the same path as for things that do not exist. What
// it may see but not do is latchkey.ErrDenied, and the denial is in the audit
// log. No operation makes a network call inside a transaction.
package broker
