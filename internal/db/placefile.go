package db

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"latchkey.dev/internal/fsync"
)

// placeSuffix is what the name of the file beside a SQLite database ends with.
const placeSuffix = ".place"

// maxPlaceFile bounds what is read of the file, in bytes.
const maxPlaceFile = 4 << 10

// A placeFile is what is in the file beside a SQLite database. The file is
// replaced, never written in place: that it names itself shows whether it is the
// one that a server made.
type placeFile struct {
	Place  string `json:"place"`            // as in the database
	Newest string `json:"newest,omitempty"` // last entry of the audit log that the database has for certain
	Self   fileID `json:"self"`
}

// A foundPlace is a placeFile as it is found.
type foundPlace struct {
	placeFile
	actual fileID
	fault  string // why it is of no use, or ""
}

// A fileID tells a file from a copy of it. Numbers of devices change when a
// system starts or a volume is mounted and are not in it.
type fileID struct {
	Inode uint64 `json:"inode,omitempty"`
	Born  int64  `json:"born,omitempty"` // Unix time in nanoseconds; 0 if the file system does not know it
}

// same reports whether two are of the same file. The time of birth decides where
// it is known: programs cannot set it, and some file systems number their files
// anew when they are mounted.
func (f fileID) same(g fileID) bool {
	if f.Born != 0 && g.Born != 0 {
		return f.Born == g.Born
	}
	return f.Inode == g.Inode
}

func (f fileID) String() string {
	s := "inode " + strconv.FormatUint(f.Inode, 10)
	if f.Born != 0 {
		s += ", made at " + time.Unix(0, f.Born).UTC().Format(time.RFC3339Nano)
	}
	return s
}

// A place is what a server keeps about the place that it has taken.
type place struct {
	mu     sync.Mutex // guards what follows, and the writing of the file
	id     string     // "" until it is taken
	newest string     // what the file has
}

func (p *place) take(id, newest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.newest = id, newest
}

// readPlaceFile reads the file beside a database.
func readPlaceFile(database string) (p foundPlace, err error) {
	f, err := os.Open(database + placeSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		p.fault = "the file " + filepath.Base(database) + placeSuffix + " beside the database is missing"
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("open the file beside the database: %w", err)
	}
	defer f.Close() // it was only read
	if p.actual, err = identify(f); err != nil {
		return p, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPlaceFile+1))
	if err != nil {
		return p, fmt.Errorf("read the file beside the database: %w", err)
	}
	if p.placeFile, err = parsePlaceFile(b); err != nil {
		p.fault = "the file " + filepath.Base(f.Name()) + " beside the database is damaged"
	}
	return p, nil
}

func parsePlaceFile(b []byte) (p placeFile, err error) {
	if len(b) > maxPlaceFile {
		return p, errors.New("too long")
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return placeFile{}, err
	}
	if p.Place == "" {
		return placeFile{}, errors.New("no place")
	}
	return p, nil
}

// writePlaceFile replaces the file beside a database, durably.
func writePlaceFile(database string, p placeFile) (err error) {
	path := database + placeSuffix
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) { // what a crash left of an earlier one
		return fmt.Errorf("write the file beside the database: %w", err)
	}
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the file beside the database: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(partial) // it may have its name already, and the next one removes it
			err = fmt.Errorf("write the file beside the database: %w", err)
		}
	}()
	if err := errors.Join(p.writeTo(f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(path))
}

// writeTo writes p with what the file is into it.
func (p placeFile) writeTo(f *os.File) (err error) {
	if p.Self, err = identify(f); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		return err
	}
	return f.Sync()
}
