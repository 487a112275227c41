// Package bench measures what docs/operations.md promises: releases, beside a
// floor that does the least for the same guarantees, reads of vaults, lists,
// memory and start-up. Everything that is compared is measured in one run.
//
//	make bench
//
// It has benchmarks only.
package bench
