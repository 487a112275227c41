package main

import (
	"encoding/json"
	"testing"
)

func TestSecretTimes(t *testing.T) {
	yes := true
	b, err := json.Marshal(shownSecret{secretBundle{ID: "x", Attributes: &secretAttributes{Enabled: &yes, Created: 1795421350}, DeletedDate: 1795421351}})
	if want := `{"id":"x","attributes":{"enabled":true,"created":"2026-11-23T08:09:10Z"},"deletedDate":"2026-11-23T08:09:11Z"}`; err != nil || string(b) != want {
		t.Errorf("JSON = %s, %v; want %s", b, err, want)
	}
}
