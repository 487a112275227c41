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
	pair    *pair            // of a certificate
	expires time.Time        // by the server's clock
	now     func() time.Time // the server's clock
}

// A handout is what a flow is handed: the connection's credential, and those
// that the flow itself names.
type handout struct {
	connection named
	others     []named
}

// all returns every credential of the handout.
func (h handout) all() []named { return append([]named{h.connection}, h.others...) }

// patterns returns what output is masked for.
func (h handout) patterns() (p [][]byte) {
	for _, n := range h.all() {
		p = append(p, n.patterns()...)
	}
	return p
}

// patterns returns what output is masked for.
func (n named) patterns() [][]byte {
	if n.pair == nil {
		return maskPatterns(n.Password.Reveal())
	}
	return n.pair.patterns(n.PFX)
}

// expired reports whether a value must not be used any more.
func (h handout) expired() bool {
	return slices.ContainsFunc(h.all(), func(n named) bool {
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
		Name     string  `json:"name"`
		Username string  `json:"username"`
		Password *string `json:"password,omitempty"`

		// Of a certificate: PEM, and the files that have it.
		Certificate     string `json:"certificate,omitempty"`
		PrivateKey      string `json:"privateKey,omitempty"`
		CertificateFile string `json:"certificateFile,omitempty"`
		PrivateKeyFile  string `json:"privateKeyFile,omitempty"`
	}
	of := func(n named) values {
		if p := n.pair; p != nil {
			return values{n.name, n.Username, nil, string(p.certificate), p.key.Reveal(), p.certificateFile, p.keyFile}
		}
		password := n.Password.Reveal()
		return values{Name: n.name, Username: n.Username, Password: &password}
	}
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
	case latchkey.HandoverDescriptor:
		text, err := h.encode()
		if err != nil {
			return g, err
		}
		return handDescriptor(g, text)
	}
	files := &memoryFiles{account: a, name: ownName(filePrefix, machine)}
	g.remove = files.remove
	err := h.writePairs(files)
	if err == nil && how == latchkey.HandoverFile {
		var path string
		if path, err = h.writeAll(files); err == nil {
			g.env = []string{envFile + "=" + path}
		}
	}
	if err != nil {
		return g, errors.Join(err, files.remove())
	}
	if how == latchkey.HandoverEnvironment {
		g.env = h.environ()
	}
	return g, nil
}

// writeAll writes the JSON that flows read into a file.
func (h handout) writeAll(files *memoryFiles) (path string, err error) {
	text, err := h.encode()
	if err != nil {
		return "", err
	}
	defer clear(text)
	return files.write(text)
}

// writePairs writes every certificate and key into files of their own.
func (h handout) writePairs(files *memoryFiles) (err error) {
	for _, n := range h.all() {
		if n.pair == nil {
			continue
		}
		if n.pair.certificateFile, err = files.write(n.pair.certificate); err != nil {
			return err
		}
		key := []byte(n.pair.key.Reveal())
		n.pair.keyFile, err = files.write(key)
		clear(key)
		if err != nil {
			return err
		}
	}
	return nil
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

// memoryFiles are files in memory, each readable by the flow's user only.
type memoryFiles struct {
	account account
	name    string // that theirs begin with
	paths   []string
}

// write writes another file.
func (m *memoryFiles) write(text []byte) (path string, err error) {
	dir, err := memoryDir(m.account.other)
	if err != nil {
		return "", fmt.Errorf("a password, certificate or key cannot be handed over in a file: %w; use another handover", err)
	}
	path = filepath.Join(dir, m.name+rand.Text())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	m.paths = append(m.paths, path)
	if m.account.other {
		err = f.Chown(int(m.account.uid), int(m.account.gid))
	}
	if err == nil {
		_, err = f.Write(text)
	}
	return path, errors.Join(err, f.Close())
}

// remove overwrites and removes the files.
func (m *memoryFiles) remove() (err error) {
	for _, path := range m.paths {
		err = errors.Join(err, shred(path))
	}
	return err
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
	env := h.connection.environ("LATCHKEY_")
	for _, n := range h.others {
		env = append(env, n.environ("LATCHKEY_CREDENTIAL_"+envName(n.name)+"_")...)
	}
	return env
}

// environ returns a credential as variables: of a certificate the names of the
// files, which is what programs take.
func (n named) environ(prefix string) []string {
	env := []string{prefix + "USERNAME=" + n.Username}
	if n.pair != nil {
		return append(env, prefix+"CERTIFICATE_FILE="+n.pair.certificateFile, prefix+"PRIVATE_KEY_FILE="+n.pair.keyFile)
	}
	return append(env, prefix+"PASSWORD="+n.Password.Reveal())
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
