// Package pg starts a real PostgreSQL for tests.
//
// One server serves all tests of a process. It starts on the first call of New
// from the binaries that Debian's package postgresql installs, listens on a Unix
// socket in a folder of its own, and ends with the process, however that ends:
//
//	func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }
//
//	func TestStore(t *testing.T) {
//		dsn := pg.New(t) // an empty database, dropped when the test ends
//	}
//
// The server runs without fsync. A test or benchmark that needs a durable one
// says `alter system set fsync = on` and `select pg_reload_conf()`.
package pg
