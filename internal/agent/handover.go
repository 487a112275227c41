package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// Names by which a flow finds its credentials.
const (
	envDescriptor = "LATCHKEY_CREDENTIALS_FD"
	envFile       = "LATCHKEY_CREDENTIALS_FILE"
	filePrefix    = "latchkey-credentials-"
)

// ownName returns what the names of a machine's files begin with in folders that
// agents of several machines share.
func ownName(prefix string, machine latchkey.MachineID) string {
	sum := sha256.Sum256([]byte(machine))
	return prefix + hex.EncodeToString(sum[:8]) + "-"
}

// A named is a released credential with its name.
type named struct {
	name string
	latchkey.CredentialValues
	expires time.Time        // by the server's clock
	now     func() time.Time // the server's clock
}

// A handout is what a flow is handed: the connection's credential, and those
// that the flow itself names.
type handout struct {
	connection named
	others     []named
}

// patterns returns what output is masked for.
func (h handout) patterns() [][]byte {
	var p [][]byte
	for _, n := range append([]named{h.connection}, h.others...) {
		p = append(p, maskPatterns(n.Password.Reveal())...)
	}
	return p
}

// expired reports whether a value must not be used any more.
func (h handout) expired() bool {
	return slices.ContainsFunc(append([]named{h.connection}, h.others...), func(n named) bool {
		return n.now != nil && !n.now().Before(n.expires)
	})
}

// check returns an error if two credentials would be handed over by one name.
func (h handout) check(how latchkey.Handover) error {
	seen := make(map[string]bool, len(h.others))
	for _, n := range h.others {
		name := n.name
		if how == latchkey.HandoverEnvironment {
			name = envName(name)
		}
		if seen[name] {
			return fmt.Errorf("the flow asks for two credentials that are both handed over as %s; rename one", name)
		}
		seen[name] = true
	}
	return nil
}

// encode returns the handout as the JSON that flows read.
func (h handout) encode() ([]byte, error) {
	type values struct {
		Name     string `json:"name"`
		Username string `json:"username"`
		Password string `json:"password"`
	}
	of := func(n named) values { return values{n.name, n.Username, n.Password.Reveal()} }
	others := make(map[string]values, len(h.others))
	for _, n := range h.others {
		others[n.name] = of(n)
	}
	return json.Marshal(struct {
		Connection  values            `json:"connection"`
		Credentials map[string]values `json:"credentials"`
	}{of(h.connection), others})
}

// A given is a handout on its way to a process. The zero value hands nothing.
type given struct {
	env    []string
	files  []*os.File // descriptors from 3 on; process.run closes them
	start  func()     // called once the process has started
	remove func() error
}

// hand prepares a handout. The caller calls remove when the process has ended.
func hand(how latchkey.Handover, h handout, a account, machine latchkey.MachineID) (given, error) {
	g := given{start: func() {}, remove: func() error { return nil }}
	switch how {
	case latchkey.HandoverNone:
		return g, nil
	case latchkey.HandoverEnvironment:
		g.env = h.environ()
		return g, nil
	}
	text, err := h.encode()
	if err != nil {
		return g, err
	}
	if how == latchkey.HandoverDescriptor {
		return handDescriptor(g, text)
	}
	return handFile(g, text, a, ownName(filePrefix, machine))
}

// handDescriptor hands the text on a pipe, which holds it no longer than until
// it is read. What does not fit the pipe is written while the flow reads.
func handDescriptor(g given, text []byte) (given, error) {
	if !canPassDescriptors {
		return g, errors.New("this system cannot hand over a descriptor; use the handover file or environment")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return g, err
	}
	done := make(chan struct{})
	started := false
	g.files = []*os.File{r}
	g.env = []string{envDescriptor + "=3"}
	g.start = func() {
		started = true
		go func() {
			defer close(done)
			// A flow that does not read, or ends before, is its own affair.
			_, _ = w.Write(text)
			clear(text)
			_ = w.Close()
		}()
	}
	g.remove = func() error {
		if !started {
			clear(text)
			return w.Close()
		}
		// Nothing of the flow reads any more, though something that is not known of
		// may hold the other end: what was not read yet is not written.
		_ = w.Close()
		<-done
		return nil
	}
	return g, nil
}

// handFile hands the text in a file in memory, readable by the flow's user only.
func handFile(g given, text []byte, a account, name string) (given, error) {
	defer clear(text)
	dir, err := memoryDir(a.other)
	if err != nil {
		return g, err
	}
	path := filepath.Join(dir, name+rand.Text())
	g.remove = func() error { return shred(path) }
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return g, err
	}
	if a.other {
		err = f.Chown(int(a.uid), int(a.gid))
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return g, errors.Join(err, shred(path))
	}
	g.env = []string{envFile + "=" + path}
	return g, nil
}

// maxShred bounds what is overwritten of a file: the flow owns it and may have
// made it larger than memory, but not its beginning, where the values were.
const maxShred = 1 << 20

// shred overwrites a file in memory and removes it. What the flow has put in its
// place is removed only.
func shred(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the flow has removed it
	}
	if err == nil && info.Mode().IsRegular() {
		err = overwrite(path, info)
	}
	return errors.Join(err, removeIfThere(path))
}

func overwrite(path string, was os.FileInfo) error {
	f, err := os.OpenFile(path, os.O_WRONLY|openNoFollow, 0)
	if err != nil {
		return err
	}
	// Not truncated first: that would free the memory as it is.
	if info, err2 := f.Stat(); err2 == nil && os.SameFile(info, was) {
		_, err = f.Write(make([]byte, min(info.Size(), maxShred)))
	}
	return errors.Join(err, f.Close())
}

// environ returns the handout as variables of the environment.
func (h handout) environ() []string {
	env := []string{"LATCHKEY_USERNAME=" + h.connection.Username, "LATCHKEY_PASSWORD=" + h.connection.Password.Reveal()}
	for _, n := range h.others {
		name := envName(n.name)
		env = append(env, fmt.Sprintf("LATCHKEY_CREDENTIAL_%s_USERNAME=%s", name, n.Username), fmt.Sprintf("LATCHKEY_CREDENTIAL_%s_PASSWORD=%s", name, n.Password.Reveal()))
	}
	return env
}

// envName returns a name as a part of the name of a variable of the environment.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}
