// Package certauth says what is in the secret of a Key Vault certificate: whether
// somebody can sign in with it, and as whom under a tenant's username bindings. Its
// functions are pure; nothing of a private key is in what they say.
package certauth
