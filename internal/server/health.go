package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"latchkey.dev/latchkey"
)

// readyTimeout bounds how long readyz waits for the database.
const readyTimeout = 5 * time.Second

// healthz says that the process answers. Restarting it helps if it does not.
func (s *server) healthz(w http.ResponseWriter, r *http.Request) {
	writeStatus(w, http.StatusOK, "ok")
}

// readyz says whether the service can do its work now. The cause is logged;
// the answer, which anyone may read, only says that there is one.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.b.Ready(ctx); err != nil {
		s.Log.WarnContext(ctx, "not ready", "error", err, "request", visitOf(ctx).id)
		text := "the database cannot be reached"
		if e, ok := errors.AsType[*latchkey.Error](err); ok {
			text = e.Msg
		}
		writeStatus(w, http.StatusServiceUnavailable, text)
		return
	}
	writeStatus(w, http.StatusOK, "ok")
}

func writeStatus(w http.ResponseWriter, status int, text string) {
	b, err := json.Marshal(map[string]string{"status": text})
	if err != nil {
		panic(err) // texts always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
