package signon

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"latchkey.dev/latchkey"
)

const (
	maxBody     = 1 << 20          // bytes of any answer of a provider
	askTimeout  = 10 * time.Second // of one request to it
	discoverAll = 24 * time.Hour   // until what a provider says of itself is asked for again
	maxGroups   = 1000             // of one person
	maxText     = 2000             // bytes of what a browser brings back
	leeway      = time.Minute      // how far the provider's clock may be ahead
)

// A Config is what New needs.
type Config struct {
	Settings Settings

	// PublicURL returns where browsers reach this server, without a slash at the end.
	PublicURL func() string

	// Log is told why somebody could not be signed in; nil is nobody.
	Log *slog.Logger

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Providers are those that people sign in with. Its methods may be called
// concurrently.
type Providers struct {
	public func() string
	log    *slog.Logger
	now    func() time.Time
	all    []*provider
}

type provider struct {
	Provider
	http *http.Client

	mu    sync.Mutex // guards what follows
	known *oidc.Provider
	asked time.Time // when known came
	meta  metadata
}

// metadata is what else is needed of a discovery document (OpenID Connect Discovery
// 1.0, section 3, and RFC 9207, section 3).
type metadata struct {
	Auth    []string `json:"token_endpoint_auth_methods_supported"`
	NamesIt bool     `json:"authorization_response_iss_parameter_supported"`
}

// New returns the providers of settings. None of them is asked anything yet.
func New(c Config) *Providers {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Providers{public: c.PublicURL, log: c.Log, now: c.Now}
	for _, s := range c.Settings.Providers {
		t := &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots},
			TLSHandshakeTimeout: askTimeout, ResponseHeaderTimeout: askTimeout, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
		}
		p.all = append(p.all, &provider{Provider: s, http: &http.Client{
			Transport: bounded{t}, Timeout: askTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("it answers with a redirect, which is not followed")
			},
		}})
	}
	return p
}

// bounded asks by TLS only, and ends answers that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not asked: it is no https address", r.URL.Redacted())
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxBody)
	}
	return resp, err
}

// A Choice is a provider as the sign-in page offers it.
type Choice struct{ ID, Name string }

// Choices returns the providers in the order of the settings. Of nil there are none.
func (p *Providers) Choices() (all []Choice) {
	if p == nil {
		return nil
	}
	for _, one := range p.all {
		all = append(all, Choice{one.ID, one.Name})
	}
	return all
}

// Path returns the path of a provider's callback; its address is the redirect URI to
// register there.
func Path(id string) string { return "/sign-in/oidc/" + id }

func (p *Providers) find(id string) (*provider, error) {
	if p != nil {
		for _, one := range p.all {
			if one.ID == id {
				return one, nil
			}
		}
	}
	return nil, &latchkey.Error{Kind: latchkey.ErrNotFound, Code: "provider-unknown", Msg: "there is no such provider to sign in with"}
}

// fault is an ErrUnauthenticated about a provider; remedy says what to do.
func (p *provider) fault(code, remedy, format string, args ...any) *latchkey.Error {
	return &latchkey.Error{
		Kind: latchkey.ErrUnauthenticated, Code: code, Check: string(latchkey.ActSignIn), Remedy: remedy,
		Msg: fmt.Sprintf("signing in with %s (%s): %s", p.Name, p.Issuer, fmt.Sprintf(format, args...)) + ": " + remedy,
	}
}

// unavailable says that a provider could not be asked; the log has the reason.
func (p *Providers) unavailable(ctx context.Context, one *provider, what string, err error) error {
	p.log.LogAttrs(ctx, slog.LevelWarn, "a provider cannot be asked", slog.String("issuer", one.Issuer), slog.String("for", what), slog.Any("error", err))
	e := one.fault("provider-unavailable", "try again later, or ask an administrator to look at the server's log", "%s cannot be got now", what)
	e.Kind = latchkey.ErrUnavailable
	return e
}

// discover returns what a provider says of itself. Callers wait for one another: it
// is asked once.
func (p *Providers) discover(ctx context.Context, one *provider) (*oidc.Provider, metadata, error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.known != nil && p.now().Sub(one.asked) < discoverAll {
		return one.known, one.meta, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// Keys are asked for later, when this request has ended.
	known, err := oidc.NewProvider(oidc.ClientContext(ctx, one.http), one.Issuer)
	var meta metadata
	if err == nil {
		err = known.Claims(&meta)
	}
	if err != nil {
		return nil, meta, p.unavailable(ctx, one, "its discovery document", err)
	}
	one.known, one.meta, one.asked = known, meta, p.now()
	return known, meta, nil
}

func (p *Providers) client(one *provider, known *oidc.Provider, meta metadata) *oauth2.Config {
	c := &oauth2.Config{ClientID: one.ClientID, ClientSecret: one.secret, Endpoint: known.Endpoint(), RedirectURL: p.public() + Path(one.ID), Scopes: one.Scopes}
	c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if one.secret == "" || len(meta.Auth) > 0 && !slices.Contains(meta.Auth, "client_secret_basic") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return c
}

// Begun is what signing in was begun with. It is for Finish, and for nobody else to
// see or change.
type Begun struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	To       string `json:"t,omitempty"` // the page that was asked for
}

