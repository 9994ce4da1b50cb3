package proto

// What the links of a node share: requests (7.7) and adoption (7.9, 7.10).

import (
	"bytes"
	"fmt"
	"slices"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/wire"
)

// A Node is what the links of a node share: the roster in force, the one request, what failed.
type Node struct {
	cluster.Holder
	Self         *cluster.Card
	State        string          // of the table LinkRequest
	Choose       func(n int) int // draws one of n, all equally likely [LK-34]
	Verification int64           // how long it takes to verify a transfer, in milliseconds
	Member       bool            // the node is a member of the roster in force [LK-55]

	events    []NodeEvent
	conflicts []string // that were reported [RO-46]
	links     []*Link

	asked  *Link
	chosen map[string]int64 // when a peer was chosen for its last request
	failed map[string]int64 // when a peer failed a request last
	unpaid map[string]bool  // the peer's last request has failed
	moved  int64            // the request, or the last byte of its transfer
	floor  uint64           // at the request
}

// A NodeEvent is what a node does with a roster, or finds.
type NodeEvent struct {
	What   string // adopted, dropped, conflict, violation
	Digest []byte // of the roster that is adopted
	Epoch  uint64 // of the conflict
}

// NewNode is a node with a roster in force that it is a member of.
func NewNode(self *cluster.Card, inForce *cluster.Roster) *Node {
	return &Node{
		Holder: cluster.Holder{InForce: inForce, Highest: inForce.Epoch}, Self: self, Member: true,
		Choose: func(int) int { return 0 }, State: "QUIET",
		chosen: map[string]int64{}, failed: map[string]int64{}, unpaid: map[string]bool{},
	}
}

func (n *Node) tell(e NodeEvent) { n.events = append(n.events, e) }

// Events takes what the node has done and found.
func (n *Node) Events() []NodeEvent {
	e := n.events
	n.events = nil
	return e
}

// reportConflict reports each conflict once for each peer, epoch and digest [RO-46].
func (n *Node) reportConflict(l *Link) {
	what := fmt.Sprintf("%x %d %x", l.peer.NodeID, l.peerOffer.epoch, l.peerOffer.digest)
	if slices.Contains(n.conflicts, what) {
		return
	}
	const remembered = 512 // [RO-66]
	if len(n.conflicts) == remembered {
		n.conflicts = n.conflicts[1:]
	}
	n.conflicts = append(n.conflicts, what)
	n.tell(NodeEvent{What: "conflict", Epoch: l.peerOffer.epoch})
}

// putInForce makes the steps 3 to 6 of 7.9 with a roster that may be adopted [LK-52]. Storing it is taken for done.
func (n *Node) putInForce(now int64, r *cluster.Roster) {
	n.Adopt(r)
	n.tell(NodeEvent{What: "adopted", Digest: r.Digest})
	own := r.Member(n.Self.NodeID)
	n.Member = own != nil && bytes.Equal(own.SK, n.Self.SK) // [LK-55]
	for _, l := range n.links {
		if !l.admitted(r) {
			l.event(now, "LINK_REFUSED", nil) // [RO-55]
		} else if !n.Member && l.State != "ENDED" { // [LK-56], also behind own Bye
			l.actions = append(l.actions, LinkAction{Do: "error", Code: "shutting_down"})
			l.event(now, "SESSION_ENDED", nil)
		}
	}
	if !n.Member {
		return
	}
	for _, l := range n.links {
		if l.open() && !l.conflictFound(now) {
			l.event(now, "ROSTER_ADOPTED", nil) // [LK-27]
		}
	}
	n.ask(now)
}

// Offered is a roster from the operator's hand.
func (n *Node) Offered(now int64, data []byte, override bool) (cluster.Verdict, error) {
	r, err := cluster.VerifyRoster(data, n.InForce.ClusterID)
	if err != nil {
		return cluster.Refused, err
	}
	verdict, err := n.Judge(r, override)
	if verdict == cluster.Adopted {
		n.putInForce(now, r)
	}
	return verdict, err
}

