package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

// remoteScript runs a flow on the server, see there.
//
//go:embed remote.sh
var remoteScript string

const (
	// bootstrap is the command that the account's shell runs, whichever shell that
	// is: it reads a script from standard input up to a line of one dot, exactly to
	// there, and runs it. So no list of processes shows what flows are told.
	bootstrap = `exec /bin/sh -c 'n=$(printf "\\nx") n=${n%x} s=; while IFS= read -r l; do test "$l" = . && break; s=$s$l$n; done; eval "$s"'`

	remoteGrace  = killGrace + 5*time.Second
	maxPreamble  = 64 << 10 // bytes that the account's shell may print before the script begins
	maxComplaint = 4 << 10  // bytes of standard error that are kept to say why it did not begin
)

// signs are signs of life: the agent gives one every so often, and bears that
// there is none of the other side for a while. So does the script.
type signs struct{ every, patience time.Duration }

// usualSigns have the agent notice a server that is gone within half a minute. The
// script, which keeps whole seconds, waits for twice that.
var usualSigns = signs{10 * time.Second, 30 * time.Second}

// A remote is a flow on an SSH server.
type remote struct {
	life           signs
	run            latchkey.RunID
	command        []string
	env            []string // NAME=VALUE
	stdout, stderr io.Writer
}

// Why a remote flow did not begin or end properly.
var (
	errRemoteLost = errors.New("connection lost")
	errRemoteTime = errors.New("the server does not end the flow")
)

// A notBegun says that the account's shell did not get to the flow.
type notBegun struct {
	step      string // how far the script came
	complaint string // what was printed on standard error
}

func (e *notBegun) Error() string { return "not begun: " + e.step }

// runRemote runs a flow on a server and returns its exit code. When ctx ends, the
// flow and everything that it has started is ended, and so it is when the
// connection is lost. What is written to r's writers is the flow's output alone.
func runRemote(ctx context.Context, client *ssh.Client, r remote) (code int, err error) {
	ready := rand.Text()
	lines, err := r.lines(ready)
	if err != nil {
		return 0, failure(latchkey.RunErrStart, "the flow cannot be told to a shell: %v", err)
	}
	stdout := &preamble{next: r.stdout, ready: ready}
	complaint := &head{limit: maxComplaint}
	c, err := openRemote(client, r.life, bootstrap, stdout, io.MultiWriter(r.stderr, complaint))
	if err != nil {
		return 0, err
	}
	defer c.close()
	// A server may end the command before it has read the script, as for an
	// expired password: only the status tells that from a connection that is lost.
	_ = c.send(remoteScript + ".\n" + lines)
	code, err = c.wait(ctx)
	stdout.end()
	if err == nil && ctx.Err() == nil && stdout.step() != "started" {
		return code, &notBegun{stdout.step(), complaint.text()}
	}
	return code, err
}

// lines returns the script's input. The shell evaluates it: what is not quoted must
// be a name, and there must be nothing that shells drop.
func (r remote) lines(ready string) (string, error) {
	words := make([]string, len(r.command))
	for i, w := range r.command {
		words[i] = shellQuote(w)
	}
	vars := make([]string, len(r.env))
	for i, v := range r.env {
		name, value, _ := strings.Cut(v, "=")
		if !variableNameRE.MatchString(name) {
			return "", fmt.Errorf("%q is not the name of a variable", name)
		}
		vars[i] = name + "=" + shellQuote(value)
	}
	text := fmt.Sprintf("ready=%s mark=%s grace=%d doze=%d\nexport %s\n%s\n",
		ready, shellQuote(runMark(r.run)), int(killGrace/time.Second), int(max(r.life.patience/6/time.Second, 1)), strings.Join(vars, " "), strings.Join(words, " "))
	if strings.ContainsRune(text, 0) {
		return "", errors.New("a NUL is in the flow's command or variables")
	}
	return text, nil
}

// variableNameRE is what POSIX calls a name (XBD, 3.216).
var variableNameRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// shellQuote returns a text as a word of sh(1), on one line: $n is a line break
// there.
func shellQuote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "\n", `'"$n"'`).Replace(s) + "'"
}

// tryRemote opens a session that does nothing, and returns how it ended: some
// servers say only there that an account cannot be used.
func tryRemote(ctx context.Context, client *ssh.Client) (code int, complaint string, err error) {
	stderr, stdout := &head{limit: maxComplaint}, &head{limit: maxComplaint}
	c, err := openRemote(client, usualSigns, "exit 0", stdout, stderr)
	if err != nil {
		return 0, "", err
	}
	defer c.close()
	code, err = c.wait(ctx)
	return code, stderr.text() + " " + stdout.text(), err
}

// A remoteCommand is a command under way on a server.
type remoteCommand struct {
	client  *ssh.Client
	life    signs
	ch      ssh.Channel
	outputs sync.WaitGroup
	drained chan struct{} // closed when all output was read
	status  chan int      // the exit code, or closed without one
	work    sync.WaitGroup
	stop    chan struct{} // closed to end what goes on beside

	stdin sync.Mutex // held to write to ch and to close it for writing: it does not tell these apart itself
}

