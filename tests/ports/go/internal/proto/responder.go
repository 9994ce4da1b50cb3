package proto

// The responder of a handshake (5.7, 5.8, 5.10, 5.15).

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

// ResponderTable is the state table Responder (5.15).
var ResponderTable = Table{[]string{
	"HELLO_VERIFIED", "HELLO_REFUSED", "CONFIRM_OPENED", "CONFIRM_REFUSED", "DEADLINE_PASSED", "TRANSPORT_CLOSED",
}, []Row{
	{"AWAIT_HELLO", "HELLO_VERIFIED", "send HelloReply", "AWAIT_CONFIRM"},
	{"AWAIT_HELLO", AnyOther, "close", "IGNORED"},
	{"AWAIT_CONFIRM", "CONFIRM_OPENED", "nothing", "ESTABLISHED"},
	{"AWAIT_CONFIRM", AnyOther, "close", "IGNORED"},
	{"ESTABLISHED", AnyOther, "nothing", "ESTABLISHED"},
	{"IGNORED", AnyOther, "nothing", "IGNORED"},
}}

// A Listener is what a responder knows of the port that accepted the connection.
type Listener struct {
	Port      string
	NodeID    []byte
	Accepted  []*crypt.PrivateKey // the accepted cks, newest first (5.7)
	Roster    *cluster.Roster
	AtConfirm *cluster.Roster // the roster in force when Confirm arrives
	KeepAlive uint64
	Replay    *ReplayCache
	Draws     Draws
}

// A ReplyMade is how a HelloReply was made.
type ReplyMade struct {
	HelloBody, Ciphertext, MLKEM, X25519, Body, KReply []byte
}

// A Responder is the side that accepted the connection [HS-79].
type Responder struct {
	State       string
	Made        *ReplyMade
	Established *Established
	Inserted    [][]byte // digests that went into the replay cache
	Refusal     error    // for the local log alone: whoever sent the Hello sees no difference [HS-20]
	at          *Listener
	frames      FrameReader
	sk          []byte // what I proved; nil: anonymous
}

// NewResponder is a connection that has passed the checks 1 and 2.
func NewResponder(at *Listener) *Responder {
	var sizes []int
	for _, ck := range at.Accepted {
		sizes = append(sizes, ck.Size())
	}
	return &Responder{State: "AWAIT_HELLO", at: at, frames: FrameReader{Due: DueHello(sizes)}}
}

func (r *Responder) event(event string) string {
	row := ResponderTable.Look(r.State, event)
	r.State = row.Next
	return row.Action
}

// Fail is DEADLINE_PASSED or TRANSPORT_CLOSED.
func (r *Responder) Fail(event string) { r.event(event) }

// Feed takes what arrives, and gives HelloReply when the Hello has passed its checks.
func (r *Responder) Feed(data []byte) []byte {
	switch r.State {
	case "ESTABLISHED":
		r.Established.Unread = append(r.Established.Unread, data...)
		return nil
	case "IGNORED":
		return nil
	}
	r.frames.Feed(data)
	var sent []byte
	if r.State == "AWAIT_HELLO" {
		frame, err := r.frames.Next() // check 3, [HS-25]
		if frame != nil {
			sent, err = r.hello(frame)
		}
		switch {
		case err != nil:
			return r.refuse("HELLO_REFUSED", err)
		case frame == nil:
			return nil
		}
		r.event("HELLO_VERIFIED")
		r.frames.Due = DueConfirm
	}
	if r.State == "AWAIT_CONFIRM" {
		frame, err := r.frames.Next() // [HS-56]
		if frame != nil {
			err = r.confirm(frame)
		}
		if err != nil {
			r.refuse("CONFIRM_REFUSED", err)
		} else if frame != nil {
			r.event("CONFIRM_OPENED")
			r.Established.Unread = append([]byte{}, r.frames.Unread()...)
		}
	}
	return sent
}

// refuse sends nothing and closes: [HS-19], [HS-59].
func (r *Responder) refuse(event string, err error) []byte {
	r.event(event)
	r.Refusal, r.Established = err, nil
	return nil
}

// hello makes the checks 4 to 17 in their order [HS-18], and then the HelloReply.
func (r *Responder) hello(frame []byte) ([]byte, error) {
	if version := binary.BigEndian.Uint16(frame[headerSize:]); version != 2 {
		return nil, wire.Refuse("HS-26", "version %d", version)
	}
	hello, err := wire.Decode("Hello", frame[headerSize:])
	if err != nil {
		return nil, wire.Refuse("HS-26", "%v", err)
	}
	kem := hello.B("kem_ciphertext")
	ck := r.findCK(frame, len(kem), hello.B("mac"))
	if ck == nil {
		return nil, wire.Refuse("HS-27", "the mac is not right")
	}
	digest := HelloDigest(frame)
	if r.at.Replay.Has(digest) {
		return nil, wire.Refuse("HS-28", "the Hello was here before")
	}
	key1, err := ck.DecryptKey1(kem)
	if err != nil {
		key1 = r.at.Draws["oaep_fallback"] // [HS-40]
	}
	head := frame[:headerSize+4+len(kem)]
	plaintext, err := crypt.Open(HelloKey(key1), crypt.ZeroNonce, head, hello.B("sealed"))
	if err != nil {
		return nil, wire.Refuse("HS-29", "sealed does not open")
	}
	body, err := wire.Decode("HelloBody", plaintext)
	if err != nil {
		return nil, wire.Refuse("HS-30", "%v", err)
	}
	if err := crypt.CheckEncapsulationKey(body.B("mlkem_ek")); err != nil {
		return nil, wire.Refuse("HS-30", "%v", err)
	}
	sk, err := r.judge(body, signedPart(head[headerSize:], plaintext, body))
	if err != nil {
		return nil, err
	}
	x25519, err := crypt.X25519(r.at.Draws["x25519"], body.B("x25519"))
	if err != nil {
		return nil, wire.Refuse("HS-38", "%v", err)
	}
	if sk != nil { // [HS-62]
		if !r.at.Replay.Insert(digest) {
			return nil, wire.Refuse("HS-39", "the Hello was here before")
		}
		r.Inserted = append(r.Inserted, digest)
	}
	r.sk = sk
	return r.reply(frame, key1, plaintext, body, x25519)
}

