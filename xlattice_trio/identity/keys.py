"""LocalIdentity: a node's card and the private keys that belong to it. Spec 2.1, 2.6."""

import attrs

from xlattice_trio.crypto import RSAPrivateKey, encode_spki, rsa_generate
from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.card import VerifiedCard, check_name, make_card, verify_card
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import NODE_ID_LONG


@attrs.frozen
class LocalIdentity:
    """Who we are. The private keys match the card: `local_identity` has checked it."""

    card: VerifiedCard
    sk_priv: RSAPrivateKey = attrs.field(eq=False, repr=False)
    ck_priv: RSAPrivateKey = attrs.field(eq=False, repr=False)

    @property
    def node_id(self) -> NodeID:
        return self.card.node_id

    @property
    def name(self) -> str:
        return self.card.name


def local_identity(card: VerifiedCard, sk_priv: RSAPrivateKey, ck_priv: RSAPrivateKey) -> LocalIdentity:
    """Raises IdentityError unless both private keys are those of the card's public ones."""
    _check_pair("sk", sk_priv, card.card.sk, card.name)
    _check_pair("ck", ck_priv, card.card.ck, card.name)
    return LocalIdentity(card, sk_priv, ck_priv)


def _check_pair(which: str, private: RSAPrivateKey, spki: bytes, name: str) -> None:
    if encode_spki(private.public_key()) != spki:  # [ID-29]
        raise IdentityError(
            f"the private key {which}Priv does not belong to the {which} in the card of {name!r}: "
            f"the key file and the card are of different nodes or of different times"
        )


def generate_identity(name: str, bits: int = 2048, id_size: int = NODE_ID_LONG) -> LocalIdentity:
    """A new node: two new RSA keys of `bits` bits and a card of serial 1. Takes up to several seconds.

    Raises EncodeError if no card can carry the name or the size, UsageError if `bits` is not 2048, 3072 or 4096.
    """
    check_name(name)
    sk_priv, ck_priv = rsa_generate(bits), rsa_generate(bits)
    card = make_card(name=name, sk_priv=sk_priv, ck=ck_priv.public_key(), id_size=id_size)
    return local_identity(verify_card(card), sk_priv, ck_priv)
