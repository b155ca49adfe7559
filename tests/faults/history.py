"""What happened in a run under faults, told by those who took part, as lines of JSON.

A process that publishes writes a `Publish` record before each attempt and another when it knows how
the attempt ended; a handler writes an `Effect` when it has done its work. They write with a
`Recorder`: one line, one system call, at the end of a file, so a SIGKILL takes back nothing that
was written. When the run is over, whoever looks into the store adds what it found there as
`DeadLetter`, `Stored` and `Part` records.

Nothing here knows the bus, and nothing here refuses a second record of the same thing: a history
that cannot hold a duplicate cannot prove that there was none. The effects of a handler with a
transaction are what its transaction left behind. Such a handler therefore inserts its `Effect` as a
row, into a table without a unique constraint, and the rows join the history when the run is over; a
line in a file would outlive the rollback.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self, cast

Phase = Literal["invoke", "ok", "failed", "unknown"]


class BadHistory(Exception):
    """The records contradict each other or cannot be read: the run's program is wrong."""


@dataclass(frozen=True, slots=True)
class Publish:
    """An attempt to publish begins, or is known to have ended.

    An attempt whose end nobody recorded is unknown: its process was killed.

    Attributes:
        phase: ``invoke``, or how it ended.
        event: the event's id; publishing again repeats it.
        key: what orders the event, if anything does.
        key_seq: its number within its key; one publisher at a time counts a key up.
        digest: of the payload; see `digest`.
        process: who published; another name for each incarnation.
        monotonic_ns: when, on the clock that all processes of a machine share.
        name: the event's name, for handlers that want some names only.
        topic: a key orders within its topic.
    """

    phase: Phase
    event: str
    key: str | None
    key_seq: int
    digest: str
    process: str
    monotonic_ns: int
    name: str = ""
    topic: str = "events"


@dataclass(frozen=True, slots=True)
class Effect:
    """A handler did its work for an event; what it saw, not what it should have seen.

    Attributes:
        event: the event's id.
        handler: the subscription.
        key: the event's key.
        key_seq: the number within the key that the payload carried.
        digest: of the payload; see `digest`.
        attempt: from 1.
        process: who handled; another name for each incarnation.
        monotonic_ns: when, on the clock that all processes of a machine share.
        lane: the strand of the topic, if the handler can know it.
        fence: the token under which its process owned that lane, if the handler can know it.
        topic: where the event came from.
    """

    event: str
    handler: str
    key: str | None
    key_seq: int
    digest: str
    attempt: int
    process: str
    monotonic_ns: int
    lane: int | None = None
    fence: int | None = None
    topic: str = "events"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A handler's event was given up on.

    Attributes:
        event: the event's id.
        handler: the subscription.
        retried: whether it was sent back to its handler later. It may then come out of order, and
            is lost if nothing else became of it.
    """

    event: str
    handler: str
    retried: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """At the end, the store still holds the event for a handler that has not settled it.

    Attributes:
        event: the event's id.
        handler: the subscription.
    """

    event: str
    handler: str


@dataclass(frozen=True, slots=True)
class Part:
    """At the end, the store holds one part of what one transaction wrote.

    Attributes:
        transaction: what both parts tell of where they come from: the id of the cause, say.
        part: ``row`` is the business row, ``event`` is the event that was published with it.
    """

    transaction: str
    part: Literal["row", "event"]


Record = Publish | Effect | DeadLetter | Stored | Part

_KINDS: dict[str, type[Record]] = {
    kind.__name__: kind for kind in (Publish, Effect, DeadLetter, Stored, Part)
}
_NAMES = {kind: [field.name for field in fields(kind)] for kind in _KINDS.values()}


@dataclass(frozen=True, slots=True)
class History:
    """All records of a run, by kind. Their order does not matter: the clock is in them."""

    publishes: tuple[Publish, ...]
    effects: tuple[Effect, ...]
    dead_letters: tuple[DeadLetter, ...]
    stored: tuple[Stored, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Sort `records` by kind."""
        shelves: dict[type[Record], list[Record]] = {kind: [] for kind in _KINDS.values()}
        for record in records:
            shelves[type(record)].append(record)
        return cls(
            publishes=cast("tuple[Publish, ...]", tuple(shelves[Publish])),
            effects=cast("tuple[Effect, ...]", tuple(shelves[Effect])),
            dead_letters=cast("tuple[DeadLetter, ...]", tuple(shelves[DeadLetter])),
            stored=cast("tuple[Stored, ...]", tuple(shelves[Stored])),
            parts=cast("tuple[Part, ...]", tuple(shelves[Part])),
        )

    def __iter__(self) -> Iterator[Record]:
        yield from self.publishes
        yield from self.effects
        yield from self.dead_letters
        yield from self.stored
        yield from self.parts


