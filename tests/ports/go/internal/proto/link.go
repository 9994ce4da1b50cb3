package proto

// One side of a link: its messages and transfers (7.4 to 7.8).

import (
	"bytes"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/wire"
)

// A LinkAction is what a link wants of its session.
type LinkAction struct {
	Do    string // data, error, bye, close
	Bytes []byte // of data: one whole link message
	Code  string // of error
}

// An offer is a RosterOffer.
type offer struct {
	epoch  uint64
	digest []byte
}

// A Link is one side of the link with a peer (section 7).
type Link struct {
	State     string
	Refusal   error // the violation that this side has found
	node      *Node
	peer      *cluster.Card
	initiator bool
	inForce   bool // [LK-2]
	actions   []LinkAction

	buffer    []byte
	header    *linkHeader // of the message that is arriving
	peerOffer *offer      // the peer's last offer [LK-29]
	requested int         // requests sent here
	arrived   int         // transfers arrived here
	byeAt     int64       // when own Bye was sent, in LEAVING
	verifying *verifying
}

// A verifying is a transfer that has passed the checks 1 to 3 and is being verified.
type verifying struct {
	roster  *cluster.Roster
	answers bool // it is the transfer of the request that is active
	until   int64
}

func (v *verifying) answersRequest() bool { return v != nil && v.answers }

type linkHeader struct {
	kind   string
	length int
}

// NewLink is a link at the side's own ESTABLISHED: it sends its first offer [LK-25].
func (n *Node) NewLink(now int64, peer *cluster.Card, initiator bool) *Link {
	l := &Link{State: "AWAIT_OFFER", node: n, peer: peer, initiator: initiator, inForce: !initiator}
	n.links = append(n.links, l)
	l.offer()
	return l
}

// Actions takes what the link wants of its session.
func (l *Link) Actions() []LinkAction {
	a := l.actions
	l.actions = nil
	return a
}

// open says whether the link has not begun to end.
func (l *Link) open() bool { return l.State == "AWAIT_OFFER" || l.State == "EXCHANGED" }

// admitted says whether a roster admits the link (3.11).
func (l *Link) admitted(r *cluster.Roster) bool {
	if l.initiator {
		return r.AdmitsAtI("member", l.peer.NodeID, l.node.Self.NodeID)
	}
	return r.AdmitsAtR("member", l.peer.NodeID, l.peer.SK)
}

// send writes one whole link message [LK-24].
func (l *Link) send(kind string, body []byte) {
	header := wire.MustEncode("LinkHeader", wire.Values{
		"type": wire.Enums["LinkType"][kind], "length": uint64(len(body)),
	})
	l.actions = append(l.actions, LinkAction{Do: "data", Bytes: append(header, body...)})
}

func (l *Link) offer() {
	r := l.node.InForce
	l.send("RosterOffer", wire.MustEncode("RosterOffer", wire.Values{"epoch": r.Epoch, "digest": r.Digest}))
}

// event does what the table LinkMessages says [LK-51].
func (l *Link) event(now int64, name string, r *cluster.Roster) {
	row := LinkTable.Look(l.State, name)
	wasOpen := l.open()
	l.State = row.Next
	switch row.Action {
	case "nothing", "discard", "keep the offer":
	case "send RosterOffer":
		l.offer()
	case "send RosterTransfer or leave it":
		l.send("RosterTransfer", l.node.InForce.Bytes) // [LK-41]
	case "adopt":
		l.node.putInForce(now, r)
	case "send Bye":
		l.actions = append(l.actions, LinkAction{Do: "bye"})
		l.byeAt = now
	case "close":
		l.actions = append(l.actions, LinkAction{Do: "close"})
	case "send Error(roster_conflict)":
		l.actions = append(l.actions, LinkAction{Do: "error", Code: "roster_conflict"})
	case "send Error(not_authorized)":
		l.actions = append(l.actions, LinkAction{Do: "error", Code: "not_authorized"})
	case "send Error(protocol_violation)":
		l.actions = append(l.actions, LinkAction{Do: "error", Code: "protocol_violation"})
	default:
		panic("no action: " + row.Action)
	}
	if wasOpen && !l.open() {
		l.node.linkEnds(now, l)
	}
}

