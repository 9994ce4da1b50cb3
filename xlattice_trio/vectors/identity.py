"""NodeIDs, node cards, armour, hosts, private keys. Spec 2, 3.3."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from xlattice_trio.crypto import decode_spki, encode_spki, load_private_key_pem, rsa_modulus
from xlattice_trio.errors import DecodeError, IdentityError
from xlattice_trio.identity import armour as armouring
from xlattice_trio.identity.armour import ArmourError, ArmourProblem, armour, unarmour
from xlattice_trio.identity.card import verify_card
from xlattice_trio.identity.host import DNSName, parse_host
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.testing import forge
from xlattice_trio.vectors import deterministic, pkcs8
from xlattice_trio.vectors.fixtures import Fixtures, drawn, sign_card
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refusal, Refused
from xlattice_trio.vectors.schema import data, obj, one_of, or_null
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import NodeCard

# ---- operations --------------------------------------------------------------


def _node_id(given: Json, _fixtures: Fixtures) -> Json:
    return {"node_id": NodeID.of(bytes.fromhex(given["spki"]), given["id_size"]).value.hex()}


def _card(given: Json, _fixtures: Fixtures) -> Json:
    card = decoded_card(bytes.fromhex(given["bytes"]))
    try:
        verified = verify_card(card)
    except IdentityError as exc:
        layer, requirement = fault_of(card)
        raise Refused(layer, requirement, problem=str(exc)) from exc
    return {"node_id": verified.node_id.value.hex(), "name": card.name.encode().hex()}


def decoded_card(encoded: bytes) -> NodeCard:
    try:
        return decode(NodeCard, encoded)
    except DecodeError as exc:
        raise Refused(FailLayer.DECODE, "ID-20", where=exc.where, problem=str(exc)) from exc


def fault_of(card: NodeCard) -> tuple[FailLayer, str]:
    """Why a card that does not verify does not: the check that fails, and its layer."""
    try:
        decode_spki(card.sk)
        decode_spki(card.ck)
    except IdentityError:
        return FailLayer.DECODE, "ID-21"
    if card.sk == card.ck:
        return FailLayer.DECODE, "ID-22"
    return FailLayer.SIGNATURE, "ID-23"


_ARMOURED: dict[str, type[Any]] = {label: cls for cls, label in armouring.LABELS.items()}


def _armour(given: Json, _fixtures: Fixtures) -> Json:
    cls = _ARMOURED[given["label"]]
    message = decode(cls, bytes.fromhex(given["content"]))
    text = armour(message)
    if unarmour(cls, text) != message:
        raise Refused(FailLayer.DECODE, problem="the text does not hold what was put in")
    return {"text": text.hex()}


def _dearmour(given: Json, _fixtures: Fixtures) -> Json:
    try:
        message = unarmour(_ARMOURED[given["label"]], bytes.fromhex(given["text"]))
    except ArmourError as exc:
        by = () if exc.problem is ArmourProblem.CONTENT else ("ID-34",)
        raise Refused(FailLayer.DECODE, *by, problem=str(exc)) from exc
    return {"content": encode(message).hex()}


def _host(given: Json, _fixtures: Fixtures) -> Json:
    try:
        host = parse_host(bytes.fromhex(given["host"]).decode())
    except IdentityError as exc:
        raise Refused(FailLayer.DECODE, "RO-4", "RO-5", "RO-6", "RO-7", problem=str(exc)) from exc
    return {"kind": "dns" if isinstance(host, DNSName) else f"ipv{host.version}"}


def _private_key(given: Json, _fixtures: Fixtures) -> Json:
    passphrase = None if given["passphrase"] is None else bytes.fromhex(given["passphrase"])
    try:
        key = load_private_key_pem(bytes.fromhex(given["pem"]), passphrase)
    except IdentityError as exc:
        raise Refused(FailLayer.DECODE, problem=str(exc)) from exc
    return {"spki": encode_spki(key.public_key()).hex()}


_LABEL = {"label": one_of(*_ARMOURED)}
OPS = {
    "node_id": Op(_node_id, obj({"spki": data(), "id_size": {"enum": [20, 32]}}), obj({"node_id": data()})),
    "card": Op(_card, obj({"bytes": data()}), obj({"node_id": data(), "name": data()})),
    "armour": Op(_armour, obj(_LABEL | {"content": data()}), obj({"text": data()})),
    "dearmour": Op(_dearmour, obj(_LABEL | {"text": data()}), None),
    "host": Op(_host, obj({"host": data()}), obj({"kind": one_of("ipv4", "ipv6", "dns")})),
    "private_key": Op(_private_key, obj({"pem": data(), "passphrase": or_null(data())}), obj({"spki": data()})),
}

# ---- cases: NodeIDs and cards ------------------------------------------------


def _node_id_cases(fixtures: Fixtures) -> Iterator[Case]:
    for bits, node in {2048: "alpha", 3072: "alpha-3072", 4096: "alpha-4096"}.items():
        for size in (20, 32):
            spki = fixtures.nodes[node].card.card.sk
            yield Case(
                name=f"identity/node-id/{bits}/{size}-bytes",
                op="node_id",
                requirements=("ID-18",),
                comment=f"From an sk of {bits} bits.",
                input={"spki": spki.hex(), "id_size": size},
                expected={"node_id": forge.h("node-id", spki)[:size].hex()},
            )


@attrs.frozen
class _CardMaker:
    """Cards of alpha's keys, signed right after whatever was changed."""

    fixtures: Fixtures

    @property
    def alpha(self) -> NodeCard:
        return self.fixtures.nodes["alpha"].card.card

    def signed(self, what: str, *, key: str = "alpha-sk", **changes: Any) -> NodeCard:
        card = attrs.evolve(self.alpha, **changes)
        return sign_card(card, self.fixtures.keys[key], drawn(f"identity/card/{what}", 32))

    def spki(self, key: str) -> bytes:
        return encode_spki(self.fixtures.keys[key].public_key())


