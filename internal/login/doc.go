// Package login gives service principals their tokens for the embedded vaults as
// Microsoft Entra ID does, so that programs sign in with the credentials of Azure's
// SDKs that they have already: the token endpoint of OAuth 2.0's client credentials
// grant (RFC 6749, section 4.4), with a secret or an assertion (RFC 7523), and what
// leads to it: OpenID Connect's discovery and Microsoft's instance discovery.
//
// It is a face: package broker decides whether a proof is right, and records that.
// What a token may do is decided when it is used. Its address is
// https://login.{domain}/{tenant}.
//
// Comments that begin with Entra state what Microsoft Entra ID does.
package login
