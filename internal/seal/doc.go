// Package seal holds Latchkey's cryptography: encryption at rest under the
// master key, tokens, the handshake between an agent and the server, and the
// sealing of a released credential to the machine of a claimed run.
//
// It uses the standard library's primitives only, and composes them in two
// rules that hold everywhere:
//
//   - What is signed, authenticated or bound is a transcript: a label of its
//     own, then every field with its length. Never JSON, whose bytes are not
//     unique. See transcript.
//   - A key has one use. Keys for other uses are derived from it with HKDF and a
//     label of their own.
//
// # At rest
//
// [Key.SealWith] encrypts a record under a data key of its own, which is wrapped by
// a key derived from the master key. The bindings (table, column, row, version)
// are associated data of both, so that a box opens in its place only.
//
// # A session
//
// The machine signs a [latchkey.SessionRequest] with its Ed25519 key. The server
// checks it, encapsulates a secret to the machine's X25519 key with HPKE (RFC
// 9180), and signs its answer together with the request. Only the holder of the
// machine's keys can derive the secret, and it does so only for an answer that
// is signed by the key in its enrolment token. The secret yields one key for
// message authentication, and one from which every release gets its own.
//
// A session has no forward secrecy against theft of the machine's own key: who
// has it and recorded the traffic can read the releases in it.
package seal
