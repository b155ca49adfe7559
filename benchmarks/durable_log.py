"""What a contender of the durable benchmarks can do, and how many publishers use it at once.

A contender keeps events in one SQLite file. Publishing is over when the event is as safe as
`synchronous` makes it. Those that only store can be published to; those that also handle must
acknowledge each event durably before it counts as settled.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal

from order import OrderPlaced

Synchronous = Literal["full", "normal"]

LEVELS = {"normal": 1, "full": 2}
"""What `PRAGMA synchronous` answers."""


class DurableLog:
    """A contender with its file in `folder`; the subclasses say how a library is used."""

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    role: ClassVar[Literal["raw", "headwater", "peer"]] = "peer"
    used: ClassVar[str]
    """How it is used, for the page."""
    lacks: ClassVar[str] = ""
    """What it does not do that headwater does, for the page."""
    synchronous: ClassVar[Sequence[Synchronous]] = ("full",)
    """What can be chosen."""
    handles: ClassVar[bool] = True
    replays: ClassVar[bool] = False
    sample: ClassVar[int] = 500
    """How many events a sample has: enough to last some tenths of a second."""

    def __init__(self, folder: Path, synchronous: Synchronous) -> None:
        self.path = folder / "events.db"
        self.chosen: Synchronous = synchronous
        self.handled = 0

    async def open(self) -> None:
        """Open or create the file, ready to publish."""

    async def close(self) -> None:
        """Let go of everything."""

    async def publish(self, event: OrderPlaced) -> object:
        """Store an event; it is safe when this returns."""
        raise NotImplementedError

    async def settle(self, events: Sequence[OrderPlaced], publishers: int) -> float:
        """Publish all, handle all, acknowledge each; return the seconds that it took."""
        raise NotImplementedError

    async def replay(self) -> None:
        """Hand every event in the file to a handler that counts."""
        raise NotImplementedError

    async def level(self) -> int | None:
        """Return what `PRAGMA synchronous` answers on its own connection, if it can be asked."""
        return None

    async def stored(self) -> int | None:
        """Count the events in the file, if it can be asked."""
        return None

    def handle(self, event: object) -> None:
        """Count a call; the handler of everybody whose handlers are functions."""
        self.handled += 1

    async def handle_async(self, event: OrderPlaced) -> None:
        """Count a call; the handler of everybody who awaits handlers."""
        self.handled += 1


@asynccontextmanager
async def opened(
    kind: type[DurableLog], directory: Path, synchronous: Synchronous
) -> AsyncIterator[DurableLog]:
    """Open a contender on a fresh file in `directory`, and remove that afterwards.

    Raises:
        SystemExit: Its connection has another `synchronous` than was asked for.
    """
    with TemporaryDirectory(prefix="durable-", dir=directory) as folder:
        log = kind(Path(folder), synchronous)
        await log.open()
        try:
            level = await log.level()
            if level not in {None, LEVELS[synchronous]}:
                raise SystemExit(f"{kind.name}: synchronous is {level}, not {synchronous}")
            yield log
        finally:
            await log.close()


async def publish_all(log: DurableLog, events: Sequence[OrderPlaced], publishers: int) -> None:
    """Publish all events from `publishers` tasks, each awaiting its event before the next."""
    left = iter(events)
    async with asyncio.TaskGroup() as group:
        for _ in range(publishers):
            group.create_task(publish_from(log, left))


async def publish_from(log: DurableLog, events: Iterator[OrderPlaced]) -> None:
    publish = log.publish
    for event in events:
        await publish(event)
