"""What the tests of the contract on a transport share: a log, events, and waits."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater import Bus, event
from headwater.transports.sqlite.locks import FileLock

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@event(name="shop.Placed")
@dataclass(frozen=True)
class Placed:
    number: int = 0


@event(name="shop.Paid", key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str = "o1"
    number: int = 0


@event(name="shop.Shipped")
@dataclass(frozen=True)
class Shipped:
    number: int = 0


class Log:
    """One log of one test."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"

    def url(self, **settings: object) -> str:
        """Its URL, with settings."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"sqlite:///{self.path}{'?' if query else ''}{query}"

    def bus(self, name: str = "shop", **settings: object) -> Bus:
        """A bus on it, not opened yet; settings are those of the URL."""
        return Bus(self.url(**settings), name=name, drain_timeout=5)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the file, beside the bus."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(query, values).fetchall()

    def ids(self) -> list[str]:
        """The ids of the events in it."""
        return [row[0] for row in self.ask("SELECT id FROM log ORDER BY position")]

    def names(self) -> list[str]:
        """The names of the events in it."""
        return [row[0] for row in self.ask("SELECT names FROM log ORDER BY position")]

    @contextlib.contextmanager
    def busy(self) -> Generator[None]:
        """Another program holds its write lock."""
        lock = FileLock(f"{self.path}-lock", PATIENCE)
        try:
            with lock.held():
                yield
        finally:
            lock.close()


def wait_until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait, in a thread of its own, for what no event tells of."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """The same on a loop."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- anything may be a condition
            await asyncio.sleep(0.005)
