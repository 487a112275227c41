package cli

import (
	"maps"
	"strings"
	"unicode/utf8"
)

// Nearest returns the name among names that a name is probably meant to be, or
// "": it differs in case or in a few letters, or is the only one that goes on.
func Nearest(name string, names []string) string {
	if name == "" {
		return ""
	}
	lower := strings.ToLower(name)
	best, least := "", max(2, utf8.RuneCountInString(name)/4)+1
	longer := map[string]bool{}
	for _, n := range names {
		l := strings.ToLower(n)
		if d := EditDistance(lower, l); d < least {
			best, least = n, d
		}
		if len(name) >= 3 && strings.HasPrefix(l, lower) {
			longer[n] = true
		}
	}
	if best == "" && len(longer) == 1 {
		for n := range maps.Keys(longer) {
			best = n
		}
	}
	if least >= utf8.RuneCountInString(name) && !strings.EqualFold(best, name) && !longer[best] {
		return "" // nothing of it would be left
	}
	return best
}

// EditDistance returns how many bytes to insert, remove or replace to make b of
// a.
func EditDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
