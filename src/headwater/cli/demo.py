"""``headwater demo``: a shop that reacts to a day's orders."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headwater.cli.checkout import load_shop
from headwater.cli.progress import make_meter
from headwater.cli.report import print_report

if TYPE_CHECKING:
    import shop  # what the package is called where it is read, in examples/
else:
    shop = load_shop()

_COUNT = 500
_SEED = 1
_INTERRUPTED = 130
_READER_LEFT = 141  # what a shell reports of a program that SIGPIPE ended


def demo(
    *,
    orders: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Orders in the Online Retail format: .csv or .csv.gz."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help=f"How many orders to generate, {_COUNT} by default."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Decides the generated orders, {_SEED} by default."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the report.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="The report alone: no progress, no hints.")
    ] = False,
) -> None:
    """Stream orders through a small shop and watch its handlers react.

    [bold]Examples[/bold]

      headwater demo
      headwater demo --count 5000 --seed 7
      headwater demo --orders online-retail.csv.gz
      headwater demo --json | jq .handlers
    """
    if orders is not None and (count, seed) != (None, None):
        raise typer.BadParameter("--count and --seed make up orders, --orders reads them: not both")
    try:
        with _hushed():
            if orders is None:
                chosen_seed = _SEED if seed is None else seed
                day = _trade_generated(count or _COUNT, chosen_seed, quiet=quiet)
            else:
                day = _trade_file(orders, quiet=quiet)
        _print(day, as_json=as_json, quiet=quiet)
    except shop.BadFile as error:
        sys.stderr.write(f"headwater demo: {error}\n")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        raise typer.Exit(_INTERRUPTED) from None


@contextlib.contextmanager
def _hushed() -> Generator[None, None, None]:
    """Keep failures out of the log: they are the show here, and the report has them all."""
    log = logging.getLogger("headwater")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _trade_generated(count: int, seed: int, *, quiet: bool) -> "shop.Day":
    reader = shop.OrderReader(shop.generate_rows(count, seed))
    with make_meter(count, "orders", quiet=quiet) as meter:
        return asyncio.run(shop.trade(reader, meter.show))


def _trade_file(path: Path, *, quiet: bool) -> "shop.Day":
    # A file is read through once before the first order, so that a bad one is refused as a whole
    # and the bar knows its end. A pipe can be read only once.
    total = None if path.is_fifo() else shop.count_rows(path)
    reader = shop.OrderReader(shop.read_rows(path))
    with make_meter(total, "lines", quiet=quiet) as meter:
        return asyncio.run(shop.trade(reader, lambda _: meter.show(reader.lines)))


def _print(day: "shop.Day", *, as_json: bool, quiet: bool) -> None:
    if as_json:
        text = json.dumps(day.as_json())
    else:
        tutorial = None if quiet else Path(shop.__file__).parent
        console = Console()
        with console.capture() as captured:
            print_report(console, day, tutorial=tutorial)
        text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    try:
        _write(text)
    except BrokenPipeError:
        # Python flushes stdout once more as it exits, and would complain about it then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_READER_LEFT) from None


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    # A pound sign does not fit into every encoding; a report with question marks is a report.
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
