"""NodeCard: who a node is. Made and signed by the node itself, checked by everybody else. Spec 2.5."""

import attrs

from xlattice_trio.crypto import (
    Label,
    RSAPrivateKey,
    RSAPublicKey,
    decode_spki,
    encode_spki,
    pss_sign,
    pss_verify,
)
from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import NODE_ID_LONG
from xlattice_trio.wire.codec import encode_before
from xlattice_trio.wire.messages import NodeCard


@attrs.frozen
class VerifiedCard:
    """A card that `verify_card` has checked, with what it says in a form that can be used.

    Equal if the cards are, signatures included.
    """

    card: NodeCard = attrs.field(repr=False)
    node_id: NodeID = attrs.field(eq=False)
    sk: RSAPublicKey = attrs.field(eq=False, repr=False)
    ck: RSAPublicKey = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        return self.card.name


def check_name(name: str) -> None:
    """Raises EncodeError unless a card can carry this name: 1 to 64 bytes of UTF-8, no control characters."""
    encode_before(NodeCard(name, NODE_ID_LONG, b"", b"", 0, b""), "id_size")


def make_card(
    *, name: str, sk_priv: RSAPrivateKey, ck: RSAPublicKey, id_size: int = NODE_ID_LONG, serial: int = 1
) -> NodeCard:
    """A card, signed with `sk_priv`. `id_size` is 20 or 32 bytes; `serial` goes up with every new card.

    Raises EncodeError if a value is out of its bounds, IdentityError if sk and ck are the same key.
    """
    card = NodeCard(name, id_size, encode_spki(sk_priv.public_key()), encode_spki(ck), serial, b"")
    _check_keys_differ(card)
    signature = pss_sign(sk_priv, Label.NODE_CARD, encode_before(card, "signature"))  # [ID-6]
    return attrs.evolve(card, signature=signature)


def verify_card(card: NodeCard) -> VerifiedCard:
    """Checks everything that a card claims by itself.

    Raises IdentityError if a key is not encoded as it has to be or of a size that is not allowed, if sk and ck are
    the same key, or if the signature is not sk's over every field before it; EncodeError if the card was not decoded
    but made by hand and has no encoding.
    """
    content = encode_before(card, "signature")
    try:
        sk, ck = decode_spki(card.sk), decode_spki(card.ck)  # [ID-21]
        _check_keys_differ(card)
        pss_verify(sk, Label.NODE_CARD, content, card.signature)  # [ID-23]
    except IdentityError as exc:
        raise IdentityError(f"the card of {card.name!r}: {exc}") from exc
    return VerifiedCard(card, NodeID.of(card.sk, card.id_size), sk, ck)


def _check_keys_differ(card: NodeCard) -> None:
    if card.sk == card.ck:  # [ID-2] [ID-22]
        raise IdentityError("one RSA key as both sk and ck: a node has one for signatures and another for encryption")
