package main

// The operations of roster.json.

import (
	"xlattice-port/internal/cluster"
)

func memberIDs(members []cluster.Member) []string {
	ids := []string{}
	for _, m := range members {
		ids = append(ids, hexOf(m.NodeID))
	}
	return ids
}

type verifyInput struct {
	Bytes     bytesHex  `json:"bytes"`
	ClusterID *bytesHex `json:"cluster_id"`
}

func (in *verifyInput) clusterID() []byte {
	if in.ClusterID == nil {
		return nil
	}
	return *in.ClusterID
}

func opRoster(_ *fixtures, in verifyInput) (result, error) {
	r, err := cluster.VerifyRoster(in.Bytes, in.clusterID())
	if err != nil {
		return result{refusal: err}, nil
	}
	clients := []string{}
	for _, c := range r.Clients {
		clients = append(clients, hexOf(c.NodeID))
	}
	return result{output: map[string]any{
		"cluster_id": hexOf(r.ClusterID), "digest": hexOf(r.Digest), "epoch": epochHex(r.Epoch),
		"members": memberIDs(r.Members), "clients": clients,
	}}, nil
}

func opClusterCard(_ *fixtures, in verifyInput) (result, error) {
	c, err := cluster.VerifyClusterCard(in.Bytes, in.clusterID())
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{
		"cluster_id": hexOf(c.ClusterID), "epoch": epochHex(c.Epoch), "members": memberIDs(c.Members),
	}}, nil
}

type clusterCardOfInput struct {
	Roster string   `json:"roster"`
	Key    string   `json:"key"`
	Salt   bytesHex `json:"salt"`
}

func opClusterCardOf(f *fixtures, in clusterCardOfInput) (result, error) {
	roster, err := named(f.rosters, in.Roster)
	if err != nil {
		return result{}, err
	}
	key, err := named(f.keys, in.Key)
	if err != nil {
		return result{}, err
	}
	card, err := cluster.MakeClusterCard(roster, key, in.Salt)
	if err != nil {
		return result{}, err
	}
	return result{output: map[string]any{"bytes": hexOf(card)}}, nil
}

type replaceInput struct {
	InForce bytesHex `json:"in_force"`
	Steps   []struct {
		From   string   `json:"from"`
		Roster bytesHex `json:"roster"`
	} `json:"steps"`
}

func opReplace(_ *fixtures, in replaceInput) (result, error) {
	inForce, err := cluster.VerifyRoster(in.InForce, nil)
	if err != nil {
		return result{}, err
	}
	holder := cluster.Holder{InForce: inForce, Highest: inForce.Epoch}
	steps := []any{}
	var refusal error
	for _, s := range in.Steps {
		if s.From != "peer" && s.From != "operator" && s.From != "override" {
			return result{}, skip("unknown from %q", s.From)
		}
		var verdict cluster.Verdict
		verdict, refusal = holder.Offer(s.Roster, s.From == "override")
		steps = append(steps, map[string]any{
			"verdict": verdict, "epoch": epochHex(holder.InForce.Epoch), "highest": epochHex(holder.Highest),
		})
	}
	return result{map[string]any{"steps": steps}, refusal}, nil
}

type replaceCardInput struct {
	Held  bytesHex `json:"held"`
	Steps []struct {
		From        string   `json:"from"`
		ClusterCard bytesHex `json:"cluster_card"`
	} `json:"steps"`
}

func opReplaceCard(_ *fixtures, in replaceCardInput) (result, error) {
	held, err := cluster.VerifyClusterCard(in.Held, nil)
	if err != nil {
		return result{}, err
	}
	client := cluster.Client{Held: held, Highest: held.Epoch}
	steps := []any{}
	var refusal error
	for _, s := range in.Steps {
		if s.From != "user" && s.From != "override" {
			return result{}, skip("unknown from %q", s.From)
		}
		var verdict cluster.Verdict
		verdict, refusal = client.Offer(s.ClusterCard, s.From == "override")
		steps = append(steps, map[string]any{
			"verdict": verdict, "epoch": epochHex(client.Held.Epoch), "highest": epochHex(client.Highest),
		})
	}
	return result{map[string]any{"steps": steps}, refusal}, nil
}

type admitsInput struct {
	Roster    bytesHex  `json:"roster"`
	At        string    `json:"at"`
	Role      string    `json:"role"`
	Initiator *bytesHex `json:"initiator"`
	Recipient bytesHex  `json:"recipient"`
}

func opAdmits(_ *fixtures, in admitsInput) (result, error) {
	roster, err := cluster.VerifyRoster(in.Roster, nil)
	if err != nil {
		return result{}, err
	}
	if in.Role != "member" && in.Role != "client" && in.Role != "anonymous" || in.At != "R" && in.At != "I" {
		return result{}, skip("role %q at %q", in.Role, in.At)
	}
	var id, sk []byte
	if in.Initiator != nil {
		card, err := cluster.VerifyCard(*in.Initiator)
		if err != nil {
			return result{}, err
		}
		id, sk = card.NodeID, card.SK
	}
	admits := roster.AdmitsAtR(in.Role, id, sk)
	if in.At == "I" {
		admits = roster.AdmitsAtI(in.Role, in.Recipient, id)
	}
	return result{output: map[string]any{"admits": admits}}, nil
}
