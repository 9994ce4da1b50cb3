"""The formulas of the handshake, one function each, named as in the specification. Spec 5.4. [HS-5]

Inputs and outputs are bytes; every key is 32 bytes. `hello_frame` and `reply_frame` are whole frames, header and body,
as they were on the wire.
"""

import attrs

from xlattice_trio.crypto import Label, digest, hkdf_expand, hkdf_extract
from xlattice_trio.limits import IV_SIZE, KEY_SIZE


def k_mac(ck_spki: bytes, knock: bytes) -> bytes:
    """The key of a Hello's mac. `knock` is the roster's on the cluster port and empty on the client port."""
    return digest(Label.HELLO_MAC, ck_spki, knock)


def k_hello(key1: bytes) -> bytes:
    """The key that seals HelloBody."""
    return hkdf_expand(hkdf_extract(b"", key1), Label.HELLO, KEY_SIZE)


def k_reply(hello_frame: bytes, salt: bytes, key1: bytes) -> bytes:
    """The key that seals ReplyBody."""
    return hkdf_expand(hkdf_extract(digest(Label.REPLY_SALT, hello_frame, salt), key1), Label.HELLO_REPLY, KEY_SIZE)


def hello_digest(hello_frame: bytes) -> bytes:
    """What the replay cache remembers of a Hello."""
    return digest(Label.HELLO_DIGEST, hello_frame)


def th(hello_frame: bytes, reply_frame: bytes) -> bytes:
    """The transcript hash."""
    return digest(Label.TRANSCRIPT, hello_frame, reply_frame)


def prk(th: bytes, key2: bytes, key1: bytes, x25519_secret: bytes, mlkem_secret: bytes) -> bytes:
    """What every key of the session comes from."""
    return hkdf_extract(th, key2 + key1 + x25519_secret + mlkem_secret)


def direction_secret(prk: bytes, direction: Label) -> bytes:
    """secret_0 of a direction, I2R or R2I."""
    return hkdf_expand(prk, direction, KEY_SIZE)


def exporter(prk: bytes) -> bytes:
    """A secret that both sides' services have and nobody else: for channel binding."""
    return hkdf_expand(prk, Label.EXPORTER, KEY_SIZE)


@attrs.frozen(repr=False)
class Generation:
    """What one generation of one direction has: its key, its IV (12 bytes), and the secret of the next."""

    key: bytes
    iv: bytes
    next_secret: bytes


def generation(secret: bytes) -> Generation:
    """The generation of a direction's secret."""
    return Generation(
        hkdf_expand(secret, Label.KEY, KEY_SIZE),
        hkdf_expand(secret, Label.IV, IV_SIZE),
        hkdf_expand(secret, Label.REKEY, KEY_SIZE),
    )
