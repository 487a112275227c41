package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"

	"latchkey.dev/latchkey"
)

// maxPasswordHashes is how many passwords are hashed at the same time. Each
// takes a processor and 19 MiB for some 30 ms: a flood of sign-ins waits here.
const maxPasswordHashes = 2

const (
	saltBytes = 16
	hashBytes = 32
)

// An argon2Cost says what hashing a password costs.
type argon2Cost struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8
}

// currentCost is of new hashes (OWASP's second choice for argon2id). A hash of
// another cost is made anew when its owner signs in.
var currentCost = argon2Cost{memory: 19 * 1024, time: 2, threads: 1}

func (c argon2Cost) hash(password latchkey.Secret, salt []byte, size uint32) []byte {
	return argon2.IDKey([]byte(password.Reveal()), salt, c.time, c.memory, c.threads, size)
}

// A storedPassword is a password's hash with what it was made with.
type storedPassword struct {
	cost argon2Cost
	salt []byte
	hash []byte
}

var phcEncoding = base64.RawStdEncoding.Strict()

// String returns p as a PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func (p storedPassword) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.memory, p.cost.time, p.cost.threads,
		phcEncoding.EncodeToString(p.salt), phcEncoding.EncodeToString(p.hash))
}

var errPasswordHash = errors.New("the stored hash of the password is damaged")

// parsePassword is the inverse of String. It refuses costs that would take the
// service down.
func parsePassword(s string) (p storedPassword, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return p, errPasswordHash
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return p, errPasswordHash
	}
	var n [3]uint64
	for i, limit := range []struct {
		name     string
		min, max uint64
	}{{"m=", 8, 1 << 20}, {"t=", 1, 16}, {"p=", 1, 16}} {
		text, ok := strings.CutPrefix(costs[i], limit.name)
		if n[i], err = strconv.ParseUint(text, 10, 32); !ok || err != nil || n[i] < limit.min || n[i] > limit.max {
			return p, errPasswordHash
		}
	}
	p.cost = argon2Cost{memory: uint32(n[0]), time: uint32(n[1]), threads: uint8(n[2])}
	if p.salt, err = phcEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return p, errPasswordHash
	}
	if p.hash, err = phcEncoding.DecodeString(parts[5]); err != nil || len(p.hash) < 16 || len(p.hash) > 64 {
		return p, errPasswordHash
	}
	// One hash has one text, without leading zeros or signs.
	if p.String() != s {
		return p, errPasswordHash
	}
	return p, nil
}

// hashPassword returns the PHC string of a password. The caller holds a
// password slot.
func hashPassword(password latchkey.Secret) string {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	return storedPassword{currentCost, salt, currentCost.hash(password, salt, hashBytes)}.String()
}

// checkPassword reports whether password is the one that stored was made of,
// and whether stored ought to be made anew. With stored "" no password is
// right, which takes as long to find out. The caller holds a password slot.
func checkPassword(stored string, password latchkey.Secret) (right, outdated bool, err error) {
	if stored == "" {
		currentCost.hash(password, make([]byte, saltBytes), hashBytes)
		return false, false, nil
	}
	p, err := parsePassword(stored)
	if err != nil {
		return false, false, err
	}
	got := p.cost.hash(password, p.salt, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(got, p.hash) == 1, p.cost != currentCost || len(p.hash) != hashBytes, nil
}

// passwordSlot waits until a password may be hashed. The caller calls release
// when it is done.
func (b *Broker) passwordSlot(ctx context.Context) (release func(), err error) {
	select {
	case b.passwords <- struct{}{}:
		return func() { <-b.passwords }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
}

// newPassword returns the PHC string of a password as soon as one may be made.
func (b *Broker) newPassword(ctx context.Context, password string) (string, error) {
	release, err := b.passwordSlot(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return hashPassword(latchkey.NewSecret(password)), nil
}
