package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
)

var things = db.Table{Name: "things", Columns: []db.Column{
	{Name: "a", Type: db.TypeText}, {Name: "b", Type: db.TypeInteger}, {Name: "c", Type: db.TypeBoolean}, {Name: "d", Type: db.TypeBytes},
}}

var thingRows = [][]any{
	{"", int64(0), false, []byte{}},
	{"<\"ü\n\u2028\x01>", int64(-1 << 63), true, []byte{0, 255, 10}},
	{nil, nil, nil, nil},
	{strings.Repeat("long ", 50_000), int64(1<<63 - 1), true, bytes.Repeat([]byte{7}, 100_000)},
}

// sample returns the text of a backup of two tables.
func sample(t testing.TB, rows ...[]any) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{Program: "test", Schema: 1, TakenAt: time.UnixMilli(1).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Table(things); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if err := w.Row(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Table(db.Table{Name: "none", Columns: things.Columns[:1]}); err != nil {
		t.Fatal(err)
	}
	total, err := w.Close()
	if err != nil || total != (Total{2, int64(len(rows))}) {
		t.Fatalf("Close = %+v, %v; want 2 tables and %d rows", total, err, len(rows))
	}
	return b.Bytes()
}

// readAll reads a backup to its end.
func readAll(from io.Reader) (rows [][]any, err error) {
	r, err := NewReader(from)
	if err != nil {
		return nil, err
	}
	for {
		_, err := r.Table()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		for {
			row, err := r.Row()
			if err == io.EOF {
				break
			}
			if err != nil {
				return rows, err
			}
			rows = append(rows, row)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	text := sample(t, thingRows...)
	got, err := readAll(&trickle{bytes.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(thingRows, got); diff != "" {
		t.Errorf("rows (-written +read):\n%s", diff)
	}
	r, err := NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	table, err := r.Table()
	if err != nil || !cmp.Equal(table, things) || r.Header().Format != Format || r.Header().Program != "test" {
		t.Errorf("Table = %+v, %v of %+v", table, err, r.Header())
	}
	if _, err := r.Table(); err == nil {
		t.Error("Table before the rows of the one before: no error")
	}
}

// A trickle gives a few bytes at a time, as a network does.
type trickle struct{ from io.Reader }

func (r *trickle) Read(b []byte) (int, error) { return r.from.Read(b[:min(len(b), 7)]) }

// TestDamage cuts a backup off after each line and elsewhere, leaves out and
// repeats each line, changes bytes, and adds something: nothing passes.
func TestDamage(t *testing.T) {
	text := sample(t, thingRows[:3]...)
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	var bad [][]byte
	for i := range lines {
		bad = append(bad,
			bytes.Join(lines[:i], nil),
			bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil),
			bytes.Join(append(append([][]byte{}, lines[:i+1]...), lines[i:]...), nil))
	}
	for _, at := range []int{5, 60, len(text) / 2, len(text) - 70, len(text) - 2} {
		changed := bytes.Clone(text)
		changed[at] ^= 1
		bad = append(bad, changed, text[:at])
	}
	bad = append(bad, nil, append(bytes.Clone(text), '\n'), append(bytes.Clone(text), text...), []byte("{}\n"), []byte("\n"))
	for i, b := range bad {
		if _, err := readAll(bytes.NewReader(b)); err == nil {
			t.Errorf("damage %d passes: %.80q …", i, b)
		} else if !errors.Is(err, errDamaged) && !strings.Contains(err.Error(), "newer program") {
			t.Errorf("damage %d: %v; want that it is damaged", i, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, Header{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Row([]any{"x"}); err == nil {
		t.Error("Row before a table: no error")
	}
	if err := w.Table(things); err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]any{{"x"}, {"x", int64(1), true, 1.5}, {strings.Repeat("x", maxLine), nil, nil, nil}} {
		if err := w.Row(row); err == nil {
			t.Errorf("Row of %d values that do not fit: no error", len(row))
		}
	}
}

// TestBounds tests that no line is read that is longer than any is written.
func TestBounds(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"format":"`), &zeros{})
	if _, err := NewReader(endless); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless line: %v; want a limit", err)
	}
}

type zeros struct{}

func (*zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func encrypted(t *testing.T, text []byte, to ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := Encrypt(&b, to...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEncryption(t *testing.T) {
	file, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := Identities(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := Recipients(strings.NewReader("# two\n" + recipient + "\n\n" + other.Recipient().String() + "\n"))
	if err != nil || len(to) != 2 {
		t.Fatalf("Recipients = %d, %v", len(to), err)
	}
	text := sample(t, thingRows...)
	sealed := encrypted(t, text, to...)
	for _, clear := range []string{"things", "latchkey-backup", "long long"} {
		if bytes.Contains(sealed, []byte(clear)) {
			t.Errorf("the file shows %q", clear)
		}
	}
	for _, id := range []age.Identity{ids[0], other} {
		from, err := Decrypt(bytes.NewReader(sealed), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(from); err != nil {
			t.Error(err)
		}
	}
	if _, err := Encrypt(io.Discard); err == nil {
		t.Error("Encrypt to nobody: no error")
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(bytes.NewReader(sealed), stranger); err == nil || !strings.Contains(err.Error(), "other recipients") {
		t.Errorf("Decrypt with another identity: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("hello"), sealed[:100], sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0)} {
		from, err := Decrypt(bytes.NewReader(b), ids...)
		if err == nil {
			_, err = readAll(from)
		}
		if err == nil {
			t.Errorf("a file of %d bytes instead of %d passes", len(b), len(sealed))
		}
	}
}

func TestKeyFiles(t *testing.T) {
	file, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(strings.Split(file, "\n")[1])
	for _, bad := range []string{"", "# none\n", recipient, secret[:20], secret + "x", strings.Repeat(" ", maxKeys+1)} {
		if _, err := Identities(strings.NewReader(bad)); err == nil {
			t.Errorf("Identities of %d bytes: no error", len(bad))
		} else if strings.Contains(fmt.Sprint(err), secret[20:]) {
			t.Error("the error repeats the identity")
		}
	}
	for _, bad := range []string{"", secret, "age1", strings.Repeat("#\n", maxKeys)} {
		if _, err := Recipients(strings.NewReader(bad)); err == nil {
			t.Errorf("Recipients of %.10q: no error", bad)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample(f, thingRows[:3]...))
	f.Add([]byte(`{"format":"latchkey-backup-1"}` + "\n" + `{"table":"a","columns":[{"name":"b","type":"text"}]}` + "\n[null]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := readAll(bytes.NewReader(b))
		if err == nil && !bytes.HasSuffix(b, []byte("\n")) {
			t.Fatalf("%d rows of a backup without an end", len(rows))
		}
	})
}
