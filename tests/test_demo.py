"""`xlattice demo`: it works, it cleans up after itself, and what it says can be pasted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from tests.commands import command_line, environment, xlattice
from xlattice_trio.cli import demo, loopback, main
from xlattice_trio.cli.children import ChildFailed, open_children
from xlattice_trio.cli.common import CheckFailed
from xlattice_trio.cli.demo import DemoFailed, Show
from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.testing.identities import test_identity

PATIENCE = 60  # seconds
STARTED = demo.MEMBERS[: len(loopback.find_hosts())]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def _ready_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that need not be generated, under the names that the demo gives."""
    numbers = iter(range(5))

    def ready(name: str) -> LocalIdentity:
        keys = test_identity(next(numbers))
        card = make_card(name=name, sk_priv=keys.sk_priv, ck=keys.ck_priv.public_key())
        return local_identity(verify_card(card), keys.sk_priv, keys.ck_priv)

    monkeypatch.setattr(demo, "generate_identity", ready)


def pids(said: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"is a process, (\d+)", said)]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# ---- the whole of it ---------------------------------------------------------


def test_demo_shows_a_cluster_and_leaves_nothing_behind(temporary: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    ended = subprocess.run(
        command_line("demo"),
        capture_output=True,
        text=True,
        env=environment(tmp_path) | {"TMPDIR": str(temporary)},
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout
    for text in (
        *(f"{name} is a process" for name in STARTED),
        *(f"carol and {name}: 100,000 bytes there and back" for name in STARTED),
        "alpha and beta: 100,000 bytes there and back",
        "says: <h1>Hello from an ordinary HTTP server</h1>",
        "1,048,576 bytes fetched",
        "delta and alpha: 100,000 bytes there and back",
        "gets the roster of epoch 2; it spreads to all",
        "with exit status 0",
    ):
        assert said.count(text) == 1, text
    strangers = re.findall(r"s  (\w[^:\n]*): [\d,]+ bytes sent, 0 received, closed after", said)
    assert strangers == ["a port scanner", "carol, with a genuine card", "delta, who knows the knock"]
    reasons = re.findall("own log: ignored 127.0.0.1: (.*)", said)
    assert [reason.split(" (")[0] for reason in reasons] == [
        "a frame that is not due",
        "a Hello whose mac fits none of the accepted encryption keys",
        "an initiator that the roster in force does not list",
    ]
    assert len(pids(said)) == 2 + len(STARTED)
    assert all(map(is_gone, pids(said)))
    assert list(temporary.iterdir()) == []
    assert time.monotonic() - began < PATIENCE


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("curl") is None, reason="needs bash and curl")
def test_what_keep_says_can_be_pasted(tmp_path: Path) -> None:
    kept = tmp_path / "my cluster"
    env = environment(tmp_path) | {"PATH": os.environ["PATH"]}
    words = command_line("demo", "--keep", kept)
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=env, check=True, timeout=PATIENCE).stdout
    commands = said.partition("paste this into a new shell:\n")[2]
    shell = subprocess.Popen(
        [shutil.which("bash") or "bash", "-c", f"{commands}wait\necho all ended\n"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        out, err = shell.communicate(timeout=PATIENCE)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)  # of its own session: what it has started, and nothing else
            shell.communicate()
    lines = out.splitlines()
    assert lines.count("hello") == 3, out + err
    assert "<h1>Hello from an ordinary HTTP server</h1>" in lines
    assert "epoch          2" in lines
    assert lines[-1] == "all ended"
    assert err.count("has stopped") == len(STARTED)
    assert "Traceback" not in err


@pytest.mark.parametrize(("wanted", "count"), [(["127.0.0.1", "::1"], 2), (["127.0.0.1"], 1)])
@pytest.mark.usefixtures("_ready_keys", "temporary")
def test_demo_makes_do_with_fewer_addresses(wanted: list[str], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, with and without IPv6."""
    if not all(map(loopback.can_bind, wanted)):
        pytest.skip("no IPv6 here")
    can_bind = loopback.can_bind
    monkeypatch.setattr(loopback, "can_bind", lambda host, port=0: host in wanted and can_bind(host, port))
    said = xlattice("demo").stdout
    assert f"members on {' and '.join(wanted)} only" in said
    assert len(pids(said)) == 2 + count
    assert ("alpha and beta" in said) == (count > 1)
    assert said.count("0 received") == 3


# ---- when it does not work ---------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "status"), [(DemoFailed("not what it should be"), 1), (IdentityError("not what it should be"), 3)]
)
@pytest.mark.usefixtures("_ready_keys")
def test_a_step_that_fails_ends_the_demo_and_its_processes(
    exc: Exception, status: int, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Show) -> None:
        self.tell(f"alpha is a process, {self.members['alpha'].pid}")
        raise exc

    monkeypatch.setattr(Show, "client_asks_each_member", fail)
    ended = CliRunner().invoke(main, ["demo"])
    assert ended.exit_code == status
    assert ended.stderr.splitlines()[-1] == "Error: not what it should be"
    assert all(f"\n{name}: " in f"\n{ended.stderr}" for name in STARTED)  # their last words
    assert all(map(is_gone, pids(ended.stdout)))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("answer", [b"x", b"x" * 100_000])
async def test_a_byte_for_a_stranger_fails_the_demo(answer: bytes, tmp_path: Path) -> None:
    async def give(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)

    async with open_children(tmp_path, {}) as children, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, give, 0, host="127.0.0.1"))
        show = Show(tmp_path, hosts=["127.0.0.1"], cluster_port=listener.socket.getsockname()[1])
        show.members["alpha"] = await children.start("alpha", python("import signal; signal.pause()"))
        with pytest.raises(DemoFailed, match=f"got {len(answer)} bytes"):
            await show._knock("alpha", "somebody", b"hello")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_interrupted_demo_ends_its_processes(number: signal.Signals, temporary: Path, tmp_path: Path) -> None:
    env = environment(tmp_path) | {"TMPDIR": str(temporary)}
    async with open_children(tmp_path, env) as children:
        process = await children.start("demo", command_line("demo"))
        for name in (*STARTED, "forward"):
            await process.wait_for(f"{name} is a process", seconds=PATIENCE)
        process.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            assert await process.process.wait() == 130
        await process.wait_for("interrupted")
    assert not [line for line in process.lines if "Traceback" in line]
    assert all(map(is_gone, pids("\n".join(process.lines))))
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("_ready_keys")
def test_a_kept_directory_that_is_half_made_stays_and_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(self: Show, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Show, "start_members", interrupted)
    ended = CliRunner().invoke(main, ["demo", "--keep", str(tmp_path / "kept")])
    assert ended.exit_code == 130
    assert ended.stderr.splitlines()[0].startswith(f"{tmp_path / 'kept'} is half made")
    assert (tmp_path / "kept" / "logs").is_dir()
    again = xlattice("demo", "--keep", tmp_path / "kept", status=2)
    assert "half made" not in again.stderr


def test_keep_takes_a_new_directory_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "there is something" in xlattice("demo", "--keep", tmp_path, status=2).stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    xlattice("demo", "--keep", tmp_path / "file" / "x", status=2)


def test_no_free_ports_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "can_bind", lambda _host, _port=0: False)
    with pytest.raises(CheckFailed):
        loopback.find_ports(["127.0.0.1"], 2)


# ---- processes ---------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_child_that_ends_too_early_is_reported(tmp_path: Path) -> None:
    async with open_children(tmp_path, {}) as children:
        child = await children.start("short", python("print('so'); print('long')"))
        assert await child.wait_for("o", seconds=PATIENCE) == "so"
        with pytest.raises(ChildFailed, match="ended before it said 'never'"):
            await child.wait_for("never", seconds=PATIENCE)
        assert await child.wait_for("o", after=1) == "long"
        assert await child.stop() == 0


async def test_child_that_says_nothing_is_reported(tmp_path: Path) -> None:
    async with open_children(tmp_path, {}) as children:
        child = await children.start("mute", python("import signal; signal.pause()"))
        with pytest.raises(ChildFailed, match="has not said"):
            await child.wait_for("anything", seconds=0)


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlattice_trio.cli.children._STOP_TIME", 0.01)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(100)"
    )
    async with open_children(tmp_path, {}) as children:
        child = await children.start("deaf", python(code))
        await child.wait_for("on", seconds=PATIENCE)
        assert await child.stop() == -signal.SIGKILL


async def test_children_end_with_the_block_whatever_ends_it(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_children(tmp_path, {}) as children:
            child = await children.start("long", python("import signal; print('on', flush=True); signal.pause()"))
            await child.wait_for("on", seconds=PATIENCE)
            scope.cancel()
            await trio.sleep_forever()
    assert child.process.returncode == -signal.SIGTERM
    assert (tmp_path / "long.log").read_text() == "on\n"
