package proto

// The initiator of a handshake (5.9, 5.10, 5.15).

import (
	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

// InitiatorTable is the state table Initiator (5.15).
var InitiatorTable = Table{[]string{
	"HELLO_MADE", "REPLY_VERIFIED", "REPLY_REFUSED", "DEADLINE_PASSED", "TRANSPORT_CLOSED",
}, []Row{
	{"START", "HELLO_MADE", "send Hello", "AWAIT_REPLY"},
	{"START", AnyOther, "close", "FAILED"},
	{"AWAIT_REPLY", "REPLY_VERIFIED", "send Confirm", "ESTABLISHED"},
	{"AWAIT_REPLY", AnyOther, "close", "FAILED"},
	{"ESTABLISHED", AnyOther, "nothing", "ESTABLISHED"},
	{"FAILED", AnyOther, "nothing", "FAILED"},
}}

// An Established is what a handshake leaves behind.
type Established struct {
	*Secrets
	KeepAlive, Epoch       uint64
	Role, Purpose, Service string
	Initiator              []byte // its NodeID; nil: anonymous
	Unread                 []byte // bytes behind the handshake
}

// An Initiator is the side that opens the connection [HS-78].
type Initiator struct {
	State       string
	Made        *HelloMade
	Established *Established
	Refusal     error // for the local log alone
	plan        *HelloPlan
	kem         *crypt.KEMKey
	frames      FrameReader
}

// NewInitiator makes the Hello, which is to be sent.
func NewInitiator(plan *HelloPlan) (*Initiator, error) {
	kem, err := crypt.NewKEMKey(plan.Draws["mlkem_seed"])
	if err != nil {
		return nil, err
	}
	i := &Initiator{State: "START", plan: plan, kem: kem, frames: FrameReader{Due: DueReply}}
	if i.Made, err = plan.MakeHello(kem.Encapsulation()); err != nil {
		return nil, err
	}
	i.event("HELLO_MADE")
	return i, nil
}

func (i *Initiator) event(event string) string {
	r := InitiatorTable.Look(i.State, event)
	i.State = r.Next
	return r.Action
}

// Fail is DEADLINE_PASSED or TRANSPORT_CLOSED.
func (i *Initiator) Fail(event string) { i.event(event) }

// Feed takes what arrives, and gives Confirm when HelloReply has passed its checks [HS-54].
func (i *Initiator) Feed(data []byte) []byte {
	if i.State == "ESTABLISHED" {
		i.Established.Unread = append(i.Established.Unread, data...)
	}
	if i.State != "AWAIT_REPLY" {
		return nil
	}
	i.frames.Feed(data)
	frame, err := i.frames.Next()
	var e *Established
	if frame != nil {
		e, err = i.verify(frame)
	}
	if err != nil {
		i.Refusal = err
		i.event("REPLY_REFUSED") // [HS-52]
		return nil
	}
	if frame == nil || i.event("REPLY_VERIFIED") != "send Confirm" {
		return nil
	}
	e.Unread = append([]byte{}, i.frames.Unread()...)
	i.Established = e
	return NewDirection(e.I2R, 0).Seal("Confirm", nil)
}

// verify makes the checks 2 to 5 of 5.9; the reader has made the first, [HS-47].
func (i *Initiator) verify(frame []byte) (*Established, error) {
	reply, err := wire.Decode("HelloReply", frame[headerSize:])
	if err != nil {
		return nil, err
	}
	key1 := i.plan.Draws["key1"]
	kReply := ReplyKey(i.Made.Frame, reply.B("salt"), key1)
	plaintext, err := crypt.Open(kReply, crypt.ZeroNonce, frame[:headerSize+32], reply.B("sealed"))
	if err != nil {
		return nil, wire.Refuse("HS-48", "%v", err)
	}
	body, err := wire.Decode("ReplyBody", plaintext)
	if err != nil {
		return nil, wire.Refuse("HS-49", "%v", err)
	}
	keepalive := body.U("keepalive")
	if i.plan.Purpose == "link" && (keepalive < wire.KeepAliveMin || keepalive > wire.LinkKeepAliveMax) {
		return nil, wire.Refuse("HS-50", "a keepalive of %d ms on a link", keepalive)
	}
	x25519, err := crypt.X25519(i.plan.Draws["x25519"], body.B("x25519"))
	if err != nil {
		return nil, wire.Refuse("HS-51", "%v", err)
	}
	mlkem, err := i.kem.Decapsulate(body.B("mlkem_ciphertext"))
	if err != nil {
		return nil, err
	}
	return &Established{
		Secrets:   Derive(i.Made.Frame, frame, body.B("key2"), key1, x25519, mlkem),
		KeepAlive: keepalive, Epoch: body.U("epoch"),
		Role: i.plan.Role, Purpose: i.plan.Purpose, Service: i.plan.Service,
	}, nil
}
