package wire

// The numbers of section 9 that the machines here use.
const (
	NodeIDShort      = 20
	NodeIDLong       = 32
	RecordPayloadMax = 65536
	TagSize          = 16
	HelloReplySize   = 1212 // 4.2: the body of a HelloReply
	HelloFixedSize   = 1956 // 5.2: the body of a Hello is this and the bytes of kem_ciphertext
	RosterMax        = 4194304
	RosterOfferSize  = 40

	GenerationRecords  = 1 << 20
	KeepAliveMin       = 1000
	LinkKeepAliveMax   = 60000
	KeepAliveIntervals = 3
	LingerBytes        = 1048576
	ReplayCacheMin     = 65536
)

// Times of section 9.3, in milliseconds.
const (
	GenerationAge        = 3_600_000
	WriteDeadline        = 300_000
	ByeLinger            = 5_000
	ErrorLinger          = 1_000
	LinkByeDeadline      = 10_000
	TransferIdleDeadline = 15_000
	TransferDeadline     = 120_000
	PeerPenalty          = 600_000
)
