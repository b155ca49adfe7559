"""Forwarding from, to and between buses that have a transport."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater import Bus, Context, event
from headwater.errors import InvalidOption
from headwater.forward import Forward


@event(name="sold", key="shop")
@dataclass(frozen=True)
class Sold:
    shop: str = "north"


@event(name="sold_online")
@dataclass(frozen=True)
class SoldOnline(Sold):
    address: str = "here"


def url(tmp_path: Path, name: str) -> str:
    """A log of its own, with little patience for its lock."""
    return f"sqlite:///{tmp_path}/{name}.db?timeout=0.05"


def contexts(bus: Bus, what: type | str = "**") -> list[Context]:
    """A list that fills with the contexts of what the bus handles."""
    seen: list[Context] = []

    def note(event: object, context: Context) -> None:
        seen.append(context)

    bus.subscribe(what, note, name="note")
    return seen


@contextmanager
def held(tmp_path: Path, name: str) -> Iterator[None]:
    """The lock of a log is in other hands."""
    lock = os.open(f"{tmp_path}/{name}.db-lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def test_from_log_to_log_it_is_the_same_event(tmp_path: Path) -> None:
    """Its id, time, key, names, headers and story; forwarded again, it is stored once."""
    near, far = (Bus(url(tmp_path, name), name=name) for name in ("near", "far"))
    there = contexts(far)
    forward = near.forward(Sold, to=far)
    assert forward.name == "near:forward sold to far"
    with near, far:
        here = contexts(near)
        near.publish(SoldOnline(), id="e1", headers={"user": "7"}, key="k")
        near.publish("other", 1)
        near.idle(20)
        far.idle(20)
        first = next(context for context in here if context.event_id == "e1")
        (second,) = there
        for attribute in (
            "event_id", "name", "key", "topic", "time", "correlation_id", "causation_id", "depth",
        ):  # fmt: skip
            assert getattr(second, attribute) == getattr(first, attribute)
        assert second.message.names == ("sold_online", "sold")
        assert second.headers == {"user": "7", "path": "near"}
        far._relay(first.message, {})
        far.publish("last", 1)
        far.idle(20)
        assert [context.event_id for context in there if context.name != "last"] == ["e1"]


def test_what_this_program_does_not_know_is_forwarded_as_it_came(tmp_path: Path) -> None:
    """With all names and fields: another program at the other end may know them."""
    near, far = (Bus(url(tmp_path, name), name=name) for name in ("near", "far"))
    writer = Bus(url(tmp_path, "near"), name="writer")
    there = contexts(far, Sold)
    near.forward("**", to=far)
    with near, far:
        writer.publish(SoldOnline("south", "there"))
        near.idle(20)
        far.idle(20)
    writer.close()
    (context,) = there
    assert context.message.names == ("sold_online", "sold")
    assert context.message.event in (SoldOnline("south", "there"), Sold("south"))


def test_from_direct_to_log_and_back(tmp_path: Path) -> None:
    """A direct bus's receipt waits for the log's confirmation; a log's event for the handlers."""

    async def main() -> None:
        near, far = Bus(name="near"), Bus(name="far")
        there = contexts(far)
        async with Bus(url(tmp_path, "log"), name="log") as log:
            near.forward("**", to=log)
            log.forward("**", to=far)
            await near.publish(Sold(), id="e1")
            found = list[object]()
            await log.replay("**", into=found.append)
            assert found == [Sold()]
            await log.idle(20)
        (context,) = there
        assert (context.event_id, context.message.event) == ("e1", Sold())
        assert context.headers["path"] == "near,log"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_cycle_of_logs_stops(tmp_path: Path) -> None:
    """Each handles the event once, wherever it begins."""
    buses = [Bus(url(tmp_path, name), name=name) for name in "abc"]
    seen = [contexts(bus) for bus in buses]
    for bus, following in zip(buses, [*buses[1:], buses[0]], strict=True):
        bus.forward("**", to=following)
    for bus in buses:
        bus.start()
    for round_, bus in enumerate(buses, 1):
        bus.publish(Sold())
        for _ in range(3):  # Wherever it has come meanwhile.
            for each in buses:
                each.idle(20)
        assert [len(contexts) for contexts in seen] == [round_] * 3
    for bus in buses:
        bus.close()


def test_an_event_is_not_settled_before_the_other_bus_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the other one cannot store it, it is tried again, and is no dead letter."""
    near, far = (Bus(url(tmp_path, name), name=name) for name in ("near", "far"))
    there = contexts(far)
    near.forward(Sold, to=far)
    with near, far:
        far.publish("first", 1)
        with held(tmp_path, "far"), caplog.at_level(logging.WARNING):
            near.publish(Sold(), id="e1")
            with pytest.raises(TimeoutError):
                near.idle(0.3)
        near.idle(20)
        far.idle(20)
        assert near.dead_letters.list().result() == []
    assert [context.event_id for context in there if context.name == "sold"] == ["e1"]
    assert [r.message.split()[0] for r in caplog.records].count("forward_trouble") == 1


def test_a_log_forwards_only_to_a_bus_with_a_name(tmp_path: Path) -> None:
    """Its place in the log is kept under it; several forwards to it have places of their own."""
    near, far = Bus(url(tmp_path, "near"), name="near"), Bus(name="far")
    with pytest.raises(InvalidOption, match="expected a bus with a name"):
        near.forward(Sold, to=Bus())
    names = [near.forward(what, to=far).name for what in (Sold, "order.*", "**")]
    assert names == [
        "near:forward sold to far", "near:forward order.* to far", "near:forward ** to far",
    ]  # fmt: skip
    assert all(isinstance(sub.handler.function, Forward) for sub in near._registry)


def test_capture_and_muted_hold_for_what_is_forwarded_here(tmp_path: Path) -> None:
    """As for what is published here."""
    near, far = Bus(name="near"), Bus(url(tmp_path, "far"), name="far")
    near.forward("**", to=far)
    with far.capture(Sold) as seen:
        near.publish(Sold())
        with far.muted(Sold):
            near.publish(Sold("south"))
    assert seen == [Sold(), Sold("south")]
    found = list[object]()
    asyncio.run(asyncio.wait_for(far.replay(Sold, into=found.append), 30))
    assert found == [Sold()]
    far.close()
