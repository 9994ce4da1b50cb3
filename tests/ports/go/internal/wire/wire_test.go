package wire

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"xlattice-port/internal/spectext"
)

var sections = []string{
	"01-notation.md", "02-identity.md", "03-roster.md", "04-frames.md", "05-handshake.md", "06-session.md",
	"07-links.md", "08-services.md", "09-errors-and-limits.md",
}

func TestMessagesAreThoseOfTheText(t *testing.T) {
	found := 0
	for _, section := range sections {
		text := spectext.Section(t, section)
		for _, name := range spectext.Headings(text, "Message") {
			found++
			m := Messages[name]
			rows := spectext.Table(text, "Message "+name)
			if m == nil || len(rows) != len(m.Fields) {
				t.Fatalf("%s: %v", name, rows)
			}
			for i, f := range m.Fields {
				r := rows[i]
				if f.Name != r[0] || f.Type.Notation != r[1] || f.Bounds != r[3] {
					t.Errorf("%s: %v is not %v", name, f, r)
				}
			}
		}
	}
	if found != len(Messages) {
		t.Errorf("%d messages in the text, %d here", found, len(Messages))
	}
}

func TestEnumsAreThoseOfTheText(t *testing.T) {
	found := 0
	for _, section := range sections {
		text := spectext.Section(t, section)
		for _, name := range spectext.Headings(text, "Enum") {
			found++
			rows := spectext.Table(text, "Enum "+name)
			if len(rows) == 0 || len(rows) != len(Enums[name]) {
				t.Errorf("%s has %d values in the text", name, len(rows))
			}
			for _, r := range rows {
				if n, _ := strconv.ParseUint(r[0], 10, 64); Enums[name][r[1]] != n {
					t.Errorf("%s: %s is not %s", name, r[1], r[0])
				}
			}
		}
	}
	if found != len(Enums) {
		t.Errorf("%d enumerations in the text, %d here", found, len(Enums))
	}
}

func TestLimitsAreThoseOfTheText(t *testing.T) {
	text := spectext.Section(t, "09-errors-and-limits.md")
	want := map[string]int{
		"NODE_ID_SHORT": NodeIDShort, "NODE_ID_LONG": NodeIDLong, "RECORD_PAYLOAD_MAX": RecordPayloadMax,
		"TAG_SIZE": TagSize, "ROSTER_MAX": RosterMax, "ROSTER_OFFER_SIZE": RosterOfferSize,
		"GENERATION_RECORDS": GenerationRecords, "KEEPALIVE_MIN": KeepAliveMin,
		"LINK_KEEPALIVE_MAX": LinkKeepAliveMax, "KEEPALIVE_INTERVALS": KeepAliveIntervals,
		"LINGER_BYTES": LingerBytes, "REPLAY_CACHE_MIN": ReplayCacheMin, "GENERATION_AGE": GenerationAge / 1000,
		"WRITE_DEADLINE": WriteDeadline / 1000, "BYE_LINGER": ByeLinger / 1000, "ERROR_LINGER": ErrorLinger / 1000,
		"LINK_BYE_DEADLINE": LinkByeDeadline / 1000, "TRANSFER_IDLE_DEADLINE": TransferIdleDeadline / 1000,
		"TRANSFER_DEADLINE": TransferDeadline / 1000, "PEER_PENALTY": PeerPenalty / 1000,
	}
	for _, table := range []string{"Sizes", "Rosters", "Handshake", "Session", "Links"} {
		for _, r := range spectext.Table(text, "Limits "+table) {
			if n, ok := want[r[0]]; ok && strconv.Itoa(n) != r[1] {
				t.Errorf("%s is %s, not %d", r[0], r[1], n)
			}
			delete(want, r[0])
		}
	}
	if len(want) > 0 {
		t.Errorf("not in the text: %v", want)
	}
}

func TestPrefixDependsOnTheTypeAlone(t *testing.T) {
	for notation, want := range map[string]string{
		"opaque<0..255>": "02abcd", "opaque<0..512>": "0002abcd", "opaque<0..65536>": "000002abcd",
		"rest<0..9>": "abcd", "opaque[2]": "abcd",
	} {
		typ, err := ParseType(notation)
		if err != nil {
			t.Fatal(err)
		}
		b, err := EncodeType(typ, []byte{0xab, 0xcd})
		if err != nil || fmt.Sprintf("%x", b) != want {
			t.Errorf("%s: %x, %v", notation, b, err)
		}
		back, err := DecodeType(typ, b)
		if err != nil || !bytes.Equal(back.([]byte), []byte{0xab, 0xcd}) {
			t.Errorf("%s: %v, %v", notation, back, err)
		}
	}
}

func TestEveryTruncationAndEveryTrailingByteIsRefused(t *testing.T) {
	v := Values{"epoch": uint64(7), "digest": make([]byte, 32)}
	b := MustEncode("RosterOffer", v)
	for n := range b {
		if _, err := Decode("RosterOffer", b[:n]); RefusedBy(err) != "NO-15" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Decode("RosterOffer", append(b, 0)); RefusedBy(err) != "NO-16" {
		t.Errorf("a byte more: %v", err)
	}
	v["epoch"] = uint64(0)
	if _, err := Encode("RosterOffer", v); RefusedBy(err) != "NO-18" {
		t.Errorf("epoch 0: %v", err)
	}
}

func TestTextIsRefusedByItsCharacters(t *testing.T) {
	typ, _ := ParseType("utf8<0..16>")
	for text, want := range map[string]string{
		"\x03a\x1fb": "NO-12", "\x02\xc2\x9f": "NO-12", "\x02\xc2\xa0": "", "\x03\xed\xa0\x80": "NO-11",
		"\x02\xc0\xaf": "NO-11", "\x03\xef\xbb\xbf": "", "\x04\xf4\x90\x80\x80": "NO-11", "\x01\x7f": "NO-12",
	} {
		if _, err := DecodeType(typ, []byte(text)); RefusedBy(err) != want {
			t.Errorf("%x: %v", text, err)
		}
	}
}
