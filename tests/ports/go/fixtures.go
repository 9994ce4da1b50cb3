package main

// The fixtures: read, and checked with what this port computes itself.

import (
	"bytes"
	"fmt"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/crypt"
)

const fixturesName = "fixtures.json"

// fixtures are what vectors refer to by name.
type fixtures struct {
	keys    map[string]*crypt.PrivateKey
	nodes   map[string]*node
	rosters map[string]*cluster.Roster
	cards   map[string]*cluster.ClusterCard
}

type node struct {
	sk, ck *crypt.PrivateKey
	card   *cluster.Card
}

type fixturesFile struct {
	Keys map[string]struct {
		Bits int      `json:"bits"`
		P    bytesHex `json:"p"`
		Q    bytesHex `json:"q"`
		SPKI bytesHex `json:"spki"`
	} `json:"keys"`
	Nodes map[string]struct {
		SK     string   `json:"sk"`
		CK     string   `json:"ck"`
		NodeID bytesHex `json:"node_id"`
		Card   bytesHex `json:"card"`
	} `json:"nodes"`
	Rosters map[string]struct {
		Bytes     bytesHex `json:"bytes"`
		ClusterID bytesHex `json:"cluster_id"`
		Digest    bytesHex `json:"digest"`
		Knock     bytesHex `json:"knock"`
	} `json:"rosters"`
	ClusterCards map[string]struct {
		Bytes     bytesHex `json:"bytes"`
		ClusterID bytesHex `json:"cluster_id"`
	} `json:"cluster_cards"`
}

// loadFixtures reads the fixtures and checks that this port computes and verifies what they say.
func loadFixtures(directory string) (*fixtures, error) {
	var file fixturesFile
	if err := readFile(directory, fixturesName, &file); err != nil {
		return nil, err
	}
	f := &fixtures{
		map[string]*crypt.PrivateKey{}, map[string]*node{},
		map[string]*cluster.Roster{}, map[string]*cluster.ClusterCard{},
	}
	wrong := func(kind, name string, err error) error {
		if err == nil {
			return fmt.Errorf("fixtures: %s %s is not what this port computes", kind, name)
		}
		return fmt.Errorf("fixtures: %s %s: %w", kind, name, err)
	}
	for name, k := range file.Keys {
		key, err := crypt.NewPrivateKey(k.P, k.Q)
		if err != nil || !bytes.Equal(key.SPKI, k.SPKI) || key.Size()*8 != k.Bits {
			return nil, wrong("key", name, err)
		}
		f.keys[name] = key
	}
	for name, n := range file.Nodes {
		card, err := cluster.VerifyCard(n.Card)
		if err != nil || !bytes.Equal(card.NodeID, n.NodeID) {
			return nil, wrong("node", name, err)
		}
		f.nodes[name] = &node{f.keys[n.SK], f.keys[n.CK], card}
		if f.nodes[name].sk == nil || f.nodes[name].ck == nil {
			return nil, wrong("node", name, fmt.Errorf("no key %s or %s", n.SK, n.CK))
		}
	}
	for name, r := range file.Rosters {
		roster, err := cluster.VerifyRoster(r.Bytes, r.ClusterID)
		if err != nil || !bytes.Equal(roster.Digest, r.Digest) || !bytes.Equal(roster.Knock, r.Knock) {
			return nil, wrong("roster", name, err)
		}
		f.rosters[name] = roster
	}
	for name, c := range file.ClusterCards {
		card, err := cluster.VerifyClusterCard(c.Bytes, c.ClusterID)
		if err != nil {
			return nil, wrong("cluster card", name, err)
		}
		f.cards[name] = card
	}
	return f, nil
}

// named finds a fixture; a vector that names one that is not there is skipped.
func named[T any](from map[string]T, name string) (T, error) {
	value, ok := from[name]
	if !ok {
		return value, skip("no fixture %q", name)
	}
	return value, nil
}
