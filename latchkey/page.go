package latchkey

import (
	"slices"
	"strings"
)

// A Page is a part of a list. Next, when not empty, asks for what follows.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"pass it as after to get the next page; absent on the last"`
}

// PageOptions choose a part of a list.
type PageOptions struct {
	After string // Next of the page before, in the same order; empty is the first page
	Limit int    // 1 to MaxPage; 0 is DefaultPage

	// Search restricts a list that can be searched to what has this text in its
	// name or description, in any case; at most MaxSearch characters.
	Search string
	// Sort is the order of a list that has several, one of those below; empty is
	// SortName.
	Sort string
}

// Orders of lists. What comes in the same place is ordered by id.
const (
	SortName       = "name"      // by the lower-case name
	SortNameDown   = "-name"     // the same, from the end
	SortOldest     = "modified"  // what was changed longest ago first
	SortNewest     = "-modified" // what was changed last first
	sortUnmodified = 2           // how many of SortOrders do not need a time of change
)

// SortOrders are the orders of lists of things that have a time of change.
var SortOrders = []string{SortName, SortNameDown, SortOldest, SortNewest}

// NameOrders are the orders of lists of things that have none.
var NameOrders = SortOrders[:sortUnmodified:sortUnmodified]

// Size returns the number of items that the page may have.
func (o PageOptions) Size() int {
	if o.Limit <= 0 {
		return DefaultPage
	}
	return min(o.Limit, MaxPage)
}

// Validate returns every fault of Search and Sort, for a list with these orders;
// without any it has one only.
func (o PageOptions) Validate(orders ...string) error {
	var f faults
	f.check("search", checkText(o.Search, MaxSearch))
	if strings.ContainsAny(o.Search, "\n\r\t") {
		f.add("search", "must be one line")
	}
	switch {
	case o.Sort == "" || slices.Contains(orders, o.Sort):
	case len(orders) == 0:
		f.add("sort", "this list has one order only; leave it out")
	default:
		f.add("sort", "must be one of %s", strings.Join(orders, ", "))
	}
	return f.err()
}
