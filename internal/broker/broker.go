package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// A Config holds what a Broker is made of.
type Config struct {
	DB  *db.DB
	Key *seal.Key // master key
	Log *slog.Logger

	// OpenVault returns the vault that a reference names. embedded is true when
	// the reference is one of an embedded vault. The Broker keeps no vault: the
	// function may, and must be safe for concurrent use.
	OpenVault func(ref latchkey.VaultReference, embedded bool) (vault.Vault, error)

	// Inspect finds out who may read a secret, without reading it: a result for each
	// step from [latchkey.CheckProvider] on. It returns within a bounded time.
	Inspect func(context.Context, vault.Question) []latchkey.CheckResult

	// IssuerKeys returns the keys of an issuer that may have signed a token which
	// names the key kid, or all if that is "", within a bounded time; without patience
	// it does not wait for what others ask. It is asked only about issuers that a
	// federated credential names. nil refuses all.
	IssuerKeys func(ctx context.Context, issuer, kid string, patient bool) ([]jose.JSONWebKey, error)

	// Survey says how vaults stand, for doctor, without reading a secret. It returns
	// within a bounded time. With nil doctor asks no vault, and says so.
	Survey func(context.Context, vault.Survey) []latchkey.Finding

	// VaultURL returns the address of an embedded vault for Azure SDKs.
	VaultURL func(name string) string

	// SessionIdle is how long a browser's session may be out of use; 0 is
	// latchkey.SessionIdle.
	SessionIdle time.Duration

	// Version is the program's, which doctor compares the agents' with.
	Version string

	// Now is the clock; nil is time.Now. It must be the database's clock too.
	Now func() time.Time
}

// A Broker decides about and carries out every operation. Its methods may be
// called concurrently.
type Broker struct {
	db        *db.DB
	key       *seal.Key
	log       *slog.Logger
	openVault func(latchkey.VaultReference, bool) (vault.Vault, error)
	inspect   func(context.Context, vault.Question) []latchkey.CheckResult
	survey    func(context.Context, vault.Survey) []latchkey.Finding
	vaultURL  func(string) string

	issuerKeys func(ctx context.Context, issuer, kid string, patient bool) ([]jose.JSONWebKey, error)
	version    string
	now        func() time.Time

	sessionIdle time.Duration

	tenant       string // tenant id, a GUID
	subscription string // subscription id of embedded vaults that do not say
	serverKey    ed25519.PrivateKey
	ca           *authority

	passwords chan struct{} // bounds concurrent password hashes
	keys      chan struct{} // bounds concurrent making of certificates' keys
	imports   chan struct{} // bounds concurrent opening of PFX
	surveys   chan struct{} // bounds concurrent surveys of vaults
	previews  previews      // how often people ask for checks of what is not saved

	previewing chan struct{} // bounds concurrent ones

	checks   chan struct{} // wakes the loop that checks references
	waiting  *waiters      // wakes long polls
	reads    *sharedReads  // concurrent vault reads of one secret
	standing *standing     // what releases are granted from
	ledger   *ledger       // puts releases on record
	counts   Counts        // for metrics
}

// Names of settings.
const (
	settingTenant       = "tenant"
	settingSubscription = "subscription"
	settingBindings     = "certificate-bindings"
	sealedKeyCheck      = "master-key-check"
	sealedServerKey     = "server-key"
)

