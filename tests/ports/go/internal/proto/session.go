package proto

// The session: its machine, reading and writing (6.5 to 6.12).

import (
	"slices"
	"strings"

	"xlattice-port/internal/wire"
)

// A Report is what the application of a session is told.
type Report struct {
	What string // data, end_of_data, truncation, error, violation, keepalive_timeout, write_failed, write_timeout
	Data []byte
	Code string
	Text string
}

// A Session is one side of a session (section 6). Time is an argument, in milliseconds, and never falls.
//
// Bytes to be written are taken with Sent. By default the transport takes them at once; while Stalled is set it does
// not, and Accept or FailWrite says what became of them.
type Session struct {
	State   string
	Closed  bool  // the connection is closed
	Refusal error // the violation that this side has found, or the truncation
	Stalled bool

	send, receive *Direction
	initiator     bool
	frames        FrameReader
	sent          []byte
	reports       []Report

	keepalive, handshakeDeadline int64
	firstSealed                  int64 // when the generation's first record was sealed; -1: it has none
	sendTimer                    int64 // when it began
	silence                      int64 // what the silence clock shows at silenceAt
	silenceAt                    int64
	holding                      bool // the side holds back its reading [SE-36]
	opened                       bool // a record has been opened

	writes     []bool // frames that the transport has not accepted; true: own Bye
	writeBegan int64
	failedAt   int64 // when a write failed; -1: none has
	byeWaits   bool  // the peer's Bye waits [SE-80]

	lingerAt  int64 // when discarding began in DRAINING or FAILING; -1: it has not
	appClosed bool
	closingAt int64 // when the 5 seconds of [SE-52] began; -1: they have not
	discarded int
}

// NewSession is a session at its own ESTABLISHED. Confirm has been sent or opened.
func NewSession(initiator bool, i2r, r2i *Direction, keepalive, handshakeDeadline, now int64) *Session {
	s := &Session{
		State: "OPEN", send: r2i, receive: i2r, initiator: initiator, frames: FrameReader{Due: DueRecord},
		keepalive: keepalive, handshakeDeadline: handshakeDeadline,
		sendTimer: now, silenceAt: now, firstSealed: -1, failedAt: -1, lingerAt: -1, closingAt: -1,
	}
	if initiator {
		s.send, s.receive = i2r, r2i
	}
	if s.send.Seq > 0 {
		s.firstSealed = now
	}
	return s
}

// Sent takes the bytes that are to be written.
func (s *Session) Sent() []byte {
	b := s.sent
	s.sent = nil
	return b
}

// Reports takes what the application is told.
func (s *Session) Reports() []Report {
	r := s.reports
	s.reports = nil
	return r
}

// report tells the application something, unless it has closed [SE-53].
func (s *Session) report(r Report) {
	if !s.appClosed {
		s.reports = append(s.reports, r)
	}
}

// receiving says whether what arrives is opened [SE-50].
func (s *Session) receiving() bool {
	return s.State == "OPEN" || s.State == "BYE_SENT" || s.State == "BYE_RECEIVED"
}

// fact is what an event carries.
type fact struct {
	kind    string // of a record that is to be sent
	payload []byte
	found   string // what is reported if this side ends the session
}

// event is the machine: it does what the table says [SE-72], and tells whether the caller was refused.
func (s *Session) event(now int64, name string, f fact) (refused bool) {
	row := SessionTable.Look(s.State, name)
	before := s.State
	s.State = row.Next
	for action := range strings.SplitSeq(row.Action, ", ") {
		switch action {
		case "nothing", "discard":
		case "seal":
			s.seal(now, f.kind, f.payload)
		case "deliver":
			s.deliver(now, f.payload)
		case "refuse the caller":
			refused = true
		case "report end of data":
			s.report(Report{What: "end_of_data"}) // [SE-42]
		case "report the error":
			s.reportError(f.payload)
		case "report truncation":
			if f.found == "" {
				s.Refusal = wire.Refuse("SE-65", "a truncation")
				s.report(Report{What: "truncation"})
			}
		case "send Error(keepalive_timeout)":
			s.sendError(now, "keepalive_timeout")
		case "send Error(protocol_violation)":
			s.sendError(now, "protocol_violation")
		case "close":
			s.close()
		default:
			panic("no action: " + action)
		}
	}
	if f.found != "" && !refused {
		s.report(Report{What: f.found}) // [SE-82], [SE-71]
	}
	if s.State == "FAILING" && before != "FAILING" {
		s.lingerAt = now // [SE-63]
		if s.failedAt >= 0 {
			s.event(now, "TRANSPORT_CLOSED", fact{})
		}
	}
	return refused
}

