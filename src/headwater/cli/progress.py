"""Progress on stderr: a bar on a terminal, a plain line now and then in a pipe."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_SILENCE = 2.0  # seconds after which a plain line says that work goes on


class Meter(Protocol):
    """What shows how far the work has come; a context manager."""

    def show(self, done: int) -> None:
        """Say how much is done."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Silence:
    """Shows nothing."""

    def show(self, done: int) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Lines(Silence):
    """A line for each quarter, and one when there has been none for a while."""

    def __init__(self, total: int | None, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._quarter = 0
        self._printed = time.monotonic()

    def show(self, done: int) -> None:
        """Print a line, if it is time for one."""
        quarter = 0 if not self._total else done * 4 // self._total
        now = time.monotonic()
        if quarter == self._quarter and now - self._printed < _SILENCE:
            return
        self._quarter, self._printed = quarter, now
        share = "" if not self._total else f"{done * 100 // self._total:3} %  "
        total = "" if not self._total else f" of {self._total:,}"
        sys.stderr.write(f"{share}{done:,}{total} {self._unit}\n")


class Bar:
    """A bar that grows."""

    def __init__(self, console: Console, total: int | None, unit: str, verb: str) -> None:
        count = "{task.completed:,}" + ("" if total is None else " of {task.total:,}")
        self._progress = Progress(
            TextColumn(f"[bold]{verb}"),
            BarColumn(),
            TextColumn(f"{count} {unit}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("", total=total)

    def show(self, done: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def make_meter(total: int | None, unit: str, *, quiet: bool, verb: str = "Trading") -> Meter:
    """Return what fits where stderr goes.

    Args:
        total: how much there is to do, if known.
        unit: of what, in the plural.
        quiet: show nothing.
        verb: what is being done.
    """
    if quiet:
        return Silence()
    # FORCE_COLOR makes rich take any pipe for a terminal, so the stream itself is asked.
    if sys.stderr.isatty() and not (console := Console(stderr=True)).is_dumb_terminal:
        return Bar(console, total, unit, verb)
    return Lines(total, unit)
