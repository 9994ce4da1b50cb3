package cluster

// Files of cards and rosters (2.7).

import (
	"encoding/base64"
	"strings"

	"xlattice-port/internal/wire"
)

// armourLines are the first and last line of an armoured file [ID-31].
func armourLines(label string) (begin, end string) {
	return "-----BEGIN " + label + "-----\n", "-----END " + label + "-----\n"
}

// Armour writes the one armoured file that a content has: [ID-31] to [ID-33].
func Armour(label string, content []byte) string {
	begin, end := armourLines(label)
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	b.WriteString(begin)
	for len(text) > 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	if text != "" {
		b.WriteString(text + "\n")
	}
	b.WriteString(end)
	return b.String()
}

// Dearmour reads an armoured file [ID-34].
func Dearmour(label, text string) ([]byte, error) {
	content, err := dearmour(label, text)
	if err != nil {
		return nil, wire.Refuse("ID-34", "%v", err)
	}
	return content, nil
}

// dearmour decodes leniently, encodes again, and compares.
func dearmour(label, text string) ([]byte, error) {
	begin, end := armourLines(label)
	body, ok := strings.CutPrefix(text, begin)
	if !ok {
		return nil, wire.Refuse("ID-31", "not the first line")
	}
	if body, ok = strings.CutSuffix(body, end); !ok {
		return nil, wire.Refuse("ID-31", "not the last line")
	}
	content, err := base64.StdEncoding.DecodeString(body) // which ignores CR and LF
	if err != nil {
		return nil, wire.Refuse("ID-33", "%v", err)
	}
	if Armour(label, content) != text {
		return nil, wire.Refuse("ID-32", "not the armour of its content")
	}
	return content, nil
}
