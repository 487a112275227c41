package agent

import "runtime/debug"

// built is the version that a packaged program was built from, which the linker sets (-X).
var built string

// Version returns the version that the program, whichever of ours, was built from:
// that of its package, or what Go knows of the source; "(devel)" when nothing does.
func Version() string {
	if built != "" {
		return built
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
