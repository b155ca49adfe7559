"""Dead letters: given up with evidence, looked at, retried, edited, discarded."""

from typing import Any

import pytest

from headwater import Backoff, Bus, Context, HeadwaterError, Retry
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Kept, Noted, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

TWICE = Retry(max_attempts=2, backoff=Backoff(initial=0))
ONCE = Retry(max_attempts=1)


class Mended:
    """A handler that fails until it is mended, or until the event's number is positive."""

    def __init__(self) -> None:
        self.broken = True
        self.seen = Seen()

    def handle(self, event: Any, context: Context) -> None:
        """Fail, or note."""
        if self.broken and event.number <= 0:
            raise LookupError(f"no {event.number}")
        self.seen.note(event, context)


class DeadLetters(Engine):
    """Rule 6."""

    def mended(self, bus: Bus, name: str = "mended", retry: Retry = ONCE) -> Mended:
        """A handler that fails at 0 and below until somebody mends it."""
        handler = Mended()
        bus.on(Noted, Kept, name=name, retry=retry)(handler.handle)
        return handler

    async def test_a_dead_letter_tells_what_happened(self) -> None:
        """Rule 6: error, traceback, attempts and raw bytes are kept with the event."""
        bus = self.bus()
        self.mended(bus, retry=TWICE)
        async with bus:
            await bus.publish(Kept("k", 0), id="e0", headers={"a": "b"})
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
            same = await bus.dead_letters.get(letter.id)
        assert same == letter
        assert (letter.event_id, letter.name) == ("e0", "conformance.Kept")
        assert (letter.key, letter.topic) == ("k", "events")
        assert letter.subscription.endswith("mended")
        assert (letter.kind, letter.attempts, letter.parked) == ("LookupError", 2, False)
        assert "no 0" in letter.error
        assert "handle" in letter.traceback
        assert b'"number":0' in bytes(letter.data).replace(b" ", b"")
        assert letter.time > 0

    async def test_the_key_of_a_dead_letter_goes_on(self) -> None:
        """Rule 6: `when_dead="continue"`, the default: followers are handled, in order."""
        bus = self.bus()
        handler = self.mended(bus)
        async with bus:
            await publish_all(bus, [Kept("k", number) for number in (1, 0, 2, 3)])
            await bus.idle(PATIENCE)
        assert handler.seen.numbers == [1, 2, 3]

    async def test_each_subscription_has_its_own_dead_letters(self) -> None:
        """Rule 6: two handlers that give up on one event leave two letters."""
        bus = self.bus()
        self.mended(bus, "one")
        self.mended(bus, "two")
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
            letters = await bus.dead_letters.list()
        assert len({letter.id for letter in letters}) == 2
        assert len({letter.event_id for letter in letters}) == 1

    async def test_a_dead_letter_can_be_retried(self) -> None:
        """Rule 6: retried by its id, it is handled by its own subscription only."""
        bus = self.bus()
        handler, other = self.mended(bus), Seen()
        bus.subscribe(Noted, other.note, name="other")
        async with bus:
            await publish_all(bus, [Noted(0), Noted(-1)])
            await bus.idle(PATIENCE)
            letters = await bus.dead_letters.list()
            handler.broken = False
            first = next(one for one in letters if b"-1" not in one.data)
            await bus.dead_letters.retry(first.id)
            await handler.seen.until(1)
            await bus.idle(PATIENCE)
            left = await bus.dead_letters.list()
        assert handler.seen.numbers == [0]
        assert handler.seen.ids == [first.event_id]
        assert [one.event_id for one in left] != [first.event_id]
        assert len(left) == 1
        assert len(other.calls) == 2

    async def test_a_retried_letter_that_fails_again_is_dead_again(self) -> None:
        """Rule 6: a retry of a letter gives it its attempts anew, and loses nothing."""
        bus = self.bus()
        self.mended(bus)
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
            await bus.dead_letters.retry(letter.id)
            await bus.idle(PATIENCE)
            [again] = await bus.dead_letters.list()
        assert again.event_id == letter.event_id

    async def test_dead_letters_are_chosen_by_what_they_are(self) -> None:
        """Rule 6: by subscription, name, error, key; and so many at most."""
        bus = self.bus()
        one = self.mended(bus, "one")
        self.mended(bus, "two")
        async with bus:
            await publish_all(bus, [Kept("a", 0), Kept("b", 0), Noted(0)])
            await bus.idle(PATIENCE)
            letters = bus.dead_letters
            mine = (await letters.list())[0].subscription
            assert len(await letters.list()) == 6
            assert len(await letters.list(limit=4)) == 4
            assert len(await letters.list(subscription=mine)) == 3
            assert len(await letters.list(name="conformance.Noted")) == 2
            assert len(await letters.list(key="a")) == 2
            assert len(await letters.list(error="LookupError")) == 6
            assert len(await letters.list(error="KeyError")) == 0
            assert len(await letters.list(older_than=3600)) == 0
            assert await letters.discard(key="a") == 2
            assert len(await letters.list()) == 4
            one.broken = False
            assert await letters.retry(name="conformance.Noted") == 2
            with pytest.raises(HeadwaterError):
                await letters.retry()
            await bus.idle(PATIENCE)
        assert one.seen.numbers == [0]

    async def test_a_discarded_letter_does_not_come_back(self) -> None:
        """Rule 6: discarded is settled."""
        bus = self.bus()
        handler = self.mended(bus)
        async with bus:
            await bus.publish(Noted(0))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
            await bus.dead_letters.discard(letter.id)
            assert not await bus.dead_letters.list()
            handler.broken = False
            assert await bus.dead_letters.retry(letter.id) == 0
            assert await bus.dead_letters.get(letter.id) is None
            await bus.idle(PATIENCE)
        assert handler.seen.calls == []

    @needs("ledger")
    async def test_a_dead_letter_can_be_edited(self) -> None:
        """Rules 6 and 7: with other data it is tried again, under the same id."""
        bus = self.bus()
        handler = self.mended(bus)
        async with bus:
            await bus.publish(Kept("k", 0), id="e0")
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
            await bus.dead_letters.edit(letter.id, {"key": "k", "number": 7})
            await handler.seen.until(1)
            await bus.idle(PATIENCE)
            assert not await bus.dead_letters.list()
        assert (handler.seen.numbers, handler.seen.ids) == ([7], ["e0"])

    @needs("persistent")
    async def test_dead_letters_outlive_the_bus(self) -> None:
        """Rule 6: another bus of the same name sees and retries them."""
        first = self.bus()
        self.mended(first)
        async with first:
            await publish_all(first, [Noted(0), Noted(1)])
            await first.idle(PATIENCE)
        second = self.bus()
        handler = self.mended(second)
        handler.broken = False
        async with second:
            [letter] = await second.dead_letters.list()
            await second.dead_letters.retry(letter.id)
            await until(lambda: handler.seen.calls, "the retried event")
        assert handler.seen.numbers == [0]

    def test_sync_code_reads_dead_letters_too(self) -> None:
        """Rule 6: what may be awaited can be waited for."""
        bus = self.bus()
        self.mended(bus)
        with bus:
            for event in numbered(1):
                bus.publish(event)
            bus.idle(PATIENCE)
            [letter] = bus.dead_letters.list().result(PATIENCE)
            bus.dead_letters.discard(letter.id).result(PATIENCE)
            assert not bus.dead_letters.list().result(PATIENCE)
