"""Records: their bytes, their numbers, and when one generation of keys gives way to the next."""

from collections.abc import Callable

import pytest

from tests.pairs import LAST_SEQ, NOW, RawPeer
from xlattice_trio.errors import RecordError
from xlattice_trio.session import records
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing.forge import expand, key_and_nonce
from xlattice_trio.wire.messages import RecordType

SECRET = b"\x07" * 32
OTHER = [type_ for type_ in RecordType if type_ is not RecordType.REKEY]
every_other_type = pytest.mark.parametrize("type_", OTHER)


def opening() -> RawPeer:
    """Opens what a Sealer of SECRET seals."""
    return RawPeer(bytes(32), SECRET)


def sealing() -> RawPeer:
    """Seals what an Opener of SECRET opens."""
    return RawPeer(SECRET, bytes(32))


def opened(opener: Opener, frame: bytes) -> tuple[RecordType, bytes]:
    type_, payload = opener.open(memoryview(frame))
    return type_, bytes(payload)


# ---- bytes -------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)), b"y" * 65_536])
@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
@pytest.mark.spec("SE-6", "SE-8", "FR-3")
def test_a_record_is_its_header_and_the_sealed_type_and_payload(
    payload: bytes, kind: Callable[[bytes], bytes | bytearray | memoryview]
) -> None:
    frame = Sealer(SECRET).seal(RecordType.DATA, kind(payload), NOW)
    assert frame[:4] == b"\x03" + (len(payload) + 17).to_bytes(3, "big")
    assert len(frame) == 4 + 1 + len(payload) + 16
    assert opening().open(frame) == [(2, payload)]
    assert opened(Opener(SECRET), bytes(frame)) == (RecordType.DATA, payload)


@pytest.mark.spec("SE-7", "SE-15", "SE-16")
def test_the_nonce_is_the_iv_with_the_number_of_the_record_in_it() -> None:
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    iv = expand(SECRET, "iv", 12)
    for seq in (0, 1, 2, 255, 256, LAST_SEQ - 1):
        sealer.seq = opener.seq = seq
        want = (int.from_bytes(iv, "big") ^ seq).to_bytes(12, "big")
        assert sealer._nonce() == opener._nonce() == want == key_and_nonce(SECRET, seq)[1]
    sealer, peer = Sealer(SECRET), opening()
    for number in range(5):
        assert sealer.seq == number
        assert peer.open(sealer.seal(RecordType.KEEPALIVE, b"", NOW)) == [(3, b"")]


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 20, 21, 22])
@pytest.mark.spec("SE-8", "SE-12")
def test_no_bit_of_a_record_can_be_turned(at: int) -> None:
    frame = bytearray(sealing().record(2, b"ab"))
    frame[at] ^= 1
    opener = Opener(SECRET)
    with pytest.raises(RecordError):
        opener.open(memoryview(frame))
    assert opener.seq == 0


@pytest.mark.spec("SE-16")
def test_a_record_left_out_repeated_or_swapped_does_not_open() -> None:
    peer = sealing()
    first, second, third = (peer.record(2, bytes([i])) for i in range(3))
    for frames in ([second], [first, first], [first, third]):
        opener = Opener(SECRET)
        for frame in frames[:-1]:
            opener.open(memoryview(frame))
        with pytest.raises(RecordError):
            opener.open(memoryview(frames[-1]))


@pytest.mark.spec("SE-13")
@pytest.mark.parametrize("type_", [0, 7, 255])
def test_a_record_of_an_unknown_type_is_refused(type_: int) -> None:
    with pytest.raises(RecordError):
        Opener(SECRET).open(memoryview(sealing().record(type_)))


def test_the_payload_that_was_opened_belongs_to_the_caller() -> None:
    peer, opener = sealing(), Opener(SECRET)
    frame = memoryview(peer.record(2, b"abc"))
    _, payload = opener.open(frame)
    frame.release()
    payload += b"d"
    assert payload == b"abcd"


# ---- generations: what is sealed ---------------------------------------------


def sealer_at(seq: int) -> tuple[Sealer, RawPeer]:
    sealer, peer = Sealer(SECRET), opening()
    peer.open(sealer.seal(RecordType.DATA, b"first", NOW))
    sealer.seq = peer.receive_seq = seq
    return sealer, peer