class Recorder:
    """Appends the records of one process to a file, each with one write; a context manager.

    Threads may share a recorder and processes may share a file. A process that may be killed in the
    middle of a write, by an injected error say, has a file of its own: `load` overlooks half a line
    at the end of a file and refuses one anywhere else.

    Args:
        path: the file; made if it is missing.
        process: what this process is called in its records; its pid unless given.
    """

    def __init__(self, path: str | Path, process: str | None = None) -> None:
        self.process = str(os.getpid()) if process is None else process
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def invoke(
        self,
        event: str,
        *,
        key: str | None,
        key_seq: int,
        digest: str,
        name: str = "",
        topic: str = "events",
    ) -> Publish:
        """Record, before it is tried, that an event is about to be published.

        What a handler publishes may get its id only in the call. It leaves when the handler has
        succeeded, so it is early enough to record it right after the call, in the handler.

        Returns:
            The record, for `ended`.
        """
        now = time.monotonic_ns()
        publish = Publish("invoke", event, key, key_seq, digest, self.process, now, name, topic)
        self.write(publish)
        return publish

    def ended(self, invoked: Publish, phase: Literal["ok", "failed", "unknown"]) -> None:
        """Record how the attempt that `invoke` returned has ended."""
        self.write(replace(invoked, phase=phase, monotonic_ns=time.monotonic_ns()))

    def effect(
        self,
        event: str,
        handler: str,
        *,
        key: str | None,
        key_seq: int,
        digest: str,
        attempt: int,
        lane: int | None = None,
        fence: int | None = None,
        topic: str = "events",
    ) -> None:
        """Record that this process has just done a handler's work; see `Effect`."""
        now, who = time.monotonic_ns(), self.process
        self.write(
            Effect(event, handler, key, key_seq, digest, attempt, who, now, lane, fence, topic)
        )

    def write(self, record: Record) -> None:
        """Append `record`.

        Raises:
            OSError: the file system took no more, or less than the whole line.
        """
        line = encode(record)
        if os.write(self._file, line) != len(line):
            raise OSError(f"only a part of a record was written: {line!r}")

    def close(self) -> None:
        """Let go of the file. Everything is already in it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(payload: object) -> str:
    """A short fingerprint of `payload`, which is whatever JSON can say; key order is ignored."""
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def encode(record: Record) -> bytes:
    """Write `record` as a line."""
    kind = type(record)
    said = {name: getattr(record, name) for name in _NAMES[kind]}
    return json.dumps({"record": kind.__name__, **said}, separators=(",", ":")).encode() + b"\n"


def decode(line: str | bytes) -> Record:
    """Read a record from its line.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no record.
    """
    said = json.loads(line)
    return _KINDS[said.pop("record")](**said)


def load(paths: Iterable[str | Path]) -> History:
    """Read the history that the processes of a run have written.

    Half a line at the end of a file is overlooked: its process died in that write, so nothing
    followed from what it was about to record.

    Args:
        paths: the files, in any order.

    Raises:
        BadHistory: a whole line is no record; the text says which.
    """
    return History.of(record for path in paths for record in _records(Path(path)))


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decode(line)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadHistory(f"{path}:{number} is no record: {line!r}") from error
