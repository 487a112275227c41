package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// A reading is what was attempted, for the texts of errors.
type reading struct {
	url, name string
	action    latchkey.VaultAction
	as        reader
}

func (r reading) notFound(code string, cause error) error {
	if code == "VaultNotFound" {
		return &vault.Error{Kind: vault.ErrNotFound, Err: cause, Msg: fmt.Sprintf("there is no key vault %s; correct the vault's name in the reference", r.url)}
	}
	return &vault.Error{Kind: vault.ErrNotFound, Err: cause,
		Msg: fmt.Sprintf("there is no secret %q in the key vault %s; create it, recover it if it was deleted, or correct the reference", r.name, r.url)}
}

// badName leaves the name out: it may be anything, even a value that somebody
// put in the wrong place.
func (r reading) badName(cause error) error {
	return &vault.Error{Kind: vault.ErrNotFound, Err: cause,
		Msg: fmt.Sprintf("the key vault %s cannot have a secret with this name; correct the reference", r.url)}
}

func (r reading) disabled(cause error) error {
	return &vault.Error{Kind: vault.ErrDisabled, Err: cause,
		Msg: fmt.Sprintf("the newest version of the secret %q in the key vault %s is disabled; enable it or set a new version", r.name, r.url)}
}

// unavailable is a vault that gave no usable answer: why, and what to do.
func (r reading) unavailable(cause error, w why) error {
	return &vault.Error{Kind: vault.ErrUnavailable, Err: &because{w.what, cause}, Remedy: w.remedy,
		Msg: fmt.Sprintf("the key vault %s could not be read: %s; %s", r.url, w.what, w.remedy)}
}

// because is the cause of a vault's being unavailable, with what it is in words.
type because struct {
	what string
	error
}

func (b *because) Unwrap() error { return b.error }

// paused is a vault that is left alone for a while.
func (r reading) paused(until time.Time, what string) error {
	at := until.UTC().Format(time.RFC3339)
	return &vault.Error{Kind: vault.ErrUnavailable, Err: errPaused, Remedy: "it is asked again after that, when the next one wants to read it",
		Msg: fmt.Sprintf("the key vault %s is left alone until %s, after it could not be read: %s", r.url, at, what)}
}

var errPaused = errors.New("the circuit of the vault is open")

// foreign is a vault of a tenant that is not linked.
func (r reading) foreign(e *tenantError) error {
	linked := "no Azure tenant is linked to this installation"
	if len(e.linked) > 0 {
		linked = "this installation is linked to " + strings.Join(e.linked, ", ")
	}
	return &vault.Error{
		Kind: vault.ErrDenied, Check: "tenant", Identity: r.as.name, Action: string(r.action), Resource: r.url + "/secrets/" + r.name,
		Remedy: fmt.Sprintf("a tenant admin can link it with latchkey azure tenant link %s, if the vault is meant; otherwise correct the reference", e.tenant),
		Msg:    fmt.Sprintf("the key vault %s belongs to the Azure tenant %s, and %s; no token was sent to it", r.url, e.tenant, linked),
	}
}

