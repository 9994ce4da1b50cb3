"""The replay cache: what it remembers, what it forgets, and what a Hello leaves in it."""

import pytest

from tests.pairs import NOW, anonymous_scene, client_scene, forge_hello, link_scene, nodes
from xlattice_trio.errors import HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.handshake.key_schedule import hello_digest
from xlattice_trio.handshake.replay import ReplayCache

CAPACITY = 65_536


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.spec("HS-39")
def test_a_digest_is_new_once() -> None:
    cache = ReplayCache()
    assert len(cache) == 0
    assert digest(1) not in cache
    assert cache.insert(digest(1))
    assert digest(1) in cache
    assert cache.insert(digest(1)) is False
    assert len(cache) == 1


@pytest.mark.parametrize("room", [CAPACITY, CAPACITY + 1])
@pytest.mark.spec("HS-60", "HS-61", "EL-7")
def test_a_full_cache_drops_what_was_inserted_first(room: int) -> None:
    cache = ReplayCache(room) if room != CAPACITY else ReplayCache()
    for number in range(room):
        assert cache.insert(digest(number))
    assert len(cache) == room
    assert digest(0) in cache
    assert not cache.insert(digest(0))  # looking, and failing to insert, makes nothing younger
    assert len(cache) == room
    assert cache.insert(digest(room))
    assert len(cache) == room
    assert digest(0) not in cache
    assert digest(1) in cache
    assert digest(room) in cache


@pytest.mark.spec("HS-60")
def test_a_cache_of_less_than_65536_digests_is_refused() -> None:
    with pytest.raises(UsageError):
        ReplayCache(CAPACITY - 1)


@pytest.mark.spec("HS-28", "HS-39", "HS-60")
def test_a_verified_hello_is_remembered_by_its_digest_and_refused_again() -> None:
    scene = link_scene()
    hello = scene.new_initiator().hello()
    first = scene.new_responder()
    assert len(scene.replay) == 0
    first.receive_data(hello)
    assert len(scene.replay) == 1
    assert hello_digest(hello) in scene.replay
    draws = len(scene.responder_draws.drawn)
    with pytest.raises(HandshakeRefused) as caught:
        scene.new_responder().receive_data(hello)
    assert caught.value.reason is RefusalReason.REPLAY_SEEN
    assert len(scene.responder_draws.drawn) == draws  # before RSA
    assert len(scene.replay) == 1


@pytest.mark.spec("HS-28")
def test_two_hellos_of_one_initiator_are_two() -> None:
    scene = client_scene()
    for count in (1, 2):
        scene.new_responder().receive_data(scene.new_initiator().hello())  # OAEP and PSS are randomised
        assert len(scene.replay) == count


@pytest.mark.spec("HS-39")
def test_of_two_equal_hellos_that_are_checked_at_once_one_is_refused() -> None:
    scene = link_scene()
    hello = scene.new_initiator().hello()
    winner, loser = scene.new_responder(), scene.new_responder()
    draw = scene.responder_draws.__class__("loser")

    def overtaken(name: str, size: int) -> bytes:
        if name == "x25519":  # check 16 of the loser
            winner.receive_data(hello)
        return draw(name, size)

    loser._draw = overtaken
    with pytest.raises(HandshakeRefused) as caught:
        loser.receive_data(hello)
    assert caught.value.reason is RefusalReason.REPLAY_RACED
    assert len(scene.replay) == 1


@pytest.mark.spec("HS-39", "HS-62", "HS-43")
def test_an_anonymous_hello_is_not_remembered_and_draws_another_reply() -> None:
    scene = anonymous_scene()
    hello = scene.new_initiator().hello()
    replies = [scene.new_responder().receive_data(hello) for _ in range(2)]
    assert len(scene.replay) == 0
    assert replies[0][4:36] != replies[1][4:36]  # salt
    assert replies[0][36:] != replies[1][36:]


@pytest.mark.spec("HS-28")
def test_a_replay_seen_on_either_port_is_refused_also_when_it_was_inserted_by_hand() -> None:
    for scene in (client_scene(), anonymous_scene(), link_scene(identity=nodes()[0])):
        hello = forge_hello(scene)
        scene.replay.insert(hello_digest(hello))
        with pytest.raises(HandshakeRefused) as caught:
            scene.new_responder().receive_data(hello)
        assert caught.value.reason is RefusalReason.REPLAY_SEEN


@pytest.mark.spec("HS-60")
def test_a_hello_stays_remembered_when_its_handshake_fails_later() -> None:
    scene = link_scene()
    responder = scene.new_responder()
    initiator = scene.new_initiator()
    hello = initiator.hello()
    confirm = initiator.receive_data(responder.receive_data(hello), NOW)
    with pytest.raises(HandshakeRefused):
        responder.receive_data(confirm[:-1] + bytes([confirm[-1] ^ 1]))
    assert hello_digest(hello) in scene.replay
