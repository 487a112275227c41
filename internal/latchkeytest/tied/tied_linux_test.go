package tied

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childMode names the environment variable that makes this test program start a
// process and wait to be killed.
const childMode = "LATCHKEY_TIED_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		cmd := exec.Command("sleep", "60")
		if err := New().Start(cmd); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(cmd.Process.Pid)
		_ = cmd.Wait() // it is to be killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestKilledProcessTakesOthersAlong(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	kill := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	pid, err2 := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, kill, err2); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is still there", pid)
		}
	}
}

func TestStart(t *testing.T) {
	s := New()
	defer s.Close()
	cmd := exec.Command("true")
	if err := errors.Join(s.Start(cmd), cmd.Wait()); err != nil {
		t.Error(err)
	}
	if err := s.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("Start of a program that does not exist = nil")
	}
}
