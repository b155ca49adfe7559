"""Rule 3 on a transport, at least once: settled after the handler has succeeded, and not before."""

import threading
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, wait_until

from headwater import Reject


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test, with the place of one subscription."""
    log = Log(tmp_path)
    with log.bus() as bus:
        bus.subscribe(Placed, lambda event: None, name="ship")
    return log


def settled(log: Log) -> bool:
    """Whether the only event in the log is settled."""
    ((position, topic, lane),) = log.ask("SELECT position, topic, lane FROM log")
    ((place,),) = log.ask(
        "SELECT position FROM cursor JOIN topic ON topic.name = cursor.topic"
        " WHERE number = ? AND lane = ? AND subscription = 'shop:ship'", topic, lane,
    )  # fmt: skip
    return bool(place >= position)


def test_an_event_is_not_settled_while_it_is_handled(log: Log) -> None:
    """Whoever would take over now would handle it again."""
    entered, go_on = threading.Event(), threading.Event()

    def ship(event: Placed) -> None:
        entered.set()
        assert go_on.wait(PATIENCE)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.publish(Placed())
        assert entered.wait(PATIENCE)
        assert not settled(log)
        go_on.set()
        wait_until(lambda: settled(log), "settled")


@pytest.mark.parametrize("error", [ValueError("broken"), Reject("no such item")], ids=repr)
def test_what_was_given_up_is_settled_once_it_is_kept(log: Log, error: Exception) -> None:
    """The dead letter and the place in the log are one transaction: it does not come again."""
    calls = list[int]()

    def ship(event: Placed) -> None:
        calls.append(event.number)
        raise error

    for _ in range(2):
        bus = log.bus()
        bus.subscribe(Placed, ship, name="ship")
        with bus:
            if not calls:
                bus.publish(Placed(7))
            bus.idle(PATIENCE)
            assert settled(log)
            assert len(bus.dead_letters.list().result(PATIENCE)) == 1
    assert calls == [7]


def test_an_event_that_was_settled_beyond_a_gap_does_not_come_again(log: Log) -> None:
    """The slow one before it does, the next owner of the lane is told of the others."""
    first, go_on, seen = threading.Event(), threading.Event(), list[int]()

    def ship(event: Placed) -> None:
        if event.number == 0 and not go_on.is_set():
            first.set()
            assert go_on.wait(PATIENCE)
            raise KeyboardInterrupt  # It did not come to its end.
        seen.append(event.number)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship", concurrency=4)
    with bus:
        for number in range(17):  # Lanes in turn: numbers 8 and 16 come by the lane of number 0.
            bus.publish(Placed(number))
        assert first.wait(PATIENCE)
        wait_until(lambda: len(seen) == 16, "the others")
        wait_until(lambda: log.ask("SELECT 1 FROM cursor WHERE done <> ''"), "the gap is kept")
        threading.Timer(0.05, go_on.set).start()
        bus.stop()
    assert 0 not in seen
    again = log.bus()
    again.subscribe(Placed, ship, name="ship")
    with again:
        again.idle(PATIENCE)
    assert sorted(seen) == list(range(17))


def test_where_refuses_and_the_event_is_settled(log: Log) -> None:
    """What is not wanted is done with."""
    bus = log.bus()
    bus.subscribe(Placed, lambda event: None, name="ship", where=lambda event: event.number > 5)
    with bus:
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
        assert settled(log)


def test_an_event_of_another_class_moves_the_place_along(log: Log) -> None:
    """Not at once, but when the next one that is wanted is settled."""
    seen = list[int]()
    bus = log.bus()
    bus.subscribe(Placed, lambda event: seen.append(event.number), name="ship")
    with bus:
        for number in range(20):
            bus.publish(Paid(number=number))
        bus.publish(Placed(1))
        bus.idle(PATIENCE)
    assert seen == [1]
