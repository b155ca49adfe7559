"""The log in memory: shared by name, fenced, told at once, and moved by virtual time."""

import asyncio
import functools
import gc
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import pytest

from headwater import Backoff, Bus, Context, Retry, event
from headwater.envelope import Envelope
from headwater.errors import Fenced, InvalidOption, PublishFailed, TransactionOver
from headwater.lane import (
    Assigned,
    Batch,
    Event,
    Interest,
    Lane,
    Lost,
    Nudge,
    Outgoing,
    Revoking,
    Settlement,
)
from headwater.ledger import Letters
from headwater.runtime import Runtime, new_id
from headwater.testing import VirtualRuntime
from headwater.transport import Loan
from headwater.transports.memory import MemoryTransport

PATIENCE = 10.0
NOTES = Interest("shop:notes", ("events",), ("*",))


@event(name="memory.noted", key="key")
@dataclass(frozen=True)
class Noted:
    key: str
    number: int


def envelope(
    id: str, key: str | None = "k", *, time: float = 1.0, topic: str = "events"
) -> Envelope:
    """An event that was published at a time."""
    return Envelope(id, topic, key, "noted", 1, time, None, None, 0, None, b"{}")


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- anything may be a condition
            await asyncio.sleep(0)


class Opened:
    """A transport in this loop, and what it has told."""

    def __init__(self, url: str, runtime: Runtime | None = None) -> None:
        self.transport = MemoryTransport(url, runtime or Runtime(), "shop")
        self.told: list[Event] = []
        self.confirmed: list[tuple[Any, BaseException | None]] = []
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.transport.open(self._confirm)
        self._listening = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.transport.close()
        assert self._listening is not None
        await self._listening

    def _confirm(self, tokens: Any, error: BaseException | None) -> None:
        self.confirmed += [(token, error) for token in tokens]

    async def _listen(self) -> None:
        async for told in self.transport.events():
            self.told.append(told)

    def of(self, kind: type[Any]) -> list[Any]:
        """What it has told of one kind."""
        return [told for told in self.told if isinstance(told, kind)]

    @property
    def ids(self) -> list[str]:
        """The ids of the events that were handed out."""
        return [it.envelope.id for batch in self.of(Batch) for it in batch.received]

    async def read(self, interest: Interest = NOTES) -> None:
        """Register a subscription, and compete for it."""
        await self.transport.ensure([interest])
        await self.transport.subscribe(interest)

    async def store(self, *envelopes: Envelope, due: float | None = None) -> None:
        """Publish, and wait until that is confirmed."""
        wanted = len(self.confirmed) + len(envelopes)
        for each in envelopes:
            self.transport.publish(Outgoing(each, due, each.id))
        await until(lambda: len(self.confirmed) == wanted)

    async def settle(self, settlement: Settlement) -> BaseException | None:
        """Settle, and wait for the answer."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.transport.settle([settlement], done.set_result)
        errors: list[BaseException | None] = await done
        return errors[0]

    async def borrow(self, lane: Lane | None = None, epoch: int = 0) -> Any:
        """Borrow a transaction; the loan or the error."""
        granted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.transport.borrow(lane, epoch, granted.set_result)
        return await granted

    def vanish(self) -> None:
        """As if the bus had been taken away without a word."""
        self.transport._log.leave(self.transport, clean=False)


async def give_back(loan: Loan, *, commit: bool) -> BaseException | None:
    """End a transaction, and wait for the answer."""
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    loan.give_back(commit=commit, done=done.set_result)
    return await done


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop of its own."""
    asyncio.run(asyncio.wait_for(test, 3 * PATIENCE))


def fresh() -> str:
    """The URL of a log with a name that nobody else has."""
    return f"memory://{new_id()}"


# Which log.


def test_buses_that_name_the_same_log_share_it() -> None:
    """What one publishes the others handle; each name of a bus gets every event."""

    async def test() -> None:
        url = fresh()
        shop, mail, seen = Bus(url, name="shop"), Bus(url, name="mail"), list[tuple[str, int]]()
        shop.subscribe(Noted, lambda it: seen.append(("shop", it.number)), name="notes")
        mail.subscribe(Noted, lambda it: seen.append(("mail", it.number)), name="notes")
        async with shop, mail:
            await shop.publish(Noted("a", 1))
            await mail.publish(Noted("a", 2))
            await shop.idle(PATIENCE)
            await mail.idle(PATIENCE)
        assert sorted(seen) == [("mail", 1), ("mail", 2), ("shop", 1), ("shop", 2)]

    run(test())


