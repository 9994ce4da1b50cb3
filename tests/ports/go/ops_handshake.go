package main

// The operations of key_schedule.json and handshake.json.

import (
	"xlattice-port/internal/cluster"
	"xlattice-port/internal/crypt"
	"xlattice-port/internal/proto"
	"xlattice-port/internal/wire"
)

func generations(secret []byte) []any {
	out := []any{}
	g := proto.NewGeneration(secret)
	for range 3 {
		out = append(out, map[string]any{"secret": hexOf(g.Secret), "key": hexOf(g.Key), "iv": hexOf(g.IV)})
		g = g.Next()
	}
	return out
}

type keyScheduleInput struct {
	CKSPKI       bytesHex `json:"ck_spki"`
	Knock        bytesHex `json:"knock"`
	HelloFrame   bytesHex `json:"hello_frame"`
	ReplyFrame   bytesHex `json:"reply_frame"`
	Key1         bytesHex `json:"key1"`
	Key2         bytesHex `json:"key2"`
	X25519Secret bytesHex `json:"x25519_secret"`
	MLKEMSecret  bytesHex `json:"mlkem_secret"`
}

func opKeySchedule(_ *fixtures, in keyScheduleInput) (result, error) {
	salt := in.ReplyFrame[4:36]
	s := proto.Derive(in.HelloFrame, in.ReplyFrame, in.Key2, in.Key1, in.X25519Secret, in.MLKEMSecret)
	return result{output: map[string]any{
		"k_mac": hexOf(proto.MacKey(in.CKSPKI, in.Knock)), "k_hello": hexOf(proto.HelloKey(in.Key1)),
		"hello_digest": hexOf(proto.HelloDigest(in.HelloFrame)),
		"reply_salt":   hexOf(proto.ReplySalt(in.HelloFrame, salt)),
		"k_reply":      hexOf(proto.ReplyKey(in.HelloFrame, salt, in.Key1)),
		"th":           hexOf(s.TH), "prk": hexOf(s.PRK), "exporter": hexOf(s.Exporter),
		"i2r": generations(s.I2R), "r2i": generations(s.R2I),
	}}, nil
}

// drawsOf takes the draws of a side and skips what it does not know; each has its size.
func drawsOf(raw map[string]bytesHex, want map[string]int) (proto.Draws, error) {
	draws := proto.Draws{}
	for name, value := range raw {
		size, ok := want[name]
		if !ok || len(value) != size {
			return nil, skip("the draw %q of %d bytes", name, len(value))
		}
		draws[name] = value
	}
	for name := range want {
		if draws[name] == nil && name != "pss_salt" {
			return nil, skip("no draw %q", name)
		}
	}
	return draws, nil
}

func sessionOutput(e *proto.Established) map[string]any {
	return map[string]any{
		"keepalive": e.KeepAlive, "epoch": epochHex(e.Epoch), "transcript_hash": hexOf(e.TH),
		"exporter": hexOf(e.Exporter), "i2r": hexOf(e.I2R), "r2i": hexOf(e.R2I), "unread": hexOf(e.Unread),
	}
}

type initiateInput struct {
	Self        *string             `json:"self"`
	Roster      string              `json:"roster"`
	ClusterCard string              `json:"cluster_card"`
	Peer        string              `json:"peer"`
	Port        string              `json:"port"`
	Role        string              `json:"role"`
	Purpose     string              `json:"purpose"`
	Service     bytesHex            `json:"service"`
	Draws       map[string]bytesHex `json:"draws"`
	Chunks      []bytesHex          `json:"chunks"`
}

// plan finds the peer in the roster or cluster card that the initiator acts on [HS-1].
func (in *initiateInput) plan(f *fixtures) (*proto.HelloPlan, error) {
	if in.Port != "cluster" && in.Port != "client" || wire.Enums["Role"][in.Role] == 0 ||
		wire.Enums["Purpose"][in.Purpose] == 0 {
		return nil, skip("%s for %s on the port %q", in.Role, in.Purpose, in.Port)
	}
	draws, err := drawsOf(in.Draws, map[string]int{
		"key1": 32, "x25519": 32, "mlkem_seed": 64, "oaep_seed": 32, "pss_salt": 32,
	})
	if err != nil {
		return nil, err
	}
	peer, err := named(f.nodes, in.Peer)
	if err != nil {
		return nil, err
	}
	p := &proto.HelloPlan{
		Port: in.Port, Role: in.Role, Purpose: in.Purpose, Service: string(in.Service), Draws: draws,
	}
	var extract *cluster.Extract
	if in.Roster != "" {
		roster, err := named(f.rosters, in.Roster)
		if err != nil {
			return nil, err
		}
		extract = &roster.Extract
		if in.Port == "cluster" {
			p.Knock = roster.Knock
		}
	} else {
		card, err := named(f.cards, in.ClusterCard)
		if err != nil {
			return nil, err
		}
		extract = &card.Extract
	}
	p.ClusterID, p.Peer = extract.ClusterID, extract.Member(peer.card.NodeID)
	p.ListedOnly = !extract.AnyoneMayCome()
	if in.Self != nil {
		self, err := named(f.nodes, *in.Self)
		if err != nil {
			return nil, err
		}
		p.Self, p.SK = self.card, self.sk
	}
	return p, nil
}

