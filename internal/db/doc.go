// Package db holds all SQL of Latchkey: one schema and one SQL text for SQLite
// and PostgreSQL.
//
// Every statement is in the portable subset of the two: $1 placeholders, text,
// big integers, booleans and bytes, no engine's functions for time, identifiers
// or JSON. Only the engine knows the committed order of the audit log, the
// clock of the database's server, whether the database is a copy, and its own
// health. Work happens in transactions:
// [DB.Update] writes, [DB.View] reads, and the queries are methods of [Tx], so
// that operations compose. A transaction never spans a network call other than
// to the database.
package db
