package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// Names of what quickstart makes.
const (
	quickDir        = "latchkey-quickstart"
	quickMark       = "quickstart.txt" // marks a folder as one of quickstart
	quickEnv        = "quickstart"
	quickVault      = "quickstart"
	quickSecret     = "erp-password"
	quickUser       = "ERP user"
	quickLogin      = `CONTOSO\bot`
	quickPassword   = "ERP password"
	quickCredential = "ERP bot"
	quickMachine    = "this-machine"
	quickConnection = "ERP on this machine"
	quickFlow       = "Prove the password"
)

const quickstartHelp = `Quickstart shows the whole chain work once, on this machine, with real parts: a server,
an embedded vault with a password in it, a credential that refers to it, a machine with
an agent, and a flow that gets the password when it runs. It runs the flow twice, and
changes the password in the vault between the two.

Everything is kept in one folder, ./` + quickDir + ` unless --data says otherwise. A
second run uses what is there. To clean up, remove the folder.

With --serve the server and the agent stay up until an interrupt, to look around. With
--quiet it says nothing but what went wrong; --serve then prints the link that signs in.`

const quickConclusion = `
The flow got each password when it ran, and showed that with a keyed digest instead of
printing it. Each release was on record before it was delivered. The rotation needed no
edit: variable, credential, connection and flow refer to the secret, never to its value.`

// A quickstart is one run of the command.
type quickstart struct {
	*progress
	app    *app
	dir    string
	binary string // a copy of this program that stays where it is
	log    *os.File

	server     *service
	client     *client.Client
	token      latchkey.Secret
	vault      latchkey.EmbeddedVault
	login      string // the user name that the flow should get
	username   string // names of the variables
	password   string
	credential latchkey.Credential
	machine    latchkey.MachineID
	agent      *child
	connection latchkey.Connection
	flow       latchkey.Flow
	runs       []quickRun
	passwords  []latchkey.Secret // those that the runs got
}

// A quickRun is a run with the version of the secret that it should have got.
type quickRun struct {
	id      latchkey.RunID
	version string
}

func (a *app) quickstartCommand() *cobra.Command {
	var c serverConfig
	var serve bool
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "see the whole chain work once, on this machine",
		Long:  quickstartHelp,
		Args:  cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// What configures a real server is not meant for this one.
			c.VaultDomain, c.LogFormat, c.LogLevel = "vault.localhost", "text", "info"
			return a.quickstart(cmd.Context(), c, serve)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Data, "data", quickDir, "folder for everything; made if it does not exist")
	f.StringVar(&c.Listen, "listen", "", "address of the API and the pages; default: that of the run before, else a free port")
	f.StringVar(&c.VaultListen, "vault-listen", "", "address of the embedded vaults; default: that of the run before, else a free port")
	f.BoolVar(&serve, "serve", false, "stay up afterwards, until an interrupt")
	return cmd
}

func (a *app) quickstart(ctx context.Context, c serverConfig, serve bool) (err error) {
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	c.Data = dir
	q := &quickstart{app: a, progress: &progress{a.Out, a.Redraws(a.Out)}, dir: dir}
	if a.JSON || a.Quiet {
		q.progress = &progress{out: io.Discard}
	}
	defer func() {
		if err != nil && ctx.Err() == nil && q.log != nil {
			q.say("\nThat did not work. The server's log is %s.\nTo begin from scratch: rm -r %s", q.logPath(), cli.QuoteWord(dir))
		}
	}()
	defer func() { err = errors.Join(err, q.close()) }()
	if err := q.claimFolder(); err != nil {
		return err
	}
	q.say("Latchkey quickstart: from a secret in a vault to a flow that signs in with it.\nEverything is kept in %s.\n", dir)
	q.say("Setting up")
	for _, s := range q.setUp(ctx, c) {
		if err := q.step(s.text, s.do); err != nil {
			return err
		}
	}
	if err := q.prove(ctx); err != nil {
		return err
	}
	if err := q.showAudit(ctx); err != nil {
		return err
	}
	q.say("")
	if err := q.step("search for both passwords in the files of server, vault and agent", q.searchFiles); err != nil {
		return err
	}
	q.say(quickConclusion)
	if serve {
		return q.serve(ctx)
	}
	q.next()
	return q.result("")
}

