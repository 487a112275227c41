// Package backup reads and writes the backup file of a whole installation.
//
// A backup is encrypted with age (https://age-encryption.org/v1) to one or more
// recipients; inside is gzip (RFC 1952), and inside that text, a JSON value on
// each line, so that what is in a backup can be read without this program:
//
//	age -d -i identity.txt FILE | gunzip | less
//
// The first line is the [Header]. For each table follow a line that names it
// and its columns, a line with an array for each row, and a line that says how
// many rows there were. The last line counts them all and holds the SHA-256 of
// every line before it: a file that was cut off or changed is found out.
// The order of the tables is such that a row comes after those that it refers
// to. It is the same for SQLite and PostgreSQL.
//
// Bytes are in base64. What Latchkey seals stays sealed: a backup does not hold
// the master key.
package backup
