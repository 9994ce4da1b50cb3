package main

// The operations of identity.json.

import (
	"bytes"
	"fmt"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/wire"
)

type nodeIDInput struct {
	SPKI   bytesHex `json:"spki"`
	IDSize int      `json:"id_size"`
}

func opNodeID(_ *fixtures, in nodeIDInput) (result, error) {
	if in.IDSize != wire.NodeIDShort && in.IDSize != wire.NodeIDLong {
		return result{}, skip("id_size %d", in.IDSize)
	}
	return result{output: map[string]any{"node_id": hexOf(cluster.NodeID(in.SPKI, in.IDSize))}}, nil
}

type cardInput struct {
	Bytes bytesHex `json:"bytes"`
}

func opCard(_ *fixtures, in cardInput) (result, error) {
	card, err := cluster.VerifyCard(in.Bytes)
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"node_id": hexOf(card.NodeID), "name": hexOf([]byte(card.Name))}}, nil
}

// armoured says which message the content of a label encodes (2.7).
var armoured = map[string]string{
	"XLATTICE NODE CARD": "NodeCard", "XLATTICE ROSTER": "Roster", "XLATTICE CLUSTER CARD": "ClusterCard",
}

// readArmoured reads a file, whose content has to decode and need not verify.
func readArmoured(label, text string) ([]byte, error) {
	content, err := cluster.Dearmour(label, text)
	if err != nil {
		return nil, err
	}
	_, err = wire.Decode(armoured[label], content)
	return content, err
}

type armourInput struct {
	Label   string   `json:"label"`
	Content bytesHex `json:"content"`
}

// opArmour writes a file, and reads it back.
func opArmour(_ *fixtures, in armourInput) (result, error) {
	if armoured[in.Label] == "" {
		return result{}, skip("unknown label %q", in.Label)
	}
	text := cluster.Armour(in.Label, in.Content)
	back, err := readArmoured(in.Label, text)
	if err != nil || !bytes.Equal(back, in.Content) {
		return result{}, fmt.Errorf("read otherwise: %v", err)
	}
	return result{output: map[string]any{"text": hexOf([]byte(text))}}, nil
}

type dearmourInput struct {
	Label string   `json:"label"`
	Text  bytesHex `json:"text"`
}

func opDearmour(_ *fixtures, in dearmourInput) (result, error) {
	if armoured[in.Label] == "" {
		return result{}, skip("unknown label %q", in.Label)
	}
	_, err := readArmoured(in.Label, string(in.Text))
	return result{refusal: err}, nil
}

type hostInput struct {
	Host bytesHex `json:"host"`
}

func opHost(_ *fixtures, in hostInput) (result, error) {
	kind, err := cluster.HostKind(string(in.Host))
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"kind": kind}}, nil
}

type privateKeyInput struct {
	PEM        bytesHex  `json:"pem"`
	Passphrase *bytesHex `json:"passphrase"`
}

func opPrivateKey(_ *fixtures, in privateKeyInput) (result, error) {
	var passphrase *string
	if in.Passphrase != nil {
		text := string(*in.Passphrase)
		passphrase = &text
	}
	key, err := cluster.ReadPrivateKey(string(in.PEM), passphrase)
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"spki": hexOf(key.SPKI)}}, nil
}
