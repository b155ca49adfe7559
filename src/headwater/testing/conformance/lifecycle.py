"""Lifecycle: opening, idling, pausing, draining, closing, and opening again."""

import asyncio

import pytest

from headwater import Context
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until


class Life(Engine):
    """Section 1 and rule 11."""

    async def test_idle_waits_until_everything_is_settled(self) -> None:
        """Idle: also for what handlers publish, and what those publish."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Kept, context: Context) -> None:
            if event.number:
                await bus.publish(Kept(event.key, event.number - 1))
            await seen.note_async(event, context)

        bus.subscribe(Kept, handler, name="counts down")
        async with bus:
            await publish_all(bus, [Kept("a", 5), Kept("b", 5)])
            await bus.idle(PATIENCE)
            assert sorted(seen.numbers) == sorted([*range(6), *range(6)])

    async def test_idle_gives_up_in_time(self) -> None:
        """Idle: what is unfinished after the timeout is a TimeoutError."""
        bus, gate = self.bus(), asyncio.Event()

        async def handler(event: Noted) -> None:
            await gate.wait()

        bus.subscribe(Noted, handler, name="waits")
        async with bus:
            await bus.publish(Noted(1))
            with pytest.raises(TimeoutError):
                await bus.idle(0.1)
            gate.set()
            await bus.idle(PATIENCE)

    async def test_a_paused_subscription_holds_its_events(self) -> None:
        """Pause: neighbours go on; resume handles what was held, in order."""
        bus, held, free = self.bus(), Seen(), Seen()
        subscription = bus.subscribe(Kept, held.note, name="held", concurrency=4)
        bus.subscribe(Kept, free.note, name="free")
        async with bus:
            await bus.publish(Kept("k", 0))
            await bus.idle(PATIENCE)
            subscription.pause()
            await publish_all(bus, [Kept("k", number) for number in range(1, 20)])
            await free.until(20)
            assert held.numbers == [0]
            subscription.resume()
            await bus.idle(PATIENCE)
        assert held.numbers == list(range(20))

    async def test_run_ends_when_it_is_stopped(self) -> None:
        """Run: consume until `stop`, then drain."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes", start="beginning")
        running = asyncio.ensure_future(bus.run())
        await publish_all(bus, numbered(3))
        await seen.until(3)
        bus.stop()
        await running
        assert sorted(seen.numbers) == [0, 1, 2]

    async def test_closing_twice_is_closing_once(self) -> None:
        """Close: any number of times, opened or not."""
        never, bus = self.bus("never"), self.bus()
        await never.aclose()
        async with bus:
            await bus.publish(Noted(1))
        await bus.aclose()
        await asyncio.gather(bus.aclose(), bus.aclose())

    async def test_a_bus_can_be_started_again(self) -> None:
        """Start: the same bus, after it was closed, goes on where it was."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")
        for number in range(3):
            async with bus:
                await bus.publish(Noted(number))
                await bus.idle(PATIENCE)
        assert seen.numbers == [0, 1, 2]

    @needs("persistent")
    async def test_ten_buses_close_at_once(self) -> None:
        """Close: nobody waits for somebody else's end, and what comes later is kept."""
        buses = [self.bus(f"bus {number}") for number in range(10)]
        seen = Seen()
        for bus in buses:
            bus.subscribe(Noted, seen.note, name="notes")
            await bus.__aenter__()
        await asyncio.gather(*(bus.aclose() for bus in buses))
        writer = self.bus("writer")
        await publish_all(writer, numbered(50))
        await writer.aclose()
        again, late = self.bus("bus 0"), Seen()
        again.subscribe(Noted, late.note, name="notes")
        async with again:
            await again.idle(PATIENCE)
        assert sorted(late.numbers) == list(range(50))

    async def test_what_it_promises_is_said_in_words(self) -> None:
        """Rule 12: `guarantees()` names the engine, and what survives what."""
        text = self.bus().guarantees()
        assert self.capabilities.name.lower() in text.lower()
        for danger in self.capabilities.survives:
            assert danger in text


class Draining(Engine):
    """Rule 11."""

    async def test_leaving_waits_for_what_runs(self) -> None:
        """Drain: running handlers finish, and what they finished is settled."""
        bus, begun, ended = self.bus(), Seen(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            begun.note(event, context)
            for _ in range(20):
                await asyncio.sleep(0.005)
            ended.note(event, context)

        bus.subscribe(Noted, handler, name="slow", concurrency=4)
        async with bus:
            await publish_all(bus, numbered(100))
            await begun.until(4)
        assert sorted(begun.numbers) == sorted(ended.numbers)
        assert len(ended.calls) < 100
        async with bus:
            await until(lambda: len(ended.calls) >= 100, "the rest", 2 * PATIENCE)
            await bus.idle(PATIENCE)
        assert sorted(ended.numbers) == list(range(100))

    async def test_what_does_not_finish_in_time_comes_again(self) -> None:
        """Drain: after `drain_timeout` a handler is given up, its event is not."""
        bus, seen, hang = self.bus(drain_timeout=0.2), Seen(), True

        async def handler(event: Noted, context: Context) -> None:
            seen.note(event, context)
            if hang:
                await asyncio.Event().wait()

        bus.subscribe(Noted, handler, name="hangs", concurrency=2)
        async with bus:
            await bus.publish(Noted(1))
            await seen.until(1)
        hang = False
        async with bus:
            await seen.until(2)
            await bus.idle(PATIENCE)
        assert seen.numbers == [1, 1]

    @needs("persistent")
    async def test_what_handlers_publish_while_draining_is_kept(self) -> None:
        """Rules 9 and 11: the last handlers' events are stored before the bus closes."""
        bus, begun, gate = self.bus(), asyncio.Event(), asyncio.Event()

        async def handler(event: Noted) -> None:
            begun.set()
            await gate.wait()
            await bus.publish(Kept("k", event.number))

        bus.subscribe(Noted, handler, name="publishes")
        await bus.__aenter__()
        await bus.publish(Noted(7))
        await begun.wait()
        closing = asyncio.ensure_future(bus.aclose())
        await asyncio.sleep(0)
        gate.set()
        await closing
        later, seen = self.bus(), Seen()
        later.subscribe(Kept, seen.note, name="kept", start="beginning")
        async with later:
            await later.idle(PATIENCE)
        assert seen.numbers == [7]