// request raises an event of the table LinkRequest.
func (n *Node) request(event string) {
	n.State = RequestTable.Look(n.State, event).Next
}

// candidates are the links whose peer may be asked: [LK-33], [LK-61], [LK-35].
func (n *Node) candidates(now int64) []*Link {
	var all, fresh []*Link
	for _, l := range n.links {
		if l.State != "EXCHANGED" || !l.inForce || l.peerOffer.epoch <= n.Highest {
			continue
		}
		key := l.peerKey()
		if n.unpaid[key] && now < n.chosen[key]+wire.TransferIdleDeadline {
			continue
		}
		all = append(all, l)
		if at, ok := n.failed[key]; !ok || now >= at+wire.PeerPenalty {
			fresh = append(fresh, l)
		}
	}
	if len(fresh) > 0 {
		return fresh
	}
	return all
}

// ask raises CANDIDATE_FOUND if there is a candidate.
func (n *Node) ask(now int64) {
	candidates := n.candidates(now)
	if n.State != "QUIET" || len(candidates) == 0 || !n.Member {
		return
	}
	n.request("CANDIDATE_FOUND")
	l := candidates[n.Choose(len(candidates))]
	n.asked, n.moved, n.floor = l, now, n.Highest
	n.chosen[l.peerKey()], n.unpaid[l.peerKey()] = now, false
	l.requested++
	l.send("RosterRequest", nil)
}

// transferMoves is that bytes of a transfer came [LK-36]; which request it answers does not matter [LK-63].
func (n *Node) transferMoves(now int64, l *Link) {
	if n.answering(l) {
		n.moved = now
	}
}

// answering says whether a transfer that arrives on a link is that of the active request [LK-63].
func (n *Node) answering(l *Link) bool { return n.State == "ASKING" && n.asked == l }

// requestOver is that the transfer of the active request was processed; one that is dropped may be a failure [LK-39].
func (n *Node) requestOver(now int64, dropped bool) {
	if dropped && n.Highest <= n.floor {
		n.requestFailed(now)
	} else {
		n.request("REQUEST_ENDED")
	}
	n.ask(now)
}

// requestFailed counts against the peer that was asked [LK-40].
func (n *Node) requestFailed(now int64) {
	key := n.asked.peerKey()
	n.failed[key], n.unpaid[key] = now, true
	n.request("REQUEST_FAILED")
}

// linkEnds is [LK-38].
func (n *Node) linkEnds(now int64, l *Link) {
	if n.answering(l) {
		n.requestFailed(now)
	}
}

// deadlines lists what becomes due: of requests, of links that have said Bye, of transfers that are verified.
func (n *Node) deadlines(now int64) []deadline {
	var due []deadline
	if n.State == "ASKING" && !n.asked.verifying.answersRequest() { // a complete transfer has no times
		at := min(n.moved+wire.TransferIdleDeadline, n.chosen[n.asked.peerKey()]+wire.TransferDeadline) // [LK-37]
		due = append(due, deadline{at, func(now int64) { n.requestFailed(now); n.ask(now) }})
	}
	for _, l := range n.links {
		if l.verifying != nil {
			due = append(due, deadline{l.verifying.until, l.verificationOver})
		}
		if l.State == "LEAVING" {
			due = append(due, deadline{l.byeAt + wire.LinkByeDeadline, func(now int64) { // [LK-19]
				l.event(now, "BYE_DEADLINE_PASSED", nil)
			}})
		}
		at := n.chosen[l.peerKey()] + wire.TransferIdleDeadline
		if n.State == "QUIET" && n.unpaid[l.peerKey()] && at > now {
			due = append(due, deadline{at, func(now int64) { n.ask(now) }})
		}
	}
	return due
}

// Tick does what has become due between two times, in order of time.
func (n *Node) Tick(before, now int64) {
	for {
		var next *deadline
		for _, d := range n.deadlines(before) {
			if next == nil || d.at < next.at {
				next = &d
			}
		}
		if next == nil || next.at > now {
			return
		}
		before = max(before, next.at)
		next.what(before)
	}
}