// A quickStep is a line that quickstart shows, and what it stands for.
type quickStep struct {
	text string
	do   func() (string, error)
}

// setUp is what is made, in order. Each step uses what an earlier run left, so
// that it does not matter where that one ended.
func (q *quickstart) setUp(ctx context.Context, c serverConfig) []quickStep {
	step := func(text string, f func(context.Context) (string, error)) quickStep {
		return quickStep{text, func() (string, error) { return f(ctx) }}
	}
	return []quickStep{
		{"copy of this program, for the agent", func() (string, error) { return q.copyProgram() }},
		{"server, with its own database, keys and certificates", func() (string, error) { return q.startServer(ctx, c) }},
		step("administrator's token", q.signIn),
		step("environment, the workspace for what follows", q.makeEnvironment),
		step("embedded vault, an Azure Key Vault of your own", q.makeVault),
		step("password in the vault, random, set over TLS", q.setFirstSecret),
		step("text variable with the user name", q.makeUserVariable),
		step("secret variable that refers to the password", q.makeSecretVariable),
		step("credential that pairs the two", q.makeCredential),
		step("machine with its own keys, enrolled and running an agent", q.makeMachine),
		step("connection: this credential on this machine", q.makeConnection),
		step("flow that proves it got the password, without showing it", q.makeFlow),
	}
}

// copyProgram puts a copy of the program where the machine's policy can name
// it: with go run the program itself is in a folder that goes away.
func (q *quickstart) copyProgram() (string, error) {
	if err := os.MkdirAll(filepath.Join(q.dir, "bin"), 0o700); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	q.binary = filepath.Join(q.dir, "bin", "latchkey")
	if runtime.GOOS == "windows" {
		q.binary += ".exe"
	}
	if err := copyFile(q.binary, self); err != nil {
		return "", err
	}
	return q.binary, nil
}

// claimFolder makes the folder, or makes sure that it is one of quickstart: not
// that of a server in use, nor one that holds what nobody wants removed.
func (q *quickstart) claimFolder() error {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return err
	}
	mark := filepath.Join(q.dir, quickMark)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return err
	}
	// A crash may have left the beginnings of the mark.
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "."+quickMark) })
	if len(entries) > 0 {
		return cli.Hint(fmt.Errorf("%s holds something else already", q.dir), "latchkey quickstart --data "+cli.QuoteWord(filepath.Join(q.dir, quickDir)))
	}
	return writeFile(mark, []byte("This folder is from latchkey quickstart and can be removed.\n"), 0o600)
}

func (q *quickstart) logPath() string { return filepath.Join(q.dir, "server.log") }

func (q *quickstart) startServer(ctx context.Context, c serverConfig) (string, error) {
	var err error
	if q.log, err = os.OpenFile(q.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return "", err
	}
	c.Out = q.log
	// An agent that is enrolled already knows the address of the run before.
	var before addresses
	if b, err := readFile(filepath.Join(c.Data, addressFile), maxProfiles); err == nil {
		_ = json.Unmarshal(b, &before) // what cannot be read is as good as absent
	}
	_, last, _ := strings.Cut(before.URL, "://")
	listens := candidates(c.Listen, last)
	vaultListens := candidates(c.VaultListen, before.VaultListen)
	for i := 0; ; i++ {
		c.Listen, c.VaultListen = listens[min(i, len(listens)-1)], vaultListens[min(i, len(vaultListens)-1)]
		q.server, err = startServer(context.WithoutCancel(ctx), c)
		if err == nil {
			return q.server.URL(), nil
		}
		if !inUse(err) || i >= max(len(listens), len(vaultListens))-1 {
			return "", err
		}
	}
}

// candidates are the addresses to try: the one that was asked for, or else
// that of the run before and then any free port.
func candidates(asked, before string) []string {
	const free = "127.0.0.1:0"
	switch {
	case asked != "" && !strings.HasSuffix(asked, ":0"):
		return []string{asked}
	case before != "":
		return []string{before, free}
	}
	return []string{free}
}