// openRemote starts a command. close ends it, and the connection.
func openRemote(client *ssh.Client, life signs, command string, stdout, stderr io.Writer) (*remoteCommand, error) {
	opening := time.AfterFunc(life.patience, func() { _ = client.Close() })
	defer opening.Stop()
	ch, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		return nil, errRemoteLost
	}
	c := &remoteCommand{client: client, life: life, ch: ch, drained: make(chan struct{}), status: make(chan int, 1), stop: make(chan struct{})}
	c.work.Go(func() { c.follow(requests) })
	c.outputs.Go(func() { _, _ = io.Copy(stdout, ch) }) // it ends with the channel, whyever that ends
	c.outputs.Go(func() { _, _ = io.Copy(stderr, ch.Stderr()) })
	c.work.Go(func() {
		c.outputs.Wait()
		close(c.drained)
	})
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
	if err != nil || !ok {
		c.close()
		if err != nil {
			return nil, errRemoteLost
		}
		return nil, &notBegun{step: "refused"}
	}
	c.work.Go(c.keepAlive)
	return c, nil
}

// close ends the connection, which serves one command, and waits for what goes on
// beside. Ending the channel alone would wait for a server that may be silent.
func (c *remoteCommand) close() {
	close(c.stop)
	_ = c.client.Close() // it may be closed already
	c.work.Wait()
}

// follow takes the server's requests until the channel ends: one of them says how
// the command ended (RFC 4254, section 6.10).
func (c *remoteCommand) follow(requests <-chan *ssh.Request) {
	defer close(c.status)
	told := false
	tell := func(code int) {
		if !told {
			told = true
			c.status <- code
		}
	}
	for r := range requests {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				tell(int(m.Status))
			}
		case "exit-signal":
			var m struct {
				Signal     string
				Core       bool
				Error, Tag string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				tell(128 + signalNumber(m.Signal))
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil) // the connection may be gone
		}
	}
}

// signalNumber returns the number of a signal that RFC 4254, section 6.10, names,
// as POSIX systems have it, or 0.
func signalNumber(name string) int {
	numbers := map[string]int{"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15}
	return numbers[name]
}

// send writes to the command's standard input. A server that does not take it is
// given up by keepAlive.
func (c *remoteCommand) send(text string) error {
	c.stdin.Lock()
	defer c.stdin.Unlock()
	_, err := io.WriteString(c.ch, text)
	return err
}

// hangUp closes the command's standard input, once what is being written is
// written or the connection has ended.
func (c *remoteCommand) hangUp() {
	c.stdin.Lock()
	defer c.stdin.Unlock()
	_ = c.ch.CloseWrite() // the connection may be gone, which the status shows
}

// keepAlive tells the script that the agent is there, and ends the connection
// when the server is silent.
func (c *remoteCommand) keepAlive() {
	var asking sync.WaitGroup
	defer asking.Wait()
	ticker := time.NewTicker(c.life.every)
	defer ticker.Stop()
	silence := time.AfterFunc(c.life.patience, func() { _ = c.client.Close() })
	defer silence.Stop()
	busy := make(chan struct{}, 1)
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
		}
		select {
		case busy <- struct{}{}:
			asking.Go(func() {
				defer func() { <-busy }()
				if c.send("\n") != nil {
					return
				}
				if _, err := c.ch.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					silence.Reset(c.life.patience)
				}
			})
		default: // the one before has no answer yet
		}
	}
}

// wait returns the command's exit code when it has ended and its output was read.
// When ctx ends it closes the command's standard input, which ends it, and waits
// a little longer.
func (c *remoteCommand) wait(ctx context.Context) (code int, err error) {
	var tooLate <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case code, ok := <-c.status:
			if !ok {
				return 0, errRemoteLost
			}
			select {
			case <-c.drained:
			case <-time.After(outputGrace): // something that it left behind keeps the output open
				_ = c.client.Close()
				<-c.drained
			}
			return code, nil
		case <-done:
			done = nil
			c.work.Go(c.hangUp)
			tooLate = time.After(remoteGrace)
		case <-tooLate:
			return 0, errRemoteTime
		}
	}
}

// A preamble passes on what comes after the line that begins with ready.
type preamble struct {
	next  io.Writer
	ready string

	mu    sync.Mutex
	held  []byte // guarded by mu
	word  string // the rest of the line; guarded by mu
	begun bool   // guarded by mu
}

// Write implements [io.Writer].
func (p *preamble) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return p.next.Write(b)
	}
	p.held = append(p.held, b...)
	i := bytes.Index(p.held, []byte(p.ready+" "))
	if i >= 0 {
		rest := p.held[i+len(p.ready)+1:]
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			p.word, p.begun = string(rest[:end]), true
			p.held = nil
			if _, err := p.next.Write(rest[end+1:]); err != nil {
				return 0, err
			}
		}
	} else if n := len(p.held) - maxPreamble; n > 0 {
		p.held = p.held[n:]
	}
	return len(b), nil
}

// end forgets what was held back.
func (p *preamble) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = nil
}

// step returns how far the script has come.
func (p *preamble) step() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.word
}

// A head keeps the beginning of what is written to it.
type head struct {
	limit int

	mu  sync.Mutex
	buf []byte // guarded by mu
}

// Write implements [io.Writer].
func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, b[:min(len(b), h.limit-len(h.buf))]...)
	return len(b), nil
}

func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(string(h.buf), "\uFFFD")
}

// remoteEnv returns the variables of a flow on a server, beyond what the server
// itself sets.
func (t *task) remoteEnv() []string {
	env := []string{runMark(t.run.Run), machineMark(t.a.state.Machine), "LATCHKEY_FLOW=" + t.run.FlowName, "LATCHKEY_REVISION=" + strconv.Itoa(t.run.Revision)}
	return append(env, t.inputs()...)
}
