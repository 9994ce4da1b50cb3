package crypt

import (
	"encoding/hex"
	"testing"

	"xlattice-port/internal/spectext"
)

func TestLabelsAreThoseOfTheText(t *testing.T) {
	rows := spectext.Table(spectext.Section(t, "01-notation.md"), "Labels")
	if len(rows) != len(Labels) {
		t.Errorf("%d labels in the text", len(rows))
	}
	for _, r := range rows {
		if Labels[r[0]] != r[1] {
			t.Errorf("%s is %s", r[0], r[1])
		}
	}
}

func TestHashesHaveTheKnownAnswers(t *testing.T) {
	key := spectext.Run(0, 0x1f)
	for want, got := range map[string][]byte{
		"786c61747469636532206e6f64652d6964":                               label("node-id", "hashed"),
		"de40357b9175fba09b600b111cc6f4586dda38ac407680c97eaf7de8dda17fa4": H("node-id"),
		"5c1e06d2539e844626b8f02c06a6f101ecc02dbd93c70874ddd597979f4d977f": HKDF(nil, key, "hello", 32),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("%x is not %s", got, want)
		}
	}
}

func TestX25519IgnoresTheTopBitAndRefusesZero(t *testing.T) {
	private := spectext.Run(0x50, 0x6f)
	public, err := X25519Public(spectext.Run(0xa0, 0xbf))
	if err != nil {
		t.Fatal(err)
	}
	a, errA := X25519(private, public)
	public[31] ^= 0x80
	b, errB := X25519(private, public)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("%x %x", a, b)
	}
	if _, err := X25519(private, make([]byte, 32)); err == nil {
		t.Error("a secret of zeros")
	}
}