def _card_cases(fixtures: Fixtures) -> Iterator[Case]:
    maker = _CardMaker(fixtures)
    for node, comment in (
        ("alpha", "Both keys of 2048 bits."),
        ("alpha-3072", "Both keys of 3072 bits."),
        ("alpha-4096", "Both keys of 4096 bits."),
        ("mixed-alpha", "An sk of 2048 and a ck of 4096 bits."),
        ("mixed-beta", "An sk of 4096 and a ck of 3072 bits."),
        ("short-alpha", "A NodeID of 20 bytes."),
    ):
        yield _good_card(node, fixtures.nodes[node].card.card, comment)
    weak_ck = _with_modulus(maker.alpha.ck, (1 << 2047) + 1)
    for what, card, comment in (
        ("serial-0", maker.signed("serial-0", serial=0), "A serial of 0."),
        ("serial-most", maker.signed("serial-most", serial=(1 << 64) - 1), "The greatest serial."),
        ("name-64", maker.signed("name-64", name="\u20ac" * 21 + "x"), "A name of 64 bytes, 22 characters."),
        ("name-1", maker.signed("name-1", name=" "), "A name of one space."),
        (
            "weak-ck",
            maker.signed("weak-ck", ck=weak_ck),
            "A ck whose modulus is no product of two primes: not our affair.",
        ),
        ("signed-anew", maker.signed("signed-anew"), "The card of alpha, signed with another salt."),
    ):
        yield _good_card(what, card, comment)
    yield from _bad_cards(fixtures, maker)


def _good_card(what: str, card: NodeCard, comment: str) -> Case:
    node_id = forge.h("node-id", card.sk)[: card.id_size]
    return Case(
        name=f"identity/card/{what}",
        op="card",
        requirements=("ID-10", "ID-12", "ID-18", "ID-20", "ID-21", "ID-22", "ID-23"),
        comment=comment,
        input={"bytes": encode(card).hex()},
        expected={"node_id": node_id.hex(), "name": card.name.encode().hex()},
    )


def _with_modulus(spki: bytes, n: int) -> bytes:
    """The SPKI with another modulus of 2048 bits."""
    return spki[:33] + n.to_bytes(256, "big") + spki[-5:]


