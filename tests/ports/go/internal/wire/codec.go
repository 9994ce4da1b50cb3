package wire

// Encoding, and strict decoding (1.2, 1.3).

import "fmt"

// Values are the fields of a message by name: uint64 for integers, []byte for opaque and rest, string for utf8,
// []Values for a list, Values for a nested message.
type Values map[string]any

// U gives an integer field.
func (v Values) U(name string) uint64 { return v[name].(uint64) }

// B gives an opaque field.
func (v Values) B(name string) []byte { return v[name].([]byte) }

// T gives a text field.
func (v Values) T(name string) string { return v[name].(string) }

// L gives a list field.
func (v Values) L(name string) []Values { return v[name].([]Values) }

// M gives a nested message.
func (v Values) M(name string) Values { return v[name].(Values) }

// reader takes bytes from the front of a message.
type reader struct {
	data []byte
	at   int
}

func (r *reader) take(n int) ([]byte, error) {
	if n > len(r.data)-r.at {
		return nil, Refuse("NO-15", "%d bytes wanted, %d left", n, len(r.data)-r.at)
	}
	if n == 0 {
		return []byte{}, nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b, nil
}

func (r *reader) integer(size int) (uint64, error) {
	b, err := r.take(size)
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n, nil
}

func (r *reader) end() error {
	if r.at != len(r.data) {
		return Refuse("NO-16", "%d bytes too many", len(r.data)-r.at)
	}
	return nil
}

// Decode decodes a whole message strictly (1.3): every refusal is of the whole message [NO-20].
func Decode(name string, data []byte) (Values, error) {
	m, ok := Messages[name]
	if !ok {
		return nil, fmt.Errorf("no message %q", name)
	}
	r := &reader{data: data}
	values, err := m.read(r)
	if err == nil {
		err = r.end() // [NO-16]
	}
	if err != nil {
		return nil, err
	}
	return values, nil
}

// DecodeType decodes a single value of a type, to the end of data.
func DecodeType(t Type, data []byte) (any, error) {
	r := &reader{data: data}
	value, err := r.value(t)
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return value, nil
}

// read reads the fields in the order of the table [NO-9], then checks the bounds [NO-18].
func (m *Message) read(r *reader) (Values, error) {
	begin := r.at
	values := make(Values, len(m.Fields))
	for _, f := range m.Fields {
		value, err := r.value(f.Type)
		if err != nil {
			return nil, err
		}
		values[f.Name] = value
	}
	return values, m.check(values, r.at-begin)
}

func (m *Message) check(values Values, size int) error {
	for pass := range 2 { // enumerations first: other clauses look their names up
		for _, f := range m.Fields {
			for _, c := range f.clauses {
				if (c.kind == enumeration) != (pass == 0) {
					continue
				}
				if err := c.check(m, f, values, size); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *reader) value(t Type) (any, error) {
	switch t.Kind {
	case Integer:
		return wrap(r.integer(t.Size)) // [NO-3]
	case Fixed:
		return wrap(r.take(t.Size)) // [NO-4]
	case Rest:
		n := len(r.data) - r.at // [NO-8]
		if n < t.Min || n > t.Max {
			return nil, Refuse("NO-17", "%d bytes for %s", n, t.Notation)
		}
		return wrap(r.take(n))
	case Nested:
		m, ok := Messages[t.Message]
		if !ok {
			return nil, fmt.Errorf("no message %q", t.Message)
		}
		return wrap(m.read(r)) // [NO-10]
	}
	count, err := r.integer(t.prefix())
	if err != nil {
		return nil, err
	}
	n := int(count)
	if n < t.Min || n > t.Max {
		return nil, Refuse("NO-17", "a length or count of %d for %s", n, t.Notation)
	}
	if t.Kind == List {
		return wrap(r.list(t, n))
	}
	b, err := r.take(n) // [NO-5]
	if err != nil {
		return nil, err
	}
	if t.Kind == Text {
		if err := checkText(b); err != nil { // [NO-6]
			return nil, err
		}
		return string(b), nil
	}
	return b, nil
}

// list reads n elements; the slice grows with what is there, not with what is announced [NO-22].
func (r *reader) list(t Type, n int) ([]Values, error) {
	m, ok := Messages[t.Message]
	if !ok {
		return nil, fmt.Errorf("no message %q", t.Message)
	}
	elements := []Values{}
	for range n {
		v, err := m.read(r)
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	return elements, nil
}

func wrap[T any](value T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}

// Encode encodes a message, and refuses what a decoder would refuse [NO-21].
func Encode(name string, values Values) ([]byte, error) {
	m, ok := Messages[name]
	if !ok {
		return nil, fmt.Errorf("no message %q", name)
	}
	return m.append(nil, values)
}

// MustEncode is Encode of values that the program itself has made.
func MustEncode(name string, values Values) []byte {
	b, err := Encode(name, values)
	if err != nil {
		panic(err)
	}
	return b
}

// EncodeType encodes a single value of a type.
func EncodeType(t Type, value any) ([]byte, error) { return appendValue(nil, t, value) }

func (m *Message) append(out []byte, values Values) ([]byte, error) {
	if len(values) != len(m.Fields) {
		return nil, fmt.Errorf("%s has %d fields, not %d", m.Name, len(m.Fields), len(values))
	}
	begin := len(out)
	for _, f := range m.Fields {
		value, ok := values[f.Name]
		if !ok {
			return nil, fmt.Errorf("%s.%s is missing", m.Name, f.Name)
		}
		var err error
		if out, err = appendValue(out, f.Type, value); err != nil {
			return nil, err
		}
	}
	return out, m.check(values, len(out)-begin)
}

func appendInteger(out []byte, n uint64, size int) []byte {
	for i := size - 1; i >= 0; i-- {
		out = append(out, byte(n>>(8*i)))
	}
	return out
}

func appendValue(out []byte, t Type, value any) ([]byte, error) {
	wrong := fmt.Errorf("a %T is no %s", value, t.Notation)
	switch v := value.(type) {
	case uint64:
		if t.Kind != Integer {
			return nil, wrong
		}
		if t.Size < 8 && v>>(8*t.Size) != 0 {
			return nil, Refuse("NO-3", "%d is too large for %s", v, t.Notation)
		}
		return appendInteger(out, v, t.Size), nil
	case []byte:
		if t.Kind != Fixed && t.Kind != Opaque && t.Kind != Rest {
			return nil, wrong
		}
		return appendBytes(out, t, v)
	case string:
		if t.Kind != Text {
			return nil, wrong
		}
		if err := checkText([]byte(v)); err != nil {
			return nil, err
		}
		return appendBytes(out, t, []byte(v))
	case Values:
		m, ok := Messages[t.Message]
		if t.Kind != Nested || !ok {
			return nil, wrong
		}
		return m.append(out, v)
	case []Values:
		m, ok := Messages[t.Message]
		if t.Kind != List || !ok {
			return nil, wrong
		}
		if len(v) < t.Min || len(v) > t.Max {
			return nil, Refuse("NO-17", "%d elements for %s", len(v), t.Notation)
		}
		out = appendInteger(out, uint64(len(v)), t.prefix())
		for _, element := range v {
			var err error
			if out, err = m.append(out, element); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, wrong
}

func appendBytes(out []byte, t Type, b []byte) ([]byte, error) {
	if t.Kind == Fixed {
		if len(b) != t.Size {
			return nil, Refuse("NO-4", "%d bytes for %s", len(b), t.Notation)
		}
		return append(out, b...), nil
	}
	if len(b) < t.Min || len(b) > t.Max {
		return nil, Refuse("NO-17", "%d bytes for %s", len(b), t.Notation)
	}
	if t.Kind != Rest {
		out = appendInteger(out, uint64(len(b)), t.prefix())
	}
	return append(out, b...), nil
}
