package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// Host is the label of the address before the domain of the embedded vaults. No
// vault has it as its name; see [latchkey.EmbeddedVaultCreate.Validate].
const Host = "management"

// Config says what to serve.
type Config struct {
	// Broker decides and answers.
	Broker *broker.Broker

	// Tenant is the id of the installation, which vaults name.
	Tenant string

	// Authority is the address below which the tenant's tokens are given, which
	// challenges name.
	Authority string

	// VaultURL returns the address of an embedded vault.
	VaultURL func(name string) string

	// Log is told of what fails; it never holds what answers hold. Nil discards.
	Log *slog.Logger
}

type server struct{ Config }

// New returns a handler that answers for every embedded vault.
func New(c Config) (http.Handler, error) {
	if c.Broker == nil || c.Tenant == "" || c.Authority == "" || c.VaultURL == nil {
		return nil, errors.New("the resource manager face needs a broker, a tenant, an authority and the vaults' addresses")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &server{c}, nil
}

// A fault is an error as Azure Resource Manager answers it.
type fault struct {
	status int
	code   string
	msg    string
}

func (f *fault) Error() string { return f.msg }

func notFound(code, format string, args ...any) *fault {
	return &fault{http.StatusNotFound, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := latchkey.NewGUID()
	answer, err := s.answer(r, id)
	status := http.StatusOK
	if err != nil {
		f := s.faultOf(r.Context(), id, err)
		status = f.status
		if status == http.StatusUnauthorized {
			// ARM: clients learn from it whose tokens are taken.
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization_uri="%s", error="invalid_token"`, s.Authority))
		}
		answer = map[string]any{"error": map[string]string{"code": f.code, "message": f.msg}}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // texts, numbers and maps of them always marshal
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", id)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func (s *server) faultOf(ctx context.Context, id string, err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		s.Log.ErrorContext(ctx, "resource manager request failed", "request", id, "error", err)
		return &fault{http.StatusInternalServerError, "InternalServerError", "An internal error occurred. The server's log has it under the request id."}
	}
	switch e.Kind {
	case latchkey.ErrUnauthenticated:
		return &fault{http.StatusUnauthorized, "InvalidAuthenticationToken", e.Msg}
	case latchkey.ErrDenied:
		return &fault{http.StatusForbidden, "AuthorizationFailed", e.Msg}
	case latchkey.ErrNotFound:
		return notFound("ResourceNotFound", "There is no such vault, or the caller may not see it.")
	}
	return &fault{http.StatusServiceUnavailable, "ServiceUnavailable", e.Msg}
}

// answer returns what a request asks for. Id is the request's.
func (s *server) answer(r *http.Request, id string) (any, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, &fault{http.StatusMethodNotAllowed, "MethodNotAllowed", "Nothing can be changed here; the commands below latchkey vault do."}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, &fault{http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."}
	}
	ctx := r.Context()
	who, err := s.Broker.AuthenticateVault(ctx, strings.TrimSpace(token))
	if err != nil {
		return nil, err
	}
	if who.Address, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
		who.Address = ""
	}
	who.RequestID = id
	query := r.URL.Query()
	if err := checkVersion(query); err != nil {
		return nil, err
	}
	p, ok := parse(r.URL.EscapedPath())
	if !ok {
		return nil, notFound("InvalidResourceType", "There is nothing at this path.")
	}
	return s.find(ctx, who, p, query)
}

// versionRE is what a version of ARM's interfaces looks like. Which one it is does not
// matter: answers have the fields that all of them have.
var versionRE = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(?i:-preview)?$`)

// checkVersion checks that a request names a version (ARM: with these codes).
func checkVersion(query url.Values) error {
	version := ""
	for key, values := range query {
		if strings.EqualFold(key, "api-version") && version == "" {
			version = values[0]
		}
	}
	if version == "" {
		return &fault{http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests."}
	}
	if !versionRE.MatchString(version) {
		return &fault{http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version is invalid. It must be a date as yyyy-mm-dd, with -preview after it or not."}
	}
	return nil
}

// find returns what is at a path.
func (s *server) find(ctx context.Context, who latchkey.Caller, p target, query url.Values) (any, error) {
	if p.what == whatDefinition {
		for _, r := range latchkey.VaultRoles {
			if strings.EqualFold(r.ID(), p.name) {
				return definition(r, p.subscription), nil
			}
		}
		return nil, notFound("RoleDefinitionDoesNotExist", "The specified role definition does not exist.")
	}
	if p.what == whatProvider {
		i := slices.IndexFunc(providers, func(name string) bool { return strings.EqualFold(name, p.name) })
		if i < 0 {
			return nil, notFound("InvalidResourceNamespace", "The resource namespace is not one of this installation's.")
		}
		known, err := s.Broker.VaultSubscription(ctx, who, p.subscription)
		if err == nil && !known {
			err = notFound("SubscriptionNotFound", "The subscription could not be found.")
		}
		return provider(p.subscription, providers[i]), err
	}
	v, err := s.Broker.VaultResource(ctx, who, p.vault)
	if err != nil {
		return nil, err
	}
	switch p.what {
	case whatVault:
		return s.vault(v), nil
	case whatPermissions:
		roles, err := s.Broker.VaultAssignments(ctx, who, p.vault, p.object, who.ID)
		return permissions(roles), err
	case whatAssignments:
		principal, err := assignee(query)
		if err != nil {
			return nil, err
		}
		roles, err := s.Broker.VaultAssignments(ctx, who, p.vault, p.object, principal)
		return assignments(v, roles), err
	case whatDefinitions:
		return definitions(p.subscription), nil
	}
	return list{Value: []any{}}, nil // deny assignments: there are none
}

// list is one page of a list, which has no more of them.
type list struct {
	Value []any `json:"value"`
}
