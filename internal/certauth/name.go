package certauth

import (
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
	// oidUPN is the type of the otherName in which Microsoft keeps a user principal
	// name; it is a UTF8String.
	oidUPN = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

const (
	maxNames = 100  // of one kind in a certificate
	maxName  = 1024 // bytes of one
)

// UPNs returns the user principal names in the subject alternative names of a
// certificate, which crypto/x509 passes over.
func UPNs(cert *x509.Certificate) ([]string, error) {
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSAN) })
	if i < 0 {
		return nil, nil
	}
	return parseUPNs(cert.Extensions[i].Value)
}

// parseUPNs reads the UPNs in the value of a subject alternative name extension
// (RFC 5280, section 4.2.1.6): otherName is [0] { type-id, value [0] EXPLICIT }.
func parseUPNs(san []byte) (names []string, err error) {
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(san, &seq); err != nil || len(rest) > 0 || seq.Tag != asn1.TagSequence || !seq.IsCompound || seq.Class != asn1.ClassUniversal {
		return nil, errors.New("the subject alternative names cannot be read")
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return nil, errors.New("the subject alternative names cannot be read")
		}
		if name.Class != asn1.ClassContextSpecific || name.Tag != 0 || !name.IsCompound {
			continue
		}
		var kind asn1.ObjectIdentifier
		wrapped, err := asn1.Unmarshal(name.Bytes, &kind)
		if err != nil || !kind.Equal(oidUPN) {
			continue // of another kind
		}
		var outer, text asn1.RawValue
		if rest, err := asn1.Unmarshal(wrapped, &outer); err != nil || len(rest) > 0 || outer.Class != asn1.ClassContextSpecific || outer.Tag != 0 || !outer.IsCompound {
			return nil, errors.New("a user principal name in the certificate cannot be read")
		}
		rest, err := asn1.Unmarshal(outer.Bytes, &text)
		if err != nil || len(rest) > 0 || text.Class != asn1.ClassUniversal || text.Tag != asn1.TagUTF8String || text.IsCompound ||
			!utf8.Valid(text.Bytes) || len(text.Bytes) > maxName || len(names) == maxNames {
			return nil, errors.New("a user principal name in the certificate cannot be read")
		}
		names = append(names, string(text.Bytes))
	}
	return names, nil
}

// dnNames are how attributes of names are written in certificateUserIds.
var dnNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "S", "2.5.4.9": "STREET",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "T", "2.5.4.4": "SN", "2.5.4.42": "G",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "E",
}

// DN returns a name as certificateUserIds has it: in the order of the
// certificate, the greatest part first, such as DC=com,DC=contoso,CN=bot.
func DN(raw []byte) string {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 {
		return ""
	}
	var parts []string
	for _, set := range seq {
		for _, a := range set {
			name, ok := dnNames[a.Type.String()]
			if !ok {
				name = "OID." + a.Type.String()
			}
			parts = append(parts, name+"="+escapeDN(fmt.Sprint(a.Value)))
		}
	}
	return strings.Join(parts, ",")
}

// escapeDN quotes a value that would not read back.
func escapeDN(s string) string {
	if !strings.ContainsAny(s, ",+=\"\n<>#;") && strings.TrimSpace(s) == s {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// serial returns the serial number as certificateUserIds has it: its bytes in
// reverse, in hexadecimal.
func serial(cert *x509.Certificate) string {
	b := cert.SerialNumber.Bytes()
	slices.Reverse(b)
	return hex.EncodeToString(b)
}

// thumbprint returns the SHA-1 hash by which certificates are known in Azure.
func thumbprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
