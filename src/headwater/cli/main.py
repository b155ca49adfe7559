"""The commands.

Data goes to stdout and everything else to stderr. The exit code is 0 when all went well, 1 when
something failed, 2 after a usage error or a file that cannot be read, 130 after Ctrl-C.
"""

from typing import Annotated

import typer

from headwater import __version__
from headwater.cli.demo import demo

app = typer.Typer(
    name="headwater",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)


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
