// Package proto is the protocol's machines, without sockets, clocks or random numbers of their own: frames (section 4),
// the handshake (5), the session (6) and links (7).
package proto

import (
	"xlattice-port/internal/wire"
)

// headerSize is the size of a frame header.
const headerSize = 4

// Due says which frame is due in a state (4.3): the kind, which lengths, and the check of a handshake that sees to it.
type Due struct {
	Kind    string
	Lengths func(n int) bool
	Check   string
}

// DueHello is what R awaits whose accepted cks have these modulus sizes in bytes.
func DueHello(sizes []int) Due {
	return Due{"Hello", func(n int) bool {
		for _, k := range sizes {
			if n == wire.HelloFixedSize+k {
				return true
			}
		}
		return false
	}, "HS-25"}
}

// What is due in the other states.
var (
	DueReply   = Due{"HelloReply", func(n int) bool { return n == wire.HelloReplySize }, "HS-47"}
	DueConfirm = Due{"Record", func(n int) bool { return n == 1+wire.TagSize }, "HS-56"}
	DueRecord  = Due{"Record", func(n int) bool {
		return n >= 1+wire.TagSize && n <= 1+wire.RecordPayloadMax+wire.TagSize
	}, ""}
)

// CheckHeader refuses a header that is not due, and gives the length of the body.
func (d Due) CheckHeader(header []byte) (int, error) {
	n, err := d.check(header)
	if err != nil && d.Check != "" {
		err = wire.Refuse(d.Check, "%v", err)
	}
	return n, err
}

// check is [FR-4].
func (d Due) check(header []byte) (int, error) {
	v, err := wire.Decode("FrameHeader", header)
	if err != nil {
		return 0, wire.Refuse("FR-4", "%v", err)
	}
	kind, n := wire.Enums["FrameKind"].Name(v.U("kind")), int(v.U("length"))
	if kind != d.Kind || !d.Lengths(n) {
		return 0, wire.Refuse("FR-4", "kind %s and length %d are not due", kind, n)
	}
	return n, nil
}

// A FrameReader cuts what arrives into frames, however the transport cuts it [FR-7].
type FrameReader struct {
	Due    Due
	buffer []byte
}

// Feed takes bytes from the transport.
func (r *FrameReader) Feed(data []byte) { r.buffer = append(r.buffer, data...) }

// Next gives the next whole frame, or nil if it has not arrived [FR-6]. It refuses at the header [FR-5]. What follows a
// frame is kept [FR-8].
func (r *FrameReader) Next() ([]byte, error) {
	if len(r.buffer) < headerSize {
		return nil, nil
	}
	n, err := r.Due.CheckHeader(r.buffer[:headerSize])
	if err != nil {
		return nil, err
	}
	if len(r.buffer) < headerSize+n {
		return nil, nil
	}
	frame := r.buffer[: headerSize+n : headerSize+n]
	r.buffer = r.buffer[headerSize+n:]
	return frame, nil
}

// Unread gives what lies behind the last frame.
func (r *FrameReader) Unread() []byte { return r.buffer }

// makeHeader makes the header of a frame.
func makeHeader(kind string, length int) []byte {
	return wire.MustEncode("FrameHeader", wire.Values{"kind": wire.Enums["FrameKind"][kind], "length": uint64(length)})
}
