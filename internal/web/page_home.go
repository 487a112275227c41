package web

import (
	"time"

	"latchkey.dev/latchkey"
)

type homePage struct {
	shell
	Empty     bool // nothing is here yet: how to begin
	MayCreate bool
	Attention latchkey.Attention
	Activity  latchkey.Activity
	Runs      plot
	Releases  plot
	Shortcuts []navItem
}

// activityDays is how many days the plots of the home page show.
const activityDays = 30

// homePage is where somebody begins in an environment: what needs attention, what
// happened, and shortcuts.
func (p *Pages) homePage(v *view) error {
	if v.prefs.Environment != v.env.Name {
		v.prefs.Environment = v.env.Name
		p.writePreferences(v.w, v.prefs)
	}
	page := homePage{shell: v.shell(v.env.DisplayName, "home"), MayCreate: v.may(latchkey.ActCredentialCreate)}
	ctx, env := v.r.Context(), string(v.env.ID)
	// A tenant admin without a role sees the environment, and nothing in it.
	if v.env.MyRole != "" {
		var err error
		if page.Attention, err = p.b.Attention(ctx, v.who, env); err != nil {
			return err
		}
		if page.Activity, err = p.b.Activity(ctx, v.who, env, activityDays); err != nil {
			return err
		}
		credentials, err := p.b.Credentials(ctx, v.who, env, latchkey.PageOptions{Limit: 1})
		if err != nil {
			return err
		}
		page.Empty = len(credentials.Items) == 0
	}
	page.Runs = plotOf(page.Activity.Days, func(d latchkey.ActivityDay) (good, bad int) { return d.Succeeded, d.Failed })
	page.Releases = plotOf(page.Activity.Days, func(d latchkey.ActivityDay) (good, bad int) { return d.Granted, d.Denied })
	for _, item := range v.navigation() {
		if item.Key == "credentials" || item.Key == "connections" || item.Key == "runs" || item.Key == "machines" || item.Key == "map" {
			page.Shortcuts = append(page.Shortcuts, item)
		}
	}
	return v.show("home", page)
}

// A plot is two kinds of counts by day, stacked. Its picture is in units of the
// viewBox.
type plot struct {
	Width, Height int
	Most          int // of one day
	Good, Bad     int // in all
	Bars          []bar
}

// A bar is one day.
type bar struct {
	Day          time.Time
	X, Width     int
	GoodY, GoodH int
	BadY, BadH   int
	Good, Bad    int
	Labelled     bool // its day is said below
}

// Sizes of plots.
const (
	barWidth   = 14
	barGap     = 4
	plotHeight = 90
)

func plotOf(days []latchkey.ActivityDay, count func(latchkey.ActivityDay) (good, bad int)) plot {
	p := plot{Width: max(len(days), 1) * (barWidth + barGap), Height: plotHeight}
	for _, d := range days {
		good, bad := count(d)
		p.Good, p.Bad, p.Most = p.Good+good, p.Bad+bad, max(p.Most, good+bad)
	}
	for i, d := range days {
		good, bad := count(d)
		b := bar{Day: d.Day, X: i * (barWidth + barGap), Width: barWidth, Good: good, Bad: bad, Labelled: i == 0 || i == len(days)-1}
		if p.Most > 0 {
			b.GoodH, b.BadH = height(good, p.Most), height(bad, p.Most)
		}
		b.GoodY = plotHeight - b.GoodH
		b.BadY = b.GoodY - b.BadH
		p.Bars = append(p.Bars, b)
	}
	return p
}

// height is how high n of most is drawn: whatever there is can be seen, and two
// parts of a whole do not come out higher than it.
func height(n, most int) int {
	if n == 0 {
		return 0
	}
	return max(n*(plotHeight-4)/most, 2)
}
