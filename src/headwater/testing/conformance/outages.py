"""Outages: the server goes away and comes back, while events are published and handled."""

import asyncio

from headwater.errors import PublishFailed
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept
from headwater.testing.conformance.seen import PATIENCE, Seen, until


class Outages(Engine):
    """Rules 1, 3 and 13, where there is a server."""

    @needs("broker kill")
    async def test_two_restarts_lose_nothing(self) -> None:
        """Rule 1: what fails or is in doubt is published again under its id, and is there once."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Kept, seen.note_async, name="kept", concurrency=8)
        published = 0

        async def persist(event: Kept) -> None:
            nonlocal published
            while True:
                try:
                    await bus.publish(event, id=f"event-{event.number}")
                except PublishFailed:
                    await asyncio.sleep(0.05)
                else:
                    published += 1
                    return

        async def publisher(key: int) -> None:
            for number in range(key, 2_000, 20):
                await persist(Kept(f"k{key}", number))

        async with bus:
            publishers = [asyncio.ensure_future(publisher(key)) for key in range(20)]
            await until(lambda: published >= 500, "500 publishes")
            await self.restart()
            await until(lambda: published >= 1_000, "1,000 publishes")
            await self.restart()
            await asyncio.gather(*publishers)
            await until(lambda: len(set(seen.numbers)) >= 2_000, "everything", 2 * PATIENCE)
            await bus.idle(PATIENCE)
        first = list(dict.fromkeys((call.event.key, call.event.number) for call in seen.calls))
        by_key = [[number for key, number in first if key == f"k{one}"] for one in range(20)]
        assert by_key == [list(range(key, 2_000, 20)) for key in range(20)]

    @needs("broker kill")
    async def test_a_waiting_consumer_comes_back(self) -> None:
        """Rule 13: a lost connection is noticed and healed, also where nothing is going on."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Kept, seen.note, name="kept")
        async with bus:
            await bus.publish(Kept("k", 0))
            await bus.idle(PATIENCE)
            await self.restart()
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await bus.publish(Kept("k", 1), id="after")
                    except PublishFailed:
                        await asyncio.sleep(0.05)
                    else:
                        break
            await until(lambda: 1 in seen.numbers, "the event after the restart")
