"""The commands.

Data goes to stdout and everything else to stderr. The exit code is 0 when all went well, 1 when
something failed or was not found, 2 after a usage error, 130 after Ctrl-C.
"""

from typing import Annotated

import typer

from headwater import __version__
from headwater.cli.bench import bench
from headwater.cli.consumers import consumers
from headwater.cli.demo import demo
from headwater.cli.dlq import dlq
from headwater.cli.doctor import doctor
from headwater.cli.failure import Commands
from headwater.cli.log import get, prune, publish
from headwater.cli.picture import guarantees, topology
from headwater.cli.replay import replay
from headwater.cli.run import ensure, run
from headwater.cli.tail import tail
from headwater.cli.trace import trace

app = typer.Typer(
    name="headwater",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS = {
    "Run": (run, ensure, demo, bench),
    "Events": (publish, tail, get, trace, replay, prune),
    "Look": (topology, guarantees, doctor),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(consumers, rich_help_panel="Subscriptions")
app.add_typer(dlq, rich_help_panel="Subscriptions")


def _show_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        typer.echo(f"headwater {__version__}")
        raise typer.Exit


@app.callback()
def headwater(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Events for Python, from a function call to a cluster."""
