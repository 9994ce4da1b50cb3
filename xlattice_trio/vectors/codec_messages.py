"""Every message, on both sides of each bound, cut off everywhere and too long.

The vectors come from the layouts: one field at a time leaves what is allowed, and all the rest stays valid. What has to
refuse which change, the rules here say.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from xlattice_trio.testing.edges import around, examples, pad_of
from xlattice_trio.vectors.codec_values import fields_json, prefixed_length
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Case, FailLayer, Refusal
from xlattice_trio.wire import layout
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.layout import (
    EmptyIff,
    Field,
    Lengths,
    ListOf,
    Member,
    Nested,
    Opaque,
    Rest,
    Uint,
    Utf8,
    Values,
    Zeros,
    fields_of,
    prefix_size,
)
from xlattice_trio.wire.messages import (
    ErrorBody,
    FrameHeader,
    FrameKind,
    Hello,
    HelloBody,
    HelloReply,
    LinkHeader,
    LinkType,
    Purpose,
    RecordPlaintext,
    RecordType,
    ReplyBody,
    Role,
    RosterOffer,
    RosterRequest,
    RosterTransfer,
)


def slug_of(text: str) -> str:
    """HelloBody: hello-body; kem_ciphertext: kem-ciphertext."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text).lower().replace("_", "-")


def typical(fixtures: Fixtures) -> dict[str, Any]:
    """A message of each class as it could be met."""
    main = fixtures.rosters["main"]
    roster, card = main.roster, fixtures.cluster_cards["main"].card
    alpha = fixtures.nodes["alpha"]

    def some(what: str, size: int) -> bytes:
        return drawn(f"codec/typical/{what}", size)

    body = HelloBody(
        Role.MEMBER,
        Purpose.STREAM,
        fixtures.nodes["beta"].node_id.value,
        main.cluster_id,
        some("x25519", 32),
        some("mlkem_ek", 1184),
        "echo",
        alpha.node_id.value,
        some("signature", 256),
        b"",
    )
    messages = (
        alpha.card.card,
        roster.members[0],
        roster,
        card,
        FrameHeader(FrameKind.HELLO, 2212),
        Hello(2, some("kem", 256), some("sealed", 1936), some("mac", 16)),
        _padded(body),
        HelloReply(some("salt", 32), some("reply", 1180)),
        ReplyBody(some("key2", 32), some("reply x25519", 32), some("mlkem", 1088), 30_000, 7),
        RecordPlaintext(RecordType.DATA, b"data"),
        ErrorBody(2, "no service of this name"),
        LinkHeader(LinkType.ROSTER_OFFER, 40),
        RosterOffer(roster.epoch, main.digest),
        RosterRequest(),
        RosterTransfer(roster),
    )
    return {type(message).__name__: message for message in messages}


def _padded(message: Any) -> Any:
    """The message with as much padding as it needs, if it is one that has padding."""
    pad = pad_of(type(message))
    if pad is None:
        return message
    return attrs.evolve(message, **{pad.name: bytes(pad.zeros(len(encode_before(message, pad.name))))})


# Messages whose vectors are made from the shortest one: a typical one is long, and shows no more.
_LONG = {"NodeCard", "Member", "Roster", "ClusterCard", "RosterTransfer"}
_MOST_ELEMENTS = {"Roster.members"}  # lists of which there is a vector with as many elements as they may have


