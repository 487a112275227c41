//go:build linux || darwin

package pg

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// binaries returns the folder of the newest installed PostgreSQL's programs:
// Debian keeps every version in a folder that is not in PATH.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if dir := newest(found); dir != "" {
		return dir, nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errNotInstalled
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	return filepath.Dir(path), nil
}

// newest returns the folder with the highest version among the paths
// …/VERSION/bin/postgres, compared as numbers.
func newest(paths []string) string {
	var dir string
	var high float64
	for _, p := range paths {
		bin := filepath.Dir(p)
		v, err := strconv.ParseFloat(filepath.Base(filepath.Dir(bin)), 64)
		if err == nil && v > high {
			dir, high = bin, v
		}
	}
	return dir
}

// account returns the account that the server must run as: PostgreSQL refuses
// to run as root. It is nil when the current one will do.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find an account for the server: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// folder makes the folder that the server works in, owned by its account. It is
// not under TMPDIR or the test's own folder: those may be closed to the account,
// and a socket's path has at most 107 bytes.
func folder(owner *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp(base(), "latchkey-pg-")
	if err != nil {
		return "", err
	}
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return "", fmt.Errorf("hand over the server's folder: %w", err)
		}
	}
	return dir, nil
}

// base returns the folder for the server's folder: memory where there is room,
// since a cluster is twice as fast there.
func base() string {
	const shm, room = "/dev/shm", 1 << 30
	var st syscall.Statfs_t
	if err := syscall.Statfs(shm, &st); err != nil || uint64(st.Bavail)*uint64(st.Bsize) < room {
		return "/tmp"
	}
	probe, err := os.MkdirTemp(shm, "latchkey-pg-")
	if err != nil || os.Remove(probe) != nil {
		return "/tmp"
	}
	return shm
}
