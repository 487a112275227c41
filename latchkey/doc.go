// Package latchkey is the vocabulary of Latchkey, a self-hosted credential
// service for automation that runs when nobody is there.
//
// The chain that everything serves:
//
//	vault secret  <-  environment variable  <-  credential  <-  connection  <-  run on a machine
//	(the value)       (a reference)             (a pair)        (+ machine)     (the release)
//
// # Words
//
//   - tenant: one installation.
//   - environment: the workspace that everything below lives in.
//   - principal: a user, group, service principal or machine.
//   - service principal: the identity of a program that signs in by itself. Its
//     credentials are how it proves itself: a secret, a certificate, or the
//     tokens of another issuer; none of them is a credential of an environment.
//   - environment variable: a display name, a unique name such as
//     new_ERPuser, a type, a default and a current value; current wins.
//   - secret reference: subscription, resource group, vault and secret name.
//     Never a version, never a value.
//   - credential store: where secrets live, for example Azure Key Vault.
//   - embedded vault: an Azure Key Vault that Latchkey serves itself.
//   - credential: a name, a store, usages, and named slots that are each bound
//     to one variable, with the least exposure that its owner allows.
//   - machine: where flows run; it runs the Latchkey agent and has its own keys.
//   - connection: a credential bound to a target: "sign in there as this".
//   - flow: a command with inputs and a time limit, in immutable revisions.
//   - run: one execution of one revision of a flow through a connection; one of
//     kind test carries out a connection test instead.
//   - Azure tenant: a directory of Microsoft Entra ID. A tenant admin links those
//     whose vaults may be read.
//   - check: of a reference, whether it may be read, in steps; of a certificate,
//     what it is good for.
//   - username binding: which field of a certificate is compared with which
//     attribute of the user who signs in with it.
//   - connection test: a real sign-in through a connection, without a flow. It
//     consists of steps.
//   - release: the handing of a secret to the machine of a claimed run. It is in
//     the audit log before it happens.
//   - exposure: how near a secret comes to the flow.
//   - share (grant): a principal's role on a thing.
//   - master key: what everything stored sealed is sealed with; it is in a file,
//     never in the database.
//   - backup: an encrypted copy of everything in the database at one moment,
//     without the master key.
//
// The package holds nouns, identifiers, their Validate methods, the permission
// table, the Secret type and the errors that users see. It does no input or
// output and imports nothing but the standard library.
package latchkey