class MessageCases:
    """The vectors of one class of messages."""

    def __init__(self, cls: type[Any], example: Any) -> None:
        self._cls = cls
        self._name = cls.__name__
        self._slug = f"codec/{slug_of(self._name)}"
        self._example = example
        self._layout = fields_of(cls)
        self._pad = pad_of(cls)
        long = self._name in _LONG
        self._base_name = f"{self._slug}/{'least' if long else 'typical'}"
        self._base = next(examples(cls)) if long else example
        self._whole = encode(self._base)
        self._starts = [len(encode_before(self._base, field.name)) for field in self._layout] + [len(self._whole)]

    def cases(self) -> Iterator[Case]:
        yield self._good("typical", self._example, "A message as it could be met.")
        yield from self._examples()
        for field in self._layout:
            yield from self._allowed(field)
        yield from self._truncations()
        if self._layout and isinstance(self._layout[-1].type, Rest):
            return
        change = "one byte more follows"
        yield self._bad("long", self._whole + b"\0", "NO-16", self._name, change, "NO-16")

    # ---- valid ---------------------------------------------------------------

    def _good(self, what: str, message: Any, comment: str, *requirements: str) -> Case:
        return Case(
            name=f"{self._slug}/{what}",
            op="message",
            requirements=requirements or ("NO-9", "NO-18"),
            comment=comment,
            input={"message": self._name, "fields": fields_json(message)},
        )

    def _examples(self) -> Iterator[Case]:
        """The shortest and the longest of each kind."""
        deciding = [f.name for f in self._layout if any(isinstance(bound, Member) for bound in f.bounds)]
        pairs = any(isinstance(bound, EmptyIff) for field in self._layout for bound in field.bounds)
        found = list(examples(self._cls))
        for i, message in enumerate(found):
            what = "least" if i < len(found) // 2 else "greatest"
            if pairs:
                what += "".join(f"-{getattr(message, field).name.lower()}" for field in deciding)
            comment = f"Every value and length is the {'least' if i < len(found) // 2 else 'greatest'} that it may be."
            is_long = isinstance(message, RecordPlaintext)  # and stands among the lengths of its payload
            if message != self._example and message not in found[:i] and not is_long:
                yield self._good(what, message, comment, "NO-9", "NO-17", "NO-18")

    # ---- field by field ------------------------------------------------------

    def _allowed(self, field: Field) -> Iterator[Case]:
        """The ends of what a field may be, and what lies beside them."""
        match field.type:
            case Uint(size):
                yield from self._numbers(field, size)
            case Opaque() if any(isinstance(bound, Zeros) for bound in field.bounds):
                yield from self._padding(field)
            case Opaque(least, most):
                yield from self._lengths(field, least, most, bytes)
            case Utf8(least, most):
                yield from self._lengths(field, least, most, lambda size: b"x" * size)
                yield from self._texts(field)
            case Rest(least, most):
                yield from self._rest(field, least, most)
            case ListOf():
                yield from self._counts(field, field.type)
        for bound in field.bounds:
            if isinstance(bound, EmptyIff):
                yield from self._emptiness(field, bound)

    def _numbers(self, field: Field, size: int) -> Iterator[Case]:
        for number in around(field):
            if number >= 1 << (8 * size):
                continue
            broken = [bound for bound in field.bounds if not _holds(bound, number)]
            if not broken and not any(isinstance(bound, Member) for bound in field.bounds):
                message = attrs.evolve(self._base, **{field.name: number})
                yield from self._if_other(field, f"{number}", message, f"{number} is allowed.", "NO-3", "NO-18")
            elif broken:
                by = "NO-19" if isinstance(broken[0], Member) else "NO-18"
                changed = number.to_bytes(size, "big")
                yield self._changed(field, f"{number}", changed, by, f"{field.name} is {number}")
        for bound in field.bounds:
            if isinstance(bound, Member):
                for member in bound.enum:
                    message = attrs.evolve(self._base, **{field.name: member})
                    if _is_valid(message):
                        comment = f"{field.name} is {member.name.lower()}."
                        yield from self._if_other(field, member.name.lower(), message, comment, "NO-3", "NO-19")

    def _if_other(self, field: Field, what: str, message: Any, comment: str, *requirements: str) -> Iterator[Case]:
        """A valid message, unless it stands among the first ones already."""
        if message not in [self._example, *examples(self._cls)]:
            yield self._good(f"{slug_of(field.name)}/{slug_of(what)}", message, comment, *requirements)

    def _lengths(self, field: Field, least: int, most: int, content: Any) -> Iterator[Case]:
        for length in around(field):
            if not length and any(isinstance(bound, EmptyIff) for bound in field.bounds):
                continue
            found = content(length)
            fits = all(not isinstance(bound, Lengths) or length in bound.allowed for bound in field.bounds)
            if least <= length <= most and fits:
                given = found.decode() if isinstance(field.type, Utf8) else found
                message = _padded(attrs.evolve(self._base, **{field.name: given}))
                comment = f"{field.name} has {length} bytes."
                yield from self._if_other(field, f"{length}-bytes", message, comment, "NO-17", "NO-18")
            elif length < 1 << (8 * prefix_size(most)):
                by = "NO-18" if least <= length <= most else "NO-17"
                changed = prefixed_length(length, most) + found
                yield self._changed(field, f"{length}-bytes", changed, by, f"{field.name} has {length} bytes")
        if field is self._layout[-1] and not field.bounds and getattr(self._base, field.name):
            found = self._whole[self._starts[-2] + prefix_size(most) :]
            for what, step, by in (("length-over", 1, "NO-15"), ("length-under", -1, "NO-16")):
                if not least <= len(found) + step <= most:
                    continue
                changed = prefixed_length(len(found) + step, most) + found
                which = "more" if step > 0 else "less"
                where = f"{self._name}.{field.name}" if step > 0 else self._name
                data_ = self._whole[: self._starts[-2]] + changed
                change = f"the length of {field.name} is one {which}"
                yield self._bad(f"{slug_of(field.name)}/{what}", data_, by, where, change, "NO-5")

    def _texts(self, field: Field) -> Iterator[Case]:
        assert isinstance(field.type, Utf8)
        for what, text, by, change in (
            ("control", b"a\x1bb", "NO-12", "has an escape character in it"),
            ("c1-control", b"a\xc2\x9bb", "NO-12", "has the C1 control U+009B in it"),
            ("no-utf8", b"a\xe9b", "NO-11", "is in Latin-1"),
            ("surrogates", b"\xed\xa0\xbd\xed\xb8\x80", "NO-11", "has a surrogate pair, as CESU-8 writes it"),
        ):
            changed = prefixed_length(len(text), field.type.most) + text
            yield self._changed(field, what, changed, by, f"{field.name} {change}")

    def _rest(self, field: Field, least: int, most: int) -> Iterator[Case]:
        for length in (least, least + 1, most):
            message = attrs.evolve(self._base, **{field.name: bytes(length)})
            comment = f"{field.name} has {length} bytes."
            yield from self._if_other(field, f"{length}-bytes", message, comment, "NO-8", "NO-17")
        yield self._changed(field, f"{most + 1}-bytes", bytes(most + 1), "NO-17", f"{field.name} has {most + 1} bytes")

    def _counts(self, field: Field, kind: ListOf) -> Iterator[Case]:
        element = next(examples(kind.message))
        encoded = encode(element)
        counts = [kind.least, kind.least + 1]
        if f"{self._name}.{field.name}" in _MOST_ELEMENTS:
            counts.append(kind.most)
            changed = (kind.most + 1).to_bytes(2, "big") + encoded * (kind.most + 1)
            change = f"{field.name} has {kind.most + 1} elements"
            yield self._changed(field, f"{kind.most + 1}-elements", changed, "NO-17", change)
        for count in counts:
            message = attrs.evolve(self._base, **{field.name: (element,) * count})
            comment = f"{field.name} has {count} elements. That they are equal is no matter of decoding."
            yield from self._if_other(field, f"{count}-elements", message, comment, "NO-7", "NO-17")
        if kind.least:
            yield self._changed(field, "no-elements", b"\0\0", "NO-17", f"{field.name} has no elements")

    def _emptiness(self, field: Field, bound: EmptyIff) -> Iterator[Case]:
        """Empty where it must not be, and the other way round."""
        deciding = next(other for other in self._layout if other.name == bound.field)
        (enum,) = (b.enum for b in deciding.bounds if isinstance(b, Member))
        for chosen in enum:
            for base in examples(self._cls):
                if getattr(base, bound.field) is not chosen:
                    continue
                must_be_empty = chosen == bound.value
                what = f"{'not-' * must_be_empty}empty-{chosen.name.lower()}"
                state = "not empty" if must_be_empty else "empty"
                text = isinstance(field.type, Utf8)
                longest = attrs.evolve(base, **{field.name: "" if text else b""})
                found = (b"x" if text else bytes(_least_length(field))) if must_be_empty else b""
                most = field.type.most if isinstance(field.type, Opaque | Utf8) else 0
                start = len(encode_before(longest, field.name))
                tail = encode(base)[len(encode_before(base, _after(self._layout, field))) :]
                changed = encode_before(longest, field.name) + prefixed_length(len(found), most) + found + tail
                assert self._pad is not None
                at = start + prefix_size(most) + len(found) + len(tail) - len(getattr(base, self._pad.name)) - 2
                change = f"{field.name} is {state}, with {bound.field} = {chosen.name.lower()}"
                name_of_base = f"{self._slug}/{self._name_of(base)}"
                yield self._bad(
                    f"{slug_of(field.name)}/{what}",
                    self._pad.again(changed, at),
                    "NO-18",
                    f"{self._name}.{field.name}",
                    change,
                    base=name_of_base,
                )
                break

    def _name_of(self, message: Any) -> str:
        """Of one of the least."""
        deciding = [f.name for f in self._layout if any(isinstance(bound, Member) for bound in f.bounds)]
        return "least" + "".join(f"-{getattr(message, field).name.lower()}" for field in deciding)

    def _padding(self, field: Field) -> Iterator[Case]:
        """Bytes of it that are not zero, and a message that is one byte too short or too long."""
        assert isinstance(field.type, Opaque)
        assert self._pad is not None
        content = getattr(self._base, field.name)
        start = self._starts[-2]
        for what, changed, change in (
            ("first-byte", b"\x01" + content[1:], "the first byte of the padding is 1"),
            ("last-byte", content[:-1] + b"\x80", "the last byte of the padding is 128"),
            ("short", content[:-1], "the padding is one byte shorter, and so is the message"),
            ("long", content + b"\0", "the padding is one byte longer, and so is the message"),
        ):
            encoded = self._whole[:start] + prefixed_length(len(changed), field.type.most) + changed
            yield self._bad(f"{slug_of(field.name)}/{what}", encoded, "NO-18", f"{self._name}.{field.name}", change)
        encoded = self._whole[:start] + b"\0\0" + self._whole[start + 2 :]
        change = "the length of the padding is 0, and the zeros are there all the same"
        yield self._bad(f"{slug_of(field.name)}/no-length", encoded, "NO-17", f"{self._name}.{field.name}", change)

    def _changed(self, field: Field, what: str, changed: bytes, by: str, change: str) -> Case:
        """Refused, with other bytes in the place of a field."""
        i = self._layout.index(field)
        start, end = self._starts[i : i + 2]
        encoded = self._whole[:start] + changed + self._whole[end:]
        if self._pad is not None and field.name != self._pad.name:
            encoded = self._pad.again(encoded, self._starts[-2] + len(changed) - (end - start))
        return self._bad(f"{slug_of(field.name)}/{what}", encoded, by, f"{self._name}.{field.name}", change)

    def _bad(
        self, what: str, encoded: bytes, by: str, where: str | None, change: str, *requirements: str, base: str = ""
    ) -> Case:
        return Case(
            name=f"{self._slug}/{what}",
            op="message_decode",
            requirements=requirements,
            comment=f"{self._name}: {change}.",
            input={"message": self._name, "bytes": encoded.hex()},
            refusal=Refusal(layer=FailLayer.DECODE, by=by, base=base or self._base_name, change=change, where=where),
        )

    # ---- truncations ---------------------------------------------------------

    def _truncations(self) -> Iterator[Case]:
        """Nothing at all; and of each field no byte, a part of its length, no content, or all but its last byte."""
        for field, (start, end) in zip(self._layout, itertools.pairwise(self._starts), strict=True):
            cuts = (
                [(start, "before", f"it ends before {field.name}")] if start else [(0, "empty", "there are no bytes")]
            )
            if isinstance(field.type, Opaque | Utf8):
                prefix = prefix_size(field.type.most)
                if prefix > 1:
                    cuts.append((start + 1, "in-length", f"it ends within the length of {field.name}"))
                if end > start + prefix + 1:
                    cuts.append((start + prefix, "no-content", f"it ends behind the length of {field.name}"))
            if isinstance(field.type, ListOf):
                cuts.append((start + 1, "in-count", f"it ends within the count of {field.name}"))
            if end - 1 > cuts[-1][0] and not isinstance(field.type, Rest):
                cuts.append((end - 1, "short", f"the last byte of {field.name} is missing"))
            simple = not isinstance(field.type, Nested | ListOf)
            for cut, what, change in cuts:
                if isinstance(field.type, Rest) and cut:
                    continue
                where = f"{self._name}.{field.name}" if simple or what == "in-count" else None
                named = "empty" if what == "empty" else f"{slug_of(field.name)}/ends-{what}"
                yield self._bad(named, self._whole[:cut], "NO-15", where, change)


