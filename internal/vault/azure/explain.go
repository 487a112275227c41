package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// A why is a failure in words, and what to do about it.
type why struct{ what, remedy string }

// maxSkew is how wrong a clock may be before it is named.
const maxSkew = 2 * time.Minute

func clockWrong(e exchange) bool { return e.skew().Abs() > maxSkew }

// ahead names a clock that is wrong.
func ahead(e exchange) string {
	switch skew := e.skew(); {
	case skew > maxSkew:
		return fmt.Sprintf(" (this machine's clock is %s ahead)", skew)
	case skew < -maxSkew:
		return fmt.Sprintf(" (this machine's clock is %s behind)", -skew)
	}
	return ""
}

// explain says what went wrong in an exchange with one of Azure's services, whose own
// error comes before err.
func explain(e exchange, service string, err error) why {
	if !e.reply {
		if e.err != nil {
			err = e.err
		}
		return explainError(e.host, err)
	}
	switch {
	case e.status == http.StatusTooManyRequests:
		return why{"it gets too many requests" + asks(e), "it is tried again by itself; spread what reads it, or use more than one vault"}
	case e.status >= 500:
		return why{fmt.Sprintf("it answered with status %d", e.status) + asks(e), "it is tried again by itself; see the state of the service if it goes on"}
	case e.status >= 300 && e.status < 400:
		return why{"it answered with a redirect, which is not followed", "see whether a proxy or a sign-in page is in between"}
	}
	return why{fmt.Sprintf("its answer is not one of %s (status %d%s)", service, e.status, contentType(e)), "see whether a proxy or a sign-in page is in between, and that the address is right"}
}

func asks(e exchange) string {
	if wait := e.retryAfter(); wait > 0 {
		return fmt.Sprintf(" and asks to be left alone for %s", wait)
	}
	return ""
}

// contentType names what an answer says it is, if that is harmless.
func contentType(e exchange) string {
	t, _, err := mime.ParseMediaType(e.Get("Content-Type"))
	if err != nil || len(t) > 60 {
		return ""
	}
	return ", " + t
}

// explainError says in words why there was no answer of a host.
func explainError(host string, err error) why {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		notFound *net.DNSError
		op       *net.OpError
	)
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return why{"the proxy could not be reached", "correct HTTPS_PROXY, or add the host to NO_PROXY"}
	case errors.As(err, &notFound) && notFound.IsNotFound:
		return why{fmt.Sprintf("there is no host %s in DNS", host), "correct the vault's name in the reference, or see to the DNS of the server if a private endpoint is used"}
	case errors.As(err, &notFound):
		return why{fmt.Sprintf("DNS did not say where %s is", host), "see to the DNS of the server"}
	case errors.As(err, &unknown):
		return why{"its certificate is signed by an authority that the server does not trust", "name the authority in ca-file, if it is a proxy's or a cloud's of your own; otherwise somebody is in between"}
	case errors.As(err, &name):
		return why{"its certificate is for another name", "see who answers at that address"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return why{fmt.Sprintf("its certificate is not valid at %s, which is the time by this machine's clock", time.Now().UTC().Format(time.RFC3339)), "set the clock right, if it is wrong; otherwise the certificate has to be renewed"}
	case errors.As(err, &invalid), errors.As(err, new(*tls.CertificateVerificationError)):
		return why{"its certificate is not valid", "see who answers at that address"}
	case errors.As(err, new(*challengeError)):
		return why{"what answered is not a key vault of this cloud, by what it wants a token for; no token was sent to it", "correct cloud in the server's Azure settings, or see who answers at that address"}
	case errors.As(err, new(*http.MaxBytesError)):
		return why{fmt.Sprintf("its answer is longer than %d bytes", maxResponse), "see whether a proxy or a sign-in page is in between"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return why{"the connection was refused", "see whether a firewall or a proxy is in between"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return why{"it did not answer in time", "see whether it, or the network to it, is slow"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return why{"the connection was cut", "it is tried again by itself; see to the network if it goes on"}
	}
	return why{"there was no usable answer", "check that it exists and can be reached"}
}

// again reports whether a request is worth sending again.
func again(resp *http.Response, err error) bool {
	if err != nil {
		dns, ok := errors.AsType[*net.DNSError](err)
		switch {
		case ok && dns.IsNotFound, errors.As(err, new(*tls.CertificateVerificationError)),
			errors.As(err, new(*challengeError)), errors.As(err, new(*http.MaxBytesError)):
			return false
		}
		return true
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// shown returns what of an error without an answer can be shown in the log.
func shown(err error) error {
	if err == nil {
		return errors.New("no answer that can be used")
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("the answer is longer than %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e
	}
	return fmt.Errorf("no answer that can be read (%T)", err)
}
