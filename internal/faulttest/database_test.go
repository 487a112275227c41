package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/netfault"
	"latchkey.dev/latchkey"
)

// administer runs SQL in a PostgreSQL database.
func administer(t *testing.T, address string, statements ...string) {
	t.Helper()
	d, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, s := range statements {
		if _, err := d.ExecContext(context.WithoutCancel(t.Context()), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// atCommit has every transaction that records an action do something when it
// commits, until the returned function is called.
func atCommit(t *testing.T, address string, action latchkey.Action, do string) (mend func()) {
	t.Helper()
	administer(t, address,
		`CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+do+`; RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER fault AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.action = '`+string(action)+`') EXECUTE FUNCTION fault()`)
	return func() { administer(t, address, `DROP TRIGGER fault ON audit`, `DROP FUNCTION fault`) }
}

// TestCommitFails has PostgreSQL fail commits. What was not committed is not
// given, and whoever asked is told whether asking again is safe.
func TestCommitFails(t *testing.T) {
	faults := []struct{ name, do, code, detail string }{
		{"full", `RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'`, "storage-full", "storage of the PostgreSQL database is full"},
		{"connection lost", `PERFORM pg_terminate_backend(pg_backend_pid())`, "outcome-unknown", "it may have been made; look before you try again"},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			address := latchkeytest.Postgres(t)
			w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
			mend := atCommit(t, address, latchkey.ActRunStart, f.do)
			_, a := w.startOverHTTP(t)
			wantProblem(t, "starting a run", a, http.StatusServiceUnavailable, f.code, f.detail)
			mend()
			if a := w.ask(t, "GET", env+"/runs", ""); string(a.body) != `{"items":[]}`+"\n" {
				t.Errorf("runs after a start that failed: %s; want none", a.body)
			}
			r := w.Start(t)
			run := w.Machine.Claim(t)
			for i, action := range []latchkey.Action{latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered} {
				mend := atCommit(t, address, action, f.do)
				_, sealed, err := w.Machine.Get(t, run, w.Credential.ID)
				wantCode(t, "release without "+string(action), err, f.code)
				if sealed.Box != nil {
					t.Errorf("a release without %s was given", action)
				}
				mend()
				if got := len(w.events(t, latchkey.ActReleaseGranted, r.ID)); got != i {
					t.Errorf("%d releases granted; want %d", got, i)
				}
				if got := len(w.events(t, latchkey.ActReleaseDelivered, r.ID)); got != 0 {
					t.Errorf("%d releases delivered; want none", got)
				}
			}
			if _, _, err := w.Machine.Get(t, run, w.Credential.ID); err != nil {
				t.Errorf("release afterwards: %v", err)
			}
			// One that resembles the last is granted and delivered in one transaction.
			for _, action := range []latchkey.Action{latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered} {
				before := len(w.events(t, latchkey.ActReleaseGranted, r.ID))
				mend := atCommit(t, address, action, f.do)
				_, sealed, err := w.Machine.Get(t, run, w.Credential.ID)
				mend()
				wantCode(t, "second release without "+string(action), err, f.code)
				if got := len(w.events(t, latchkey.ActReleaseGranted, r.ID)); sealed.Box != nil || got != before {
					t.Errorf("a second release without %s: a box of %d bytes, %d releases on record; want none and %d", action, len(sealed.Box), got, before)
				}
				if _, _, err := w.Machine.Get(t, run, w.Credential.ID); err != nil {
					t.Errorf("release afterwards: %v", err)
				}
			}
			w.Machine.Finish(t, run)
			latchkeytest.Eventually(t, latchkeytest.Patience, "the server to be ready", func() bool { return w.ask(t, "GET", "/readyz", "").status == http.StatusOK })
		})
	}
}

