// Package crypt is the cryptography of sections 1.4 to 1.6 and 2.1 to 2.3, and the key exchanges of 5.4.
package crypt

import (
	"crypto/hmac"
	"crypto/sha256"
)

// Labels is the closed table of labels (1.4): the use of each name.
var Labels = map[string]string{
	"hello-signature": "signed",
	"node-card":       "signed",
	"roster":          "signed",
	"cluster-card":    "signed",
	"node-id":         "hashed",
	"cluster-id":      "hashed",
	"hello-mac":       "hashed",
	"hello-digest":    "hashed",
	"reply-salt":      "hashed",
	"transcript":      "hashed",
	"roster-digest":   "hashed",
	"hello":           "expanded",
	"hello-reply":     "expanded",
	"i2r":             "expanded",
	"r2i":             "expanded",
	"exporter":        "expanded",
	"key":             "expanded",
	"iv":              "expanded",
	"rekey":           "expanded",
}

// label gives the bytes of a label, for the one use that its row names: [NO-23], [NO-24].
func label(name, use string) []byte {
	if Labels[name] != use {
		panic("no label for what is " + use + ": " + name)
	}
	return []byte("xlattice2 " + name)
}

// Labelled is label(name) || 0x00 || content, which is what is signed.
func Labelled(name string, content ...[]byte) []byte {
	return labelled(label(name, "signed"), content)
}

func labelled(l []byte, content [][]byte) []byte {
	b := append(l, 0)
	for _, c := range content {
		b = append(b, c...)
	}
	return b
}

// H is the labelled hash of the concatenation of x [NO-25].
func H(name string, x ...[]byte) []byte {
	sum := sha256.Sum256(labelled(label(name, "hashed"), x))
	return sum[:]
}

// HMAC is HMAC-SHA-256.
func HMAC(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// Extract is HKDF's first half [NO-25].
func Extract(salt, ikm []byte) []byte { return HMAC(salt, ikm) }

// Expand is HKDF's second half, one block [NO-25].
func Expand(prk []byte, name string, n int) []byte {
	return HMAC(prk, append(label(name, "expanded"), 1))[:n]
}

// HKDF is both [NO-25]. An empty salt is the default one, 32 zero bytes, which HMAC makes of it anyway.
func HKDF(salt, ikm []byte, name string, n int) []byte { return Expand(Extract(salt, ikm), name, n) }
