package cluster

// What replaces what: rosters (3.7 to 3.9), and cluster cards (3.5).

import (
	"bytes"

	"xlattice-port/internal/wire"
)

// A Verdict says what became of a roster or cluster card that was offered.
type Verdict string

// The verdicts. Kept: there is nothing to do.
const (
	Adopted  Verdict = "adopted"
	Kept     Verdict = "kept"
	Conflict Verdict = "conflict"
	Refused  Verdict = "refused"
	Taken    Verdict = "taken"
)

// A Holder is a node's roster in force and its highest epoch (3.7).
type Holder struct {
	InForce *Roster
	Highest uint64
}

// Offer puts a roster before a node that can store it, and adopts it if the rules of 3.7 to 3.9 say so.
func (h *Holder) Offer(data []byte, override bool) (Verdict, error) {
	r, err := VerifyRoster(data, h.InForce.ClusterID) // [RO-32]
	if err != nil {
		return Refused, err
	}
	verdict, err := h.Judge(r, override)
	if verdict == Adopted {
		h.Adopt(r)
	}
	return verdict, err
}

// Adopt puts a roster in force; the highest epoch never falls [RO-43].
func (h *Holder) Adopt(r *Roster) {
	h.InForce, h.Highest = r, max(h.Highest, r.Epoch)
}

// Judge compares a verified roster with the one in force. It changes nothing.
func (h *Holder) Judge(r *Roster, override bool) (Verdict, error) {
	if r.Epoch == h.InForce.Epoch {
		if bytes.Equal(r.Digest, h.InForce.Digest) { // [RO-31]
			return Kept, nil
		}
		conflict := wire.Refuse("RO-67", "another roster of epoch %d", r.Epoch) // before [RO-35] is looked at
		return Conflict, wire.Refuse("RO-45", "%v", conflict)                   // against an override too [RO-42]
	}
	if err := h.Replaces(r); err != nil {
		return Refused, err
	}
	if override {
		if r.Epoch > h.Highest {
			return Refused, wire.Refuse("RO-42", "epoch %d is above the highest", r.Epoch)
		}
		return Adopted, nil
	}
	if r.Epoch <= h.Highest {
		return Kept, nil // [RO-34]
	}
	return Adopted, nil // [RO-33]
}

// Replaces compares what may not change from roster to roster [RO-35].
func (h *Holder) Replaces(r *Roster) error {
	old := h.InForce
	switch {
	case !bytes.Equal(r.Authority, old.Authority):
		return wire.Refuse("RO-35", "another authority")
	case !bytes.Equal(r.Knock, old.Knock):
		return wire.Refuse("RO-35", "another knock")
	case r.IDSize() != old.IDSize():
		return wire.Refuse("RO-35", "another id_size")
	case r.ClusterPort != old.ClusterPort:
		return wire.Refuse("RO-35", "another cluster_port")
	}
	return nil
}

// A Client is the cluster card that a client holds and the highest epoch that it has verified (3.5).
type Client struct {
	Held    *ClusterCard
	Highest uint64
}

// Offer puts a cluster card before a client: [RO-27] to [RO-30], [RO-63], [RO-64].
func (c *Client) Offer(data []byte, override bool) (Verdict, error) {
	card, err := VerifyClusterCard(data, nil)
	if err != nil {
		return Refused, err
	}
	if !bytes.Equal(card.ClusterID, c.Held.ClusterID) {
		return Refused, wire.Refuse("RO-27", "a card of another cluster")
	}
	if card.Epoch == c.Held.Epoch {
		if !bytes.Equal(card.Unsigned, c.Held.Unsigned) {
			return Refused, wire.Refuse("RO-30", "another card of epoch %d", card.Epoch)
		}
		return Kept, nil
	}
	switch {
	case card.Epoch > c.Highest:
		c.Highest = card.Epoch // [RO-28]: nothing is overridden
	case override: // the highest epoch stays [RO-63]
	case card.Epoch < c.Highest:
		return Refused, wire.Refuse("RO-29", "epoch %d is below the highest", card.Epoch)
	default:
		return Refused, wire.Refuse("RO-64", "epoch %d is not above the overridden one", card.Epoch)
	}
	c.Held = card
	return Taken, nil
}
