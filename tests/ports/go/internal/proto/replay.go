package proto

// The replay cache (5.11).

// A ReplayCache holds the digests of Hellos, in the order in which they came [HS-60].
type ReplayCache struct {
	room  int
	seen  map[string]bool
	order []string
}

// NewReplayCache makes a cache with room for so many digests.
func NewReplayCache(room int) *ReplayCache { return &ReplayCache{room: room, seen: map[string]bool{}} }

// Has looks a digest up.
func (c *ReplayCache) Has(digest []byte) bool { return c.seen[string(digest)] }

// Insert says whether a digest was new; a full cache drops the one that came first [HS-61].
func (c *ReplayCache) Insert(digest []byte) bool {
	if c.Has(digest) {
		return false
	}
	if len(c.order) == c.room {
		delete(c.seen, c.order[0])
		c.order = c.order[1:]
	}
	c.seen[string(digest)] = true
	c.order = append(c.order, string(digest))
	return true
}
