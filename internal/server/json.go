package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Beginnings of the texts of the errors that unmarshal returns. What follows is
// made of the request's shape, not of its values.
const (
	malformed  = "malformed JSON"
	outOfRange = "out of range: "
)

// jsonFormat is how bodies are read and written.
var jsonFormat = huma.Format{Marshal: marshal, Unmarshal: unmarshal}

// marshal writes v, or nothing if it cannot be marshalled. That the client is
// gone is no error.
func marshal(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(b.Bytes())
	return nil
}

// unmarshal is json.Unmarshal with errors that do not repeat what was
// submitted. It refuses an object that gives a field twice: what is validated
// and what is used could differ.
func unmarshal(data []byte, v any) error {
	if _, first := v.(*any); first {
		if !json.Valid(data) {
			return errors.New(malformed + position(data))
		}
		if err := checkNames(json.NewDecoder(bytes.NewReader(data))); err != nil {
			return err
		}
	}
	err := json.Unmarshal(data, v)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errors.New(outOfRange + e.Field)
	}
	if err != nil {
		return errors.New(outOfRange)
	}
	return nil
}

// position says where data stops being JSON.
func position(data []byte) string {
	var raw json.RawMessage
	if e, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(data, &raw)); ok {
		return fmt.Sprintf(" at byte %d", e.Offset)
	}
	return ""
}

// fieldInputs is the field whose value is no struct but a map: in it names differ
// by case as well, and what is allowed is for the vocabulary to say.
const fieldInputs = "inputs"

// checkNames reads one value and refuses objects with two fields whose names
// are the same to encoding/json, for which case does not count.
func checkNames(d *json.Decoder) error {
	type object struct {
		seen  map[string]bool // nil for an array
		name  bool            // a name comes next
		last  string          // the name before, folded
		exact bool            // case counts
	}
	var open []object
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errors.New(malformed)
		}
		var top *object
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		if name, ok := t.(string); ok && top != nil && top.name {
			key := strings.ToLower(strings.ToUpper(name))
			top.last = key
			if top.exact {
				key = name
			}
			if top.seen[key] {
				return errors.New(malformed + ": an object has the same field twice")
			}
			top.seen[key], top.name = true, false
			continue
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if top != nil {
				top.name = top.seen != nil
			}
			o := object{}
			if t == json.Delim('{') {
				o = object{seen: map[string]bool{}, name: true, exact: top != nil && top.last == fieldInputs}
			}
			open = append(open, o)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if top != nil {
				top.name = top.seen != nil
			}
		}
	}
}