def _bad_cards(fixtures: Fixtures, maker: _CardMaker) -> Iterator[Case]:
    alpha = maker.alpha
    whole = encode(alpha)
    n = rsa_modulus(fixtures.nodes["alpha"].card.sk)
    content = encode_before(alpha, "signature")
    decode_, signature = FailLayer.DECODE, FailLayer.SIGNATURE

    def case(what: str, layer: FailLayer, by: str, change: str, encoded: bytes, base: str = "alpha") -> Case:
        return Case(
            name=f"identity/card/{what}",
            op="card",
            requirements=(),
            comment=f"Refused: {change}.",
            input={"bytes": encoded.hex()},
            refusal=Refusal(layer=layer, by=by, base=f"identity/card/{base}", change=change),
        )

    def signed_message(key: str, message: bytes, salt: bytes) -> bytes:
        return deterministic.pss_sign_message(fixtures.keys[key], message, salt)

    def signed_content(changed: bytes) -> bytes:
        """The content with a signature, whatever it is."""
        salt = drawn("identity/card/content", 32)
        return changed + b"\1\0" + signed_message("alpha-sk", forge.label("node-card") + b"\0" + changed, salt)

    for what, encoded, change in (
        ("cut", whole[:-1], "the last byte is missing"),
        ("longer", whole + b"\0", "one byte more follows"),
        ("id-size-16", signed_content(content.replace(b"alpha\x20", b"alpha\x10")), "id_size is 16"),
        ("no-name", signed_content(b"\0" + content[6:]), "the name is empty"),
        ("name-control", signed_content(content.replace(b"alpha", b"alph\n")), "a line feed stands in the name"),
        ("empty", b"", "there are no bytes"),
    ):
        yield case(what, decode_, "ID-20", change, encoded)

    for what, changed, change in (
        ("e-3", lambda spki: spki[:-3] + b"\0\0\3", "has the exponent 3, in three bytes"),
        ("even", lambda spki: _with_modulus(spki, n - 1), "has an even modulus"),
        ("2047-bits", lambda spki: _with_modulus(spki, n >> 1 | 1), "has a modulus of 2047 bits"),
        ("no-null", lambda spki: spki.replace(b"\1\1\1\5\0\3", b"\1\1\1\3"), "has no parameters, and wrong lengths"),
        ("pss", lambda spki: spki.replace(b"\1\1\1\5\0\3", b"\1\1\x0a\5\0\3"), "has the algorithm id-RSASSA-PSS"),
        ("longer", lambda spki: spki + b"\0", "has one byte more"),
        ("one-byte", lambda _: b"\x30", "is one byte"),
    ):
        card = maker.signed(f"sk-{what}", sk=changed(alpha.sk))
        yield case(f"sk-{what}", decode_, "ID-21", f"sk {change}", encode(card))
        card = maker.signed(f"ck-{what}", ck=changed(alpha.ck))
        yield case(f"ck-{what}", decode_, "ID-21", f"ck {change}", encode(card))

    card = maker.signed("same-keys", ck=alpha.sk)
    yield case("same-keys", decode_, "ID-22", "ck is sk", encode(card))

    salt = drawn("identity/card/salt", 33)
    message = forge.label("node-card") + b"\0" + content
    zero = _leading_zero(fixtures, alpha)
    big = _small_signature(fixtures, alpha)
    yield _good_card("leading-zero", zero, "A signature whose first byte is zero.")
    yield _good_card("small-signature", big, "A signature to which n can be added.")
    for what, signed, change in (
        ("signed-by-ck", signed_message("alpha-ck", message, salt[:32]), "its ck signed it"),
        ("signed-by-another", signed_message("beta-sk", message, salt[:32]), "another node signed it"),
        (
            "signed-as-roster",
            signed_message("alpha-sk", forge.label("roster") + b"\0" + content, salt[:32]),
            "it was signed under the label roster",
        ),
        (
            "signed-as-hello",
            signed_message("alpha-sk", forge.label("hello-signature") + b"\0" + content, salt[:32]),
            "it was signed under the label hello-signature",
        ),
        ("signed-without-label", signed_message("alpha-sk", content, salt[:32]), "it was signed without a label"),
        ("salt-31", signed_message("alpha-sk", message, salt[:31]), "the salt has 31 bytes"),
        ("salt-33", signed_message("alpha-sk", message, salt), "the salt has 33 bytes"),
        ("signature-bit", alpha.signature[:-1] + bytes([alpha.signature[-1] ^ 1]), "a bit of the signature is turned"),
        ("signature-384", alpha.signature + bytes(128), "128 zeros stand behind the signature"),
        ("signature-384-before", bytes(128) + alpha.signature, "128 zeros stand before the signature"),
        (
            "prefix-signed",
            signed_message("alpha-sk", message + b"\1\0", salt[:32]),
            "the length of the signature was signed too",
        ),
    ):
        yield case(what, signature, "ID-23", change, encode(attrs.evolve(alpha, signature=signed)))
    wrapped = int.from_bytes(big.signature, "big") + n
    card = attrs.evolve(alpha, signature=wrapped.to_bytes(256, "big"))
    yield case("not-below-n", signature, "ID-23", "n is added to the signature", encode(card), "small-signature")
    for what, changes in (
        ("name", {"name": "alphb"}),
        ("id-size", {"id_size": 20}),
        ("ck", {"ck": maker.spki("beta-ck")}),
        ("serial", {"serial": 2}),
        ("sk", {"sk": maker.spki("beta-sk")}),
    ):
        card = attrs.evolve(alpha, **changes)
        change = f"{what.replace('-', '_')} is another than was signed"
        yield case(f"changed-{what}", signature, "ID-23", change, encode(card))


