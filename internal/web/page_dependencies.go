package web

import (
	"slices"

	"latchkey.dev/latchkey"
)

type dependenciesPage struct {
	shell
	Subject subject
	Uses    latchkey.Dependencies
	UsedBy  latchkey.Dependencies
	Impact  latchkey.Impact
}

// dependenciesPage shows what uses a thing, and what it uses.
func (p *Pages) dependenciesPage(v *view, s subject) (err error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	page := dependenciesPage{shell: v.shell(v.t("dependencies.title", s.Name), s.Plural), Subject: s}
	if page.UsedBy, err = p.b.Dependents(ctx, v.who, env, s.Kind, s.Ref); err != nil {
		return err
	}
	if page.Uses, err = p.b.Dependencies(ctx, v.who, env, s.Kind, s.Ref); err != nil {
		return err
	}
	if page.Impact, err = p.b.Impact(ctx, v.who, env, s.Kind, s.Ref, latchkey.ImpactDelete, ""); err != nil {
		return err
	}
	return v.show("dependencies", page)
}

// A graphRow is a component beside another one, as a list shows it.
type graphRow struct {
	latchkey.Component
	As       []string // what for
	Observed bool     // runs show it, no setting
}

// Rows returns the components that are found, with what each is for.
func (d dependenciesPage) Rows(g latchkey.Dependencies) []graphRow { return graphRows(g) }

func graphRows(g latchkey.Dependencies) (rows []graphRow) {
	for _, c := range g.Components {
		row := graphRow{Component: c}
		for _, e := range g.Dependencies {
			if e.From != c.ID && e.To != c.ID {
				continue
			}
			if e.Observed {
				row.Observed = true
			}
			if e.As != "" && !slices.Contains(row.As, e.As) {
				row.As = append(row.As, e.As)
			}
			if e.LastUsedAt != nil && (row.LastUsedAt == nil || e.LastUsedAt.After(*row.LastUsedAt)) {
				row.LastUsedAt = e.LastUsedAt
			}
		}
		rows = append(rows, row)
	}
	return rows
}
