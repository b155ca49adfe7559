"""Rule 7 on a transport, the ledger: exceptions are kept there, plain success leaves no trace."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, wait_until

from headwater import Context, Retry, RetryLater
from headwater.policies import Backoff

FAR = Retry(max_attempts=3, backoff=Backoff(initial=50, jitter=False))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def states(log: Log) -> list[str]:
    """What the ledger holds, in order."""
    return [row[0] for row in log.ask("SELECT state FROM entry ORDER BY number")]


def test_success_leaves_no_trace(log: Log) -> None:
    """Not even while it is under way."""
    during = list[Any]()
    bus = log.bus()
    bus.subscribe(Paid, lambda event: during.extend(states(log)), name="ship")
    with bus:
        for number in range(50):
            bus.publish(Paid(f"o{number % 5}", number))
        bus.idle(PATIENCE)
    assert during == states(log) == []
    assert log.ask("SELECT * FROM inbox") == log.ask("SELECT * FROM later") == []


def test_a_far_retry_waits_in_the_ledger_with_its_time(log: Log) -> None:
    """Its followers wait there too, behind it and in order; other keys go on."""
    seen = list[tuple[str, int]]()

    def ship(event: Paid) -> None:
        if event.order_id == "bad":
            raise ValueError("later")
        seen.append((event.order_id, event.number))

    bus = log.bus()
    bus.subscribe(Paid, ship, name="ship", retry=FAR)
    with bus:
        for number in range(4):
            bus.publish(Paid("bad", number))
            bus.publish(Paid("good", number))
        wait_until(lambda: len(seen) == 4 and len(states(log)) == 4, "held and handled")
    assert states(log) == ["retry", "blocked", "blocked", "blocked"]
    ((due, time, attempts, kind),) = log.ask(
        "SELECT due, time, attempts, kind FROM entry WHERE state = 'retry'"
    )
    assert due - time == pytest.approx(50, abs=1)
    assert (attempts, kind) == (1, "ValueError")
    assert seen == [("good", number) for number in range(4)]


def test_what_waits_in_the_ledger_is_settled_in_the_log(log: Log) -> None:
    """It holds up no lane, and keeps no event from being removed."""
    bus = log.bus()

    def ship(event: Placed) -> None:
        raise RetryLater(100)

    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed())
        wait_until(lambda: states(log) == ["retry"], "put by")
    ((position, lane),) = log.ask("SELECT position, lane FROM log")
    ((place,),) = log.ask("SELECT position FROM cursor WHERE lane = ?", lane)
    assert place >= position
    assert log.ask("SELECT attempts FROM entry") == [(0,)], "it costs no attempt"


def test_entries_are_handled_in_the_order_of_their_key_when_the_time_has_come(log: Log) -> None:
    """By another run of the program, as if the time had passed."""
    seen, healthy = list[int](), False

    def ship(event: Paid, context: Context) -> None:
        if not healthy:
            raise ValueError("not yet")
        seen.append(event.number)

    bus = log.bus()
    bus.subscribe(Paid, ship, name="ship", retry=FAR)
    with bus:
        for number in range(5):
            bus.publish(Paid("o1", number))
        wait_until(lambda: len(states(log)) == 5, "put by")
    log.ask("UPDATE entry SET due = 0 WHERE state = 'retry'")
    healthy = True
    again = log.bus()
    again.subscribe(Paid, ship, name="ship", retry=FAR)
    with again:
        again.publish(Paid("o1", 5))
        again.idle(PATIENCE)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert states(log) == []


def test_delayed_events_wait_in_the_log_and_not_in_memory(log: Log) -> None:
    """Those that are due later are there for the next run of the program."""
    with log.bus() as bus:
        bus.publish(Placed(1), delay=3600, id="e1")
        bus.publish(Placed(1), delay=3600, id="e1")
    assert log.ids() == []
    ((due, id_),) = log.ask("SELECT due, id FROM later")
    assert id_ == "e1"
    log.ask("UPDATE later SET due = 0")
    handled = threading.Event()
    bus = log.bus()
    bus.subscribe(Placed, lambda event: handled.set(), name="ship", start="beginning")
    with bus:
        assert handled.wait(PATIENCE)
    assert log.ids() == ["e1"]
    assert due > 1.7e9


def test_a_delayed_event_that_is_there_already_is_not_stored_again(log: Log) -> None:
    """An id is one event, whenever it is due."""
    with log.bus() as bus:
        bus.publish(Placed(1), id="e1")
        bus.publish(Placed(1), id="e1", delay=3600)
        bus.publish(Placed(2), id="e2", delay=0.01)
        wait_until(lambda: log.ids() == ["e1", "e2"], "the delayed one")
        bus.publish(Placed(2), id="e2")
    assert log.ids() == ["e1", "e2"]
    assert log.ask("SELECT * FROM later") == []


def test_idle_waits_for_what_the_ledger_holds(log: Log) -> None:
    """A bus with a retry ahead is not idle."""

    async def ship(event: Placed, context: Context) -> None:
        if context.attempt == 1:
            raise RetryLater(60)

    async def run() -> None:
        bus = log.bus()
        bus.subscribe(Placed, ship, name="ship")
        async with bus:
            await bus.publish(Placed())
            with pytest.raises(TimeoutError):
                await bus.idle(0.2)

    asyncio.run(run())
    assert states(log) == ["retry"]
