package crypt

// The key exchanges of a handshake: X25519 and ML-KEM-768 (5.4, 5.7).

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"

	"xlattice-port/internal/wire"
)

// X25519Public is the public key of a private key as RFC 7748 takes it, before clamping.
func X25519Public(private []byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, err
	}
	return k.PublicKey().Bytes(), nil
}

// X25519 is the shared secret [HS-7]; one of 32 zero bytes is refused [HS-8].
func X25519(private, public []byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, err
	}
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	secret, err := k.ECDH(p)
	if err != nil {
		return nil, wire.Refuse("HS-8", "the X25519 secret is zero")
	}
	return secret, nil
}

// A KEMKey is an ephemeral key of ML-KEM-768.
type KEMKey struct{ key *mlkem.DecapsulationKey768 }

// NewKEMKey makes a key from its seed d || z.
func NewKEMKey(seed []byte) (*KEMKey, error) {
	key, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, err
	}
	return &KEMKey{key}, nil
}

// Encapsulation is the encapsulation key, 1,184 bytes.
func (k *KEMKey) Encapsulation() []byte { return k.key.EncapsulationKey().Bytes() }

// Decapsulate gives the shared secret [HS-9].
func (k *KEMKey) Decapsulate(ciphertext []byte) ([]byte, error) { return k.key.Decapsulate(ciphertext) }

// CheckEncapsulationKey makes the modulus check of FIPS 203, 7.2, as 5.7 writes it out.
func CheckEncapsulationKey(ek []byte) error {
	if len(ek) != 1184 {
		return wire.Refuse("HS-30", "an encapsulation key of %d bytes", len(ek))
	}
	for i := 0; i < 1152; i += 3 {
		b0, b1, b2 := int(ek[i]), int(ek[i+1]), int(ek[i+2])
		if b0|(b1&15)<<8 >= 3329 || b1>>4|b2<<4 >= 3329 {
			return wire.Refuse("HS-30", "the encapsulation key fails the modulus check")
		}
	}
	return nil
}

// Encapsulate gives the shared secret and the ciphertext for given 32 bytes m [HS-9].
func Encapsulate(ek, m []byte) (secret, ciphertext []byte, err error) {
	if err := CheckEncapsulationKey(ek); err != nil {
		return nil, nil, err
	}
	key, err := mlkem.NewEncapsulationKey768(ek)
	if err != nil {
		return nil, nil, err
	}
	return mlkemtest.Encapsulate768(key, m)
}