def test_a_log_without_a_name_belongs_to_one_bus() -> None:
    """Even if another bus has the same name, and shares its runtime."""

    async def test() -> None:
        runtime, seen = Runtime(), list[int]()
        buses = list[Bus]()
        for number in range(3):
            bus = Bus("memory://", name="shop", runtime=runtime)
            buses.append(bus)
            note = functools.partial(_note, seen, number)
            bus.subscribe(Noted, note, name=f"notes {number}", start="beginning")
            async with bus:
                await bus.publish(Noted("a", 1))
                await bus.idle(PATIENCE)
        assert seen == [0, 1, 2]
        runtime.close()

    run(test())


def _note(seen: list[int], number: int, it: Noted) -> None:
    seen.append(number)


def test_a_log_without_a_name_lasts_as_long_as_its_bus() -> None:
    """Closed and started again, it goes on where it was, and knows every id."""

    async def test() -> None:
        bus, seen = Bus("memory://", name="shop"), list[int]()
        bus.subscribe(Noted, lambda it: seen.append(it.number), name="notes")
        for number in (1, 2):
            async with bus:
                await bus.publish(Noted("a", number))
                await bus.publish(Noted("a", 0), id="once")
                await bus.idle(PATIENCE)
        assert seen == [1, 0, 2]

    run(test())


def test_a_named_log_is_gone_with_its_last_bus() -> None:
    """The next one of that name begins anew."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one:
            await one.store(envelope("a"))
        async with Opened(url) as two:
            assert await two.transport.locate(None) == 1
        del one, two
        gc.collect()
        async with Opened(url) as three:
            assert await three.transport.locate(None) == 0

    run(test())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory:///log", "a log in memory has a name, and no path"),
        ("memory://log/part", "a log in memory has a name, and no path"),
        ("memory://?max_byte=1", "unknown setting 'max_byte'; did you mean 'max_bytes'"),
        ("memory://?max_bytes=0", "max_bytes: expected a number > 0, got '0'"),
        ("memory://?max_bytes=1e3", "max_bytes: expected a number > 0, got '1e3'"),
        ("memory://log?lease=soon", "lease: expected a number > 0, got 'soon'"),
        ("memory://log?lease=nan", "lease: expected a number > 0, got 'nan'"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str, text: str) -> None:
    """With what was expected, and what came."""
    with pytest.raises(InvalidOption) as refused:
        Bus(url, name="shop")
    assert text in str(refused.value)


def test_the_largest_event_is_what_the_url_says() -> None:
    """1 MiB, unless told."""
    assert MemoryTransport("memory://", Runtime(), "shop").capabilities.max_bytes == 1 << 20
    small = MemoryTransport("memory://?max_bytes=100&lease=2", Runtime(), "shop")
    assert small.capabilities.max_bytes == 100


# Publish.


def test_a_receipt_is_confirmed_by_the_log_and_not_by_publish() -> None:
    """On other engines it takes a while: what forgets to wait shall fail here too."""

    async def test() -> None:
        async with Opened("memory://") as log:
            log.transport.publish(Outgoing(envelope("a"), None, "a"))
            assert log.confirmed == []
            assert await log.transport.locate(None) == 0
            await until(lambda: log.confirmed == [("a", None)])
            assert await log.transport.locate(None) == 1

    run(test())


def test_what_was_published_before_the_close_is_stored() -> None:
    """And what comes after it is refused."""

    async def test() -> None:
        async with Opened("memory://") as log:
            log.transport.publish(Outgoing(envelope("a"), None, "a"))
        assert log.confirmed == [("a", None)]
        log.transport.publish(Outgoing(envelope("b"), None, "b"))
        await until(lambda: len(log.confirmed) == 2)
        assert isinstance(log.confirmed[1][1], PublishFailed)
        assert await log.transport.locate(None) == 1

    run(test())


def test_an_id_is_stored_once() -> None:
    """Also if it waits for its time."""

    async def test() -> None:
        async with Opened("memory://", VirtualRuntime(start=0.0)) as log:
            await log.store(envelope("a"), envelope("a"))
            await log.store(envelope("b"), due=5.0)
            await log.store(envelope("b"), envelope("a"))
            await log.store(envelope("a"), due=5.0)
            assert await log.transport.locate(None) == 1

    run(test())


def test_many_threads_publish_at_once() -> None:
    """Every event is stored, in one line without gaps, each thread's in its order."""
    bus, seen = Bus("memory://", name="shop"), list[Noted]()
    bus.subscribe(Noted, seen.append, name="notes", start="beginning")

    def publish(key: str) -> None:
        for number in range(50):
            bus.publish(Noted(key, number))

    with bus:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, "abcdefgh"))
        bus.idle(PATIENCE)
    assert Counter(it.key for it in seen) == dict.fromkeys("abcdefgh", 50)
    for key in "abcdefgh":
        assert [it.number for it in seen if it.key == key] == list(range(50))


