package main

// The operation of link.json.

import (
	"fmt"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/proto"
)

type linkInput struct {
	Side         string      `json:"side"`
	Self         string      `json:"self"`
	Peer         string      `json:"peer"`
	Roster       string      `json:"roster"`
	Highest      *epochValue `json:"highest"`
	Verification int64       `json:"verification"`
	Steps        []linkStep  `json:"steps"`
}

type linkStep struct {
	Do     string   `json:"do"`
	Bytes  bytesHex `json:"bytes"`
	Roster string   `json:"roster"`
	MS     int64    `json:"ms"`
}

// link makes the node of a vector and its one link.
func (in *linkInput) link(f *fixtures) (*proto.Node, *proto.Link, error) {
	if in.Side != "initiator" && in.Side != "responder" {
		return nil, nil, skip("unknown side %q", in.Side)
	}
	self, err := named(f.nodes, in.Self)
	if err != nil {
		return nil, nil, err
	}
	peer, err := named(f.nodes, in.Peer)
	if err != nil {
		return nil, nil, err
	}
	roster, err := named(f.rosters, in.Roster)
	if err != nil {
		return nil, nil, err
	}
	n := proto.NewNode(self.card, roster)
	n.Verification = in.Verification
	if in.Highest != nil {
		n.Highest = uint64(*in.Highest)
	}
	return n, n.NewLink(0, peer.card, in.Side == "initiator"), nil
}

// do does a step at a time, and gives the time after it.
func (st *linkStep) do(f *fixtures, n *proto.Node, l *proto.Link, now int64) (int64, error) {
	switch st.Do {
	case "receive":
		l.Data(now, st.Bytes)
	case "receive_bye":
		l.ByeOpened(now)
	case "session_ended":
		l.SessionEnded(now)
	case "adopt":
		roster, err := named(f.rosters, st.Roster)
		if err != nil {
			return now, err
		}
		if verdict, err := n.Offered(now, roster.Bytes, false); verdict != cluster.Adopted {
			return now, fmt.Errorf("the roster %s is %s: %v", st.Roster, verdict, err)
		}
	case "replaced":
		l.Replaced(now)
	case "stop":
		l.NodeStopping(now)
	case "wait":
		n.Tick(now, now+st.MS)
		return now + st.MS, nil
	default:
		return now, skip("unknown action %q", st.Do)
	}
	return now, nil
}

// actionsOf takes the link messages that a link sends, and what it does with its session.
func actionsOf(l *proto.Link) (sent []byte, acts []any) {
	acts = []any{}
	for _, a := range l.Actions() {
		switch a.Do {
		case "data":
			sent = append(sent, a.Bytes...)
		case "error":
			acts = append(acts, map[string]any{"error": a.Code})
		default:
			acts = append(acts, map[string]any{a.Do: true})
		}
	}
	return sent, acts
}

// nodeEvents takes what a node has done and found.
func nodeEvents(n *proto.Node) []any {
	events := []any{}
	for _, e := range n.Events() {
		switch e.What {
		case "adopted":
			events = append(events, map[string]any{"adopted": hexOf(e.Digest)})
		case "conflict":
			events = append(events, map[string]any{"conflict": epochHex(e.Epoch)})
		default:
			events = append(events, map[string]any{e.What: true})
		}
	}
	return events
}

func opLink(f *fixtures, in linkInput) (result, error) {
	n, l, err := in.link(f)
	if err != nil {
		return result{}, err
	}
	first, _ := actionsOf(l)
	now := int64(0)
	steps := []any{}
	for i := range in.Steps {
		if now, err = in.Steps[i].do(f, n, l, now); err != nil {
			return result{}, err
		}
		sent, acts := actionsOf(l)
		steps = append(steps, map[string]any{
			"sent": hexOf(sent), "acts": acts, "events": nodeEvents(n), "state": l.State, "request": n.State,
		})
	}
	return result{map[string]any{"first": hexOf(first), "steps": steps}, l.Refusal}, nil
}
