// Package arm serves as much of Azure Resource Manager as tells who may read the
// embedded vaults, so that whoever asks Azure about a vault asks about ours in the
// same way: resource providers, vaults, permissions, role assignments and
// definitions, and deny assignments, of which there are none.
//
// It is a face: package broker decides what a caller sees. Nothing can be changed
// through it. Its address is https://management.{domain}.
//
// Comments that begin with ARM state what Azure Resource Manager does.
package arm
