package wire

// The message tables and enumerations of all sections.

// A Field is one row of a message table.
type Field struct {
	Name    string
	Type    Type
	Bounds  string
	clauses []clause
}

// A Message is a message table: its fields in the order in which they are encoded.
type Message struct {
	Name   string
	Fields []Field
}

// enumOf is the name of the enumeration of an integer field.
func (m *Message) enumOf(field string) string {
	for _, f := range m.Fields {
		if f.Name == field {
			for _, c := range f.clauses {
				if c.kind == enumeration {
					return c.enum
				}
			}
		}
	}
	panic(m.Name + "." + field + " has no enumeration")
}

// An Enum maps names to values.
type Enum map[string]uint64

func (e Enum) name(value uint64) (string, bool) {
	for name, v := range e {
		if v == value {
			return name, true
		}
	}
	return "", false
}

// Name gives the name of a value, "" if there is none.
func (e Enum) Name(value uint64) string {
	name, _ := e.name(value)
	return name
}

// Enums are the tables `Enum NAME` of all sections.
var Enums = map[string]Enum{
	"ClientAccess": {"anyone": 1, "listed": 2},
	"FrameKind":    {"Hello": 1, "HelloReply": 2, "Record": 3},
	"Role":         {"member": 1, "client": 2, "anonymous": 3},
	"Purpose":      {"link": 1, "stream": 2},
	"RecordType":   {"Confirm": 1, "Data": 2, "KeepAlive": 3, "Rekey": 4, "Bye": 5, "Error": 6},
	"LinkType":     {"RosterOffer": 1, "RosterRequest": 2, "RosterTransfer": 3},
	"ErrorCode": {
		"protocol_violation": 1, "unknown_service": 2, "not_authorized": 3, "shutting_down": 4,
		"internal": 5, "keepalive_timeout": 6, "roster_conflict": 7, "over_capacity": 8,
	},
}

// Messages are the tables `Message NAME` of all sections, field for field.
var Messages = map[string]*Message{}

// row is a row of a message table: field, type, bounds.
type row [3]string

const rsaBytes = "256 or 384 or 512 bytes"

var tables = map[string][]row{
	"NodeCard": { // 2.5
		{"name", "utf8<1..64>", "-"},
		{"id_size", "u8", "20 or 32"},
		{"sk", "opaque<1..1024>", "-"},
		{"ck", "opaque<1..1024>", "-"},
		{"serial", "u64", "-"},
		{"signature", "opaque<256..512>", rsaBytes},
	},
	"Member": { // 3.1
		{"card", "NodeCard", "-"},
		{"host", "utf8<1..253>", "-"},
	},
	"Roster": { // 3.1
		{"authority", "opaque<1..1024>", "-"},
		{"name", "utf8<1..64>", "-"},
		{"epoch", "u64", ">= 1"},
		{"cluster_port", "u16", "1..65535"},
		{"client_port", "u16", "1..65535"},
		{"knock", "opaque[32]", "-"},
		{"client_access", "u8", "enum ClientAccess"},
		{"members", "list<Member, 1..256>", "-"},
		{"clients", "list<NodeCard, 0..2048>", "-"},
		{"signature", "opaque<256..512>", rsaBytes + "; message is at most 4194304 bytes"},
	},
	"ClusterCard": { // 3.5
		{"authority", "opaque<1..1024>", "-"},
		{"name", "utf8<1..64>", "-"},
		{"epoch", "u64", ">= 1"},
		{"client_port", "u16", "1..65535"},
		{"client_access", "u8", "enum ClientAccess"},
		{"members", "list<Member, 1..256>", "-"},
		{"signature", "opaque<256..512>", rsaBytes},
	},
	"FrameHeader": { // 4.1
		{"kind", "u8", "enum FrameKind"},
		{"length", "u24", "-"},
	},
	"Hello": { // 5.2
		{"version", "u16", "= 2"},
		{"kem_ciphertext", "opaque<256..512>", rsaBytes},
		{"sealed", "opaque[1936]", "-"},
		{"mac", "opaque[16]", "-"},
	},
	"HelloBody": { // 5.2
		{"role", "u8", "enum Role"},
		{"purpose", "u8", "enum Purpose"},
		{"recipient", "opaque<20..32>", "20 or 32 bytes"},
		{"cluster", "opaque[32]", "-"},
		{"x25519", "opaque[32]", "-"},
		{"mlkem_ek", "opaque[1184]", "-"},
		{"service", "utf8<0..64>", "empty if and only if purpose = link"},
		{"initiator", "opaque<0..32>", "0 or 20 or 32 bytes; empty if and only if role = anonymous"},
		{"signature", "opaque<0..512>", "0 or " + rsaBytes + "; empty if and only if role = anonymous"},
		{"pad", "opaque<23..643>", "zeros; message is 1920 bytes"},
	},
	"HelloReply": { // 5.3
		{"salt", "opaque[32]", "-"},
		{"sealed", "opaque[1180]", "-"},
	},
	"ReplyBody": { // 5.3
		{"key2", "opaque[32]", "-"},
		{"x25519", "opaque[32]", "-"},
		{"mlkem_ciphertext", "opaque[1088]", "-"},
		{"keepalive", "u32", "0 or 1000..3600000"},
		{"epoch", "u64", "-"},
	},
	"RecordPlaintext": { // 6.2
		{"type", "u8", "enum RecordType"},
		{"payload", "rest<0..65536>", "-"},
	},
	"ErrorBody": { // 6.9
		{"code", "u16", "-"},
		{"text", "utf8<0..1024>", "-"},
	},
	"LinkHeader": { // 7.5
		{"type", "u8", "enum LinkType"},
		{"length", "u24", "-"},
	},
	"RosterOffer": { // 7.5
		{"epoch", "u64", ">= 1"},
		{"digest", "opaque[32]", "-"},
	},
	"RosterRequest":  {},
	"RosterTransfer": {{"roster", "Roster", "-"}},
}

func init() {
	for name, rows := range tables {
		m := &Message{Name: name}
		for _, r := range rows {
			t, err := ParseType(r[1])
			if err != nil {
				panic(err)
			}
			clauses, err := parseBounds(r[2])
			if err != nil {
				panic(err)
			}
			m.Fields = append(m.Fields, Field{Name: r[0], Type: t, Bounds: r[2], clauses: clauses})
		}
		Messages[name] = m
	}
}
