"""Rule 11, silence is visible: an event that nobody handles is not passed over in silence."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from headwater import Bus, event, publishing
from headwater.records import Published, Record, Unhandled
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class OrderPlaced:
    number: int = 0


@dataclass(frozen=True)
class OrderPaid:
    number: int = 0


@dataclass(frozen=True)
class RushOrderPlaced(OrderPlaced):
    pass


@event(name="shop.closed")
@dataclass(frozen=True)
class Closed:
    number: int = 0


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus in virtual time."""
    with Bus(runtime=VirtualRuntime()) as bus:
        yield bus


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What headwater logs, down to debug."""
    caplog.set_level(logging.DEBUG, "headwater")
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of every line about an event that nobody handled."""
    return [
        (record.levelname, record.getMessage())
        for record in log.records
        if record.getMessage().startswith("event_unhandled")
    ]


def levels(log: pytest.LogCaptureFixture) -> list[str]:
    """The levels alone."""
    return [level for level, _ in said(log)]


def ignore(event: object) -> None:
    """A handler that does nothing."""


# Once per name.


def test_an_event_nobody_handles_is_a_warning_then_debug(
    bus: Bus, log: pytest.LogCaptureFixture
) -> None:
    """Once is news, and the rest would be noise."""
    for number in range(4):
        assert bus.publish(OrderPlaced(number)).done
    assert levels(log) == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]
    assert all("event=OrderPlaced" in text for _, text in said(log))


