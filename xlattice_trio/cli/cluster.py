"""`xlattice cluster`: the authority's work. It makes rosters, one epoch after the other, and cluster cards."""

from collections.abc import Mapping
from pathlib import Path

import click

from xlattice_trio.cli import common
from xlattice_trio.cli.authority import (
    as_message,
    load_own_cluster_card,
    member_at,
    open_authority,
    replaced,
    say_next,
)
from xlattice_trio.cli.common import bits_option, directory_argument, find, json_option, passphrase_option, shown, who
from xlattice_trio.cli.describe import cluster_fields, cluster_text
from xlattice_trio.cli.weak_keys import check_keys
from xlattice_trio.crypto import rsa_generate, system_draw
from xlattice_trio.errors import IdentityError, UsageError
from xlattice_trio.identity.armour import armour
from xlattice_trio.identity.card import VerifiedCard, check_name
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.identity.storage import (
    AUTHORITY_FILE,
    CLUSTER_CARD_FILE,
    ROSTER_FILE,
    load_card,
    load_cluster_card,
    load_roster,
    save_authority,
    save_cluster_card,
    save_roster,
)
from xlattice_trio.limits import KNOCK_SIZE
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedMember,
    VerifiedRoster,
    make_cluster_card,
    make_roster,
    verify_roster,
)
from xlattice_trio.wire.messages import ClientAccess


@click.group()
def cluster() -> None:
    """The authority's work: who is in a cluster, and on which ports.

    The authority's directory holds its private key, the roster in force (secret: it is for members only) and the
    cluster card (public: it is for clients). It can stay offline. The key cannot be replaced: keep a copy of it.

    Each change makes the roster of the next epoch. If the directory comes from an old copy, put the newest
    cluster.roster of a member into it before the first change: an authority signs one roster for each epoch.
    """


card_argument = click.argument("card_file", metavar="CARD", type=click.Path(path_type=Path, dir_okay=False))
port_type = click.IntRange(1, 65535)

# ---- create ------------------------------------------------------------------


@cluster.command()
@directory_argument()
@click.option("--name", required=True, help="The cluster's name, for people: 1 to 64 bytes of UTF-8.")
@click.option(
    "--cluster-port",
    type=port_type,
    required=True,
    help="The TCP port of every member for members. It is not published, and stays for the cluster's whole life.",
)
@click.option("--client-port", type=port_type, required=True, help="The TCP port of every member for clients.")
@click.option(
    "--access",
    type=click.Choice(["anyone", "listed"]),
    default="listed",
    show_default=True,
    help="Who may use the client port: anyone with the cluster card, or the clients listed by `cluster allow`.",
)
@click.option(
    "--member",
    "members",
    metavar="CARD HOST",
    type=(click.Path(path_type=Path, dir_okay=False), str),
    multiple=True,
    required=True,
    help="A member: the file with its card, and the IPv4 or IPv6 address or DNS name where it listens. Repeat it.",
)
@bits_option("3072", "The size of the authority's RSA key.")
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase: the key is not encrypted.")
@passphrase_option
def create(
    directory: Path,
    name: str,
    cluster_port: int,
    client_port: int,
    access: str,
    members: tuple[tuple[Path, str], ...],
    bits: str,
    no_passphrase: bool,
    passphrase_file: Path | None,
) -> None:
    """Make a cluster: its authority, in the new directory DIR, and the roster of epoch 1.

    \b
    Example:
      xlattice cluster create authority --name demo --cluster-port 7771 --client-port 7772 --access anyone \\
          --member alpha.card 192.0.2.1 --member beta.card 2001:db8::2 --member gamma.card gamma.example.org
    """
    check_name(name)
    common.refuse_existing(directory, (AUTHORITY_FILE, ROSTER_FILE, CLUSTER_CARD_FILE), "an authority")
    verified = [member_at(load_card(file), host) for file, host in members]
    check_keys([member.card for member in verified], [])
    passphrase = common.new_passphrase(passphrase_file, none=no_passphrase)
    with common.waiting(f"making the authority's RSA key of {bits} bits"):
        key = rsa_generate(int(bits))
    roster = verify_roster(
        make_roster(
            key,
            name=name,
            epoch=1,
            cluster_port=cluster_port,
            client_port=client_port,
            knock=system_draw("knock", KNOCK_SIZE),  # [RO-2]
            client_access=ClientAccess[access.upper()],
            members=[as_message(member) for member in verified],
        )
    )
    save_authority(directory, key, passphrase)
    save_roster(directory / ROSTER_FILE, roster.roster)
    save_cluster_card(directory / CLUSTER_CARD_FILE, make_cluster_card(key, roster))
    click.echo(f"made the cluster {shown(name)}, ClusterID {roster.cluster_id.hex()}")
    say_next(directory, None, roster)


# ---- changes -----------------------------------------------------------------


