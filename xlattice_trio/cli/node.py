"""`xlattice node`: a member's or client's identity, its roster, and the member at work."""

import logging
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import trio

from xlattice_trio.cli import common
from xlattice_trio.cli.common import (
    F,
    bits_option,
    command,
    directory_argument,
    file_argument,
    json_option,
    logging_options,
    passphrase_option,
    say,
    shown,
)
from xlattice_trio.cli.describe import card_fields, card_text
from xlattice_trio.crypto import rsa_generate, rsa_size
from xlattice_trio.errors import IdentityError
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.armour import armour
from xlattice_trio.identity.card import VerifiedCard, check_name, make_card, verify_card
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.keys import LocalIdentity, generate_identity, local_identity
from xlattice_trio.identity.storage import (
    CARD_FILE,
    CK_FILE,
    NEXT_CARD_FILE,
    SK_FILE,
    destroy_next,
    load_card,
    load_held_roster,
    load_identity,
    load_next,
    load_roster,
    save_held_roster,
    save_identity,
    save_next,
)
from xlattice_trio.limits import HANDSHAKES_PER_SOURCE, KEEPALIVE_MAX, KEEPALIVE_MIN, SOURCE_BURST, SOURCE_RATE
from xlattice_trio.net.listen import PortLimits
from xlattice_trio.node import DEFAULT_GRACE, DEFAULT_KEEPALIVE, NodeConfig, run_node
from xlattice_trio.roster import replaces
from xlattice_trio.services.forward import TCPTarget
from xlattice_trio.services.registry import ServiceSpec, make_services, restrict

log = logging.getLogger(__name__)


@click.group()
def node() -> None:
    """An identity, for a member or a client, and the member at work."""


# ---- init --------------------------------------------------------------------


