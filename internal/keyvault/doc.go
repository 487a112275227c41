// Package keyvault serves the embedded vaults over the REST contract of Azure
// Key Vault, so that Azure's SDKs and tools read and write them unchanged.
//
// It is a face: it turns requests into calls of package broker, which decides
// and records, and results into Microsoft's wire types and texts. Comments that
// begin with AKV state what Azure Key Vault does.
//
// Vaults are told apart by the host of the request, objects by the first
// segment of the path. Secrets and certificates are served in full, except that
// no registered issuer is asked for certificates; keys are those of certificates
// and can be read. Microsoft's own tests pass: see tools/conformance.
package keyvault