// deliver gives Data to the application, or counts it after an early close [SE-52].
func (s *Session) deliver(now int64, payload []byte) {
	if !s.appClosed {
		s.report(Report{What: "data", Data: payload})
		return
	}
	s.discarded += len(payload)
	if s.discarded >= wire.LingerBytes {
		s.event(now, "TRANSPORT_CLOSED", fact{})
	}
}

// reportError is [SE-58]; an unknown code counts as internal [SE-60].
func (s *Session) reportError(payload []byte) {
	v, err := wire.Decode("ErrorBody", payload)
	if err != nil {
		panic(err) // it has passed check 7
	}
	code := wire.Enums["ErrorCode"].Name(v.U("code"))
	if code == "" {
		code = "internal"
	}
	s.report(Report{What: "error", Code: code, Text: v.T("text")})
}

func (s *Session) close() {
	s.Closed = true
	s.send, s.receive = nil, nil // [SE-78]
	s.writes = nil
}

// errorBody encodes what an Error carries [SE-54].
func errorBody(code, text string) []byte {
	return wire.MustEncode("ErrorBody", wire.Values{"code": wire.Enums["ErrorCode"][code], "text": text})
}

// sendError is an Error of the side's own, without text. After a failed write nothing is sent (6.11).
func (s *Session) sendError(now int64, code string) {
	if s.failedAt < 0 {
		s.seal(now, "Error", errorBody(code, ""))
	}
}

// rekeyIsDue says whether a Rekey has to come before the next record: [SE-23], [SE-24], [SE-25].
func (s *Session) rekeyIsDue(now int64) bool {
	return s.send.Seq == last || s.firstSealed >= 0 && now-s.firstSealed > wire.GenerationAge
}

// seal seals a record, behind a Rekey if one is due, and begins to write it [SE-17].
func (s *Session) seal(now int64, kind string, payload []byte) {
	if kind != "Rekey" && s.rekeyIsDue(now) {
		s.seal(now, "Rekey", nil)
	}
	if s.firstSealed < 0 {
		s.firstSealed = now
	}
	s.sent = append(s.sent, s.send.Seal(kind, payload)...)
	if kind == "Rekey" {
		s.firstSealed = -1
	}
	if len(s.writes) == 0 {
		s.writeBegan = now
	}
	s.writes = append(s.writes, kind == "Bye")
	if !s.Stalled {
		s.Accept(now)
	}
}

// Accept says that the transport has wholly accepted all that was sealed.
func (s *Session) Accept(now int64) {
	if len(s.writes) == 0 {
		return
	}
	bye := s.byeUnderWay()
	s.writes = nil
	s.sendTimer = now
	if bye && s.State == "DRAINING" {
		s.lingerAt = now // [SE-47]
	}
	if bye && s.appClosed && s.State == "BYE_SENT" {
		s.closingAt = now
	}
	if s.byeWaits {
		s.openBye(now)
	}
}

// openBye raises the event that [SE-80] has put off, and takes up what arrived behind it.
func (s *Session) openBye(now int64) {
	s.byeWaits = false
	s.silenceAt = now
	s.event(now, "BYE_OPENED", fact{})
	s.read(now)
}

// FailWrite says that a write has failed (6.11).
func (s *Session) FailWrite(now int64) {
	if s.Closed || s.failedAt >= 0 {
		return
	}
	s.report(Report{What: "write_failed"}) // [SE-84]
	s.writes = nil
	if s.State == "DRAINING" || s.State == "FAILING" || s.appClosed && !s.byeWaits {
		s.event(now, "TRANSPORT_CLOSED", fact{})
		return
	}
	s.failedAt = now // [SE-68]
	if s.byeWaits {
		s.openBye(now)
	}
}

// SendData is what the application asks for; it says whether it was refused.
func (s *Session) SendData(now int64, payload []byte) bool {
	return s.want(now, "SEND_DATA", "Data", payload)
}

