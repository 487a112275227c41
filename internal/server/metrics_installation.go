package server

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"latchkey.dev/internal/broker"
)

const (
	statsAge     = 5 * time.Second // how old numbers may be: anybody may ask for them
	statsTimeout = 3 * time.Second // of the database, when it is asked
)

// installation shows what is the same on every server, as the database has it.
// Without an answer of the database only ready is shown.
type installation struct {
	b   *broker.Broker
	now func() time.Time

	ready, machines, runs, oldest *prometheus.Desc

	mu    sync.Mutex // guards what follows, and has others wait for one answer
	at    time.Time
	ok    bool // whether the service is ready
	stats *broker.Stats
}

func newInstallation(b *broker.Broker, now func() time.Time) *installation {
	return &installation{
		b: b, now: now,
		ready:    prometheus.NewDesc("latchkey_ready", "1 if the service can do its work, as /readyz says; otherwise 0.", nil, nil),
		machines: prometheus.NewDesc("latchkey_machines", "Machines of the installation, by status.", []string{"status"}, nil),
		runs:     prometheus.NewDesc("latchkey_runs", "Runs of the installation that have not ended, by state.", []string{"state"}, nil),
		oldest:   prometheus.NewDesc("latchkey_runs_oldest_queued_seconds", "How long the run has waited that waits longest for its machine; 0 if none waits.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (i *installation) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{i.ready, i.machines, i.runs, i.oldest} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector].
func (i *installation) Collect(metrics chan<- prometheus.Metric) {
	ok, stats := i.read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if !ok {
		gauge(i.ready, 0)
	} else {
		gauge(i.ready, 1)
	}
	if stats == nil {
		return
	}
	for status, n := range stats.Machines {
		gauge(i.machines, float64(n), string(status))
	}
	gauge(i.runs, float64(stats.Queued), "queued")
	gauge(i.runs, float64(stats.Running), "running")
	gauge(i.oldest, stats.Oldest.Seconds())
}

// read returns whether the service is ready and, if the database answers, its
// numbers.
func (i *installation) read() (ok bool, stats *broker.Stats) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := i.now(); i.at.IsZero() || now.Sub(i.at) >= statsAge || now.Before(i.at) {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		defer cancel()
		i.at, i.ok, i.stats = now, i.b.Ready(ctx) == nil, nil
		if s, err := i.b.Stats(ctx); err == nil {
			i.stats = &s
		}
	}
	return i.ok, i.stats
}