// Data takes bytes of the Data stream.
func (l *Link) Data(now int64, data []byte) {
	l.inForce = true
	if !l.open() {
		return // [LK-20]
	}
	l.buffer = append(l.buffer, data...)
	l.read(now)
}

// read takes whole messages, each with all its consequences; while a transfer is being verified the next one waits.
func (l *Link) read(now int64) {
	for l.open() && l.verifying == nil {
		message, err := l.next(now)
		if err == nil && message == nil {
			break
		}
		if err == nil {
			err = l.process(now, message)
		}
		if err != nil {
			l.refuse(now, err)
		}
	}
	l.node.ask(now)
}

// refuse is a violation.
func (l *Link) refuse(now int64, err error) {
	l.Refusal = err
	l.node.tell(NodeEvent{What: "violation"})
	l.event(now, "MESSAGE_REFUSED", nil)
}

// next takes the next whole message, and refuses what is not due at its header.
func (l *Link) next(now int64) ([]byte, error) {
	if l.header == nil {
		if len(l.buffer) < headerSize {
			return nil, nil
		}
		header, err := l.checkHeader(l.buffer[:headerSize])
		if err != nil {
			return nil, err
		}
		l.header, l.buffer = header, l.buffer[headerSize:]
		if header.kind == "RosterTransfer" {
			l.arrived++
		}
	}
	if l.header.kind == "RosterTransfer" {
		l.node.transferMoves(now, l)
	}
	if len(l.buffer) < l.header.length {
		return nil, nil
	}
	body := l.buffer[:l.header.length:l.header.length]
	l.buffer = l.buffer[l.header.length:]
	return body, nil
}

// checkHeader refuses an unknown type, a length that the type does not allow [LK-21], and what is not due.
func (l *Link) checkHeader(data []byte) (*linkHeader, error) {
	v, err := wire.Decode("LinkHeader", data)
	if err != nil {
		return nil, wire.Refuse("LK-21", "%v", err)
	}
	h := &linkHeader{wire.Enums["LinkType"].Name(v.U("type")), int(v.U("length"))}
	span := map[string][2]int{
		"RosterOffer": {wire.RosterOfferSize, wire.RosterOfferSize}, "RosterRequest": {0, 0},
		"RosterTransfer": {1, wire.RosterMax},
	}[h.kind]
	switch {
	case h.length < span[0] || h.length > span[1]:
		return nil, wire.Refuse("LK-21", "a %s of %d bytes", h.kind, h.length)
	case l.State == "AWAIT_OFFER" && h.kind != "RosterOffer":
		return nil, wire.Refuse("LK-26", "a %s before the first offer", h.kind)
	case h.kind == "RosterTransfer" && l.requested <= l.arrived:
		return nil, wire.Refuse("LK-47", "nothing was asked for")
	}
	return h, nil
}

// process does what a whole message asks for.
func (l *Link) process(now int64, body []byte) error {
	kind := l.header.kind
	l.header = nil
	if kind == "RosterTransfer" {
		return l.transfer(now, body)
	}
	v, err := wire.Decode(kind, body)
	if err != nil {
		return wire.Refuse("LK-22", "%v", err)
	}
	if kind == "RosterRequest" {
		l.event(now, "REQUEST_READ", nil)
		return nil
	}
	l.peerOffer = &offer{v.U("epoch"), v.B("digest")}
	if !l.conflictFound(now) {
		l.event(now, "OFFER_READ", nil)
	}
	return nil
}

