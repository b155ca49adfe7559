"""A program that publishes into a log, for power cuts and for injected errors.

    python publisher.py [OPTIONS] DATABASE ACKNOWLEDGEMENTS

It publishes one event after another, at last some together, and appends each one's number as a line
to ACKNOWLEDGEMENTS when the receipt has been awaited, one write for each. What the bus raises ends
it with exit code 1.
"""

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from headwater import Bus

SIZE = 300
"""Bytes of data in an event."""
TOGETHER = 3


def main() -> None:
    """Publish the events."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--synchronous", default="full")
    parser.add_argument("database", type=Path)
    parser.add_argument("acknowledgements", type=Path)
    options = parser.parse_args()
    file = os.open(options.acknowledgements, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    url = f"sqlite:///{options.database}?synchronous={options.synchronous}"
    asyncio.run(publish(url, options.rows, lambda number: os.write(file, b"%d\n" % number)))


async def publish(url: str, rows: int, acknowledge: Callable[[int], object]) -> None:
    """Publish so many events."""
    bus = Bus(url, name="shop")

    async def publish_one(number: int) -> None:
        await bus.publish("stored", {"number": number, "data": _data(number)})
        acknowledge(number)

    try:
        for number in range(rows - TOGETHER):
            await publish_one(number)
        await asyncio.gather(*(publish_one(n) for n in range(max(0, rows - TOGETHER), rows)))
    finally:
        await bus.aclose()


def prepare(database: Path) -> None:
    """Make an empty log."""
    with Bus(f"sqlite:///{database}", name="shop"):
        pass


def stored(database: Path) -> set[str]:
    """Open the log as a restart would; what it holds, in the words of the acknowledgements.

    Raises:
        ValueError: an event's data is not what was published.
        HeadwaterError: the log cannot be used.
    """
    return {str(number) for number in asyncio.run(_read(database))}


async def _read(database: Path) -> list[int]:
    found = list[int]()
    bus = Bus(f"sqlite:///{database}?synchronous=normal", name="shop")

    def note(event: dict[str, object]) -> None:
        number = event["number"]
        if not isinstance(number, int) or event["data"] != _data(number):
            raise ValueError(f"altered: {event}")
        found.append(number)

    try:
        await bus.replay("stored", into=note)
    finally:
        await bus.aclose()
    return found


def _data(number: int) -> str:
    return f"event {number} ".ljust(SIZE, "x")


if __name__ == "__main__":
    main()
