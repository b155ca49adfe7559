"""Rule 5 on a transport, attempts: what is begun was claimed before, and what was begun counts."""

import threading
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed

from headwater import Context, Retry
from headwater.policies import Backoff
from headwater.transports.sqlite.log import LANES

SOON = Backoff(initial=0.001, maximum=0.001, jitter=False)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def test_a_claim_is_stored_before_an_event_is_handled(log: Log) -> None:
    """Of the lane it came by, at least up to it: a killed process has left word."""
    short = list[tuple[int, int]]()
    seen = list[int]()

    def ship(event: Placed, context: Context) -> None:
        ((lane,),) = log.ask("SELECT lane FROM log WHERE position = ?", context.position)
        ((claim,),) = log.ask("SELECT claim FROM cursor WHERE lane = ?", lane)
        assert isinstance(context.position, int)
        seen.append(context.position)
        if claim < context.position:
            short.append((claim, context.position))

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship")
    with bus:
        for number in range(60):
            bus.publish(Placed(number))
        bus.idle(PATIENCE)
    assert len(seen) == 60
    assert short == []


def test_a_clean_end_leaves_no_claim_behind(log: Log) -> None:
    """Nothing is suspect for the next one, which need not be careful."""
    bus = log.bus()
    bus.subscribe(Placed, lambda event: None, name="ship")
    with bus:
        for number in range(60):
            bus.publish(Placed(number))
        bus.idle(PATIENCE)
    rows = log.ask("SELECT position, claim, owner FROM cursor")
    assert len(rows) == LANES
    assert all(position == claim and owner is None for position, claim, owner in rows)


def test_each_attempt_counts_and_the_count_is_kept(log: Log) -> None:
    """Until it succeeds: then nothing is kept any more."""
    attempts, kept = list[int](), list[list[tuple[object, ...]]]()

    def ship(event: Paid, context: Context) -> None:
        attempts.append(context.attempt)
        kept.append(log.ask("SELECT state, attempts FROM entry"))
        if context.attempt < 4:
            raise ValueError("not yet")

    bus = log.bus()
    slower = Backoff(initial=0.2, maximum=0.2, jitter=False)
    bus.subscribe(Paid, ship, name="ship", retry=Retry(max_attempts=4, backoff=slower))
    with bus:
        bus.publish(Paid())
        bus.idle(PATIENCE)
        assert log.ask("SELECT * FROM entry") == []
    assert attempts == [1, 2, 3, 4]
    assert kept == [[], [("count", 1)], [("count", 2)], [("count", 3)]]


def test_the_last_attempt_is_the_last(log: Log) -> None:
    """`max_attempts` counts the first one too."""
    attempts = list[int]()

    def ship(event: Paid, context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError("never")

    bus = log.bus()
    bus.subscribe(Paid, ship, name="ship", retry=Retry(max_attempts=3, backoff=SOON))
    with bus:
        bus.publish(Paid())
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result(PATIENCE)
        assert letter.attempts == 3
    assert attempts == [1, 2, 3]


def test_after_an_unclean_end_suspects_run_one_at_a_time_and_are_counted_before(log: Log) -> None:
    """As if the owner before had been killed in the midst of a claim."""
    bus = log.bus()
    bus.subscribe(Placed, lambda event: None, name="ship")
    with bus:
        pass
    with log.bus("till") as till:
        for number in range(24):
            till.publish(Placed(number))
    log.ask("UPDATE cursor SET claim = 16")
    inside, lock, attempts, together, counted = set[int](), threading.Lock(), dict[int, int](), 0, 0

    def ship(event: Placed, context: Context) -> None:
        nonlocal together, counted
        assert isinstance(context.position, int)
        with lock:
            inside.add(context.position)
            if context.position <= 16:
                together = max(together, len([p for p in inside if p <= 16]))
                counted += len(log.ask("SELECT 1 FROM entry WHERE id = ? AND state = 'count'",
                                       context.event_id))  # fmt: skip
        attempts[context.position] = context.attempt
        with lock:
            inside.discard(context.position)

    bus = log.bus()
    bus.subscribe(Placed, ship, name="ship")
    with bus:
        bus.idle(PATIENCE)
        assert log.ask("SELECT * FROM entry") == []
    assert attempts == {p: 2 if p <= 16 else 1 for p in range(1, 25)}
    assert (together, counted) == (1, 16)