// SendKeepAlive sends a KeepAlive, early or not [SE-33]; without keepalives none may be sent [SE-34].
func (s *Session) SendKeepAlive(now int64) bool {
	return s.keepalive == 0 || s.want(now, "SEND_KEEPALIVE", "KeepAlive", nil)
}

// SendRekey sends a Rekey of the side's own will [SE-26], if the generation has a record [SE-22].
func (s *Session) SendRekey(now int64) bool {
	return s.Closed || s.send.Seq == 0 || s.want(now, "SEND_REKEY", "Rekey", nil)
}

// SendBye ends the side's own direction.
func (s *Session) SendBye(now int64) bool { return s.want(now, "SEND_BYE", "Bye", nil) }

// SendError ends the session with an Error.
func (s *Session) SendError(now int64, code, text string) bool {
	return s.want(now, "SEND_ERROR", "Error", errorBody(code, text))
}

func (s *Session) want(now int64, event, kind string, payload []byte) bool {
	if s.failedAt >= 0 { // nothing is sent after a failed write [SE-18]
		return true
	}
	return s.event(now, event, fact{kind: kind, payload: payload})
}

// AppClose is that the application closes: [SE-51], [SE-52], [SE-81].
func (s *Session) AppClose(now int64) {
	if s.appClosed || s.Closed {
		return
	}
	s.appClosed = true
	switch {
	case s.failedAt >= 0:
		s.event(now, "TRANSPORT_CLOSED", fact{})
		return
	case s.State == "OPEN" || s.State == "BYE_RECEIVED":
		s.SendBye(now)
	}
	if s.State == "BYE_SENT" && !s.byeUnderWay() {
		s.closingAt = now
	}
}

func (s *Session) byeUnderWay() bool { return slices.Contains(s.writes, true) }

// Receive takes bytes that arrive, or discards them.
func (s *Session) Receive(now int64, data []byte) {
	if !s.receiving() {
		return
	}
	s.frames.Feed(data)
	s.read(now)
}

// read takes whole records, until one changes what is read.
func (s *Session) read(now int64) {
	for s.receiving() && !s.byeWaits {
		frame, err := s.frames.Next() // check 1
		if frame == nil && err == nil {
			return
		}
		var f fact
		event := "VIOLATION"
		if err == nil {
			event, f.payload, err = s.check(frame)
		}
		if event == "VIOLATION" || event == "ERROR_MALFORMED" {
			f.found = "violation"
		} else {
			s.opened, s.silence, s.silenceAt = true, 0, now
		}
		if event == "BYE_OPENED" && s.State == "BYE_SENT" && len(s.writes) > 0 {
			s.byeWaits = true // [SE-80]
			return
		}
		if s.State == "BYE_RECEIVED" && (event == "BYE_OPENED" || event == "DATA_OPENED") { // check 8
			f.found, err = "violation", wire.Refuse("SE-40", "%s after the peer's Bye", event)
		}
		if err != nil {
			s.Refusal = err
		}
		s.event(now, event, f)
	}
}

// check makes the checks 2 to 7 of 6.2 and gives the event [SE-13].
func (s *Session) check(frame []byte) (event string, payload []byte, err error) {
	kind, payload, err := s.receive.open(frame)
	switch {
	case err != nil:
	case kind == "Confirm" && s.initiator:
		err = wire.Refuse("SE-30", "a Confirm of R")
	case kind == "Confirm":
		err = wire.Refuse("SE-29", "a second Confirm")
	case kind == "KeepAlive" && s.keepalive == 0:
		err = wire.Refuse("SE-34", "a KeepAlive where there are none")
	default:
		err = checkPayload(kind, payload)
		if err != nil && kind == "Error" {
			return "ERROR_MALFORMED", nil, err
		}
	}
	if err != nil {
		return "VIOLATION", nil, err
	}
	s.receive.step(kind)
	return strings.ToUpper(kind) + "_OPENED", payload, nil
}

// TransportClosed is the end of the connection, of both directions or of the peer's [SE-69]. What was being written has
// failed with it.
func (s *Session) TransportClosed(now int64) {
	switch {
	case s.byeWaits:
		s.FailWrite(now)
	case len(s.writes) > 0:
		s.report(Report{What: "write_failed"})
	}
	if !s.Closed {
		s.event(now, "TRANSPORT_CLOSED", fact{})
	}
}