// conflict is that the peer's last offer has the epoch of the roster in force and another digest (7.6).
func (l *Link) conflict() bool {
	r := l.node.InForce
	return l.peerOffer != nil && l.peerOffer.epoch == r.Epoch && !bytes.Equal(l.peerOffer.digest, r.Digest)
}

// conflictFound ends the link if there is a conflict [LK-31].
func (l *Link) conflictFound(now int64) bool {
	if !l.conflict() {
		return false
	}
	l.node.reportConflict(l)
	l.event(now, "CONFLICT_FOUND", nil)
	return true
}

// transfer makes the checks 1 to 3 of 7.8 in their order [LK-48]; the others take their time.
func (l *Link) transfer(now int64, body []byte) error {
	v, err := wire.Decode("RosterTransfer", body)
	if err != nil {
		return wire.Refuse("RO-9", "%v", err)
	}
	r := cluster.NewRoster(v.M("roster"))
	held := l.peerOffer
	if r.Epoch < held.epoch || r.Epoch == held.epoch && !bytes.Equal(r.Digest, held.digest) {
		return wire.Refuse("LK-48", "not the roster of the peer's last offer")
	}
	answers := l.node.answering(l)
	if l.dropped(now, r, answers) {
		return nil
	}
	if l.node.Verification > 0 {
		l.verifying = &verifying{r, answers, now + l.node.Verification}
		return nil
	}
	return l.verified(now, r, answers)
}

// dropped is check 3: a roster that is not above the floor is dropped, and the link goes on [LK-49].
func (l *Link) dropped(now int64, r *cluster.Roster, answers bool) bool {
	if r.Epoch > l.node.Highest {
		return false
	}
	l.node.tell(NodeEvent{What: "dropped"})
	l.event(now, "TRANSFER_DROPPED", nil)
	l.requestOver(now, answers, true)
	return true
}

// verified makes the checks 4 to 6, and the third once more, since what is in force may have changed [LK-64].
func (l *Link) verified(now int64, r *cluster.Roster, answers bool) error {
	if !bytes.Equal(r.Authority, l.node.InForce.Authority) {
		return wire.Refuse("RO-11", "of another authority")
	}
	if err := r.Verify(l.node.InForce.ClusterID); err != nil {
		return err
	}
	if err := l.node.Replaces(r); err != nil {
		return err
	}
	if !l.dropped(now, r, answers) {
		l.event(now, "TRANSFER_VERIFIED", r) // [LK-50]
		l.requestOver(now, answers, false)
	}
	return nil
}

// requestOver ends the active request with its transfer, unless it has failed meanwhile.
func (l *Link) requestOver(now int64, answers, dropped bool) {
	if answers && l.node.answering(l) {
		l.node.requestOver(now, dropped)
	}
}

// verificationOver ends the time that a verification takes, and goes on to what arrived meanwhile.
func (l *Link) verificationOver(now int64) {
	v := l.verifying
	l.verifying = nil
	if err := l.verified(now, v.roster, v.answers); err != nil {
		l.refuse(now, err)
	}
	l.read(now)
}

// ByeOpened is the peer's Bye. What it has cut off is discarded [LK-18].
func (l *Link) ByeOpened(now int64) { l.event(now, "BYE_OPENED", nil); l.node.ask(now) }

// SessionEnded is any other end of the session.
func (l *Link) SessionEnded(now int64) { l.event(now, "SESSION_ENDED", nil); l.node.ask(now) }

// Replaced is that a newer link with this peer is ESTABLISHED [LK-14].
func (l *Link) Replaced(now int64) {
	l.inForce = false
	l.event(now, "REPLACED", nil)
	l.node.ask(now)
}

// NodeStopping is that the node stops [SV-23].
func (l *Link) NodeStopping(now int64) { l.event(now, "NODE_STOPPING", nil) }

// peerKey is a peer by its NodeID.
func (l *Link) peerKey() string { return string(l.peer.NodeID) }
