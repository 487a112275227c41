// Package site is what the API's server and the pages know of each other. Neither
// imports the other: cmd/latchkey puts them together.
package site

import (
	"context"
	"net/http"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// A Host is what the server does for the pages. All of it is there.
type Host struct {
	// Identify returns who sent a request. It may give the browser another value of
	// its session's token with the answer.
	Identify func(http.ResponseWriter, *http.Request) (latchkey.Caller, error)

	// Session returns the session that a browser has, or "", and SetSession gives
	// it one; an empty token takes it away.
	Session    func(*http.Request) string
	SetSession func(w http.ResponseWriter, token string, expires time.Time)

	// Visitor returns who comes to sign in.
	Visitor func(*http.Request) broker.Visitor

	// Fault returns what to tell people about an error. It logs those that are
	// not for them.
	Fault func(context.Context, error) Fault
}

// Pages are the pages, as the server needs them.
type Pages struct {
	Routes    []Route
	Reference func(http.ResponseWriter, *http.Request, Reference) // answers with the page of the API
	Fault     func(http.ResponseWriter, *http.Request, Fault)     // answers with what failed
}

// A Fault is a failure as people are told it.
type Fault struct {
	Status    int
	Title     string // the status in words
	Detail    string
	Code      string
	Remedy    string
	Fields    []latchkey.FieldError
	RequestID string
	Header    http.Header
}

// A Route is an address of the pages. Public ones answer anybody; the others send
// those who are not signed in to the sign-in page.
type Route struct {
	Pattern string
	Public  bool
	Handler http.HandlerFunc
}

// A Reference is the API, for people to read.
type Reference struct {
	Server      string // the address of the API
	Description string
	Sections    []Section
	Types       []Type
}

// A Section is a part of the API.
type Section struct {
	ID, Name, Description string
	Operations            []Operation
}

// An Operation is one of the API's. Status, Answer and Failures say what it
// answers: a status, the name of a type, and statuses with commas.
type Operation struct {
	ID, Method, Path, Summary, Description string
	Public                                 bool
	Parameters, Body                       []Field
	Status, Answer, Failures, Curl         string
}

// A Type is one of the API's objects.
type Type struct {
	Name   string
	Fields []Field
}

// A Field is one of a type, or a parameter. Link is the name of its type if that
// is among the Reference's.
type Field struct {
	Name, Type, Link, Description string
	Required                      bool
}