// New returns a Broker. At the first start it gives the installation its
// identity; later it refuses a master key other than the one used then, and ends
// what was under way if it finds that the database is a copy.
func New(ctx context.Context, c Config) (*Broker, error) {
	if c.DB == nil || c.Key == nil || c.Log == nil || c.OpenVault == nil || c.Inspect == nil || c.VaultURL == nil {
		return nil, errors.New("broker: Config lacks DB, Key, Log, OpenVault, Inspect or VaultURL")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.SessionIdle == 0 {
		c.SessionIdle = latchkey.SessionIdle
	}
	b := &Broker{
		sessionIdle: c.SessionIdle,
		db:          c.DB, key: c.Key, log: c.Log, openVault: c.OpenVault, inspect: c.Inspect, survey: c.Survey, vaultURL: c.VaultURL, issuerKeys: c.IssuerKeys, version: c.Version, now: c.Now,
		passwords: make(chan struct{}, maxPasswordHashes),
		keys:      make(chan struct{}, maxCertificateWork),
		imports:   make(chan struct{}, maxCertificateWork),
		surveys:   make(chan struct{}, maxSurveys),

		previewing: make(chan struct{}, maxPreviews),

		checks:   make(chan struct{}, 1),
		waiting:  newWaiters(),
		reads:    newSharedReads(),
		standing: newStanding(),
		ledger:   &ledger{db: c.DB},
	}
	err := b.db.Update(ctx, func(tx *db.Tx) error {
		if err := tx.NotRestoring(); err != nil {
			return err
		}
		if err := b.checkKey(tx); err != nil {
			return err
		}
		var err error
		if b.tenant, err = newSetting(tx, settingTenant); err != nil {
			return err
		}
		if b.subscription, err = newSetting(tx, settingSubscription); err != nil {
			return err
		}
		seed, err := b.sealedSetting(tx, sealedServerKey, func() ([]byte, error) {
			seed := make([]byte, ed25519.SeedSize)
			rand.Read(seed)
			return seed, nil
		})
		if err != nil {
			return err
		}
		b.serverKey = ed25519.NewKeyFromSeed(seed)
		if b.ca, err = b.loadAuthority(tx); err != nil {
			return err
		}
		return tx.EnsurePrincipal(latchkey.ServiceIdentity, latchkey.PrincipalService, latchkey.ServiceIdentityName)
	})
	if err != nil {
		return nil, err
	}
	if err := b.endCopied(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// HasMasterKey reports whether a database has been used with a master key: then it is
// of no use without that one, and a new one must not be made.
func HasMasterKey(ctx context.Context, d *db.DB) (has bool, err error) {
	err = d.View(ctx, func(tx *db.Tx) error {
		if err := tx.NotRestoring(); err != nil {
			return err
		}
		_, err := tx.SealedSetting(sealedKeyCheck)
		has = err == nil
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
		return err
	})
	return has, err
}

// sealedSetting returns one of the service's own secrets. At the first start it
// is made and stored.
func (b *Broker) sealedSetting(tx *db.Tx, name string, create func() ([]byte, error)) ([]byte, error) {
	binding := []string{"sealed_settings", "box", name}
	box, err := tx.SealedSetting(name)
	if err == nil {
		return b.key.Open(box, binding...)
	}
	if !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	text, err := create()
	if err != nil {
		return nil, err
	}
	if box, err = b.seal(tx, text, binding...); err != nil {
		return nil, err
	}
	return text, tx.CreateSealedSetting(name, box)
}

// newSetting returns a setting that is a random GUID from the first start on.
func newSetting(tx *db.Tx, name string) (string, error) {
	v, err := tx.Setting(name)
	if !errors.Is(err, db.ErrNotFound) {
		return v, err
	}
	v = latchkey.NewGUID()
	return v, tx.SetSetting(name, v)
}

// Tenant returns the installation's tenant id.
func (b *Broker) Tenant() string { return b.tenant }

// ServerKey returns the public key by which agents know the server.
func (b *Broker) ServerKey() ed25519.PublicKey { return b.serverKey.Public().(ed25519.PublicKey) }

// Ready returns an error if the service cannot do its work. When nothing can be
// recorded the error has the code db.CodeStorageFull.
func (b *Broker) Ready(ctx context.Context) error {
	if err := b.db.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if b.db.Full() {
		return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: db.CodeStorageFull, Msg: "the database's storage is full"}
	}
	return nil
}

// watchStorage says in the log that the storage is full, and looks again and
// again whether there is room, so that the service is ready again by itself.
func (b *Broker) watchStorage(ctx context.Context) error {
	was := false
	return b.every(ctx, chore{interval: storageInterval, what: "look for room in the storage", round: func(ctx context.Context) error {
		full := b.db.Full()
		switch {
		case full && !was:
			b.log.LogAttrs(ctx, slog.LevelError, "the database's storage is full: nothing can be recorded, so nothing is changed, claimed or released; make room")
		case full:
			// A failure is what is expected.
			full = b.db.Probe(ctx) != nil && b.db.Full()
		}
		if was && !full {
			b.log.LogAttrs(ctx, slog.LevelInfo, "the database's storage has room again")
		}
		was = full
		return nil
	}})
}

// Work does the service's background work until ctx ends: it checks references,
// ends runs whose agent vanished, purges what is past its retention, and watches
// whether the storage is full.
func (b *Broker) Work(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	// One worker looks for checks all the time; the others when one has been found.
	g.Go(func() error { return b.runChecks(ctx, checkPoll) })
	for range checkWorkers - 1 {
		g.Go(func() error {
			if !b.awaitChecks(ctx, checkRelief) {
				return nil
			}
			return b.runChecks(ctx, checkRelief)
		})
	}
	leases := &leaseWatch{b: b, monotonic: time.Now}
	g.Go(func() error {
		return b.every(ctx, chore{interval: leaseInterval, what: "end lost runs", round: leases.round})
	})
	g.Go(func() error { return b.watchStorage(ctx) })
	// What can wait does so in turn the first time: a server that starts has enough
	// to do, and each at once would take a connection of its own.
	g.Go(func() error {
		for _, c := range []chore{
			{interval: keyInterval, what: "follow the master key", round: b.followKey},
			{interval: placeInterval, what: "note how far the database has come", round: b.db.NotePlace},
			{interval: forgetInterval, what: "forget decisions", round: b.forgetSome},
			{interval: renewInterval, what: "renew certificates", round: b.renew},
			{interval: purgeInterval, what: "purge", round: b.purge},
		} {
			if ctx.Err() != nil {
				return nil
			}
			b.do(ctx, &c)
			g.Go(func() error { return b.goOn(ctx, &c) })
		}
		return nil
	})
	return g.Wait()
}

const (
	leaseInterval   = time.Second
	purgeInterval   = 10 * time.Minute
	renewInterval   = time.Minute
	forgetInterval  = time.Minute
	keyInterval     = 2 * time.Second
	placeInterval   = 10 * time.Second
	storageInterval = time.Second // to see that the storage is full, or has room again
)

// A chore is background work.
type chore struct {
	interval time.Duration
	what     string // it does
	round    func(context.Context) error

	logged time.Time // when an error last was
}

// every does c at once and then at intervals until ctx ends.
func (b *Broker) every(ctx context.Context, c chore) error {
	b.do(ctx, &c)
	return b.goOn(ctx, &c)
}

// goOn does c at intervals until ctx ends.
func (b *Broker) goOn(ctx context.Context, c *chore) error {
	ticker := time.NewTicker(c.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		b.do(ctx, c)
	}
}

// do does c once. An error is logged, at most once a minute: the next round is the
// retry.
func (b *Broker) do(ctx context.Context, c *chore) {
	if err := c.round(ctx); err != nil && ctx.Err() == nil && time.Since(c.logged) > time.Minute {
		c.logged = time.Now()
		b.log.LogAttrs(ctx, slog.LevelError, "background work failed", slog.String("work", c.what), slog.Any("error", err))
	}
}
