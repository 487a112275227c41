package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/latchkeytest/program"
	"latchkey.dev/latchkey"
)

// A process is the real program, serving a data folder.
type process struct {
	cmd *exec.Cmd
	url string
}

// serve starts the program and returns when it says that it is ready.
func serve(b *testing.B, program, folder string) *process {
	b.Helper()
	file := filepath.Join(folder, "server.json")
	_ = os.Remove(file)
	p := &process{cmd: exec.Command(program, "serve", "--data", folder, "--listen", "127.0.0.1:0", "--vault-listen", "127.0.0.1:0")}
	var log strings.Builder
	p.cmd.Stderr = &log
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.stop() })
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p.url == "" {
			var addresses struct {
				URL string `json:"url"`
			}
			if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &addresses) == nil {
				p.url = addresses.URL
			}
			continue
		}
		if resp, err := http.Get(p.url + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
	}
	b.Fatalf("the server is not ready:\n%s", log.String())
	return nil
}

func (p *process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(os.Interrupt)
	return p.cmd.Wait()
}

// memory returns the resident memory in MB, and how much of it belongs to this
// process alone: the rest is the program's file.
func (p *process) memory(b *testing.B) (resident, own float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Skip("the memory of a process can be read on Linux only")
	}
	field := func(name string) float64 {
		_, rest, _ := strings.Cut(string(text), name+":")
		kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		return kb / 1024
	}
	return field("VmRSS"), field("RssAnon")
}

// BenchmarkProcess measures how the real program starts with 10,000 credentials,
// and the memory that it has then: idle, and after every list was read.
func BenchmarkProcess(b *testing.B) {
	bin := b.TempDir()
	if err := program.Build(b.Context(), bin, false, "latchkey.dev/cmd/latchkey"); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(bin, "latchkey")
	folder := b.TempDir()
	const n = 10_000
	p := serve(b, path, folder)
	e, username, admin := p.prepare(b, folder)
	if err := p.stop(); err != nil {
		b.Fatal(err)
	}
	g := newGenerator(b, filepath.Join(folder, "latchkey.db"))
	g.credentials(b, e, admin, username, n)
	if err := g.raw.Close(); err != nil {
		b.Fatal(err)
	}

	var starts sample
	var idle, idleOwn, used, usedOwn float64
	for b.Loop() {
		began := time.Now()
		p := serve(b, path, folder)
		starts.times = append(starts.times, time.Since(began))
		time.Sleep(time.Second) // what it does at its start is over
		idle, idleOwn = p.memory(b)
		p.readAll(b, folder)
		used, usedOwn = p.memory(b)
		if err := p.stop(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(starts.quantile(.5), "start-ms")
	b.ReportMetric(idle, "idle-MB")
	b.ReportMetric(idleOwn, "idle-own-MB")
	b.ReportMetric(used, "used-MB")
	b.ReportMetric(usedOwn, "used-own-MB")
}

// client returns a client of the process as its first admin.
func (p *process) client(b *testing.B, folder string) *client.Client {
	b.Helper()
	token, err := os.ReadFile(filepath.Join(folder, "admin-token"))
	if err != nil {
		b.Fatal(err)
	}
	c, err := client.New(client.Config{Server: p.url, Token: latchkey.NewSecret(strings.TrimSpace(string(token)))})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// prepare makes an environment with the variable of the credentials' user names.
func (p *process) prepare(b *testing.B, folder string) (latchkey.EnvironmentID, latchkey.VariableID, latchkey.PrincipalID) {
	b.Helper()
	c := p.client(b, folder)
	e, err := c.CreateEnvironment(b.Context(), latchkey.EnvironmentCreate{Name: "prod"})
	if err != nil {
		b.Fatal(err)
	}
	name := "bot"
	v, err := c.CreateVariable(b.Context(), "prod", latchkey.VariableCreate{DisplayName: "User name", Type: latchkey.TypeText, Value: &name})
	if err != nil {
		b.Fatal(err)
	}
	return e.ID, v.ID, v.CreatedBy
}

// readAll reads all credentials, page by page.
func (p *process) readAll(b *testing.B, folder string) {
	b.Helper()
	for _, err := range p.client(b, folder).Credentials(b.Context(), "prod") {
		if err != nil {
			b.Fatal(err)
		}
	}
}
