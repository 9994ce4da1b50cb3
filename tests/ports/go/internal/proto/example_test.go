package proto

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/crypt"
	"xlattice-port/internal/spectext"
	"xlattice-port/internal/wire"
)

var run = spectext.Run

// world is what section 12 describes.
type world struct {
	answers spectext.Answers
	keys    map[string]*crypt.PrivateKey
	cards   map[string]wire.Values
	roster  []byte
}

func makeWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		answers: spectext.KnownAnswers(spectext.Section(t, "12-example.md")),
		keys:    map[string]*crypt.PrivateKey{}, cards: map[string]wire.Values{},
	}
	for _, name := range []string{
		"authority", "node-0 sk", "node-0 ck", "node-1 sk", "node-1 ck", "client-0 sk", "client-0 ck",
	} {
		pq := w.answers[name]
		key, err := crypt.NewPrivateKey(pq[:128], pq[128:])
		if err != nil {
			t.Fatal(name, err)
		}
		w.keys[name] = key
	}
	for i, name := range []string{"node-0", "node-1", "client-0"} {
		w.cards[name] = w.makeCard(name, 32, run(0x20+i, 0x3f+i))
	}
	w.roster = w.makeRoster(1, 0x23)
	return w
}

func (w *world) makeCard(name string, idSize uint64, salt []byte) wire.Values {
	sk := w.keys[name+" sk"]
	v := wire.Values{
		"name": name, "id_size": idSize, "sk": sk.SPKI, "ck": w.keys[name+" ck"].SPKI, "serial": uint64(1),
		"signature": make([]byte, sk.Size()),
	}
	v["signature"] = sk.SignPSS(crypt.Labelled("node-card", head("NodeCard", v)), salt)
	return v
}

// head is an encoding before the length prefix of a 256-byte signature.
func head(message string, v wire.Values) []byte {
	b := wire.MustEncode(message, v)
	return b[:len(b)-258]
}

func (w *world) makeRoster(epoch uint64, salt int, change ...func(wire.Values)) []byte {
	authority := w.keys["authority"]
	v := wire.Values{
		"authority": authority.SPKI, "name": "test-cluster", "epoch": epoch, "cluster_port": uint64(7711),
		"client_port": uint64(7712), "knock": run(0, 0x1f), "client_access": uint64(1),
		"members": []wire.Values{
			{"card": w.cards["node-0"], "host": "127.0.0.1"}, {"card": w.cards["node-1"], "host": "127.0.0.2"},
		},
		"clients": []wire.Values{w.cards["client-0"]}, "signature": make([]byte, 256),
	}
	for _, c := range change {
		c(v)
	}
	v["signature"] = authority.SignPSS(crypt.Labelled("roster", head("Roster", v)), run(salt, salt+31))
	return wire.MustEncode("Roster", v)
}

func (w *world) check(t *testing.T, name string, got []byte) {
	t.Helper()
	want, ok := w.answers[name]
	if strings.HasPrefix(name, "SHA-256 of ") {
		sum := sha256.Sum256(got)
		got = sum[:]
	}
	if !ok || !bytes.Equal(got, want) {
		t.Errorf("%s: %x", name, got)
	}
	delete(w.answers, name)
}

func TestCardsAndRosterAreThoseOfTheExample(t *testing.T) {
	w := makeWorld(t)
	w.check(t, "node-0 card", wire.MustEncode("NodeCard", w.cards["node-0"]))
	w.check(t, "node-1 card signature", w.cards["node-1"].B("signature"))
	w.check(t, "client-0 card signature", w.cards["client-0"].B("signature"))
	for _, name := range []string{"node-0", "node-1", "client-0"} {
		card, err := cluster.VerifyCard(wire.MustEncode("NodeCard", w.cards[name]))
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, "NodeID of "+name+", 32 bytes", card.NodeID)
	}
	w.check(t, "NodeID of node-0, 20 bytes", cluster.NodeID(w.keys["node-0 sk"].SPKI, 20))
	roster, err := cluster.VerifyRoster(w.roster, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.check(t, "ClusterID", roster.ClusterID)
	w.check(t, "roster digest", roster.Digest)
	w.check(t, "SHA-256 of the encoded roster", w.roster)
	w.check(t, "roster signature", w.roster[2978+2:])
}

