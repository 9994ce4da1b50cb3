package wire

// Text (1.2).

import "unicode/utf8"

// checkText refuses what is not text: [NO-11], [NO-12].
func checkText(b []byte) error {
	if !utf8.Valid(b) {
		return Refuse("NO-11", "not well-formed UTF-8")
	}
	for _, r := range string(b) {
		if r <= 0x1f || r >= 0x7f && r <= 0x9f {
			return Refuse("NO-12", "the control character U+%04X", r)
		}
	}
	return nil
}
