package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// maxKeys bounds a file of recipients or identities, in bytes.
const maxKeys = 64 << 10

// Recipients reads recipients, one on a line; empty lines and those that begin
// with # count for nothing.
func Recipients(from io.Reader) ([]age.Recipient, error) {
	b, err := bounded(from)
	if err != nil {
		return nil, err
	}
	r, err := age.ParseRecipients(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("a recipient is a line that begins with age1: %w", err)
	}
	return r, nil
}

// Identities reads identities, which open what is encrypted to their recipients,
// in the form of age's identity files. Its errors do not repeat them.
func Identities(from io.Reader) ([]age.Identity, error) {
	b, err := bounded(from)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		return nil, errors.New("is not an identity file: it must have a line that begins with AGE-SECRET-KEY-") // err may hold the key
	}
	return ids, nil
}

func bounded(from io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(from, maxKeys+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeys {
		return nil, fmt.Errorf("is larger than %d bytes", maxKeys)
	}
	return b, nil
}

// NewIdentity returns a new identity as the text of an identity file, and its
// recipient.
func NewIdentity() (file, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("make identity: %w", err)
	}
	recipient = id.Recipient().String()
	return fmt.Sprintf("# recipient: %s\n%s\n", recipient, id), recipient, nil
}

// Encrypt returns a writer that compresses and encrypts what is written to it
// to the recipients. Its Close ends the file and leaves to open.
func Encrypt(to io.Writer, recipients ...age.Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return nil, errors.New("a backup needs a recipient: it is not written in the clear")
	}
	enc, err := age.Encrypt(to, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt backup: %w", err)
	}
	return &packer{gzip.NewWriter(enc), enc}, nil
}

// A packer compresses into an encryption.
type packer struct {
	*gzip.Writer
	enc io.Closer
}

// Close ends both.
func (p *packer) Close() error { return errors.Join(p.Writer.Close(), p.enc.Close()) }

// Decrypt returns the text of a backup file.
func Decrypt(from io.Reader, identities ...age.Identity) (io.Reader, error) {
	dec, err := age.Decrypt(bufio.NewReaderSize(from, 64<<10), identities...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, errors.New("the backup is encrypted to other recipients than the identity's")
	}
	if err != nil {
		return nil, fmt.Errorf("the file is not a backup, or is damaged: %w", err)
	}
	unpacked, err := gzip.NewReader(dec)
	if err != nil {
		return nil, damaged("it cannot be unpacked: %v", err)
	}
	return &unpacker{unpacked}, nil
}

// An unpacker says of every error what it means for the backup.
type unpacker struct{ from *gzip.Reader }

// Read implements [io.Reader].
func (u *unpacker) Read(b []byte) (int, error) {
	n, err := u.from.Read(b)
	if err != nil && err != io.EOF {
		err = damaged("%v", err)
	}
	return n, err
}