// findCK is check 5: the first of the accepted cks of this size whose mac is right [HS-27].
func (r *Responder) findCK(frame []byte, size int, mac []byte) *crypt.PrivateKey {
	var knock []byte
	if r.at.Port == "cluster" {
		knock = r.at.Roster.Knock
	}
	message := frame[:len(frame)-len(mac)]
	for _, ck := range r.at.Accepted {
		if ck.Size() != size {
			continue
		}
		computed := crypt.HMAC(MacKey(ck.SPKI, knock), message)[:len(mac)]
		if subtle.ConstantTimeCompare(computed, mac) == 1 { // [NO-29]
			return ck
		}
	}
	return nil
}

// judge makes the checks 9 to 15, and gives the initiator's sk, nil if it is anonymous.
func (r *Responder) judge(body wire.Values, signed []byte) ([]byte, error) {
	role := wire.Enums["Role"].Name(body.U("role"))
	purpose := wire.Enums["Purpose"].Name(body.U("purpose"))
	initiator, anonymous := body.B("initiator"), role == "anonymous"
	roster := r.at.Roster
	switch {
	case !bytes.Equal(body.B("recipient"), r.at.NodeID):
		return nil, wire.Refuse("HS-31", "for another NodeID")
	case !bytes.Equal(body.B("cluster"), roster.ClusterID):
		return nil, wire.Refuse("HS-32", "for another cluster")
	case !allowed[r.at.Port+"/"+role+"/"+purpose]:
		return nil, wire.Refuse("HS-33", "%s for a %s on the %s port", role, purpose, r.at.Port)
	case anonymous && !roster.AnyoneMayCome():
		return nil, wire.Refuse("HS-33", "client_access is listed")
	case purpose == "link" && bytes.Compare(initiator, r.at.NodeID) >= 0:
		return nil, wire.Refuse("HS-34", "the initiator has not the lower NodeID")
	case anonymous:
		return nil, nil
	}
	card := roster.Member(initiator)
	if role == "client" {
		card = roster.Client(initiator)
	}
	if card == nil {
		return nil, wire.Refuse("HS-35", "not in the roster")
	}
	if bytes.Equal(initiator, r.at.NodeID) {
		return nil, wire.Refuse("HS-36", "the initiator is the recipient")
	}
	key, err := crypt.ParseSPKI(card.SK)
	if err == nil {
		err = key.VerifyPSS(crypt.Labelled("hello-signature", signed), body.B("signature"))
	}
	if err != nil {
		return nil, wire.Refuse("HS-37", "%v", err)
	}
	return card.SK, nil
}

// reply makes the HelloReply: [HS-42] to [HS-45].
func (r *Responder) reply(frame, key1, plaintext []byte, hello wire.Values, x25519 []byte) ([]byte, error) {
	draws := r.at.Draws
	share, err := crypt.X25519Public(draws["x25519"])
	if err != nil {
		return nil, err
	}
	mlkem, ciphertext, err := crypt.Encapsulate(hello.B("mlkem_ek"), draws["mlkem_m"])
	if err != nil {
		return nil, err
	}
	body, err := wire.Encode("ReplyBody", wire.Values{
		"key2": draws["key2"], "x25519": share, "mlkem_ciphertext": ciphertext,
		"keepalive": r.at.KeepAlive, "epoch": r.at.Roster.Epoch,
	})
	if err != nil {
		return nil, err
	}
	salt := draws["salt"]
	reply := append(makeHeader("HelloReply", wire.HelloReplySize), salt...)
	kReply := ReplyKey(frame, salt, key1)
	reply = append(reply, crypt.Seal(kReply, crypt.ZeroNonce, reply, body)...)
	r.Made = &ReplyMade{plaintext, ciphertext, mlkem, x25519, body, kReply}
	r.Established = &Established{
		Secrets:   Derive(frame, reply, draws["key2"], key1, x25519, mlkem),
		KeepAlive: r.at.KeepAlive, Epoch: r.at.Roster.Epoch,
		Role:    wire.Enums["Role"].Name(hello.U("role")),
		Purpose: wire.Enums["Purpose"].Name(hello.U("purpose")),
		Service: hello.T("service"),
	}
	if r.sk != nil {
		r.Established.Initiator = hello.B("initiator")
	}
	return reply, nil
}

// confirm makes the checks of 5.10: [HS-57], [HS-58].
func (r *Responder) confirm(frame []byte) error {
	e := r.Established
	kind, _, err := NewDirection(e.I2R, 0).Open(frame)
	if err != nil {
		return wire.Refuse("HS-57", "%v", err)
	}
	if kind != "Confirm" {
		return wire.Refuse("HS-57", "%s in the place of Confirm", kind)
	}
	now := r.at.AtConfirm
	if now.Member(r.at.NodeID) == nil {
		return wire.Refuse("RO-58", "this node is no longer a member")
	}
	if !now.AdmitsAtR(e.Role, e.Initiator, r.sk) {
		return wire.Refuse("HS-58", "the initiator is no longer admitted")
	}
	return nil
}
