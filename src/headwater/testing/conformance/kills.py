"""Kills: whatever a process is doing when it is killed, nothing is lost."""

from typing import Any

import pytest

from headwater.testing.conformance.effects import Effects
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Kept, numbered
from headwater.testing.conformance.processes import in_order
from headwater.testing.conformance.seen import PATIENCE, Seen, found, publish_all, until

POISON = 5
ATTEMPTS = 3
"""What the programs' `Retry` allows."""


class Kills(Engine):
    """Rules 1, 3, 5 and 9, under SIGKILL."""

    @needs("shared", "client kill")
    @pytest.mark.parametrize("step", ["before", "after", "handled"])
    async def test_a_kill_at_any_step_loses_nothing(self, step: str) -> None:
        """Rule 3: before its effect, after it, before it is settled: the event comes again.

        What was handled and not settled may be done twice, and only by the one who died; what the
        handler published is there once.
        """
        effects, bus, published = Effects(self.effects_path), self.bus(), Seen()
        bus.subscribe(Effect, published.note, name="effects")
        async with bus:
            victim = self.program("die_once", number=11, step=step, lease=self.lease)
            await effects.until_lines("ready")
            await publish_all(bus, numbered(40, 4))
            await victim.ended()
            dead = victim.pid
            self.program("die_once", number=11, step=step, lease=self.lease)
            await effects.until("handled", 40)
            await until(lambda: len(published.calls) >= 40, "what the handlers published")
            await bus.idle(PATIENCE)
        numbers = effects.numbers("handled")
        assert set(numbers) == set(range(40))
        twice = {number for number in numbers if numbers.count(number) > 1}
        by_the_dead = {line["number"] for line in effects.lines("handled") if line["pid"] == dead}
        assert twice <= by_the_dead
        assert in_order(effects, "handled")
        assert sorted(published.numbers) == list(range(40))

    @needs("shared", "client kill", "ledger")
    async def test_an_event_that_kills_is_given_up_and_its_neighbours_are_spared(self) -> None:
        """Rule 5: counted before each call, it dies `max_attempts` times; others are handled."""
        effects, bus = Effects(self.effects_path), self.bus()
        seen = Seen()
        bus.subscribe(Kept, seen.note, name="other", start="beginning")
        program = self.program("die_always", number=POISON, lease=self.lease)
        await effects.until_lines("ready")
        async with bus:
            await publish_all(bus, numbered(20, 4))
            deaths = 0

            async def look() -> Any:
                nonlocal program, deaths
                if not program.running and deaths <= ATTEMPTS + 1:
                    deaths += 1
                    program = self.program("die_always", number=POISON, lease=self.lease)
                return next(iter(await bus.dead_letters.list()), None)

            letter = await found(look, "the dead letter")
            await effects.until("handled", 19)
            await until(lambda: len(seen.calls) >= 20, "the other subscription")
            assert len(await bus.dead_letters.list()) == 1
        assert set(effects.numbers("handled")) == set(range(20)) - {POISON}
        assert b'"number":5' in bytes(letter.data).replace(b" ", b"")
        assert letter.attempts == ATTEMPTS
        # The first death may have come in a batch, whose claim tells only that it was among these.
        assert ATTEMPTS <= deaths <= ATTEMPTS + 1
        assert in_order(effects, "handled")

    @needs("shared", "client kill")
    async def test_what_a_killed_publisher_saw_confirmed_is_there(self) -> None:
        """Rule 1: confirmed is stored; the one in doubt may be there or not, never twice."""
        effects, bus, seen = Effects(self.effects_path), self.bus(), Seen()
        bus.subscribe(Kept, seen.note, name="kept", start="beginning")
        victim = self.program("publish")
        await effects.until("confirmed", 100)
        victim.kill()
        confirmed, tried = effects.numbers("confirmed"), effects.numbers("published")
        async with bus:
            await seen.until(len(confirmed))
            await bus.idle(PATIENCE)
        assert len(seen.numbers) == len(set(seen.numbers))
        assert set(confirmed) <= set(seen.numbers) <= set(tried)
        assert seen.in_order

    @needs("shared", "client kill", "ledger")
    async def test_a_retry_outlives_the_process_that_failed(self) -> None:
        """Rules 5 and 7: killed while it waits for the next attempt, the count goes on."""
        effects, bus = Effects(self.effects_path), self.bus()
        victim = self.program("fail_at_first", lease=self.lease)
        await effects.until_lines("ready")
        await publish_all(bus, numbered(4, 2))
        await effects.until("failed", 2)
        victim.kill()
        self.program("handle", lease=self.lease)
        await effects.until("handled", 4)
        await bus.aclose()
        failed = {line["number"] for line in effects.lines("failed")}
        attempts = {line["number"]: line["attempt"] for line in effects.lines("handled")}
        assert {attempts[number] for number in failed} <= {1, 2}
        assert in_order(effects, "handled")
