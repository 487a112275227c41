//go:build linux

// Flow is what the runs of the kill test execute. It witnesses in a file that it
// began, what it was handed (as digests), and that it ended:
//
//	flow run WITNESS-FILE
//	flow linger
//
// Inputs say what else it does: LINES is how many lines it prints, PAUSE for how
// long it sleeps, CODE is its exit code, and CHILDREN has it leave processes
// behind.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lingering is how long a process sleeps that a flow leaves behind.
// Longer than anybody waits for it to be ended.
const lingering = 10 * time.Minute

func main() {
	if len(os.Args) == 2 && os.Args[1] == "linger" {
		time.Sleep(lingering)
		return
	}
	code, err := run(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "flow:", err)
		code = 90
	}
	os.Exit(code)
}

func run(witness string) (code int, err error) {
	w, err := os.OpenFile(witness, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	// One write for each line, so that lines do not mix. They are not synced: the
	// processes are killed, not the machine.
	say := func(what string, rest ...any) error {
		_, err := fmt.Fprintln(w, append([]any{what, os.Getenv("LATCHKEY_RUN")}, rest...)...)
		return err
	}
	if err := say("begin", input("TICKET"), os.Getpid()); err != nil {
		return 0, err
	}
	values, err := take()
	if err != nil {
		return 0, err
	}
	for name, value := range values {
		if err := say("secret", name, fmt.Sprintf("%x", sha256.Sum256([]byte(value)))); err != nil {
			return 0, err
		}
	}
	if input("CHILDREN") != "" {
		for _, session := range []bool{false, true} {
			child := exec.Command(os.Args[0], "linger")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
			if err := child.Start(); err != nil {
				return 0, err
			}
		}
	}
	pause := time.Duration(number("PAUSE")) * time.Millisecond
	if err := printLines(number("LINES"), pause/2); err != nil {
		return 0, err
	}
	time.Sleep(pause / 2)
	return number("CODE"), say("end")
}

// pieces is how often output is written.
const pieces = 10

// printLines prints lines in pieces over a time.
func printLines(lines int, over time.Duration) error {
	out := bufio.NewWriter(os.Stdout)
	for i := range lines {
		fmt.Fprintf(out, "%s line %d\n", input("TICKET"), i)
		if i%(lines/pieces+1) == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
			time.Sleep(over / pieces)
		}
	}
	return out.Flush()
}

func input(name string) string { return os.Getenv("LATCHKEY_INPUT_" + name) }

func number(name string) int {
	n, _ := strconv.Atoi(input(name)) // without the input it is 0
	return n
}

// take returns what the flow is handed: passwords by the name of the credential,
// that of the connection as connection.
func take() (map[string]string, error) {
	var text []byte
	var err error
	switch {
	case os.Getenv("LATCHKEY_CREDENTIALS_FD") != "":
		var fd int
		if fd, err = strconv.Atoi(os.Getenv("LATCHKEY_CREDENTIALS_FD")); err == nil {
			text, err = io.ReadAll(os.NewFile(uintptr(fd), "credentials"))
		}
	case os.Getenv("LATCHKEY_CREDENTIALS_FILE") != "":
		text, err = os.ReadFile(os.Getenv("LATCHKEY_CREDENTIALS_FILE"))
	default:
		values := map[string]string{}
		for _, v := range os.Environ() {
			name, value, _ := strings.Cut(v, "=")
			if name == "LATCHKEY_PASSWORD" {
				values["connection"] = value
			} else if other, ok := strings.CutPrefix(name, "LATCHKEY_CREDENTIAL_"); ok && strings.HasSuffix(other, "_PASSWORD") {
				values[strings.ToLower(strings.TrimSuffix(other, "_PASSWORD"))] = value
			}
		}
		return values, nil
	}
	if err != nil {
		return nil, err
	}
	type credential struct{ Password string }
	var handed struct {
		Connection  credential
		Credentials map[string]credential
	}
	if err := json.Unmarshal(text, &handed); err != nil {
		return nil, err
	}
	values := map[string]string{"connection": handed.Connection.Password}
	for name, c := range handed.Credentials {
		values[name] = c.Password
	}
	return values, nil
}
