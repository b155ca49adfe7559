"""`?retain=`: settled events go when they are old enough, unsettled ones never do."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sqlite.logs import PATIENCE, numbers, outgoing

from headwater import Bus
from headwater.transport import Interest
from headwater.transports.sqlite import membership, operations, schema
from headwater.transports.sqlite.holds import FAR_BEHIND
from headwater.transports.sqlite.log import Appender, head_of


def memory_log() -> tuple[sqlite3.Connection, Appender]:
    """A log for statements alone."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema.TABLES)
    appender = Appender(connection)
    appender.begin()
    return connection, appender


def positions(connection: sqlite3.Connection) -> list[int]:
    """What is there."""
    return [row[0] for row in connection.execute("SELECT position FROM log ORDER BY 1")]


@given(
    st.integers(0, 40),
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(0, 50),
    st.booleans(),
)
def test_what_is_removed_is_old_and_settled_by_everybody(
    count: int,
    places: list[int],
    age: int,
    force: bool,  # noqa: FBT001
) -> None:
    """Unless it is forced: then it is only old."""
    connection, appender = memory_log()
    appender.append([outgoing(number) for number in range(1, count + 1)])
    for number, place in enumerate(places):
        interest = Interest(f"shop:s{number}", ("events",), ("Placed",), "beginning")
        membership.register(connection, interest, 1.0)
        connection.execute(
            "UPDATE cursor SET position = ? WHERE subscription = ?",
            (min(place, count), interest.subscription),
        )
    low = min([count if force else min(place, count) for place in places], default=count)
    while operations.prune(connection, 1000.0 + age, force=force):
        pass
    assert positions(connection) == [
        number for number in range(1, count + 1) if number > low or number >= age
    ]
    connection.close()


def test_positions_are_never_used_again() -> None:
    """Though all rows are gone: a place that somebody has kept must not mean another event."""
    connection, appender = memory_log()
    appender.append([outgoing(number) for number in range(5)])
    assert operations.prune(connection, 1e9, force=False) == 5
    assert positions(connection) == []
    assert head_of(connection) == 5
    later = Appender(connection)
    later.begin()
    later.append([outgoing(9)])
    assert positions(connection) == [6]
    connection.close()


def test_an_id_that_was_passed_over_is_no_place_that_is_used_twice() -> None:
    """Positions rise over duplicates too."""
    connection, appender = memory_log()
    appender.append([outgoing(1, id="a"), outgoing(2, id="a"), outgoing(3, id="b")])
    before = positions(connection)
    appender.append([outgoing(4, id="a"), outgoing(5, id="c")])
    after = positions(connection)
    assert after[: len(before)] == before
    assert after == sorted(set(after))
    assert len(after) == 3
    connection.close()


# On a running bus.


def ship(event: Any) -> None:
    """Handle an event."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the bus does by itself."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("key", [None, "one"], ids=["every lane", "one lane"])
def test_settled_events_are_removed_in_time(tmp_path: Path, key: str | None) -> None:
    """Also where all of them came by one lane, and the others stand still."""
    path = tmp_path / "shop.db"

    async def run() -> None:
        async with Bus(f"sqlite:///{path}?retain=0.05&poll=0.01&lease=1", name="shop") as bus:
            bus.subscribe("order.placed", ship)
            for number in range(50):
                await bus.publish("order.placed", {"number": number}, key=key)
            await bus.idle(PATIENCE)
            await until(lambda: numbers(path) == [])

    asyncio.run(run())


def test_lanes_that_stand_still_are_not_left_behind(tmp_path: Path) -> None:
    """Else everything that happened since would have to be looked through each time."""
    path = tmp_path / "shop.db"

    async def run() -> None:
        async with Bus(f"sqlite:///{path}?poll=0.01", name="shop") as bus:
            bus.subscribe("order.placed", ship)
            receipts = [bus.publish("order.placed", {}, key="one") for _ in range(FAR_BEHIND + 50)]
            for receipt in receipts:
                await receipt
            await bus.idle(PATIENCE)
            await until(lambda: furthest_behind(path) < FAR_BEHIND)

    asyncio.run(run())


def furthest_behind(path: Path) -> int:
    """How far the last lane is behind the head."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (low,) = connection.execute("SELECT min(position) FROM cursor").fetchone()
        return head_of(connection) - int(low)


def test_what_somebody_has_not_settled_is_kept(tmp_path: Path) -> None:
    """However old it is, and though he is not here."""
    path = tmp_path / "shop.db"
    url = f"sqlite:///{path}?retain=0.02&poll=0.01"
    absent = Bus(url, name="mail")
    absent.subscribe("order.placed", ship)
    with absent:
        pass

    async def run() -> None:
        async with Bus(url, name="shop") as bus:
            bus.subscribe("order.placed", ship)
            await bus.publish("order.placed", {"number": 1})
            await bus.idle(PATIENCE)
            first = head(path)
            # Each time a member looks after the log it would remove what it may.
            for number in range(2, 5):
                await bus.publish("order.placed", {"number": number})
                await bus.idle(PATIENCE)
            await asyncio.sleep(0)
            assert numbers(path)[0] == 1
            assert head(path) > first

    asyncio.run(run())
    assert numbers(path) == [1, 2, 3, 4]
    seen = list[int]()
    absent = Bus(url, name="mail")
    absent.subscribe("order.placed", lambda event: seen.append(event["number"]),
                     name=f"{__name__}.ship")  # fmt: skip
    with absent:
        absent.idle(PATIENCE)
    assert sorted(seen) == [1, 2, 3, 4]


def head(path: Path) -> int:
    """The last position."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return head_of(connection)


def test_without_retain_everything_is_kept(tmp_path: Path) -> None:
    """A log is there to be read again."""
    path = tmp_path / "shop.db"
    bus = Bus(f"sqlite:///{path}", name="shop")
    bus.subscribe("order.placed", ship)
    with bus:
        for number in range(3):
            bus.publish("order.placed", {"number": number})
        bus.idle(PATIENCE)
    assert numbers(path) == [0, 1, 2]
