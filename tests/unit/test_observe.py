"""Observers: every record that a direct bus can emit, seen with the right fields."""

import gc
import logging
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, TypeVar

import pytest

from headwater import (
    Backoff,
    Breaker,
    Bus,
    EventStorm,
    Rate,
    Resequence,
    Retry,
    RetryLater,
    event,
    records,
)
from headwater.errors import BreakerOpen, InvalidHandler, OutOfSequence, RateExceeded
from headwater.records import (
    Abandoned,
    BreakerChanged,
    DeadLettered,
    Deferred,
    DeliveryRecord,
    Failed,
    GapSkipped,
    Handled,
    Published,
    Record,
    Retried,
    Skipped,
    StormStopped,
    SubscriberDied,
    Unhandled,
)
from headwater.testing import VirtualRuntime

R = TypeVar("R", bound=Record)

START = 1_700_000_000.0


@event(key="shop")
@dataclass(frozen=True)
class Sold:
    number: int = 1
    shop: str = "north"


class Seen(list[Record]):
    """The records of one bus."""

    def of(self, kind: type[R]) -> list[R]:
        """Those of one class."""
        return [record for record in self if type(record) is kind]

    def one(self, kind: type[R]) -> R:
        """The only one of its class."""
        (record,) = self.of(kind)
        return record


def observed(**options: Any) -> tuple[Bus, VirtualRuntime, Seen]:
    """A bus in virtual time, and its records."""
    runtime = VirtualRuntime(start=START)
    bus, seen = Bus(runtime=runtime, **options), Seen()
    bus.observe(seen.append)
    return bus, runtime, seen


def fail(event: object) -> None:
    """A handler that fails."""
    raise ZeroDivisionError("no")


def test_published_and_handled_tell_one_event() -> None:
    """Its lineage, and who handled it how fast."""
    bus, runtime, seen = observed()

    def slow(sold: Sold) -> None:
        runtime.advance(2.0)

    bus.subscribe(Sold, slow, name="slow")
    bus.publish(Sold(), id="e1")
    assert seen == [
        Published(
            time=START,
            name="Sold",
            event_id="e1",
            event=Sold(),
            key="north",
            correlation_id="e1",
            causation_id=None,
            depth=0,
            receivers=1,
        ),
        Handled(
            time=START + 2,
            name="Sold",
            event_id="e1",
            subscription="slow",
            attempt=1,
            seconds=2.0,
        ),
    ]


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_handled_is_told_of_every_colour(colour: str) -> None:
    """Before the receipt is done."""
    bus, _, seen = observed()

    async def later(sold: Sold) -> None:
        pass

    if colour == "async":
        bus.subscribe(Sold, later, name="handler")
    else:
        bus.subscribe(Sold, lambda sold: None, name="handler", executor="thread")
    bus.publish(Sold(), id="e1")
    handled = seen.one(Handled)
    assert (handled.subscription, handled.event_id, handled.attempt) == ("handler", "e1", 1)
    bus.close()


def test_what_a_handler_publishes_is_told_with_its_cause() -> None:
    """Correlation, causation and depth."""
    bus, _, seen = observed()
    bus.subscribe("first", lambda data: bus.publish("second", 2, id="e2"))
    bus.subscribe("second", lambda data: None)
    bus.publish("first", 1, id="e1")
    second = seen.of(Published)[1]
    assert (second.name, second.event, second.key) == ("second", 2, None)
    assert (second.correlation_id, second.causation_id, second.depth) == ("e1", "e1", 1)


def test_unhandled_is_told_every_time() -> None:
    """Also when the log has fallen silent."""
    bus, _, seen = observed()
    bus.publish(Sold(), id="e1")
    bus.publish(Sold(), id="e2")
    assert seen.of(Unhandled) == [
        Unhandled(time=START, name="Sold", event_id=event_id) for event_id in ("e1", "e2")
    ]


def test_failed_tells_the_error() -> None:
    """Once, for good."""
    bus, _, seen = observed()
    bus.subscribe(Sold, fail, name="fails")
    (error,) = bus.publish(Sold(), id="e1").errors
    failed = seen.one(Failed)
    assert failed.error is error
    assert (failed.subscription, failed.attempt, failed.seconds) == ("fails", 1, 0.0)
    assert not seen.of(Handled)


def test_retried_tells_each_try_and_failed_the_last() -> None:
    """With the wait before the next one."""
    bus, runtime, seen = observed()
    retry = Retry(max_attempts=3, backoff=Backoff(initial=1, factor=3, jitter=False))
    bus.subscribe(Sold, fail, name="fails", retry=retry, executor="pump")
    bus.publish(Sold(), id="e1")
    for delay in (1.0, 3.0):
        assert bus.pump() == 1
        runtime.advance(delay)
    assert bus.pump() == 1
    assert [(one.attempt, one.delay) for one in seen.of(Retried)] == [(1, 1.0), (2, 3.0)]
    assert all(isinstance(one.error, ZeroDivisionError) for one in seen.of(Retried))
    assert seen.one(Failed).attempt == 3


