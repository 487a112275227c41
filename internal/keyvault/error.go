package keyvault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"latchkey.dev/latchkey"
)

// location is where an embedded vault is, in texts that name a region.
const location = "local"

// A fault is an error as Key Vault answers it. AKV: most errors repeat their
// code, and those of status 403 and 409 have one more, innermost, that says why.
type fault struct {
	status int
	code   string
	inner  string
	msg    string
	err    error // for the log; not part of the answer
}

func (f *fault) Error() string { return f.msg }
func (f *fault) Unwrap() error { return f.err }

func badParameter(format string, args ...any) *fault {
	return &fault{status: http.StatusBadRequest, code: "BadParameter", msg: fmt.Sprintf(format, args...)}
}

func badName(name string) *fault {
	return badParameter("The request URI contains an invalid name: %s", name)
}

func forbidden(inner, msg string) *fault {
	return &fault{status: http.StatusForbidden, code: "Forbidden", inner: inner, msg: msg}
}

// tooLong is the fault of a request that is too long.
func tooLong(most int64) *fault {
	return &fault{status: http.StatusRequestEntityTooLarge, code: "BadParameter", msg: fmt.Sprintf("The request must be at most %d bytes.", most)}
}

func disabled() *fault {
	return forbidden("SecretDisabled", "Operation get is not allowed on a disabled secret.")
}

func unauthorized(msg string) *fault {
	return &fault{status: http.StatusUnauthorized, code: "Unauthorized", msg: msg}
}

func noSuchPath() *fault {
	return &fault{status: http.StatusNotFound, code: "NotFound", msg: "There is nothing at this path. Objects are at /secrets, /certificates and /keys, and deleted ones at /deletedsecrets, /deletedcertificates and /deletedkeys."}
}

func badMethod() *fault {
	return &fault{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", msg: "The method is not one of this path."}
}

// faultOf returns err, which came from the broker, as Key Vault would put it.
func (c *call) faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return &fault{status: http.StatusServiceUnavailable, code: "ServiceUnavailable", msg: "The request took too long or was given up."}
		}
		return &fault{status: http.StatusInternalServerError, code: "InternalServerError", msg: "An internal error occurred. The server's log has it under the request id.", err: err}
	}
	switch e.Kind {
	case latchkey.ErrInvalid:
		return c.invalid(e)
	case latchkey.ErrUnauthenticated:
		// AKV: these have labels.
		switch e.Code {
		case "token-expired":
			return unauthorized("[TokenExpired] " + sentence(e.Msg))
		case "token-audience":
			return unauthorized("AKV10022: " + sentence(e.Msg))
		case "token-issuer":
			return unauthorized("AKV10032: " + sentence(e.Msg))
		}
		return unauthorized(sentence(e.Msg))
	case latchkey.ErrDenied:
		return c.denied(e)
	case latchkey.ErrNotFound:
		return c.notFound(e)
	case latchkey.ErrConflict:
		return &fault{status: http.StatusConflict, code: "Conflict", inner: e.Code, msg: sentence(e.Msg)}
	}
	return &fault{status: http.StatusServiceUnavailable, code: "ServiceUnavailable", msg: sentence(e.Msg), err: e.Err}
}

func (c *call) invalid(e *latchkey.Error) *fault {
	var b strings.Builder
	b.WriteString("Property has invalid value\r\n")
	for _, f := range e.Fields {
		if f.Field == "name" {
			return badName(c.path.name)
		}
		fmt.Fprintf(&b, "%s %s\r\n", f.Field, f.Message)
	}
	return badParameter("%s", b.String())
}

func (c *call) denied(e *latchkey.Error) *fault {
	switch e.Code {
	case "SecretDisabled":
		return disabled()
	case "SecretManagedByCertificate":
		return forbidden(e.Code, e.Msg)
	case "ForbiddenByRbac":
		resource := ""
		for _, f := range e.Fields {
			if f.Field == "resource" {
				resource = f.Message
			}
		}
		return forbidden(e.Code, fmt.Sprintf("Caller is not authorized to perform action on resource.\r\n"+
			"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
			"Caller: appid=%[1]s;oid=%[1]s;iss=https://sts.windows.net/%[2]s/\r\nAction: '%[3]s'\r\nResource: '%[4]s'\r\n"+
			"Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: %[5]s;location=%[6]s\r\n",
			e.Identity, c.tenant, e.Check, resource, c.vault, location))
	}
	return forbidden("AccessDenied", sentence(e.Msg))
}

// notFound returns the text for what is not there (AKV: for objects, both codes
// and texts name the kind).
func (c *call) notFound(e *latchkey.Error) *fault {
	f := &fault{status: http.StatusNotFound, code: e.Code}
	switch e.Code {
	case "VaultNotFound":
		f.msg = fmt.Sprintf("There is no vault named %s here.", c.vault)
	case "DeletedSecretNotFound", "DeletedCertificateNotFound", "DeletedKeyNotFound":
		f.code = strings.TrimPrefix(e.Code, "Deleted")
		f.msg = fmt.Sprintf("Deleted %s not found: %s", strings.TrimSuffix(f.code, "NotFound"), c.path.name)
	case "SecretNotFound", "CertificateNotFound", "KeyNotFound":
		id := c.path.name
		if _, ok := versionID(c.path.rest); ok {
			id += "/" + c.path.rest
		}
		f.msg = fmt.Sprintf("A %[1]s with (name/id) %[2]s was not found in this key vault. If you recently deleted this %[1]s you may be able to recover it using the correct recovery command. "+
			"For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182", strings.ToLower(strings.TrimSuffix(e.Code, "NotFound")), id)
	default:
		f.msg = sentence(e.Msg)
	}
	return f
}

// sentence returns one of the broker's texts in the form of Key Vault's.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}
