//go:build !linux && !darwin

package pg

// Elsewhere no server can be started, as if none were installed.
type server struct{}

func start() (*server, error)                 { return nil, errNotInstalled }
func (*server) stop() error                   { return nil }
func (*server) create() (string, error)       { return "", errNotInstalled }
func (*server) copyOf(string) (string, error) { return "", errNotInstalled }
func (*server) drop(string) error             { return nil }
func (*server) url(string) string             { return "" }
