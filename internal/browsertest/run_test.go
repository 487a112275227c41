package browsertest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// as returns a client of somebody that user made.
func (w *world) as(t *testing.T, login string) *client.Client {
	t.Helper()
	return w.client.WithToken(w.token(t, login, password))
}

// quickCredential is the one that quickstart makes.
func (w *world) quickCredential(t *testing.T) latchkey.Credential {
	t.Helper()
	for c, err := range w.client.Credentials(t.Context(), env) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Name == "ERP bot" {
			return c
		}
	}
	t.Fatal("quickstart made no credential")
	return latchkey.Credential{}
}

// typeOnMachine does what the page says to type on a machine: it enrols it and keeps
// its agent running until the test ends.
func (w *world) typeOnMachine(t *testing.T, text, name string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(filepath.Dir(w.dir), "latchkey")
	enrol, run, ok := strings.Cut(text, "\n")
	if !ok || run != "latchkey-agent run" {
		t.Fatalf("the page says to type %q", text)
	}
	shell := func(line, more string) *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", "exec "+strings.Replace(line, "latchkey-agent", program+" agent", 1)+more)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		return cmd
	}
	if out, err := shell(enrol, " --dir "+dir+"/agent --name "+name).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", enrol, err, out)
	}
	agent := shell(run, " --dir "+dir+"/agent --server "+w.url)
	var said bytes.Buffer
	agent.Stdout, agent.Stderr = &said, &said
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(os.Interrupt)
		if err := agent.Wait(); err != nil && t.Failed() {
			t.Logf("agent: %v\n%s", err, said.String())
		}
	})
}

// A machine is enrolled by what the page says to type, a flow is made and run there,
// watched to its end, started again and cancelled: all in the browser.
func TestRunFromEnrolmentToCancel(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "runa", latchkey.EnvAdmin)
	c := w.quickCredential(t)
	if _, err := w.client.SetShare(t.Context(), env, latchkey.KindCredential, string(c.ID), "runa", latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
		t.Fatal(err)
	}
	b := w.open(t).signIn("runa")
	group, err := w.as(t, "runa").CreateMachineGroup(t.Context(), env, latchkey.MachineGroupCreate{Name: "Runas group"})
	if err != nil {
		t.Fatal(err)
	}

	b.visit("/e/quickstart/machines")
	b.see("#rows")
	b.press(`a[href$="/machines/enrol"]`)
	b.see("#panel #f-commands")
	b.fill("#panel #f-commands", "/bin/sh")
	b.choose("#panel #f-group", string(group.ID))
	b.press("#panel form button:not([type])")
	b.see("#panel .copy code")
	b.look("machine-enrol-token")
	text := b.text("#panel .copy code")
	b.press("#panel [data-close-panel]")
	w.typeOnMachine(t, strings.TrimSpace(text), "runas-machine")
	b.says("#rows", "runas-machine") // without a reload
	b.says("#rows tr:has(input[aria-label='Select runas-machine'])", "Online")
	b.look("machines")

	var machine latchkey.Machine
	for m, err := range w.client.Machines(t.Context(), env) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Name == "runas-machine" {
			machine = m
		}
	}
	if machine.MachineGroup != group.ID {
		t.Errorf("the machine is in the group %q; want the one that was chosen", machine.MachineGroup)
	}
	if _, err := w.as(t, "runa").CreateConnection(t.Context(), env, latchkey.ConnectionCreate{
		Name: "Runas connection", Target: latchkey.Target{Machine: machine.ID}, Driver: latchkey.DriverNone, Credential: c.ID,
	}); err != nil {
		t.Fatal(err)
	}

	b.visit("/e/quickstart/flows")
	b.press(`.commands a[href$="/flows/new"]`)
	b.see("#panel #f-program")
	b.fill("#panel #f-name", "Runas flow")
	b.fill("#panel #f-program", "bin/sh")
	b.fill("#panel #f-arguments", "-c\necho begin; echo \"for $LATCHKEY_INPUT_WHO\"; [ -z \"$LATCHKEY_INPUT_LONG\" ] || sleep 90; sleep 1; echo '<b>bold</b>'; echo oops >&2")
	b.press("#panel form button:not([type])")
	b.see("#panel #f-program-error")
	b.look("flow-form")
	b.fill("#panel #f-program", "/bin/sh")
	b.press("#panel form button:not([type])")
	b.says("main", "Runas flow is made")
	b.look("flow")

	b.press(`.commands a[href$="/run"]`)
	b.see("#panel [name=input-name]")
	b.fill("#panel [name=input-name]", "WHO")
	b.fill("#panel [name=input-value]", "everybody")
	b.press("#panel .buttons button")
	b.says("main", "Started.")
	b.says(".log", "begin")
	b.says("#run .head", "Succeeded")
	b.says(".log", "<b>bold</b>") // as text
	b.says(".log .stderr", "oops")
	b.says(".log", "for everybody")
	b.look("run")

	b.press("#again")
	b.see("#panel [name=input-name]")
	var first string
	if b.eval(`document.querySelector("#panel [name=input-value]").value`, &first); first != "everybody" {
		t.Errorf("starting again has the input %q; want that of the run", first)
	}
	b.fill("#panel .pair:nth-of-type(2) [name=input-name]", "LONG")
	b.fill("#panel .pair:nth-of-type(2) [name=input-value]", "yes")
	b.press("#panel .buttons button")
	b.says("#run .head", "Running")
	b.says(".log", "begin")
	b.press("#cancel")
	b.see("#panel button.danger")
	b.look("run-cancel")
	b.press("#panel button.danger")
	b.says("#run .head", "Cancelled")
	b.narrow()
	b.fits()
	b.look("phone-run")

	b.visit("/e/quickstart/runs?machine=" + string(machine.ID))
	b.says("#rows", "Succeeded")
	b.fits()
	b.look("phone-runs")
	b.visit("/e/quickstart/machines/" + string(machine.ID))
	b.says("#machine", "Runas connection")
	b.fits()
	b.look("phone-machine")

	// All of it without script: a flow is started, and a page that is loaded anew says
	// how far it has come.
	plain := w.open(t)
	plain.withoutScript()
	plain.signIn("runa")
	plain.visit("/e/quickstart/flows?search=Runas")
	plain.press("#rows a.name")
	plain.press(`.commands a[href$="/run"]`)
	plain.fill(".pair:nth-of-type(2) [name=input-value]", "nobody's script") // after LONG, which stays empty
	plain.press(".buttons button")
	plain.see("#run")
	at := strings.TrimPrefix(plain.where(), w.url)
	for range 60 {
		if strings.Contains(plain.text("#run .head"), "Succeeded") {
			break
		}
		time.Sleep(500 * time.Millisecond)
		plain.visit(at)
	}
	plain.says("#run .head", "Succeeded")
	plain.says(".log", "for nobody's script")
	plain.look("run-no-script")
}