func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Begin returns the address at which a browser signs in with a provider. The error is
// ErrNotFound when there is no such provider, and ErrUnavailable when it cannot be
// asked.
func (p *Providers) Begin(ctx context.Context, id string) (address string, begun Begun, err error) {
	one, err := p.find(id)
	if err != nil {
		return "", begun, err
	}
	known, meta, err := p.discover(ctx, one)
	if err != nil {
		return "", begun, err
	}
	begun = Begun{Provider: id, State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier()}
	address = p.client(one, known, meta).AuthCodeURL(begun.State, oidc.Nonce(begun.Nonce), oauth2.S256ChallengeOption(begun.Verifier))
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" {
		return "", begun, p.unavailable(ctx, one, "its sign-in page by https", err)
	}
	return address, begun, nil
}

// A Person is who somebody is to a provider.
type Person struct {
	Provider *Provider
	External latchkey.ExternalIdentity
	Login    string   // what they are called there, if it says so
	Name     string   // what people call them
	Groups   []string // ids of groups; only with the provider's GroupsClaim
}

// claims are what is looked at of an ID token.
type claims struct {
	Authorized string          `json:"azp"`
	IssuedAt   int64           `json:"iat"`
	NotBefore  int64           `json:"nbf"`
	Tenant     string          `json:"tid"`
	Object     string          `json:"oid"`
	Name       string          `json:"name"`
	Preferred  string          `json:"preferred_username"`
	Email      string          `json:"email"`
	Verified   json.RawMessage `json:"email_verified"` // some say "true"
}

// Finish returns who has signed in, by what the browser brings back from the
// provider. The error is ErrUnauthenticated, and names the provider and what to do,
// or ErrUnavailable.
func (p *Providers) Finish(ctx context.Context, id string, begun Begun, answer url.Values) (person Person, err error) {
	const again = "begin to sign in again"
	one, err := p.find(id)
	if err != nil {
		return person, err
	}
	for _, values := range answer {
		if len(values) != 1 || len(values[0]) > maxText {
			return person, one.fault("answer-invalid", again, "its answer is not one that was asked for")
		}
	}
	if begun.Provider != id || begun.State == "" || subtle.ConstantTimeCompare([]byte(begun.State), []byte(answer.Get("state"))) != 1 {
		return person, one.fault("state-invalid", again, "its answer is not to what this browser has asked")
	}
	known, meta, err := p.discover(ctx, one)
	if err != nil {
		return person, err
	}
	// RFC 9207: an answer of another provider must not be taken for this one's.
	if iss := answer.Get("iss"); iss != one.Issuer && (iss != "" || meta.NamesIt) {
		return person, one.fault("issuer-mismatch", again, "its answer says that it comes from %.200q", iss)
	}
	if code := answer.Get("error"); code != "" {
		return person, one.fault("provider-refused", "ask whoever administers it, or sign in otherwise", "it refuses with %.100q: %.300s", code, answer.Get("error_description"))
	}
	if answer.Get("code") == "" {
		return person, one.fault("answer-invalid", again, "its answer has no code")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, one.http), 2*askTimeout)
	defer cancel()
	token, err := p.client(one, known, meta).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(begun.Verifier))
	if err != nil {
		refused, ok := errors.AsType[*oauth2.RetrieveError](err)
		if !ok || refused.Response.StatusCode >= http.StatusInternalServerError {
			return person, p.unavailable(ctx, one, "its token", err)
		}
		p.log.LogAttrs(ctx, slog.LevelWarn, "a provider refuses a code", slog.String("issuer", one.Issuer), slog.String("code", refused.ErrorCode), slog.String("description", fmt.Sprintf("%.300s", refused.ErrorDescription)))
		if refused.ErrorCode == "invalid_client" || refused.ErrorCode == "unauthorized_client" {
			return person, one.fault("client-refused", "an administrator has to look at client-id and client-secret-file", "it does not know this server (%s)", refused.ErrorCode)
		}
		return person, one.fault("code-refused", again, "it does not take its code back (%.100s)", refused.ErrorCode)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return person, one.fault("token-invalid", "an administrator has to look at its client's settings", "it gives no ID token")
	}
	verified, err := known.VerifierContext(ctx, &oidc.Config{ClientID: one.ClientID, Now: p.now}).Verify(ctx, raw)
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "a provider's token is not right", slog.String("issuer", one.Issuer), slog.Any("error", err))
		if _, expired := errors.AsType[*oidc.TokenExpiredError](err); expired {
			return person, one.fault("token-expired", "an administrator has to compare the clocks of both", "its token has expired already")
		}
		return person, one.fault("token-invalid", "an administrator has to look at the server's log", "its token is not right")
	}
	if person, err = one.person(verified, begun, p.now()); err != nil {
		return Person{}, err
	}
	return person, nil
}

