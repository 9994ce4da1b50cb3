package proto

import (
	"testing"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/wire"
)

func TestARosterReplacesAnotherAsSection3Says(t *testing.T) {
	w := makeWorld(t)
	set := func(name string, value any) func(wire.Values) { return func(v wire.Values) { v[name] = value } }
	first, err := cluster.VerifyRoster(w.makeRoster(5, 0x23), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := cluster.Holder{InForce: first, Highest: 5}
	for i, c := range []struct {
		roster         []byte
		override       bool
		verdict        cluster.Verdict
		id             string
		epoch, highest uint64
	}{
		{w.makeRoster(5, 0x24), false, cluster.Kept, "", 5, 5},
		{w.makeRoster(5, 0x24, set("name", "other")), false, cluster.Conflict, "RO-45", 5, 5},
		{w.makeRoster(5, 0x24, set("knock", make([]byte, 32))), false, cluster.Conflict, "RO-45", 5, 5},
		{w.makeRoster(4, 0x24), false, cluster.Kept, "", 5, 5},
		{w.makeRoster(6, 0x24, set("knock", make([]byte, 32))), false, cluster.Refused, "RO-35", 5, 5},
		{w.makeRoster(6, 0x24, set("cluster_port", uint64(9))), false, cluster.Refused, "RO-35", 5, 5},
		{w.makeRoster(6, 0x24, set("client_port", uint64(7711))), false, cluster.Refused, "RO-13", 5, 5},
		{w.makeRoster(6, 0x24), true, cluster.Refused, "RO-42", 5, 5},
		{w.makeRoster(3, 0x24), true, cluster.Adopted, "", 3, 5},
		{w.makeRoster(4, 0x24), false, cluster.Kept, "", 3, 5},
		{w.makeRoster(5, 0x24), false, cluster.Kept, "", 3, 5},
		{w.makeRoster(5, 0x24), true, cluster.Adopted, "", 5, 5},
		{w.makeRoster(6, 0x24), false, cluster.Adopted, "", 6, 6},
	} {
		verdict, err := h.Offer(c.roster, c.override)
		if verdict != c.verdict || wire.RefusedBy(err) != c.id || h.InForce.Epoch != c.epoch || h.Highest != c.highest {
			t.Errorf("%d: %s %v, epoch %d, highest %d", i, verdict, err, h.InForce.Epoch, h.Highest)
		}
	}
}

func TestARosterIsRefusedForEachOfItsFaults(t *testing.T) {
	w := makeWorld(t)
	members := func(change func(m []wire.Values) []wire.Values) func(wire.Values) {
		return func(v wire.Values) { v["members"] = change(v.L("members")) }
	}
	host := func(text string) func(wire.Values) {
		return members(func(m []wire.Values) []wire.Values {
			return []wire.Values{m[0], {"card": m[1]["card"], "host": text}}
		})
	}
	for want, change := range map[string]func(wire.Values){
		"RO-13": func(v wire.Values) { v["client_port"] = v["cluster_port"] },
		"RO-14": host("127.0.0.01"),
		"RO-15": host("127.0.0.1"),
		"RO-16": func(v wire.Values) { v["clients"] = []wire.Values{w.makeCard("client-0", 20, run(1, 32))} },
		"RO-17": func(v wire.Values) { v["clients"] = []wire.Values{w.cards["node-1"]} },
		"RO-18": members(func(m []wire.Values) []wire.Values { return []wire.Values{m[1], m[0]} }),
		"RO-22": func(v wire.Values) {
			card := w.makeCard("client-0", 32, run(1, 32))
			card["serial"] = uint64(2)
			v["clients"] = []wire.Values{card}
		},
	} {
		if _, err := cluster.VerifyRoster(w.makeRoster(1, 0x23, change), nil); wire.RefusedBy(err) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := cluster.VerifyRoster(w.roster, make([]byte, 32)); wire.RefusedBy(err) != "RO-11" {
		t.Error(err)
	}
	changed := append([]byte{}, w.roster...)
	changed[len(changed)-1] ^= 1
	if _, err := cluster.VerifyRoster(changed, nil); wire.RefusedBy(err) != "RO-12" {
		t.Error(err)
	}
}
