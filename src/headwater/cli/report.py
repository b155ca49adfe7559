"""The report at the end of the day: the figures, a table per handler, the story of one order."""

import os
import shutil
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from shop import Day, Delivery, Step

_LEGEND = "retried, and the times of a call: in this run"
_ON_PATH = "headwater"


def print_report(console: Console, day: "Day", *, log: str | None, tutorial: Path | None) -> None:
    """Print everything about `day`.

    Args:
        console: where to.
        day: how it went.
        log: the file of the log; None for a bus that keeps none.
        tutorial: where the shop may be read, for the hints what to try next; None for no hints.
    """
    parts = [_figures(day), _rejections(day), _handlers(day), _proof(day), _given_up(day, log)]
    parts.append(_story(day))
    if tutorial is not None:
        parts.append(_hints(tutorial))
    for number, part in enumerate(part for part in parts if part is not None):
        if number:
            console.print()
        console.print(part)


def _figures(day: "Day") -> RenderableType:
    orders, books = day.orders, day.outcome.books
    rejected = f"{orders.rejected:,} rejected" if orders.rejected else "none rejected"
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="bold")
    grid.add_row("Lines", f"{orders.lines:,} read, {rejected}")
    grid.add_row("Orders", f"{books['orders']:,}, and {books['cancellations']:,} cancellations")
    grid.add_row("Units", f"{int(books['units']):,} of {len(day.outcome.moved):,} articles")
    grid.add_row("Revenue", f"£{books['revenue']:,f}")
    parcels = f"{books['notified']:,} notifications, {books['shipped']:,} parcels"
    grid.add_row("Customers", parcels)
    grid.add_row("Time", f"{day.seconds:.2f} s")
    return grid


def _rejections(day: "Day") -> RenderableType | None:
    count, shown = day.orders.rejected, day.orders.rejections
    if not count:
        return None
    grid = Table.grid(padding=(0, 3), pad_edge=False)
    grid.add_column(justify="right", style="yellow", no_wrap=True)
    grid.add_column()
    for line, reason in shown:
        grid.add_row(f"line {line:,}", Text(reason))
    if count > len(shown):
        grid.add_row("", f"and {count - len(shown):,} more")
    return Group(Text("Rows that could not be read", style="bold"), grid)


def _handlers(day: "Day") -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("Handler")
    for heading in ("events", "handled", "given up", "retried", "median ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for name, share in day.outcome.handlers.items():
        tally = day.logbook.handlers[name]
        table.add_row(
            name,
            _count(share.events, ""),
            _count(share.handled, "green"),
            _count(share.given_up, "red"),
            _count(tally.retried, "yellow"),
            _milliseconds(tally.percentile(50)),
            _milliseconds(tally.percentile(99)),
        )
    return Group(table, Text(_LEGEND, style="dim"))


def _count(number: int, style: str) -> Text:
    return Text(f"{number:,}", style=style if number else "dim")


def _milliseconds(time: float | None) -> Text:
    return Text("-", style="dim") if time is None else Text(f"{time:.3f}")


def _proof(day: "Day") -> RenderableType:
    if not day.outcome.differences:
        orders = day.outcome.handlers["inventory"].events
        text = f"✓ {orders:,} orders went in, every handler had each of them once, and units,"
        return Text(f"{text}\n  revenue and stock are exactly what they add up to", style="green")
    lines = (f"✗ {difference}" for difference in day.outcome.differences)
    return Text("\n".join(lines), style="red")


def _given_up(day: "Day", log: str | None) -> RenderableType | None:
    if not day.outcome.reasons:
        return None
    grid = Table.grid(padding=(0, 3), pad_edge=False)
    grid.add_column()
    grid.add_column(justify="right", style="red")
    grid.add_column(no_wrap=True)
    grid.add_column()
    for reason in day.outcome.reasons:
        example = reason.example.partition(";")[0]  # what comes then is how to mend it
        grid.add_row(reason.handler, f"{reason.events:,}", reason.kind, Text(example))
    parts: list[RenderableType] = [Text("Given up", style="bold"), grid]
    if day.outcome.kept and log is not None:
        parts.append(Text(f"dead letters: {_program()} dlq ls {log}", style="dim"))
    return Group(*parts)


def _story(day: "Day") -> RenderableType | None:
    step = day.logbook.story()
    if step is None:
        return None
    tree = Tree(_event(step), guide_style="dim")
    _grow(tree, step)
    return Group(Text("The story of one order", style="bold"), tree)


def _grow(tree: Tree, step: "Step") -> None:
    for delivery in step.deliveries.values():
        branch = tree.add(_delivery(delivery))
        for caused in delivery.caused:
            _grow(branch.add(_event(caused)), caused)


def _event(step: "Step") -> Text:
    return Text.assemble((step.name, "bold cyan"), ("  " + _fields(step.event), "dim"))


def _fields(event: object) -> str:
    """Return what may be shown of an event in one line; of its lines, how many there are."""
    shown: list[str] = []
    for field in fields(event) if is_dataclass(event) else ():
        value: object = getattr(event, field.name)
        if isinstance(value, tuple):
            value = len(cast("tuple[object, ...]", value))
        if isinstance(value, int | str):
            shown.append(f"{field.name}={value}")
    return " ".join(shown)


def _delivery(delivery: "Delivery") -> Text:
    text = Text(delivery.handler)
    if delivery.attempts > 1:
        text.append(f"  attempt {delivery.attempts}", style="yellow")
    if delivery.outcome != "handled":
        text.append(f"  {delivery.outcome}", style="red")
    text.append(f"  {delivery.seconds * 1_000:.3f} ms", style="dim")
    return text


def _hints(tutorial: Path) -> RenderableType:
    command = _command()
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="cyan", overflow="fold")
    grid.add_column(style="dim")
    grid.add_row(f"{command} --count 5000 --seed 7", "another day, and a busier one")
    grid.add_row(f"{command} --orders FILE.csv.gz", "real orders: Online Retail of the UCI")
    grid.add_row(_near(tutorial), "the shop, read in ten minutes")
    return Group(Text("Try next", style="bold"), grid)


def _command() -> str:
    """Return what to type to run the demo again."""
    program = _program()
    script = Path(sys.argv[0]).absolute().parent.parent.parent / "scripts" / "demo"
    if program == _ON_PATH or not script.exists():  # not of a checkout's .venv/bin/headwater
        return f"{program} demo"
    return _near(script)


def _program() -> str:
    """Return what to type for the command."""
    program = Path(sys.argv[0])
    found = shutil.which(program.name)
    if not program.exists() or (found and Path(found).samefile(program)):
        return _ON_PATH
    return _near(program)


def _near(path: Path) -> str:
    """Return the shorter of the ways to write `path`; a shell needs a slash in either."""
    relative = os.path.relpath(path)
    if os.sep not in relative:
        relative = f"{os.curdir}{os.sep}{relative}"
    return min(str(path.absolute()), relative, key=len)
