package crypt

// Public keys on the wire (2.2).

import (
	"bytes"
	"encoding/hex"
	"math/big"

	"xlattice-port/internal/wire"
)

// form is a row of the table in 2.2.
type form struct {
	prefix []byte
	size   int
}

var suffix = unhex("0203010001")

var forms = []form{
	{unhex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100"), 256},
	{unhex("308201a2300d06092a864886f70d01010105000382018f003082018a0282018100"), 384},
	{unhex("30820222300d06092a864886f70d01010105000382020f003082020a0282020100"), 512},
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Exponent is the public exponent of every key [ID-1].
var exponent = big.NewInt(65537)

// A PublicKey is an RSA key that fulfils [ID-9]; nothing else is asked of its modulus [ID-10].
type PublicKey struct {
	SPKI    []byte
	Modulus []byte
	n       *big.Int
}

// Size is the length of the modulus in bytes.
func (k *PublicKey) Size() int { return len(k.Modulus) }

// ParseSPKI takes a public key by comparing bytes [ID-9].
func ParseSPKI(spki []byte) (*PublicKey, error) {
	for _, f := range forms {
		if len(spki) != len(f.prefix)+f.size+len(suffix) {
			continue
		}
		n := spki[len(f.prefix) : len(f.prefix)+f.size]
		switch {
		case !bytes.HasPrefix(spki, f.prefix):
			return nil, wire.Refuse("ID-9", "the prefix differs")
		case !bytes.HasSuffix(spki, suffix):
			return nil, wire.Refuse("ID-9", "the suffix differs")
		case n[0] < 0x80:
			return nil, wire.Refuse("ID-9", "the modulus is too small")
		case n[len(n)-1]&1 == 0:
			return nil, wire.Refuse("ID-9", "the modulus is even")
		}
		return &PublicKey{SPKI: spki, Modulus: n, n: new(big.Int).SetBytes(n)}, nil
	}
	return nil, wire.Refuse("ID-9", "%d bytes", len(spki))
}

// makeSPKI writes the SPKI of a modulus of 256, 384 or 512 bytes.
func makeSPKI(n []byte) []byte {
	for _, f := range forms {
		if f.size == len(n) {
			return append(append(append([]byte{}, f.prefix...), n...), suffix...)
		}
	}
	panic("no modulus of a size that this protocol has")
}
