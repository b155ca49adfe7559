"""Rule 12 on a transport, honest: what it can do is declared, what it cannot is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Placed

from headwater import Bus
from headwater.capabilities import Capabilities
from headwater.errors import InvalidOption, UnknownTransport, Unsupported


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def ship(event: object) -> None:
    """Handle an event."""


def declared(bus: Bus) -> Capabilities:
    """What a bus's engine can do."""
    assert bus.capabilities is not None
    return bus.capabilities


def test_capabilities_are_values_that_can_be_asked_for_before_opening(log: Log) -> None:
    """No file is made to answer."""
    can = declared(log.bus())
    assert (can.name, can.persistent, can.shared, can.ordered) == ("SQLite", True, True, "key")
    assert (can.replay, can.transaction, can.ledger) == (True, True, True)
    assert can.max_bytes == 1 << 20
    assert can.delay > 365 * 86400
    assert not log.path.exists()
    assert Bus().capabilities is None


def test_what_a_confirmed_event_survives_is_declared(log: Log) -> None:
    """A weaker setting is a weaker promise, in the values and in the words."""
    full, normal = log.bus(), log.bus(synchronous="normal")
    assert declared(full).survives == ("client kill", "power cut")
    assert declared(normal).survives == ("client kill",)
    assert "a confirmed event survives: client kill, power cut\n" in full.guarantees()
    assert "a confirmed event survives: client kill\n" in normal.guarantees()
    assert "it does not survive: broker kill" in full.guarantees()
    assert "power cut may take back" in normal.guarantees()
    assert "power cut may take back" not in full.guarantees()


def test_promises_follow_the_settings(log: Log) -> None:
    """How long an id is known, and how large an event may be."""
    words = log.bus(retain=3600, max_bytes=5000).guarantees()
    assert "an id is stored once as long as the log keeps it: 3600 s" in words
    assert "at most 5,000 bytes" in words
    assert "an id is stored once as long as the log keeps it: for ever" in log.bus().guarantees()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"once": True}, Unsupported, "once="),
        ({"weak": True}, Unsupported, "weak="),
        ({"priority": 1}, Unsupported, "priority="),
        ({"executor": "inline"}, Unsupported, "executor='inline'"),
        ({"executor": "pump"}, Unsupported, "executor='pump'"),
        ({"start": "yesterday"}, InvalidOption, "'new', 'beginning' or a position"),
        ({"start": -1}, InvalidOption, "start"),
        ({"start": True}, InvalidOption, "start"),
        ({"start": 1.5}, InvalidOption, "start"),
        ({"when_dead": "stop"}, InvalidOption, "'continue' or 'park'"),
        ({"transaction": 5}, InvalidOption, "True, or a factory"),
        ({"concurrency": 0}, InvalidOption, "int >= 1"),
        ({"name": ""}, InvalidOption, "name"),
        ({"retries": 3}, InvalidOption, "unknown option 'retries'; did you mean 'retry'"),
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_refused_at_once(
    log: Log, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """At the subscription, with the handler's name and what to do."""
    bus = log.bus()
    with pytest.raises(error) as caught:
        bus.subscribe(Placed, ship, **options)
    assert "ship" in str(caught.value)
    assert text in str(caught.value)
    assert not log.path.exists()


@pytest.mark.parametrize(
    "options",
    [{"once": False}, {"weak": False}, {"priority": 0}, {"executor": None}, {"executor": "thread"},
     {"transaction": False}, {"transaction": None}, {"start": 0}, {"when_dead": None}],
    ids=repr,
)  # fmt: skip
def test_an_option_that_asks_for_nothing_is_no_mistake(log: Log, options: dict[str, Any]) -> None:
    """So that options can be passed on."""
    log.bus().subscribe(Placed, ship, **options)


def test_an_executor_of_the_users_own_is_used(log: Log) -> None:
    """On a transport as well."""
    import threading

    names = list[str]()
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        bus = log.bus()
        bus.subscribe(
            Placed,
            lambda event: names.append(threading.current_thread().name),
            name="ship",
            executor=pool,
        )
        with bus:
            bus.publish(Placed())
            bus.idle(PATIENCE)
    assert names == ["mine_0"]


@pytest.mark.parametrize("url", ["sqlite3:///a.db", "sqlit:///a.db", "nothing://a"])
def test_an_unknown_scheme_names_those_that_there_are(url: str) -> None:
    """With the nearest one."""
    with pytest.raises(UnknownTransport, match="sqlite://"):
        Bus(url, name="shop")


def test_a_publish_in_something_that_is_no_transaction_is_refused(log: Log) -> None:
    """It is not stored beside it in silence."""
    with log.bus() as bus:
        for thing in (object(), 5, "BEGIN"):
            with pytest.raises((Unsupported, InvalidOption), match="transaction"):
                bus.publish(Placed(), transaction=thing)
    assert log.ids() == []
