package server

import (
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"latchkey.dev/internal/broker"
)

// metrics are what /metrics shows. Their labels are routes, methods and
// outcomes: never the name or the id of anything.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	handler  http.Handler
}

func newMetrics(reg *prometheus.Registry, b *broker.Broker, now func() time.Time, version string) (*metrics, error) {
	counts := b.Counts()
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_http_requests_total", Help: "Requests answered, by route, method and class of status.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "latchkey_http_request_duration_seconds", Help: "Time to answer requests, by route and method; long polls include their wait.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"route", "method"}),
		handler: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "latchkey_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	info.Set(1)
	all := []prometheus.Collector{
		m.requests, m.duration, info, newInstallation(b, now),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		counter("denials_total", "Operations refused.", "", "", &counts.Denials),
		counter("releases_total", "Releases of credentials, by outcome.", "outcome", "granted", &counts.ReleasesGranted),
		counter("releases_total", "Releases of credentials, by outcome.", "outcome", "delivered", &counts.ReleasesDelivered),
		counter("releases_total", "Releases of credentials, by outcome.", "outcome", "failed", &counts.ReleasesFailed),
		counter("releases_total", "Releases of credentials, by outcome.", "outcome", "denied", &counts.ReleasesDenied),
		counter("runs_started_total", "Runs queued.", "", "", &counts.RunsStarted),
		counter("runs_finished_total", "Runs that ended, however they did.", "", "", &counts.RunsFinished),
		counter("runs_lost_total", "Runs that were given up, by reason: their agent vanished, or none claimed them in time.", "reason", "agent-lost", &counts.RunsAgentLost),
		counter("runs_lost_total", "Runs that were given up, by reason: their agent vanished, or none claimed them in time.", "reason", "queue-timeout", &counts.RunsQueueTimeout),
		counter("checks_total", "Checks of secret references, by result.", "result", "passed", &counts.ChecksPassed),
		counter("checks_total", "Checks of secret references, by result.", "result", "failed", &counts.ChecksFailed),
		counter("checks_total", "Checks of secret references, by result.", "result", "unknown", &counts.ChecksUnknown),
		counter("sign_ins_total", "Attempts to sign in, by outcome.", "outcome", "ok", &counts.SignIns),
		counter("sign_ins_total", "Attempts to sign in, by outcome.", "outcome", "denied", &counts.SignInsDenied),
		counter("target_sign_ins_total", "Sign-ins of agents at the targets of connections, by outcome.", "outcome", "ok", &counts.TargetSignIns),
		counter("target_sign_ins_total", "Sign-ins of agents at the targets of connections, by outcome.", "outcome", "refused", &counts.TargetSignInsRefused),
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// counter shows one of the broker's counters.
func counter(name, help, label, value string, n *atomic.Int64) prometheus.Collector {
	o := prometheus.CounterOpts{Name: "latchkey_" + name, Help: help}
	if label != "" {
		o.ConstLabels = prometheus.Labels{label: value}
	}
	return prometheus.NewCounterFunc(o, func() float64 { return float64(n.Load()) })
}

func (m *metrics) observe(route, method string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }
