// Package soak kills servers, agents and PostgreSQL at random moments while
// flows run, and then looks whether a promise was broken:
//
//   - no run is executed twice, and what is reported of one is what it did;
//   - a run is lost only if its agent was killed while it had the run;
//   - what anybody was told has happened has happened, and stays so;
//   - a flow has no secret without a release.granted on record, and the secret
//     is at least as new as what was current then;
//   - no process and no file of a run is left on the machine, nor on the SSH
//     server where it ran;
//   - no file, no log and no argument holds a secret;
//   - a backup that is taken meanwhile can be restored, with what was on record
//     by then and nothing else; and the master key can be changed meanwhile.
//
// A round in which nothing of a kind was executed, released or killed fails too.
//
// The programs are the real ones, built for the test, each in processes of its
// own: two servers on PostgreSQL behind a load balancer with three agents, and
// beside that one server on SQLite with one agent. As root, flows run as
// another user, and where there is OpenSSH those of one agent run on an SSH server.
// The test is for Linux.
//
//	go test ./internal/soak                                     # two minutes in all
//	go test ./internal/soak -timeout 0 -args -soak.length 30m   # make soak SOAK=30m
//
// Of the two minutes it kills for some forty seconds, twenty at least: building and
// starting the programs comes before, and after it the leases of lost runs, which
// last a minute, and the checks. -soak.length says for how long to kill.
//
// What the killer chooses follows from a seed, which is printed and can be given
// by -soak.seed; what the processes do at that moment does not.
package soak