// signIn uses the token of the first start while it lasts, and then makes
// another.
func (q *quickstart) signIn(ctx context.Context) (string, error) {
	path := filepath.Join(q.dir, adminTokenFile)
	how := "good for a day"
	token, err := readTokenFile(path)
	if err == nil {
		q.client, err = q.connect(token)
		if err != nil {
			return "", err
		}
		_, err = q.client.Me(ctx)
	}
	if err != nil {
		if errors.Is(err, latchkey.ErrUnavailable) {
			return "", err
		}
		text, err := q.server.broker.AdminToken(ctx, "admin", 0)
		if err != nil {
			return "", err
		}
		if err := writeFile(path, []byte(text+"\n"), 0o600); err != nil {
			return "", err
		}
		token, how = latchkey.NewSecret(text), "a new one, good for a day"
		if q.client, err = q.connect(token); err != nil {
			return "", err
		}
	}
	q.token = token
	return how + ", in " + path, nil
}

func (q *quickstart) connect(token latchkey.Secret) (*client.Client, error) {
	return connectTo{server: q.server.URL(), token: token}.client()
}

func (q *quickstart) makeEnvironment(ctx context.Context) (string, error) {
	_, err := q.client.Environment(ctx, quickEnv)
	if errors.Is(err, latchkey.ErrNotFound) {
		_, err = q.client.CreateEnvironment(ctx, latchkey.EnvironmentCreate{Name: quickEnv, DisplayName: "Quickstart"})
	}
	return quickEnv, err
}

func (q *quickstart) makeVault(ctx context.Context) (string, error) {
	v, err := q.client.Vault(ctx, quickVault)
	if errors.Is(err, latchkey.ErrNotFound) {
		v, err = q.client.CreateVault(ctx, latchkey.EmbeddedVaultCreate{Name: quickVault})
	}
	q.vault = v
	return v.URL, err
}

// setSecret sets a new random password in the vault, as any Azure SDK would.
func (q *quickstart) setSecret(ctx context.Context) (password latchkey.Secret, version string, err error) {
	v, err := openVault(ctx, q.client, quickVault)
	if err != nil {
		return password, "", err
	}
	defer v.close()
	password = latchkey.NewSecret(rand.Text())
	b, err := v.set(ctx, quickSecret, password, secretBundle{ContentType: "text/plain"})
	if errors.Is(err, latchkey.ErrConflict) { // somebody deleted it: it can be recovered
		path, pathErr := secretPath("deletedsecrets", quickSecret, "")
		if pathErr != nil {
			return password, "", pathErr
		}
		if err := v.do(ctx, "POST", path+"/recover", nil, nil); err != nil {
			return password, "", err
		}
		b, err = v.set(ctx, quickSecret, password, secretBundle{ContentType: "text/plain"})
	}
	return password, b.version(), err
}

func (q *quickstart) setFirstSecret(ctx context.Context) (string, error) {
	_, version, err := q.setSecret(ctx)
	return quickSecret + ", version " + abbreviated(version), err
}

func (q *quickstart) makeUserVariable(ctx context.Context) (string, error) {
	login := quickLogin
	v, err := q.variable(ctx, latchkey.VariableCreate{DisplayName: quickUser, Type: latchkey.TypeText, Value: &login})
	if err != nil {
		return "", err
	}
	q.username = v.Name
	q.login, _ = v.Effective()
	return fmt.Sprintf("%s = %s", v.Name, q.login), nil
}

// variable returns the variable that in asks for, made if there is none.
func (q *quickstart) variable(ctx context.Context, in latchkey.VariableCreate) (latchkey.Variable, error) {
	for v, err := range q.client.Variables(ctx, quickEnv, in.Type) {
		if err != nil || v.DisplayName == in.DisplayName {
			return v, err
		}
	}
	return q.client.CreateVariable(ctx, quickEnv, in)
}

