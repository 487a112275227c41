package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// A reading is what was attempted, for the texts of errors.
type reading struct {
	url, name string
	action    latchkey.VaultAction
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

func (r reading) unavailable(cause error) error {
	return &vault.Error{Kind: vault.ErrUnavailable, Err: cause,
		Msg: fmt.Sprintf("the key vault %s gave no usable answer; check that it exists and can be reached, and try again", r.url)}
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
func (r reading) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return r.unavailable(ctx.Err())
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		return r.signIn(e)
	}
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return r.unavailable(cause(err))
	}
	env := parse(e)
	code := env.Error.Code
	if inner := env.Error.InnerError.Code; inner != "" {
		code = inner
	}
	if !codeRE.MatchString(code) {
		code = ""
	}
	why := fmt.Errorf("status %d, code %q", e.StatusCode, code)
	switch {
	case e.StatusCode == http.StatusForbidden && code == "SecretDisabled":
		return r.disabled(why)
	case e.StatusCode == http.StatusForbidden && code != "":
		return r.denied(code, env.Error.Message, why)
	case e.StatusCode == http.StatusUnauthorized && !strings.Contains(env.Error.Message, "TokenExpired"):
		return r.denied(code, env.Error.Message, why)
	case e.StatusCode == http.StatusNotFound && code != "":
		return r.notFound(code, why)
	}
	return r.unavailable(why)
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

// What Key Vault tells about a refusal by role, and by access policy.
var (
	callerRE   = regexp.MustCompile(`\boid=([0-9A-Za-z_-]{1,64})`)
	actionRE   = regexp.MustCompile(`Action: '([0-9A-Za-z./*-]{1,128})'`)
	resourceRE = regexp.MustCompile(`Resource: '([\p{L}\p{N}/_.()-]{1,512})'`)
	policyRE   = regexp.MustCompile(`does not have ([a-z]{1,16} [a-z]{1,16}) permission on key vault '([0-9A-Za-z-]{1,24});`)
)

func (r reading) denied(code, message string, cause error) error {
	e := &vault.Error{
		Kind: vault.ErrDenied, Err: cause,
		Identity: "the service's identity", Action: string(r.action), Resource: r.url + "/secrets/" + r.name,
		Remedy: fmt.Sprintf("give it the role %s on the secret or its vault; a new role takes some minutes to count", latchkey.VaultSecretsUser),
	}
	if m := callerRE.FindStringSubmatch(message); m != nil {
		e.Identity = m[1]
	}
	if m := actionRE.FindStringSubmatch(message); m != nil {
		e.Action = m[1]
	}
	if m := resourceRE.FindStringSubmatch(message); m != nil {
		e.Resource = m[1]
	}
	if m := policyRE.FindStringSubmatch(message); m != nil {
		e.Action, e.Resource = m[1], m[2]
		e.Remedy = fmt.Sprintf("the vault uses access policies: add one with the permissions get and list for secrets, or change the vault to roles and assign %s", latchkey.VaultSecretsUser)
	}
	switch {
	case strings.HasPrefix(code, "ForbiddenByFirewall"), strings.HasPrefix(code, "ForbiddenByConnection"):
		e.Remedy = "allow the network address of the service in the vault's networking settings"
	case code == "Unauthorized":
		e.Remedy = "let the service sign in as an identity of the vault's own tenant"
	}
	e.Msg = fmt.Sprintf("%s may not do %s on %s; %s", e.Identity, e.Action, e.Resource, e.Remedy)
	return e
}

// aadRE finds Entra ID's number of an error.
var aadRE = regexp.MustCompile(`AADSTS[0-9]{1,9}`)

// signIn is a failure to get a token. One that Entra ID refused stays refused
// until somebody acts; anything else may pass.
func (r reading) signIn(e *azidentity.AuthenticationFailedError) error {
	number := aadRE.FindString(e.Error())
	if e.RawResponse == nil || e.RawResponse.StatusCode >= 500 || e.RawResponse.StatusCode == http.StatusTooManyRequests {
		return r.unavailable(fmt.Errorf("sign in to Azure %s", number))
	}
	return r.denied("Unauthorized", "", fmt.Errorf("sign in to Azure: status %d %s", e.RawResponse.StatusCode, number))
}

// cause returns what of an error without an answer can be shown in the log.
func cause(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("the answer is longer than %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e
	}
	return fmt.Errorf("no answer that can be read (%T)", err)
}
