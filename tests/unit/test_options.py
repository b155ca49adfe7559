"""Options: every one is described, checked, and has an effect or says why it has none."""

import inspect
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, get_type_hints

import pytest

from headwater import Breaker, Bus, Rate, Resequence, Retry
from headwater.errors import InvalidHandler, Unsupported
from headwater.options import (
    DEFAULTS,
    DURABLE_DEFAULTS,
    OPTIONS,
    Options,
    SubscribeOptions,
    check_options,
)
from headwater.sending import PublishOptions, Sending, check_publish


@dataclass(frozen=True)
class Placed:
    number: int = 0


def handle(event: Placed) -> None:
    """Take an event."""


async def handle_soon(event: Placed) -> None:
    """Take an event, awaited."""


def test_the_table_the_types_and_the_checks_know_the_same_options() -> None:
    """None is forgotten in one of them."""
    assert set(OPTIONS) == set(SubscribeOptions.__annotations__)
    assert set(Options._fields) - {"durable"} == set(OPTIONS)
    on_direct = {name for name, doc in OPTIONS.items() if doc.direct == "refused"}
    on_transport = {name for name, doc in OPTIONS.items() if doc.transport == "refused"}
    assert on_direct == {"start", "when_dead", "transaction"}
    assert on_transport == {"once", "weak", "priority"}


def test_every_option_is_described() -> None:
    """What it takes, its default, what it means, and where it makes sense."""
    for name, doc in OPTIONS.items():
        assert all(doc), name
        default = getattr(DEFAULTS, name, None)
        durable = getattr(DURABLE_DEFAULTS, name, None)
        defaults = dict.fromkeys((repr(default), repr(durable)))
        assert doc.default in ("; ".join(defaults), "module.qualname"), name


def test_nothing_given_costs_nothing() -> None:
    """The defaults are one object."""
    assert check_options({}, "handle") is DEFAULTS


def test_none_is_the_same_as_leaving_out() -> None:
    """So that options can be passed on."""
    nothing: dict[str, Any] = dict.fromkeys(OPTIONS)
    assert check_options(nothing, "handle") == DEFAULTS
    assert check_options(nothing, "handle", durable=True) == DURABLE_DEFAULTS


def test_durations_are_seconds_or_timedeltas() -> None:
    """Kept as float seconds."""
    assert check_options({"timeout": 2}, "handle").timeout == 2.0
    assert check_options({"timeout": timedelta(minutes=1)}, "handle").timeout == 60.0


@pytest.mark.parametrize(
    ("options", "colour"),
    [
        ({}, "inline"),
        ({"where": bool}, "inline"),
        ({"once": True, "priority": 3}, "inline"),
        ({"breaker": Breaker()}, "inline"),
        ({"retry": Retry()}, "thread"),
        ({"rate": Rate(1)}, "thread"),
        ({"timeout": 1}, "thread"),
        ({"resequence": Resequence(by="number")}, "thread"),
        ({"concurrency": 1}, "thread"),
        ({"executor": "inline", "breaker": Breaker()}, "inline"),
        ({"executor": "thread"}, "thread"),
        ({"executor": "pump"}, "pump"),
        ({"executor": "pump", "retry": Retry()}, "pump"),
    ],
    ids=repr,
)
def test_a_sync_handler_runs_inline_if_nothing_needs_room(
    options: dict[str, Any], colour: str
) -> None:
    """Otherwise in a worker thread, or where it is told to."""
    assert Bus().subscribe(Placed, handle, **options).colour == colour


def test_an_async_handler_runs_on_the_loop_whatever_its_options() -> None:
    """All but an executor make sense."""
    options: dict[str, Any] = {
        "retry": Retry(),
        "rate": Rate(1),
        "timeout": 1,
        "resequence": Resequence(by="number"),
        "concurrency": 1,
        "breaker": Breaker(),
    }
    for name, value in options.items():
        one: dict[str, Any] = {name: value}
        assert Bus().subscribe(Placed, handle_soon, **one).colour == "async"
    assert Bus().subscribe(Placed, handle_soon, **options).colour == "async"