def _signed_until(fixtures: Fixtures, card: NodeCard, fits: Callable[[bytes], bool]) -> NodeCard:
    """The card with a signature of some kind."""
    for i in range(1 << 16):
        signed = sign_card(card, fixtures.keys["alpha-sk"], drawn(f"identity/card/search {i}", 32))
        if fits(signed.signature):
            return signed
    raise AssertionError


def _leading_zero(fixtures: Fixtures, card: NodeCard) -> NodeCard:
    return _signed_until(fixtures, card, lambda signature: signature[0] == 0)


def _small_signature(fixtures: Fixtures, card: NodeCard) -> NodeCard:
    n = rsa_modulus(fixtures.nodes["alpha"].card.sk)
    return _signed_until(fixtures, card, lambda signature: int.from_bytes(signature, "big") + n < 1 << 2048)


# ---- cases: armour -----------------------------------------------------------


def _text(label: str, content: bytes, *, width: int = 64, line_end: str = "\n") -> bytes:
    """An armoured text, or one with another width or line end."""
    characters = base64.b64encode(content).decode("ascii")
    lines = [characters[i : i + width] for i in range(0, len(characters), width)]
    return line_end.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode("ascii")


def _armour_cases(fixtures: Fixtures) -> Iterator[Case]:
    main = fixtures.rosters["main"].roster
    contents: list[tuple[str, str, NodeCard | object, str]] = [
        ("node-card", "XLATTICE NODE CARD", fixtures.nodes["alpha"].card.card, "A node card."),
        ("roster", "XLATTICE ROSTER", main, "A roster."),
        ("cluster-card", "XLATTICE CLUSTER CARD", fixtures.cluster_cards["main"].card, "A cluster card."),
    ]
    bare = NodeCard("x", 32, b"\1", b"\2", 0, bytes(256))
    for length in range(1, 65):
        content = attrs.evolve(bare, name="x" * length)
        left = len(encode(content)) % 48
        if left in {0, 1, 2, 3, 47} and length > 2:
            comment = f"The last line has {left or 48} bytes of content in base64."
            contents.append((f"last-line-{left}", "XLATTICE NODE CARD", content, comment))
    signature = bytes.fromhex("fbefbe" * 40 + "ffffff" * 45 + "ff")
    plus = attrs.evolve(bare, name="xxx", signature=signature)  # which begins at a multiple of three bytes
    contents.append(("plus-and-slash", "XLATTICE NODE CARD", plus, "Base64 with + and /."))
    names = set()
    for what, label, message, comment in contents:
        if what in names:
            continue
        names.add(what)
        yield Case(
            name=f"identity/armour/{what}",
            op="armour",
            requirements=("ID-31", "ID-32", "ID-33"),
            comment=comment,
            input={"label": label, "content": encode(message).hex()},
            expected={"text": _text(label, encode(message)).hex()},
        )
    yield from _bad_armour(plus)


