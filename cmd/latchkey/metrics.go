package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// wiredMetrics are the metrics of what a server is wired from. Their labels are
// never the name or the id of anything.
type wiredMetrics struct {
	*prometheus.Registry
	messages     *prometheus.CounterVec
	reads        *prometheus.CounterVec
	took         *prometheus.HistogramVec
	certificates *prometheus.GaugeVec
	throttled    prometheus.Counter
}

func newWiredMetrics() (*wiredMetrics, error) {
	m := &wiredMetrics{
		Registry: prometheus.NewRegistry(),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_log_messages_total", Help: "Messages written to the log, by level: warn and error.",
		}, []string{"level"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_vault_requests_total", Help: "Requests to vaults, by kind of vault and outcome.",
		}, []string{"kind", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "latchkey_vault_request_duration_seconds", Help: "Time of requests to vaults, by kind of vault.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"kind"}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_vault_throttled_total", Help: "Answers of vaults that they get too many requests.",
		}),
		certificates: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_certificate_expiry_timestamp_seconds", Help: "When a certificate ends, by its use: that of the API's address, and the authority of the embedded vaults.",
		}, []string{"use"}),
	}
	// What has not happened yet is 0, so that the first time is a change.
	for _, level := range []string{levelWarn, levelError} {
		m.messages.WithLabelValues(level)
	}
	for _, kind := range []string{kindEmbedded, kindAzure} {
		for _, err := range []error{nil, vault.ErrNotFound, vault.ErrDenied, vault.ErrDisabled, vault.ErrUnavailable, errors.New("other")} {
			m.reads.WithLabelValues(kind, vaultOutcome(err))
		}
		m.took.WithLabelValues(kind)
	}
	for _, c := range []prometheus.Collector{m.messages, m.reads, m.took, m.certificates, m.throttled} {
		if err := m.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// Values of labels.
const (
	levelWarn, levelError   = "warn", "error"
	kindEmbedded, kindAzure = "embedded", "azure"
)

// certificate notes when a certificate ends.
func (m *wiredMetrics) certificate(use string, der []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", use, err)
	}
	m.certificates.WithLabelValues(use).Set(float64(c.NotAfter.Unix()))
	return nil
}

// paused has count say how many vaults are left alone.
func (m *wiredMetrics) paused(count func() int) error {
	return m.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_vaults_paused", Help: "Vaults that are left alone for now, because they did not answer.",
	}, func() float64 { return float64(count()) }))
}

// authority notes when the certificate ends that vouches for the embedded vaults.
func (m *wiredMetrics) authority(text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	return m.certificate("vault-authority", block.Bytes)
}

// log counts the messages that somebody may have to act on.
func (m *wiredMetrics) log(l *slog.Logger) *slog.Logger {
	return slog.New(countingHandler{l.Handler(), m.messages})
}

type countingHandler struct {
	slog.Handler
	messages *prometheus.CounterVec
}

// Handle implements [slog.Handler].
func (h countingHandler) Handle(ctx context.Context, r slog.Record) error {
	switch {
	case r.Level >= slog.LevelError:
		h.messages.WithLabelValues(levelError).Inc()
	case r.Level >= slog.LevelWarn:
		h.messages.WithLabelValues(levelWarn).Inc()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h countingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return countingHandler{h.Handler.WithAttrs(attrs), h.messages}
}

// WithGroup implements [slog.Handler].
func (h countingHandler) WithGroup(name string) slog.Handler {
	return countingHandler{h.Handler.WithGroup(name), h.messages}
}

// vaults counts and measures what is asked of the vaults that open returns.
func (m *wiredMetrics) vaults(open func(latchkey.VaultReference, bool) (vault.Vault, error)) func(latchkey.VaultReference, bool) (vault.Vault, error) {
	return func(ref latchkey.VaultReference, embedded bool) (vault.Vault, error) {
		v, err := open(ref, embedded)
		if err != nil {
			return nil, err
		}
		kind := kindAzure
		if embedded {
			kind = kindEmbedded
		}
		return measuredVault{v, kind, m}, nil
	}
}

type measuredVault struct {
	vault.Vault
	kind string
	m    *wiredMetrics
}

func (v measuredVault) Get(ctx context.Context, name string) (vault.Value, error) {
	start := time.Now()
	value, err := v.Vault.Get(ctx, name)
	v.done(start, err)
	return value, err
}

func (v measuredVault) CheckRead(ctx context.Context, name string) error {
	start := time.Now()
	err := v.Vault.CheckRead(ctx, name)
	v.done(start, err)
	return err
}

func (v measuredVault) done(start time.Time, err error) {
	v.m.took.WithLabelValues(v.kind).Observe(time.Since(start).Seconds())
	v.m.reads.WithLabelValues(v.kind, vaultOutcome(err)).Inc()
}

func vaultOutcome(err error) string {
	if err == nil {
		return "ok"
	}
	for outcome, kind := range map[string]error{
		"not-found": vault.ErrNotFound, "denied": vault.ErrDenied, "disabled": vault.ErrDisabled, "unavailable": vault.ErrUnavailable,
	} {
		if errors.Is(err, kind) {
			return outcome
		}
	}
	return "error"
}
