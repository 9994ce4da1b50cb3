"""`xlattice`: the command line. Thin: each command reads its arguments, calls the package, and says what happened."""

import click

from xlattice_trio import __version__
from xlattice_trio.cli import cluster, connect, demo, fuzz, node, spec, vectors
from xlattice_trio.cli.common import CONTEXT, ReportingGroup, logging_options


@click.group(cls=ReportingGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="xlattice")
@logging_options
def main() -> None:
    """Clusters that talk XLattice protocol 2: identities, rosters, members, clients.

    A member has an identity (`xlattice node init`). An authority, which can stay offline, lists the members in a
    roster (`xlattice cluster create`). Members serve (`xlattice node run`); clients need a cluster card and reach a
    service with `xlattice connect` or, for any program that speaks TCP, `xlattice forward`.

    \b
    Examples:
      xlattice demo                                       see all of it at work, in seconds
      xlattice node init alpha.node --name alpha          make an identity
      xlattice node card alpha.node > alpha.card          its card, for the authority
      xlattice cluster create authority --name demo --cluster-port 7771 --client-port 7772 \\
          --access anyone --member alpha.card 192.0.2.1   make a cluster
      xlattice node load alpha.node cluster.roster        give a member its roster
      xlattice node run alpha.node --service echo         serve
      xlattice connect --cluster cluster.card echo        talk to it

    \b
    Exit status:
      0    all is well
      1    a check found something, the output cannot be written, or an internal error
      2    a wrong argument, option or setting, such as a port that is taken
      3    a file, key, card or roster is not as it should be
      4    no member was reached
      5    the session ended wrongly after it was established
      130  interrupted, by SIGINT or SIGTERM
    """


for command in (
    node.node,
    cluster.cluster,
    connect.connect,
    connect.forward,
    demo.demo,
    spec.spec,
    vectors.vectors,
    fuzz.fuzz,
):
    main.add_command(command)
