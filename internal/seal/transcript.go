package seal

import (
	"encoding/binary"
	"time"

	"latchkey.dev/latchkey"
)

// A transcript is the canonical encoding of what is signed or bound: a label,
// then fields, each text with its length before it, each number in eight bytes.
// Two different lists of fields never have the same transcript.
type transcript []byte

func newTranscript(label string) transcript { return transcript(nil).text(label) }

func (t transcript) bytes(b []byte) transcript {
	t = binary.BigEndian.AppendUint64(t, uint64(len(b)))
	return append(t, b...)
}

func (t transcript) text(s string) transcript { return t.bytes([]byte(s)) }

func (t transcript) number(n int64) transcript {
	return binary.BigEndian.AppendUint64(t, uint64(n))
}

func (t transcript) flag(b bool) transcript {
	if b {
		return append(t, 1)
	}
	return append(t, 0)
}

// time writes milliseconds: what JSON and the databases keep of a time without
// loss, whatever its zone.
func (t transcript) time(v time.Time) transcript { return t.number(v.UnixMilli()) }

func (t transcript) policy(p latchkey.Policy) transcript {
	t = list(t, p.Commands)
	t = list(t, p.Drivers)
	t = list(t, p.Handovers)
	t = t.text(p.RunAs).text(p.Realm).number(int64(len(p.SSHServers)))
	for _, s := range p.SSHServers {
		t = list(t.text(s.Name), s.Commands)
	}
	return t
}

func list[S ~string](t transcript, items []S) transcript {
	t = t.number(int64(len(items)))
	for _, item := range items {
		t = t.text(string(item))
	}
	return t
}
