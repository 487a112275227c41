// Package server is the face of Latchkey on the web: the REST API with its
// OpenAPI document, the endpoints of agents, health, metrics and the pages.
//
// It decides nothing. It finds out who asks, reads the request, calls the one
// method of the broker that the route names, and writes the answer. Every
// failure of the API is a problem (RFC 9457) with a stable code; none of them
// repeats a value that was submitted.
package server
