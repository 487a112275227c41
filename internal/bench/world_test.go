package bench

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/server"
	"latchkey.dev/latchkey"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }

// eachEngine runs f with the address of an empty database of each engine.
func eachEngine(b *testing.B, f func(b *testing.B, url string)) {
	b.Run("SQLite", func(b *testing.B) { f(b, b.TempDir()+"/latchkey.db") })
	b.Run("PostgreSQL", func(b *testing.B) { f(b, pg.New(b)) })
}

// listen serves h on loopback until the benchmark ends, and returns its URL.
func listen(b *testing.B, h http.Handler) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	b.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

// lineLog writes the lines of a server where they cost what they cost: one write
// each.
func lineLog(b *testing.B) *slog.Logger {
	b.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return slog.New(slog.NewTextHandler(f, nil))
}

// A world is some servers on one database, and a chain with a machine, a
// credential and a started run for each client.
type world struct {
	options  latchkeytest.Options
	services []*latchkeytest.Service
	urls     []string
	chain    *latchkeytest.Chain
	agents   []*agent
}

// An agent is what a machine's agent is to the server.
type agent struct {
	session    *client.MachineSession
	run        *latchkey.ClaimedRun
	credential latchkey.CredentialID
}

// newWorld makes a world on a database.
func newWorld(b *testing.B, url string, servers, clients int) *world {
	b.Helper()
	w := &world{options: latchkeytest.Options{DatabaseURL: url}}
	w.start(b, servers, clients)
	return w
}

// start makes what is in the world, with its options.
func (w *world) start(b *testing.B, servers, clients int) {
	b.Helper()
	w.options.Key = seal.NewKey()
	for range servers {
		s := latchkeytest.New(b, w.options)
		h, err := server.New(server.Config{Broker: s.Broker, Log: lineLog(b), PublicURL: func() string { return "" }})
		if err != nil {
			b.Fatal(err)
		}
		w.services, w.urls = append(w.services, s), append(w.urls, listen(b, h))
	}
	w.chain = w.services[0].Chain(b)
	for i := range clients {
		w.agents = append(w.agents, w.agent(b, i))
	}
}

// agent makes a machine with a credential of its own and starts a run on it.
func (w *world) agent(b *testing.B, i int) *agent {
	b.Helper()
	ctx, c := b.Context(), w.chain
	env := c.Env
	ref := c.Reference
	ref.Secret = fmt.Sprintf("secret-%d", i)
	c.SetSecret(b, ref.Secret, fmt.Sprintf("value %d of a secret", i))
	password, err := c.Broker.CreateVariable(ctx, c.Admin, env, latchkey.VariableCreate{DisplayName: fmt.Sprint("Password ", i), Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		b.Fatal(err)
	}
	c.AwaitCheck(b, password.Name, latchkey.CheckPassed)
	cred, err := c.Broker.CreateCredential(ctx, c.Admin, env, latchkey.CredentialCreate{
		Name: fmt.Sprint("Bot ", i), Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor,
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: password.Name},
	})
	if err != nil {
		b.Fatal(err)
	}
	m, session := enrol(b, w.services[0], w.urls[i%len(w.urls)], env, fmt.Sprint("bench", i))
	conn, err := c.Broker.CreateConnection(ctx, c.Admin, env, latchkey.ConnectionCreate{
		Name: fmt.Sprint("Connection ", i), Target: latchkey.Target{Machine: m}, Driver: latchkey.DriverNone, Credential: cred.ID,
	})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Broker.StartRun(ctx, c.Admin, env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: conn.ID}); err != nil {
		b.Fatal(err)
	}
	run, err := session.Claim(ctx, latchkey.ClaimRequest{})
	if err != nil || run == nil {
		b.Fatalf("claim = %v, %v; want a run", run, err)
	}
	if _, err := session.Start(ctx, run.Run, latchkey.RunRequest{Claim: run.Claim}); err != nil {
		b.Fatal(err)
	}
	return &agent{session, run, cred.ID}
}

// enrol enrols a machine and opens a session at a server.
func enrol(b *testing.B, s *latchkeytest.Service, url, env, name string) (latchkey.MachineID, *client.MachineSession) {
	b.Helper()
	ctx := b.Context()
	token, err := s.Broker.CreateEnrolmentToken(ctx, s.Admin, env, latchkey.EnrolmentTokenCreate{})
	if err != nil {
		b.Fatal(err)
	}
	proof, pinned, err := seal.ParseEnrolmentToken(token.Token)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := seal.NewMachineKeys()
	if err != nil {
		b.Fatal(err)
	}
	m, err := client.NewMachine(url, client.MachineOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	enrolled, err := m.Enrol(ctx, keys, pinned, &latchkey.EnrolRequest{Token: proof, Name: name, OS: "linux", Version: "bench", Policy: latchkeytest.OpenPolicy()})
	if err != nil {
		b.Fatal(err)
	}
	session, err := m.OpenSession(ctx, keys, pinned, &latchkey.SessionRequest{
		Machine: enrolled.Machine, Counter: 1, At: time.Now(), OS: "linux", Version: "bench", Policy: latchkeytest.OpenPolicy(),
	})
	if err != nil {
		b.Fatal(err)
	}
	return enrolled.Machine, session
}

// heartbeat keeps the runs' leases, as agents do.
func (w *world) heartbeat(b *testing.B) {
	b.Helper()
	for _, a := range w.agents {
		if _, err := a.session.Heartbeat(b.Context(), a.run.Run, latchkey.RunRequest{Claim: a.run.Claim}); err != nil {
			b.Fatal(err)
		}
	}
}

// release asks for the agent's credential and opens it.
func (a *agent) release(b *testing.B) error {
	sealed, err := a.session.Release(b.Context(), a.run.Run, latchkey.ReleaseRequest{Claim: a.run.Claim, Credential: a.credential})
	if err != nil {
		return err
	}
	_, err = a.session.Open(sealed)
	return err
}
