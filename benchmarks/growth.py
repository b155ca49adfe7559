"""What a publish and a settle cost when much is in the file already.

A file of each size is filled first; then every round runs all sizes of everybody in turn, so that
a slow moment of the machine meets neighbours. The files stay between rounds and grow by a sample
each time, which is much for the smallest and nothing for the largest.
"""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter

from durable_headwater import Headwater
from durable_log import DurableLog, publish_all
from durable_measure import PUBLISHERS, Kind, Series, Site
from fill import fill
from order import orders

SMALLEST = 10_000
SAMPLE = 10_000


def sizes(largest: int) -> list[int]:
    """Return the numbers of events to compare: powers of ten up to the largest."""
    found = [SMALLEST]
    while found[-1] * 10 <= largest:
        found.append(found[-1] * 10)
    return found if found[-1] == largest else [*found, largest]


class Growth:
    """By contender and size, the seconds of a publish and of a settle."""

    def __init__(self, kinds: Sequence[Kind], site: Site, largest: int) -> None:
        self.kinds = kinds
        self.site = site
        self.sizes = sizes(largest)
        self.publish = {size: Series() for size in self.sizes}
        self.settle = {size: Series() for size in self.sizes}

    async def run(self, rounds: int, progress: Callable[[str], None]) -> None:
        """Fill the files, then measure in rounds."""
        logs = dict[tuple[int, str], DurableLog]()
        for kind in self.kinds:
            for size in self.sizes:
                progress(f"filling {size:,} events for {kind.name}")
                logs[size, kind.name] = await self._filled(kind, size)
        for number in range(rounds):
            for (size, name), log in logs.items():
                progress(f"round {number + 1} of {rounds}: {name} behind {size:,} events")
                await self._sample(size, log)

    async def _filled(self, kind: Kind, size: int) -> DurableLog:
        folder = mkdtemp(prefix=f"{kind.__name__}-{size}-", dir=self.site.directory)
        log = kind(Path(folder), self.site.synchronous)
        await log.open()
        await publish_all(log, orders(1), 1)
        await log.close()
        fill(log.path, size)
        if isinstance(log, Headwater):  # Its subscription begins behind what was filled in.
            await drained(log)
        return log

    async def _sample(self, size: int, log: DurableLog) -> None:
        events = orders(SAMPLE)
        await log.open()
        gc.collect()
        started = perf_counter()
        await publish_all(log, events, PUBLISHERS)
        self.publish[size].add(log.name, (perf_counter() - started) / SAMPLE)
        await log.close()
        if isinstance(log, Headwater):
            before = log.handled
            taken = await drained(log)
            self.settle[size].add(log.name, taken / (log.handled - before))


async def drained(log: Headwater) -> float:
    """Open it, handle what waits, close it; return the seconds that the handling took."""
    await log.open()
    try:
        return await log.drain()
    finally:
        await log.close()
