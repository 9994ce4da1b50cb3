package cluster

// Private key files (2.6).

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"

	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

var (
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// privateKeyInfo is PKCS#8's PrivateKeyInfo; attributes may follow.
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

type rsaPrivateKey struct {
	Version int
	N       *big.Int
	E       int
	D, P, Q *big.Int
}

type encryptedKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct{ KDF, Encryption pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt      []byte
	Rounds    int
	KeyLength int `asn1:"optional"`
	PRF       pkix.AlgorithmIdentifier
}

// ReadPrivateKey reads a private key file: [ID-26], [ID-35], [ID-36]. passphrase is nil if there is none.
func ReadPrivateKey(text string, passphrase *string) (*crypt.PrivateKey, error) {
	if !strings.HasPrefix(text, "-----BEGIN ") {
		return nil, wire.Refuse("ID-35", "something before the first line")
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil || len(block.Headers) > 0:
		return nil, wire.Refuse("ID-26", "no PEM")
	case len(rest) > 0:
		return nil, wire.Refuse("ID-35", "something after the last line")
	case block.Type == "PRIVATE KEY":
		return parsePKCS8(block.Bytes)
	case block.Type != "ENCRYPTED PRIVATE KEY":
		return nil, wire.Refuse("ID-26", "a file of %s", block.Type)
	case passphrase == nil:
		return nil, wire.Refuse("ID-36", "a passphrase is needed")
	}
	der, err := decryptPKCS8(block.Bytes, *passphrase)
	if err != nil {
		return nil, err
	}
	return parsePKCS8(der)
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil {
		return wire.Refuse("ID-26", "%v", err)
	}
	if len(rest) > 0 {
		return wire.Refuse("ID-26", "bytes behind the DER")
	}
	return nil
}

func parsePKCS8(der []byte) (*crypt.PrivateKey, error) {
	var info privateKeyInfo
	if err := unmarshal(der, &info); err != nil {
		return nil, err
	}
	if !info.Algorithm.Algorithm.Equal(oidRSA) {
		return nil, wire.Refuse("ID-26", "no RSA key")
	}
	var rsa rsaPrivateKey
	if err := unmarshal(info.PrivateKey, &rsa); err != nil {
		return nil, err
	}
	key, err := crypt.NewPrivateKey(rsa.P.Bytes(), rsa.Q.Bytes())
	if err != nil {
		return nil, err
	}
	if rsa.E != 65537 || rsa.N.Cmp(new(big.Int).SetBytes(key.Modulus)) != 0 {
		return nil, wire.Refuse("ID-1", "another exponent, or primes of another modulus")
	}
	return key, nil
}

// decryptPKCS8 undoes PBES2: [ID-28], with any number of rounds [ID-38] and any salt [ID-39].
func decryptPKCS8(der []byte, passphrase string) ([]byte, error) {
	var info encryptedKeyInfo
	var params pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	if err := unmarshal(der, &info); err != nil {
		return nil, err
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, wire.Refuse("ID-28", "not PBES2")
	}
	if err := unmarshal(info.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, err
	}
	if !params.KDF.Algorithm.Equal(oidPBKDF2) || !params.Encryption.Algorithm.Equal(oidAES256CBC) {
		return nil, wire.Refuse("ID-28", "not PBKDF2, or not AES-256-CBC")
	}
	if err := unmarshal(params.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	if err := unmarshal(params.Encryption.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	if !kdf.PRF.Algorithm.Equal(oidHMACSHA256) || len(kdf.Salt) < 1 || kdf.Rounds < 1 ||
		kdf.KeyLength != 0 && kdf.KeyLength != 32 || len(iv) != aes.BlockSize {
		return nil, wire.Refuse("ID-28", "parameters that are not those of section 2.6")
	}
	if passphrase == "" {
		return nil, wire.Refuse("ID-36", "an empty passphrase")
	}
	key, err := pbkdf2.Key(sha256.New, passphrase, kdf.Salt, kdf.Rounds, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	n := len(info.Data)
	if n == 0 || n%aes.BlockSize != 0 {
		return nil, wire.Refuse("ID-28", "no ciphertext of AES-256-CBC")
	}
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)
	padding := int(plain[n-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, wire.Refuse("ID-36", "the passphrase is wrong")
	}
	for _, b := range plain[n-padding:] {
		if int(b) != padding {
			return nil, wire.Refuse("ID-36", "the passphrase is wrong")
		}
	}
	return plain[:n-padding], nil
}