def _bad_armour(card: NodeCard) -> Iterator[Case]:
    label = "XLATTICE NODE CARD"
    content = encode(card)
    good = _text(label, content)
    lines = good.splitlines(keepends=True)
    begin, body, end = lines[0], b"".join(lines[1:-1]), lines[-1]
    assert b"+" in body
    assert b"/" in body
    assert body.endswith(b"w==\n")
    for what, rule, text, change in (
        ("crlf", "ID-32", good.replace(b"\n", b"\r\n"), "lines end with CR LF"),
        ("cr", "ID-32", good.replace(b"\n", b"\r"), "lines end with CR"),
        ("no-last-lf", "ID-32", good[:-1], "the last line has no LF"),
        ("two-last-lf", "ID-31", good + b"\n", "an empty line stands at the end"),
        ("first-lf", "ID-31", b"\n" + good, "an empty line stands at the beginning"),
        ("empty-line", "ID-33", begin + lines[1] + b"\n" + b"".join(lines[2:]), "an empty line stands in the base64"),
        ("line-behind-begin", "ID-31", begin + b"\n" + body + end, "an empty line stands behind the first line"),
        ("space-at-end", "ID-32", begin + lines[1][:-1] + b" \n" + b"".join(lines[2:]), "a line ends with a space"),
        ("space-behind-begin", "ID-32", begin[:-1] + b" \n" + body + end, "the first line ends with a space"),
        ("tab", "ID-32", begin + b"\t" + body + end, "a line begins with a tab"),
        ("width-63", "ID-33", _text(label, content, width=63), "lines have 63 characters"),
        ("width-76", "ID-33", _text(label, content, width=76), "lines have 76 characters, as MIME has them"),
        ("one-line", "ID-33", _text(label, content, width=10_000), "the base64 stands in one line"),
        (
            "short-first-line",
            "ID-33",
            begin + lines[1][:4] + b"\n" + lines[1][4:] + b"".join(lines[2:]),
            "a line that is not the last one is shorter",
        ),
        ("no-padding", "ID-33", begin + body.rstrip(b"=\n") + b"\n" + end, "the padding is missing"),
        ("more-padding", "ID-33", begin + body[:-1] + b"====\n" + end, "there is more padding"),
        ("unused-bits", "ID-33", begin + body[:-4] + b"x==\n" + end, "an unused bit is 1"),
        (
            "url-alphabet",
            "ID-33",
            begin + body.replace(b"+", b"-").replace(b"/", b"_") + end,
            "the alphabet is that for URLs",
        ),
        ("other-character", "ID-33", begin + b"*" + body[1:] + end, "a character is none of base64"),
        ("comment", "ID-31", begin + b"Comment: alpha\n\n" + body + end, "a header stands before the base64"),
        ("text-before", "ID-31", b"alpha:\n" + good, "a line of text stands before it"),
        ("text-behind", "ID-31", good + b"alpha\n", "a line of text stands behind it"),
        ("twice", "ID-31", good + good, "the same text stands there twice"),
        ("bom", "ID-31", b"\xef\xbb\xbf" + good, "a byte order mark stands before it"),
        (
            "lower-case",
            "ID-31",
            good.replace(b"XLATTICE NODE CARD", b"xlattice node card"),
            "the label is in lower case",
        ),
        ("another-label", "ID-31", _text("XLATTICE ROSTER", content), "the label is that of a roster"),
        (
            "another-end",
            "ID-31",
            begin + body + end.replace(b"NODE CARD", b"ROSTER"),
            "the last line has another label",
        ),
        ("no-end", "ID-31", begin + body, "the last line is missing"),
        ("no-begin", "ID-31", body + end, "the first line is missing"),
        ("four-dashes", "ID-31", begin[1:] + body + end, "the first line begins with four dashes"),
        ("no-content", "ID-31", begin + end, "there is nothing between first and last line"),
        ("nul", "ID-31", good + b"\0", "a zero byte stands at the end"),
        ("empty", "ID-31", b"", "there are no bytes"),
        ("raw", "ID-31", content, "it is the content without armour"),
    ):
        yield Case(
            name=f"identity/armour/{what}",
            op="dearmour",
            requirements=(rule,),
            comment=f"Refused: {change}.",
            input={"label": label, "text": text.hex()},
            refusal=Refusal(layer=FailLayer.DECODE, by="ID-34", base="identity/armour/plus-and-slash", change=change),
        )
    yield Case(
        name="identity/armour/cut-content",
        op="dearmour",
        requirements=("ID-20",),
        comment="Armour as it has to be, around a card whose last byte is missing.",
        input={"label": label, "text": _text(label, content[:-1]).hex()},
        refusal=Refusal(
            layer=FailLayer.DECODE,
            by="NO-15",
            base="identity/armour/plus-and-slash",
            change="the last byte of the content is missing",
        ),
    )


