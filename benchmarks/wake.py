"""How long an event takes to the handler of another process that has nothing else to do.

The event carries the time of its publishing on the monotonic clock, which all processes of a
machine share; the handler compares when it starts. Pauses between events are random, so that who
looks again at intervals is met at any moment of them. The share of a processor that the waiting
process uses is part of the result: looking again all the time is a way to be quick.

    python benchmarks/wake.py NAME FILE SYNCHRONOUS COUNT      the listener, started by durable.py
"""

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from durable_headwater import Headwater, bus_at
from durable_log import DurableLog, Synchronous, opened
from durable_measure import Site
from durable_peers import DEFAULT_POLL, Huey, order_task
from order import OrderPlaced, decode, order
from peers import load
from raw_log import RawLog, connect, number

POLL = 0.001
"""The seconds after which those look again who look often."""


@dataclass(frozen=True)
class Wake:
    """What a listener measured: seconds for each event, and its share of a processor."""

    seconds: list[float]
    share: float


class Arrivals:
    """Collects how long each event was on its way."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seconds: list[float] = []

    def note(self, event: OrderPlaced) -> bool:
        """Take the time; tell whether this was the last event."""
        self.seconds.append((time.monotonic_ns() - event.placed_at) / 1e9)
        return len(self.seconds) >= self.count


def ready() -> None:
    """Tell the publisher, on the first line, that this process listens."""
    print("ready", flush=True)


def raw_listener(path: Path, synchronous: Synchronous, arrivals: Arrivals) -> None:
    """Look every millisecond whether another connection has changed the file."""
    connection = connect(path, synchronous)
    seen, position, done = -1, 0, False
    ready()
    while not done:
        version = number(connection.execute("PRAGMA data_version"))
        if version == seen:
            time.sleep(POLL)
            continue
        seen = version
        query = "SELECT position, data FROM log WHERE position > ? ORDER BY position"
        for place, data in connection.execute(query, (position,)).fetchall():
            position, done = place, arrivals.note(decode(data))
    connection.close()


def headwater_listener(path: Path, synchronous: Synchronous, arrivals: Arrivals) -> None:
    """Consume as a user does."""

    async def listen() -> None:
        last = asyncio.Event()
        bus = bus_at(path, synchronous)

        async def note(event: OrderPlaced) -> None:
            if arrivals.note(event):
                last.set()

        bus.subscribe(OrderPlaced, note, name="note")
        async with bus:
            ready()
            await last.wait()

    asyncio.run(listen())


def huey_listener(poll: float) -> Callable[[Path, Synchronous, Arrivals], None]:
    """Run huey's consumer, whose workers look again after `poll` seconds."""

    def listen(path: Path, synchronous: Synchronous, arrivals: Arrivals) -> None:
        huey = load("huey").SqliteHuey(filename=str(path), results=False, fsync=True)
        consumer = huey.create_consumer(
            workers=1, periodic=False, initial_delay=poll, max_delay=poll
        )

        def note(data: bytes) -> None:
            if arrivals.note(decode(data)):
                consumer.stop_flag.set()

        order_task(huey, note)
        ready()
        consumer.run()

    return listen


Listener = Callable[[Path, Synchronous, Arrivals], None]

LISTENERS: dict[str, tuple[type[DurableLog], Listener]] = {
    "headwater": (Headwater, headwater_listener),
    "sqlite3, looking every ms": (RawLog, raw_listener),
    "huey": (Huey, huey_listener(DEFAULT_POLL)),
    "huey, looking every ms": (Huey, huey_listener(POLL)),
}


async def waking(name: str, site: Site, count: int) -> Wake:
    """Publish to a listener in another process, and return what it measured."""
    kind = LISTENERS[name][0]
    async with opened(kind, site.directory, site.synchronous) as log:
        arguments = (name, str(log.path), site.synchronous, str(count))
        listener = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *arguments, stdout=PIPE
        )
        assert listener.stdout is not None
        try:
            assert await listener.stdout.readline() == b"ready\n", f"{name}: did not start"
            await asyncio.sleep(0.5)  # Then it has nothing to do.
            for _ in range(count):
                await asyncio.sleep(random.uniform(0.05, 0.15))
                await log.publish(order())
            told = await asyncio.wait_for(listener.stdout.read(), 60)
        except BaseException:
            listener.terminate()
            raise
        finally:
            await listener.wait()
    return Wake(**json.loads(told))


def main() -> None:
    name, path, synchronous, count = sys.argv[1:]
    arrivals = Arrivals(int(count))
    used, began = time.process_time(), time.monotonic()
    LISTENERS[name][1](Path(path), cast("Synchronous", synchronous), arrivals)
    share = (time.process_time() - used) / (time.monotonic() - began)
    print(json.dumps({"seconds": arrivals.seconds, "share": share}))


if __name__ == "__main__":
    main()