@every_other_type
@pytest.mark.spec("SE-19", "SE-21", "SE-23")
def test_the_last_record_of_a_generation_is_a_rekey_whatever_is_to_be_sent(type_: RecordType) -> None:
    sealer, peer = sealer_at(LAST_SEQ - 1)
    assert not sealer.rekey_due(NOW)
    assert peer.open(sealer.seal(type_, b"p", NOW)) == [(type_, b"p")]
    assert sealer.rekey_due(NOW)
    assert peer.open(sealer.seal(type_, b"q", NOW)) == [(4, b""), (type_, b"q")]
    assert (sealer.generation, sealer.seq) == (1, 1)
    assert not sealer.rekey_due(NOW)
    assert peer.receive_secret == expand(SECRET, "rekey")


@pytest.mark.spec("SE-19")
def test_generations_follow_one_another() -> None:
    sealer, peer = sealer_at(1)
    aeads = []
    for generation in range(1, 4):
        aeads.append(sealer._aead)
        sealer.seq = peer.receive_seq = LAST_SEQ
        assert peer.open(sealer.seal(RecordType.DATA, b"x", NOW)) == [(4, b""), (2, b"x")]
        assert sealer.generation == generation
        assert all(sealer._aead is not old for old in aeads)


@every_other_type
@pytest.mark.spec("SE-24")
def test_a_generation_whose_first_record_is_older_than_an_hour_is_rekeyed_before_any_record(type_: RecordType) -> None:
    sealer, peer = sealer_at(1)
    for now in (NOW, NOW + 1, NOW + 3600):
        assert not sealer.rekey_due(now)
        assert peer.open(sealer.seal(type_, b"", now)) == [(type_, b"")]
    assert sealer.rekey_due(NOW + 3600.001)
    assert peer.open(sealer.seal(type_, b"", NOW + 3600.001)) == [(4, b""), (type_, b"")]
    # the next hour begins with the first record behind the Rekey
    assert peer.open(sealer.seal(type_, b"", NOW + 7200.001)) == [(type_, b"")]
    assert peer.open(sealer.seal(type_, b"", NOW + 7200.002)) == [(4, b""), (type_, b"")]


@every_other_type
@pytest.mark.spec("SE-22", "SE-25")
def test_a_generation_without_a_record_is_not_rekeyed_however_old_it_is(type_: RecordType) -> None:
    sealer, peer = Sealer(SECRET), opening()
    later = NOW + 1_000_000
    assert sealer.rekey_due(later) is False
    assert peer.open(sealer.seal(type_, b"", later)) == [(type_, b"")]
    assert not sealer.rekey_due(later + 3600)


# ---- generations: what is opened ---------------------------------------------


def opener_at(seq: int) -> tuple[Opener, RawPeer]:
    opener, peer = Opener(SECRET), sealing()
    opener.seq = peer.send_seq = seq
    return opener, peer


@pytest.mark.parametrize("seq", [1, 2, 1000, LAST_SEQ - 1, LAST_SEQ])
@pytest.mark.spec("SE-20")
def test_a_rekey_is_taken_anywhere_but_first_and_changes_the_keys(seq: int) -> None:
    opener, peer = opener_at(seq)
    old = opener._aead
    assert opened(opener, peer.record(4)) == (RecordType.REKEY, b"")
    assert (opener.generation, opener.seq) == (1, 0)
    assert opener._aead is not old
    assert opened(opener, peer.record(2, b"x")) == (RecordType.DATA, b"x")
    assert opener.seq == 1


@pytest.mark.spec("SE-13")
def test_a_rekey_as_the_first_record_of_a_generation_is_refused() -> None:
    opener, peer = opener_at(0)
    with pytest.raises(RecordError):
        opener.open(memoryview(peer.record(4)))
    assert opener.generation == 0
    opener, peer = opener_at(1)
    opener.open(memoryview(peer.record(4)))
    with pytest.raises(RecordError):
        opener.open(memoryview(peer.record(4)))
    assert opener.generation == 1


@every_other_type
@pytest.mark.spec("SE-13")
def test_the_last_record_of_a_generation_is_refused_unless_it_is_a_rekey(type_: RecordType) -> None:
    opener, peer = opener_at(LAST_SEQ - 1)
    assert opened(opener, peer.record(type_)) == (type_, b"")
    with pytest.raises(RecordError):
        opener.open(memoryview(peer.record(type_)))
    assert opener.generation == 0


def test_an_opener_knows_no_clock() -> None:
    assert not hasattr(Opener(SECRET), "_first_sealed_at")
    assert records._LAST == 2**20 - 1


@pytest.mark.parametrize("make", [Sealer, Opener])
@pytest.mark.spec("SE-78")
def test_erased_keys_are_gone(make: Callable[[bytes], Sealer | Opener]) -> None:
    keys = make(SECRET)
    keys.erase()
    assert not {"_aead", "_iv", "_next_secret"} & set(vars(keys))
