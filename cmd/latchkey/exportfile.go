package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/fsync"
	"latchkey.dev/latchkey"
)

// exportTail is how much of the end of a file is looked at before an export goes
// on. A crash leaves at most one page undecided, which is well below.
const exportTail = 16 << 20

// An exportFile is a file of JSON lines. What Write has returned for is on disk.
type exportFile struct {
	f    *os.File
	size int64 // of the complete lines
}

// openExport opens a file to go on with, or makes it, and returns the id of its
// last entry, "" if it has none. Only one export at a time uses a file. What is
// no file of an export is refused, and stays as it is, as is one with an entry for
// which chose returns an error.
func openExport(path string, chose func(latchkey.AuditEvent) error) (_ *exportFile, last latchkey.AuditID, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("open the file to export to: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", cli.Hint(fmt.Errorf("%s is not a regular file", path), "latchkey audit export, without --output")
	}
	if err := lockFile(f); err != nil {
		return nil, "", fmt.Errorf("another export uses %s: %w", path, err)
	}
	if info, err = f.Stat(); err != nil {
		return nil, "", err
	}
	size, last, err := completeLines(f, info.Size(), chose)
	if _, ok := errors.AsType[cli.UsageError](err); ok {
		return nil, "", cli.Hint(fmt.Errorf("%s: %w", path, err), "the flags that the file was made with, or another file for --output")
	}
	if err != nil {
		return nil, "", cli.Hint(fmt.Errorf("%s: %w", path, err), "another file for --output")
	}
	if size < info.Size() {
		if err := f.Truncate(size); err != nil {
			return nil, "", fmt.Errorf("remove the line that was cut off: %w", err)
		}
	}
	if _, err := f.Seek(size, io.SeekStart); err != nil {
		return nil, "", err
	}
	// Its name is to survive a crash as well.
	if err := fsync.Dir(filepath.Dir(path)); err != nil {
		return nil, "", err
	}
	return &exportFile{f, size}, last, nil
}

var errNoExport = errors.New("it holds something else than an export of the audit log")

// completeLines returns the size of the complete lines of a file of the given
// size, and the id of the last one, once chose has seen those near the end. Where
// a line there is no entry, a crash tore it, and what follows it does not count.
func completeLines(f io.ReaderAt, size int64, chose func(latchkey.AuditEvent) error) (int64, latchkey.AuditID, error) {
	const mark = `{"id":"aud_`
	head := make([]byte, min(size, int64(len(mark))))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return 0, "", err
	}
	if string(head) != mark[:len(head)] {
		return 0, "", errNoExport
	}
	start := max(0, size-exportTail)
	tail := make([]byte, size-start)
	if _, err := f.ReadAt(tail, start); err != nil && err != io.EOF {
		return 0, "", err
	}
	good, last := int64(0), latchkey.AuditID("")
	if start > 0 {
		// The line that the tail begins in is not looked at.
		i := bytes.IndexByte(tail, '\n')
		if i < 0 {
			return 0, "", errNoExport
		}
		good = int64(i) + 1
	}
	for {
		i := bytes.IndexByte(tail[good:], '\n')
		if i < 0 {
			break
		}
		var entry latchkey.AuditEvent
		if json.Unmarshal(tail[good:good+int64(i)], &entry) != nil || !latchkey.HasPrefix(string(entry.ID), "aud") {
			break
		}
		if err := chose(entry); err != nil {
			return 0, "", err
		}
		good, last = good+int64(i)+1, entry.ID
	}
	if start > 0 && last == "" {
		return 0, "", errNoExport
	}
	return start + good, last, nil
}

// Write appends whole lines and returns when they are on disk. What it could not
// write whole it takes back, as well as it can.
func (x *exportFile) Write(lines []byte) (int, error) {
	n, err := x.f.Write(lines)
	if err == nil {
		err = x.f.Sync()
	}
	if err != nil {
		_, seekErr := x.f.Seek(x.size, io.SeekStart)
		return n, errors.Join(err, x.f.Truncate(x.size), seekErr)
	}
	x.size += int64(n)
	return n, nil
}

// Close closes the file.
func (x *exportFile) Close() error { return x.f.Close() }
