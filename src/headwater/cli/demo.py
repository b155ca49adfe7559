"""``headwater demo``: a shop that reacts to a day's orders."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console

from headwater.cli.anew import file_of, make_ready
from headwater.cli.checkout import load_shop
from headwater.cli.output import say
from headwater.cli.progress import make_meter
from headwater.cli.report import print_report

if TYPE_CHECKING:
    import shop  # what the package is called where it is read, in examples/
else:
    shop = load_shop()

_COUNT = 500
_SEED = 1
_URL = "sqlite:///headwater-shop.db"
_DIRECT = "direct"
_WRONG = 1
_INTERRUPTED = 130
_READER_LEFT = 141  # what a shell reports of a program that SIGPIPE ended


class _Orders(NamedTuple):
    """Where orders come from, and what stands for them in a log."""

    reader: "shop.OrderReader"
    input: str
    total: int
    unit: str


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
    url: Annotated[
        str, typer.Option(metavar="URL", help="Where events are kept; 'direct' keeps none.")
    ] = _URL,
    direct: Annotated[bool, typer.Option("--direct", help="As --url direct.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the log of an earlier run, and begin anew.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the report.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="The report alone: no progress, no hints.")
    ] = False,
) -> None:
    """Stream orders through a small shop and watch its handlers react.

    Events, stock and totals are kept in one file, headwater-shop.db in this folder. Stop the demo
    with Ctrl-C or kill -9 at any moment and run it again: it goes on, and the table at the end is
    the same. Once a run is finished, running it again shows its table, and running it with other
    orders begins anew; an unfinished run is deleted with --fresh alone.

    [bold]Examples[/bold]

      headwater demo
      headwater demo --count 5000 --seed 7
      headwater demo --orders online-retail.csv.gz
      headwater demo --direct
      headwater demo --json | jq .handlers
    """
    if orders is not None and (count, seed) != (None, None):
        raise typer.BadParameter("--count and --seed make up orders, --orders reads them: not both")
    where = None if direct or url == _DIRECT else url
    try:
        with _hushed(), _read(orders, count or _COUNT, _SEED if seed is None else seed) as read:
            news = "" if where is None else make_ready(where, read.input, fresh=fresh)
            if news and not quiet:
                say(news)
            day = _trade(read, where, quiet=quiet)
        _print(day, None if where is None else file_of(where), as_json=as_json, quiet=quiet)
    except shop.BadFile as error:
        sys.stderr.write(f"headwater demo: {error}\n")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        kept = where is not None and where.startswith("sqlite:")
        say("Interrupted: run it again, and it goes on." if kept else "Interrupted.")
        raise typer.Exit(_INTERRUPTED) from None
    if day.outcome.differences:
        raise typer.Exit(_WRONG)


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


@contextlib.contextmanager
def _read(path: Path | None, count: int, seed: int) -> "Generator[_Orders]":
    if path is None:
        rows = shop.generate_rows(count, seed)
        yield _Orders(shop.OrderReader(rows), f"{count}-{seed}", count, "orders")
        return
    with _again_readable(path) as file:
        # It is read through once before the first order, so that a bad one is refused as a whole
        # and the bar knows its end.
        total = shop.count_rows(file)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()[:12]
        yield _Orders(shop.OrderReader(shop.read_rows(file)), digest, total, "lines")


@contextlib.contextmanager
def _again_readable(path: Path) -> Generator[Path]:
    """A pipe can be read only once: what comes out of it is copied first."""
    if not path.is_fifo():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with path.open("rb") as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file)
        try:
            yield copy
        except shop.BadFile as error:
            raise shop.BadFile(str(error).replace(str(copy), str(path))) from None


def _trade(read: _Orders, url: str | None, *, quiet: bool) -> "shop.Day":
    reader = read.reader
    with make_meter(read.total, read.unit, quiet=quiet) as meter:

        def progress(orders: int) -> None:
            meter.show(orders if read.unit == "orders" else reader.lines)

        return asyncio.run(shop.trade(reader, progress, url=url, input=read.input))


def _print(day: "shop.Day", log: str | None, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        text = json.dumps(day.as_json())
    else:
        tutorial = None if quiet else Path(shop.__file__).parent
        console = Console()
        with console.capture() as captured:
            print_report(console, day, log=log, tutorial=tutorial)
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