def test_a_delayed_event_comes_when_its_time_has_come() -> None:
    """The time of the bus's runtime, which a test moves by hand; until then it waits."""

    async def test() -> None:
        runtime = VirtualRuntime(start=1_000.0)
        async with Opened("memory://", runtime) as log:
            await log.store(envelope("late"), due=1_060.0)
            await log.store(envelope("soon"), due=1_030.0)
            await until(lambda: runtime.waiting == [30.0])
            await log.read(NOTES._replace(start="beginning"))
            assert (await log.transport.probe([NOTES.subscription]))[0].waiting == 2
            await asyncio.to_thread(runtime.advance, 30.0)
            await until(lambda: runtime.waiting == [60.0])
            assert await log.transport.locate(None) == 1
            await asyncio.to_thread(runtime.advance, 30.0)
            await until(lambda: len(log.transport._log.events) == 2)
            rows, _ = await log.transport.read(None, 0, None, 10)
            assert [row.envelope.id for row in rows] == ["soon", "late"]
            assert (await log.transport.probe([NOTES.subscription]))[0].waiting == 0
            assert runtime.waiting == []
            await log.store(envelope("again"), due=1_060.0)
            await until(lambda: runtime.waiting == [60.0])
            await asyncio.to_thread(runtime.advance, 0.0)
            await until(lambda: len(log.transport._log.events) == 3)

    run(test())


def test_a_delay_waits_while_nobody_has_the_log_open() -> None:
    """Whoever opens it next waits for it."""

    async def test() -> None:
        runtime, url = VirtualRuntime(start=0.0), fresh()
        first, second = Opened(url, runtime), Opened(url, runtime)
        async with first:
            await first.store(envelope("a"), due=5.0)
        runtime.advance(9.0)
        async with second:
            await until(lambda: runtime.waiting == [9.0])
            await asyncio.to_thread(runtime.advance, 0.0)
            await until(lambda: len(second.transport._log.events) == 1)

    run(test())


def test_a_retry_far_off_comes_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passes when the test says so, and nothing is touched from the test's thread."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")  # Loops refuse calls from other threads.

    async def test() -> None:
        runtime, attempts = VirtualRuntime(), list[int]()
        bus = Bus("memory://", name="shop", runtime=runtime)

        def handler(it: Noted, context: Context) -> None:
            attempts.append(context.attempt)
            if context.attempt < 2:
                raise RuntimeError("not yet")

        hourly = Retry(max_attempts=2, backoff=Backoff(initial=3600, maximum=3600))
        bus.subscribe(Noted, handler, name="notes", retry=hourly)
        async with bus:
            await bus.publish(Noted("a", 1))
            await until(lambda: runtime.waiting)
            assert attempts == [1]
            await asyncio.to_thread(runtime.advance, 3600.0)
            await bus.idle(PATIENCE)
        assert attempts == [1, 2]

    run(test())


# Lanes.


