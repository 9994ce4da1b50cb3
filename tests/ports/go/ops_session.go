package main

// The operations of records.json and session.json.

import (
	"bytes"
	"fmt"

	"xlattice-port/internal/proto"
	"xlattice-port/internal/wire"
)

type recordsInput struct {
	Secret  bytesHex `json:"secret"`
	Seq     uint64   `json:"seq"`
	Records []struct {
		Type    string   `json:"type"`
		Payload bytesHex `json:"payload"`
	} `json:"records"`
}

// opRecords seals records, and opens what it sealed.
func opRecords(_ *fixtures, in recordsInput) (result, error) {
	send, receive := proto.NewDirection(in.Secret, in.Seq), proto.NewDirection(in.Secret, in.Seq)
	frames := []string{}
	for _, r := range in.Records {
		if wire.Enums["RecordType"][r.Type] == 0 {
			return result{}, skip("unknown record type %q", r.Type)
		}
		frame := send.Seal(r.Type, r.Payload)
		if _, err := proto.DueRecord.CheckHeader(frame[:4]); err != nil {
			return result{}, err
		}
		kind, payload, err := receive.Open(frame)
		if err != nil || kind != r.Type || !bytes.Equal(payload, r.Payload) {
			return result{}, fmt.Errorf("opened otherwise: %s, %v", kind, err)
		}
		frames = append(frames, hexOf(frame))
	}
	return result{output: map[string]any{"frames": frames, "secret": hexOf(send.Secret), "seq": send.Seq}}, nil
}

type recordsOpenInput struct {
	Secret bytesHex   `json:"secret"`
	Seq    uint64     `json:"seq"`
	Frames []bytesHex `json:"frames"`
}

func opRecordsOpen(_ *fixtures, in recordsOpenInput) (result, error) {
	direction := proto.NewDirection(in.Secret, in.Seq)
	for i, frame := range in.Frames {
		reader := proto.FrameReader{Due: proto.DueRecord}
		reader.Feed(frame)
		whole, err := reader.Next()
		if err == nil && len(whole) != len(frame) {
			return result{}, fmt.Errorf("frame %d is not whole", i)
		}
		if err == nil {
			_, _, err = direction.Open(whole)
		}
		if err != nil {
			if i < len(in.Frames)-1 {
				return result{}, fmt.Errorf("frame %d: %w", i, err)
			}
			return result{refusal: err}, nil
		}
	}
	return result{}, nil
}

type sessionInput struct {
	Side              string   `json:"side"`
	KeepAlive         int64    `json:"keepalive"`
	HandshakeDeadline int64    `json:"handshake_deadline"`
	I2R               bytesHex `json:"i2r"`
	R2I               bytesHex `json:"r2i"`
	I2RSeq            *uint64  `json:"i2r_seq"`
	R2ISeq            *uint64  `json:"r2i_seq"`
	Steps             []step   `json:"steps"`
}

type step struct {
	Do      string   `json:"do"`
	Payload bytesHex `json:"payload"`
	Code    string   `json:"code"`
	Text    bytesHex `json:"text"`
	Bytes   bytesHex `json:"bytes"`
	MS      int64    `json:"ms"`
}

// session begins the session of a vector.
func (in *sessionInput) session() (*proto.Session, error) {
	if in.Side != "initiator" && in.Side != "responder" {
		return nil, skip("unknown side %q", in.Side)
	}
	seqs := [2]uint64{1, 0} // Confirm was sent or opened
	for i, given := range []*uint64{in.I2RSeq, in.R2ISeq} {
		if given != nil {
			seqs[i] = *given
		}
	}
	i2r, r2i := proto.NewDirection(in.I2R, seqs[0]), proto.NewDirection(in.R2I, seqs[1])
	return proto.NewSession(in.Side == "initiator", i2r, r2i, in.KeepAlive, in.HandshakeDeadline, 0), nil
}

func opSession(_ *fixtures, in sessionInput) (result, error) {
	s, err := in.session()
	if err != nil {
		return result{}, err
	}
	now := int64(0)
	steps := []any{}
	for _, st := range in.Steps {
		refused := false
		switch st.Do {
		case "send_data":
			refused = s.SendData(now, st.Payload)
		case "send_keepalive":
			refused = s.SendKeepAlive(now)
		case "send_bye":
			refused = s.SendBye(now)
		case "send_error":
			if wire.Enums["ErrorCode"][st.Code] == 0 {
				return result{}, skip("unknown code %q", st.Code)
			}
			refused = s.SendError(now, st.Code, string(st.Text))
		case "receive":
			s.Receive(now, st.Bytes)
		case "transport_closed":
			s.TransportClosed(now)
		case "wait":
			now += st.MS
			s.Tick(now)
		case "hold":
			s.Hold(now, true)
			now += st.MS
			s.Tick(now)
			s.Hold(now, false)
		default:
			return result{}, skip("unknown action %q", st.Do)
		}
		steps = append(steps, map[string]any{
			"sent": hexOf(s.Sent()), "events": eventsOf(s.Reports(), refused), "state": s.State,
		})
	}
	return result{map[string]any{"steps": steps}, s.Refusal}, nil
}

// eventsOf writes what the application was told; data that follows on data is joined to it.
func eventsOf(reports []proto.Report, refused bool) []any {
	events := []any{}
	var data []byte
	flush := func() {
		if len(data) > 0 {
			events = append(events, map[string]any{"data": hexOf(data)})
			data = nil
		}
	}
	for _, r := range reports {
		if r.What == "data" {
			data = append(data, r.Data...)
			continue
		}
		flush()
		if r.What == "error" {
			events = append(events, map[string]any{"error": r.Code, "text": hexOf([]byte(r.Text))})
		} else {
			events = append(events, map[string]any{r.What: true})
		}
	}
	flush()
	if refused {
		events = append(events, map[string]any{"refused": true})
	}
	return events
}
