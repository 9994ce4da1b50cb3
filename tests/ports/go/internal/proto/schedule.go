package proto

// The key schedule (5.4).

import "xlattice-port/internal/crypt"

// MacKey is K_mac: knock is empty on the client port (5.4).
func MacKey(ckSPKI, knock []byte) []byte { return crypt.H("hello-mac", ckSPKI, knock) }

// HelloKey is K_hello.
func HelloKey(key1 []byte) []byte { return crypt.HKDF(nil, key1, "hello", 32) }

// HelloDigest is what the replay cache holds (5.11).
func HelloDigest(helloFrame []byte) []byte { return crypt.H("hello-digest", helloFrame) }

// ReplySalt is the hash in the formula of K_reply.
func ReplySalt(helloFrame, salt []byte) []byte { return crypt.H("reply-salt", helloFrame, salt) }

// ReplyKey is K_reply.
func ReplyKey(helloFrame, salt, key1 []byte) []byte {
	return crypt.HKDF(ReplySalt(helloFrame, salt), key1, "hello-reply", 32)
}

// Secrets are what both sides derive at the end of a handshake [HS-5].
type Secrets struct {
	TH, PRK, Exporter, I2R, R2I []byte
}

// Derive computes them from the two frames and the four secrets.
func Derive(helloFrame, replyFrame, key2, key1, x25519, mlkem []byte) *Secrets {
	ikm := append(append(append(append([]byte{}, key2...), key1...), x25519...), mlkem...)
	th := crypt.H("transcript", helloFrame, replyFrame)
	prk := crypt.Extract(th, ikm)
	return &Secrets{
		TH: th, PRK: prk, Exporter: crypt.Expand(prk, "exporter", 32),
		I2R: crypt.Expand(prk, "i2r", 32), R2I: crypt.Expand(prk, "r2i", 32),
	}
}

// A Generation is a secret with its key and iv (5.4).
type Generation struct {
	Secret, Key, IV []byte
}

// NewGeneration derives key and iv.
func NewGeneration(secret []byte) Generation {
	return Generation{secret, crypt.Expand(secret, "key", 32), crypt.Expand(secret, "iv", 12)}
}

// Next is the generation after this one.
func (g Generation) Next() Generation { return NewGeneration(crypt.Expand(g.Secret, "rekey", 32)) }
