"""How much memory a process holds while a slow handler faces a long backlog.

The backlog is filled in behind the place of the subscription. Then a process of its own consumes,
with a handler that needs some milliseconds, and notes its resident memory ten times a second.

    python benchmarks/backlog.py FILE SYNCHRONOUS SECONDS      the consumer, started by durable.py
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

from durable_headwater import Headwater, bus_at
from durable_log import Synchronous
from durable_measure import Site
from fill import fill
from growth import drained
from order import OrderPlaced

SLOW = 0.005
"""Seconds that the handler needs."""
INTERVAL = 0.1


@dataclass(frozen=True)
class Memory:
    """Resident bytes before consuming, and every tenth of a second of it; events handled."""

    before: int
    resident: list[int]
    handled: int

    @property
    def early(self) -> float:
        """What the first second settled at."""
        return median(self.resident[5:10])

    @property
    def peak(self) -> int:
        return max(self.resident)


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def consume(path: Path, synchronous: Synchronous, seconds: float) -> Memory:
    """Consume with a slow handler for some seconds, and watch the memory."""
    bus = bus_at(path, synchronous)
    handled, samples = 0, []
    before = resident()

    async def count(event: OrderPlaced) -> None:
        nonlocal handled
        await asyncio.sleep(SLOW)
        handled += 1

    bus.subscribe(OrderPlaced, count, name="count")
    async with bus:
        for _ in range(round(seconds / INTERVAL)):
            await asyncio.sleep(INTERVAL)
            samples.append(resident())
    return Memory(before, samples, handled)


async def facing(backlog: int, site: Site, seconds: float) -> Memory:
    """Prepare a backlog, and let another process face it."""
    with TemporaryDirectory(prefix="backlog-", dir=site.directory) as folder:
        log = Headwater(Path(folder), site.synchronous)
        await drained(log)  # Registers the subscription; the backlog comes behind its place.
        fill(log.path, backlog)
        arguments = (str(log.path), site.synchronous, str(seconds))
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *arguments, stdout=PIPE
        )
        told, _ = await process.communicate()
    return Memory(**json.loads(told))


def main() -> None:
    path, synchronous, seconds = sys.argv[1:]
    chosen = cast("Synchronous", synchronous)
    print(json.dumps(vars(asyncio.run(consume(Path(path), chosen, float(seconds))))))


if __name__ == "__main__":
    main()