// person returns whom a token is about whose issuer, audience, signature and expiry
// are right.
func (p *provider) person(t *oidc.IDToken, begun Begun, now time.Time) (person Person, err error) {
	const again, admin = "begin to sign in again", "an administrator has to look at its client's settings"
	if subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(begun.Nonce)) != 1 {
		return person, p.fault("nonce-invalid", again, "its token is for another sign-in")
	}
	var c claims
	var all map[string]json.RawMessage
	if err := errors.Join(t.Claims(&c), t.Claims(&all)); err != nil {
		return person, p.fault("token-invalid", admin, "its token has claims of other types than the standard")
	}
	if len(t.Audience) > 1 && c.Authorized != p.ClientID || c.Authorized != "" && c.Authorized != p.ClientID {
		return person, p.fault("token-audience", admin, "its token is for another client")
	}
	if limit := now.Add(leeway).Unix(); c.IssuedAt > limit || c.NotBefore > limit {
		return person, p.fault("token-early", "an administrator has to compare the clocks of both", "its token is from the future")
	}
	person = Person{Provider: &p.Provider, External: latchkey.ExternalIdentity{Issuer: t.Issuer, ObjectID: t.Subject}, Login: c.Preferred, Name: c.Name}
	if person.Login == "" {
		person.Login = c.Email
	}
	if p.Entra {
		if c.Tenant == "" || c.Object == "" {
			return person, p.fault("token-invalid", "an administrator has to add the optional claim oid, or the scope profile", "its token does not have tid and oid")
		}
		person.External.Tenant, person.External.ObjectID = c.Tenant, c.Object
		if len(p.Tenants) > 0 && !slices.ContainsFunc(p.Tenants, func(t string) bool { return strings.EqualFold(t, c.Tenant) }) {
			return person, p.fault("tenant-refused", "use an account of another tenant, or ask an administrator", "people of the tenant %.100s may not sign in", c.Tenant)
		}
	}
	if err := person.External.Validate(); err != nil {
		return person, p.fault("token-invalid", admin, "its token names nobody that can be known")
	}
	if len(p.Domains) > 0 {
		at := strings.LastIndexByte(c.Email, '@')
		if v := string(c.Verified); at < 0 || v != "true" && v != `"true"` || !slices.Contains(p.Domains, strings.ToLower(c.Email[at+1:])) {
			return person, p.fault("domain-refused", "use another account, or ask an administrator", "only people with a verified e-mail address at %s may sign in", strings.Join(p.Domains, ", "))
		}
	}
	if p.GroupsClaim != "" {
		if person.Groups, err = p.groups(all); err != nil {
			return person, err
		}
		if len(p.Groups) > 0 && !slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(person.Groups, g) }) {
			return person, p.fault("group-refused", "ask whoever administers the groups there", "only people in certain groups may sign in")
		}
	}
	return person, nil
}

// groups returns the groups that a token names. Microsoft Entra ID says of people in
// too many groups only where to ask for them.
func (p *provider) groups(all map[string]json.RawMessage) (groups []string, err error) {
	var elsewhere map[string]json.RawMessage
	_ = json.Unmarshal(all["_claim_names"], &elsewhere) // of another type it names nothing
	_, over := elsewhere[p.GroupsClaim]
	if v := string(all["hasgroups"]); over || v == "true" || v == `"true"` {
		return nil, p.fault("groups-overage", "an administrator has to set its claim to groups assigned to the application", "its token leaves the groups out, since they are too many")
	}
	raw, ok := all[p.GroupsClaim]
	if !ok || string(raw) == "null" {
		return []string{}, nil
	}
	if json.Unmarshal(raw, &groups) != nil {
		var one string
		if json.Unmarshal(raw, &one) != nil {
			return nil, p.fault("groups-invalid", "an administrator has to look at groups-claim", "the claim %s of its token is no list of texts", p.GroupsClaim)
		}
		groups = []string{one}
	}
	if len(groups) > maxGroups {
		return nil, p.fault("groups-overage", "an administrator has to have fewer sent", "its token names %d groups; %d are the most", len(groups), maxGroups)
	}
	return groups, nil
}
