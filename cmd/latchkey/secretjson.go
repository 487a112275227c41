package main

import (
	"encoding/json"
	"iter"
	"time"
)

// A shownSecret is a version of a secret as it is printed for programs: as Key
// Vault writes it, but with times as everywhere else.
type shownSecret struct{ secretBundle }

// MarshalJSON writes times as RFC 3339 in UTC, in place of seconds.
func (s shownSecret) MarshalJSON() ([]byte, error) {
	type attributes struct {
		Enabled   *bool      `json:"enabled,omitempty"`
		NotBefore *time.Time `json:"nbf,omitempty"`
		Expires   *time.Time `json:"exp,omitempty"`
		Created   *time.Time `json:"created,omitempty"`
		Updated   *time.Time `json:"updated,omitempty"`
	}
	at := s.attributes()
	var shown *attributes
	if s.Attributes != nil {
		shown = &attributes{at.Enabled, utcTime(at.NotBefore), utcTime(at.Expires), utcTime(at.Created), utcTime(at.Updated)}
	}
	return json.Marshal(struct {
		secretBundle
		Attributes   *attributes `json:"attributes,omitempty"`
		DeletedDate  *time.Time  `json:"deletedDate,omitempty"`
		ScheduledFor *time.Time  `json:"scheduledPurgeDate,omitempty"`
	}{s.secretBundle, shown, utcTime(s.DeletedDate), utcTime(s.ScheduledFor)})
}

// utcTime returns a time of a vault, nil if it is not set.
func utcTime(seconds int64) *time.Time {
	if seconds == 0 {
		return nil
	}
	t := time.Unix(seconds, 0).UTC()
	return &t
}

// shownSecrets returns the versions of a list as they are printed.
func shownSecrets(items iter.Seq2[secretBundle, error]) iter.Seq2[shownSecret, error] {
	return func(yield func(shownSecret, error) bool) {
		for b, err := range items {
			if !yield(shownSecret{b}, err) {
				return
			}
		}
	}
}