func opInitiate(f *fixtures, in initiateInput) (result, error) {
	plan, err := in.plan(f)
	if err != nil {
		return result{}, err
	}
	sent := []string{}
	i, err := proto.NewInitiator(plan)
	if err != nil {
		return result{map[string]any{"sent": sent}, err}, nil
	}
	for _, chunk := range in.Chunks {
		sent = append(sent, hexOf(i.Feed(chunk)))
	}
	m := i.Made
	made := map[string]any{"kem_ciphertext": hexOf(m.KEMCiphertext), "signature": hexOf(m.Signature)}
	if i.Refusal == nil {
		made["signed"], made["hello_body"] = hexOf(m.Signed), hexOf(m.Body)
		made["k_hello"], made["k_mac"] = hexOf(m.KHello), hexOf(m.KMac)
	}
	output := map[string]any{"made": made, "hello": hexOf(m.Frame), "sent": sent, "state": i.State}
	if i.State == "ESTABLISHED" {
		output["session"] = sessionOutput(i.Established)
	}
	return result{output, i.Refusal}, nil
}

type respondInput struct {
	Self            string              `json:"self"`
	Accepted        []string            `json:"accepted"`
	Roster          string              `json:"roster"`
	RosterAtConfirm string              `json:"roster_at_confirm"`
	Port            string              `json:"port"`
	KeepAlive       uint64              `json:"keepalive"`
	ReplayCache     []bytesHex          `json:"replay_cache"`
	Draws           map[string]bytesHex `json:"draws"`
	Chunks          []bytesHex          `json:"chunks"`
}

func (in *respondInput) listener(f *fixtures) (*proto.Listener, error) {
	if in.Port != "cluster" && in.Port != "client" {
		return nil, skip("unknown port %q", in.Port)
	}
	self, err := named(f.nodes, in.Self)
	if err != nil {
		return nil, err
	}
	roster, err := named(f.rosters, in.Roster)
	if err != nil {
		return nil, err
	}
	later := roster
	if in.RosterAtConfirm != "" {
		if later, err = named(f.rosters, in.RosterAtConfirm); err != nil {
			return nil, err
		}
	}
	var accepted []*crypt.PrivateKey
	for _, name := range in.Accepted {
		ck, err := named(f.keys, name)
		if err != nil {
			return nil, err
		}
		accepted = append(accepted, ck)
	}
	draws, err := drawsOf(in.Draws, map[string]int{
		"oaep_fallback": 32, "x25519": 32, "key2": 32, "salt": 32, "mlkem_m": 32,
	})
	if err != nil {
		return nil, err
	}
	at := &proto.Listener{
		Port: in.Port, NodeID: self.card.NodeID, Accepted: accepted, Roster: roster, AtConfirm: later,
		KeepAlive: in.KeepAlive, Replay: proto.NewReplayCache(wire.ReplayCacheMin), Draws: draws,
	}
	for _, digest := range in.ReplayCache {
		at.Replay.Insert(digest)
	}
	return at, nil
}

func opRespond(f *fixtures, in respondInput) (result, error) {
	at, err := in.listener(f)
	if err != nil {
		return result{}, err
	}
	r := proto.NewResponder(at)
	sent := []string{}
	for _, chunk := range in.Chunks {
		sent = append(sent, hexOf(r.Feed(chunk)))
	}
	output := map[string]any{"sent": sent, "inserted": hexList(r.Inserted), "state": r.State}
	if m := r.Made; m != nil {
		made := map[string]any{"mlkem_ciphertext": hexOf(m.Ciphertext), "mlkem_secret": hexOf(m.MLKEM)}
		if r.Refusal == nil {
			made["hello_body"], made["x25519_secret"] = hexOf(m.HelloBody), hexOf(m.X25519)
			made["reply_body"], made["k_reply"] = hexOf(m.Body), hexOf(m.KReply)
		}
		output["made"] = made
	}
	if e := r.Established; r.State == "ESTABLISHED" {
		session := sessionOutput(e)
		session["role"], session["purpose"], session["service"] = e.Role, e.Purpose, hexOf([]byte(e.Service))
		session["initiator"] = orNull(e.Initiator)
		output["session"] = session
	}
	return result{output, r.Refusal}, nil
}