@node.command()
@directory_argument()
@click.option("--name", required=True, help="The node's name, for people: 1 to 64 bytes of UTF-8.")
@bits_option("2048", "The size of both RSA keys.")
@click.option(
    "--id-size",
    type=click.Choice(["20", "32"]),
    default="32",
    show_default=True,
    help="Bytes of the NodeID: the same in all of a cluster.",
)
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase: the keys are not encrypted.")
@passphrase_option
@json_option
def init(
    directory: Path,
    name: str,
    bits: str,
    id_size: str,
    no_passphrase: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make an identity: two RSA keys and a card, in the new directory DIR.

    The private keys stay in DIR. The card is public: it goes to whoever keeps the cluster's authority, who puts it
    into a roster as a member or as a client. On a terminal a passphrase is asked for; a member that is started
    without anybody there to type it needs --passphrase-file, or keys without one.

    \b
    Examples:
      xlattice node init alpha.node --name alpha
      xlattice node init alpha.node --name alpha --bits 3072 --passphrase-file secret.txt
    """
    if no_passphrase and passphrase_file is not None:
        raise click.UsageError("--no-passphrase and --passphrase-file exclude each other")
    check_name(name)
    common.refuse_existing(directory, (SK_FILE, CK_FILE, CARD_FILE), "an identity")
    passphrase = common.new_passphrase(passphrase_file, none=no_passphrase)
    with common.waiting(f"making two RSA keys of {bits} bits"):
        identity = generate_identity(name, int(bits), int(id_size))
    save_identity(directory, identity, passphrase)
    if as_json:
        common.print_json(
            {"directory": str(directory), "encrypted": passphrase is not None} | card_fields(identity.card)
        )
        return
    click.echo(card_text(identity.card))
    say(f"made {directory}, with private keys that {'need the passphrase' if passphrase else 'are not encrypted'}")
    say("next: give the card to whoever keeps the cluster's authority:")
    say(f"  {command('node', 'card', directory)} > {shlex.quote(shown(name))}.card")


# ---- card --------------------------------------------------------------------


@node.command()
@directory_argument()
@click.option("--new-ck", is_flag=True, help="Prepare a new encryption key first, and print the card that has it.")
@click.option("--next", "prepared", is_flag=True, help="Print the card with the encryption key that is prepared.")
@click.option("--discard-next", is_flag=True, help="Destroy the encryption key that is prepared; prints nothing.")
@passphrase_option
@json_option
def card(
    directory: Path,
    new_ck: bool,
    prepared: bool,
    discard_next: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Print the card of the node in DIR, for the authority.

    To replace a node's encryption key ck: `--new-ck` makes one and prints a card of a higher serial that has it; the
    authority takes that card with `xlattice cluster add`; the node changes over when it gets the new roster, and
    accepts the old key for seven more days.

    \b
    Examples:
      xlattice node card alpha.node > alpha.card
      xlattice node card alpha.node --json
      xlattice node card alpha.node --new-ck > alpha-2.card
    """
    if new_ck + prepared + discard_next > 1:
        raise click.UsageError("--new-ck, --next and --discard-next exclude each other")
    if discard_next:
        destroy_next(directory)
        say(f"no encryption key is prepared in {directory}")
        return
    if new_ck:
        found = _prepare_ck(directory, passphrase_file)
        say("next: give this card to whoever keeps the authority, for `xlattice cluster add`")
    elif prepared:
        found = load_card(directory / NEXT_CARD_FILE)
    else:
        found = load_card(directory / CARD_FILE)
    if as_json:
        common.print_json(card_fields(found))
    else:
        click.echo(armour(found.card), nl=False)


def _prepare_ck(directory: Path, passphrase_file: Path | None) -> VerifiedCard:
    """A new ck and its card, stored beside the identity."""

    def load(passphrase: bytes | None) -> tuple[LocalIdentity, LocalIdentity | None, bytes | None]:
        return load_identity(directory, passphrase), load_next(directory, passphrase), passphrase

    identity, following, passphrase = common.with_passphrase(load, passphrase_file)
    if following is not None:
        raise FileRefused(
            directory / NEXT_CARD_FILE,
            FileProblem.EXISTS,
            "a new ck is prepared already: print its card with --next, or throw it away with --discard-next",
        )
    bits = 8 * rsa_size(identity.card.ck)
    with common.waiting(f"making an RSA key of {bits} bits"):
        ck_priv = rsa_generate(bits)
    made = make_card(
        name=identity.name,
        sk_priv=identity.sk_priv,
        ck=ck_priv.public_key(),
        id_size=identity.card.card.id_size,
        serial=_last_serial(directory, identity) + 1,
    )
    following = local_identity(verify_card(made), identity.sk_priv, ck_priv)
    save_next(directory, following, passphrase)
    return following.card


def _last_serial(directory: Path, identity: LocalIdentity) -> int:
    """Of the node's own card, or of the one in its roster if that is higher."""
    held = load_held_roster(directory)
    member = held.roster.members.get(identity.node_id) if held else None
    return max(identity.card.card.serial, member.card.card.serial if member else 0)


# ---- load --------------------------------------------------------------------


@node.command()
@directory_argument()
@file_argument("roster")
@click.option(
    "--override",
    is_flag=True,
    help="Take this roster although a newer one was here. The next that is adopted has to be newer than both.",
)
def load(directory: Path, roster: Path, override: bool) -> None:
    """Give the node in DIR a new roster.

    The roster is verified and has to be newer than the one that is there. A member that is running takes it over on
    SIGHUP, and the other members get it from there; one that starts reads it.

    \b
    Examples:
      xlattice node load alpha.node cluster.roster
      xlattice node load alpha.node roster-of-yesterday --override
    """
    own = load_card(directory / CARD_FILE)
    offered = load_roster(roster)
    held = load_held_roster(directory)
    is_member = own.node_id in offered.members
    if held is None and not is_member:
        raise IdentityError(
            f"{roster}: {shown(own.name)} ({own.node_id}) is no member in it; the authority adds it with "
            f"`xlattice cluster add`"
        )
    highest = offered.epoch if held is None else held.highest
    if held is not None and not replaces(held.roster, offered, highest=held.highest, override=override):
        if held.roster.digest == offered.digest:
            say(f"the roster of epoch {offered.epoch} is there already")
            return
        raise IdentityError(
            f"{roster}: it is of epoch {offered.epoch}, and {held.highest} has been in force here: a higher one is "
            f"expected; --override forces this one"
        )
    save_held_roster(directory, offered, max(highest, offered.epoch))
    say(f"{directory} has the roster of {shown(offered.name)}, epoch {offered.epoch}")
    if held is None:  # [RO-62]
        say(f"its ClusterID is {offered.cluster_id.hex()}: compare it with what the authority's keeper says")
    if not is_member:
        say(f"in it {shown(own.name)} is no longer a member: the node serves nothing until a roster names it again")
    say(f"next: {command('node', 'run', directory)}, or, if it is running, send it SIGHUP")


# ---- run ---------------------------------------------------------------------


def _service_option(flag: str, parameter: str, text: str) -> Callable[[F], F]:
    return click.option(flag, parameter, metavar="SERVICE", multiple=True, help=text)


def _limit_option(flag: str, default: int, text: str) -> Callable[[F], F]:
    return click.option(flag, metavar="N", type=click.IntRange(1), default=default, show_default=True, help=text)


@node.command()
@directory_argument()
@_service_option("--service", "both", "Offer SERVICE on both ports: to clients and to members. Repeat it for more.")
@_service_option("--client-service", "for_clients", "Offer SERVICE on the client port only.")
@_service_option("--member-service", "for_members", "Offer SERVICE on the cluster port only: to other members.")
@click.option(
    "--allow",
    metavar="NAME=WHO",
    multiple=True,
    help="Let only WHO use the service NAME: member, client, anonymous, a NodeID or a node's name. Repeat it for more.",
)
@click.option(
    "--max-streams", metavar="NAME=N", multiple=True, help="Let the service NAME have at most N streams at once."
)
@click.option(
    "--listen",
    metavar="ADDR",
    multiple=True,
    help="Listen on this address. [default: the node's host in the roster, or every one if that is a name]",
)
@click.option(
    "--no-source-check",
    is_flag=True,
    help="Talk to any address on the cluster port: where addresses are translated on the way.",
)
@click.option(
    "--keepalive",
    metavar="SECONDS",
    type=common.Seconds(0, KEEPALIVE_MAX / 1000),
    default=DEFAULT_KEEPALIVE / 1000,
    show_default=True,
    help="Between keepalives in a silent session: 0 for none, or 1 to 3600.",
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=common.Seconds(0),
    default=DEFAULT_GRACE,
    show_default=True,
    help="How long sessions have to end by themselves when the node stops.",
)
@_limit_option("--source-rate", SOURCE_RATE, "New connections a second that one address may open on the client port.")
@_limit_option("--source-burst", SOURCE_BURST, "New connections that one address may open there at once.")
@_limit_option("--source-handshakes", HANDSHAKES_PER_SOURCE, "Unfinished handshakes that one address may have there.")
@passphrase_option
@logging_options
@click.pass_context
def run(
    ctx: click.Context,
    directory: Path,
    both: tuple[str, ...],
    for_clients: tuple[str, ...],
    for_members: tuple[str, ...],
    allow: tuple[str, ...],
    max_streams: tuple[str, ...],
    listen: tuple[str, ...],
    no_source_check: bool,
    keepalive: float,
    grace: float,
    source_rate: int,
    source_burst: int,
    source_handshakes: int,
    passphrase_file: Path | None,
) -> None:
    """Run the member in DIR, until SIGINT or SIGTERM.

    A SERVICE is KIND, KIND:ARGUMENT, NAME=KIND or NAME=KIND:ARGUMENT; without NAME it is called like its kind. The
    kinds that are always there: `echo`, and `forward:HOST:PORT` or `forward:unix:/path`, which carries each stream to
    an existing server. Packages can bring more.

    A service is for everybody who may use its port, and for as many streams as come, unless --allow and --max-streams
    restrict it; they hold on both ports. A role or a NodeID goes before a name that is spelt like it.

    Many clients behind one address, such as those of an `xlattice forward` on another machine, can need higher limits
    than the usual ones; connections above them are closed. This machine's own loopback addresses have no such limits.

    The node logs to standard error; when it accepts connections, it prints one line on standard output. SIGHUP makes
    it read its roster and keys again. A second SIGINT or SIGTERM ends it at once.

    \b
    Examples:
      xlattice node run alpha.node --service echo --client-service web=forward:127.0.0.1:8080
      xlattice node run alpha.node --client-service redis=forward:unix:/run/redis.sock --passphrase-file secret.txt
      xlattice node run alpha.node --service echo --allow echo=carol --allow echo=member --max-streams echo=100
    """
    if 0 < keepalive < KEEPALIVE_MIN / 1000:
        raise click.BadParameter("0, or 1 to 3600 seconds", param_hint="--keepalive")
    common.set_up_logging(ctx, logging.INFO)
    offered = ((both, Port), (for_clients, [Port.CLIENT]), (for_members, [Port.CLUSTER]))
    specs = [ServiceSpec.parse(text, ports) for texts, ports in offered for text in texts]
    services = make_services(restrict(specs, allow, max_streams))
    if not services:
        log.warning("this node offers no service: --service, --client-service or --member-service gives it one")

    def load(passphrase: bytes | None) -> bytes | None:
        load_identity(directory, passphrase)
        return passphrase

    config = NodeConfig(
        directory=directory,
        services=services,
        passphrase=common.with_passphrase(load, passphrase_file),
        listen=listen,
        check_source=not no_source_check,
        keepalive=round(1000 * keepalive),
        grace=grace,
        client_limits=PortLimits(handshakes_per_source=source_handshakes, rate=source_rate, burst=source_burst),
    )
    trio.run(_run, config)


async def _run(config: NodeConfig) -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(run_node, config)
        click.echo(f"ready: cluster port {_text(addresses.cluster)}, client port {_text(addresses.client)}")


def _text(addresses: Iterable[tuple[str, int]]) -> str:
    return ", ".join(str(TCPTarget(*address)) for address in addresses)
