package proto

import (
	"fmt"
	"strings"
	"testing"

	"xlattice-port/internal/wire"
)

// pair is both sides of a session, with directions of their own.
func pair(keepalive int64) (i, r *Session) {
	a, b := run(0, 31), run(32, 63)
	i = NewSession(true, NewDirection(a, 1), NewDirection(b, 0), keepalive, 10000, 0)
	r = NewSession(false, NewDirection(a, 1), NewDirection(b, 0), keepalive, 10000, 0)
	return i, r
}

// said is what an application was told, in short.
func said(s *Session) string {
	var words []string
	for _, r := range s.Reports() {
		words = append(words, strings.TrimSuffix(r.What+" "+string(r.Data)+r.Code, " "))
	}
	return strings.Join(words, ", ")
}

func expect(t *testing.T, s *Session, state, reports string) {
	t.Helper()
	if got := said(s); s.State != state || got != reports {
		t.Errorf("%s %q, not %s %q", s.State, got, state, reports)
	}
}

// kinds opens what a session has sent.
func kinds(t *testing.T, d *Direction, sent []byte) string {
	t.Helper()
	reader := FrameReader{Due: DueRecord}
	reader.Feed(sent)
	var names []string
	for {
		frame, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		if frame == nil {
			return strings.Join(names, " ")
		}
		kind, payload, err := d.Open(frame)
		if err != nil {
			t.Fatal(err)
		}
		if kind == "Error" {
			v, _ := wire.Decode("ErrorBody", payload)
			kind = fmt.Sprintf("Error(%s)", wire.Enums["ErrorCode"].Name(v.U("code")))
		}
		names = append(names, kind)
	}
}

func TestHalfCloseEndsClean(t *testing.T) {
	i, r := pair(0)
	i.SendData(0, []byte("question"))
	i.SendBye(0)
	if !i.SendData(0, []byte("more")) {
		t.Error("Data after Bye")
	}
	r.Receive(0, i.Sent())
	expect(t, r, "BYE_RECEIVED", "data question, end_of_data")
	r.SendData(0, []byte("answer"))
	r.SendBye(0)
	expect(t, r, "DRAINING", "")
	i.Receive(0, r.Sent())
	expect(t, i, "CLOSED", "data answer, end_of_data")
	r.Tick(4999)
	expect(t, r, "DRAINING", "")
	r.Tick(5000)
	expect(t, r, "CLOSED", "")
}

func TestByeWaitsForWhatIsBeingWritten(t *testing.T) {
	i, r := pair(0)
	r.SendBye(0)
	i.Stalled = true
	i.SendData(0, []byte("slow"))
	i.SendBye(0)
	i.Receive(0, r.Sent())
	expect(t, i, "BYE_SENT", "")
	i.Accept(1)
	expect(t, i, "CLOSED", "end_of_data")
	if i, _ = pair(0); !i.Closed {
		i.Stalled = true
		i.SendBye(0)
		_, r = pair(0)
		r.SendBye(0)
		i.Receive(0, r.Sent())
		i.FailWrite(1)
		expect(t, i, "CLOSED", "write_failed, end_of_data")
	}
}

func TestSilenceEndsASessionAndKeepAlivesGoOnTillThen(t *testing.T) {
	i, r := pair(1000)
	i.Tick(9999)
	nine := strings.TrimSpace(strings.Repeat("KeepAlive ", 9))
	if got := kinds(t, NewDirection(run(0, 31), 1), i.Sent()); got != nine {
		t.Error(got) // [SE-38]: the whole handshake deadline
	}
	expect(t, i, "OPEN", "")
	i.Tick(10000)
	expect(t, i, "FAILING", "keepalive_timeout")
	r.Tick(2999)
	expect(t, r, "OPEN", "")
	r.Hold(2999, true)
	r.Tick(100000)
	r.Hold(100000, false)
	expect(t, r, "OPEN", "")
	r.Sent()
	r.Tick(100001)
	expect(t, r, "FAILING", "keepalive_timeout")
	r.Tick(101000)
	expect(t, r, "FAILING", "")
	r.Tick(101001)
	expect(t, r, "FAILED", "")
}

func TestRekeyComesBeforeTheLastNumberAndByAge(t *testing.T) {
	a, b := run(0, 31), run(32, 63)
	s := NewSession(true, NewDirection(a, last), NewDirection(b, 0), 0, 10000, 0)
	s.SendError(0, "internal", "")
	if got := kinds(t, NewDirection(a, last), s.Sent()); got != "Rekey Error(internal)" {
		t.Error(got)
	}
	i, r := pair(0)
	if i.SendRekey(0) || !i.SendRekey(0) { // [SE-22]
		t.Error("two in a row")
	}
	if got := kinds(t, NewDirection(a, 1), i.Sent()); got != "Rekey" {
		t.Error(got)
	}
	i, r = pair(0)
	i.SendData(3600000, []byte("x"))
	i.SendData(3600001, []byte("x"))
	i.SendData(9999999, []byte("x"))
	if got := kinds(t, NewDirection(a, 1), i.Sent()); got != "Data Rekey Data Rekey Data" {
		t.Error(got)
	}
	r.SendData(9999999, []byte("x")) // its generation has no record yet [SE-25]
	if got := kinds(t, NewDirection(b, 0), r.Sent()); got != "Data" {
		t.Error(got)
	}
}

