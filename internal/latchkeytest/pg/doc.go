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
// The server runs without fsync and autovacuum, which tests do not need. With
// LATCHKEY_TEST_POSTGRES_DURABLE=on in the environment it has both, as benchmarks
// want.
package pg
