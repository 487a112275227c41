package latchkey

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Typed identifiers. Each is a prefix, an underscore and 26 characters that
// sort by time of creation, for example cred_06a3…. They are opaque to clients.
type (
	EnvironmentID    string // env_
	PrincipalID      string // user_, sp_, grp_ or mach_
	TokenID          string // tok_
	VariableID       string // var_
	ReferenceID      string // ref_
	CredentialID     string // cred_
	MachineID        string // mach_
	MachineGroupID   string // mgrp_
	EnrolmentTokenID string // enrol_
	SessionID        string // sess_
	ConnectionID     string // conn_
	FlowID           string // flow_
	RunID            string // run_
	ClaimID          string // claim_
	ReleaseID        string // rel_
	VaultID          string // vault_
	RoleAssignmentID string // ra_
	AuditID          string // aud_
	NoticeID         string // note_

	PasskeyID                    string // pk_
	ServicePrincipalCredentialID string // spc_
)

// Crockford's alphabet in lower case: its order is the order of the bits, so
// that identifiers sort as the numbers they encode.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns a new identifier with the given prefix: 48 bits of Unix
// milliseconds followed by 80 random bits.
func NewID(prefix string, now time.Time) string {
	var b [16]byte
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint64(b[:8], ms<<16)
	rand.Read(b[6:])
	return prefix + "_" + idEncoding.EncodeToString(b[:])
}

// NewOrderedID is NewID with 32 bits of a sequence before 48 random bits, so
// that identifiers made in the same millisecond keep the sequence's order.
func NewOrderedID(prefix string, now time.Time, sequence uint32) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint32(b[6:10], sequence)
	rand.Read(b[10:])
	return prefix + "_" + idEncoding.EncodeToString(b[:])
}

// NewGUID returns a random GUID (RFC 9562, version 4), in lower case: the form of
// identifiers that Azure's clients expect.
func NewGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// IsGUID reports whether s is shaped like a GUID, in either case.
func IsGUID(s string) bool { return guidRE.MatchString(s) }

// FirstID returns what sorts before every identifier with the given prefix that is
// made at a time or later, and after those made in earlier milliseconds. Times before
// 1970 count as 1970.
func FirstID(prefix string, at time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(max(at.UnixMilli(), 0))<<16)
	return prefix + "_" + idEncoding.EncodeToString(b[:])
}

// HasPrefix reports whether id is shaped like an identifier made by NewID with
// the given prefix. It does not say that the thing exists.
func HasPrefix(id, prefix string) bool {
	rest, ok := strings.CutPrefix(id, prefix+"_")
	if !ok || len(rest) != 26 {
		return false
	}
	_, err := idEncoding.DecodeString(rest)
	return err == nil
}
