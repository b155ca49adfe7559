"""headwater as a contender: the same few lines that a user writes."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from durable_log import DurableLog, Synchronous, publish_all
from headwater import Bus
from order import OrderPlaced, order


def bus_at(path: Path, synchronous: Synchronous) -> Bus:
    return Bus(f"sqlite:///{path}?synchronous={synchronous}", name="bench")


class Headwater(DurableLog):
    name = "headwater"
    distribution = "headwater"
    role = "headwater"
    used = "await bus.publish(event); @bus.on(OrderPlaced) with an async handler"
    synchronous = ("full", "normal")
    replays = True
    sample = 10_000

    async def open(self) -> None:
        self.bus = bus_at(self.path, self.chosen)
        await self.bus.publish(order())  # A bus opens on first use; opening is not what is timed.

    async def close(self) -> None:
        await self.bus.aclose()

    async def publish(self, event: OrderPlaced) -> object:
        return await self.bus.publish(event)

    async def settle(self, events: Sequence[OrderPlaced], publishers: int) -> float:
        self.bus.subscribe(OrderPlaced, self.handle_async, name="count")
        async with self.bus:
            started = perf_counter()
            await publish_all(self, events, publishers)
            await self.bus.idle(timeout=120)
            return perf_counter() - started

    async def drain(self) -> float:
        """Handle what was published before; return the seconds that it took."""
        self.bus.subscribe(OrderPlaced, self.handle_async, name="count")
        started = perf_counter()
        async with self.bus:
            await self.bus.idle(timeout=600)
            return perf_counter() - started

    async def replay(self) -> None:
        await self.bus.replay(OrderPlaced, start="beginning", into=self.handle)


async def why_not(directory: Path, synchronous: Synchronous) -> str:
    """Return why headwater cannot take part, or nothing if it can."""
    log = Headwater(directory, synchronous)
    try:
        await log.open()
        await log.close()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