def test_lanes_are_shared_out_evenly() -> None:
    """Who has too many is asked for them, and who comes gets them when they are released."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            await one.read()
            await until(lambda: len(one.of(Assigned)) == 8)
            await two.read()
            await until(lambda: len(one.of(Revoking)) == 4)
            assert two.told == []
            for lane, epoch in one.of(Revoking):
                await one.transport.release(lane, epoch)
            await until(lambda: len(two.of(Assigned)) == 4)
            assert {it.lane for it in two.of(Assigned)} == {it.lane for it in one.of(Revoking)}
            assert {it.epoch for it in two.of(Assigned)} == {2}
            await one.store(*[envelope(f"{n}", None) for n in range(8)])
            for lane, _ in one.of(Revoking):
                one.transport.credit(lane, 1)  # Too late: it is not its lane any more.
            assert two.transport._log.take(two.transport) == []
            assert len(one.of(Revoking)) == 4

    run(test())


def test_a_lane_that_is_given_back_unasked_goes_to_somebody_else() -> None:
    """Who does not want it is not given it again at once."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            await one.read()
            await until(lambda: len(one.of(Assigned)) == 8)
            for lane, epoch, *_ in one.of(Assigned)[:4]:
                await one.transport.release(lane, epoch)
            await two.read()
            await until(lambda: len(two.of(Assigned)) == 4)
            assert len(one.of(Assigned)) == 8

    run(test())


def test_a_lane_that_nobody_else_needs_any_more_comes_back() -> None:
    """It was asked for, and who asked has gone meanwhile."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one:
            await one.read()
            async with Opened(url) as two:
                await two.read()
                await until(lambda: len(one.of(Revoking)) == 4)
            for lane, epoch in one.of(Revoking):
                await one.transport.release(lane, epoch)
            await until(lambda: len(one.of(Assigned)) == 12)

    run(test())


def test_a_bus_that_is_closed_gives_its_lanes_back_clean() -> None:
    """The next owner goes on at once, at the place that was settled."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as two:
            async with Opened(url) as one:
                await one.read()
                await one.store(*[envelope(str(number)) for number in range(9)])
                await until(lambda: len(one.of(Assigned)) == 8)
                for lane, epoch, *_ in one.of(Assigned):
                    assert await one.settle(Settlement(lane, epoch, 2, [4], claim=9)) is None
            await two.read()
            await until(lambda: len(two.of(Assigned)) == 8)
            for told in two.of(Assigned):
                assert (told.epoch, told.position, told.suspect, told.done) == (2, 2, 2, {4})

    run(test())


def test_what_a_vanished_bus_may_have_begun_is_suspect() -> None:
    """Its lanes are free at once; it is told that they are lost, and settles nothing more."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            await one.read()
            await until(lambda: len(one.of(Assigned)) == 8)
            lane, epoch, *_ = one.of(Assigned)[0]
            assert await one.settle(Settlement(lane, epoch, 2, [], claim=9)) is None
            await two.read()
            one.vanish()
            await until(lambda: len(two.of(Assigned)) == 8)
            assert len(one.of(Lost)) == 8
            (told,) = [it for it in two.of(Assigned) if it.lane == lane]
            assert (told.epoch, told.position, told.suspect) == (2, 2, 9)
            stale = Settlement(lane, epoch, 9, [], 9, [(envelope("a"), None)])
            assert isinstance(await one.settle(stale), Fenced)
            assert isinstance(await one.borrow(lane, epoch), Fenced)
            assert await one.transport.locate(None) == 0
            assert await two.settle(Settlement(lane, 2, 3, [], 9)) is None

    run(test())


def test_events_are_handed_out_as_far_as_there_is_credit() -> None:
    """In order, and each batch says up to where it is complete."""

    async def test() -> None:
        async with Opened("memory://") as log:
            await log.read()
            await until(lambda: len(log.of(Assigned)) == 8)
            await log.store(envelope("1"), envelope("2"), envelope("x", "other"), envelope("3"))
            (lane,) = {it.lane for it in log.of(Assigned) if it.lane.number == _lane("k")}
            assert log.ids == []
            log.transport.credit(lane, 2)
            await until(lambda: log.ids == ["1", "2"])
            assert log.of(Batch)[-1].end == 3
            await log.store(envelope("4"))
            assert log.transport._log.take(log.transport) == []
            log.transport.credit(lane, 5)
            await until(lambda: log.ids == ["1", "2", "3", "4"])
            assert log.of(Batch)[-1].end == 5

    run(test())


def _lane(key: str) -> int:
    """The number of a key's lane, which is part of what is stored elsewhere."""
    return zlib.crc32(key.encode()) % 8


