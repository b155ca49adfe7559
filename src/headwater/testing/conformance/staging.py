"""Staging: what a handler publishes leaves when the handler has succeeded, once."""

import asyncio

from headwater import Backoff, Context, Reject, Retry
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

AT_ONCE = Retry(max_attempts=3, backoff=Backoff(initial=0))


class Staging(Engine):
    """Rule 9."""

    @needs("ordered")
    async def test_what_a_handler_publishes_is_seen_only_after_its_success(self) -> None:
        """Rule 9: an event of the same key that is published meanwhile goes first."""
        bus, seen = self.bus(), Seen()
        staged, gate = asyncio.Event(), asyncio.Event()

        async def handler(event: Noted) -> None:
            bus.publish(Effect("k", 1)).detach()
            staged.set()
            await gate.wait()

        bus.subscribe(Noted, handler, name="publishes")
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(0))
            await staged.wait()
            await bus.publish(Effect("k", 2))
            await seen.until(1)
            assert seen.numbers == [2]
            gate.set()
            await bus.idle(PATIENCE)
        assert seen.numbers == [2, 1]

    @needs("ordered")
    async def test_immediate_is_seen_at_once(self) -> None:
        """Rule 9: `immediate=True` opts out: it leaves now, whatever becomes of the handler."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            await bus.publish(Effect("k", context.attempt), immediate=True)
            await until(lambda: len(seen.calls) >= context.attempt, "the immediate event")
            if context.attempt < 3:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="publishes", retry=AT_ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
        assert seen.numbers == [1, 2, 3]

    async def test_a_failed_attempt_publishes_nothing(self) -> None:
        """Rule 9: only what the attempt that succeeded has published leaves."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            await bus.publish(Effect("k", context.attempt))
            if event.number == 0:
                raise Reject("never")
            if context.attempt < 3:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="publishes", retry=AT_ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await publish_all(bus, numbered(2))
            await bus.idle(PATIENCE)
        assert seen.numbers == [3]

    async def test_sync_handlers_stage_too(self) -> None:
        """Rule 9: in a worker thread as in a task; and waiting for a staged receipt ends."""
        bus, seen = self.bus(), Seen()

        def handler(event: Noted, context: Context) -> None:
            bus.publish(Effect("k", context.attempt))
            context.bus.publish(Effect("k", 10 * context.attempt))
            if context.attempt < 2:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="publishes", retry=AT_ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == [2, 20]

    @needs("ordered")
    async def test_what_a_handler_publishes_keeps_its_order(self) -> None:
        """Rules 4 and 9: the order within a handler, and of causes of one key."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Kept) -> None:
            for number in range(3):
                await bus.publish(Effect("k", 10 * event.number + number))

        bus.subscribe(Kept, handler, name="publishes", concurrency=8)
        bus.subscribe(Effect, seen.note_async, name="effects", concurrency=8)
        async with bus:
            await publish_all(bus, [Kept("same", number) for number in range(20)])
            await bus.idle(PATIENCE)
        assert seen.numbers == [10 * n + m for n in range(20) for m in range(3)]

    async def test_ids_are_derived_and_therefore_stable(self) -> None:
        """Rule 9: the same cause, handled again, publishes under the same ids."""
        ids: list[list[str]] = []
        for log in (self.log, self.url(self.folder)):
            bus, seen = self.bus(log=log), Seen()

            async def handler(event: Noted, context: Context) -> None:
                publisher = context.bus
                publisher.publish(Effect("k", 1)).detach()
                publisher.publish(Effect("k", 1)).detach()
                publisher.publish(Effect("k", 2)).detach()
                publisher.publish(Effect("other", 1)).detach()

            bus.subscribe(Noted, handler, name="publishes")
            bus.subscribe(Effect, seen.note, name="effects", concurrency=1)
            async with bus:
                await bus.publish(Noted(1), id="the cause")
                await bus.idle(PATIENCE)
            ids.append(sorted(seen.ids))
        assert len(set(ids[0])) == 4
        assert ids[0] == ids[1]

    async def test_two_subscriptions_derive_different_ids(self) -> None:
        """Rule 9: two handlers that publish the same are two effects."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted) -> None:
            await bus.publish(Effect("k", 1))

        bus.subscribe(Noted, handler, name="one")
        bus.subscribe(Noted, handler, name="two")
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert len(seen.ids) == len(set(seen.ids)) == 2

    @needs("delay")
    async def test_a_delayed_effect_is_staged_as_well(self) -> None:
        """Rules 7 and 9: a delay counts once its handler has succeeded."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            await bus.publish(Effect("k", context.attempt), delay=0.1)
            if context.attempt < 2:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="publishes", retry=AT_ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
        assert seen.numbers == [2]
