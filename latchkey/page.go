package latchkey

// A Page is a part of a list. Next, when not empty, asks for what follows.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"pass it as after to get the next page; absent on the last"`
}

// PageOptions choose a part of a list.
type PageOptions struct {
	After string // Next of the page before; empty is the first page
	Limit int    // 1 to MaxPage; 0 is DefaultPage
}

// Size returns the number of items that the page may have.
func (o PageOptions) Size() int {
	if o.Limit <= 0 {
		return DefaultPage
	}
	return min(o.Limit, MaxPage)
}