def test_two_buses_of_one_name_share_the_work() -> None:
    """Every event once, in the order of its key, while buses come and go."""

    async def test() -> None:
        url, seen = fresh(), list[tuple[int, Noted]]()

        def bus(at: int) -> Bus:
            bus = Bus(url, name="shop")
            bus.subscribe(Noted, lambda it: seen.append((at, it)), name="notes", start="beginning")
            return bus

        one, two = bus(1), bus(2)
        async with one:
            await _publish(one, range(10))
            async with two:
                await _publish(two, range(10, 40))
                await one.idle(PATIENCE)
            await _publish(one, range(40, 50))
            await one.idle(PATIENCE)
        assert {at for at, _ in seen} == {1, 2}
        for key in "abcdefghij":
            assert [it.number for _, it in seen if it.key == key] == list(range(50))

    run(test())


async def _publish(bus: Bus, numbers: range) -> None:
    receipts = [bus.publish(Noted(key, number)) for number in numbers for key in "abcdefghij"]
    for receipt in receipts:
        await receipt


# Transactions.


def test_what_is_done_in_a_transaction_is_kept_or_undone() -> None:
    """Rows, events and the note that an event was handled, all of it or nothing."""

    async def test() -> None:
        async with Opened("memory://") as log:
            for commit in (False, True):
                loan = await log.borrow()
                loan.connection.execute("create table effect(id)")
                loan.publish(envelope("a"), None)
                assert loan.is_new("s", "e", "events", 0, 1)
                assert await give_back(loan, commit=commit) is None
                assert await log.transport.locate(None) == commit
            loan = await log.borrow()
            assert not loan.is_new("s", "e", "events", 0, 1)
            assert loan.connection.execute("select count(*) from effect").fetchone() == (0,)
            assert await give_back(loan, commit=False) is None

    run(test())


def test_one_borrower_at_a_time() -> None:
    """The next one is served when the one before has given back, in their order."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            first = await one.borrow()
            waiting = [asyncio.ensure_future(it.borrow()) for it in (two, one)]
            await one.store(envelope("a"))  # Who publishes does not wait.
            assert not any(it.done() for it in waiting)
            await give_back(first, commit=True)
            second = await waiting[0]
            assert not waiting[1].done()
            await give_back(second, commit=False)
            await give_back(await waiting[1], commit=True)

    run(test())


def test_a_transaction_that_has_ended_refuses_its_borrower() -> None:
    """A handler that goes on after its timeout cannot touch the next one's."""

    async def test() -> None:
        async with Opened("memory://") as log:
            loan = await log.borrow()
            assert not hasattr(loan.connection, "commit")
            await give_back(loan, commit=True)
            with pytest.raises(TransactionOver):
                loan.connection.execute("select 1")
            with pytest.raises(TransactionOver):
                loan.publish(envelope("a"), None)
            assert isinstance(await give_back(loan, commit=True), TransactionOver)

    run(test())


def test_a_borrower_that_lost_its_lane_is_undone() -> None:
    """At the latest when it wants to commit."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            await one.read()
            await until(lambda: len(one.of(Assigned)) == 8)
            lane, epoch, *_ = one.of(Assigned)[0]
            loan = await one.borrow(lane, epoch)
            loan.connection.execute("create table effect(id)")
            loan.publish(envelope("a"), None)
            await two.read()
            one.vanish()
            assert isinstance(await give_back(loan, commit=True), Fenced)
            assert await two.transport.locate(None) == 0
            loan = await two.borrow()
            loan.connection.execute("create table effect(id)")
            assert await give_back(loan, commit=True) is None

    run(test())


def test_a_commit_that_the_database_refuses_is_no_commit() -> None:
    """Nothing of it is kept, and the next borrower is served."""

    async def test() -> None:
        async with Opened("memory://") as log:
            loan = await log.borrow()
            loan.connection.execute("create table one(id integer primary key)")
            loan.connection.execute(
                "create table two(id references one deferrable initially deferred)"
            )
            await give_back(loan, commit=True)
            log.transport._log.desk._database().execute("pragma foreign_keys=on")
            loan = await log.borrow()
            loan.connection.execute("insert into two values(7)")
            loan.publish(envelope("a"), None)
            assert isinstance(await give_back(loan, commit=True), PublishFailed)
            assert await log.transport.locate(None) == 0
            loan = await log.borrow()
            assert loan.connection.execute("select count(*) from two").fetchone() == (0,)
            await give_back(loan, commit=False)

    run(test())


def test_who_waits_for_a_transaction_of_a_closed_log_is_told() -> None:
    """And who asks later, too."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one:
            loan = await one.borrow()
            async with Opened(url) as two:
                waiting = asyncio.ensure_future(two.borrow())
                await two.store(envelope("a"))
            assert isinstance(await waiting, TransactionOver)
            assert isinstance(await two.borrow(), TransactionOver)
            assert await give_back(loan, commit=True) is None

    run(test())


