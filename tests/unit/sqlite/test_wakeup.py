"""Who waits for events is woken: by its own process, by another one, or by the poll."""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

from tests.unit.sqlite.logs import PATIENCE, line_of, program

from headwater import Bus

ASLEEP = 300
"""Seconds between two looks: longer than any test waits, so that no poll can help."""

PUBLISHER = """
import sys
from headwater import Bus
with Bus(sys.argv[1], name="till") as bus:
    print("ready", flush=True)
    for line in sys.stdin:
        bus.publish("order.placed", {"number": int(line)})
"""


class Arrivals:
    """What one handler got, to be waited for."""

    def __init__(self) -> None:
        self.numbers = list[int]()
        self._changed = threading.Condition()

    def note(self, event: dict[str, Any]) -> None:
        """The handler."""
        with self._changed:
            self.numbers.append(event["number"])
            self._changed.notify_all()

    def until(self, number: int) -> None:
        """Wait for one event."""
        with self._changed:
            assert self._changed.wait_for(lambda: number in self.numbers, PATIENCE), "not woken"


def url(path: Path, poll: float) -> str:
    """A log that is looked at so seldom, or so often."""
    return f"sqlite:///{path}?poll={poll}"


def test_an_event_of_this_process_wakes_its_handlers(tmp_path: Path) -> None:
    """One after the other, each of them from sleep."""
    arrivals = Arrivals()
    bus = Bus(url(tmp_path / "shop.db", ASLEEP), name="shop")
    bus.subscribe("order.placed", arrivals.note, name="note")
    with bus:
        for number in range(20):
            bus.publish("order.placed", {"number": number})
            arrivals.until(number)


def test_an_event_of_another_process_wakes_this_one(tmp_path: Path) -> None:
    """By a datagram, without a look at the file."""
    arrivals = Arrivals()
    address = url(tmp_path / "shop.db", ASLEEP)
    bus = Bus(address, name="shop")
    bus.subscribe("order.placed", arrivals.note, name="note")
    with bus, program(PUBLISHER, address) as other:
        assert line_of(other) == "ready"
        assert other.stdin is not None
        for number in range(5):
            other.stdin.write(f"{number}\n")
            other.stdin.flush()
            arrivals.until(number)


def test_a_lost_wake_up_is_made_good_by_the_poll(tmp_path: Path) -> None:
    """Datagrams may be lost; events may not."""
    arrivals = Arrivals()
    path = tmp_path / "shop.db"
    bus = Bus(url(path, 0.02), name="shop")
    bus.subscribe("order.placed", arrivals.note, name="note")
    with bus, Bus(url(path, ASLEEP), name="till") as till:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE member SET port = 9")  # Where nobody listens.
        till.publish("order.placed", {"number": 1})
        arrivals.until(1)


def test_noise_from_others_does_no_harm(tmp_path: Path) -> None:
    """Anybody on this machine can send datagrams to the port."""
    import socket

    arrivals = Arrivals()
    path = tmp_path / "shop.db"
    bus = Bus(url(path, ASLEEP), name="shop")
    bus.subscribe("order.placed", arrivals.note, name="note")
    with bus, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (port,) = connection.execute("SELECT port FROM member").fetchone()
        for data in (b"", b"x" * 60_000, b"!" * 3):
            other.sendto(data, ("127.0.0.1", port))
        bus.publish("order.placed", {"number": 1})
        arrivals.until(1)


def test_a_delayed_event_wakes_its_handler_in_its_time(tmp_path: Path) -> None:
    """The timer is set for it; no look at the file is needed."""
    arrivals = Arrivals()
    bus = Bus(url(tmp_path / "shop.db", ASLEEP), name="shop")
    bus.subscribe("order.placed", arrivals.note, name="note")
    with bus:
        bus.publish("order.placed", {"number": 1}, delay=0.05)
        bus.publish("order.placed", {"number": 2})
        arrivals.until(2)
        arrivals.until(1)
        assert arrivals.numbers == [2, 1]
