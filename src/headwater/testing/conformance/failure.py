"""Failure: one handler's errors are its own; what failed comes again as it was."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from headwater import Backoff, Bus, Context, Reject, Retry
from headwater.records import DeadLettered, Handled, Record, Retried
from headwater.testing.conformance.engine import Engine, needs
from headwater.testing.conformance.events import Line, Noted, Order, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

AT_ONCE = Retry(max_attempts=4, backoff=Backoff(initial=0))
LATER = Retry(max_attempts=3, backoff=Backoff(initial=1.5, jitter=False))
"""Further off than a retry that is only kept in memory."""


class Broken(Exception):
    """An error that cannot be shown, compared or pickled."""

    def __str__(self) -> str:
        raise RuntimeError("no text either")

    def __reduce__(self) -> str:
        raise RuntimeError("not to be pickled")


class Failure(Engine):
    """Rules 3 and 5."""

    async def test_what_failed_comes_again_until_it_succeeds(self) -> None:
        """Rule 3: an event is settled only after its handler has succeeded."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            if context.attempt < 3:
                raise RuntimeError("not yet")
            seen.note(event, context)

        bus.subscribe(Noted, handler, name="fails twice", retry=AT_ONCE, concurrency=8)
        async with bus:
            await publish_all(bus, numbered(100))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(100))
        assert set(seen.attempts) == {3}

    async def test_a_failure_is_the_failing_subscriptions_own(self) -> None:
        """Rule 3: subscriptions are settled apart; others are not called again."""
        bus, fine, tried = self.bus(), Seen(), list[int]()

        def fails(event: Noted, context: Context) -> None:
            tried.append(context.attempt)
            raise RuntimeError("always")

        bus.subscribe(Noted, fails, name="fails", retry=AT_ONCE)
        bus.subscribe(Noted, fine.note, name="fine")
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert tried == [1, 2, 3, 4]
        assert fine.attempts == [1]

    async def test_what_a_handler_does_to_its_event_stays_in_the_attempt(self) -> None:
        """Rule 3: each attempt and each subscription gets the event as it was published."""
        bus, seen, other = self.bus(), list[tuple[int, int]](), Seen()

        def spoils(event: Order, context: Context) -> None:
            seen.append((len(event.lines), event.total))
            event.lines.append(Line("more", 1.0))
            event.total += 1
            if context.attempt < 3:
                raise RuntimeError("not yet")

        bus.subscribe(Order, spoils, name="spoils", retry=AT_ONCE)
        bus.subscribe(Order, other.note, name="other")
        async with bus:
            await bus.publish(Order("o1", [Line("book", 1.0)], total=7))
            await bus.idle(PATIENCE)
        assert seen == [(1, 7)] * 3
        assert other.events == [Order("o1", [Line("book", 1.0)], total=7)]

    async def test_a_timeout_is_a_failure(self) -> None:
        """Rule 5: what takes longer than `timeout` has failed, and comes again."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            if context.attempt == 1:
                await asyncio.Event().wait()
            seen.note(event, context)

        bus.subscribe(Noted, handler, name="hangs once", timeout=0.05, retry=AT_ONCE)
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert seen.attempts == [2]

    async def test_reject_and_give_up_on_cost_one_attempt(self) -> None:
        """Rule 6: what cannot succeed is given up at once."""
        bus, tried = self.bus(), list[tuple[str, int]]()
        retry = Retry(max_attempts=9, backoff=Backoff(initial=0), give_up_on=ValueError)

        def rejects(event: Noted, context: Context) -> None:
            tried.append(("rejects", context.attempt))
            raise Reject("no such order")

        def gives_up(event: Noted, context: Context) -> None:
            tried.append(("gives up", context.attempt))
            raise ValueError("bad data")

        bus.subscribe(Noted, rejects, name="rejects", retry=retry)
        bus.subscribe(Noted, gives_up, name="gives up", retry=retry)
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
            letters = await bus.dead_letters.list()
        assert sorted(tried) == [("gives up", 1), ("rejects", 1)]
        assert sorted(letter.kind for letter in letters) == ["Reject", "ValueError"]

    @pytest.mark.parametrize(
        "error", [Broken(), ExceptionGroup("all", [Broken()])], ids=["alone", "in a group"]
    )
    async def test_an_error_that_cannot_be_shown_is_an_error_like_others(
        self, error: Exception
    ) -> None:
        """Rule 6: evidence is kept as far as there is any, and nothing stops."""
        bus, seen = self.bus(), Seen()

        def handler(event: Noted, context: Context) -> None:
            if event.number == 0:
                raise error
            seen.note(event, context)

        bus.subscribe(Noted, handler, name="broken", retry=Retry(max_attempts=1))
        async with bus:
            await publish_all(bus, numbered(10))
            await bus.idle(PATIENCE)
            [letter] = await bus.dead_letters.list()
        assert sorted(seen.numbers) == list(range(1, 10))
        assert letter.kind == type(error).__name__

    async def test_a_cancelled_handler_has_failed(self) -> None:
        """Rule 3: a handler that ends as cancelled has not succeeded."""
        bus, seen = self.bus(), Seen()

        async def handler(event: Noted, context: Context) -> None:
            if context.attempt == 1:
                raise asyncio.CancelledError
            seen.note(event, context)

        bus.subscribe(Noted, handler, name="cancelled", retry=AT_ONCE)
        async with bus:
            await bus.publish(Noted(1))
            await until(lambda: seen.calls, "another attempt")
            await bus.idle(PATIENCE)
        assert seen.numbers == [1]

    async def test_observers_are_told_of_each_attempt(self) -> None:
        """Rule 5: retries, the success after them and dead letters are on record."""
        bus, records = self.bus(), list[Record]()
        bus.observe(records.append)

        def handler(event: Noted, context: Context) -> None:
            if event.number == 0 or context.attempt < 2:
                raise RuntimeError("not yet")

        bus.subscribe(Noted, handler, name="observed", retry=AT_ONCE)
        async with bus:
            await bus.publish(Noted(0), id="dies")
            await bus.publish(Noted(1), id="lives")
            await bus.idle(PATIENCE)

        def told(kind: type[Record], event_id: str) -> list[int]:
            mine = [one for one in records if type(one) is kind and one.event_id == event_id]
            return [vars(one)["attempt"] for one in mine]

        assert told(Retried, "dies") == [1, 2, 3]
        assert told(DeadLettered, "dies") == [4]
        assert told(Retried, "lives") == [1]
        assert told(Handled, "lives") == [2]

    async def test_middleware_and_observers_have_their_own_errors(self) -> None:
        """Rule 3: what middleware raises fails the attempt; what an observer raises, nothing."""
        bus, seen, tries = self.bus(), Seen(), list[int]()

        @bus.middleware(on="handle")
        def around(event: object, context: Context) -> Iterator[None]:
            tries.append(context.attempt)
            if context.attempt == 1:
                raise RuntimeError("before")
            yield
            if context.attempt == 2:
                raise RuntimeError("after")

        @bus.observe
        def breaks(record: Record) -> None:
            raise RuntimeError("an observer's own")

        bus.subscribe(Noted, seen.note, name="notes", retry=AT_ONCE)
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert tries == [1, 2, 3]
        assert seen.attempts == [2, 3]

    async def test_an_error_of_a_handler_reaches_no_publisher(self) -> None:
        """Rule 1: publish is done when the engine has confirmed; handlers fail for themselves."""
        bus = self.bus()

        def fails(event: Noted) -> None:
            raise RuntimeError("always")

        bus.subscribe(Noted, fails, name="fails", retry=Retry(max_attempts=1))
        async with bus:
            receipt = await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert receipt.errors == ()


class Attempts(Engine):
    """Rule 5, where the count must outlive the process that counted."""

    @needs("ledger", "persistent")
    async def test_a_retry_survives_the_bus_and_keeps_its_count(self) -> None:
        """Rules 5 and 7: a far retry is kept with its attempts, and comes in its time."""
        failed, seen = Seen(), Seen()

        def fails(event: Noted, context: Context) -> None:
            failed.note(event, context)
            raise RuntimeError("not yet")

        def opened(handler: Callable[[Noted, Context], None]) -> Bus:
            bus = self.bus()
            bus.subscribe(Noted, handler, name="fails", retry=LATER)
            return bus

        first = opened(fails)
        async with first:
            await first.publish(Noted(1))
            await failed.until(1)
        async with opened(seen.note) as second:
            await second.idle(PATIENCE)
        assert failed.attempts == [1]
        assert seen.attempts == [2]

    @needs("ledger", "persistent")
    async def test_waiting_for_a_retry_does_not_hold_up_the_end(self) -> None:
        """Rule 11: what waits for a later time stays where it is; drain does not wait for it."""
        bus, failed = self.bus(), Seen()

        def fails(event: Noted, context: Context) -> None:
            failed.note(event, context)
            raise RuntimeError("not yet")

        far = Retry(max_attempts=2, backoff=Backoff(initial=3600, maximum=3600, jitter=False))
        bus.subscribe(Noted, fails, name="fails", retry=far)
        async with bus:
            await bus.publish(Noted(1))
            await failed.until(1)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < PATIENCE / 2
        assert failed.attempts == [1]

    async def test_delays_between_attempts_grow_as_the_policy_says(self) -> None:
        """Rule 5: no attempt comes before its time."""
        bus, times = self.bus(), list[float]()
        clock = asyncio.get_running_loop().time

        async def fails(event: Noted) -> None:
            times.append(clock())
            raise RuntimeError("always")

        growing = Retry(max_attempts=3, backoff=Backoff(initial=0.1, factor=3, jitter=False))
        bus.subscribe(Noted, fails, name="fails", retry=growing)
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        first, second = times[1] - times[0], times[2] - times[1]
        assert (first >= 0.09, second >= 0.28) == (True, True)
