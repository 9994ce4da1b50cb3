package proto

// The clocks of a session: silence, KeepAlives, lingering, writes (6.6, 6.8, 6.9, 6.11).

import "xlattice-port/internal/wire"

// Hold says whether the side holds back its reading; the silence clock stands still meanwhile [SE-36].
func (s *Session) Hold(now int64, holding bool) {
	s.silence, s.silenceAt = s.silenceNow(now), now
	s.holding = holding
}

// silenceNow is what the silence clock shows.
func (s *Session) silenceNow(now int64) int64 {
	if s.holding || s.byeWaits {
		return s.silence
	}
	return s.silence + now - s.silenceAt
}

// silenceLimit is [SE-37], [SE-38].
func (s *Session) silenceLimit() int64 {
	limit := wire.KeepAliveIntervals * s.keepalive
	if s.initiator && !s.opened {
		return max(limit, s.handshakeDeadline)
	}
	return limit
}

// A deadline is a time at which something becomes due.
type deadline struct {
	at   int64
	what func(now int64)
}

// deadlines lists what becomes due; of two at one time the first in the list comes first.
func (s *Session) deadlines() []deadline {
	var due []deadline
	add := func(at int64, what func(int64)) { due = append(due, deadline{at, what}) }
	closed := func(now int64) { s.event(now, "TRANSPORT_CLOSED", fact{}) }
	if s.failedAt >= 0 { // [SE-83]; nothing is sent any more
		add(s.failedAt+wire.ErrorLinger, closed)
		return due
	}
	if len(s.writes) > 0 {
		add(s.writeBegan+wire.WriteDeadline, func(now int64) { // [SE-70], [SE-71]
			s.event(now, "TRANSPORT_CLOSED", fact{found: "write_timeout"})
		})
	}
	switch {
	case s.State == "DRAINING" && s.lingerAt >= 0:
		add(s.lingerAt+wire.ByeLinger, func(now int64) { s.event(now, "LINGER_PASSED", fact{}) }) // [SE-46]
	case s.State == "FAILING":
		add(s.lingerAt+wire.ErrorLinger, func(now int64) { s.event(now, "LINGER_PASSED", fact{}) }) // [SE-62]
	case s.State == "BYE_SENT" && s.closingAt >= 0:
		add(s.closingAt+wire.ByeLinger, closed) // [SE-52]
	}
	if s.receiving() && s.keepalive > 0 {
		if !s.holding && !s.byeWaits {
			add(s.silenceAt+s.silenceLimit()-s.silence, func(now int64) {
				s.event(now, "SILENCE_PASSED", fact{found: "keepalive_timeout"})
			})
		}
		if len(s.writes) == 0 {
			add(s.sendTimer+s.keepalive, func(now int64) { s.SendKeepAlive(now) }) // [SE-31], [SE-32]
		}
	}
	return due
}

// Tick does what has become due by now, in order of time.
func (s *Session) Tick(now int64) {
	for !s.Closed {
		var next *deadline
		for _, d := range s.deadlines() {
			if next == nil || d.at < next.at {
				next = &d
			}
		}
		if next == nil || next.at > now {
			return
		}
		next.what(next.at)
	}
}