// throughProxy returns the address of a PostgreSQL database behind a proxy.
func throughProxy(t *testing.T, address string) (*netfault.Proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	p := netfault.New(t, "unix", filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port")))
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = p.Addr(), q.Encode()
	return p, u.String()
}

// TestCommitUnanswered loses the answers to commits that were made. Nothing is
// done twice, and nobody is told that it was not done.
func TestCommitUnanswered(t *testing.T) {
	p, address := throughProxy(t, latchkeytest.Postgres(t))
	w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
	commitOf := func(action latchkey.Action) <-chan struct{} {
		return p.CutAnswer(fmt.Sprintf(`(?s)%s.*commit\x00`, action), 0)
	}
	cut := commitOf(latchkey.ActRunStart)
	_, a := w.startOverHTTP(t)
	<-cut
	wantProblem(t, "starting a run", a, http.StatusServiceUnavailable, "outcome-unknown", "may have been made")
	page, err := w.Broker.Runs(t.Context(), w.Admin, w.Env, broker.RunFilter{}, latchkey.PageOptions{})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("runs = %+v, %v; want the one whose start was committed", page.Items, err)
	}
	id := page.Items[0].ID

	cut = commitOf(latchkey.ActRunClaim)
	_, err = w.Broker.Claim(t.Context(), w.Machine.Session(), latchkey.ClaimRequest{})
	<-cut
	wantCode(t, "claim", err, "outcome-unknown")
	run := w.Machine.Claim(t)
	if run == nil || run.Run != id || len(w.events(t, latchkey.ActRunClaim, id)) != 1 {
		t.Fatalf("claim again = %+v with %d claims on record; want the same run, claimed once", run, len(w.events(t, latchkey.ActRunClaim, id)))
	}

	for _, action := range []latchkey.Action{latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered} {
		cut = commitOf(action)
		_, sealed, err := w.Machine.Get(t, run, w.Credential.ID)
		<-cut
		wantCode(t, "release", err, "outcome-unknown")
		if sealed.Box != nil {
			t.Errorf("a release was given though the answer to the commit of %s was lost", action)
		}
	}
	if _, _, err := w.Machine.Get(t, run, w.Credential.ID); err != nil {
		t.Errorf("release afterwards: %v", err)
	}
	cut = commitOf(latchkey.ActReleaseDelivered) // now in one transaction with its grant
	_, sealed, err := w.Machine.Get(t, run, w.Credential.ID)
	<-cut
	wantCode(t, "release that resembles the last", err, "outcome-unknown")
	if got := len(w.events(t, latchkey.ActReleaseGranted, id)); got != 4 || sealed.Box != nil {
		t.Errorf("%d releases on record, a box of %d bytes; want 4, all that may have been given, and none", got, len(sealed.Box))
	}

	cut = commitOf(latchkey.ActRunFinish)
	finish := latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded}
	_, err = w.Broker.Finish(t.Context(), w.Machine.Session(), id, finish)
	<-cut
	wantCode(t, "finish", err, "outcome-unknown")
	w.Machine.Finish(t, run)
	if got := len(w.events(t, latchkey.ActRunFinish, id)); got != 1 {
		t.Errorf("the run's end is on record %d times; want once", got)
	}
}

// TestDatabaseAway takes PostgreSQL away from a server and gives it back.
func TestDatabaseAway(t *testing.T) {
	p, address := throughProxy(t, latchkeytest.Postgres(t))
	w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
	p.Set(netfault.Fault{Refuse: true})
	p.Reset()
	latchkeytest.Eventually(t, latchkeytest.Patience, "the loss to be noticed", func() bool { return w.ask(t, "GET", "/readyz", "").status == http.StatusServiceUnavailable })
	_, a := w.startOverHTTP(t)
	wantProblem(t, "starting a run", a, http.StatusServiceUnavailable, "database-unavailable", "nothing was changed; try again")
	wantProblem(t, "reading", w.ask(t, "GET", env+"/runs", ""), http.StatusServiceUnavailable, "database-unavailable", "cannot be used now")
	_, err := w.Broker.Claim(t.Context(), w.Machine.Session(), latchkey.ClaimRequest{})
	wantCode(t, "claim", err, "database-unavailable")
	if a := w.ask(t, "GET", "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz = %d; want 200", a.status)
	}
	p.Set(netfault.Fault{})
	latchkeytest.Eventually(t, latchkeytest.Patience, "the server to be ready", func() bool { return w.ask(t, "GET", "/readyz", "").status == http.StatusOK })
	if _, a := w.startOverHTTP(t); a.status != http.StatusCreated {
		t.Errorf("starting a run afterwards: %d %s", a.status, a.body)
	}
}