def _holds(bound: layout.Bound, number: int) -> bool:
    match bound:
        case Values():
            return number in bound
        case Member(enum):
            return number in {int(member) for member in enum}
    return True


def _least_length(field: Field) -> int:
    """The least that is not zero."""
    for bound in field.bounds:
        if isinstance(bound, Lengths):
            return min(length for length in bound.allowed if length)
    return 1


def _after(fields: Sequence[Field], field: Field) -> str:
    return fields[fields.index(field) + 1].name


def _is_valid(message: Any) -> bool:
    """Whether it keeps its own rules about which fields are empty."""
    for field in fields_of(type(message)):
        for bound in field.bounds:
            if isinstance(bound, EmptyIff):
                empty = not getattr(message, field.name)
                if empty != (getattr(message, bound.field) == bound.value):
                    return False
    return True


def deep_cases() -> Iterator[Case]:
    """What is wrong deep inside, and refuses the whole. [NO-20]"""
    transfer = next(examples(RosterTransfer))
    whole = encode(transfer)
    name = b"\x01x"  # of the cluster, and of the only member
    at = [found.start() for found in re.finditer(re.escape(name), whole)]
    for what, position, where in (
        ("cluster-name", at[0], "RosterTransfer.roster.name"),
        ("member-name", at[1], "RosterTransfer.roster.members[0].card.name"),
        ("member-host", at[2], "RosterTransfer.roster.members[0].host"),
    ):
        changed = whole[:position] + b"\x01\x7f" + whole[position + 2 :]
        change = f"{where} is a control character"
        yield Case(
            name=f"codec/roster-transfer/deep/{what}",
            op="message_decode",
            requirements=("NO-20",),
            comment=f"One byte deep inside is wrong: {change}.",
            input={"message": "RosterTransfer", "bytes": changed.hex()},
            refusal=Refusal(
                layer=FailLayer.DECODE, by="NO-12", base="codec/roster-transfer/least", change=change, where=where
            ),
        )
