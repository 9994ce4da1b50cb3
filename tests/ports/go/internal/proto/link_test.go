package proto

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/wire"
)

// did is what a link wants of its session, in short, and the link messages that it sends.
func did(l *Link) (said string, data []byte) {
	var words []string
	for _, a := range l.Actions() {
		word := a.Do
		if a.Do == "data" {
			word = wire.Enums["LinkType"].Name(uint64(a.Bytes[0]))
			data = append(data, a.Bytes...)
		}
		if a.Code != "" {
			word += "(" + a.Code + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), data
}

// found is what a node has done and found.
func found(n *Node) string {
	var words []string
	for _, e := range n.Events() {
		words = append(words, e.What)
	}
	return strings.Join(words, " ")
}

func expectLink(t *testing.T, l *Link, state, words string) []byte {
	t.Helper()
	got, data := did(l)
	if l.State != state || got != words {
		t.Errorf("%s %q, not %s %q", l.State, got, state, words)
	}
	return data
}

// linked is node-0, dialling, and node-1; node-1 has the second roster.
func linked(t *testing.T, w *world, second []byte) (a, b *Node, ab, ba *Link) {
	t.Helper()
	node0, node1, first := w.cards2(t)
	roster, err := cluster.VerifyRoster(second, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b = NewNode(node0, first), NewNode(node1, roster)
	return a, b, a.NewLink(0, node1, true), b.NewLink(0, node0, false)
}

func TestANewRosterSpreads(t *testing.T) {
	w := makeWorld(t)
	a, b, ab, ba := linked(t, w, w.makeRoster(2, 0x25))
	offerA := expectLink(t, ab, "AWAIT_OFFER", "RosterOffer")
	offerB := expectLink(t, ba, "AWAIT_OFFER", "RosterOffer")
	ba.Data(0, offerA)
	expectLink(t, ba, "EXCHANGED", "")
	for _, x := range offerB {
		ab.Data(0, []byte{x})
	}
	request := expectLink(t, ab, "EXCHANGED", "RosterRequest")
	ba.Data(0, request)
	transfer := expectLink(t, ba, "EXCHANGED", "RosterTransfer")
	ab.Data(0, transfer)
	expectLink(t, ab, "EXCHANGED", "RosterOffer")
	if a.Highest != 2 || !bytes.Equal(a.InForce.Digest, b.InForce.Digest) {
		t.Error(a.Highest)
	}
	ab.Data(0, transfer) // nobody asked for it
	expectLink(t, ab, "ENDED", "error(protocol_violation)")
}

func TestAConflictEndsTheLink(t *testing.T) {
	w := makeWorld(t)
	a, _, ab, ba := linked(t, w, w.makeRoster(1, 0x25, func(v wire.Values) { v["name"] = "other" }))
	expectLink(t, ab, "AWAIT_OFFER", "RosterOffer")
	ab.Data(0, expectLink(t, ba, "AWAIT_OFFER", "RosterOffer"))
	expectLink(t, ab, "ENDED", "error(roster_conflict)")
	if got := found(a); got != "conflict" || a.InForce.Name != "test-cluster" {
		t.Error(got)
	}
}

func TestARequestWithoutAnswerFailsAndIsRepeated(t *testing.T) {
	w := makeWorld(t)
	a, _, ab, ba := linked(t, w, w.makeRoster(2, 0x25))
	expectLink(t, ab, "AWAIT_OFFER", "RosterOffer")
	ab.Data(0, expectLink(t, ba, "AWAIT_OFFER", "RosterOffer"))
	expectLink(t, ab, "EXCHANGED", "RosterRequest")
	a.Tick(0, 14999)
	expectLink(t, ab, "EXCHANGED", "")
	a.Tick(14999, 15000)
	expectLink(t, ab, "EXCHANGED", "RosterRequest")
	a.Tick(15000, 45000)
	expectLink(t, ab, "EXCHANGED", "RosterRequest RosterRequest")
}

func TestByeIsAnsweredInTheMiddleOfAMessage(t *testing.T) {
	w := makeWorld(t)
	_, _, ab, ba := linked(t, w, w.makeRoster(2, 0x25))
	expectLink(t, ab, "AWAIT_OFFER", "RosterOffer")
	offer := expectLink(t, ba, "AWAIT_OFFER", "RosterOffer")
	ab.Data(0, offer[:20])
	ab.ByeOpened(0)
	expectLink(t, ab, "ENDED", "bye")
	ba.NodeStopping(0)
	expectLink(t, ba, "LEAVING", "bye")
	ba.Data(0, []byte{9, 9, 9, 9, 9}) // discarded
	ba.node.Tick(0, 9999)
	expectLink(t, ba, "LEAVING", "")
	ba.node.Tick(9999, 10000)
	expectLink(t, ba, "ENDED", "close")
}

func TestATransferIsAdoptedOnceItIsVerified(t *testing.T) {
	w := makeWorld(t)
	for name, c := range map[string]struct {
		meanwhile   func(a *Node, ab *Link)
		state, last string
		found       string
	}{
		"nothing": {func(*Node, *Link) {}, "EXCHANGED", "RosterOffer", "adopted"},
		"own Bye": {func(_ *Node, ab *Link) { ab.NodeStopping(1) }, "ENDED", "bye close", "adopted"},
		"the end": {func(_ *Node, ab *Link) { ab.SessionEnded(1) }, "ENDED", "", "adopted"},
		"a newer roster": {func(a *Node, _ *Link) {
			if verdict, err := a.Offered(1, w.makeRoster(3, 0x26), false); verdict != cluster.Adopted {
				t.Error(verdict, err)
			}
		}, "EXCHANGED", "RosterOffer", "adopted dropped"},
		"an unknown type": {func(_ *Node, ab *Link) { ab.Data(1, []byte{9, 0, 0, 0}) },
			"ENDED", "RosterOffer error(protocol_violation)", "adopted violation"},
	} {
		a, _, ab, ba := linked(t, w, w.makeRoster(2, 0x25))
		a.Verification = 200_000
		ba.Data(0, expectLink(t, ab, "AWAIT_OFFER", "RosterOffer"))
		ab.Data(0, expectLink(t, ba, "EXCHANGED", "RosterOffer"))
		ba.Data(0, expectLink(t, ab, "EXCHANGED", "RosterRequest"))
		ab.Data(0, expectLink(t, ba, "EXCHANGED", "RosterTransfer"))
		c.meanwhile(a, ab)
		a.Tick(1, 9_000)
		if a.State != "ASKING" && ab.open() {
			t.Errorf("%s: %s", name, a.State)
		}
		a.Tick(9_000, 200_000)
		got, _ := did(ab)
		if ab.State != c.state || got != c.last || found(a) != c.found || a.State != "QUIET" {
			t.Errorf("%s: %s %q, %s", name, ab.State, got, a.State)
		}
	}
}

func TestAPeerThatFailedIsAskedOnlyIfNoOtherCanBe(t *testing.T) {
	w := makeWorld(t)
	node0, node1, _ := w.cards2(t)
	third, err := cluster.VerifyCard(wire.MustEncode("NodeCard", w.cards["client-0"]))
	if err != nil {
		t.Fatal(err)
	}
	roster, err := cluster.VerifyRoster(w.makeRoster(1, 0x23, func(v wire.Values) {
		members := append(v.L("members"), wire.Values{"card": w.cards["client-0"], "host": "127.0.0.3"})
		slices.SortFunc(members, func(a, b wire.Values) int {
			id := func(m wire.Values) []byte { return cluster.NodeID(m.M("card").B("sk"), 32) }
			return bytes.Compare(id(a), id(b))
		})
		v["members"], v["clients"] = members, []wire.Values{}
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := NewNode(node0, roster)
	links := []*Link{n.NewLink(0, node1, false), n.NewLink(0, third, false)}
	for _, l := range links {
		expectLink(t, l, "AWAIT_OFFER", "RosterOffer")
		l.Data(0, append([]byte{1, 0, 0, 40}, bytes.Repeat([]byte{0xff}, 40)...))
	}
	expectLink(t, links[0], "EXCHANGED", "RosterRequest")
	n.Tick(0, 15_000)
	expectLink(t, links[1], "EXCHANGED", "RosterRequest")
	links[1].SessionEnded(16_000)
	expectLink(t, links[0], "EXCHANGED", "RosterRequest")
}

func TestARemovedNodeSaysSoToWhomItWouldStillAdmit(t *testing.T) {
	w := makeWorld(t)
	_, b, _, ba := linked(t, w, w.makeRoster(2, 0x25))
	expectLink(t, ba, "AWAIT_OFFER", "RosterOffer")
	ba.NodeStopping(0)
	expectLink(t, ba, "LEAVING", "bye")
	without := w.makeRoster(3, 0x26, func(v wire.Values) { v["members"] = v.L("members")[:1] })
	if verdict, err := b.Offered(0, without, false); verdict != cluster.Adopted || b.Member {
		t.Error(verdict, err)
	}
	expectLink(t, ba, "ENDED", "error(shutting_down)")
}

func TestARemovedPeerIsSentAway(t *testing.T) {
	w := makeWorld(t)
	_, b, _, ba := linked(t, w, w.makeRoster(2, 0x25))
	expectLink(t, ba, "AWAIT_OFFER", "RosterOffer")
	without := w.makeRoster(3, 0x26, func(v wire.Values) { v["members"] = v.L("members")[1:] })
	if verdict, err := b.Offered(0, without, false); verdict != cluster.Adopted {
		t.Error(verdict, err)
	}
	expectLink(t, ba, "ENDED", "error(not_authorized)")
}

func TestLinkMessagesThatAreNotDueAreViolations(t *testing.T) {
	w := makeWorld(t)
	for name, arrives := range map[string][]byte{
		"an unknown type":          {4, 0, 0, 0},
		"an offer of 39 bytes":     {1, 0, 0, 39},
		"a request of a byte":      {2, 0, 0, 1},
		"a request before offers":  {2, 0, 0, 0},
		"a transfer before offers": {3, 0, 0, 1},
		"an offer of epoch 0":      append([]byte{1, 0, 0, 40}, make([]byte, 40)...),
	} {
		_, _, ab, _ := linked(t, w, w.makeRoster(2, 0x25))
		expectLink(t, ab, "AWAIT_OFFER", "RosterOffer")
		ab.Data(0, arrives)
		if got, _ := did(ab); ab.State != "ENDED" || got != "error(protocol_violation)" {
			t.Errorf("%s: %s %q", name, ab.State, got)
		}
	}
}
