"""Leases: a process that stands still is replaced, and what it does late does not count."""

import asyncio
import time

from headwater import Bus, Context
from headwater.testing.conformance.effects import Effects
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept, numbered
from headwater.testing.conformance.processes import in_order
from headwater.testing.conformance.program import Program
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all


class Leases(Engine):
    """Rules 3, 4 and 13."""

    @needs("shared", "client kill")
    async def test_a_killed_process_is_replaced_within_its_lease(self) -> None:
        """Rule 3: delivered again within the lease, or at once where death is noticed."""
        effects, bus = Effects(self.effects_path), self.bus()
        clock = asyncio.get_running_loop().time
        victim = self.program("handle", pause=60, lease=self.lease)
        await effects.until_lines("ready", 1)
        self.program("handle", lease=self.lease)
        await effects.until_lines("ready", 2)
        await publish_all(bus, numbered(32, 16))
        await effects.until("begun", 1)
        killed = clock()
        victim.kill()
        await effects.until("handled", 32)
        took = clock() - killed
        await bus.aclose()
        assert set(effects.numbers("handled")) == set(range(32))
        assert took < self.lease + 2

    @needs("shared")
    async def test_a_frozen_process_is_replaced_and_its_late_settles_are_refused(self) -> None:
        """Rules 3 and 4: fenced, it neither settles nor loses anything when it goes on."""
        effects, bus = Effects(self.effects_path), self.bus()
        frozen = self.program("handle", pause=0.01, lease=self.lease, concurrency=1)
        await effects.until_lines("ready", 1)
        await publish_all(bus, numbered(100, 8))
        await effects.until("handled", 10)
        await _freeze_outside_of_the_engine(frozen, bus)
        other = self.program("handle", lease=self.lease)
        await effects.until("handled", 100)
        frozen.thaw()
        await publish_all(bus, [Kept(f"k{n % 8}", n) for n in range(100, 200)])
        await effects.until("handled", 200)
        for program in (frozen, other):
            program.terminate()
            assert await program.ended() == 0
        await bus.aclose()
        numbers = effects.numbers("handled")
        assert set(numbers) == set(range(200))
        twice = {number for number in numbers if numbers.count(number) > 1}
        frozen_too = {
            line["number"] for line in effects.lines("handled") if line["pid"] == frozen.pid
        }
        assert twice <= frozen_too
        assert in_order(effects, "handled")

    @needs("shared")
    async def test_a_slow_handler_keeps_its_lease(self) -> None:
        """Rule 13: a lease is renewed while its process lives, however long a handler takes."""
        bus, seen, gate = self.bus(lease=self.lease), Seen(), asyncio.Event()

        async def handler(event: Kept, context: Context) -> None:
            seen.note(event, context)
            await gate.wait()

        bus.subscribe(Kept, handler, name="slow")
        async with bus:
            await bus.publish(Kept("k", 0))
            await seen.until(1)
            await asyncio.sleep(2.5 * self.lease)
            gate.set()
            await bus.idle(PATIENCE)
        assert seen.attempts == [1]

    @needs("shared")
    async def test_a_blocked_loop_keeps_its_lease(self) -> None:
        """Rule 13: the engine's work has a thread of its own, so a blocked loop loses nothing."""
        bus, seen, others = self.bus(lease=self.lease), Seen(), Effects(self.effects_path)

        async def handler(event: Kept, context: Context) -> None:
            seen.note(event, context)
            if event.number == 0:
                time.sleep(2.5 * self.lease)  # noqa: ASYNC251 -- that is the point

        bus.subscribe(Kept, handler, name="worker")
        async with bus:
            await bus.publish(Kept("k", 0))
            await seen.until(1)
            self.program("handle", lease=self.lease)
            await bus.publish(Kept("k", 1))
            await others.until_lines("ready")
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers + others.numbers("handled")) == [0, 1]


async def _freeze_outside_of_the_engine(program: Program, bus: Bus) -> None:
    """Stop a process, but not while it holds what the engine gives to one at a time.

    Then nobody could go on before it does, which is another fault than the one that is meant.
    """
    while True:
        program.freeze()
        receipt = bus.publish("conformance.probe", {}).detach()
        try:
            async with asyncio.timeout(1):
                await receipt
        except TimeoutError:
            program.thaw()
            await receipt
        else:
            return
