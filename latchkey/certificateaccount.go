package latchkey

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Limits of the attribute certificateUserIds in Microsoft Entra.
const (
	maxUserIDs = 5
	maxUserID  = 1024 // characters of one
)

// A CertificateAccount is what the tenant's directory says of a user, as far as
// certificates are compared with it. An admin says it here as it is there; of a user of
// whom nobody has said anything nothing but the user principal name is known.
type CertificateAccount struct {
	UPN                string      `json:"userPrincipalName" doc:"by which the user signs in"`
	OnPremisesUPN      string      `json:"onPremisesUserPrincipalName,omitempty" doc:"absent if the user has none"`
	CertificateUserIDs []string    `json:"certificateUserIds" nullable:"false" doc:"such as X509:<SKI>0123456789abcdef"`
	UpdatedBy          PrincipalID `json:"updatedBy"`
	UpdatedAt          time.Time   `json:"updatedAt"`
}

// A CertificateAccountSet is what is said of a user. It replaces what was said before.
type CertificateAccountSet struct {
	OnPremisesUPN      string   `json:"onPremisesUserPrincipalName,omitempty"`
	CertificateUserIDs []string `json:"certificateUserIds,omitempty" nullable:"false" doc:"at most five, each at most 1024 characters and one user's only; what is before the value, such as X509:<SKI>, depends on case"`
}

// Validate returns every fault.
func (a *CertificateAccountSet) Validate() error {
	var f faults
	if a.OnPremisesUPN != "" {
		f.check("onPremisesUserPrincipalName", CheckUPN(a.OnPremisesUPN))
	}
	if len(a.CertificateUserIDs) > maxUserIDs {
		f.add("certificateUserIds", "must be at most %d, which is what a user can have in Microsoft Entra", maxUserIDs)
		return f.err()
	}
	for i, id := range a.CertificateUserIDs {
		_, _, ok := CutUserID(id)
		switch {
		case checkText(id, maxUserID) != nil || strings.ContainsAny(id, "\r\n\t"):
			f.add("certificateUserIds", "must each be at most %d characters in one line", maxUserID)
		case !ok:
			f.add("certificateUserIds", "must each be X509: with <PN>, <RFC822>, <S>, <SKI>, <SHA1-PUKEY>, <I>…<S> or <I>…<SR>, in these letters, and a value, such as X509:<SKI>0123456789abcdef")
		case slices.Contains(a.CertificateUserIDs[:i], id):
			f.add("certificateUserIds", "must not have the same one twice")
		}
	}
	return f.err()
}

// userIDForms are how values of certificateUserIds begin, by field.
var userIDForms = []struct {
	field  CertificateField
	prefix string
}{
	{FieldPrincipalName, "X509:<PN>"}, {FieldRFC822Name, "X509:<RFC822>"}, {FieldSubject, "X509:<S>"},
	{FieldSKI, "X509:<SKI>"}, {FieldSHA1PublicKey, "X509:<SHA1-PUKEY>"},
}

// CutUserID splits a value of certificateUserIds into the field that it is compared
// with and the rest, which for fields with an issuer has the issuer first. ok is false
// if it is none. Entra: what is before the value depends on case.
func CutUserID(id string) (f CertificateField, rest string, ok bool) {
	if rest, ok := strings.CutPrefix(id, "X509:<I>"); ok {
		// The serial number comes last and holds no bracket; a name may hold one.
		if issuer, serial, ok := cutLast(rest, "<SR>"); ok && issuer != "" && serial != "" && !strings.ContainsAny(serial, "<>") {
			return FieldIssuerAndSerialNumber, rest, true
		}
		issuer, subject, ok := strings.Cut(rest, "<S>")
		return FieldIssuerAndSubject, rest, ok && issuer != "" && subject != ""
	}
	for _, form := range userIDForms {
		if rest, ok := strings.CutPrefix(id, form.prefix); ok {
			return form.field, rest, rest != ""
		}
	}
	return "", "", false
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

var errUPN = errors.New("must be a user principal name such as bot@contoso.example")

// CheckUPN returns what is wrong with a user principal name.
func CheckUPN(s string) error {
	if err := CheckName(s); err != nil {
		return err
	}
	if name, domain, ok := strings.Cut(s, "@"); !ok || name == "" || domain == "" || strings.ContainsAny(s, "/\\ ") || strings.Contains(domain, "@") {
		return errUPN
	}
	return nil
}
