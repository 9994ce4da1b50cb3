// Package cluster is identities, rosters and cluster cards: sections 2 and 3.
package cluster

import (
	"bytes"

	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

// A Card is a node card (2.5).
type Card struct {
	Name   string
	IDSize int
	SK, CK []byte // SPKI
	NodeID []byte
	values wire.Values
}

// NodeID gives the NodeID of an sk [ID-18].
func NodeID(sk []byte, idSize int) []byte { return crypt.H("node-id", sk)[:idSize] }

// newCard takes the fields of a decoded NodeCard; nothing is verified.
func newCard(v wire.Values) *Card {
	size := int(v.U("id_size"))
	return &Card{v.T("name"), size, v.B("sk"), v.B("ck"), NodeID(v.B("sk"), size), v}
}

// VerifyCard decodes and verifies a node card.
func VerifyCard(data []byte) (*Card, error) {
	v, err := wire.Decode("NodeCard", data)
	if err != nil {
		return nil, wire.Refuse("ID-20", "%v", err)
	}
	c := newCard(v)
	return c, c.verify()
}

// verify makes the checks of 2.5 after decoding.
func (c *Card) verify() error {
	sk, err := crypt.ParseSPKI(c.SK)
	if err != nil {
		return wire.Refuse("ID-21", "sk: %v", err)
	}
	ck, err := crypt.ParseSPKI(c.CK)
	if err != nil {
		return wire.Refuse("ID-21", "ck: %v", err)
	}
	if bytes.Equal(sk.Modulus, ck.Modulus) {
		return wire.Refuse("ID-22", "sk and ck have one modulus")
	}
	content := unsigned("NodeCard", c.values)
	if err := sk.VerifyPSS(crypt.Labelled("node-card", content), c.values.B("signature")); err != nil {
		return wire.Refuse("ID-23", "%v", err)
	}
	return nil
}

// unsigned is the encoding before the length prefix of `signature`, which is the last field.
func unsigned(message string, v wire.Values) []byte {
	data := wire.MustEncode(message, v)
	return data[:len(data)-2-len(v.B("signature"))]
}
