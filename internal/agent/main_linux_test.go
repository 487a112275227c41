package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be an agent, which adopts orphans and so must be
// a process of its own, and the flow that an agent runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "agent-main":
			os.Exit(Main(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "flow":
			// os.Exit would wait for a second with the race detector, which has
			// nothing to find in a flow.
			syscall.Exit(flow(os.Args[2], os.Args[3:]))
		}
	}
	// Most of the time these tests wait: more of them run at once than there are
	// processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// flow is what runs execute. A process that blocks is found by its arguments.
func flow(mode string, args []string) int {
	switch mode {
	case "report":
		err := json.NewEncoder(os.Stdout).Encode(report(args))
		return exitOf(err)
	case "leak":
		return exitOf(leak())
	case "mtls":
		return exitOf(mtls(args[0], args[1]))
	case "tickets":
		return exitOf(ticketFlow())
	case "await-renewal":
		return exitOf(awaitRenewal())
	case "leak-key":
		return exitOf(leakKey())
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return 99
		}
		return code
	case "signal":
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return 99
		}
		block(args)
	case "tick":
		return exitOf(tick(args))
	case "mark":
		return exitOf(mark(args[0]))
	case "print":
		return exitOf(printBytes(args[0]))
	case "block":
		fmt.Println("ready")
		block(args)
	case "tree":
		if err := tree(args); err != nil {
			return exitOf(err)
		}
		fmt.Println("ready")
		block(args)
	case "background":
		if err := tree(args); err != nil {
			return exitOf(err)
		}
		fmt.Println("ready")
	case "fork":
		// The second fork: what it starts has no parent but the agent.
		return exitOf(start([]string{"sleep", args[0]}, []string{}))
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		block(args)
	case "sleep":
		block(args)
	case "grow":
		return exitOf(grow())
	case "read":
		_, err := os.ReadFile(args[0])
		fmt.Println(os.IsPermission(err))
	default:
		return 99
	}
	return 0
}

func exitOf(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 98
	}
	return 0
}

// block ends with the process, or after more than any test takes.
func block([]string) { time.Sleep(2 * time.Minute) }

// start starts the test binary as a flow in a session of its own.
func start(args, env []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{"flow"}, args...)...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// tree leaves processes behind: a child, one in another session, and one that
// was forked twice and has no mark of the run.
func tree(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "flow", "sleep", args[0])
	child.Stdout = os.Stdout
	if err := child.Start(); err != nil {
		return err
	}
	if err := start([]string{"sleep", args[0]}, nil); err != nil {
		return err
	}
	fork := exec.Command(self, "flow", "fork", args[0])
	fork.Env = []string{}
	fork.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return fork.Run()
}

// grow leaves a file in place of the handed over one that is larger than memory.
func grow() error { return os.Truncate(os.Getenv(envFile), 1<<50) }

// tick prints numbered lines.
func tick(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := fmt.Printf("line %d\n", i); err != nil {
			return err
		}
		time.Sleep(every)
	}
	return nil
}

// mark appends to a file that the flow was executed.
func mark(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("x"); err != nil {
		return err
	}
	fmt.Println("executed")
	return f.Close()
}

// printBytes prints so many bytes at once.
func printBytes(n string) error {
	size, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	_, err = io.WriteString(os.Stdout, strings.Repeat("0123456789abcdef", size/16))
	return err
}

// A flowReport is what a flow sees. Values are keyed digests.
type flowReport struct {
	How         string
	NonBlocking bool // of the descriptor
	File        string
	Memory      bool // whether the file is on tmpfs
	Mode        string
	User        string
	Values      map[string]string // by name
	Env         []string          // names
	Inputs      map[string]string
	Home        string
	UID         int
	WorkDir     string
	Bad         bool // what was handed is not what flows are promised
}

// digest tells that a flow has a value without telling the value.
func digest(key, value string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(value))
	return hex.EncodeToString(m.Sum(nil))
}

func report(args []string) flowReport {
	r := flowReport{Values: map[string]string{}, Inputs: map[string]string{}, Home: os.Getenv("HOME"), UID: os.Getuid()}
	r.WorkDir, _ = os.Getwd()
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		r.Env = append(r.Env, name)
		if strings.HasPrefix(name, "LATCHKEY_INPUT_") {
			r.Inputs[name] = value
		}
	}
	slices.Sort(r.Env)
	text, err := r.take()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		r.Bad = true
	}
	type values struct{ Name, Username, Password string }
	var handed struct {
		Connection  values
		Credentials map[string]values
	}
	if text != nil {
		r.Bad = json.Unmarshal(text, &handed) != nil
		r.put(args[0], "connection", handed.Connection.Username, handed.Connection.Password)
		for name, v := range handed.Credentials {
			r.Bad = r.Bad || v.Name != name
			r.put(args[0], name, v.Username, v.Password)
		}
	}
	if r.How == "environment" {
		r.put(args[0], "connection", os.Getenv("LATCHKEY_USERNAME"), os.Getenv("LATCHKEY_PASSWORD"))
		r.put(args[0], "second", os.Getenv("LATCHKEY_CREDENTIAL_SECOND_BOT_USERNAME"), os.Getenv("LATCHKEY_CREDENTIAL_SECOND_BOT_PASSWORD"))
	}
	return r
}

func (r *flowReport) put(key, name, username, password string) {
	r.Values[name+" username"], r.Values[name+" password"] = digest(key, username), digest(key, password)
}

// take reads what is handed over.
func (r *flowReport) take() ([]byte, error) {
	r.File = os.Getenv(envFile)
	switch {
	case os.Getenv(envDescriptor) != "":
		r.How = "descriptor"
		fd, err := strconv.Atoi(os.Getenv(envDescriptor))
		if err != nil {
			return nil, err
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		r.NonBlocking = flags&unix.O_NONBLOCK != 0
		if err != nil {
			return nil, err
		}
		return io.ReadAll(os.NewFile(uintptr(fd), "credentials"))
	case r.File != "":
		r.How = "file"
		info, err := os.Stat(r.File)
		if err != nil {
			return nil, err
		}
		r.Mode = info.Mode().String()
		var fs unix.Statfs_t
		r.Memory = unix.Statfs(r.File, &fs) == nil && int64(fs.Type) == unix.TMPFS_MAGIC
		return os.ReadFile(r.File)
	case os.Getenv("LATCHKEY_PASSWORD") != "":
		r.How = "environment"
	}
	return nil, nil
}

// leak prints the password in several forms, also in two writes.
func leak() error {
	p := os.Getenv("LATCHKEY_PASSWORD")
	half := len(p) / 2
	fmt.Println("plain", p)
	fmt.Fprintln(os.Stderr, "error", p)
	fmt.Println("base64", base64.StdEncoding.EncodeToString([]byte(p)))
	fmt.Println("hex", hex.EncodeToString([]byte(p)))
	fmt.Print("split ", p[:half])
	time.Sleep(50 * time.Millisecond) // so that the agent reads it in two pieces
	fmt.Println(p[half:])
	fmt.Println("end")
	return nil
}
