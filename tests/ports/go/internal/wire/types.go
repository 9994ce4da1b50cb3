// Package wire is the encoding layer: types, messages, strict decoding (section 1).
package wire

import (
	"fmt"
	"regexp"
	"strconv"
)

// Kind says which form a type has.
type Kind int

// The forms of the type notation, as in the README.
const (
	Integer Kind = iota // u8 u16 u24 u32 u64
	Fixed               // opaque[n]
	Opaque              // opaque<a..b>
	Text                // utf8<a..b>
	List                // list<NAME, a..b>
	Rest                // rest<a..b>
	Nested              // NAME
)

// A Type is one type notation, parsed.
type Type struct {
	Notation string
	Kind     Kind
	Size     int // Integer: bytes; Fixed: n
	Min, Max int // Opaque, Text, List, Rest: a and b
	Message  string
}

var (
	integerForm = regexp.MustCompile(`^u(8|16|24|32|64)$`)
	fixedForm   = regexp.MustCompile(`^opaque\[([0-9]+)\]$`)
	spanForm    = regexp.MustCompile(`^(opaque|utf8|rest)<([0-9]+)\.\.([0-9]+)>$`)
	listForm    = regexp.MustCompile(`^list<([A-Z][A-Za-z0-9]*), ([0-9]+)\.\.([0-9]+)>$`)
	nameForm    = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
)

// The largest length that a u24 prefix holds, and the largest count of a list.
const (
	largestLength = 1<<24 - 1
	largestCount  = 1<<16 - 1
)

// ParseType reads a type notation such as utf8<1..64>.
func ParseType(notation string) (Type, error) {
	t := Type{Notation: notation}
	bad := fmt.Errorf("no type: %q", notation)
	switch {
	case integerForm.MatchString(notation):
		bits, _ := strconv.Atoi(notation[1:])
		t.Kind, t.Size = Integer, bits/8
		return t, nil
	case fixedForm.MatchString(notation):
		n, err := strconv.Atoi(fixedForm.FindStringSubmatch(notation)[1])
		t.Kind, t.Size = Fixed, n
		return t, err
	case spanForm.MatchString(notation):
		m := spanForm.FindStringSubmatch(notation)
		t.Kind = map[string]Kind{"opaque": Opaque, "utf8": Text, "rest": Rest}[m[1]]
		return t.span(m[2], m[3], largestLength)
	case listForm.MatchString(notation):
		m := listForm.FindStringSubmatch(notation)
		t.Kind, t.Message = List, m[1]
		return t.span(m[2], m[3], largestCount)
	case nameForm.MatchString(notation):
		t.Kind, t.Message = Nested, notation
		return t, nil
	}
	return t, bad
}

func (t Type) span(a, b string, largest int) (Type, error) {
	var errA, errB error
	t.Min, errA = strconv.Atoi(a)
	t.Max, errB = strconv.Atoi(b)
	if errA != nil || errB != nil || t.Min > t.Max || t.Max > largest {
		return t, fmt.Errorf("no type: %q", t.Notation)
	}
	return t, nil
}

// prefix is the size of the length prefix, which depends on the type alone (table in 1.2).
func (t Type) prefix() int {
	switch {
	case t.Kind == List:
		return 2 // [NO-7]
	case t.Max <= 0xff:
		return 1
	case t.Max <= 0xffff:
		return 2
	}
	return 3
}
