package keyvault

import (
	"time"

	"latchkey.dev/latchkey"
)

// The types that clients see, with fields in the order of Key Vault's answers.

type attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"` // times are Unix seconds
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
}

// deletion says that something is deleted, until when it can be recovered, and
// where. It is empty for what is not deleted.
type deletion struct {
	RecoveryID         string `json:"recoveryId,omitempty"`
	DeletedDate        *int64 `json:"deletedDate,omitempty"`
	ScheduledPurgeDate *int64 `json:"scheduledPurgeDate,omitempty"`
}

// deletion returns that for something of a collection; deletedAt is nil when it is
// not deleted.
func (c *call) deletion(collection, name string, deletedAt, purgeAt *time.Time) deletion {
	if deletedAt == nil {
		return deletion{}
	}
	return deletion{c.base() + "/" + collection + "/" + name, unix(deletedAt), unix(purgeAt)}
}

// secretBundle is a secret, with its value or without, deleted or not.
type secretBundle struct {
	Value *string `json:"value,omitempty"`
	deletion
	ContentType     string            `json:"contentType,omitempty"`
	ID              string            `json:"id"`
	Managed         bool              `json:"managed,omitempty"`
	Attributes      attributes        `json:"attributes"`
	Tags            map[string]string `json:"tags,omitempty"`
	KeyID           string            `json:"kid,omitempty"`
	PreviousVersion string            `json:"previousVersion,omitempty"`
}

type list[T any] struct {
	Value    []T     `json:"value"`
	NextLink *string `json:"nextLink"`
}

// backup is what a backup is answered with, and what a restore is asked with.
type backup struct {
	Value string `json:"value"`
}

// secretAttributes are the attributes that a request may set.
type secretAttributes struct {
	Enabled   *bool  `json:"enabled"`
	NotBefore *int64 `json:"nbf"`
	Expires   *int64 `json:"exp"`
}

type secretSet struct {
	Value       *string           `json:"value"`
	ContentType string            `json:"contentType"`
	Attributes  secretAttributes  `json:"attributes"`
	Tags        map[string]string `json:"tags"`
}

type secretUpdate struct {
	ContentType *string            `json:"contentType"`
	Attributes  secretAttributes   `json:"attributes"`
	Tags        *map[string]string `json:"tags"`
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code       string      `json:"code"`
	Message    string      `json:"message"`
	InnerError *innerError `json:"innererror,omitempty"`
}

type innerError struct {
	Code string `json:"code"`
}

// bundle returns a secret for the wire, without its value. Versions are named
// where one is meant, and not in the lists of secrets.
func (c *call) bundle(s latchkey.VaultSecret, versioned bool) secretBundle {
	b := secretBundle{
		ContentType: s.ContentType,
		ID:          c.base() + "/secrets/" + s.Name,
		Attributes: attributes{
			Enabled: s.Enabled, NotBefore: unix(s.NotBefore), Expires: unix(s.Expires),
			Created: s.CreatedAt.Unix(), Updated: s.UpdatedAt.Unix(),
			RecoveryLevel: recoveryLevel(s.RetentionDays), RecoverableDays: s.RetentionDays,
		},
		Tags: s.Tags,
	}
	if versioned {
		b.ID += "/" + s.Version
	}
	if s.Managed {
		b.Managed = true
		if versioned {
			b.KeyID = c.base() + "/keys/" + s.Name + "/" + s.Version
		}
	}
	b.deletion = c.deletion("deletedsecrets", s.Name, s.DeletedAt, s.PurgeAt)
	return b
}

// recoveryLevel names what can happen to deleted secrets of a vault that keeps
// them for a number of days (AKV: 90 is the default, less is customized).
func recoveryLevel(days int) string {
	if days >= 7 && days < 90 {
		return "CustomizedRecoverable+Purgeable"
	}
	return "Recoverable+Purgeable"
}

func unix(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	return new(t.Unix())
}

// maxUnix is the end of the year 9999, the last that RFC 3339 can write.
const maxUnix = 253402300799

// instant returns a time of a request, or a fault if it is out of range.
func instant(field string, seconds *int64) (*time.Time, error) {
	if seconds == nil {
		return nil, nil
	}
	if *seconds < 0 || *seconds > maxUnix {
		return nil, badParameter("Property has invalid value\r\nattributes.%s must be a time in Unix seconds\r\n", field)
	}
	return new(time.Unix(*seconds, 0).UTC()), nil
}
