// Package latchkeytest starts a whole Latchkey service inside a test: database,
// broker, embedded vault and, when asked for, the REST API.
//
//	s := latchkeytest.New(t, latchkeytest.Options{})
//	c := s.Chain(t)            // an environment with everything a run needs
//	m := c.Machine             // a machine whose agent the test plays
//	claim := m.Claim(t)
//
// Everything is stopped and removed when the test ends. [EachDB] runs a test on
// SQLite and on PostgreSQL.
package latchkeytest