def test_an_executor_of_the_users_own() -> None:
    """Threads share our objects; processes do not, and get the event alone."""
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        bus = Bus()
        assert bus.subscribe(Placed, handle, executor=threads).colour == "executor"
        assert bus.subscribe(Placed, handle, executor=processes).colour == "process"
        with pytest.raises(InvalidHandler, match="a Context cannot travel to another process"):
            bus.subscribe(Placed, lambda _, context: None, executor=processes)


@pytest.mark.parametrize(
    ("option", "value"),
    [("start", "new"), ("start", 0), ("when_dead", "continue"), ("transaction", False)],
)
def test_what_needs_a_transport_says_so(option: str, value: object) -> None:
    """With the fix, even if the value would be a default there."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(Unsupported, match=f"handle: {option}= needs a transport.*give the bus a U"):
        Bus().subscribe(Placed, handle, **options)


def test_a_subscription_is_named_by_its_option_or_its_function() -> None:
    """The name is for people, and need not be unique on a direct bus."""
    bus = Bus()
    assert bus.subscribe(Placed, handle).name == f"{__name__}.handle"
    for _ in range(2):
        assert bus.subscribe(Placed, handle, name="reserve stock").name == "reserve stock"


def test_where_lets_through_what_it_is_true_for() -> None:
    """Before `once` is claimed, and with classes, names and data alike."""
    bus, seen = Bus(), list[object]()
    bus.subscribe(Placed, seen.append, where=lambda order: order.number > 1, once=True)
    bus.subscribe("order.*", seen.append, where=lambda data: data["n"] > 1)
    for number in range(5):
        bus.publish(Placed(number))
        bus.publish("order.placed", {"n": number})
    assert seen == [Placed(2), {"n": 2}, {"n": 3}, {"n": 4}]


# Publishing.


def test_the_options_of_a_publish_are_all_checked() -> None:
    """Every one that the types name is known."""
    assert set(get_type_hints(PublishOptions)) == set(PublishOptions.__annotations__)
    every: dict[str, Any] = {
        "key": 7,
        "headers": {"a": "b"},
        "id": "e1",
        "delay": 2,
        "at": None,
        "new_story": True,
        "immediate": True,
        "transaction": None,
    }
    assert set(every) == set(PublishOptions.__annotations__)
    sending = check_publish(every, lambda: 1000.0)
    assert sending == Sending("7", {"a": "b"}, "e1", 2.0, new_story=True, immediate=True)


def test_none_of_a_publish_is_the_same_as_leaving_out() -> None:
    """So that options can be passed on."""
    names = ("key", "headers", "id", "delay", "at", "transaction")
    nothing: dict[str, Any] = dict.fromkeys(names)
    assert check_publish(nothing, lambda: 0.0) == Sending()


@pytest.mark.parametrize(
    ("options", "wait"),
    [
        ({"delay": 0}, 0.0),
        ({"delay": 1.5}, 1.5),
        ({"delay": timedelta(hours=1)}, 3600.0),
        ({"at": 5000}, 4000.0),
        ({"at": 0}, -1000.0),
        ({"at": datetime(1970, 1, 2, tzinfo=UTC)}, 85400.0),
        ({"at": datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=1)))}, 81800.0),
    ],
    ids=repr,
)
def test_later_is_a_delay_or_a_time(options: dict[str, Any], wait: float) -> None:
    """In seconds from now; what is past is due at once."""
    assert check_publish(options, lambda: 1000.0).wait == wait


def test_headers_are_copied() -> None:
    """What the publisher does to its mapping later is its own affair."""
    given = {"a": "b"}
    sending = check_publish({"headers": MappingProxyType(given)}, lambda: 0.0)
    given["a"] = "c"
    assert sending.headers == {"a": "b"}


def test_the_signatures_show_the_defaults() -> None:
    """Each bound is finite, and where users look for it."""
    parameters = inspect.signature(Bus).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults["max_pending"] == 10_000
    assert defaults["max_depth"] == 64
    assert defaults["max_story"] == 100_000
    assert defaults["drain_timeout"] == 25.0
    assert inspect.signature(Bus.request).parameters["timeout"].default == 5.0
    assert inspect.signature(Bus.stream).parameters["buffer"].default == 256