@cluster.command()
@directory_argument()
@card_argument
@click.argument("host")
@passphrase_option
def add(directory: Path, card_file: Path, host: str, passphrase_file: Path | None) -> None:
    """Add the node with this CARD as a member that listens on HOST.

    For a node that is a member already, a card of a higher serial replaces its card (a new encryption key, another
    name), and another HOST its host.

    \b
    Examples:
      xlattice cluster add authority delta.card 192.0.2.4
      xlattice cluster add authority alpha-2.card 192.0.2.1
    """
    with open_authority(directory, passphrase_file) as authority:
        members, clients = dict(authority.roster.members), authority.roster.clients
        new = member_at(load_card(card_file), host)
        old = members.get(new.node_id)
        if new.node_id in clients:
            raise IdentityError(f"{who(new)} is a client, and cannot be a member too: `xlattice cluster deny` it first")
        if old is None:
            what = [f"{who(new)} is a member, at {host}"]
        elif old == new:
            raise IdentityError(f"{who(new)} is a member with this card, at {host}, already")
        else:
            what = [] if old.card == new.card else [replaced(old.card, new.card)]
            what += [] if old.host == new.host else [f"{who(new)} moves from {old.host} to {host}"]
        check_keys([new.card], _all_but(new.node_id, members, clients))
        members[new.node_id] = new
        authority.change(members, clients, what)


@cluster.command()
@directory_argument()
@click.argument("nodes", metavar="NAME|NODEID...", nargs=-1, required=True)
@passphrase_option
def remove(directory: Path, nodes: tuple[str, ...], passphrase_file: Path | None) -> None:
    """Remove members, by name or NodeID.

    They still know the cluster port and the knock, which stay the same: they can find the members, and are refused.

    \b
    Example:
      xlattice cluster remove authority delta
    """
    with open_authority(directory, passphrase_file) as authority:
        members = dict(authority.roster.members)
        gone = [members.pop(find(node, members, "member")) for node in nodes]
        if not members:
            raise UsageError("a cluster has at least one member: add another before the last one is removed")
        what = [f"{who(member)} is no longer a member" for member in gone]
        authority.change(members, authority.roster.clients, what)


@cluster.command()
@directory_argument()
@click.argument(
    "card_files", metavar="CARD...", type=click.Path(path_type=Path, dir_okay=False), nargs=-1, required=True
)
@passphrase_option
def allow(directory: Path, card_files: tuple[Path, ...], passphrase_file: Path | None) -> None:
    """List the nodes with these cards as clients.

    A listed client proves who it is, and services see that. Where the cluster was made with `--access listed`, nobody
    else gets in. For a client that is listed already, a card of a higher serial replaces its card.

    \b
    Example:
      xlattice cluster allow authority carol.card dave.card
    """
    with open_authority(directory, passphrase_file) as authority:
        members, clients = authority.roster.members, dict(authority.roster.clients)
        what = []
        for new in map(load_card, card_files):
            old = clients.get(new.node_id)
            if new.node_id in members:
                raise IdentityError(f"{who(new)} is a member, and cannot be a client too")
            what.append(replaced(old, new) if old else f"{who(new)} is a client")
            check_keys([new], _all_but(new.node_id, members, clients))
            clients[new.node_id] = new
        authority.change(members, clients, what)


@cluster.command()
@directory_argument()
@click.argument("nodes", metavar="NAME|NODEID...", nargs=-1, required=True)
@passphrase_option
def deny(directory: Path, nodes: tuple[str, ...], passphrase_file: Path | None) -> None:
    """Take clients off the list, by name or NodeID.

    \b
    Example:
      xlattice cluster deny authority dave
    """
    with open_authority(directory, passphrase_file) as authority:
        clients = dict(authority.roster.clients)
        gone = [clients.pop(find(node, clients, "client")) for node in nodes]
        what = [f"{who(card)} is no longer a listed client" for card in gone]
        if authority.roster.client_access is ClientAccess.ANYONE:
            what.append("this cluster lets anyone in on the client port, anonymously: that is so for them too")
        authority.change(authority.roster.members, clients, what)


def _all_but(
    node_id: NodeID, members: Mapping[NodeID, VerifiedMember], clients: Mapping[NodeID, VerifiedCard]
) -> list[VerifiedCard]:
    cards = [*(member.card for member in members.values()), *clients.values()]
    return [card for card in cards if card.node_id != node_id]


# ---- show, card --------------------------------------------------------------


@cluster.command()
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path))
@json_option
def show(path: Path, as_json: bool) -> None:
    """Show a roster or a cluster card: that of an authority's or a node's directory, or a file.

    Secrets are not shown.

    \b
    Examples:
      xlattice cluster show authority
      xlattice cluster show cluster.card --json
    """
    document = _load_document(path / ROSTER_FILE if path.is_dir() else path)
    if as_json:
        common.print_json(cluster_fields(document))
    else:
        click.echo(cluster_text(document))


def _load_document(path: Path) -> VerifiedRoster | VerifiedClusterCard:
    try:
        return load_cluster_card(path)
    except FileRefused as exc:
        if exc.problem is not FileProblem.WRONG_KIND:
            raise
        if exc.found != "XLATTICE ROSTER":
            raise FileRefused(
                path, exc.problem, f"this is a {exc.found}; a roster or a cluster card is expected", exc.found
            ) from exc
    return load_roster(path)


@cluster.command()
@directory_argument()
@passphrase_option
def card(directory: Path, passphrase_file: Path | None) -> None:
    """Print the cluster card, for clients.

    It is public. Clients can trust it because they got it from somebody they trust: nothing else tells them which
    authority is the right one.

    \b
    Example:
      xlattice cluster card authority > demo.card
    """
    click.echo(armour(load_own_cluster_card(directory, passphrase_file).card), nl=False)
