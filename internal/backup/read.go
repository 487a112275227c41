package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"strings"

	"latchkey.dev/internal/db"
)

// A Reader reads the text of a backup and checks it on the way. It keeps one row
// in memory.
//
//	for {
//		t, err := r.Table()    // io.EOF: the backup is whole
//		for {
//			row, err := r.Row() // io.EOF: the table is
//
// What was read counts only once Table has returned [io.EOF].
type Reader struct {
	from   *bufio.Reader
	sum    hash.Hash
	header Header
	seen   map[string]bool // names of tables
	table  *db.Table       // that is being read
	rows   int64           // of table
	total  Total
}

// NewReader reads the header. It refuses a format that it does not know.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, 64<<10), sum: sha256.New(), seen: map[string]bool{}}
	b, err := r.line()
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(b, &r.header) != nil || !strings.HasPrefix(r.header.Format, "latchkey-backup-") {
		return nil, damaged("it does not begin as one")
	}
	if r.header.Format != Format {
		return nil, errors.New("the backup has the format " + printable(r.header.Format) + ", this program reads " + Format + ": use a newer program")
	}
	return r, nil
}

// printable keeps what a file claims from a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 40)]
}

// Header returns what the backup says that it is of.
func (r *Reader) Header() Header { return r.header }

// Total returns what has been read so far.
func (r *Reader) Total() Total { return r.total }

// Table returns the next table. It returns [io.EOF] after the last one, if the
// backup is whole: every count and the hash are right, and nothing follows.
func (r *Reader) Table() (db.Table, error) {
	if r.table != nil {
		return db.Table{}, errors.New("the rows of a table of a backup must be read before the next one")
	}
	before := hex.EncodeToString(r.sum.Sum(nil))
	b, err := r.line()
	if err != nil {
		return db.Table{}, err
	}
	var l line
	if err := strict(b, &l); err != nil {
		return db.Table{}, damaged("a line is neither a table nor the end")
	}
	if l.Table == nil {
		return db.Table{}, r.end(l, before)
	}
	t := *l.Table
	if r.seen[t.Name] || len(r.seen) == maxTables || len(t.Columns) == 0 || len(t.Columns) > maxColumns {
		return db.Table{}, damaged("a table is there twice, or has no columns or too many")
	}
	r.seen[t.Name], r.table, r.rows = true, &t, 0
	return t, nil
}

// end checks the last line.
func (r *Reader) end(l line, sum string) error {
	if l.Tables == nil || l.Rows == nil || *l.Tables != r.total.Tables || *l.Rows != r.total.Rows {
		return damaged("it has %d tables and %d rows, which is not what its end says", r.total.Tables, r.total.Rows)
	}
	if l.SHA256 != sum {
		return damaged("its SHA-256 is not what its end says")
	}
	switch _, err := r.from.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return damaged("something follows its end")
	default:
		return readError(err)
	}
}

// Row returns the next row of the table: a value for each column, of the
// column's type or nil. It returns [io.EOF] after the last one.
func (r *Reader) Row() ([]any, error) {
	if r.table == nil {
		return nil, errors.New("no table of the backup is being read")
	}
	b, err := r.line()
	if err != nil {
		return nil, err
	}
	if b[0] != '[' {
		var l line
		if strict(b, &l) != nil || l.End == nil || l.Rows == nil || *l.End != r.table.Name || *l.Rows != r.rows {
			return nil, damaged("table %s does not end with its %d rows", printable(r.table.Name), r.rows)
		}
		r.total.Tables++
		r.total.Rows += r.rows
		r.table = nil
		return nil, io.EOF
	}
	var raw []json.RawMessage
	if json.Unmarshal(b, &raw) != nil || len(raw) != len(r.table.Columns) {
		return nil, damaged("a row of table %s does not have a value for each column", printable(r.table.Name))
	}
	row := make([]any, len(raw))
	for i, c := range r.table.Columns {
		if row[i], err = parseValue(c, raw[i]); err != nil {
			return nil, err
		}
	}
	r.rows++
	return row, nil
}

// line returns the next line, which is not empty, and counts it in the hash.
func (r *Reader) line() ([]byte, error) {
	var long []byte
	for {
		b, err := r.from.ReadSlice('\n')
		switch {
		case err == nil && long == nil && len(b) > 1:
			r.sum.Write(b)
			return b, nil
		case len(long)+len(b) > maxLine:
			return nil, damaged("a line is longer than %d bytes", maxLine)
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			long = append(long, b...)
			if err != nil {
				continue
			}
			if len(long) < 2 {
				return nil, damaged("a line is empty")
			}
			r.sum.Write(long)
			return long, nil
		case err == io.EOF:
			return nil, damaged("it ends too early")
		default:
			return nil, readError(err)
		}
	}
}

// readError explains an error of what the text comes from.
func readError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends too early")
	}
	return err
}

// strict reads a JSON object that has no other fields than v.
func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows")
	}
	return nil
}
