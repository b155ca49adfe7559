"""Transactions: effects in the engine's own database happen exactly once."""

import asyncio
from typing import Any

import pytest

from headwater import Backoff, Bus, Context, Retry, WouldDeadlock
from headwater.testing.conformance.effects import Effects
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Effect, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, found, publish_all

AT_ONCE = Retry(max_attempts=3, backoff=Backoff(initial=0))


CREATE = "create table conformance_rows (number integer)"
"""The table of effects, which has no constraint that could hide a second row."""


async def create(bus: Bus) -> None:
    """Make the table."""
    async with bus.transaction() as connection:
        connection.execute(CREATE)


def insert(connection: Any, number: int) -> None:
    """Write one row."""
    connection.execute(f"insert into conformance_rows values ({int(number)})")  # noqa: S608


async def rows(bus: Bus) -> list[int]:
    """All rows, sorted."""
    async with bus.transaction() as connection:
        every = connection.execute("select number from conformance_rows").fetchall()
    return sorted(row[0] for row in every)


class Transactions(Engine):
    """Rule 8."""

    @needs("transaction")
    async def test_effects_of_a_failed_attempt_are_undone(self) -> None:
        """Rule 8: the attempt that succeeds leaves its rows, and those before it none."""
        bus = self.bus()

        def handler(event: Noted, context: Context) -> None:
            insert(context.transaction, event.number)
            if context.attempt < 3:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="writes", transaction=True, retry=AT_ONCE)
        async with bus:
            await create(bus)
            await publish_all(bus, numbered(20))
            await bus.idle(PATIENCE)
            assert await rows(bus) == list(range(20))

    @needs("transaction")
    async def test_async_handlers_get_a_transaction_too(self) -> None:
        """Rule 8: whatever the colour, one handler at a time has the connection."""
        bus = self.bus()

        async def handler(event: Noted, context: Context) -> None:
            insert(context.transaction, event.number)
            await asyncio.sleep(0)
            if context.attempt < 2:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="writes", transaction=True, retry=AT_ONCE)
        async with bus:
            await create(bus)
            await publish_all(bus, numbered(10))
            await bus.idle(PATIENCE)
            assert await rows(bus) == list(range(10))

    @needs("transaction")
    async def test_a_dead_letter_leaves_no_rows(self) -> None:
        """Rules 6 and 8: what is given up has no effect."""
        bus = self.bus()

        def handler(event: Noted, context: Context) -> None:
            insert(context.transaction, event.number)
            if event.number == 3:
                raise RuntimeError("never")

        bus.subscribe(Noted, handler, name="writes", transaction=True, retry=AT_ONCE)
        async with bus:
            await create(bus)
            await publish_all(bus, numbered(6))
            await bus.idle(PATIENCE)
            assert await rows(bus) == [0, 1, 2, 4, 5]
            assert len(await bus.dead_letters.list()) == 1

    @needs("transaction")
    async def test_events_of_a_transaction_share_its_fate(self) -> None:
        """Rule 8: `publish(transaction=)` is stored at the commit, or never."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Effect, seen.note, name="effects")

        def commit() -> None:
            with bus.transaction() as connection:
                connection.execute(CREATE)
                insert(connection, 1)
                bus.publish(Effect("k", 1), transaction=connection)

        def roll_back() -> None:
            with bus.transaction() as connection:
                insert(connection, 2)
                bus.publish(Effect("k", 2), transaction=connection)
                raise ZeroDivisionError

        async with bus:
            await asyncio.to_thread(commit)
            with pytest.raises(ZeroDivisionError):
                await asyncio.to_thread(roll_back)
            await bus.publish(Effect("k", 3))
            await bus.idle(PATIENCE)
            assert await rows(bus) == [1]
        assert seen.numbers == [1, 3]

    @needs("transaction")
    async def test_what_a_transactional_handler_publishes_shares_its_fate(self) -> None:
        """Rules 8 and 9: rows, events and settlement are one commit."""
        bus, seen = self.bus(), Seen()

        def handler(event: Noted, context: Context) -> None:
            insert(context.transaction, event.number)
            context.bus.publish(Effect("k", context.attempt))
            if context.attempt < 2:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="writes", transaction=True, retry=AT_ONCE)
        bus.subscribe(Effect, seen.note, name="effects")
        async with bus:
            await create(bus)
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
            assert await rows(bus) == [1]
        assert seen.numbers == [2]

    @needs("transaction")
    def test_waiting_for_oneself_is_refused(self) -> None:
        """Rule 8: publishing beside the transaction one holds would wait for ever."""
        bus = self.bus()
        with bus:
            with bus.transaction() as connection:
                connection.execute(CREATE)
                insert(connection, 1)
                with pytest.raises(WouldDeadlock):
                    bus.publish(Noted(1))
            assert asyncio.run(rows(bus)) == [1]

    @needs("transaction", "shared", "client kill")
    async def test_a_kill_in_the_midst_leaves_every_row_once(self) -> None:
        """Rules 3, 5 and 8: killed before the commit, the event is handled by the next owner."""
        bus, effects = self.bus(), Effects(self.effects_path)
        await create(bus)
        victim = self.program("insert", lease=self.lease, number=12)
        await effects.until_lines("ready")
        await publish_all(bus, numbered(25))
        await victim.ended()
        self.program("insert", lease=self.lease, number=-1)

        async def look() -> list[int] | None:
            numbers = await rows(bus)
            return numbers if len(set(numbers)) >= 25 else None

        assert await found(look, "25 rows") == list(range(25))
        await bus.aclose()
