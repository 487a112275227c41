package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"latchkey.dev/internal/site"
)

// docsPage shows the OpenAPI document to people.
func (s *server) docsPage(w http.ResponseWriter, r *http.Request) {
	o := s.api.OpenAPI()
	p := site.Reference{Server: s.PublicURL(), Description: o.Info.Description}
	for _, tag := range o.Tags {
		section := site.Section{ID: strings.ReplaceAll(strings.ToLower(tag.Name), " ", "-"), Name: tag.Name, Description: tag.Description}
		for _, route := range s.routes {
			if h := operationOf(o, route.pattern); h != nil && h.Tags[0] == tag.Name {
				section.Operations = append(section.Operations, s.docOperation(h))
			}
		}
		p.Sections = append(p.Sections, section)
	}
	schemas := o.Components.Schemas.Map()
	for name, schema := range schemas {
		p.Types = append(p.Types, site.Type{Name: name, Fields: s.docFields(schema, name)})
	}
	slices.SortFunc(p.Types, func(a, b site.Type) int { return strings.Compare(a.Name, b.Name) })
	s.pages.Reference(w, r, p)
}

// operationOf returns the operation of the document that a route is, or nil.
func operationOf(o *huma.OpenAPI, pattern string) *huma.Operation {
	method, path, _ := strings.Cut(pattern, " ")
	item := o.Paths[path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put,
		http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
}

func (s *server) docOperation(h *huma.Operation) site.Operation {
	d := site.Operation{
		ID: h.OperationID, Method: h.Method, Path: h.Path, Summary: h.Summary, Description: h.Description,
		Public: len(h.Security) == 0, Status: strconv.Itoa(h.DefaultStatus),
	}
	for _, p := range h.Parameters {
		f := fieldOf(p.Name, p.Schema, p.Required)
		f.Description = strings.TrimPrefix(p.Description+rest(f.Description, p.Description), " ")
		d.Parameters = append(d.Parameters, f)
	}
	if h.RequestBody != nil {
		if ref := h.RequestBody.Content["application/json"].Schema.Ref; ref != "" {
			name := refName(ref)
			d.Body = s.docFields(s.api.OpenAPI().Components.Schemas.Map()[name], name)
		}
	}
	var failures []string
	for status, answer := range h.Responses {
		if status[0] != '2' {
			failures = append(failures, status)
		} else if c := answer.Content["application/json"]; c != nil {
			d.Answer = refName(c.Schema.Ref)
		}
	}
	slices.Sort(failures)
	d.Failures = strings.Join(failures, ", ")
	if h.Tags[0] != "Agents" {
		d.Curl = s.curl(h, d.Public)
	}
	return d
}

// rest returns what a field's own description adds to the parameter's.
func rest(own, shown string) string {
	if after, ok := strings.CutPrefix(own, shown); ok {
		return after
	}
	return ""
}

// curl returns a command that shows the operation.
func (s *server) curl(h *huma.Operation, public bool) string {
	body := examples[h.OperationID]
	command := []string{"curl"}
	if h.Method != http.MethodGet && (h.Method != http.MethodPost || body == "") {
		command[0] += " -X " + h.Method
	}
	command[0] += " " + s.PublicURL() + strings.ReplaceAll(h.Path, "{env}", "main")
	if !public {
		command = append(command, `-H "Authorization: Bearer $LATCHKEY_TOKEN"`)
	}
	if body != "" {
		command = append(command, "--json '"+spread(body)+"'")
	}
	return strings.Join(command, " \\\n  ")
}

// spread puts a long JSON text on several lines.
func spread(text string) string {
	var b bytes.Buffer
	if len(text) < 72 || json.Indent(&b, []byte(text), "  ", "  ") != nil {
		return text
	}
	return b.String()
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// site.Fields returns the fields of a named object in the order of its type.
func (s *server) docFields(schema *huma.Schema, name string) (fields []site.Field) {
	schemas := s.api.OpenAPI().Components.Schemas
	for _, key := range jsonNames(schemas.TypeFromRef("#/components/schemas/" + name)) {
		p := schema.Properties[key]
		if p == nil {
			continue
		}
		fields = append(fields, fieldOf(key, p, slices.Contains(schema.Required, key)))
	}
	return fields
}

// jsonNames returns the names of a struct's fields as JSON has them.
func jsonNames(t reflect.Type) (names []string) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func fieldOf(name string, schema *huma.Schema, required bool) site.Field {
	f := site.Field{Name: name, Required: required, Description: schema.Description}
	f.Type, f.Link = typeOf(schema)
	values := schema.Enum
	if len(values) == 0 && schema.Items != nil {
		values = schema.Items.Enum
	}
	var words []string
	for _, v := range values {
		if text, ok := v.(string); ok {
			words = append(words, text)
		}
	}
	if len(words) > 0 {
		f.Description = strings.TrimPrefix(f.Description+"; one of "+strings.Join(words, ", "), "; ")
	}
	return f
}

// typeOf says what a schema is, in words, and which type to look up.
func typeOf(schema *huma.Schema) (text, link string) {
	switch {
	case schema == nil:
		return "anything", ""
	case schema.Ref != "":
		return refName(schema.Ref), refName(schema.Ref)
	case schema.Type == huma.TypeArray:
		text, link = typeOf(schema.Items)
		return "list of " + text, link
	case schema.Type == huma.TypeObject:
		if value, ok := schema.AdditionalProperties.(*huma.Schema); ok {
			text, link = typeOf(value)
			return "map to " + text, link
		}
	case schema.Format == "date-time":
		return "time", ""
	case schema.PatternDescription != "" && schema.Examples != nil:
		return "duration", ""
	case schema.ContentEncoding == "base64":
		return "base64", ""
	}
	return schema.Type, ""
}
