"""Rule 9 on a transport, staged: what a handler publishes leaves when it has succeeded."""

import asyncio
import threading
from pathlib import Path
from uuid import UUID

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, Shipped, wait_until

from headwater import Context, Receipt
from headwater.policies.identity import derived


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def test_the_receipt_of_a_staged_event_says_that_it_is_deferred(log: Log) -> None:
    """It may be awaited, waited for and detached; none of it blocks the handler."""
    receipts = list[Receipt]()
    bus = log.bus()

    async def ship(event: Placed) -> None:
        receipt = bus.publish(Shipped(event.number))
        receipts.append(await receipt)
        assert receipt.detach() is receipt
        assert receipt.wait() is receipt

    async def run() -> None:
        bus.subscribe(Placed, ship, name="ship")
        async with bus:
            await bus.publish(Placed(1))
            await bus.idle(PATIENCE)
            assert await bus.dead_letters.list() == []

    asyncio.run(run())
    (receipt,) = receipts
    assert (receipt.done, receipt.deferred, receipt.errors) == (True, 1, ())
    assert log.names() == ["shop.Placed", "shop.Shipped"]


def test_effects_and_settlement_are_one_transaction(log: Log) -> None:
    """At no moment is one there without the other."""
    torn = list[tuple[int, int]]()
    stop = threading.Event()
    bus = log.bus()
    bus.subscribe(Placed, lambda event: bus.publish(Shipped(event.number)), name="ship")
    query = """
        SELECT (SELECT count(*) FROM log WHERE names = 'shop.Shipped'),
          (SELECT count(*) FROM log JOIN topic ON topic.number = log.topic JOIN cursor
             ON cursor.topic = topic.name AND cursor.lane = log.lane
             WHERE names = 'shop.Placed' AND (log.position <= cursor.position
               OR ',' || cursor.done || ',' LIKE '%,' || log.position || ',%'))
    """

    def watch() -> None:
        while not stop.is_set():
            ((effects, settled),) = log.ask(query)
            if effects != settled:
                torn.append((effects, settled))

    with bus:
        watcher = threading.Thread(target=watch)
        watcher.start()
        for number in range(100):
            bus.publish(Placed(number))
        bus.idle(PATIENCE)
        stop.set()
        watcher.join()
    assert torn == []
    assert log.ask(query) == [(100, 100)]


def test_ids_of_effects_follow_from_their_cause(log: Log) -> None:
    """As the rule says: cause, subscription, name, key, data, repetition."""
    bus = log.bus()

    def ship(event: Placed) -> None:
        for _ in range(3):
            bus.publish(Paid("o1", 5))
        bus.publish(Paid("o1", 6))
        bus.publish(Paid("o1", 5), key="other")
        bus.publish(Paid("o1", 5), id="mine")

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
    rows = log.ask("SELECT id, key, data, causation, depth FROM log ORDER BY position")
    cause = rows[0][0]
    ids = [row[0] for row in rows[1:]]
    assert len(set(ids)) == 6
    assert ids[0] == derived(cause, "shop:ship", "shop.Paid", "o1", rows[1][2])
    assert ids[5] == "mine"
    assert all(UUID(made).version == 8 for made in ids[:5])
    assert all(row[3] == cause and row[4] == 1 for row in rows[1:])


def test_what_is_published_on_another_bus_leaves_at_once(log: Log, tmp_path: Path) -> None:
    """That log cannot be part of this one's transaction."""
    (tmp_path / "far").mkdir()
    far = Log(tmp_path / "far")
    seen = list[list[str]]()
    bus, other = log.bus(), far.bus()

    def ship(event: Placed) -> None:
        other.publish(Shipped(event.number))
        bus.publish(Shipped(event.number))
        seen.append([*far.names(), *log.names()])

    bus.subscribe(Placed, ship, name="ship")
    with other, bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
    assert seen == [["shop.Shipped", "shop.Placed"]]
    assert log.names() == ["shop.Placed", "shop.Shipped"]


def test_what_is_published_after_the_handler_leaves_at_once(log: Log) -> None:
    """By a thread that it has started, say: there is no settlement left to wait for."""
    import contextvars

    go_on, threads = threading.Event(), list[threading.Thread]()
    bus = log.bus()

    def later() -> None:
        assert go_on.wait(PATIENCE)
        bus.publish(Shipped(2))

    def ship(event: Placed) -> None:
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(later,)))
        threads[0].start()

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
        assert log.names() == ["shop.Placed"]
        go_on.set()
        threads[0].join()
        assert log.names() == ["shop.Placed", "shop.Shipped"]
    ((causation, depth),) = log.ask("SELECT causation, depth FROM log WHERE depth > 0")
    assert (causation, depth) == (log.ids()[0], 1)


@pytest.mark.parametrize("immediate", [False, True])
def test_immediate_leaves_before_its_handler_succeeds(log: Log, *, immediate: bool) -> None:
    """And though it fails then; everything else fails with it."""
    bus = log.bus()

    def ship(event: Placed) -> None:
        bus.publish(Shipped(1), immediate=immediate)
        raise ValueError("too late")

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
    assert log.names() == ["shop.Placed", *["shop.Shipped"] * immediate]


def test_what_cannot_be_stored_fails_in_the_handler(log: Log) -> None:
    """At the line that publishes, and not at the settlement."""
    bus = log.bus(max_bytes=200)

    def ship(event: Placed, context: Context) -> None:
        bus.publish("order.note", {"text": "x" * 500})

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result(PATIENCE)
    assert letter.kind == "TooLarge"
    assert "bus.publish(" in letter.traceback


def test_effects_wait_for_a_log_that_is_busy(log: Log) -> None:
    """The handler is not called again for it: what it did is kept until it can be stored."""
    calls = list[int]()
    bus = log.bus(timeout=0.05)
    busy = log.busy()

    def ship(event: Placed) -> None:
        calls.append(event.number)
        bus.publish(Shipped(event.number))
        busy.__enter__()

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed(1))
        wait_until(lambda: calls == [1], "the handler")
        busy.__exit__(None, None, None)
        bus.idle(PATIENCE)
    assert calls == [1]
    assert log.names() == ["shop.Placed", "shop.Shipped"]