# ---- cases: hosts ------------------------------------------------------------

_LONGEST = ".".join(["a" * 63] * 3 + ["a" * 61])  # 253 bytes
_HOSTS = {
    # 3.3
    "10.0.0.1": "plain",
    "::1": "loopback-6",
    "2001:db8::1:0:0:1": "first-of-equal-runs",
    "::102:304": "looks-compatible",
    "fe80::1": "link-local",
    "localhost": "localhost",
    "a.example": "two-labels",
    "1.2.x3": "last-label-with-letter",
    "xn--bcher-kva.example": "punycode",
    # and more
    "0.0.0.0": "least-4",  # noqa: S104
    "255.255.255.255": "most-4",
    "127.0.0.1": "loopback-4",
    "224.0.0.1": "multicast-4",
    "::": "least-6",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "most-6",
    "1::": "run-at-end",
    "2001:db8:0:1:1:1:1:1": "single-zero-group",
    "2001:0:0:1::1": "longest-run-is-last",
    "1:2:3:4:5:6::": "run-of-two-at-end",
    "::3:4:5:6:7:8": "run-of-two-at-start",
    "0:2:3:4:5:6:7:8": "zero-group-at-start",
    "1:2:3:4:5:6:7:0": "zero-group-at-end",
    "::ffff:0:102:304": "translated",
    "::fffe:102:304": "beside-mapped",
    "64:ff9b::102:304": "nat64",
    "ff02::1": "multicast-6",
    "a": "one-letter",
    "0.a": "digit-label",
    "a--b.example": "double-hyphen",
    "a" * 63: "label-63",
    "1" * 63 + ".a": "digits-63",
    _LONGEST: "longest-name",
    "1.2.3.4.example": "looks-like-ipv4",
    "0x7f.example": "hex-label",
}
_NO_HOSTS = {
    # 3.3
    "010.0.0.1": ("leading-zero", "plain", "the first number has a leading zero"),
    "10.0.0": ("three-numbers", "plain", "there are three numbers"),
    "10.0.0.256": ("256", "plain", "the last number is 256"),
    "0x7f000001": ("hex-number", "loopback-4", "it is one hexadecimal number"),
    "1.2.3": ("short-form", "plain", "there are three numbers, which some systems read as 1.2.0.3"),
    "a.1": ("last-label-digit", "two-labels", "the last label is a digit"),
    "a.example.": ("final-dot", "two-labels", "a dot stands at the end"),
    "-a.example": ("hyphen-first", "two-labels", "a label begins with a hyphen"),
    "a_b.example": ("underscore", "two-labels", "there is an underscore"),
    "A.example": ("upper-case", "two-labels", "there is a capital letter"),
    "a..b": ("empty-label", "two-labels", "a label is empty"),
    "2001:DB8::1": ("upper-case-6", "first-of-equal-runs", "there are capital letters"),
    "2001:db8:0:0:1::1": ("second-of-equal-runs", "first-of-equal-runs", "the second of two equal runs is left out"),
    "2001:0db8::1": ("group-leading-zero", "first-of-equal-runs", "a group has a leading zero"),
    "::1.2.3.4": ("dotted", "looks-compatible", "the last two groups are dotted decimals"),
    "::ffff:102:304": ("mapped", "beside-mapped", "the address is IPv4-mapped"),
    "fe80::1%eth0": ("zone", "link-local", "there is a zone"),
    "[::1]": ("brackets", "loopback-6", "it stands in brackets"),
    "1::3:4:5:6:7:8": ("run-of-one", "single-zero-group", "a single zero group is left out"),
    # and more
    "10.0.0.0.1": ("five-numbers", "plain", "there are five numbers"),
    "10.0.0.-1": ("negative", "plain", "a number is negative"),
    "10.0.0.1 ": ("space", "plain", "a space stands at the end"),
    "10.0.0.1/32": ("prefix-length-4", "plain", "a prefix length stands behind it"),
    "4294967295": ("one-number", "most-4", "it is one number"),
    "10..0.1": ("empty-number", "plain", "a number is missing"),
    "\u0661.2.3.4": ("arabic-digit", "plain", "the first digit is an Arabic one"),
    "1.2.3.00": ("two-zeros", "plain", "the last number is 00"),
    "::ffff:0:0": ("mapped-least", "beside-mapped", "the address is the least IPv4-mapped one"),
    "::ffff:ffff:ffff": ("mapped-most", "beside-mapped", "the address is the greatest IPv4-mapped one"),
    "0:0:0:0:0:0:0:0": ("zeros-in-full", "least-6", "no run is left out"),
    "0::": ("run-too-short", "least-6", "a zero group stands before the run"),
    "::0": ("zero-behind-run", "least-6", "a zero group stands behind the run"),
    "1:2:3:4:5:6:7": ("seven-groups", "single-zero-group", "there are seven groups"),
    "1:2:3:4:5:6:7:8:9": ("nine-groups", "single-zero-group", "there are nine groups"),
    "1::2::3": ("two-runs", "first-of-equal-runs", "two runs are left out"),
    "::00001": ("five-digits", "loopback-6", "a group has five digits"),
    "::g": ("not-hexadecimal", "loopback-6", "a digit is none"),
    "::1/128": ("prefix-length-6", "loopback-6", "a prefix length stands behind it"),
    "1.2.3.4:80": ("port-4", "plain", "a port stands behind it"),
    "a.example:80": ("port-name", "two-labels", "a port stands behind it"),
    "fe80::1%": ("empty-zone", "link-local", "there is an empty zone"),
    "a-.example": ("hyphen-last", "two-labels", "a label ends with a hyphen"),
    "a" * 64: ("label-64", "label-63", "the label has 64 characters"),
    "b" * 64 + ".a": ("first-label-64", "digits-63", "the first label has 64 characters"),
    "b\u00fccher.example": ("not-ascii", "punycode", "a letter is not in ASCII"),
    "*.example": ("wildcard", "two-labels", "a label is a wildcard"),
    ".a": ("first-dot", "two-labels", "a dot stands at the beginning"),
    "a b": ("space-inside", "two-labels", "there is a space"),
    "a.1b": ("last-label-digit-first", "two-labels", "the last label begins with a digit"),
}


