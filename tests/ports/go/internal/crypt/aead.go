package crypt

// Authenticated encryption (1.6).

import (
	"crypto/aes"
	"crypto/cipher"

	"xlattice-port/internal/wire"
)

// ZeroNonce is the nonce under K_hello and K_reply [HS-11].
var ZeroNonce = make([]byte, 12)

func gcm(key []byte) cipher.AEAD {
	if len(key) != 32 {
		panic("a key of AES-256 has 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

// Seal gives ciphertext and tag [NO-26].
func Seal(key, nonce, aad, plaintext []byte) []byte { return gcm(key).Seal(nil, nonce, plaintext, aad) }

// Open gives the plaintext, or refuses [NO-27].
func Open(key, nonce, aad, sealed []byte) ([]byte, error) {
	plaintext, err := gcm(key).Open(nil, nonce, sealed, aad)
	if err != nil {
		return nil, wire.Refuse("NO-27", "the tag does not verify")
	}
	return plaintext, nil
}