func (q *quickstart) makeSecretVariable(ctx context.Context) (string, error) {
	r := q.vault.Reference()
	ref := latchkey.SecretReference{SubscriptionID: r.SubscriptionID, ResourceGroup: r.ResourceGroup, Vault: r.Vault, Secret: quickSecret}
	v, err := q.variable(ctx, latchkey.VariableCreate{DisplayName: quickPassword, Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		return "", err
	}
	switch {
	case v.Secret == nil || v.Secret.Key() != ref.Key():
		v, err = q.client.UpdateVariable(ctx, quickEnv, v.Name, latchkey.VariableUpdate{Secret: &ref})
	case v.Check != nil && v.Check.State != latchkey.CheckChecking && !v.Check.Usable():
		v, err = q.client.CheckVariable(ctx, quickEnv, v.Name)
	}
	if err == nil {
		v, err = waitForCheck(ctx, q.client, quickEnv, v)
	}
	if err != nil {
		return "", err
	}
	if !v.Check.Usable() {
		return "", fmt.Errorf("the check that it may be read says %s: %s", v.Check.State, v.Check.Message)
	}
	q.password = v.Name
	return v.Name + ", and the check that it may be read " + string(v.Check.State), nil
}

func (q *quickstart) makeCredential(ctx context.Context) (string, error) {
	slots := map[latchkey.Slot]string{latchkey.SlotUsername: q.username, latchkey.SlotPassword: q.password}
	for c, err := range q.client.Credentials(ctx, quickEnv) {
		if err != nil {
			return "", err
		}
		if c.Name != quickCredential || c.Slots[latchkey.SlotUsername] != q.username || c.Slots[latchkey.SlotPassword] != q.password {
			continue
		}
		q.credential = c
		if !c.AllowSharedUID || !c.Exposure.Allows(latchkey.HandoverDescriptor) {
			exposure, shared := latchkey.ExposureDescriptor, true
			q.credential, err = q.client.UpdateCredential(ctx, quickEnv, c.ID, latchkey.CredentialUpdate{Exposure: &exposure, AllowSharedUID: &shared})
		}
		return c.Name, err
	}
	// The flow runs as the agent's own user here, which a credential has to
	// allow by name; on a real machine it should not.
	c, err := q.client.CreateCredential(ctx, quickEnv, latchkey.CredentialCreate{
		Name: quickCredential, Usages: []latchkey.Usage{latchkey.UsageConnection}, Slots: slots,
		Exposure: latchkey.ExposureDescriptor, AllowSharedUID: true,
	})
	q.credential = c
	return c.Name, err
}

func (q *quickstart) makeConnection(ctx context.Context) (string, error) {
	for c, err := range q.client.Connections(ctx, quickEnv) {
		if err != nil {
			return "", err
		}
		if c.Name != quickConnection {
			continue
		}
		if c.Target.Machine == q.machine && c.Credential == q.credential.ID {
			q.connection = c
			return c.Name, nil
		}
		// It is to a machine that was enrolled before.
		if err := removeUsed(ctx, q.client, quickEnv, latchkey.KindConnection, string(c.ID)); err != nil {
			return "", err
		}
	}
	c, err := q.client.CreateConnection(ctx, quickEnv, latchkey.ConnectionCreate{
		Name: quickConnection, Target: latchkey.Target{Machine: q.machine}, Driver: latchkey.DriverNone, Credential: q.credential.ID,
	})
	q.connection = c
	return c.Name, err
}

func (q *quickstart) makeFlow(ctx context.Context) (string, error) {
	in := latchkey.FlowCreate{
		Name: quickFlow, Command: []string{q.binary, proofCommandName},
		Timeout: latchkey.Duration(time.Minute), Handover: latchkey.HandoverDescriptor,
	}
	for f, err := range q.client.Flows(ctx, quickEnv) {
		if err != nil {
			return "", err
		}
		if f.Name != quickFlow {
			continue
		}
		q.flow = f
		if strings.Join(f.Command, "\x00") != strings.Join(in.Command, "\x00") || f.Handover != in.Handover {
			q.flow, err = q.client.ReviseFlow(ctx, quickEnv, f.ID, in)
		}
		return f.Name, err
	}
	f, err := q.client.CreateFlow(ctx, quickEnv, in)
	q.flow = f
	return f.Name, err
}

// close stops what was started, the agent first.
func (q *quickstart) close() error {
	var errs []error
	if q.agent != nil {
		q.agent.stop()
	}
	if q.server != nil {
		errs = append(errs, q.server.Close())
	}
	if q.log != nil {
		errs = append(errs, q.log.Close())
	}
	return errors.Join(errs...)
}
