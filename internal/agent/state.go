package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"latchkey.dev/internal/fsync"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// Files in the agent's folder.
const (
	stateFile  = "agent.json"
	keyFile    = "machine.key"
	policyFile = "policy.toml"
	lockFile   = "lock"

	troubleFile = "trouble.json"
)

// maxFile bounds what is read of any of them.
const maxFile = 64 << 10

// A State is what the agent knows about itself between two starts.
type State struct {
	Server      string             `json:"server"` // address of the server
	ServerKey   []byte             `json:"serverKey"`
	CAFile      string             `json:"caFile,omitempty"` // authorities to trust for the server's address
	Machine     latchkey.MachineID `json:"machine"`
	Name        string             `json:"name"`
	Environment string             `json:"environment"`

	// Counter is that of the newest session. It is written before the session is
	// asked for: two agents with the same keys cannot both go on.
	Counter int64 `json:"counter"`
}

// DefaultDir returns the agent's folder when none is named.
func DefaultDir() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "latchkey-agent")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/latchkey-agent"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "latchkey-agent")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "latchkey-agent"
	}
	return filepath.Join(home, ".local", "state", "latchkey-agent")
}

// LoadState reads the state of an enrolled agent. It returns an error that is
// [fs.ErrNotExist] when the agent is not enrolled.
func LoadState(dir string) (*State, error) {
	b, err := readFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	if s.Server == "" || s.Machine == "" || len(s.ServerKey) == 0 {
		return nil, fmt.Errorf("%s lacks the server or the machine; enrol anew with --force", filepath.Join(dir, stateFile))
	}
	return s, nil
}

func (s *State) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), append(b, '\n'))
}

// loadKeys reads the machine's private keys. A file that others than its owner
// can use is refused, except on Windows, whose modes do not say.
func loadKeys(dir string) (*seal.MachineKeys, error) {
	file := filepath.Join(dir, keyFile)
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s can be used by others than its owner (mode %04o): enrol anew with --force if somebody may have read it, or run chmod 600 on it", file, mode)
	}
	b, err := readFile(file)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	keys, err := seal.ParseMachineKeys(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return keys, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("the file is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// writeFile replaces a file so that after a crash it has either its old or its
// new content: the content is on disk before the name points to it.
func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(f.Name()))
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
