package broker

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// changesPoll is how often it is looked whether an environment has changed.
const changesPoll = time.Second

// Changes waits until something of an environment has changed since a cursor, at most
// for wait: a run, a release, a check, a share or anything else that is in the audit
// log, on whichever server, or how many machines are online. With since "" it returns a
// cursor at once. Whoever sees the environment may ask; what has changed is not said,
// and a cursor says nothing to anybody.
func (b *Broker) Changes(ctx context.Context, who latchkey.Caller, env, since string, wait time.Duration) (c latchkey.Changes, err error) {
	var e latchkey.Environment
	look := func(o *op) error {
		news, err := o.News(e.ID)
		if err != nil {
			return err
		}
		key := hmac.New(sha256.New, b.serverKey.Seed())
		fmt.Fprintf(key, "changes\n%s\n%s", e.ID, strings.Join(news, "\n"))
		c.Cursor = base64.RawURLEncoding.EncodeToString(key.Sum(nil)[:16])
		c.Changed = since != "" && c.Cursor != since
		return nil
	}
	deadline := b.now().Add(min(wait, latchkey.MaxChangesWait))
	err = b.view(ctx, who, func(o *op) (err error) {
		if e, err = o.environment(env); err != nil {
			return err
		}
		return look(o)
	})
	for err == nil && since != "" && !c.Changed {
		left := deadline.Sub(b.now())
		if left <= 0 {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return c, nil // the server stops, or nobody listens
		case <-time.After(min(left, changesPoll)):
		}
		err = b.view(ctx, who, look)
	}
	return c, err
}

// Attention returns what of an environment wants the caller's attention, of what the
// caller may see: references whose check failed, secrets and certificates that expire
// within latchkey.ExpiresSoon, machines that run nothing, releases that were denied and
// flows whose last runs failed within latchkey.AttentionFor, and notices.
func (b *Broker) Attention(ctx context.Context, who latchkey.Caller, env string) (a latchkey.Attention, err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		a, err = o.attention(e)
		return err
	})
	return a, err
}

// attentionRows bounds what is read of each kind of trouble.
const attentionRows = 500

func (o *op) attention(e latchkey.Environment) (a latchkey.Attention, err error) {
	soon, since := o.Now.Add(latchkey.ExpiresSoon), o.Now.Add(-latchkey.AttentionFor)
	sources := []struct {
		read latchkey.Action
		find func(db.Visible) ([]db.Trouble, error)
		item func(db.Trouble) latchkey.AttentionItem
	}{
		{latchkey.ActVariableRead, func(v db.Visible) ([]db.Trouble, error) { return o.FailedReferences(e.ID, v, latchkey.MaxAttention) }, referenceItem},
		{latchkey.ActVariableRead, func(v db.Visible) ([]db.Trouble, error) {
			return o.EndingSecrets(e.ID, v, soon, latchkey.MaxAttention)
		}, o.secretItem},
		{latchkey.ActCredentialRead, func(v db.Visible) ([]db.Trouble, error) {
			return o.EndingCertificates(e.ID, v, soon, latchkey.MaxAttention)
		}, o.certificateItem},
		{latchkey.ActMachineRead, func(v db.Visible) ([]db.Trouble, error) { return o.TroubledMachines(e.ID, v, latchkey.MaxAttention) }, machineItem},
		{latchkey.ActCredentialRead, func(v db.Visible) ([]db.Trouble, error) { return o.DeniedReleases(e.ID, v, since, attentionRows) }, deniedItem},
		{latchkey.ActRunRead, func(v db.Visible) ([]db.Trouble, error) { return o.FailedFlows(e.ID, v, since, attentionRows) }, failedItem},
	}
	total := 0
	for _, s := range sources {
		visible, err := o.visible(e.ID, s.read)
		if err != nil {
			return a, err
		}
		if visible.Who == "" { // no role here
			continue
		}
		troubles, err := s.find(visible)
		if err != nil {
			return a, err
		}
		if len(troubles) > 0 {
			total += troubles[0].Total
		}
		for _, t := range troubles {
			item := s.item(t)
			item.Subject = latchkey.Component{Kind: t.Kind, ID: t.ID, Name: t.Name, Environment: e.ID}
			item.Since = t.At
			a.Items = append(a.Items, item)
		}
	}
	notices, err := o.Notices(o.who.ID, latchkey.PageOptions{Limit: latchkey.MaxAttention})
	if err != nil {
		return a, err
	}
	for _, n := range notices.Items {
		if n.Environment == e.ID {
			total++
			a.Items = append(a.Items, latchkey.AttentionItem{
				Severity: latchkey.SeverityInfo, Kind: latchkey.AttentionNotice, What: n.Message, Since: &n.At,
				Subject: latchkey.Component{Kind: n.Kind, ID: n.Subject, Name: n.Name, Environment: e.ID},
			})
		}
	}
	order := []latchkey.Severity{latchkey.SeverityError, latchkey.SeverityWarning, latchkey.SeverityInfo}
	slices.SortStableFunc(a.Items, func(x, y latchkey.AttentionItem) int {
		return cmp.Compare(slices.Index(order, x.Severity), slices.Index(order, y.Severity))
	})
	a.Items = append([]latchkey.AttentionItem{}, a.Items[:min(len(a.Items), latchkey.MaxAttention)]...)
	a.More = total - len(a.Items)
	return a, nil
}