func (w *world) cards2(t *testing.T) (node0, node1 *cluster.Card, roster *cluster.Roster) {
	t.Helper()
	roster, err := cluster.VerifyRoster(w.roster, nil)
	if err != nil {
		t.Fatal(err)
	}
	return roster.Members[0].Card, roster.Members[1].Card, roster
}

func (w *world) initiate(t *testing.T) *Initiator {
	t.Helper()
	node0, node1, roster := w.cards2(t)
	i, err := NewInitiator(&HelloPlan{
		Port: "cluster", Role: "member", Purpose: "stream", Service: "echo", Peer: node1,
		ClusterID: roster.ClusterID, Knock: roster.Knock, Self: node0, SK: w.keys["node-0 sk"],
		Draws: Draws{
			"key1": run(0x30, 0x4f), "oaep_seed": run(0x40, 0x5f), "x25519": run(0x50, 0x6f),
			"mlkem_seed": run(0x60, 0x9f), "pss_salt": run(0x24, 0x43),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (w *world) listener(t *testing.T) *Listener {
	t.Helper()
	_, node1, roster := w.cards2(t)
	return &Listener{
		Port: "cluster", NodeID: node1.NodeID, Accepted: []*crypt.PrivateKey{w.keys["node-1 ck"]},
		Roster: roster, AtConfirm: roster, KeepAlive: 60000, Replay: NewReplayCache(wire.ReplayCacheMin),
		Draws: Draws{
			"x25519": run(0xa0, 0xbf), "mlkem_m": run(0xb0, 0xcf), "key2": run(0xc0, 0xdf), "salt": run(0xd0, 0xef),
			"oaep_fallback": run(0, 0x1f),
		},
	}
}

func TestHandshakeIsThatOfTheExample(t *testing.T) {
	w := makeWorld(t)
	i := w.initiate(t)
	made := i.Made
	body, err := wire.Decode("HelloBody", made.Body)
	if err != nil {
		t.Fatal(err)
	}
	w.check(t, "Hello frame", made.Frame)
	w.check(t, "x25519 of I", body.B("x25519"))
	w.check(t, "SHA-256 of mlkem_ek", body.B("mlkem_ek"))
	w.check(t, "SHA-256 of the signed content", made.Signed[26:])
	w.check(t, "SHA-256 of HelloBody", made.Body)
	w.check(t, "K_hello", made.KHello)
	w.check(t, "K_mac", made.KMac)
	w.check(t, "mac", made.Frame[len(made.Frame)-16:])
	w.check(t, "hello-digest", HelloDigest(made.Frame))

	r := NewResponder(w.listener(t))
	var reply []byte
	for _, b := range made.Frame {
		reply = append(reply, r.Feed([]byte{b})...)
	}
	if r.State != "AWAIT_CONFIRM" {
		t.Fatal(r.State, r.Refusal)
	}
	w.check(t, "HelloReply frame", reply)
	w.check(t, "SHA-256 of mlkem_ciphertext", r.Made.Ciphertext)
	w.check(t, "K_reply", r.Made.KReply)
	w.check(t, "X25519 secret", r.Made.X25519)
	w.check(t, "ML-KEM secret", r.Made.MLKEM)
	w.check(t, "H(reply-salt, ...)", ReplySalt(made.Frame, run(0xd0, 0xef)))
	confirm := i.Feed(reply)
	if i.State != "ESTABLISHED" {
		t.Fatal(i.State, i.Refusal)
	}
	if sent := r.Feed(append(confirm, 3, 0)); sent != nil || r.State != "ESTABLISHED" {
		t.Fatal(r.State, r.Refusal)
	}
	if !bytes.Equal(r.Established.Unread, []byte{3, 0}) {
		t.Errorf("unread: %x", r.Established.Unread)
	}
	for _, side := range []*Established{i.Established, r.Established} {
		w2 := makeWorld(t)
		w2.check(t, "th", side.TH)
		w2.check(t, "prk", side.PRK)
		w2.check(t, "exporter", side.Exporter)
		g := NewGeneration(side.I2R)
		w2.check(t, "secret_0, I to R", g.Secret)
		w2.check(t, "key_0, I to R", g.Key)
		w2.check(t, "iv_0, I to R", g.IV)
		g = g.Next()
		w2.check(t, "secret_1, I to R", g.Secret)
		w2.check(t, "key_1, I to R", g.Key)
		w2.check(t, "iv_1, I to R", g.IV)
		g = NewGeneration(side.R2I)
		w2.check(t, "secret_0, R to I", g.Secret)
		w2.check(t, "key_0, R to I", g.Key)
		w2.check(t, "iv_0, R to I", g.IV)
	}
	replayed := NewResponder(r.at)
	if replayed.Feed(made.Frame); wire.RefusedBy(replayed.Refusal) != "HS-28" || replayed.State != "IGNORED" {
		t.Error("a replay", replayed.State, replayed.Refusal)
	}
}

func TestADeadlineOrTheEndOfTheConnectionFailsAHandshake(t *testing.T) {
	w := makeWorld(t)
	for _, event := range []string{"DEADLINE_PASSED", "TRANSPORT_CLOSED"} {
		i, r := w.initiate(t), NewResponder(w.listener(t))
		reply := r.Feed(i.Made.Frame)
		i.Fail(event)
		r.Fail(event)
		if sent := i.Feed(reply); sent != nil || i.State != "FAILED" || r.State != "IGNORED" {
			t.Errorf("%s: %s, %s, %d bytes", event, i.State, r.State, len(sent))
		}
	}
}

func TestEveryChangedByteOfAHelloIsIgnored(t *testing.T) {
	w := makeWorld(t)
	hello := w.initiate(t).Made.Frame
	at := w.listener(t)
	for n := 0; n < len(hello); n += 37 {
		changed := bytes.Clone(hello)
		changed[n] ^= 1
		r := NewResponder(at)
		if sent := r.Feed(changed); sent != nil || r.State != "IGNORED" {
			t.Errorf("byte %d: %s, %d bytes", n, r.State, len(sent))
		}
	}
}

func TestRecordsAreThoseOfTheExample(t *testing.T) {
	w := makeWorld(t)
	i2r, r2i := w.answers["secret_0, I to R"], w.answers["secret_0, R to I"]
	at := map[string]*Direction{"I": NewDirection(i2r, 0), "R": NewDirection(r2i, 0)}
	said := map[string]string{"I 0 1 Data": "hello", "R 0 0 Data": "hello", "I 1 0 Data": "again"}
	found := 0
	for line := range strings.SplitSeq(spectext.Section(t, "12-example.md"), "\n") {
		f := strings.Fields(line)
		if len(f) != 5 || at[f[0]] == nil {
			continue
		}
		found++
		payload := []byte(said[strings.Join(f[:4], " ")])
		if f[3] == "Error" {
			payload = errorBody("shutting_down", "bye")
		}
		if got := hex.EncodeToString(at[f[0]].Seal(f[3], payload)); got != f[4] {
			t.Errorf("%v: %s", f, got)
		}
	}
	if found != 7 {
		t.Errorf("%d records in the example", found)
	}
}

func TestFormulasHaveTheKnownAnswers(t *testing.T) {
	text := spectext.Section(t, "05-handshake.md")
	_, text, _ = strings.Cut(text, "## 5.17")
	want := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			want[strings.TrimSpace(cells[1])] = strings.Trim(cells[2], " `")
		}
	}
	hello, reply, spki := make([]byte, 2216), make([]byte, 1216), make([]byte, 294)
	key1, key2, salt := run(0, 0x1f), run(0x20, 0x3f), run(0x40, 0x5f)
	s := Derive(hello, reply, key2, key1, bytes.Repeat([]byte{0xaa}, 32), bytes.Repeat([]byte{0xbb}, 32))
	g := NewGeneration(s.I2R)
	for what, got := range map[string][]byte{
		"K_mac, cluster port": MacKey(spki, make([]byte, 32)), "K_mac, client port": MacKey(spki, nil),
		"K_hello": HelloKey(key1), "H(reply-salt, ...)": ReplySalt(hello, salt), "K_reply": ReplyKey(hello, salt, key1),
		"th": s.TH, "prk": s.PRK, "secret_0, I to R": s.I2R, "secret_0, R to I": s.R2I, "exporter": s.Exporter,
		"key_0, I to R": g.Key, "iv_0, I to R": g.IV, "secret_1, I to R": g.Next().Secret,
		"Confirm, the whole frame": NewDirection(s.I2R, 0).Seal("Confirm", nil),
	} {
		if hex.EncodeToString(got) != want[what] {
			t.Errorf("%s: %x", what, got)
		}
	}
}
