package crypt

// RSA operations (2.3), with salts and seeds that are given.

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"

	"xlattice-port/internal/wire"
)

const (
	hashSize    = sha256.Size
	pssSaltSize = 32
	pssTrailer  = 0xbc
)

// mgf1 is MGF1 with SHA-256 (RFC 8017, B.2.1).
func mgf1(seed []byte, n int) []byte {
	var out []byte
	for counter := uint32(0); len(out) < n; counter++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(bytes.Clone(seed), counter))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// pssHash is H' of EMSA-PSS: the hash of eight zero bytes, the hash of the message, and the salt.
func pssHash(message, salt []byte) []byte {
	sum := sha256.Sum256(message)
	h := sha256.Sum256(append(append(make([]byte, 8), sum[:]...), salt...))
	return h[:]
}

// VerifyPSS verifies a signature over a message that already has its label: [ID-12] to [ID-15].
func (k *PublicKey) VerifyPSS(message, signature []byte) error {
	if len(signature) != k.Size() {
		return wire.Refuse("ID-13", "%d bytes for a modulus of %d", len(signature), k.Size())
	}
	s := new(big.Int).SetBytes(signature)
	if s.Cmp(k.n) >= 0 {
		return wire.Refuse("ID-14", "not below the modulus")
	}
	// The modulus has 8k bits, so EMSA-PSS encodes 8k - 1 bits in k bytes, of which the first bit is zero.
	em := s.Exp(s, exponent, k.n).FillBytes(make([]byte, k.Size()))
	maskedDB, h := em[:k.Size()-hashSize-1], em[k.Size()-hashSize-1:k.Size()-1]
	if em[len(em)-1] != pssTrailer || em[0]&0x80 != 0 {
		return wire.Refuse("ID-12", "no encoding of EMSA-PSS")
	}
	db := xor(maskedDB, mgf1(h, len(maskedDB)))
	db[0] &= 0x7f
	padded := bytes.TrimLeft(db, "\x00")
	if len(padded) == 0 || padded[0] != 1 {
		return wire.Refuse("ID-12", "no salt")
	}
	salt := padded[1:]
	if !bytes.Equal(h, pssHash(message, salt)) {
		return wire.Refuse("ID-12", "the hash differs")
	}
	if len(salt) != pssSaltSize {
		return wire.Refuse("ID-15", "a salt of %d bytes", len(salt))
	}
	return nil
}

// EncryptOAEP encrypts with a given seed [ID-16].
func (k *PublicKey) EncryptOAEP(plaintext, seed []byte) ([]byte, error) {
	zeros := k.Size() - len(plaintext) - 2*hashSize - 2
	if zeros < 0 || len(seed) != hashSize {
		return nil, errors.New("a plaintext or seed of a wrong size")
	}
	empty := sha256.Sum256(nil)
	db := append(append(append(empty[:], make([]byte, zeros)...), 1), plaintext...)
	maskedDB := xor(db, mgf1(seed, len(db)))
	maskedSeed := xor(seed, mgf1(maskedDB, hashSize))
	em := append(append([]byte{0}, maskedSeed...), maskedDB...)
	c := new(big.Int).SetBytes(em)
	return c.Exp(c, exponent, k.n).FillBytes(make([]byte, k.Size())), nil
}

// A PrivateKey is an RSA key made from its primes. Nothing here takes constant time: these keys are public.
type PrivateKey struct {
	PublicKey
	p, q, dp, dq, qInv *big.Int
}

// NewPrivateKey makes a key from p and q; d is the inverse of e modulo lcm(p - 1, q - 1) (12.1).
func NewPrivateKey(pBytes, qBytes []byte) (*PrivateKey, error) {
	one := big.NewInt(1)
	p, q := new(big.Int).SetBytes(pBytes), new(big.Int).SetBytes(qBytes)
	n := new(big.Int).Mul(p, q)
	if bits := n.BitLen(); bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, wire.Refuse("ID-1", "a modulus of %d bits", bits)
	}
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lcm := new(big.Int).Mul(p1, q1)
	lcm.Div(lcm, new(big.Int).GCD(nil, nil, p1, q1))
	d, qInv := new(big.Int).ModInverse(exponent, lcm), new(big.Int).ModInverse(q, p)
	if d == nil || qInv == nil {
		return nil, errors.New("these primes make no key")
	}
	spki := makeSPKI(n.Bytes())
	public, err := ParseSPKI(spki)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{*public, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), qInv}, nil
}

// power is m to the d modulo n, by the Chinese remainder theorem.
func (k *PrivateKey) power(m []byte) []byte {
	x := new(big.Int).SetBytes(m)
	a, b := new(big.Int).Exp(x, k.dp, k.p), new(big.Int).Exp(x, k.dq, k.q)
	h := a.Sub(a, b)
	h.Mul(h, k.qInv).Mod(h, k.p)
	return h.Mul(h, k.q).Add(h, b).FillBytes(make([]byte, k.Size()))
}

// SignPSS signs a message that already has its label, with a given salt [ID-12].
func (k *PrivateKey) SignPSS(message, salt []byte) []byte {
	h := pssHash(message, salt)
	db := append(append(make([]byte, k.Size()-hashSize-len(salt)-2), 1), salt...)
	maskedDB := xor(db, mgf1(h, len(db)))
	maskedDB[0] &= 0x7f
	return k.power(append(append(maskedDB, h...), pssTrailer))
}

// DecryptKey1 decrypts a key1, or fails as [ID-17] says.
func (k *PrivateKey) DecryptKey1(ciphertext []byte) ([]byte, error) {
	if len(ciphertext) != k.Size() || new(big.Int).SetBytes(ciphertext).Cmp(k.n) >= 0 {
		return nil, wire.Refuse("ID-17", "not below the modulus, or not as long")
	}
	em := k.power(ciphertext)
	seed := xor(em[1:1+hashSize], mgf1(em[1+hashSize:], hashSize))
	db := xor(em[1+hashSize:], mgf1(seed, len(em)-1-hashSize))
	empty := sha256.Sum256(nil)
	rest := bytes.TrimLeft(db[hashSize:], "\x00")
	if em[0] != 0 || !bytes.HasPrefix(db, empty[:]) || len(rest) == 0 || rest[0] != 1 {
		return nil, wire.Refuse("ID-17", "no encoding of EME-OAEP")
	}
	if len(rest) != 1+32 {
		return nil, wire.Refuse("ID-17", "a plaintext of %d bytes", len(rest)-1)
	}
	return rest[1:], nil
}