def test_a_handler_that_writes_on_a_database_writes_here() -> None:
    """The same handler, with the same connection: effects happen once."""

    async def test() -> None:
        bus = Bus("memory://", name="shop")

        def handler(it: Noted, context: Context) -> None:
            context.transaction.execute("insert into effect values(?)", (it.number,))

        bus.subscribe(Noted, handler, name="writes", transaction=True)
        async with bus:
            async with bus.transaction() as transaction:
                transaction.execute("create table effect(number integer)")
            await _publish(bus, range(3))
            await bus.idle(PATIENCE)
            async with bus.transaction() as transaction:
                rows = transaction.execute("select number, count(*) from effect group by number")
                assert rows.fetchall() == [(0, 10), (1, 10), (2, 10)]

    run(test())


# Read and look.


def test_the_past_is_read_in_pieces() -> None:
    """Each says up to where it is complete; a time is found, and a topic is told apart."""

    async def test() -> None:
        async with Opened("memory://") as log:
            await log.store(
                *[envelope(f"{n}", time=float(n), topic="ab"[n % 2]) for n in range(1, 7)]
            )
            read, locate = log.transport.read, log.transport.locate
            rows, covered = await read(None, 1, None, 3)
            assert ([row.position for row in rows], covered) == ([2, 3, 4], 4)
            rows, covered = await read(["a"], 2, 5, 100)
            assert ([row.position for row in rows], covered) == ([4], 5)
            assert await read(None, 6, None, 9) == ([], 6)
            assert [await locate(time) for time in (0.0, 3.0, 3.5, 9.0)] == [0, 2, 3, 6]
            assert await locate(None) == 6

    run(test())


def test_progress_says_how_far_a_subscription_is() -> None:
    """What is settled beyond the place counts as settled."""

    async def test() -> None:
        async with Opened("memory://") as log:
            assert await log.transport.ensure([NOTES]) == ["shop:notes"]
            assert await log.transport.ensure([NOTES]) == []
            assert await log.transport.strangers("shop:", ["shop:other"]) == ["shop:notes"]
            assert await log.transport.strangers("mail:", []) == []
            await log.transport.subscribe(NOTES)
            await until(lambda: len(log.of(Assigned)) == 8)
            await log.store(*[envelope(f"{n}", time=float(n)) for n in range(1, 5)])
            (before,) = await log.transport.probe(["shop:notes"])
            assert (before.lag, before.oldest) == (4, 1.0)
            lane = Lane("shop:notes", "events", _lane("k"))
            await log.settle(Settlement(lane, 1, 1, [2], 4))
            (after, nobody) = await log.transport.probe(["shop:notes", "shop:nobody"])
            assert (after.lag, after.oldest) == (2, 3.0)
            assert (nobody.lag, nobody.oldest) == (0, None)

    run(test())


def test_who_watches_is_called_for_what_comes() -> None:
    """From any bus on the log, on the own loop, until it ends that."""

    async def test() -> None:
        url, looks = fresh(), list[str]()
        async with Opened(url) as one, Opened(url) as two:
            here = threading.current_thread().name
            stop = one.transport.watch(lambda: looks.append(threading.current_thread().name))
            await two.store(envelope("a"))
            await until(lambda: looks == [here])
            stop()
            await two.store(envelope("b"))
            await asyncio.sleep(0)
            assert looks == [here]

    run(test())


def test_people_wake_every_bus_on_the_log() -> None:
    """A dead letter that one lets go on may be another one's to handle."""

    async def test() -> None:
        url = fresh()
        async with Opened(url) as one, Opened(url) as two:
            await one.transport.ledger.retry(Letters(), 1.0)
            await until(lambda: one.of(Nudge) and two.of(Nudge))

    run(test())