def _rule_for(host: str) -> str:
    """The rule for the kind that a text means to be, as 3.3 decides it."""
    if ":" in host:
        return "RO-6" if re.fullmatch(r"::ffff:[0-9a-f]+:[0-9a-f]+", host) else "RO-5"
    return "RO-7" if re.match(r"[a-z]", host.rpartition(".")[2]) else "RO-4"


def _host_cases() -> Iterator[Case]:
    for host, what in _HOSTS.items():
        rule = _rule_for(host)
        yield Case(
            name=f"identity/host/{what}",
            op="host",
            requirements=(rule, "RO-8"),
            comment=host if len(host) < 64 else f"{host[:20]}..., {len(host)} bytes.",
            input={"host": host.encode().hex()},
            expected={"kind": {"RO-4": "ipv4", "RO-5": "ipv6", "RO-7": "dns"}[rule]},
        )
    for host, (what, base, change) in _NO_HOSTS.items():
        shown = host if len(host) < 64 and host.isascii() else f"{host.encode()[:20]!r}..."
        yield Case(
            name=f"identity/host/{what}",
            op="host",
            requirements=(),
            comment=f"{shown} is refused: {change}.",
            input={"host": host.encode().hex()},
            refusal=Refusal(layer=FailLayer.DECODE, by=_rule_for(host), base=f"identity/host/{base}", change=change),
        )


# ---- cases: private keys -----------------------------------------------------


