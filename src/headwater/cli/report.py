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

_LEGEND = "stopped: by the storm guard, or by a breaker that was open"


def print_report(console: Console, day: "Day", *, tutorial: Path | None) -> None:
    """Print everything about `day`.

    Args:
        console: where to.
        day: how it went.
        tutorial: where the shop may be read, for the hints what to try next; None for no hints.
    """
    parts = [_figures(day), _rejections(day), _handlers(day), _storms(day), _story(day)]
    if tutorial is not None:
        parts.append(_hints(tutorial))
    for number, part in enumerate(part for part in parts if part is not None):
        if number:
            console.print()
        console.print(part)


def _figures(day: "Day") -> RenderableType:
    orders, books = day.orders, day.books
    rejected = f"{orders.rejected:,} rejected" if orders.rejected else "none rejected"
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="bold")
    grid.add_row("Lines", f"{orders.lines:,} read, {rejected}")
    grid.add_row("Orders", f"{books.orders:,}, and {books.cancellations:,} cancellations")
    grid.add_row("Units", f"{books.units:,} of {len(day.inventory.moved):,} articles")
    grid.add_row("Revenue", f"£{books.revenue:,f}")
    grid.add_row("Customers", f"{books.notified:,} notifications, {books.shipped:,} parcels")
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
    for heading in ("handled", "failed", "retried", "stopped", "median ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for name, tally in day.logbook.handlers.items():
        table.add_row(
            name,
            _count(tally.handled, "green"),
            _count(tally.failed, "red"),
            _count(tally.retried, "yellow"),
            _count(tally.stopped, "magenta"),
            _milliseconds(tally.percentile(50)),
            _milliseconds(tally.percentile(99)),
        )
    return Group(table, Text(_LEGEND, style="dim"))


def _count(number: int, style: str) -> Text:
    return Text(f"{number:,}", style=style if number else "dim")


def _milliseconds(time: float | None) -> Text:
    return Text("-", style="dim") if time is None else Text(f"{time:.3f}")


def _storms(day: "Day") -> RenderableType | None:
    if not day.logbook.storms:
        return None
    text = Text("Storms", style="bold")
    for path, count in day.logbook.storms.items():
        stories = "1 story" if count == 1 else f"{count:,} stories"
        text.append(f"\n{stories} went round and were ended: … → {path} → …", style="not bold")
    return text


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
    program = Path(sys.argv[0])
    found = shutil.which(program.name)
    if not program.exists() or (found and Path(found).samefile(program)):
        return "headwater demo"
    checkout = program.absolute().parent.parent.parent  # of .venv/bin/headwater
    script = checkout / "scripts" / "demo"
    return _near(script) if script.exists() else f"{_near(program)} demo"


def _near(path: Path) -> str:
    """Return the shorter of the ways to write `path`; a shell needs a slash in either."""
    relative = os.path.relpath(path)
    if os.sep not in relative:
        relative = f"{os.curdir}{os.sep}{relative}"
    return min(str(path.absolute()), relative, key=len)
