// Package tied starts processes that end with this one, however it ends. It
// works on Linux only.
package tied
