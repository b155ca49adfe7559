"""Order: events of one key are handled one at a time, as published, and hold up nobody else."""

import asyncio

import pytest

from headwater import Backoff, Context, Retry, RetryLater
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

KEYS = 16
"""More keys than a topic has lanes by default, so that some share one."""

AT_ONCE = Retry(max_attempts=5, backoff=Backoff(initial=0))


class Ordering(Engine):
    """Rule 4."""

    @needs("ordered")
    @pytest.mark.parametrize("concurrency", [1, 32])
    async def test_a_thousand_events_keep_the_order_of_their_keys(self, concurrency: int) -> None:
        """Rule 4: order holds per key, whatever the concurrency."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Kept, seen.note_async, name="ordered", concurrency=concurrency)
        async with bus:
            await publish_all(bus, numbered(1_000, KEYS))
            await bus.idle(PATIENCE)
        assert len(seen.calls) == 1_000
        assert seen.in_order

    @needs("ordered")
    async def test_threads_keep_the_order_of_keys(self) -> None:
        """Rule 4: also where handlers run in worker threads."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Kept, seen.note, name="ordered", concurrency=8)
        async with bus:
            await publish_all(bus, numbered(400, KEYS))
            await bus.idle(PATIENCE)
        assert len(seen.calls) == 400
        assert seen.in_order

    @needs("ordered")
    async def test_order_holds_across_the_types_of_a_topic(self) -> None:
        """Rule 4: order is per topic and key, not per class."""
        bus, seen = self.bus(), Seen()
        bus.on(Kept, Effect, name="both", concurrency=8)(seen.note_async)
        kinds = (Kept, Effect)
        async with bus:
            await publish_all(bus, [kinds[n % 3 % 2](f"k{n % 4}", n) for n in range(200)])
            await bus.idle(PATIENCE)
        assert len(seen.calls) == 200
        assert seen.in_order

    @needs("ordered")
    async def test_a_key_is_handled_one_event_at_a_time(self) -> None:
        """Rule 4: the second event of a key begins when the first has been handled."""
        bus, running = self.bus(), set[str]()
        overlaps = list[str]()

        async def handler(event: Kept) -> None:
            if event.key in running:
                overlaps.append(event.key)
            running.add(event.key)
            for _ in range(3):
                await asyncio.sleep(0)
            running.discard(event.key)

        bus.subscribe(Kept, handler, name="one at a time", concurrency=32)
        async with bus:
            await publish_all(bus, numbered(200, 4))
            await bus.idle(PATIENCE)
        assert overlaps == []

    @needs("ordered")
    async def test_a_slow_key_holds_up_no_other_key(self) -> None:
        """Rule 4: within a lane, keys run side by side."""
        bus, seen, gate = self.bus(), Seen(), asyncio.Event()

        async def handler(event: Kept, context: Context) -> None:
            if event.key == "k0" and event.number == 0:
                await gate.wait()
            seen.note(event, context)

        bus.subscribe(Kept, handler, name="side by side", concurrency=4)
        async with bus:
            await publish_all(bus, numbered(10 * KEYS, KEYS))
            await seen.until(10 * (KEYS - 1))
            assert seen.of("k0") == []
            gate.set()
            await bus.idle(PATIENCE)
        assert len(seen.calls) == 10 * KEYS
        assert seen.in_order

    @needs("ordered")
    async def test_a_retry_keeps_the_order_of_its_key(self) -> None:
        """Rule 4: followers wait until the failed event has succeeded."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Kept, context: Context) -> None:
            if event.number % 7 == 0 and context.attempt < 3:
                raise RuntimeError("not yet")
            seen.note(event, context)

        bus.subscribe(Kept, handler, name="ordered", concurrency=8, retry=AT_ONCE)
        async with bus:
            await publish_all(bus, numbered(100, 4))
            await bus.idle(PATIENCE)
        assert len(seen.calls) == 100
        assert seen.in_order

    @needs("ordered")
    async def test_a_retry_holds_its_own_key_only(self) -> None:
        """Rule 4: while one key waits for its next attempt, all others go on."""
        bus, seen = self.bus(), Seen()
        soon = Retry(max_attempts=2, backoff=Backoff(initial=0.5, jitter=False))

        async def handler(event: Kept, context: Context) -> None:
            if event.number == 0 and context.attempt == 1:
                raise RuntimeError("not yet")
            seen.note(event, context)

        bus.subscribe(Kept, handler, name="ordered", concurrency=1, retry=soon)
        async with bus:
            await publish_all(bus, numbered(4 * KEYS, KEYS))
            await until(lambda: len(seen.calls) >= 4 * (KEYS - 1), "the other keys")
            assert seen.of("k0") == []
            await bus.idle(PATIENCE)
        assert seen.of("k0") == [0, KEYS, 2 * KEYS, 3 * KEYS]
        assert seen.in_order

    @needs("ordered")
    async def test_retry_later_keeps_the_order_and_costs_no_attempt(self) -> None:
        """Rule 5: what asks for later is not a failure, and its key waits for it."""
        bus, seen, asked = self.bus(), Seen(), list[int]()

        async def handler(event: Kept, context: Context) -> None:
            if event.number == 0 and len(asked) < 4:
                asked.append(context.attempt)
                raise RetryLater(0.01)
            seen.note(event, context)

        once = Retry(max_attempts=1)
        bus.subscribe(Kept, handler, name="later", retry=once)
        async with bus:
            await publish_all(bus, numbered(8, 2))
            await bus.idle(PATIENCE)
        assert asked == [1, 1, 1, 1]
        assert len(seen.calls) == 8
        assert seen.in_order

    @needs("ordered", "persistent")
    async def test_order_holds_across_a_new_opening(self) -> None:
        """Rules 3 and 4: what a bus leaves behind, the next one takes up in order."""
        seen = Seen()
        first = self.bus()
        first.subscribe(Kept, seen.note_async, name="ordered", concurrency=4)
        async with first:
            await publish_all(first, numbered(200, 4))
            await seen.until(20)
        second = self.bus()
        second.subscribe(Kept, seen.note_async, name="ordered", concurrency=4)
        async with second:
            await second.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(200))
        assert seen.in_order

    @needs("ordered")
    async def test_a_key_given_at_publish_counts(self) -> None:
        """Rule 4: `key=` at publish goes before the class's own, and data may have one too."""
        bus, seen = self.bus(), Seen()
        bus.subscribe("conformance.**", seen.note_async, name="keyed", concurrency=8)
        async with bus:
            for number in range(50):
                bus.publish(Kept(str(number), number), key="same").detach()
            await bus.idle(PATIENCE)
        assert {call.context.key for call in seen.calls} == {"same"}
        assert seen.numbers == list(range(50))
