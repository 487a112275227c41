package server

import (
	"encoding/json"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func TestUnmarshalRefusesAFieldTwice(t *testing.T) {
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{`{"a":1,"b":2}`, true},
		{`{"a":1,"a":2}`, false},
		{`{"a":1,"A":2}`, false},
		{`{"uses":1,"uſes":2}`, false}, // the long s folds to s
		{`{"a":{"a":1},"b":[{"a":1},{"a":2}]}`, true},
		{`{"x":{"a":1,"b":[{"c":1,"c":2}]}}`, false},
		{`[["a","a"],"a"]`, true},
		{`{"a":"b","b":"a"}`, true},
		{`{"a":[],"b":{},"a":1}`, false},
	} {
		var v any
		if err := unmarshal([]byte(tt.text), &v); (err == nil) != tt.ok {
			t.Errorf("unmarshal(%s) = %v; want success: %v", tt.text, err, tt.ok)
		}
	}
}

// FuzzUnmarshal looks for texts whose errors repeat them, and for texts that
// are read although two of their fields are one.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{`{"displayName":"x","type":"text"}`, `{"a":1,"A":2}`, `{"secret":{"vault":7}}`, `[{}]`, `"x"`, `1e999`, `{"uses":1e30}`, `{"a"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxBody {
			return
		}
		var v any
		err := unmarshal(data, &v)
		if err == nil {
			var c latchkey.VariableCreate
			err = unmarshal(data, &c)
			var again any
			if b, e := json.Marshal(v); e != nil || json.Unmarshal(b, &again) != nil {
				t.Errorf("read a value that cannot be written: %v", e)
			}
		}
		if err == nil {
			return
		}
		text := err.Error()
		if !strings.HasPrefix(text, malformed) && !strings.HasPrefix(text, outOfRange) {
			t.Errorf("unmarshal says %q", text)
		}
		if p, code := fault("body", text); code != "" || p.Message == "is not valid" {
			t.Errorf("%q becomes %+v", text, p)
		}
	})
}

// FuzzAgentBody reads bodies of agents.
func FuzzAgentBody(f *testing.F) {
	f.Add([]byte(`{"wait":"30s","holding":["run_1"]}`))
	f.Add([]byte(`{"wait":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeAgent[latchkey.ClaimRequest](data); err != nil && len(data) > 12 && strings.Contains(err.Error(), string(data)) {
			t.Errorf("the error repeats the body: %v", err)
		}
		_, _ = decodeAgent[latchkey.SessionRequest](data)
	})
}
