package cluster

// Rosters and cluster cards, and how they are verified (3.1 to 3.6).

import (
	"bytes"

	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

// A Member is a card and where it listens.
type Member struct {
	*Card
	Host string
}

// An Extract is what rosters and cluster cards have in common.
type Extract struct {
	Authority  []byte // SPKI
	Name       string
	Epoch      uint64
	ClientPort uint64
	Access     uint64
	Members    []Member
	ClusterID  []byte
	values     wire.Values
}

// A Roster is a decoded roster (3.1).
type Roster struct {
	Extract
	ClusterPort uint64
	Knock       []byte
	Clients     []*Card
	Bytes       []byte
	Digest      []byte
}

// A ClusterCard is a decoded cluster card (3.5).
type ClusterCard struct {
	Extract
	Unsigned []byte // what [RO-30] compares
}

// ClusterID follows from the authority's key [RO-1].
func ClusterID(authority []byte) []byte { return crypt.H("cluster-id", authority) }

func newExtract(v wire.Values) Extract {
	e := Extract{
		Authority: v.B("authority"), Name: v.T("name"), Epoch: v.U("epoch"), ClientPort: v.U("client_port"),
		Access: v.U("client_access"), ClusterID: ClusterID(v.B("authority")), values: v,
	}
	for _, m := range v.L("members") {
		e.Members = append(e.Members, Member{newCard(m.M("card")), m.T("host")})
	}
	return e
}

// NewRoster takes the fields of a decoded Roster; nothing is verified.
func NewRoster(v wire.Values) *Roster {
	r := &Roster{
		Extract: newExtract(v), ClusterPort: v.U("cluster_port"), Knock: v.B("knock"),
		Bytes: wire.MustEncode("Roster", v), Digest: crypt.H("roster-digest", unsigned("Roster", v)),
	}
	for _, c := range v.L("clients") {
		r.Clients = append(r.Clients, newCard(c))
	}
	return r
}

// VerifyRoster decodes and verifies a roster. clusterID is what the verifier knows, or nil.
func VerifyRoster(data, clusterID []byte) (*Roster, error) {
	v, err := wire.Decode("Roster", data)
	if err != nil {
		return nil, wire.Refuse("RO-9", "%v", err)
	}
	r := NewRoster(v)
	return r, r.Verify(clusterID)
}

// Verify makes the checks of 3.4 after decoding, in the order of the list.
func (r *Roster) Verify(clusterID []byte) error {
	if err := r.verifyAuthority("Roster", "roster", clusterID); err != nil {
		return err
	}
	if r.ClusterPort == r.ClientPort {
		return wire.Refuse("RO-13", "both ports are %d", r.ClientPort)
	}
	return r.verifyNodes(r.Clients)
}

// IDSize is the size of every NodeID of a verified roster or cluster card.
func (e *Extract) IDSize() int { return e.Members[0].IDSize }

// verifyAuthority makes the checks 2 to 4: [RO-10], [RO-11], [RO-12].
func (e *Extract) verifyAuthority(message, label string, clusterID []byte) error {
	key, err := crypt.ParseSPKI(e.Authority)
	if err != nil {
		return wire.Refuse("RO-10", "%v", err)
	}
	if clusterID != nil && !bytes.Equal(clusterID, e.ClusterID) {
		return wire.Refuse("RO-11", "of another cluster")
	}
	content := unsigned(message, e.values)
	if err := key.VerifyPSS(crypt.Labelled(label, content), e.values.B("signature")); err != nil {
		return wire.Refuse("RO-12", "%v", err)
	}
	return nil
}

// verifyNodes makes the checks 6 to 14, taken over the members and these clients.
func (e *Extract) verifyNodes(clients []*Card) error {
	hosts := map[string]bool{}
	members := make([]*Card, len(e.Members))
	for i, m := range e.Members {
		members[i] = m.Card
		if kind, err := HostKind(m.Host); err != nil {
			return wire.Refuse("RO-14", "the %s host %q: %v", kind, m.Host, err)
		}
		if hosts[m.Host] {
			return wire.Refuse("RO-15", "the host %s twice", m.Host)
		}
		hosts[m.Host] = true
	}
	nodes := append(members[:len(members):len(members)], clients...)
	for _, c := range nodes {
		if c.IDSize != nodes[0].IDSize {
			return wire.Refuse("RO-16", "%s has another id_size", c.Name)
		}
	}
	if err := e.differentModuli(nodes); err != nil {
		return err
	}
	if !ascending(members) {
		return wire.Refuse("RO-18", "the members are not in order")
	}
	if !ascending(clients) {
		return wire.Refuse("RO-19", "the clients are not in order")
	}
	ids, names := map[string]bool{}, map[string]bool{}
	for _, c := range nodes {
		if ids[string(c.NodeID)] {
			return wire.Refuse("RO-20", "the NodeID of %s twice", c.Name)
		}
		ids[string(c.NodeID)] = true
	}
	for _, c := range nodes {
		if names[c.Name] {
			return wire.Refuse("RO-21", "the name %s twice", c.Name)
		}
		names[c.Name] = true
	}
	for _, c := range nodes {
		if err := c.verify(); err != nil {
			return wire.Refuse("RO-22", "%s: %v", c.Name, err)
		}
	}
	return nil
}

// differentModuli is [RO-17]. What is no public key has no modulus; [RO-22] refuses it.
func (e *Extract) differentModuli(nodes []*Card) error {
	seen := map[string]bool{}
	keys := [][]byte{e.Authority}
	for _, c := range nodes {
		keys = append(keys, c.SK, c.CK)
	}
	for _, spki := range keys {
		key, err := crypt.ParseSPKI(spki)
		if err != nil {
			continue
		}
		if seen[string(key.Modulus)] {
			return wire.Refuse("RO-17", "one modulus twice")
		}
		seen[string(key.Modulus)] = true
	}
	return nil
}

// ascending looks at the order alone; equal NodeIDs are for [RO-20].
func ascending(cards []*Card) bool {
	for i := 1; i < len(cards); i++ {
		if bytes.Compare(cards[i-1].NodeID, cards[i].NodeID) > 0 { // [NO-1]
			return false
		}
	}
	return true
}

// VerifyClusterCard decodes and verifies a cluster card. clusterID is what the verifier knows, or nil.
func VerifyClusterCard(data, clusterID []byte) (*ClusterCard, error) {
	v, err := wire.Decode("ClusterCard", data)
	if err != nil {
		return nil, wire.Refuse("RO-26", "%v", err)
	}
	c := &ClusterCard{newExtract(v), unsigned("ClusterCard", v)}
	if err = c.verifyAuthority("ClusterCard", "cluster-card", clusterID); err == nil {
		err = c.verifyNodes(nil)
	}
	if err != nil {
		return nil, wire.Refuse("RO-26", "%v", err)
	}
	return c, nil
}

// MakeClusterCard makes the public extract of a roster [RO-25].
func MakeClusterCard(r *Roster, authority *crypt.PrivateKey, salt []byte) ([]byte, error) {
	v := wire.Values{"signature": make([]byte, authority.Size())}
	for _, f := range wire.Messages["ClusterCard"].Fields {
		if f.Name != "signature" {
			v[f.Name] = r.values[f.Name]
		}
	}
	if !bytes.Equal(authority.SPKI, r.Authority) {
		return nil, wire.Refuse("RO-12", "not the key of this roster's authority")
	}
	v["signature"] = authority.SignPSS(crypt.Labelled("cluster-card", unsigned("ClusterCard", v)), salt)
	return wire.Encode("ClusterCard", v)
}