def test_a_retry_is_deferred_while_it_waits() -> None:
    """Once, when its receipt goes on without it."""
    bus, runtime, seen = observed()
    bus.subscribe(Sold, fail, name="fails", retry=Retry(max_attempts=2))
    bus.publish(Sold(), id="e1")
    runtime.advance(60)
    bus.idle(timeout=30)
    assert seen.one(Deferred) == Deferred(
        time=START, name="Sold", event_id="e1", subscription="fails", attempt=1, reason="retry"
    )
    bus.close()


def test_retry_later_is_retried_and_no_failure() -> None:
    """It costs no attempt."""
    bus, runtime, seen = observed()
    calls = list[int]()

    @bus.on(Sold, name="asks")
    def ask(sold: Sold) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RetryLater(5)

    bus.publish(Sold())
    runtime.advance(5)
    bus.idle(timeout=30)
    retried = seen.one(Retried)
    assert isinstance(retried.error, RetryLater)
    assert (retried.attempt, retried.delay) == (1, 5.0)
    assert seen.one(Handled).attempt == 1
    assert not seen.of(Failed)
    bus.close()


def test_deferred_tells_what_is_waited_for() -> None:
    """A pump, and a subscription that is paused."""
    bus, _, seen = observed()
    bus.subscribe(Sold, lambda sold: None, name="pumped", executor="pump")
    paused = bus.subscribe(Sold, lambda sold: None, name="paused")
    paused.pause()
    bus.publish(Sold(), id="e1")
    assert {(one.subscription, one.reason) for one in seen.of(Deferred)} == {
        ("pumped", "pump"),
        ("paused", "pause"),
    }
    assert not seen.of(Handled)
    paused.resume()
    bus.pump()
    assert {one.subscription for one in seen.of(Handled)} == {"pumped", "paused"}


def test_a_rate_defers_or_skips() -> None:
    """By its choice."""
    bus, runtime, seen = observed()
    bus.subscribe(Sold, lambda sold: None, name="delays", rate=Rate(1))
    bus.subscribe(Sold, lambda sold: None, name="sheds", rate=Rate(1, overflow="shed"))
    bus.publish(Sold(), id="e1")
    bus.publish(Sold(2), id="e2")
    deferred, skipped = seen.one(Deferred), seen.one(Skipped)
    assert (deferred.subscription, deferred.event_id, deferred.reason) == ("delays", "e2", "rate")
    assert (skipped.subscription, skipped.event_id, skipped.reason) == ("sheds", "e2", "rate")
    assert isinstance(seen.one(Failed).error, RateExceeded)
    runtime.advance(1)
    bus.idle(timeout=30)
    bus.close()


def test_resequencing_tells_gaps_and_what_is_dropped() -> None:
    """What waits is deferred, what is older or doubled is skipped, a gap is given up."""
    bus, runtime, seen = observed()
    by = Resequence(by="number", timeout=5)
    bus.subscribe(Sold, lambda sold: None, name="orders", resequence=by)
    bus.publish(Sold(1), id="e1")
    bus.publish(Sold(4), id="e4")
    bus.publish(Sold(4), id="again")
    runtime.advance(5)
    bus.publish(Sold(1), id="old")
    bus.idle(timeout=30)
    assert (seen.one(Deferred).event_id, seen.one(Deferred).reason) == ("e4", "resequence")
    assert [(one.event_id, one.reason) for one in seen.of(Skipped)] == [
        ("again", "duplicate"),
        ("old", "older"),
    ]
    assert all(isinstance(one.error, OutOfSequence) for one in seen.of(Failed))
    assert seen.one(GapSkipped) == GapSkipped(
        time=START + 5,
        name="Sold",
        event_id="e4",
        subscription="orders",
        attempt=1,
        key="north",
        first=2,
        last=3,
    )
    bus.close()


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_breaker_tells_when_it_opens_and_closes(executor: Any) -> None:
    """What comes in between is skipped, and failed with BreakerOpen."""
    bus, runtime, seen = observed()
    healthy = False

    @bus.on(Sold, name="courier", breaker=Breaker(failures=1, cooldown=30), executor=executor)
    def courier(sold: Sold) -> None:
        if not healthy:
            raise ConnectionError

    bus.publish(Sold(), id="e1")
    bus.publish(Sold(), id="e2")
    healthy = True
    runtime.advance(30)
    bus.publish(Sold(), id="e3")
    assert [(one.event_id, one.state, one.time) for one in seen.of(BreakerChanged)] == [
        ("e1", "open", START),
        ("e3", "closed", START + 30),
    ]
    skipped = seen.one(Skipped)
    assert (skipped.event_id, skipped.reason) == ("e2", "breaker")
    assert [type(one.error) for one in seen.of(Failed)] == [ConnectionError, BreakerOpen]
    bus.close()


