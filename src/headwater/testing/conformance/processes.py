"""Processes: several of them share a subscription, come and go, and end when they are asked to."""

import asyncio

from headwater.testing.conformance.effects import Effects, first_of_each
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

KEYS = 16


def in_order(effects: Effects, what: str) -> bool:
    """Whether each key's events were done in the order of their numbers, repetitions aside."""
    lines = effects.lines(what)
    keys = {line["key"] for line in lines}
    numbers = [
        first_of_each([line["number"] for line in lines if line["key"] == key]) for key in keys
    ]
    return all(one == sorted(one) for one in numbers)


class Processes(Engine):
    """Rules 2 and 4."""

    @needs("shared")
    async def test_processes_share_a_subscription(self) -> None:
        """Rule 2: each event is handled by one of them, once; and both have some to do."""
        effects, bus = Effects(self.effects_path), self.bus()
        for _ in range(2):
            self.program("handle", pause=0.002)
        await effects.until_lines("ready", 2)
        for start in range(0, 400, 40):
            await publish_all(bus, [Kept(f"k{n % KEYS}", n) for n in range(start, start + 40)])
            await effects.until("handled", start + 40)
            if start >= 200 and len(effects.pids("handled")) == 2:
                break
        await bus.aclose()
        numbers = effects.numbers("handled")
        assert len(effects.pids("handled")) == 2
        assert sorted(numbers) == list(range(len(numbers)))
        assert in_order(effects, "handled")

    @needs("shared")
    async def test_processes_may_come_and_go(self) -> None:
        """Rules 3 and 4: as owners change, nothing is lost and keys keep their order."""
        effects, bus = Effects(self.effects_path), self.bus()
        first = self.program("handle", pause=0.005, lease=self.lease)
        await effects.until_lines("ready", 1)
        await publish_all(bus, numbered(400, KEYS))
        await effects.until("handled", 50)
        self.program("handle", pause=0.005, lease=self.lease)
        await effects.until_lines("ready", 2)
        await effects.until("handled", 150)
        first.terminate()
        assert await first.ended() == 0
        self.program("handle", pause=0.005, lease=self.lease)
        await effects.until("handled", 400)
        await bus.aclose()
        assert sorted(set(effects.numbers("handled"))) == list(range(400))
        assert in_order(effects, "handled")

    @needs("shared")
    async def test_an_event_of_one_process_wakes_another(self) -> None:
        """Rule 13: who waits for events hears of them at once, not at the next look."""
        effects, bus = Effects(self.effects_path), self.bus()
        clock = asyncio.get_running_loop().time
        self.program("handle")
        await effects.until_lines("ready")
        waits = list[float]()
        for number in range(10):
            started = clock()
            await bus.publish(Noted(number))
            await effects.until("handled", number + 1)
            waits.append(clock() - started)
        await bus.aclose()
        assert sorted(waits)[5] < 0.25

    @needs("shared")
    async def test_processes_publish_into_one_log(self) -> None:
        """Rule 1: what two processes publish at once is all there, once."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")
        async with bus:
            programs = [self.program("publish_some", start=first, count=300) for first in (0, 300)]
            for program in programs:
                assert await program.ended() == 0
            await until(lambda: len(seen.calls) >= 600, "600 events")
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(600))

    @needs("shared")
    async def test_sigterm_drains_and_exits_with_zero(self) -> None:
        """Rule 11: what runs is finished and settled, what waits is left to others."""
        effects, bus = Effects(self.effects_path), self.bus()
        program = self.program("handle", pause=0.2, concurrency=4)
        await effects.until_lines("ready")
        await publish_all(bus, numbered(200, KEYS))
        await effects.until("begun", 5)
        program.terminate()
        assert await program.ended() == 0
        begun, handled = effects.numbers("begun"), effects.numbers("handled")
        assert len(effects.lines("drained")) == 1
        assert sorted(begun) == sorted(handled)
        assert len(handled) < 200
        self.program("handle", concurrency=16)
        await effects.until("handled", 200)
        await bus.aclose()
        assert sorted(effects.numbers("handled")) == list(range(200))
