package agent

import "runtime/debug"

// release is the version of a packaged program, which the linker sets (-X).
var release string

// Version returns the version that the program was built from.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
