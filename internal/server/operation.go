package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"latchkey.dev/latchkey"
)

const apiPrefix = "/api/v1"

// bodyTimeout bounds how long a body may take to arrive. No operation with a
// body takes longer.
const bodyTimeout = 30 * time.Second

// An op is one operation of the API, as the table of routes has it: route is
// the method and the path below /api/v1.
type op struct {
	tag, route, id, summary, description string
}

func (o op) method() string { method, _, _ := strings.Cut(o.route, " "); return method }
func (o op) path() string   { _, path, _ := strings.Cut(o.route, " "); return apiPrefix + path }

// operation returns what the document says about o, but for its bodies.
func (o op) operation(api huma.API, status int, errors ...int) huma.Operation {
	h := huma.Operation{
		OperationID: o.id, Method: o.method(), Path: o.path(), Tags: []string{o.tag},
		Summary: o.summary, Description: o.description,
		DefaultStatus: status, MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout,
		Responses: map[string]*huma.Response{},
	}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "")
	for _, code := range append(errors, http.StatusInternalServerError, http.StatusServiceUnavailable) {
		h.Responses[strconv.Itoa(code)] = &huma.Response{
			Description: http.StatusText(code),
			Content:     map[string]*huma.MediaType{problemType: {Schema: schema}},
		}
	}
	return h
}

// errorsOf returns the failures that follow from an operation's shape.
func (o op) errorsOf(input reflect.Type) []int {
	errors := []int{http.StatusUnprocessableEntity}
	if _, ok := input.FieldByName("Body"); ok {
		errors = append(errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if strings.Contains(o.route, "{") {
		errors = append(errors, http.StatusNotFound)
	}
	if o.method() != http.MethodGet {
		errors = append(errors, http.StatusConflict)
	}
	return errors
}

// caller adds an operation of signed-in callers. It hands h the caller whom the
// middleware found.
func caller[I, O any](s *server, o op, h func(context.Context, latchkey.Caller, *I) (*O, error)) {
	s.routes = append(s.routes, route{o.method() + " " + o.path(), signedIn})
	errors := append(o.errorsOf(reflect.TypeFor[I]()), http.StatusUnauthorized, http.StatusForbidden)
	operation := o.operation(s.api, statusFor[O](), errors...)
	operation.Security = []map[string][]string{{"bearer": {}}, {"session": {}}}
	operation.Middlewares = huma.Middlewares{s.signedIn}
	register(s, operation, func(ctx context.Context, in *I) (*O, error) { return h(ctx, callerOf(ctx), in) })
}

// anyone adds an operation that needs no token.
func anyone[I, O any](s *server, o op, h func(context.Context, *I) (*O, error)) {
	s.routes = append(s.routes, route{o.method() + " " + o.path(), public})
	errors := append(o.errorsOf(reflect.TypeFor[I]()), http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	operation := o.operation(s.api, statusFor[O](), errors...)
	operation.Security = []map[string][]string{}
	operation.MaxBodyBytes = maxAnonymous
	register(s, operation, h)
}

func register[I, O any](s *server, o huma.Operation, h func(context.Context, *I) (*O, error)) {
	if o.Method == http.MethodGet && hasField[I]("Limit") {
		o.Description = strings.TrimSpace(o.Description + " " + pagesText)
	}
	huma.Register(s.api, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return out, nil
	})
	if text, ok := examples[o.OperationID]; ok {
		addExample(s.api.OpenAPI().Paths[o.Path], text)
	}
}

const pagesText = "A list comes in pages: pass `next` of the answer as `after` to get the following one."

func hasField[I any](name string) bool {
	_, ok := reflect.TypeFor[I]().FieldByName(name)
	return ok
}

// addExample puts the example of a request into the document.
func addExample(p *huma.PathItem, text string) {
	for _, o := range []*huma.Operation{p.Post, p.Put, p.Patch} {
		if o != nil && o.RequestBody != nil {
			o.RequestBody.Content["application/json"].Example = json.RawMessage(text)
		}
	}
}

// The shapes of answers.
type (
	one[T any]     struct{ Body T }
	listOf[T any]  struct{ Body latchkey.Page[T] }
	created[T any] struct {
		Location string `header:"Location" doc:"path of the new thing"`
		Body     T
	}
	none struct{}
)

// statusFor returns the status of success of an answer's shape.
func statusFor[O any]() int {
	switch t := reflect.TypeFor[O](); {
	case t == reflect.TypeFor[none]():
		return http.StatusNoContent
	case hasField[O]("Location"):
		return http.StatusCreated
	}
	return http.StatusOK
}

func show[T any](v T, err error) (*one[T], error) { return &one[T]{v}, err }

func list[T any](p latchkey.Page[T], err error) (*listOf[T], error) {
	if p.Items == nil {
		p.Items = []T{}
	}
	return &listOf[T]{p}, err
}

func done(err error) (*none, error) { return &none{}, err }

// at returns a new thing with its path.
func at[T any](v T, segments ...string) *created[T] {
	path := apiPrefix
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	return &created[T]{path, v}
}

// Paging is the part of a request that chooses a page of a list.
type Paging struct {
	After string `query:"after" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" doc:"items of a page, 100 unless given"`
}

func (p Paging) options() latchkey.PageOptions {
	return latchkey.PageOptions{After: p.After, Limit: p.Limit}
}

// Searching is the part of a request that searches a list.
type Searching struct {
	Search string `query:"search" maxLength:"100" doc:"only what has this text in its name or description, in any case"`
}

// Sorting is the part of a request that chooses the order of a list. Which there are
// is the list's, and the broker refuses others.
type Sorting struct {
	Sort string `query:"sort" maxLength:"20" example:"-modified" doc:"name unless given, or -name from the end; of all but machines also modified, by the last change, or -modified, the newest first. A page is followed in its own order only"`
}

// InEnv is the part of a request that names an environment.
type InEnv struct {
	Env string `path:"env" doc:"id or name of the environment" example:"main"`
}

type inEnv struct{ InEnv }

type listInEnv struct {
	InEnv
	Paging
}

// SortedPaging is the part of a request that chooses a page of a list that can be
// searched and sorted.
type SortedPaging struct {
	Paging
	Searching
	Sorting
}

func (p *SortedPaging) options() latchkey.PageOptions {
	o := p.Paging.options()
	o.Search, o.Sort = p.Search, p.Sort
	return o
}

// searchIn is a request for a list that can be searched.
type searchIn struct {
	Paging
	Searching
}

func (in *searchIn) options() latchkey.PageOptions {
	o := in.Paging.options()
	o.Search = in.Search
	return o
}

// searchInEnv is a request for a list of an environment's things that can be searched
// and sorted.
type searchInEnv struct {
	InEnv
	SortedPaging
}

// envBody is a request about an environment's things with a body.
type envBody[T any] struct {
	InEnv
	Body T
}
