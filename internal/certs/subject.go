package certs

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// attributeTypes are the names that subjects are written with: those of RFC 4514
// and the ones that Microsoft's programs add.
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SN": {2, 5, 4, 4}, "SURNAME": {2, 5, 4, 4}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7},
	"S": {2, 5, 4, 8}, "ST": {2, 5, 4, 8}, "STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "T": {2, 5, 4, 12}, "TITLE": {2, 5, 4, 12},
	"POSTALCODE": {2, 5, 4, 17}, "G": {2, 5, 4, 42}, "GN": {2, 5, 4, 42}, "GIVENNAME": {2, 5, 4, 42}, "I": {2, 5, 4, 43}, "INITIALS": {2, 5, 4, 43},
	"DNQUALIFIER": {2, 5, 4, 46}, "UID": {0, 9, 2342, 19200300, 100, 1, 1}, "DC": {0, 9, 2342, 19200300, 100, 1, 25},
	"E": {1, 2, 840, 113549, 1, 9, 1}, "EMAIL": {1, 2, 840, 113549, 1, 9, 1}, "EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
}

// ia5 are the attributes whose values are IA5 strings.
var ia5 = []asn1.ObjectIdentifier{attributeTypes["DC"], attributeTypes["E"]}

var errSubject = errors.New("must be a distinguished name such as CN=example.com, O=Example")

// ParseSubject returns a distinguished name, as RFC 4514 writes it, in DER. The
// most specific part comes first in the text and last in DER. White space around
// names and values and values in quotation marks are accepted.
func ParseSubject(s string) ([]byte, error) {
	var name pkix.RDNSequence
	for s = strings.TrimLeft(s, " "); s != ""; {
		var rdn pkix.RelativeDistinguishedNameSET
		for {
			a, rest, end, err := parseAttribute(s)
			if err != nil {
				return nil, err
			}
			rdn, s = append(rdn, a), rest
			if end != '+' {
				if end != 0 && strings.TrimSpace(s) == "" {
					return nil, errSubject
				}
				break
			}
		}
		name = append(name, rdn)
	}
	slices.Reverse(name)
	der, err := asn1.Marshal(name)
	if err != nil {
		return nil, errSubject
	}
	return der, nil
}

// names are how FormatSubject names types, by their object identifiers.
var names = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "E",
}

// FormatSubject returns a distinguished name in DER as the text that ParseSubject
// makes it of again, as far as types of strings allow.
func FormatSubject(der []byte) (string, error) {
	var name []asn1.RawValue // sets
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
		return "", errSubject
	}
	var parts []string
	for _, set := range slices.Backward(name) {
		var attributes []string
		for rest := set.Bytes; len(rest) > 0; {
			var a struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &a); err != nil {
				return "", errSubject
			}
			attributes = append(attributes, formatAttribute(a.Type, a.Value))
		}
		parts = append(parts, strings.Join(attributes, "+"))
	}
	return strings.Join(parts, ", "), nil
}

func formatAttribute(oid asn1.ObjectIdentifier, value asn1.RawValue) string {
	key := names[oid.String()]
	text := string(value.Bytes)
	isText := value.Class == asn1.ClassUniversal && slices.Contains([]int{asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String}, value.Tag)
	if key == "" || !isText || text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		if key == "" {
			key = oid.String()
		}
		return key + "=#" + hex.EncodeToString(value.FullBytes)
	}
	var b strings.Builder
	for i, r := range text {
		if strings.ContainsRune(`,+"\<>;`, r) || i == 0 && (r == '#' || r == ' ') || i == len(text)-1 && r == ' ' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return key + "=" + b.String()
}

// parseAttribute reads one type=value of a name. end is what comes after it: ','
// or ';' before another part, '+' before another of the same part, or 0.
func parseAttribute(s string) (a pkix.AttributeTypeAndValue, rest string, end byte, err error) {
	key, s, ok := strings.Cut(s, "=")
	key = strings.ToUpper(strings.TrimSpace(key))
	a.Type = attributeTypes[key]
	if a.Type == nil {
		a.Type = dottedOID(strings.TrimPrefix(key, "OID."))
	}
	if !ok || a.Type == nil {
		return a, "", 0, errSubject
	}
	value, rest, end, err := parseValue(strings.TrimLeft(s, " "))
	if err != nil {
		return a, "", 0, err
	}
	if text, ok := strings.CutPrefix(value, "#"); ok && !strings.HasPrefix(strings.TrimLeft(s, " "), `\`) && !strings.HasPrefix(strings.TrimLeft(s, " "), `"`) {
		der, err := hex.DecodeString(text)
		var raw asn1.RawValue
		if tail, derErr := asn1.Unmarshal(der, &raw); err != nil || derErr != nil || len(tail) > 0 {
			return a, "", 0, errSubject
		}
		a.Value = raw
		return a, rest, end, nil
	}
	if value == "" {
		return a, "", 0, errSubject
	}
	a.Value = value
	if slices.ContainsFunc(ia5, a.Type.Equal) {
		if strings.ContainsFunc(value, func(r rune) bool { return r > 0x7f }) {
			return a, "", 0, errSubject
		}
		a.Value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}
	}
	return a, rest, end, nil
}

// dottedOID returns an object identifier, or nil if s is none.
func dottedOID(s string) asn1.ObjectIdentifier {
	if strings.Trim(s, "0123456789.") != "" || len(s) > 100 {
		return nil
	}
	oid := parseOID(s)
	if _, err := asn1.Marshal(oid); err != nil {
		return nil
	}
	return oid
}

// parseValue reads a value up to the end of its part.
func parseValue(s string) (value, rest string, end byte, err error) {
	var b []byte
	kept := 0 // up to where spaces at the end are meant
	quoted := strings.HasPrefix(s, `"`)
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i+2 < len(s) {
				if pair, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
					b, i = append(b, pair[0]), i+2
					kept = len(b)
					continue
				}
			}
			if i+1 == len(s) {
				return "", "", 0, errSubject
			}
			i++
			b = append(b, s[i])
			kept = len(b)
		case quoted && c == '"':
			after := strings.TrimLeft(s[i+1:], " ")
			if after == "" {
				return string(b), "", 0, nil
			}
			if !strings.ContainsRune(",;+", rune(after[0])) {
				return "", "", 0, errSubject
			}
			return string(b), after[1:], after[0], nil
		case !quoted && (c == ',' || c == ';' || c == '+'):
			return string(trimEnd(b, kept)), s[i+1:], c, nil
		case !quoted && c == '"':
			return "", "", 0, errSubject
		default:
			b = append(b, c)
		}
	}
	if quoted {
		return "", "", 0, errSubject
	}
	return string(trimEnd(b, kept)), "", 0, nil
}

// trimEnd cuts spaces off the end of b, but not before kept.
func trimEnd(b []byte, kept int) []byte {
	for len(b) > kept && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}
