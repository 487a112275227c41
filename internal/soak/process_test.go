//go:build linux

package soak

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// A process is a program that is started again whenever it has ended.
type process struct {
	name    string
	command func() *exec.Cmd
	w       *world
	log     *os.File

	stop chan struct{} // closed when it need not wait to be started again
	done chan struct{} // closed when it has ended for good

	mu      sync.Mutex // guards what follows
	running *os.Process
	over    bool          // it must not be started again
	killed  bool          // by us
	began   bool          // an agent has ended what its predecessor left
	pause   time.Duration // before it is started again
	partial []byte        // the end of its log that is no whole line yet
	kills   []time.Time   // by us
}

// start starts a process and keeps it running.
func (w *world) start(name string, command func() *exec.Cmd) *process {
	w.t.Helper()
	log, err := os.Create(w.path(name + ".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{name: name, command: command, w: w, log: log, stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	w.t.Cleanup(func() {
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		close(p.stop)
		p.kill(0)
		<-p.done
		if err := log.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return p
}

func (p *process) run() {
	defer close(p.done)
	for {
		cmd := p.command()
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p, p, 2*time.Second
		p.mu.Lock()
		if p.over {
			p.mu.Unlock()
			return
		}
		p.killed, p.began, p.pause = false, false, 300*time.Millisecond
		err := p.w.starter.Start(cmd)
		if err == nil {
			p.running = cmd.Process
		}
		p.mu.Unlock()
		if err != nil {
			p.w.fault("start %s: %v", p.name, err)
			return
		}
		began := time.Now()
		_ = cmd.Wait() // the state says how it ended
		p.mu.Lock()
		p.running = nil
		killed, pause := p.killed, p.pause
		p.mu.Unlock()
		if !killed {
			p.w.exited(p, began, cmd.ProcessState.String())
		}
		select {
		case <-p.stop:
			return
		case <-time.After(pause):
		}
	}
}

// kill kills the process by SIGKILL, to be started again after a pause. It
// reports false when it does not run.
func (p *process) kill(pause time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil || p.killed {
		return false
	}
	p.killed, p.pause = true, pause
	p.kills = append(p.kills, time.Now())
	return p.running.Kill() == nil
}

// killedWithin reports whether the process was killed at some time between two.
func (p *process) killedWithin(from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.kills, func(at time.Time) bool { return !at.Before(from) && !at.After(to) })
}

// up reports whether the process runs, and has said that it does its work.
func (p *process) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running != nil && !p.killed && p.began
}

// A logLine is a line of a program's log, as far as the test looks at it.
type logLine struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Msg   string    `json:"msg"`
	Route string    `json:"route"`
}

// Write takes what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, b...)
	for {
		i := bytes.IndexByte(p.partial, '\n')
		if i < 0 {
			break
		}
		p.line(p.partial[:i])
		p.partial = p.partial[i+1:]
	}
	return p.log.Write(b)
}

// crashes begin the lines that a broken Go program prints.
var crashes = []string{"panic:", "fatal error:", "WARNING: DATA RACE", "unexpected fault address"}

// line looks at a line of the log. p.mu is held.
func (p *process) line(b []byte) {
	var l logLine
	if json.Unmarshal(b, &l) != nil {
		for _, c := range crashes {
			if strings.HasPrefix(string(b), c) {
				p.w.fault("%s crashed: %s", p.name, b)
			}
		}
		return
	}
	p.began = p.began || l.Msg == "agent started"
	if l.Level == "ERROR" {
		p.w.complain(p, l.Time, string(b))
	}
	p.w.look(p, l)
}
