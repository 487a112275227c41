package keyvault

import (
	"net"
	"net/url"
	"strings"
)

// A path is the decoded path of a request: which kind of object, which object,
// and which version or operation of it.
type path struct {
	kind string // in lower case: "secrets", "deletedsecrets"
	name string
	rest string // a version, an operation such as "versions", or the name of an issuer
	more string // in lower case: what to do with what rest names, such as "merge"
}

// maxSegment bounds one segment of a path. Names have 127 characters at most.
const maxSegment = 255

// parsePath reads the path of a request as it was sent. Empty segments count as
// absent (AKV: //secrets/x is /secrets/x, and /secrets/x/ names the newest
// version). It reports false for paths that no operation can have.
func parsePath(escaped string) (p path, ok bool) {
	var segments []string
	for s := range strings.SplitSeq(escaped, "/") {
		if s == "" {
			continue
		}
		// Decoding comes after splitting, so that %2F cannot make a segment.
		s, err := url.PathUnescape(s)
		if err != nil || len(s) > maxSegment || len(segments) == 4 {
			return path{}, false
		}
		segments = append(segments, s)
	}
	if len(segments) == 0 {
		return path{}, false
	}
	segments = append(segments, "", "", "")
	return path{strings.ToLower(segments[0]), segments[1], segments[2], strings.ToLower(segments[3])}, true
}

// is reports whether the path ends in an operation on an object. Operations do
// not depend on case.
func (p path) is(operation string) bool { return p.more == "" && strings.EqualFold(p.rest, operation) }

// versionID returns a version in its one spelling, or false if s cannot be one
// (AKV: 32 hexadecimal digits, in either case).
func versionID(s string) (string, bool) {
	s = strings.ToLower(s)
	return s, len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// vaultOf returns the vault that a Host header names, or false if the host is
// not {vault}.{domain}. The result is one label in lower case.
func vaultOf(host, domain string) (string, bool) {
	name, ok := strings.CutSuffix(canonicalHost(host), "."+domain)
	return name, ok && name != "" && !strings.Contains(name, ".")
}

// canonicalHost returns a host in lower case, without the port of HTTPS.
func canonicalHost(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}

// networkInfo describes a client by its address as Key Vault does.
func networkInfo(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = ""
	}
	if strings.Contains(host, ":") {
		return "conn_type=Ipv6;addr=" + host + ";act_addr_fam=InterNetworkV6;"
	}
	return "conn_type=Ipv4;addr=" + host + ";act_addr_fam=InterNetwork;"
}

// parameter returns a parameter of a query whatever the case of its key.
func parameter(query url.Values, key string) string {
	if v := query.Get(key); v != "" {
		return v
	}
	for k, v := range query {
		if len(v) > 0 && strings.EqualFold(k, key) {
			return v[0]
		}
	}
	return ""
}
