package latchkeytest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/arm"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/issuer"
	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/login"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

// VaultDomain is the domain of a test service's embedded vaults.
const VaultDomain = "vault.localhost:8443"

// Options choose what a service is made of. The zero value is SQLite and the
// real clock.
type Options struct {
	// DatabaseURL is the database; "" is a new SQLite file.
	DatabaseURL string

	// Key is the master key; nil is a new one.
	Key *seal.Key

	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// Idle leaves the background work out: nothing is checked, lost or purged.
	Idle bool

	// Issuers, when not nil, asks issuers for their keys; nil asks as the server
	// does.
	Issuers *http.Client

	// OpenVault, when not nil, may return a vault in place of the real one.
	// Returning nil leaves the real one.
	OpenVault func(ref latchkey.VaultReference, embedded bool) vault.Vault

	// Manager, when not nil, is asked about vaults in Azure. Without it nobody is.
	Manager *azure.ResourceManager
}

// A Service is a running service.
type Service struct {
	DB     *db.DB
	URL    string    // of the database
	Key    *seal.Key // master key
	Broker *broker.Broker
	Vaults http.Handler // the embedded vaults' REST face
	Admin  latchkey.Caller
	Log    *Log

	// AdminToken is an API token of the first admin.
	AdminToken string

	manager *azure.ResourceManager // asks about the embedded vaults
	azure   *azure.ResourceManager // asks about those in Azure
	now     func() time.Time
}

// A Log keeps what a service logs.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements [io.Writer].
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String returns everything logged so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// EachDB runs f on SQLite and on PostgreSQL, with a database for [Options]: it has
// the schema and no rows. The package's TestMain must be pg.Main's.
func EachDB(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("SQLite", func(t *testing.T) { f(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { f(t, Postgres(t)) })
}

// Making the schema takes longer than most tests: it is made once for each engine.
var (
	postgresSchema = pg.Template{Fill: makeSchema}
	sqliteSchema   struct {
		once  sync.Once
		bytes []byte // of the file
	}
)

// Postgres creates a PostgreSQL database with the schema and no rows, as [pg.New]
// creates an empty one, and returns its address.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return postgresSchema.New(tb)
}

// makeSchema makes the schema in an empty database.
func makeSchema(url string) error {
	d, err := db.Open(context.Background(), db.Config{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return d.Close()
}

// writeSchema makes a new SQLite database at path.
func writeSchema(t testing.TB, path string) {
	t.Helper()
	sqliteSchema.once.Do(func() {
		made := filepath.Join(t.TempDir(), "schema.db")
		err := makeSchema(made)
		if err == nil {
			sqliteSchema.bytes, err = os.ReadFile(made)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if len(sqliteSchema.bytes) == 0 {
		t.Fatal("the schema could not be made in another test")
	}
	if err := os.WriteFile(path, sqliteSchema.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
}

// New starts a service.
func New(t testing.TB, o Options) *Service {
	t.Helper()
	ctx := t.Context()
	if o.DatabaseURL == "" {
		o.DatabaseURL = filepath.Join(t.TempDir(), "latchkey.db")
		writeSchema(t, o.DatabaseURL)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Key == nil {
		o.Key = seal.NewKey()
	}
	if o.Manager == nil {
		o.Manager = azure.NoResourceManager("Azure cannot be reached from a test")
	}
	s := &Service{Log: new(Log), URL: o.DatabaseURL, Key: o.Key, now: o.Now, azure: o.Manager}
	log := slog.New(slog.NewTextHandler(s.Log, nil))
	var err error
	if s.DB, err = db.Open(ctx, db.Config{URL: o.DatabaseURL, Log: log, Now: o.Now}); err != nil {
		t.Fatal(err)
	}
	s.Broker, err = broker.New(ctx, broker.Config{
		DB: s.DB, Key: o.Key, Log: log, Now: o.Now, OpenVault: s.openVault(o), Inspect: s.inspect, Survey: s.survey, VaultURL: vaultURL, Version: Version,
		IssuerKeys: issuer.New(issuer.Config{Client: o.Issuers, Now: o.Now, Log: log}).Keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Vaults, err = keyvault.New(keyvault.Config{
		Broker: s.Broker, Domain: VaultDomain, Tenant: s.Broker.Tenant(), Authority: login.Authority(VaultDomain, s.Broker.Tenant()), Log: log, Now: o.Now,
	}); err != nil {
		t.Fatal(err)
	}
	face, err := arm.New(arm.Config{Broker: s.Broker, Tenant: s.Broker.Tenant(), Authority: login.Authority(VaultDomain, s.Broker.Tenant()), VaultURL: vaultURL, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if s.manager, err = azure.EmbeddedResourceManager(face, s.Broker.ServiceVaultToken, vaultURL(arm.Host)); err != nil {
		t.Fatal(err)
	}
	if _, s.AdminToken, err = s.Broker.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	if s.AdminToken == "" {
		if s.AdminToken, err = s.Broker.AdminToken(ctx, "admin", 0); err != nil {
			t.Fatal(err)
		}
	}
	if s.Admin, err = s.Broker.Authenticate(ctx, s.AdminToken); err != nil {
		t.Fatal(err)
	}
	if o.Idle {
		t.Cleanup(func() {
			if err := s.DB.Close(); err != nil {
				t.Errorf("close database: %v", err)
			}
		})
		return s
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- s.Broker.Work(work) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("background work: %v", err)
		}
		if err := s.DB.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return s
}

func vaultURL(name string) string { return "https://" + name + "." + VaultDomain }

// openVault reads embedded vaults as the server does: by Azure's SDK, in this
// process.
func (s *Service) openVault(o Options) func(latchkey.VaultReference, bool) (vault.Vault, error) {
	return func(ref latchkey.VaultReference, embedded bool) (vault.Vault, error) {
		if o.OpenVault != nil {
			if v := o.OpenVault(ref, embedded); v != nil {
				return v, nil
			}
		}
		if !embedded {
			return nil, &vault.Error{Kind: vault.ErrUnavailable, Msg: "Azure cannot be reached from a test"}
		}
		return s.OpenVault(ref)
	}
}

// inspect finds out who may read a secret as the server does: of an embedded vault
// by Azure's SDKs, in this process.
func (s *Service) inspect(ctx context.Context, q vault.Question) []latchkey.CheckResult {
	m := s.azure
	if q.Embedded {
		m = s.manager
	}
	return m.Inspect(ctx, q)
}

// survey says how vaults stand as the server does.
func (s *Service) survey(ctx context.Context, q vault.Survey) []latchkey.Finding {
	return azure.Surveyor{Azure: s.azure, Embedded: s.manager}.Survey(ctx, q)
}

// OpenVault opens an embedded vault as the service's own identity.
func (s *Service) OpenVault(ref latchkey.VaultReference) (vault.Vault, error) {
	return azure.Embedded(s.Vaults, s.Broker.ServiceVaultToken, vaultURL(ref.Vault))
}

// User makes a user and returns it as a caller, with a role in an environment
// unless role is "".
func (s *Service) User(t testing.TB, login, env string, role latchkey.EnvironmentRole) latchkey.Caller {
	t.Helper()
	u, err := s.Broker.CreateUser(t.Context(), s.Admin, latchkey.UserCreate{Login: login})
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		if err := s.Broker.SetMember(t.Context(), s.Admin, env, login, role); err != nil {
			t.Fatal(err)
		}
	}
	return latchkey.Caller{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.Login}
}
