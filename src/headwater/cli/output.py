"""What commands print: data to stdout, tables for a terminal and plain columns for a pipe."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.cli.failure import usage

Cell = str | Text

STYLES = {
    "fine": "green",
    "settled": "green",
    "note": "yellow",
    "waiting": "yellow",
    "paused": "yellow",
    "underway": "cyan",
    "retry": "yellow",
    "blocked": "yellow",
    "skipped": "dim",
    "wrong": "bold red",
    "dead": "bold red",
}


def is_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def width() -> int:
    """How many letters fit into a line; a pipe takes any number."""
    return shutil.get_terminal_size().columns if is_terminal() else 1_000_000


def write(text: str) -> None:
    """Print data; what the encoding of stdout does not have becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def write_json(value: object, *, stream: bool = False) -> None:
    """Print one JSON document, or one line of a stream of them."""
    indent = 2 if is_terminal() and not stream else None
    write(json.dumps(value, ensure_ascii=False, indent=indent, default=repr))
    if stream:
        sys.stdout.flush()


def say(text: str) -> None:
    """Tell people something beside the data."""
    sys.stderr.write(text + "\n")


def show(thing: object) -> None:
    """Print something that rich draws: with colours on a terminal, as plain text elsewhere."""
    if is_terminal():
        Console(highlight=False).print(thing)
        return
    console = Console(width=500, no_color=True, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(thing)
    for line in captured.get().splitlines():
        write(line.rstrip())


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()
) -> None:
    """Print rows; `right` names the columns that hold numbers."""
    lines = [list(row) for row in rows]
    if not is_terminal():
        _columns([list(heads), *([_plain(cell) for cell in line] for line in lines)], right)
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        numeric = head in right
        drawn.add_column(
            head, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for line in lines:
        drawn.add_row(*line)
    Console(highlight=False).print(drawn)


def _columns(lines: list[list[str]], right: Sequence[str]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [head in right for head in lines[0]]
    for line in lines:
        cells = [
            cell.rjust(wide) if number else cell.ljust(wide)
            for cell, wide, number in zip(line, widths, numeric, strict=True)
        ]
        write("  ".join(cells).rstrip())


def _plain(cell: Cell) -> str:
    text = cell.plain if isinstance(cell, Text) else cell
    return " ".join(text.split())


def fields(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one pair in a line."""
    rows = [(name, value) for name, value in pairs if _plain(value)]
    if not is_terminal():
        _columns([[name, _plain(value)] for name, value in rows], ())
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    Console(highlight=False).print(grid)


def styled(word: str, shown: str = "") -> Text:
    """A word in the colour of its meaning."""
    return Text(shown or word, style=STYLES.get(word, ""))


def number(value: int, style: str = "") -> Text:
    """A number; nothing is dim."""
    return Text(f"{value:,}", style=style if value else "dim")


def shortened(text: str, letters: int) -> str:
    """The beginning of a text, if it is longer than so many letters."""
    return text if len(text) <= letters else text[: max(0, letters - 1)] + "…"


def pretty(data: bytes) -> str:
    """An event's data, laid out; as it is if that is no JSON."""
    try:
        return json.dumps(json.loads(data), ensure_ascii=False, indent=2)
    except ValueError:
        return repr(data)


def plain_data(data: bytes) -> Any:
    """An event's data for JSON; text with escapes if it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "backslashreplace")


def confirm(question: str, *, yes: bool) -> bool:
    """Ask whether to go on; without a terminal, ``--yes`` is the answer.

    Raises:
        Failure: there is nobody to ask, and no ``--yes``.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise usage(f"{question} There is no terminal to ask on", "add --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
