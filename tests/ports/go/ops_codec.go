package main

// The operations of codec.json and frames.json.

import (
	"encoding/json"
	"fmt"
	"reflect"

	"xlattice-port/internal/proto"
	"xlattice-port/internal/wire"
)

type messageInput struct {
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields"`
}

// opMessage encodes fields, and decodes them back.
func opMessage(_ *fixtures, in messageInput) (result, error) {
	values, err := fieldsOf(in.Message, in.Fields)
	if err != nil {
		return result{}, err
	}
	encoded, err := wire.Encode(in.Message, values)
	if err != nil {
		return result{refusal: err}, nil
	}
	back, err := wire.Decode(in.Message, encoded)
	if err != nil || !reflect.DeepEqual(back, values) {
		return result{}, fmt.Errorf("decoded otherwise: %v", err)
	}
	return result{output: map[string]any{"bytes": hexOf(encoded)}}, nil
}

type messageDecodeInput struct {
	Message string   `json:"message"`
	Bytes   bytesHex `json:"bytes"`
}

func opMessageDecode(_ *fixtures, in messageDecodeInput) (result, error) {
	if wire.Messages[in.Message] == nil {
		return result{}, skip("unknown message %q", in.Message)
	}
	_, err := wire.Decode(in.Message, in.Bytes)
	return result{refusal: err}, nil
}

func typeOf(notation string) (wire.Type, error) {
	t, err := wire.ParseType(notation)
	if err != nil || t.Message != "" && wire.Messages[t.Message] == nil {
		return t, skip("unknown type %q", notation)
	}
	return t, nil
}

type typeInput struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// opType encodes a value of a type, and decodes it back.
func opType(_ *fixtures, in typeInput) (result, error) {
	t, err := typeOf(in.Type)
	if err != nil {
		return result{}, err
	}
	value, err := valueOf(t, in.Value)
	if err != nil {
		return result{}, err
	}
	encoded, err := wire.EncodeType(t, value)
	if err != nil {
		return result{refusal: err}, nil
	}
	back, err := wire.DecodeType(t, encoded)
	if err != nil || !reflect.DeepEqual(back, value) {
		return result{}, fmt.Errorf("decoded otherwise: %v", err)
	}
	return result{output: map[string]any{"bytes": hexOf(encoded)}}, nil
}

type typeDecodeInput struct {
	Type  string   `json:"type"`
	Bytes bytesHex `json:"bytes"`
}

func opTypeDecode(_ *fixtures, in typeDecodeInput) (result, error) {
	t, err := typeOf(in.Type)
	if err != nil {
		return result{}, err
	}
	_, err = wire.DecodeType(t, in.Bytes)
	return result{refusal: err}, nil
}

// dueIn says which frame is due in a state of a handshake.
func dueIn(state string, acceptedBits []int) (proto.Due, error) {
	switch state {
	case "AWAIT_HELLO":
		var sizes []int
		for _, bits := range acceptedBits {
			sizes = append(sizes, bits/8)
		}
		if len(sizes) == 0 {
			return proto.Due{}, skip("AWAIT_HELLO without accepted_bits")
		}
		return proto.DueHello(sizes), nil
	case "AWAIT_REPLY":
		return proto.DueReply, nil
	case "AWAIT_CONFIRM":
		return proto.DueConfirm, nil
	case "ESTABLISHED":
		return proto.DueRecord, nil
	}
	return proto.Due{}, skip("unknown state %q", state)
}

type frameHeaderInput struct {
	State        string   `json:"state"`
	AcceptedBits []int    `json:"accepted_bits"`
	Header       bytesHex `json:"header"`
}

func opFrameHeader(_ *fixtures, in frameHeaderInput) (result, error) {
	due, err := dueIn(in.State, in.AcceptedBits)
	if err != nil {
		return result{}, err
	}
	n, err := due.CheckHeader(in.Header)
	if err != nil {
		return result{refusal: err}, nil
	}
	return result{output: map[string]any{"length": n}}, nil
}

type framesInput struct {
	State        string     `json:"state"`
	AcceptedBits []int      `json:"accepted_bits"`
	Chunks       []bytesHex `json:"chunks"`
}

func opFrames(_ *fixtures, in framesInput) (result, error) {
	due, err := dueIn(in.State, in.AcceptedBits)
	if err != nil {
		return result{}, err
	}
	reader := proto.FrameReader{Due: due}
	frames := [][]string{}
	for _, chunk := range in.Chunks {
		reader.Feed(chunk)
		whole := []string{}
		for {
			frame, err := reader.Next()
			if err != nil {
				return result{refusal: err}, nil
			}
			if frame == nil {
				break
			}
			whole = append(whole, hexOf(frame))
		}
		frames = append(frames, whole)
	}
	return result{output: map[string]any{"frames": frames, "rest": hexOf(reader.Unread())}}, nil
}
