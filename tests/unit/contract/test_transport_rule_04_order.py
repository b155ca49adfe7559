"""Rule 4 on a transport, order: lanes, keys within them, and `concurrency` over all of it."""

import threading
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed, wait_until

from headwater.transports.sqlite.log import LANES


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


class Crowd:
    """Counts who is inside at once: of a key, and of all."""

    def __init__(self, release: int) -> None:
        self.inside = Counter[str]()
        self.most_of_a_key = 0
        self.most = 0
        self._release = release
        self._changed = threading.Condition()

    def enter(self, event: Paid) -> None:
        """A handler that stays until enough others are inside too."""
        with self._changed:
            self.inside[event.order_id] += 1
            self.most_of_a_key = max(self.most_of_a_key, self.inside[event.order_id])
            self.most = max(self.most, self.inside.total())
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._release, PATIENCE)
            self.inside[event.order_id] -= 1


def test_the_lane_of_a_key_is_its_checksum(log: Log) -> None:
    """The same in every process and every version; without a key they take turns."""
    with log.bus() as bus:
        for number in range(40):
            bus.publish(Paid(f"o{number}"))
            bus.publish(Placed(number))
    for key, lane in log.ask("SELECT key, lane FROM log WHERE key IS NOT NULL"):
        assert lane == zlib.crc32(key.encode()) % LANES
    turns = Counter(row[0] for row in log.ask("SELECT lane FROM log WHERE key IS NULL"))
    assert turns == dict.fromkeys(range(LANES), 5)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_has_a_lane(key: str) -> None:
    """Of all those that there are."""
    assert 0 <= zlib.crc32(key.encode()) % LANES < LANES


def test_keys_run_side_by_side_up_to_concurrency_and_each_alone(log: Log) -> None:
    """Also those that share a lane: six keys of one lane, four at once."""
    keys = [f"k{n}" for n in range(500) if zlib.crc32(f"k{n}".encode()) % LANES == 3][:6]
    crowd = Crowd(release=4)
    bus = log.bus()
    bus.subscribe(Paid, crowd.enter, name="enter", concurrency=4)
    with bus:
        for number in range(3):
            for key in keys:
                bus.publish(Paid(key, number))
        bus.idle(PATIENCE)
    assert crowd.most == 4
    assert crowd.most_of_a_key == 1


def test_concurrency_one_is_one_at_a_time(log: Log) -> None:
    """Over all lanes and keys."""
    crowd = Crowd(release=1)
    bus = log.bus()
    bus.subscribe(Paid, crowd.enter, name="enter", concurrency=1)
    with bus:
        for number in range(40):
            bus.publish(Paid(f"o{number}"))
        bus.idle(PATIENCE)
    assert crowd.most == 1


def test_one_process_owns_a_lane_for_each_subscription(log: Log) -> None:
    """Two buses of one name: each lane has one owner, and each owner has its half."""

    def ship(event: Paid) -> None:
        """Handle an event."""

    one, other = log.bus(poll=0.01), log.bus(poll=0.01)
    for bus in (one, other):
        bus.subscribe(Paid, ship, name="ship")
    query = "SELECT owner, count(*) FROM cursor WHERE owner IS NOT NULL GROUP BY owner"
    with one:
        wait_until(lambda: [row[1] for row in log.ask(query)] == [8], "all lanes owned by one")
        with other:
            wait_until(lambda: [row[1] for row in log.ask(query)] == [4, 4], "half of them each")
        wait_until(lambda: [row[1] for row in log.ask(query)] == [8], "all of them again")
    assert log.ask(query) == []


def test_topics_have_lanes_of_their_own(log: Log) -> None:
    """A key in two topics is two keys."""
    bus = log.bus()
    bus.subscribe(Paid, lambda event: None, name="ship")
    with bus:
        bus.publish(Paid())
        bus.idle(PATIENCE)
    rows = log.ask("SELECT topic, count(*) FROM cursor GROUP BY topic")
    assert rows == [("events", LANES)]
    assert log.ask("SELECT name, lanes FROM topic") == [("events", LANES)]
