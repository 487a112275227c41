//go:build !race

package accesstest

// usual is how many sequences run unless one says otherwise.
const usual = 10_000

// quick says that what takes long is left to another run of the tests.
const quick = false