def test_a_breaker_also_guards_what_was_held_back() -> None:
    """Of the events of a pause, the first failure opens it, and the others are skipped."""
    bus, _, seen = observed()
    courier = bus.subscribe(Sold, fail, breaker=Breaker(failures=1, cooldown=30))
    courier.pause()
    for number in range(3):
        bus.publish(Sold(number), id=f"e{number}")
    courier.resume()
    assert [one.event_id for one in seen.of(Skipped)] == ["e1", "e2"]
    assert [one.state for one in seen.of(BreakerChanged)] == ["open"]


def test_a_storm_is_told_once_with_its_path() -> None:
    """The name refused, the id of its cause, and the names on the way."""
    bus, _, seen = observed(max_depth=2)
    refused = list[BaseException]()

    @bus.on("ping")
    def again(data: object) -> None:
        try:
            bus.publish("ping", 1)
        except EventStorm as error:
            refused.append(error)

    bus.publish("ping", 1, id="first")
    storm = seen.one(StormStopped)
    assert storm.name == "ping"
    assert storm.event_id == seen.of(Published)[-1].event_id
    assert storm.correlation_id == "first"
    assert storm.path == ("ping",) * len(storm.path)
    assert storm.depth == len(storm.path) - 1
    assert len(refused) == 1


def test_abandoned_tells_who_was_given_up() -> None:
    """By the end of its subscription, and by that of the bus."""
    bus, _, seen = observed()
    paused = bus.subscribe(Sold, lambda sold: None, name="closed")
    paused.pause()
    waiting = bus.subscribe(Sold, lambda sold: None, name="stopped")
    waiting.pause()
    bus.publish(Sold(), id="e1")
    paused.close()
    bus.stop(timeout=0)
    assert seen.of(Abandoned) == [
        Abandoned(
            time=START, name="Sold", event_id="e1", subscription=reason, attempt=1, reason=reason
        )
        for reason in ("closed", "stopped")
    ]


def test_subscriber_died_names_who_is_gone() -> None:
    """There is no event: the garbage collector was there first."""
    bus, _, seen = observed()

    class Screen:
        def show(self, sold: Sold) -> None:
            pass

    screen = Screen()
    bus.subscribe(Sold, screen.show, weak=True, name="screen")
    del screen
    gc.collect()
    bus.topology()
    assert seen == [SubscriberDied(time=START, name="Sold", event_id="", subscription="screen")]


def test_every_record_of_a_direct_bus_is_tested_here() -> None:
    """A new one has to find its test; a dead letter needs a transport."""
    known = {
        kind
        for kind in vars(records).values()
        if isinstance(kind, type) and issubclass(kind, Record)
    }
    tested = {kind for kind in globals().values() if isinstance(kind, type)}
    assert known <= tested
    assert known - {Record, DeliveryRecord, DeadLettered} == {
        Abandoned,
        BreakerChanged,
        Deferred,
        Failed,
        GapSkipped,
        Handled,
        Published,
        Retried,
        Skipped,
        StormStopped,
        SubscriberDied,
        Unhandled,
    }


def test_a_record_cannot_be_altered() -> None:
    """Neither set nor deleted; equal ones are one in a set."""
    record: Any = Unhandled(time=1.0, name="a", event_id="e")
    with pytest.raises(FrozenInstanceError):
        record.name = "b"
    with pytest.raises(FrozenInstanceError):
        del record.name
    assert record == Unhandled(time=1.0, name="a", event_id="e")
    assert len({record, Unhandled(time=1.0, name="a", event_id="e")}) == 1
    assert repr(record) == "Unhandled(time=1.0, name='a', event_id='e')"
    assert record != Record(time=1.0, name="a", event_id="e")


def test_the_errors_of_observers_go_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """They are logged; the publisher, the handlers and the other observers do not notice."""
    bus = Bus(on_error="raise")
    handled, seen = list[object](), Seen()
    bus.observe(fail)
    bus.observe(seen.append)
    bus.subscribe(Sold, handled.append)
    assert bus.publish(Sold()).errors == ()
    assert handled == [Sold()]
    assert [type(record) for record in seen] == [Published, Handled]
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2
    assert all("observer_failed" in text for text in caplog.messages)


def test_an_observer_is_a_sync_function_of_one_record() -> None:
    """Refused where it is added; the decorator gives back the function."""
    bus = Bus()

    async def later(record: Record) -> None:
        pass

    def two(record: Record, other: object) -> None:
        pass

    def fine(record: Record) -> None:
        pass

    for wrong in (later, two):
        refused: Any = wrong
        with pytest.raises(InvalidHandler):
            bus.observe(refused)
    assert bus.observe(fine) is fine


def test_an_observer_sees_what_comes_after_it_was_added() -> None:
    """Also when the hot path was warm before."""
    bus, seen = Bus(), Seen()
    bus.subscribe(Sold, lambda sold: None)
    for _ in range(3):
        bus.publish(Sold())
    bus.observe(seen.append)
    bus.publish(Sold())
    assert [type(record) for record in seen] == [Published, Handled]