def test_every_name_is_said_once(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """Classes, classes with names of their own, and names without a class."""
    for _ in range(2):
        bus.publish(OrderPlaced())
        bus.publish(Closed())
        bus.publish("shop.opened", {"by": "Ada"})
    assert levels(log) == 3 * ["WARNING"] + 3 * ["DEBUG"]
    assert ["event=shop.closed" in text for _, text in said(log)[:3]] == [False, True, False]
    assert "event=shop.opened" in said(log)[2][1]


def test_every_bus_says_it_once(log: pytest.LogCaptureFixture) -> None:
    """What one bus has said is not said for another one."""
    for _ in range(2):
        Bus().publish(OrderPlaced())
    assert levels(log) == ["WARNING", "WARNING"]


def test_it_is_said_without_a_logging_configuration_of_ours(bus: Bus) -> None:
    """The library configures nothing: what becomes of its lines is the program's business."""
    logger = logging.getLogger("headwater")
    assert logger.level == logging.NOTSET
    assert logger.propagate


def test_names_made_up_without_end_do_not_use_up_memory(
    bus: Bus, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many names are remembered; those beyond are said at debug only."""
    monkeypatch.setattr(publishing, "MAX_WARNED", 3)
    for number in range(6):
        bus.publish(f"made.up.{number}")
    assert levels(log) == 3 * ["WARNING"] + 3 * ["DEBUG"]


# Did you mean.


@pytest.mark.parametrize(
    ("subscribed", "published", "hint"),
    [
        (OrderPlaced, "OrderPalced", "OrderPlaced"),
        (Closed, "shop.close", "shop.closed"),
        ("shop.opened", "shop.open", "shop.opened"),
    ],
)
def test_a_near_miss_is_told(
    bus: Bus, log: pytest.LogCaptureFixture, subscribed: type | str, published: str, hint: str
) -> None:
    """A name that somebody subscribed to, and that differs a little, is most likely meant."""
    if isinstance(subscribed, str):
        bus.subscribe(subscribed, ignore)
    else:
        bus.subscribe(subscribed, ignore)
    bus.publish(published)
    assert f"did you mean '{hint}'?" in said(log)[0][1]


def test_a_class_may_miss_a_name_too(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """The text says what stands in the subscription."""
    bus.subscribe("OrderPayed", ignore)
    bus.publish(OrderPaid())
    assert "did you mean 'OrderPayed'?" in said(log)[0][1]


def test_nothing_near_is_no_hint(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """Neither is the name itself, which is known because it was published."""
    bus.publish("weather.changed")
    bus.publish(Closed())
    assert not any("did you mean" in text for _, text in said(log))


# Who counts.


def test_whoever_might_have_handled_it_breaks_the_silence(
    bus: Bus, log: pytest.LogCaptureFixture
) -> None:
    """A base class, a pattern, a filter that said no, a pause: somebody is interested."""
    bus.subscribe(OrderPlaced, ignore)
    bus.subscribe("shop.**", ignore)
    bus.subscribe(OrderPaid, ignore, where=lambda paid: paid.number > 0)
    bus.subscribe("weather.changed", ignore).pause()
    bus.publish(RushOrderPlaced())
    bus.publish(Closed())
    bus.publish(OrderPaid(0))
    bus.publish("weather.changed")
    assert said(log) == []


def test_a_handler_that_fails_is_no_silence(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """It was handled, badly."""
    bus.subscribe(OrderPlaced, lambda placed: 1 / 0)
    bus.publish(OrderPlaced())
    assert said(log) == []


def test_silence_after_the_last_one_left(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """And none while somebody is there."""
    with bus.subscribe(OrderPlaced, ignore):
        bus.publish(OrderPlaced())
        assert said(log) == []
    bus.publish(OrderPlaced())
    assert levels(log) == ["WARNING"]


def test_after_once_there_is_silence_again(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """Who is served only once does not hear the second event."""
    bus.subscribe(OrderPlaced, ignore, once=True)
    bus.publish(OrderPlaced())
    bus.publish(OrderPlaced())
    assert levels(log) == ["WARNING"]


def test_a_capture_does_not_break_the_silence(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """It belongs to the test, and the program would be as silent without it."""
    with bus.capture(OrderPlaced) as seen:
        bus.publish(OrderPlaced())
    assert seen == [OrderPlaced()]
    assert levels(log) == ["WARNING"]


def test_what_is_muted_is_silent_on_purpose(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """With or without handlers."""
    bus.subscribe(OrderPlaced, ignore)
    with bus.muted(OrderPlaced), bus.muted("shop.*"):
        bus.publish(OrderPlaced())
        bus.publish(Closed())
    assert said(log) == []


def test_an_observer_does_not_break_the_silence(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """It is shown that nobody handled the event, each time."""
    records = list[Record]()
    bus.observe(records.append)
    bus.publish(OrderPlaced())
    bus.publish(OrderPlaced())
    assert levels(log) == ["WARNING", "DEBUG"]
    unhandled = [record for record in records if isinstance(record, Unhandled)]
    published = [record for record in records if isinstance(record, Published)]
    assert [record.name for record in unhandled] == ["OrderPlaced", "OrderPlaced"]
    assert [record.event_id for record in unhandled] == [one.event_id for one in published]
    assert [one.receivers for one in published] == [0, 0]


# When.


def test_a_delayed_event_is_silent_when_its_time_comes(
    bus: Bus, log: pytest.LogCaptureFixture
) -> None:
    """Until then somebody may still subscribe."""
    runtime = bus._runtime
    assert isinstance(runtime, VirtualRuntime)
    bus.publish(OrderPlaced(), delay=60)
    bus.publish(OrderPaid(), delay=60)
    bus.subscribe(OrderPaid, ignore)
    assert said(log) == []
    runtime.advance(60)
    bus.idle(PATIENCE)
    assert [text.split()[1] for _, text in said(log)] == ["event=OrderPlaced"]


def test_silence_inside_handlers_and_on_a_loop(bus: Bus, log: pytest.LogCaptureFixture) -> None:
    """Wherever it is published."""

    async def handle(placed: OrderPlaced) -> None:
        await bus.publish(OrderPaid())

    async def main() -> None:
        await bus.publish(OrderPlaced())
        await bus.publish(Closed())

    bus.subscribe(OrderPlaced, handle)
    asyncio.run(main())
    assert [text.split()[1] for _, text in said(log)] == ["event=OrderPaid", "event=shop.closed"]
