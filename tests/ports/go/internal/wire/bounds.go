package wire

// The bounds column of message tables.

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// span is the integers lo to hi.
type span struct{ lo, hi uint64 }

// A clause is one part of a bounds cell.
type clause struct {
	kind  clauseKind
	spans []span // values and lengths
	enum  string
	field string // emptyIff: another field, and the value of its enumeration
	value string
	size  int // messageIs, messageAtMost
}

type clauseKind int

const (
	valueIn       clauseKind = iota // = N, >= N, N..M, A or B
	enumeration                     // enum NAME
	lengthIn                        // A or B bytes
	emptyIff                        // empty if and only if FIELD = VALUE
	zeros                           // zeros
	messageIs                       // message is N bytes
	messageAtMost                   // message is at most N bytes
)

var (
	enumForm    = regexp.MustCompile(`^enum ([A-Za-z]+)$`)
	iffForm     = regexp.MustCompile(`^empty if and only if ([a-z0-9_]+) = ([A-Za-z0-9_]+)$`)
	messageForm = regexp.MustCompile(`^message is (at most )?([0-9]+) bytes$`)
)

// parseBounds reads a bounds cell, as the README defines it.
func parseBounds(cell string) ([]clause, error) {
	if cell == "-" {
		return nil, nil
	}
	var clauses []clause
	for _, part := range strings.Split(cell, "; ") {
		c, err := parseClause(part)
		if err != nil {
			return nil, err
		}
		clauses = append(clauses, c)
	}
	return clauses, nil
}

func parseClause(part string) (clause, error) {
	if m := enumForm.FindStringSubmatch(part); m != nil {
		return clause{kind: enumeration, enum: m[1]}, nil
	}
	if m := iffForm.FindStringSubmatch(part); m != nil {
		return clause{kind: emptyIff, field: m[1], value: m[2]}, nil
	}
	if m := messageForm.FindStringSubmatch(part); m != nil {
		n, err := strconv.Atoi(m[2])
		if m[1] != "" {
			return clause{kind: messageAtMost, size: n}, err
		}
		return clause{kind: messageIs, size: n}, err
	}
	if part == "zeros" {
		return clause{kind: zeros}, nil
	}
	c := clause{kind: valueIn}
	text := part
	if rest, ok := strings.CutSuffix(part, " bytes"); ok {
		c.kind, text = lengthIn, rest
	}
	for _, alternative := range strings.Split(text, " or ") {
		s, err := parseSpan(alternative)
		if err != nil {
			return c, fmt.Errorf("no bounds: %q", part)
		}
		c.spans = append(c.spans, s)
	}
	return c, nil
}

func parseSpan(text string) (span, error) {
	if n, ok := strings.CutPrefix(text, ">= "); ok {
		lo, err := strconv.ParseUint(n, 10, 64)
		return span{lo, ^uint64(0)}, err
	}
	text = strings.TrimPrefix(text, "= ")
	if lo, hi, ok := strings.Cut(text, ".."); ok {
		a, errA := strconv.ParseUint(lo, 10, 64)
		b, errB := strconv.ParseUint(hi, 10, 64)
		if errA != nil {
			errB = errA
		}
		return span{a, b}, errB
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return span{n, n}, err
}

func within(n uint64, spans []span) bool {
	for _, s := range spans {
		if n >= s.lo && n <= s.hi {
			return true
		}
	}
	return false
}

// check tests one value of a message against the clause: [NO-18], [NO-19]. size is the length of the encoded message.
func (c clause) check(m *Message, f Field, values Values, size int) error {
	broken := func(why string) error { return Refuse("NO-18", "%s.%s: %s", m.Name, f.Name, why) }
	value := values[f.Name]
	switch c.kind {
	case valueIn:
		if !within(value.(uint64), c.spans) {
			return broken(fmt.Sprintf("the value %d", value))
		}
	case enumeration:
		if _, ok := Enums[c.enum].name(value.(uint64)); !ok {
			return Refuse("NO-19", "%s.%s: %d is not in enum %s", m.Name, f.Name, value, c.enum)
		}
	case lengthIn:
		if n := length(value); !within(uint64(n), c.spans) {
			return broken(fmt.Sprintf("a length of %d", n))
		}
	case emptyIff:
		name, _ := Enums[m.enumOf(c.field)].name(values[c.field].(uint64))
		if (name == c.value) != (length(value) == 0) {
			return broken(fmt.Sprintf("length %d with %s = %s", length(value), c.field, name))
		}
	case zeros:
		for _, b := range value.([]byte) {
			if b != 0 {
				return broken("a byte that is not zero")
			}
		}
	case messageIs:
		if size != c.size {
			return broken(fmt.Sprintf("a message of %d bytes", size))
		}
	case messageAtMost:
		if size > c.size {
			return broken(fmt.Sprintf("a message of %d bytes", size))
		}
	}
	return nil
}

func length(value any) int {
	switch v := value.(type) {
	case []byte:
		return len(v)
	case string:
		return len(v)
	}
	return 0
}
