"""Logs, rows, writers and programs for the tests of this folder."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from headwater.envelope import Envelope
from headwater.runtime import new_id
from headwater.transport import Outgoing
from headwater.transports.sqlite import files, schema
from headwater.transports.sqlite.locks import FileLock
from headwater.transports.sqlite.settings import Settings
from headwater.transports.sqlite.writer import Writer

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""
NOBODY = 65534
SOURCE = Path(__file__).parents[3] / "src"


def envelope(
    number: int = 0, key: str | None = None, id: str | None = None, **fields: Any
) -> Envelope:
    """An event, numbered in its data."""
    made = Envelope(
        id or new_id(), "events", key, "Placed", 1, 1000.0 + number, None, None, 0, None,
        f'{{"number":{number}}}'.encode(),
    )  # fmt: skip
    return made._replace(**fields)


def outgoing(
    number: int = 0,
    key: str | None = None,
    id: str | None = None,
    due: float | None = None,
    **fields: Any,
) -> Outgoing:
    """The same on its way to the log; its token is its number."""
    return Outgoing(envelope(number, key, id, **fields), due, number)


@contextlib.contextmanager
def connected(path: Path) -> Generator[sqlite3.Connection]:
    """A connection to a log, as the engine opens it; the log is made if it is not there."""
    if not path.exists():
        schema.create(str(path))
    with contextlib.closing(files.connect(Settings(str(path)))) as connection:
        yield connection


class Running:
    """A writer at work, and what it told."""

    def __init__(self, connection: sqlite3.Connection, path: Path, timeout: float) -> None:
        self.confirmed = list[tuple[list[Any], BaseException | None]]()
        self.statements = list[str]()
        self.commits = 0
        self.lock = FileLock(f"{path}-lock", timeout)
        self._changed = threading.Condition()
        connection.set_trace_callback(self.statements.append)
        self.connection = connection
        self.writer = Writer(connection, str(path), self.lock, self._confirm, self._appended)

    def _confirm(self, tokens: Sequence[Any], error: BaseException | None) -> None:
        with self._changed:
            self.confirmed.append((list(tokens), error))
            self._changed.notify_all()

    def _appended(self) -> None:
        with self._changed:
            self.commits += 1
            self._changed.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the writer does."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), "not in time"

    def until_confirmed(self, count: int) -> list[BaseException | None]:
        """Wait until so many events have an answer; the errors, batch by batch."""
        self.until(lambda: sum(len(tokens) for tokens, _ in self.confirmed) >= count)
        return [error for _, error in self.confirmed]

    def run(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run an operation, and give what it gave."""
        answer = list[tuple[Any, BaseException | None]]()

        def told(result: Any, error: BaseException | None) -> None:
            with self._changed:
                answer.append((result, error))
                self._changed.notify_all()

        self.writer.submit(operation, told)
        self.until(lambda: answer)
        result, error = answer[0]
        if error is not None:
            raise error
        return result

    def count(self, word: str) -> int:
        """How many statements of a kind it ran."""
        return sum(statement.startswith(word) for statement in self.statements)


@contextlib.contextmanager
def writing(path: Path, timeout: float = PATIENCE) -> Generator[Running]:
    """A writer on a log, ended at the end."""
    with connected(path) as connection:
        running = Running(connection, path, timeout)
        try:
            yield running
        finally:
            assert running.writer.close(PATIENCE), "the writer does not end"
            running.lock.close()


@contextlib.contextmanager
def held(path: Path) -> Generator[None]:
    """The write lock of a log in other hands: whoever writes has to wait."""
    lock = FileLock(f"{path}-lock", PATIENCE)
    try:
        with lock.held():
            yield
    finally:
        lock.close()


def numbers(path: Path) -> list[int]:
    """The numbers of the events in a log, in its order."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT data FROM log ORDER BY position").fetchall()
    return [int(bytes(row[0]).split(b":")[1].strip(b" }")) for row in rows]


@contextlib.contextmanager
def program(code: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """Another process, with its pipes; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a program says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    """Say to a program that it may go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
