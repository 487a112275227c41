package backup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"latchkey.dev/internal/db"
)

// Format is what a header names this format by.
const Format = "latchkey-backup-1"

const (
	maxLine    = 16 << 20 // a row: well over what the limits of its fields add up to
	maxTables  = 1000
	maxColumns = 200
)

// A Header says what a backup is of.
type Header struct {
	Format     string    `json:"format"`
	Program    string    `json:"program"` // version of the program that wrote it
	Engine     string    `json:"engine"`  // of the database
	Schema     int64     `json:"schema"`  // version of the database's schema
	Tenant     string    `json:"tenant"`
	TakenAt    time.Time `json:"takenAt"`
	TakenBy    string    `json:"takenBy"`    // account of the operating system
	MasterKeys []string  `json:"masterKeys"` // ids of the master keys that open what is sealed
}

// A Total counts what is in a backup.
type Total struct {
	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
}

// A line is any line but a row.
type line struct {
	*db.Table         // begins a table
	End       *string `json:"end,omitempty"` // ends the table of this name
	Rows      *int64  `json:"rows,omitempty"`
	Tables    *int    `json:"tables,omitempty"` // with Rows and SHA256: ends the backup
	SHA256    string  `json:"sha256,omitempty"`
}

// errDamaged is what every error about the content of a backup wraps.
var errDamaged = errors.New("the backup is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// appendValue appends a value as JSON.
func appendValue(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case []byte:
		b.WriteByte('"')
		b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), v))
		b.WriteByte('"')
	case string, int64, bool:
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // the newline
	default:
		return fmt.Errorf("a value of type %T has no place in a backup", v)
	}
	return nil
}

// parseValue reads what appendValue wrote for a column.
func parseValue(c db.Column, raw json.RawMessage) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	wrong := func() (any, error) { return nil, damaged("a value of column %s is not of type %s", c.Name, c.Type) }
	switch c.Type {
	case db.TypeText:
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return wrong()
		}
		return s, nil
	case db.TypeInteger:
		var n int64
		if json.Unmarshal(raw, &n) != nil {
			return wrong()
		}
		return n, nil
	case db.TypeBoolean:
		var v bool
		if json.Unmarshal(raw, &v) != nil {
			return wrong()
		}
		return v, nil
	case db.TypeBytes:
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return wrong()
		}
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil {
			return wrong()
		}
		return b, nil
	}
	return nil, damaged("column %s has the unknown type %q", c.Name, c.Type)
}
