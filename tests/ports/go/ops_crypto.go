package main

// The operations of crypto.json.

import (
	"bytes"
	"fmt"

	"xlattice-port/internal/crypt"
)

// checkLabel skips what is no label for a use.
func checkLabel(name, use string) error {
	if crypt.Labels[name] != use {
		return skip("no label for what is %s: %q", use, name)
	}
	return nil
}

type hashInput struct {
	Label   string   `json:"label"`
	Content bytesHex `json:"content"`
}

func opHash(_ *fixtures, in hashInput) (result, error) {
	if err := checkLabel(in.Label, "hashed"); err != nil {
		return result{}, err
	}
	return result{output: map[string]any{"hash": hexOf(crypt.H(in.Label, in.Content))}}, nil
}

type extractInput struct {
	Salt bytesHex `json:"salt"`
	IKM  bytesHex `json:"ikm"`
}

func opExtract(_ *fixtures, in extractInput) (result, error) {
	return result{output: map[string]any{"prk": hexOf(crypt.Extract(in.Salt, in.IKM))}}, nil
}

type expandInput struct {
	PRK   bytesHex `json:"prk"`
	Label string   `json:"label"`
	Size  int      `json:"size"`
}

func opExpand(_ *fixtures, in expandInput) (result, error) {
	if err := checkLabel(in.Label, "expanded"); err != nil {
		return result{}, err
	}
	return result{output: map[string]any{"bytes": hexOf(crypt.Expand(in.PRK, in.Label, in.Size))}}, nil
}

type sealInput struct {
	Key       bytesHex `json:"key"`
	Nonce     bytesHex `json:"nonce"`
	AAD       bytesHex `json:"aad"`
	Plaintext bytesHex `json:"plaintext"`
}

// opSeal seals, and opens what it sealed.
func opSeal(_ *fixtures, in sealInput) (result, error) {
	sealed := crypt.Seal(in.Key, in.Nonce, in.AAD, in.Plaintext)
	back, err := crypt.Open(in.Key, in.Nonce, in.AAD, sealed)
	if err != nil || !bytes.Equal(back, in.Plaintext) {
		return result{}, fmt.Errorf("opened otherwise: %v", err)
	}
	return result{output: map[string]any{"sealed": hexOf(sealed)}}, nil
}

type openInput struct {
	Key    bytesHex `json:"key"`
	Nonce  bytesHex `json:"nonce"`
	AAD    bytesHex `json:"aad"`
	Sealed bytesHex `json:"sealed"`
}

func opOpen(_ *fixtures, in openInput) (result, error) {
	_, err := crypt.Open(in.Key, in.Nonce, in.AAD, in.Sealed)
	return result{refusal: err}, nil
}

type x25519Input struct {
	Private bytesHex `json:"private"`
	Public  bytesHex `json:"public"`
}

func opX25519(_ *fixtures, in x25519Input) (result, error) {
	share, err := crypt.X25519Public(in.Private)
	if err != nil {
		return result{}, err
	}
	secret, err := crypt.X25519(in.Private, in.Public)
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"share": hexOf(share), "secret": hexOf(secret)}}, nil
}

type mlkemInput struct {
	Seed bytesHex `json:"seed"`
	M    bytesHex `json:"m"`
}

// opMLKEM makes a key, encapsulates to it, and decapsulates.
func opMLKEM(_ *fixtures, in mlkemInput) (result, error) {
	key, err := crypt.NewKEMKey(in.Seed)
	if err != nil {
		return result{}, err
	}
	secret, ciphertext, err := crypt.Encapsulate(key.Encapsulation(), in.M)
	if err != nil {
		return result{}, err
	}
	back, err := key.Decapsulate(ciphertext)
	if err != nil || !bytes.Equal(back, secret) {
		return result{}, fmt.Errorf("decapsulated otherwise: %v", err)
	}
	return result{output: map[string]any{
		"ek": hexOf(key.Encapsulation()), "ciphertext": hexOf(ciphertext), "secret": hexOf(secret),
	}}, nil
}

type decapsulateInput struct {
	Seed       bytesHex `json:"seed"`
	Ciphertext bytesHex `json:"ciphertext"`
}

func opMLKEMDecapsulate(_ *fixtures, in decapsulateInput) (result, error) {
	key, err := crypt.NewKEMKey(in.Seed)
	if err != nil {
		return result{}, err
	}
	secret, err := key.Decapsulate(in.Ciphertext)
	if err != nil {
		return result{}, err
	}
	return result{output: map[string]any{"secret": hexOf(secret)}}, nil
}

type mlkemKeyInput struct {
	EK bytesHex `json:"ek"`
}

func opMLKEMKey(_ *fixtures, in mlkemKeyInput) (result, error) {
	return result{refusal: crypt.CheckEncapsulationKey(in.EK)}, nil
}

type publicKeyInput struct {
	SPKI bytesHex `json:"spki"`
}

func opPublicKey(_ *fixtures, in publicKeyInput) (result, error) {
	key, err := crypt.ParseSPKI(in.SPKI)
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"bits": 8 * key.Size(), "modulus": hexOf(key.Modulus)}}, nil
}

type oaepInput struct {
	Key       string   `json:"key"`
	Seed      bytesHex `json:"seed"`
	Plaintext bytesHex `json:"plaintext"`
}

// opOAEP encrypts with the seed, and decrypts.
func opOAEP(f *fixtures, in oaepInput) (result, error) {
	key, err := named(f.keys, in.Key)
	if err != nil {
		return result{}, err
	}
	ciphertext, err := key.EncryptOAEP(in.Plaintext, in.Seed)
	if err != nil {
		return result{}, err
	}
	back, err := key.DecryptKey1(ciphertext)
	if err != nil || !bytes.Equal(back, in.Plaintext) {
		return result{}, fmt.Errorf("decrypted otherwise: %v", err)
	}
	return result{output: map[string]any{"ciphertext": hexOf(ciphertext)}}, nil
}

type oaepDecryptInput struct {
	Key        string   `json:"key"`
	Ciphertext bytesHex `json:"ciphertext"`
}

func opOAEPDecrypt(f *fixtures, in oaepDecryptInput) (result, error) {
	key, err := named(f.keys, in.Key)
	if err != nil {
		return result{}, err
	}
	_, err = key.DecryptKey1(in.Ciphertext)
	return result{refusal: err}, nil
}

type pssInput struct {
	Key     string   `json:"key"`
	Label   string   `json:"label"`
	Content bytesHex `json:"content"`
	Salt    bytesHex `json:"salt"`
}

// opPSS signs with the salt, and verifies.
func opPSS(f *fixtures, in pssInput) (result, error) {
	key, err := named(f.keys, in.Key)
	if err == nil {
		err = checkLabel(in.Label, "signed")
	}
	if err != nil {
		return result{}, err
	}
	message := crypt.Labelled(in.Label, in.Content)
	signature := key.SignPSS(message, in.Salt)
	if err := key.VerifyPSS(message, signature); err != nil {
		return result{}, err
	}
	return result{output: map[string]any{"signature": hexOf(signature)}}, nil
}

type pssVerifyInput struct {
	Key       string   `json:"key"`
	Label     string   `json:"label"`
	Content   bytesHex `json:"content"`
	Signature bytesHex `json:"signature"`
}

func opPSSVerify(f *fixtures, in pssVerifyInput) (result, error) {
	key, err := named(f.keys, in.Key)
	if err == nil {
		err = checkLabel(in.Label, "signed")
	}
	if err != nil {
		return result{}, err
	}
	return result{refusal: key.VerifyPSS(crypt.Labelled(in.Label, in.Content), in.Signature)}, nil
}