func TestViolationsAreAnsweredAndErrorsAreNot(t *testing.T) {
	sealed := func(seal func(d *Direction) []byte) []byte { return seal(NewDirection(run(32, 63), 0)) }
	for name, c := range map[string]struct {
		arrives        []byte
		state, reports string
		answer         string
	}{
		"a kind that is not due": {[]byte{1, 0, 0, 17}, "FAILING", "violation", "Error(protocol_violation)"},
		"a length of 16":         {[]byte{3, 0, 0, 16}, "FAILING", "violation", "Error(protocol_violation)"},
		"Confirm again": {sealed(func(d *Direction) []byte { return d.Seal("Confirm", nil) }),
			"FAILING", "violation", "Error(protocol_violation)"},
		"Rekey with seq 0": {sealed(func(d *Direction) []byte { return d.Seal("Rekey", nil) }),
			"FAILING", "violation", "Error(protocol_violation)"},
		"a KeepAlive where there are none": {sealed(func(d *Direction) []byte { return d.Seal("KeepAlive", nil) }),
			"FAILING", "violation", "Error(protocol_violation)"},
		"Data without payload": {sealed(func(d *Direction) []byte { return d.Seal("Data", nil) }),
			"FAILING", "violation", "Error(protocol_violation)"},
		"Data after Bye": {sealed(func(d *Direction) []byte {
			return append(d.Seal("Bye", nil), d.Seal("Data", []byte("x"))...)
		}), "FAILING", "end_of_data, violation", "Error(protocol_violation)"},
		"a malformed Error": {sealed(func(d *Direction) []byte { return d.Seal("Error", []byte{1}) }),
			"FAILED", "violation", ""},
		"an Error of an unknown code": {sealed(func(d *Direction) []byte {
			return d.Seal("Error", []byte{9, 9, 0, 0})
		}), "FAILED", "error internal", ""},
		"a changed tag": {sealed(func(d *Direction) []byte {
			b := d.Seal("Bye", nil)
			b[20] ^= 1
			return b
		}), "FAILING", "violation", "Error(protocol_violation)"},
	} {
		i, _ := pair(0)
		i.Receive(0, c.arrives)
		if got := kinds(t, NewDirection(run(0, 31), 1), i.Sent()); got != c.answer {
			t.Errorf("%s: %q", name, got)
		}
		if got := said(i); i.State != c.state || got != c.reports {
			t.Errorf("%s: %s %q", name, i.State, got)
		}
	}
}

func TestTheEndBeforeByeIsATruncation(t *testing.T) {
	i, r := pair(0)
	i.TransportClosed(0)
	expect(t, i, "FAILED", "truncation")
	i, _ = pair(0)
	i.SendBye(0)
	r.Receive(0, i.Sent())
	r.TransportClosed(0)
	expect(t, r, "CLOSED", "end_of_data")
	if !r.SendData(0, []byte("x")) {
		t.Error("Data after the end")
	}
}

func TestClosingDiscardsWithinItsBounds(t *testing.T) {
	i, r := pair(0)
	i.AppClose(0)
	if got := kinds(t, NewDirection(run(0, 31), 1), i.Sent()); got != "Bye" {
		t.Error(got)
	}
	for range 16 {
		if i.State != "BYE_SENT" {
			t.Error(i.State)
		}
		r.SendData(0, make([]byte, 65536))
		i.Receive(0, r.Sent())
	}
	expect(t, i, "FAILED", "")
	i, _ = pair(0)
	i.Stalled = true
	i.AppClose(0)
	i.Tick(100000)
	i.Accept(100000)
	i.Tick(104999)
	expect(t, i, "BYE_SENT", "")
	i.Tick(105000)
	expect(t, i, "FAILED", "")
}

func TestAWriteWithoutProgressIsGivenUp(t *testing.T) {
	i, r := pair(0)
	i.Stalled = true
	i.SendData(0, []byte("x"))
	i.Tick(299999)
	expect(t, i, "OPEN", "")
	i.Tick(300000)
	expect(t, i, "FAILED", "write_timeout")
	r.FailWrite(0)
	i, _ = pair(0)
	i.SendError(0, "shutting_down", "bye")
	r.Receive(500, i.Sent())
	expect(t, r, "FAILED", "write_failed, error shutting_down")
	_, r = pair(0)
	r.FailWrite(0)
	r.Tick(1000)
	expect(t, r, "FAILED", "write_failed, truncation")
}
