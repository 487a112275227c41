package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// A form is what somebody has filled in, and what is wrong with it. The zero form
// is an empty one.
type form struct {
	Values url.Values
	Errors map[string]string // by field, as the broker names it
	Fault  *Fault            // of the form as a whole
}

// filled returns the form that was sent. Secrets do not go back: hidden names
// the fields that are left out.
func (v *view) filled(hidden ...string) form {
	values := url.Values{}
	for name, all := range v.r.Form {
		if !slices.Contains(hidden, name) {
			values[name] = all
		}
	}
	return form{Values: values}
}

// Value returns what is in a field.
func (f form) Value(name string) string { return f.Values.Get(name) }

// Has reports whether a field has a value among several.
func (f form) Has(name, value string) bool { return slices.Contains(f.Values[name], value) }

// set fills a field in unless somebody already did.
func (f *form) set(name string, values ...string) {
	if f.Values == nil {
		f.Values = url.Values{}
	}
	if !f.Values.Has(name) {
		f.Values[name] = values
	}
}

// wrong adds what is wrong with a field.
func (f *form) wrong(field, message string) {
	if f.Errors == nil {
		f.Errors = map[string]string{}
	}
	f.Errors[field] = message
}

// refused says in the form what the broker refused, and returns the status to
// answer with. What is no fault of the form is returned as an error.
//
// names say which field of the form is meant by a field of the request, in pairs,
// where they are not the same.
func (v *view) refused(f *form, err error, names ...string) (status int, _ error) {
	fault := v.p.Fault(v.r.Context(), err)
	if fault.Status >= http.StatusInternalServerError || fault.Code == "not-found" {
		return 0, err
	}
	var rest []latchkey.FieldError
	for _, e := range fault.Fields {
		field := e.Field
		for i := 0; i+1 < len(names); i += 2 {
			if names[i] == field {
				field = names[i+1]
			}
		}
		if f.Errors[field] == "" {
			f.wrong(field, e.Message)
		}
		rest = append(rest, e)
	}
	if len(rest) == 0 {
		f.Fault = &fault
	}
	for name, values := range fault.Header {
		v.w.Header()[name] = values
	}
	return fault.Status, nil
}

// A field is one control of a form, as templates show it.
type field struct {
	form
	Name, Label, Help, Type, Placeholder, Autocomplete string
	Max                                                string
	Required, Mono, ReadOnly, Focus                    bool
	Options                                            []option
}

// An option is one choice of a field.
type option struct{ Value, Label string }

func options(pairs ...string) (all []option) {
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, option{pairs[i], pairs[i+1]})
	}
	return all
}

// newField makes a control. more are []option, and words: required, mono,
// readonly, focus, type=…, max=…, help=…, placeholder=…, autocomplete=….
func newField(f form, name, label string, more ...any) field {
	c := field{form: f, Name: name, Label: label, Type: "text"}
	for _, m := range more {
		switch m := m.(type) {
		case []option:
			c.Options = m
		case string:
			word, value, _ := strings.Cut(m, "=")
			switch word {
			case "required":
				c.Required = true
			case "mono":
				c.Mono = true
			case "readonly":
				c.ReadOnly = true
			case "focus":
				c.Focus = true
			case "type":
				c.Type = value
			case "max":
				c.Max = value
			case "help":
				c.Help = value
			case "placeholder":
				c.Placeholder = value
			case "autocomplete":
				c.Autocomplete = value
			}
		}
	}
	return c
}

// ID returns the control's id in the page.
func (c field) ID() string {
	return "f-" + strings.NewReplacer(".", "-", "[", "-", "]", "").Replace(c.Name)
}

// Error returns what is wrong with the field.
func (c field) Error() string { return c.Errors[c.Name] }

// Described returns the ids of what describes the control.
func (c field) Described() string {
	var ids []string
	if c.Error() != "" {
		ids = append(ids, c.ID()+"-error")
	}
	if c.Help != "" {
		ids = append(ids, c.ID()+"-help")
	}
	return strings.Join(ids, " ")
}

// Current returns the value of the field.
func (c field) Current() string { return c.Value(c.Name) }