// envelope is how Key Vault writes errors.
type envelope struct {
	Error struct {
		Code       string `json:"code"`
		Message    string `json:"message"`
		InnerError struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

// codeRE keeps whatever is not a code of Key Vault out of errors.
var codeRE = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// fail returns err as an error of package vault. The SDK's texts repeat answers,
// which may hold values, so they are never passed on.
func (r reading) fail(ctx context.Context, t *trace, err error) error {
	if e, ok := errors.AsType[*tenantError](err); ok {
		return r.foreign(e)
	}
	if e, ok := errors.AsType[*lookupError](err); ok {
		return r.unavailable(e, why{"it is not known which Azure tenants are linked", "see the server's log"})
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return r.unavailable(ctx.Err(), why{"whoever asked went away", "ask again"})
	case t.vault.status == http.StatusUnauthorized && t.signIn.err != nil || errors.As(err, new(*signInError)):
		return r.signIn(ctx, t, err)
	case ctx.Err() != nil:
		return r.unavailable(ctx.Err(), why{"it did not answer in time", "see whether it, or the network to it, is slow"})
	}
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return r.unavailable(shown(err), explain(t.vault, "a key vault", err))
	}
	env := parse(e)
	code := env.Error.Code
	if inner := env.Error.InnerError.Code; inner != "" {
		code = inner
	}
	if !codeRE.MatchString(code) {
		code = ""
	}
	status := fmt.Errorf("status %d, code %q", e.StatusCode, code)
	switch {
	case e.StatusCode == http.StatusForbidden && code == "SecretDisabled":
		return r.disabled(status)
	case e.StatusCode == http.StatusForbidden && code != "":
		return r.denied(code, env.Error.Message, status)
	case e.StatusCode == http.StatusUnauthorized && strings.Contains(env.Error.Message, "TokenExpired"):
		return r.unavailable(status, why{"it says that the service's token has expired" + ahead(t.vault), "set this machine's clock right, if it is wrong; a new token is got by itself"})
	case e.StatusCode == http.StatusUnauthorized && clockWrong(t.vault):
		return r.unavailable(status, why{"it does not take the service's token" + ahead(t.vault), "set this machine's clock right"})
	case e.StatusCode == http.StatusUnauthorized && code != "":
		return r.denied(code, env.Error.Message, status)
	case e.StatusCode == http.StatusNotFound && code != "":
		return r.notFound(code, status)
	}
	return r.unavailable(status, explain(t.vault, "a key vault", nil))
}

// parse returns the error that an answer describes, or an empty one.
func parse(e *azcore.ResponseError) (env envelope) {
	if e.RawResponse == nil || e.RawResponse.Body == nil {
		return env
	}
	// The SDK has read the body and left a copy of it.
	body, err := io.ReadAll(io.LimitReader(e.RawResponse.Body, maxResponse))
	if err != nil || json.Unmarshal(body, &env) != nil {
		return envelope{}
	}
	return env
}

// maxResource bounds the resource of a refusal, in bytes.
const maxResource = 1024

// What Key Vault tells about a refusal by role, and by access policy.
var (
	callerRE   = regexp.MustCompile(`\boid=([0-9A-Za-z_-]{1,64})`)
	actionRE   = regexp.MustCompile(`Action: '([0-9A-Za-z./*-]{1,128})'`)
	resourceRE = regexp.MustCompile(`Resource: '([\p{L}\p{N}/_.()-]+)'`)
	addressRE  = regexp.MustCompile(`Client address: ([0-9a-fA-F.:]{2,45})`)
	policyRE   = regexp.MustCompile(`does not have ([a-z]{1,16} [a-z]{1,16}) permission on key vault '([0-9A-Za-z-]{1,24});`)
)

func (r reading) denied(code, message string, cause error) error {
	e := &vault.Error{
		Kind: vault.ErrDenied, Err: cause, Code: code,
		Identity: r.as.name, Action: string(r.action), Resource: r.url + "/secrets/" + r.name,
		Remedy: fmt.Sprintf("give it the role %s on the secret or its vault; a new role takes some minutes to count", latchkey.VaultSecretsUser),
	}
	if m := callerRE.FindStringSubmatch(message); m != nil {
		e.Identity = m[1]
	}
	if m := actionRE.FindStringSubmatch(message); m != nil {
		e.Action = m[1]
	}
	if m := resourceRE.FindStringSubmatch(message); m != nil && len(m[1]) <= maxResource {
		e.Resource = m[1]
	}
	if m := policyRE.FindStringSubmatch(message); m != nil {
		e.Action, e.Resource = m[1], m[2]
		e.Remedy = fmt.Sprintf("the vault uses access policies: add one with the permissions get and list for secrets, or change the vault to roles and assign %s", latchkey.VaultSecretsUser)
	}
	if m := addressRE.FindStringSubmatch(message); m != nil {
		e.Address = strings.TrimRight(m[1], ".")
	}
	switch {
	case strings.HasPrefix(code, "ForbiddenByFirewall"), strings.HasPrefix(code, "ForbiddenByConnection"):
		e.Check, e.Remedy = "network", "allow the network address of the service in the vault's networking settings"
	case strings.Contains(message, "AKV10022"):
		e.Check, e.Remedy = "sign-in", "choose the cloud in the server's Azure settings that the vault is in"
	case code == "Unauthorized":
		e.Check, e.Remedy = "tenant", "let the service sign in as an identity of the vault's own tenant"
	}
	e.Msg = fmt.Sprintf("%s may not do %s on %s; %s", e.Identity, e.Action, e.Resource, e.Remedy)
	return e
}

// A signInError is a credential that gave no token.
type signInError struct{ err error }

func (e *signInError) Error() string { return "sign in to Azure" }
func (e *signInError) Unwrap() error { return e.err }

// aadRE finds Entra ID's number of an error.
var aadRE = regexp.MustCompile(`AADSTS[0-9]{1,9}`)

// Entra ID's reasons for which it takes somebody to act, and what to do.
var aadReasons = map[string]why{
	"AADSTS7000215": {"the secret of the application is wrong", "put the secret's value, not its id, into secret-file"},
	"AADSTS7000222": {"the secret of the application has expired", "make a new one and put it into secret-file"},
	"AADSTS700027":  {"the application does not know the certificate", "add the certificate to the application"},
	"AADSTS700016":  {"the tenant has no such application", "correct client-id or tenant, or consent to the application in the vault's tenant"},
	"AADSTS90002":   {"there is no such tenant in this cloud", "correct tenant and cloud"},
	"AADSTS70021":   {"the application trusts no such token", "add a federated credential with the token's issuer and subject to the application"},
	"AADSTS700213":  {"the application trusts no such token", "add a federated credential with the token's issuer and subject to the application"},
	"AADSTS700024":  {"the assertion was signed for another time", "set this machine's clock right"},
	"AADSTS53003":   {"a rule of conditional access forbids it", "see the tenant's sign-in log"},
	"AADSTS7000112": {"the application is disabled in the tenant", "enable it"},
	"AADSTS500011":  {"the tenant has no vaults of this cloud", "correct cloud"},
}

// signIn is a failure to get a token for reading a vault.
func (r reading) signIn(ctx context.Context, t *trace, err error) error {
	w, cause, refused := r.as.signIn(ctx, t.signIn, err)
	if !refused {
		return r.unavailable(cause, w)
	}
	return &vault.Error{
		Kind: vault.ErrDenied, Err: cause, Check: "sign-in", Identity: r.as.name, Action: string(r.action), Resource: r.url + "/secrets/" + r.name,
		Remedy: w.remedy, Msg: fmt.Sprintf("the key vault %s could not be read: %s; %s", r.url, w.what, w.remedy),
	}
}

// signIn says why there was no token, by the exchange with where identities sign in.
// One that Entra ID refused stays refused until somebody acts; anything else may pass.
func (as reader) signIn(ctx context.Context, last exchange, err error) (w why, cause error, refused bool) {
	who := as.name + " could not sign in to Azure"
	if last.host != "" {
		who += " at " + last.host
	}
	who += ": "
	e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || e.RawResponse == nil {
		w := as.nobody
		file, missing := errors.AsType[*fs.PathError](err)
		dns := new(net.DNSError)
		switch refused := last.status >= 400 && last.status < 500; {
		case missing:
			w = why{file.Error(), "put the file back"}
		case errors.As(last.err, &dns):
			w = why{explainError(last.host, dns).what, "see to the DNS of the server, and that cloud is right in the server's Azure settings"}
		case last.err != nil, last.reply && !refused:
			w = explain(last, "Entra ID", nil)
		case ctx.Err() != nil:
			w = why{"it did not answer in time", "see whether it, or the network to it, is slow"}
		}
		return why{who + w.what, w.remedy}, fmt.Errorf("sign in to Azure: %w", shown(last.err)), false
	}
	number, code := aadRE.FindString(e.Error()), e.RawResponse.StatusCode
	cause = fmt.Errorf("sign in to Azure: status %d %s", code, number)
	if code >= 500 || code == http.StatusTooManyRequests {
		w := explain(exchange{reply: true, status: code, Header: e.RawResponse.Header}, "Entra ID", nil)
		return why{who + w.what, w.remedy}, cause, false
	}
	w, known := aadReasons[number]
	if !known {
		w = why{"it was refused", "correct the server's Azure settings"}
		if number == "" && code == http.StatusBadRequest { // of a machine, not of Entra ID
			w = as.nobody
		}
	}
	if number != "" {
		w.what += " (" + number + ")"
	}
	return why{who + w.what + ahead(last), w.remedy}, cause, true
}
