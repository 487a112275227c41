package azure

import (
	"slices"
	"strings"
)

// An entry is a set of data actions: those of a role, or those that a deny
// assignment takes away. Patterns may hold * for any run of characters.
type entry struct{ data, notData []string }

// holds reports whether an action is in the set. What an entry leaves out, it
// leaves out of itself only: another one may hold it.
func (e entry) holds(action string) bool {
	in := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, action) })
	}
	return in(e.data) && !in(e.notData)
}

// matches reports whether an action fits a pattern of Azure's roles: case does
// not matter, and * stands for any run of characters, slashes included.
func matches(pattern, action string) bool {
	pattern, action = strings.ToLower(pattern), strings.ToLower(action)
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == action
	}
	action, ok := strings.CutPrefix(action, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := len(parts) - 1
	for _, p := range parts[:last] {
		_, after, ok := strings.Cut(action, p)
		if !ok {
			return false
		}
		action = after
	}
	return strings.HasSuffix(action, parts[last])
}

// An assignment gives a principal, or a group that it is in, a role.
type assignment struct {
	scope       string
	role        string // name of the role
	entries     []entry
	conditional bool // it holds under a condition, which is not evaluated here
}

// A deny is a deny assignment: it wins over roles.
type deny struct {
	name        string
	scope       string
	onlyHere    bool // not below its scope
	entries     []entry
	principals  []principal
	exempted    []principal
	conditional bool
}

type principal struct{ id, kind string }

// everyone is the id by which Azure's deny assignments name all principals.
const everyone = "00000000-0000-0000-0000-000000000000"

// covers reports whether what is assigned at a scope holds at a resource: the
// scope is the resource, or one that it is in. Of management groups it is taken
// that the resource is in them, since Azure lists only those.
func covers(scope, resource string) bool {
	scope, resource = strings.TrimRight(strings.ToLower(scope), "/"), strings.ToLower(resource)
	return scope == "" || strings.HasPrefix(scope, "/providers/microsoft.management/") ||
		strings.HasPrefix(resource+"/", scope+"/")
}

// A verdict is what follows from assignments.
type verdict struct {
	granted bool
	unsure  string   // why it cannot be told, or ""
	denied  string   // name of the deny assignment that takes it away, or ""
	through []string // names of roles that grant it, with their scopes
	roles   []string // names of other roles that are held, which do not grant it
}

// decide says whether a principal may do a data action on a resource, by what
// is assigned to it and to its groups, and by what is denied. Of deny
// assignments it is known whom they name, but not who is in a group.
func decide(id, action, resource string, assigned []assignment, denies []deny) verdict {
	var v verdict
	conditional := ""
	for _, a := range assigned {
		switch {
		case !covers(a.scope, resource):
		case !slices.ContainsFunc(a.entries, func(e entry) bool { return e.holds(action) }):
			v.roles = append(v.roles, a.role)
		case a.conditional:
			conditional = "the role " + a.role + " holds under a condition, which is not evaluated here"
		default:
			v.granted = true
			v.through = append(v.through, a.role+" at "+a.scope)
		}
	}
	if !v.granted {
		v.unsure = conditional
	}
	for _, d := range denies {
		if !covers(d.scope, resource) || d.onlyHere && !strings.EqualFold(strings.TrimRight(d.scope, "/"), resource) ||
			!slices.ContainsFunc(d.entries, func(e entry) bool { return e.holds(action) }) {
			continue
		}
		named, unsure := names(d.principals, id)
		if named {
			// Whoever is exempted by a group is not known either.
			exempt, maybe := names(d.exempted, id)
			if exempt {
				continue
			}
			unsure = maybe
		}
		switch {
		case unsure || named && d.conditional:
			if v.granted {
				v.unsure = "whether the deny assignment " + d.name + " applies depends on groups or a condition, which are not known here"
			}
		case named:
			v.granted, v.denied, v.unsure = false, d.name, ""
			return v
		}
	}
	if v.unsure != "" {
		v.granted = false
	}
	return v
}

// names reports whether a list names a principal, and whether it names groups,
// of which the principal may be a member.
func names(list []principal, id string) (named, unsure bool) {
	for _, p := range list {
		switch {
		case p.id == everyone || strings.EqualFold(p.id, id):
			named = true
		case strings.EqualFold(p.kind, "Group"):
			unsure = true
		}
	}
	return named, unsure && !named
}