func referenceItem(t db.Trouble) latchkey.AttentionItem {
	i := latchkey.AttentionItem{Severity: latchkey.SeverityError, Kind: latchkey.AttentionCheck, What: "The check of its reference failed: " + t.Text, Remedy: t.Remedy}
	if latchkey.CheckState(t.State) == latchkey.CheckUnknown {
		i.Severity, i.Kind, i.What = latchkey.SeverityWarning, latchkey.AttentionUnchecked, "Its reference could not be checked: "+t.Text
	}
	return i
}

// ending returns an item about what expires.
func (o *op) ending(what string, at *time.Time, remedy string) latchkey.AttentionItem {
	if at != nil && !at.After(o.Now) {
		return latchkey.AttentionItem{Severity: latchkey.SeverityError, Kind: latchkey.AttentionExpired, What: what + " has expired.", Remedy: remedy}
	}
	return latchkey.AttentionItem{Severity: latchkey.SeverityWarning, Kind: latchkey.AttentionExpiring, What: what + " expires within 30 days.", Remedy: remedy}
}

func (o *op) secretItem(t db.Trouble) latchkey.AttentionItem {
	return o.ending(fmt.Sprintf("The secret %q that it refers to", t.Text), t.At, "set a new version of the secret in the vault")
}

func (o *op) certificateItem(t db.Trouble) latchkey.AttentionItem {
	if latchkey.CheckState(t.State) == latchkey.CheckFailed && (t.At == nil || t.At.After(o.Now)) {
		return latchkey.AttentionItem{Severity: latchkey.SeverityError, Kind: latchkey.AttentionCertificate, What: "Its certificate failed its check.", Remedy: "see the credential's certificate for what to do"}
	}
	return o.ending("Its certificate", t.At, "renew the certificate in the vault")
}

func machineItem(t db.Trouble) latchkey.AttentionItem {
	i := latchkey.AttentionItem{Kind: latchkey.AttentionMachine, Severity: latchkey.SeverityWarning, What: "It is offline: its agent is not heard of.", Remedy: "start the agent on the machine, and see that it reaches the server"}
	switch latchkey.MachineStatus(t.State) {
	case latchkey.MachineQuarantined:
		i.Severity, i.What, i.Remedy = latchkey.SeverityError, "It is quarantined: "+t.Text, "find out where its keys are, then enrol it anew"
	case latchkey.MachineDisabled:
		i.Severity, i.What, i.Remedy = latchkey.SeverityInfo, "It is disabled.", "an environment admin can enable it"
	}
	return i
}

func deniedItem(t db.Trouble) latchkey.AttentionItem {
	return latchkey.AttentionItem{
		Severity: latchkey.SeverityError, Kind: latchkey.AttentionDenied, Count: t.Number,
		What: fmt.Sprintf("%s denied within 7 days, the last one with the code %s.", were(t.Number, "release"), t.State), Remedy: "see its releases, and what they were denied for",
	}
}

