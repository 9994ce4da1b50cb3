"""Every number of the protocol, once: sizes, limits and defaults.

The same names and values stand in the tables `Limits ...` of the specification; `xlattice spec check` holds the two
against each other. They are used as they are, but for those that are the default of a parameter. [EL-5] [EL-8] A name
without a unit in its comment counts bytes.
"""

# ---- sizes on the wire (Spec 9.2) ----
NODE_ID_SHORT = 20
NODE_ID_LONG = 32
CLUSTER_ID_SIZE = 32
KNOCK_SIZE = 32
KEY_SIZE = 32  # an AES-256 key: key1, key2, and every key that is derived
IV_SIZE = 12
DIGEST_SIZE = 32  # SHA-256
SALT_SIZE = 32  # in HelloReply
MAC_SIZE = 16  # of Hello: HMAC-SHA-256, its first 16 bytes
TAG_SIZE = 16  # AES-256-GCM
PSS_SALT_SIZE = 32
X25519_SIZE = 32
MLKEM_EK_SIZE = 1184
MLKEM_CIPHERTEXT_SIZE = 1088
HELLO_BODY_SIZE = 1920  # HelloBody, padded
REPLY_BODY_SIZE = 1164  # ReplyBody
RECORD_PAYLOAD_MAX = 65_536
PUBLIC_KEY_MAX = 1024  # DER SubjectPublicKeyInfo
NAME_MAX = 64
HOST_MAX = 253
SERVICE_MAX = 64
ERROR_TEXT_MAX = 1024

# ---- rosters (Spec 9.2) ----
MEMBERS_MAX = 256  # members
CLIENTS_MAX = 2048  # clients
ROSTER_MAX = 4_194_304

# ---- handshake (Spec 9.3) ----
HANDSHAKE_DEADLINE = 10  # seconds
REPLAY_CACHE_MIN = 65_536  # digests
CK_GRACE = 604_800  # seconds
HANDSHAKES_MAX = 256  # connections of one port that are not ESTABLISHED
HANDSHAKES_PER_SOURCE = 16  # connections: of these, from one source
SOURCE_RATE = 10  # connections a second: new ones, from one source
SOURCE_BURST = 20  # connections: new ones at once, from one source
CLUSTER_SOURCE_RATE = 100  # connections a second: on the cluster port, when the source address is checked
CLUSTER_SOURCE_BURST = 200  # connections: the same
CONNECTIONS_MAX = 4096  # connections of one port, established ones included

# ---- session (Spec 9.3) ----
GENERATION_RECORDS = 1_048_576  # records under one key
GENERATION_AGE = 3600  # seconds
KEEPALIVE_MIN = 1000  # milliseconds
KEEPALIVE_MAX = 3_600_000  # milliseconds
LINK_KEEPALIVE_MAX = 60_000  # milliseconds
KEEPALIVE_INTERVALS = 3  # intervals of silence, until a session is dead
WRITE_DEADLINE = 300  # seconds
BYE_LINGER = 5  # seconds
ERROR_LINGER = 1  # seconds
LINGER_BYTES = 1_048_576

# ---- dialling (Spec 9.3) ----
BACKOFF_MIN = 1  # seconds
BACKOFF_MAX = 60  # seconds
BACKOFF_JITTER = 50  # per cent, up and down

# ---- files (Spec 9.3) ----
PBKDF2_ROUNDS_MIN = 600_000  # rounds

# ---- links (Spec 9.3) ----
LINK_STEADY = 60  # seconds in force, after which the back-off is reset
LINK_AGE_MAX = 86_400  # seconds
LINK_BYE_DEADLINE = 10  # seconds
ROSTER_OFFER_SIZE = 40
TRANSFER_IDLE_DEADLINE = 15  # seconds
TRANSFER_DEADLINE = 120  # seconds
PEER_PENALTY = 600  # seconds
REQUESTS_MAX = 1  # requests of a node that are active
TRANSFERS_MAX = 4  # transfers that a node sends at a time
ROSTER_STORE_RETRY = 60  # seconds
