package proto

// Making a Hello (5.5, 5.6).

import (
	"bytes"

	"xlattice-port/internal/cluster"
	"xlattice-port/internal/crypt"
	"xlattice-port/internal/wire"
)

// Draws are the random values of a handshake by name; each side uses its own.
type Draws map[string][]byte

// allowed is the table in 5.6, as port/role/purpose.
var allowed = map[string]bool{
	"cluster/member/link":     true,
	"cluster/member/stream":   true,
	"client/client/stream":    true,
	"client/anonymous/stream": true,
}

// padTotal is the length of pad together with recipient, service, initiator and signature [HS-13].
const padTotal = 663

// A HelloPlan is what an initiator is about to say, to whom, and as whom.
type HelloPlan struct {
	Port, Role, Purpose, Service string
	Peer                         *cluster.Card // R's card [HS-1]
	ClusterID, Knock             []byte        // no knock on the client port
	ListedOnly                   bool          // client_access is listed
	Self                         *cluster.Card // nil: anonymous
	SK                           *crypt.PrivateKey
	Draws                        Draws
}

// A HelloMade is a Hello frame and how it was made.
type HelloMade struct {
	Frame, KEMCiphertext, Signature, Signed, Body, KHello, KMac []byte
}

// MakeHello makes a Hello in the seven steps of 5.5.
func (p *HelloPlan) MakeHello(ek []byte) (*HelloMade, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	ck, err := crypt.ParseSPKI(p.Peer.CK)
	if err != nil {
		return nil, err
	}
	share, err := crypt.X25519Public(p.Draws["x25519"])
	if err != nil {
		return nil, err
	}
	made := &HelloMade{Signature: []byte{}, Signed: []byte{}}
	key1 := p.Draws["key1"]
	if made.KEMCiphertext, err = ck.EncryptOAEP(key1, p.Draws["oaep_seed"]); err != nil {
		return nil, err
	}
	initiator, signatureSize := []byte{}, 0
	if p.Self != nil {
		initiator, signatureSize = p.Self.NodeID, p.SK.Size()
	}
	pad := padTotal - len(p.Peer.NodeID) - len(p.Service) - len(initiator) - signatureSize
	body := wire.Values{ // [HS-12]
		"role": wire.Enums["Role"][p.Role], "purpose": wire.Enums["Purpose"][p.Purpose],
		"recipient": p.Peer.NodeID, "cluster": p.ClusterID, "x25519": share, "mlkem_ek": ek,
		"service": p.Service, "initiator": initiator,
		"signature": make([]byte, signatureSize), "pad": make([]byte, max(pad, 0)),
	}
	head := wire.MustEncode("Hello", wire.Values{ // sealed and mac follow
		"version": uint64(2), "kem_ciphertext": made.KEMCiphertext,
		"sealed": make([]byte, 1936), "mac": make([]byte, 16),
	})[:4+ck.Size()]
	frame := append(makeHeader("Hello", wire.HelloFixedSize+ck.Size()), head...)
	if p.Self != nil {
		unsigned, err := wire.Encode("HelloBody", body)
		if err != nil {
			return nil, err
		}
		made.Signed = crypt.Labelled("hello-signature", signedPart(head, unsigned, body))
		made.Signature = p.SK.SignPSS(made.Signed, p.Draws["pss_salt"])
		body["signature"] = made.Signature
	}
	if made.Body, err = wire.Encode("HelloBody", body); err != nil {
		return nil, err
	}
	made.KHello, made.KMac = HelloKey(key1), MacKey(p.Peer.CK, p.Knock)
	frame = append(frame, crypt.Seal(made.KHello, crypt.ZeroNonce, frame, made.Body)...)
	made.Frame = append(frame, crypt.HMAC(made.KMac, frame)[:16]...)
	return made, nil
}

// check refuses what I must not send: [HS-1], [HS-16], [HS-17], [SV-29].
func (p *HelloPlan) check() error {
	if p.Peer == nil {
		return wire.Refuse("HS-1", "no member of this NodeID")
	}
	if !allowed[p.Port+"/"+p.Role+"/"+p.Purpose] {
		return wire.Refuse("HS-16", "%s for a %s on the %s port", p.Role, p.Purpose, p.Port)
	}
	if (p.Self == nil) != (p.Role == "anonymous") {
		return wire.Refuse("NO-18", "%s with or without a NodeID", p.Role)
	}
	if p.Self == nil && p.ListedOnly {
		return wire.Refuse("SV-29", "client_access is listed")
	}
	if p.Purpose == "link" && bytes.Compare(p.Self.NodeID, p.Peer.NodeID) >= 0 {
		return wire.Refuse("HS-17", "the peer has the lower NodeID")
	}
	return nil
}

// signedPart is the content of the signature: Hello body from version through kem_ciphertext, and HelloBody from role
// through initiator: [HS-14], [HS-15].
func signedPart(helloHead, encodedBody []byte, body wire.Values) []byte {
	end := len(encodedBody) - 2 - len(body.B("signature")) - 2 - len(body.B("pad"))
	return append(append([]byte{}, helloHead...), encodedBody[:end]...)
}
