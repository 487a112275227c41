package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"latchkey.dev/internal/db"
)

// A Writer writes the text of a backup. It keeps one row in memory.
type Writer struct {
	to    io.Writer
	sum   hash.Hash
	buf   bytes.Buffer
	table *db.Table // that is being written
	rows  int64     // of table
	total Total
}

// NewWriter writes the header; its format is filled in. Whoever calls it calls
// Close at the end, and closes to.
func NewWriter(to io.Writer, h Header) (*Writer, error) {
	w := &Writer{to: to, sum: sha256.New()}
	h.Format = Format
	return w, w.json(h)
}

// Table begins a table.
func (w *Writer) Table(t db.Table) error {
	if err := w.endTable(); err != nil {
		return err
	}
	w.table, w.rows = &t, 0
	return w.json(line{Table: &t})
}

// Row adds a row to the table that was begun last: a value for each column.
func (w *Writer) Row(values []any) error {
	if w.table == nil || len(values) != len(w.table.Columns) {
		return errors.New("a row of a backup must have a value for each column of its table")
	}
	w.buf.Reset()
	w.buf.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			w.buf.WriteByte(',')
		}
		if err := appendValue(&w.buf, v); err != nil {
			return err
		}
	}
	w.buf.WriteByte(']')
	w.rows++
	return w.line()
}

func (w *Writer) endTable() error {
	if w.table == nil {
		return nil
	}
	w.total.Tables++
	w.total.Rows += w.rows
	name, rows := w.table.Name, w.rows
	w.table = nil
	return w.json(line{End: &name, Rows: &rows})
}

// Close ends the backup and says what is in it. A backup without it is not
// whole.
func (w *Writer) Close() (Total, error) {
	if err := w.endTable(); err != nil {
		return w.total, err
	}
	return w.total, w.json(line{Tables: &w.total.Tables, Rows: &w.total.Rows, SHA256: hex.EncodeToString(w.sum.Sum(nil))})
}

func (w *Writer) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.buf.Reset()
	w.buf.Write(b)
	return w.line()
}

// line writes what is in buf.
func (w *Writer) line() error {
	w.buf.WriteByte('\n')
	if w.buf.Len() > maxLine {
		return fmt.Errorf("a row of table %s is larger than the %d bytes that a backup takes", w.table.Name, maxLine)
	}
	w.sum.Write(w.buf.Bytes())
	_, err := w.to.Write(w.buf.Bytes())
	return err
}
