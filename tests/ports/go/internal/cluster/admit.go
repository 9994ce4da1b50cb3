package cluster

// Whom a roster admits (3.11).

import "bytes"

// member gives the member of a NodeID.
func member(members []Member, id []byte) *Card {
	for _, m := range members {
		if bytes.Equal(m.NodeID, id) {
			return m.Card
		}
	}
	return nil
}

// Member gives the card of a member by its NodeID, or nil.
func (e *Extract) Member(id []byte) *Card { return member(e.Members, id) }

// Client gives the card of a client by its NodeID, or nil.
func (r *Roster) Client(id []byte) *Card {
	for _, c := range r.Clients {
		if bytes.Equal(c.NodeID, id) {
			return c
		}
	}
	return nil
}

// AnyoneMayCome says whether client_access is `anyone`.
func (e *Extract) AnyoneMayCome() bool { return e.Access == 1 }

// sameSK says whether a card of the roster, if there is one, has this sk.
func sameSK(listed *Card, sk []byte) bool { return listed != nil && bytes.Equal(listed.SK, sk) }

// AdmitsAtR is the table of 3.11 in the column of R: id and sk are those that I proved, nil if it is anonymous.
func (r *Roster) AdmitsAtR(role string, id, sk []byte) bool {
	switch role {
	case "member":
		return sameSK(r.Member(id), sk)
	case "client":
		return sameSK(r.Client(id), sk)
	}
	return r.AnyoneMayCome()
}

// AdmitsAtI is the table of 3.11 in the column of I, which is a client if own is not to be looked up.
func (e *Extract) AdmitsAtI(role string, recipient, own []byte) bool {
	if role == "member" && e.Member(own) == nil {
		return false
	}
	return e.Member(recipient) != nil
}
