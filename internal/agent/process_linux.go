package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// children are the processes that the agent itself has started, so that others
// that became its children are known to be strays.
var children = &pids{set: make(map[int]bool)}

type pids struct {
	mu  sync.Mutex
	set map[int]bool // guarded by mu
}

func (p *pids) add(pid int)    { p.mu.Lock(); defer p.mu.Unlock(); p.set[pid] = true }
func (p *pids) remove(pid int) { p.mu.Lock(); defer p.mu.Unlock(); delete(p.set, pid) }
func (p *pids) has(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[pid]
}

// dieWithAgent has the kernel kill the process when the agent dies.
func dieWithAgent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// adoptOrphans makes the agent the parent of what its processes leave behind
// (PR_SET_CHILD_SUBREAPER, prctl(2)), so that nothing escapes by starting in
// the background.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// strays returns the processes that descend from pid and those that the agent
// has adopted from it. A process that ended and waits for its parent counts.
func (p *process) strays(pid int) []int {
	parents := processParents()
	var found []int
	alone := p.Alone()
	for candidate := range parents {
		switch {
		case candidate == pid || children.has(candidate):
		case descends(parents, candidate, pid):
			found = append(found, candidate)
		case descends(parents, candidate, os.Getpid()):
			// Adopted: it has the run's mark, or it has hidden that. A process that
			// descends from another flow's is not a stray.
			if root := adoptedRoot(parents, candidate); root != 0 && (alone || hasMark(root, p.Mark)) {
				found = append(found, candidate)
			}
		}
	}
	return found
}

// adoptedRoot returns the ancestor of pid, or pid itself, that is the agent's
// child by adoption, or 0 when that one was started by the agent.
func adoptedRoot(parents map[int]int, pid int) int {
	self := os.Getpid()
	for range len(parents) {
		if parents[pid] == self {
			if children.has(pid) {
				return 0
			}
			return pid
		}
		pid = parents[pid]
	}
	return 0
}

func descends(parents map[int]int, pid, from int) bool {
	for range len(parents) {
		pid = parents[pid]
		if pid == from {
			return true
		}
		if pid <= 1 {
			return false
		}
	}
	return false
}

// processParents returns the parent of every process (proc(5), stat).
func processParents() map[int]int {
	parents := make(map[int]int)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return parents
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name of the program, in brackets, may hold anything.
		end := bytes.LastIndexByte(b, ')')
		fields := bytes.Fields(b[end+1:])
		pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if end < 0 || len(fields) < 2 || err1 != nil {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			parents[pid] = parent
		}
	}
	return parents
}

// hasMark reports whether a process was started with a variable in its
// environment.
func hasMark(pid int, mark string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(append([]byte{0}, b...), append(append([]byte{0}, mark...), 0))
}

// reap takes the end of adopted processes, which nobody else waits for.
func reap(pids []int) {
	for _, pid := range pids {
		var status syscall.WaitStatus
		_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil) // not ours to wait for, or not ended yet
	}
}

// endLeftovers ends processes and removes files that an agent of this machine
// left when it was killed.
func (a *Agent) endLeftovers(ctx context.Context) {
	mark := machineMark(a.state.Machine)
	parents := processParents()
	for pid := range parents {
		if pid != os.Getpid() && hasMark(pid, mark) && !descends(parents, os.Getpid(), pid) {
			a.log.LogAttrs(ctx, slog.LevelWarn, "ending a process that an earlier agent left", slog.Int("pid", pid))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	var err error
	for _, dir := range memoryDirs(false) {
		files, globErr := filepath.Glob(filepath.Join(dir, ownName(filePrefix, a.state.Machine)+"*"))
		err = errors.Join(err, globErr)
		for _, f := range files {
			err = errors.Join(err, shred(f))
		}
		tickets, globErr := filepath.Glob(filepath.Join(dir, ownName(ticketPrefix, a.state.Machine)+"*"))
		err = errors.Join(err, globErr)
		for _, d := range tickets {
			err = errors.Join(err, destroyTickets(d))
		}
	}
	works, globErr := filepath.Glob(filepath.Join(os.TempDir(), ownName(workPrefix, a.state.Machine)+"*"))
	err = errors.Join(err, globErr)
	for _, work := range works {
		err = errors.Join(err, os.RemoveAll(work))
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelWarn, "files of an earlier agent's runs could not be removed", slog.Any("error", err))
	}
}

// memoryDirs returns the folders that are in memory, so that a file in them never
// reaches a disk. For another user there is only the one that everybody reaches.
func memoryDirs(other bool) (found []string) {
	dirs := []string{"/dev/shm"}
	if !other {
		dirs = []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid()), "/dev/shm"}
	}
	for _, dir := range dirs {
		var fs unix.Statfs_t
		if dir == "" || unix.Statfs(dir, &fs) != nil || int64(fs.Type) != unix.TMPFS_MAGIC {
			continue
		}
		if unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
			found = append(found, dir)
		}
	}
	return found
}

// memoryDir returns the first of memoryDirs.
func memoryDir(other bool) (string, error) {
	if dirs := memoryDirs(other); len(dirs) > 0 {
		return dirs[0], nil
	}
	return "", errors.New("this machine has no folder in memory (tmpfs)")
}