func failedItem(t db.Trouble) latchkey.AttentionItem {
	return latchkey.AttentionItem{
		Severity: latchkey.SeverityError, Kind: latchkey.AttentionRuns, Count: t.Number,
		What: fmt.Sprintf("%s failed within 7 days, the last one with %s: %s", count(t.Number, "run"), t.State, t.Text), Remedy: "see its runs",
	}
}

// were says that a number of things were something.
func were(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " was"
	}
	return count(n, noun) + " were"
}

// activityRows bounds the runs, and the entries of the audit log, that an activity
// counts.
const activityRows = 100_000

// Activity counts the runs and releases of the last days, today included: of the whole
// environment for who sees every run in it, for others of the runs that they own or
// have started. days is 1 to latchkey.MaxActivity; 0 is latchkey.DefaultActivity. Of
// more than 100,000 runs or entries the oldest are not counted.
func (b *Broker) Activity(ctx context.Context, who latchkey.Caller, env string, days int) (a latchkey.Activity, err error) {
	if days == 0 {
		days = latchkey.DefaultActivity
	}
	if days < 1 || days > latchkey.MaxActivity {
		return a, latchkey.Invalid("days", "must be from 1 to %d", latchkey.MaxActivity)
	}
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		visible, err := o.visible(e.ID, latchkey.ActRunRead)
		if err != nil {
			return err
		}
		a = latchkey.Activity{Days: make([]latchkey.ActivityDay, days), All: visible.Everything}
		first := o.Now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-days)
		for i := range a.Days {
			a.Days[i].Day = first.AddDate(0, 0, i)
		}
		if visible.Who == "" {
			return nil
		}
		runs, err := o.RunsByDay(e.ID, visible, first, activityRows)
		if err != nil {
			return err
		}
		releases, err := o.ReleasesByDay(e.ID, visible, first, activityRows)
		if err != nil {
			return err
		}
		for _, c := range append(runs, releases...) {
			i := int(c.Day.Sub(first) / (24 * time.Hour))
			if i < 0 || i >= days { // a run of before that was released today, or a clock
				continue
			}
			switch d := &a.Days[i]; c.What {
			case string(latchkey.RunSucceeded):
				d.Succeeded += c.N
			case string(latchkey.RunFailed), string(latchkey.RunTimedOut):
				d.Failed += c.N
			case string(latchkey.ActReleaseGranted):
				d.Granted += c.N
			case string(latchkey.ActReleaseDenied):
				d.Denied += c.N
			}
		}
		return nil
	})
	return a, err
}

// Find returns the things of an environment that the caller may see and whose name has
// a text in it, those that begin with it first: at most limit, which is at most
// latchkey.MaxFound; 0 is that.
func (b *Broker) Find(ctx context.Context, who latchkey.Caller, env, text string, limit int) (found []latchkey.Found, err error) {
	if err := (latchkey.PageOptions{Search: text}).Validate(); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > latchkey.MaxFound {
		limit = latchkey.MaxFound
	}
	text = strings.TrimSpace(text)
	err = b.view(ctx, who, func(o *op) error {
		found = []latchkey.Found{}
		e, err := o.environment(env)
		if err != nil || text == "" {
			return err
		}
		for _, kind := range latchkey.OwnedKinds {
			visible, err := o.visible(e.ID, latchkey.SharingOf[kind].Read)
			if err != nil {
				return err
			}
			if visible.Who == "" {
				return nil
			}
			some, err := o.Tx.Find(kind, e.ID, visible, text, limit)
			if err != nil {
				return err
			}
			found = append(found, some...)
		}
		key := latchkey.SearchKey(text)
		rank := func(f latchkey.Found) int {
			name, unique := latchkey.SearchKey(f.Name), latchkey.SearchKey(f.Unique)
			switch {
			case name == key || unique == key:
				return 0
			case strings.HasPrefix(name, key), strings.HasPrefix(unique, key):
				return 1
			}
			return 2
		}
		slices.SortStableFunc(found, func(a, b latchkey.Found) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(latchkey.SortKey(a.Name), latchkey.SortKey(b.Name)))
		})
		found = found[:min(len(found), limit)]
		return nil
	})
	return found, err
}
