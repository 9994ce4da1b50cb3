package main

// How values stand in the vectors (FORMAT.md, section Values).

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"xlattice-port/internal/wire"
)

// bytesHex is a byte string, lower-case hexadecimal in JSON.
type bytesHex []byte

// UnmarshalJSON takes lower-case hexadecimal alone.
func (b *bytesHex) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	raw, err := hex.DecodeString(text)
	if err != nil || strings.ToLower(text) != text {
		return fmt.Errorf("no lower-case hexadecimal: %.40q", text)
	}
	*b = raw
	return nil
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func hexList(list [][]byte) []string {
	out := []string{}
	for _, b := range list {
		out = append(out, hexOf(b))
	}
	return out
}

// epochValue is an epoch, 16 digits in JSON.
type epochValue uint64

// UnmarshalJSON takes 16 lower-case digits alone.
func (e *epochValue) UnmarshalJSON(data []byte) error {
	var b bytesHex
	if err := b.UnmarshalJSON(data); err != nil {
		return err
	}
	if len(b) != 8 {
		return fmt.Errorf("an epoch of %d digits", 2*len(b))
	}
	*e = epochValue(binary.BigEndian.Uint64(b))
	return nil
}

// epochHex is an epoch as 16 digits.
func epochHex(epoch uint64) string { return fmt.Sprintf("%016x", epoch) }

// orNull is the bytes in hexadecimal, or null.
func orNull(b []byte) any {
	if b == nil {
		return nil
	}
	return hexOf(b)
}

// fieldsOf reads `fields` of a message: an object with a value for each field.
func fieldsOf(message string, data json.RawMessage) (wire.Values, error) {
	m, ok := wire.Messages[message]
	if !ok {
		return nil, skip("unknown message %q", message)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, skip("fields of %s: %v", message, err)
	}
	values := wire.Values{}
	for _, f := range m.Fields {
		value, err := valueOf(f.Type, raw[f.Name])
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", message, f.Name, err)
		}
		values[f.Name] = value
		delete(raw, f.Name)
	}
	for name := range raw {
		return nil, skip("%s has no field %q", message, name)
	}
	return values, nil
}

// valueOf reads a value of a type.
func valueOf(t wire.Type, data json.RawMessage) (any, error) {
	switch t.Kind {
	case wire.Nested:
		return fieldsOf(t.Message, data)
	case wire.List:
		var raw []json.RawMessage
		if err := json.Unmarshal(data, &raw); err != nil {
			return nil, skip("no list: %v", err)
		}
		list := []wire.Values{}
		for _, r := range raw {
			v, err := fieldsOf(t.Message, r)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	var b bytesHex
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, skip("no value of %s: %v", t.Notation, err)
	}
	switch t.Kind {
	case wire.Integer:
		if len(b) != t.Size {
			return nil, skip("%d bytes for %s", len(b), t.Notation)
		}
		var n uint64
		for _, x := range b {
			n = n<<8 | uint64(x)
		}
		return n, nil
	case wire.Text:
		return string(b), nil
	}
	return []byte(b), nil
}
