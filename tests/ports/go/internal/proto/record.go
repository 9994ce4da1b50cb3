package proto

// Records, sequence numbers and generations (6.2 to 6.4).

import (
	"crypto/aes"
	"crypto/cipher"

	"xlattice-port/internal/wire"
)

// A Direction is one direction of a session: its generation, and the seq of its next record (6.3, 6.4).
type Direction struct {
	Generation
	Seq  uint64
	aead cipher.AEAD
}

// NewDirection begins a direction, or takes it up at a seq.
func NewDirection(secret []byte, seq uint64) *Direction {
	d := &Direction{Seq: seq}
	d.begin(NewGeneration(secret))
	return d
}

func (d *Direction) begin(g Generation) {
	block, err := aes.NewCipher(g.Key)
	if err != nil {
		panic(err)
	}
	d.Generation = g
	if d.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
}

// step counts a record; the one behind a Rekey is seq 0 of the next generation: [SE-15], [SE-16], [SE-19], [SE-20].
func (d *Direction) step(kind string) {
	d.Seq++
	if kind == "Rekey" {
		d.begin(d.Next())
		d.Seq = 0
	}
}

// nonce is iv XOR seq as a 96-bit big-endian integer [SE-7].
func (d *Direction) nonce() []byte {
	nonce := append([]byte{}, d.IV...)
	for i := range 8 {
		nonce[11-i] ^= byte(d.Seq >> (8 * i))
	}
	return nonce
}

// Seal makes the frame of a record: [SE-6], [SE-8].
func (d *Direction) Seal(kind string, payload []byte) []byte {
	plaintext := append([]byte{byte(wire.Enums["RecordType"][kind])}, payload...)
	header := makeHeader("Record", len(plaintext)+wire.TagSize)
	frame := d.aead.Seal(header, d.nonce(), plaintext, header)
	d.step(kind)
	return frame
}

// last is the seq of the last record of a generation.
const last = wire.GenerationRecords - 1

// open makes the checks 2 to 5 of 6.2 on a frame whose header has passed the first.
func (d *Direction) open(frame []byte) (kind string, payload []byte, err error) {
	plaintext, err := d.aead.Open(nil, d.nonce(), frame[headerSize:], frame[:headerSize])
	if err != nil {
		return "", nil, wire.Refuse("SE-13", "the record does not open")
	}
	v, err := wire.Decode("RecordPlaintext", plaintext)
	if err != nil {
		return "", nil, wire.Refuse("SE-13", "no record: %v", err)
	}
	kind = wire.Enums["RecordType"].Name(v.U("type"))
	if d.Seq == last && kind != "Rekey" {
		return "", nil, wire.Refuse("SE-21", "%s with the last seq", kind)
	}
	if d.Seq == 0 && kind == "Rekey" {
		return "", nil, wire.Refuse("SE-22", "a Rekey with seq 0")
	}
	return kind, v.B("payload"), nil
}

// checkPayload is check 7 of 6.2.
func checkPayload(kind string, payload []byte) error {
	switch kind {
	case "Data":
		if len(payload) == 0 {
			return wire.Refuse("SE-10", "Data without payload")
		}
	case "Error":
		if _, err := wire.Decode("ErrorBody", payload); err != nil {
			return wire.Refuse("SE-57", "%v", err)
		}
	default:
		if len(payload) != 0 {
			return wire.Refuse("SE-9", "%s with a payload", kind)
		}
	}
	return nil
}

// Open opens the frame of a record and makes the checks 2 to 7, but for those that need the session (5 and 6).
func (d *Direction) Open(frame []byte) (kind string, payload []byte, err error) {
	if kind, payload, err = d.open(frame); err != nil {
		return "", nil, err
	}
	if err := checkPayload(kind, payload); err != nil {
		return "", nil, err
	}
	d.step(kind)
	return kind, payload, nil
}
