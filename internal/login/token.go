package login

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// Bounds of a request for a token.
const (
	maxBody       = 64 << 10
	maxParameters = 30
	maxScope      = 1000 // bytes
)

const grantType = "client_credentials"

// A request is what the body of a request for a token says, and its header.
type request struct {
	grant, clientID, scope string
	secret                 latchkey.Secret
	assertion              string
	assertionType          string
}

// token gives a token to the service principal that the request proves to come
// from.
func (c *call) token(ctx context.Context) (any, error) {
	req, err := c.read()
	if err != nil {
		return nil, err
	}
	if err := c.checkScope(req.scope); err != nil {
		return nil, err
	}
	at := Authority(c.Domain, c.Tenant)
	who, err := c.Broker.AuthenticateServicePrincipal(ctx, broker.ServicePrincipalProof{
		ClientID: req.clientID, Secret: req.secret, Assertion: req.assertion,
		// RFC 7523, section 3: the token endpoint, or the issuer.
		Audiences: []string{at + "/oauth2/v2.0/token", at + "/v2.0", at},
		Again:     true, // Microsoft's libraries for JavaScript and Python send theirs until it ends (Entra: as often as they like)
		Address:   addressOf(c.r), RequestID: c.trace,
	})
	if err != nil {
		return nil, err
	}
	c.who = who.ID
	token, expires, err := c.Broker.VaultToken(ctx, who)
	if err != nil {
		return nil, err
	}
	lasts := int64(expires.Sub(c.Now()).Seconds())
	return map[string]any{"token_type": "Bearer", "access_token": token, "expires_in": lasts, "ext_expires_in": lasts}, nil
}

// read reads a request for a token.
func (c *call) read() (req request, err error) {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return req, refuse(http.StatusUnsupportedMediaType, "invalid_request", 9002313, "Invalid request. The content type must be application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return req, refuse(http.StatusRequestEntityTooLarge, "invalid_request", 9002313, "Invalid request. The body must be at most %d bytes.", maxBody)
	}
	if err != nil {
		return req, malformed("The body could not be read.")
	}
	form, err := parseForm(string(body))
	if err != nil {
		return req, err
	}
	req, err = readForm(form)
	if err != nil {
		return req, err
	}
	if header := c.r.Header.Get("Authorization"); header != "" {
		err = req.basic(c.r)
	}
	if err != nil {
		return req, err
	}
	return req, req.check()
}

// parseForm reads a body. Faults never repeat what it holds: a secret may be in
// the wrong place.
func parseForm(body string) (url.Values, error) {
	if strings.Count(body, "&") >= maxParameters {
		return nil, malformed("The body must have at most %d parameters.", maxParameters)
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, malformed("The body is not a form of parameters.")
	}
	for name, values := range form {
		// RFC 6749, section 3.2: no parameter is included more than once.
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "invalid_request", 9000411, "The request is not properly formatted. A parameter is duplicated.")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			return nil, malformed("The body is not in UTF-8.")
		}
	}
	return form, nil
}

func readForm(form url.Values) (req request, err error) {
	req = request{
		grant: form.Get("grant_type"), clientID: form.Get("client_id"), scope: form.Get("scope"),
		assertion: form.Get("client_assertion"), assertionType: form.Get("client_assertion_type"),
	}
	if s := form.Get("client_secret"); s != "" {
		req.secret = latchkey.NewSecret(s)
	}
	if req.grant == "" {
		return req, missing("grant_type")
	}
	if req.grant != grantType {
		return req, refuse(http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type. The only one is '%s': service principals sign in here, and nobody else.", grantType)
	}
	return req, nil
}

// basic takes the credentials of the header (RFC 6749, section 2.3.1).
func (req *request) basic(r *http.Request) error {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return refuse(http.StatusUnauthorized, "invalid_client", 7000215, "The header Authorization must be of the scheme Basic, with the client id and its secret.")
	}
	id, err := url.QueryUnescape(id)
	if err != nil {
		return malformed("The client id in the header Authorization must be form-encoded.")
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return malformed("The secret in the header Authorization must be form-encoded.")
	}
	if !utf8.ValidString(id) || !utf8.ValidString(secret) {
		return malformed("The header Authorization is not in UTF-8.")
	}
	if !req.secret.IsZero() || req.assertion != "" || req.clientID != "" && req.clientID != id {
		return malformed("The client must prove itself in one way: in the header Authorization or in the body.")
	}
	req.clientID = id
	if secret != "" {
		req.secret = latchkey.NewSecret(secret)
	}
	return nil
}

// check finds what is missing.
func (req *request) check() error {
	switch {
	case req.clientID == "":
		return missing("client_id")
	case req.scope == "":
		return missing("scope")
	case req.secret.IsZero() && req.assertion == "":
		return refuse(http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case req.assertion != "" && req.assertionType == "":
		return missing("client_assertion_type")
	case req.assertion != "" && req.assertionType != latchkey.ClientAssertionType:
		return refuse(http.StatusBadRequest, "invalid_request", 90023, "The parameter 'client_assertion_type' must be '%s'.", latchkey.ClientAssertionType)
	}
	return nil
}

// checkScope checks that a scope is one of the embedded vaults'. Whichever it is,
// the token is for them: nobody else takes it.
func (c *call) checkScope(scope string) error {
	if len(scope) > maxScope {
		return refuse(http.StatusBadRequest, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is longer than %d bytes.", maxScope)
	}
	// OpenID Connect's own scopes say nothing here (Entra: they are let pass).
	var asked []string
	for _, s := range strings.Fields(scope) {
		if !slices.Contains([]string{"openid", "profile", "offline_access"}, s) {
			asked = append(asked, s)
		}
	}
	if len(asked) != 1 || !strings.HasSuffix(asked[0], "/.default") {
		return refuse(http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope is not valid. It must be one resource with /.default after it, such as %s.", vaultScope)
	}
	if !ForVaults(asked[0], c.Domain) {
		return refuse(http.StatusBadRequest, "invalid_resource", 500011,
			"The resource principal named %s was not found in this installation. The scopes are %s/.default.",
			clip(strings.TrimSuffix(asked[0], "/.default")), strings.Join(Resources(c.Domain), "/.default, "))
	}
	return nil
}

const vaultScope = "https://vault.azure.net/.default"

// ForVaults reports whether a resource, or the scope that is one with /.default after
// it, is one of [Resources].
func ForVaults(resource, domain string) bool {
	// An address may end in a slash of its own (Entra: with two slashes before .default then).
	resource = strings.ToLower(strings.TrimRight(strings.TrimSuffix(resource, "/.default"), "/"))
	return slices.Contains(Resources(domain), resource)
}

// Resources returns the names under which the embedded vaults below a domain and their
// resource manager are asked for, in lower case. Domain has the port unless that is 443.
func Resources(domain string) []string {
	domain = strings.TrimSuffix(strings.ToLower(domain), ":443")
	all := []string{"https://vault.azure.net", "https://" + domain}
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
		all = append(all, "https://"+host)
	}
	all = append(all, "https://management.azure.com", "https://management.core.windows.net", "https://management."+domain)
	if host != domain {
		all = append(all, "https://management."+host)
	}
	return all
}
