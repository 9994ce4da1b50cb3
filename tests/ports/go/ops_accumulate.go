package main

// The operations of accumulated.json.

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"fmt"

	"xlattice-port/internal/proto"
	"xlattice-port/internal/wire"
)

// xof is the first n bytes of SHAKE128(seed || i).
func xof(seed []byte, i uint64, n int) []byte {
	return sha3.SumSHAKE128(binary.BigEndian.AppendUint64(bytes.Clone(seed), i), n)
}

// change makes one change of accumulate_codec to data, as y says.
func change(data, y []byte) []byte {
	p := (256*int(y[1]) + int(y[2])) % (len(data) + 1)
	switch y[0] % 4 {
	case 0:
		if p < len(data) {
			data[p] = y[3]
		}
	case 1:
		if p < len(data) {
			data = append(data[:p], data[p+1:]...)
		}
	case 2:
		data = append(data, 0)
		copy(data[p+1:], data[p:])
		data[p] = y[3]
	case 3:
		data = data[:p]
	}
	return data
}

type accumulateCodecInput struct {
	Seed  bytesHex `json:"seed"`
	Cases uint64   `json:"cases"`
	Bases []struct {
		Message string   `json:"message"`
		Bytes   bytesHex `json:"bytes"`
	} `json:"bases"`
}

func opAccumulateCodec(_ *fixtures, in accumulateCodecInput) (result, error) {
	for _, b := range in.Bases {
		if wire.Messages[b.Message] == nil {
			return result{}, skip("unknown message %q", b.Message)
		}
		if _, err := wire.Decode(b.Message, b.Bytes); err != nil {
			return result{}, fmt.Errorf("a base: %w", err)
		}
	}
	digest := sha256.New()
	for i := range in.Cases {
		x := xof(in.Seed, i, 32)
		base := in.Bases[int(x[0])%len(in.Bases)]
		data := bytes.Clone([]byte(base.Bytes))
		for k := range int(x[1]) % 4 {
			data = change(data, x[2+4*k:6+4*k])
		}
		values, err := wire.Decode(base.Message, data)
		if err != nil {
			digest.Write([]byte{0})
			continue
		}
		encoded, err := wire.Encode(base.Message, values)
		if err != nil || !bytes.Equal(encoded, data) {
			return result{}, fmt.Errorf("case %d is encoded otherwise: %v", i, err)
		}
		digest.Write([]byte{1})
		digest.Write(encoded)
	}
	return result{output: map[string]any{"digest": hexOf(digest.Sum(nil))}}, nil
}

type accumulateRecordsInput struct {
	Seed   bytesHex `json:"seed"`
	Cases  uint64   `json:"cases"`
	Secret bytesHex `json:"secret"`
}

func opAccumulateRecords(_ *fixtures, in accumulateRecordsInput) (result, error) {
	digest := sha256.New()
	send, receive := proto.NewDirection(in.Secret, 0), proto.NewDirection(in.Secret, 0)
	for i := range in.Cases {
		x := xof(in.Seed, i, 258)
		kind, payload := "Data", x[2:3+int(x[1])]
		if x[0] < 8 && send.Seq > 0 {
			kind, payload = "Rekey", nil
		}
		frame := send.Seal(kind, payload)
		opened, back, err := receive.Open(frame)
		if err != nil || opened != kind || !bytes.Equal(back, payload) {
			return result{}, fmt.Errorf("case %d is opened otherwise: %v", i, err)
		}
		digest.Write(frame)
	}
	return result{output: map[string]any{
		"digest": hexOf(digest.Sum(nil)), "secret": hexOf(send.Secret), "seq": send.Seq,
	}}, nil
}
