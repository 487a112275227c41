package agent

import (
	"encoding/binary"
	"errors"
	"time"
)

// A ticketTimes says how long a ticket for the realm lasts.
type ticketTimes struct {
	end   time.Time
	renew time.Time // until when it can be renewed; zero if it cannot
}

const maxCache = 1 << 20 // bytes of a ticket cache that are looked at

var errCache = errors.New("the ticket cache cannot be read")

// ticketIn returns the times of the ticket-granting ticket in a cache of the type
// FILE, version 4 (MIT Kerberos, "Credential cache file format").
func ticketIn(cache []byte) (t ticketTimes, err error) {
	if len(cache) > maxCache {
		return t, errCache
	}
	r := &cacheReader{rest: cache}
	if r.number(2) != 0x0504 {
		return t, errCache
	}
	r.data(2) // tags of the header
	r.principal()
	for r.err == nil && len(r.rest) > 0 {
		r.principal()
		server := r.principal()
		r.number(2) // type of the key
		r.data(4)
		r.number(4) // when it was obtained
		r.number(4) // from when on it is good
		end, renew := r.number(4), r.number(4)
		r.number(1)
		r.number(4)   // flags
		for range 2 { // addresses, authorization data
			for n := r.number(4); n > 0 && r.err == nil; n-- {
				r.number(2)
				r.data(4)
			}
		}
		r.data(4) // ticket
		r.data(4) // second ticket
		if r.err == nil && server == "krbtgt" && end > 0 {
			t.end = time.Unix(int64(end), 0)
			if renew > 0 {
				t.renew = time.Unix(int64(renew), 0)
			}
			return t, nil
		}
	}
	return t, errCache
}

// A cacheReader reads numbers, big-endian, and counted data.
type cacheReader struct {
	rest []byte
	err  error
}

func (r *cacheReader) take(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.rest)) {
		r.err = errCache
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *cacheReader) number(size uint32) uint32 {
	var four [4]byte
	copy(four[4-size:], r.take(size))
	return binary.BigEndian.Uint32(four[:])
}

// data reads bytes whose count comes before them, in a number of so many bytes.
func (r *cacheReader) data(size uint32) []byte { return r.take(r.number(size)) }

// principal reads a name and returns its first component.
func (r *cacheReader) principal() (first string) {
	r.number(4) // type
	n := r.number(4)
	r.data(4) // realm
	for i := uint32(0); i < n && r.err == nil; i++ {
		if c := r.data(4); i == 0 {
			first = string(c)
		}
	}
	return first
}