def _private_key_cases(fixtures: Fixtures) -> Iterator[Case]:
    def case(what: str, text: str, passphrase: bytes | None, key: str, comment: str, *requirements: str) -> Case:
        return Case(
            name=f"identity/private-key/{what}",
            op="private_key",
            requirements=requirements,
            comment=comment,
            input={"pem": text.encode().hex(), "passphrase": None if passphrase is None else passphrase.hex()},
            expected={"spki": encode_spki(fixtures.keys[key].public_key()).hex()},
        )

    for bits, key in {2048: "alpha-sk", 3072: "alpha-3072-sk", 4096: "alpha-4096-sk"}.items():
        text = pkcs8.pem(pkcs8.PLAIN, pkcs8.info_of(fixtures.keys[key]))
        yield case(f"plain/{bits}", text, None, key, f"Not encrypted, {bits} bits.", "ID-26")

    info = pkcs8.info_of(fixtures.keys["alpha-ck"])
    for what, passphrase, rounds, salt_size, key_length, comment, requirement in (
        ("600000-rounds", b"secret", 600_000, 16, False, "As this protocol's tools write it: 600,000 rounds.", "ID-28"),
        ("1-round", b"secret", 1, 16, False, "One round.", "ID-38"),
        ("2048-rounds", b"secret", 2048, 16, False, "2,048 rounds, as many libraries write.", "ID-38"),
        ("65536-rounds", b"secret", 65_536, 16, False, "65,536 rounds: the first number of three bytes.", "ID-38"),
        ("key-length", b"secret", 2048, 16, True, "With a keyLength of 32.", "ID-39"),
        ("salt-1", b"secret", 2048, 1, False, "A salt of one byte.", "ID-39"),
        ("salt-8", b"secret", 2048, 8, False, "A salt of 8 bytes.", "ID-39"),
        ("salt-200", b"secret", 2048, 200, True, "A salt of 200 bytes, and a keyLength.", "ID-39"),
        ("passphrase-utf-8", "p\u00e4ss \u20ac".encode(), 2048, 16, False, "A passphrase in UTF-8.", "ID-36"),
        (
            "passphrase-nfd",
            "pa\u0308ss \u20ac".encode(),
            2048,
            16,
            False,
            "The same, decomposed: another one.",
            "ID-36",
        ),
        ("passphrase-spaces", b" secret ", 2048, 16, False, "Spaces at both ends count.", "ID-36"),
        ("passphrase-200", b"x" * 200, 2048, 16, False, "A passphrase of 200 bytes.", "ID-36"),
    ):
        how = pkcs8.Encryption(
            passphrase=passphrase,
            salt=drawn(f"identity/private-key/{what}/salt", salt_size),
            iv=drawn(f"identity/private-key/{what}/iv", 16),
            rounds=rounds,
            key_length=key_length,
        )
        text = pkcs8.pem(pkcs8.ENCRYPTED, pkcs8.encrypted_info(info, how))
        yield case(f"encrypted/{what}", text, passphrase, "alpha-ck", comment, requirement)
    yield from _bad_private_keys(fixtures)


def _bad_private_keys(fixtures: Fixtures) -> Iterator[Case]:
    numbers = fixtures.keys["alpha-sk"].private_numbers()
    larger = fixtures.keys["alpha-3072-sk"].private_numbers()
    inner = pkcs8.rsa_private_key(numbers.p, numbers.q)
    for what, by, text, change in (
        (
            "e-17",
            "ID-1",
            pkcs8.pem(pkcs8.PLAIN, pkcs8.private_key_info(pkcs8.rsa_private_key(numbers.p, numbers.q, 17))),
            "the public exponent is 17",
        ),
        (
            "2560-bits",
            "ID-1",
            pkcs8.pem(pkcs8.PLAIN, pkcs8.private_key_info(pkcs8.rsa_private_key(numbers.p, larger.p))),
            "the modulus has 2560 bits",
        ),
        ("pkcs-1", "ID-26", pkcs8.pem("RSA PRIVATE KEY", inner), "it is a key as PKCS#1 has it"),
    ):
        yield Case(
            name=f"identity/private-key/{what}",
            op="private_key",
            requirements=(),
            comment=f"Refused: {change}.",
            input={"pem": text.encode().hex(), "passphrase": None},
            refusal=Refusal(layer=FailLayer.DECODE, by=by, base="identity/private-key/plain/2048", change=change),
        )


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from _node_id_cases(fixtures)
    yield from _card_cases(fixtures)
    yield from _armour_cases(fixtures)
    yield from _host_cases()
    yield from _private_key_cases(fixtures)


AREA = Area("identity", "NodeIDs, node cards, armour, hosts, private keys (2, 3.3)", OPS, cases)
