"""What a power cut leaves of a folder, given what was written there and what was synced.

The page cache holds every write; the disk has for certain only what a sync covered that began after
the write had returned. Of the rest, each sector of 512 bytes may be as it was after any of its
writes, names may be missing or still there, and a file may have grown before its data arrived.
Which of these happens is decided by a `Keep`, asked for each unsynced change in turn.

A sync that failed makes nothing durable, and neither does the next one make up for it: the kernel
has marked those pages clean, and only a new write to a page brings it to the disk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

SECTOR = 512  # bytes that reach the disk together or not at all
PAGE = 4096  # bytes that the kernel writes out together

# Asked whether the change that began at a moment reached the disk: (moment, which sector of the
# file); in place of a sector also one of these.
Keep = Callable[[int, int], bool]
NAME = -1  # the name appeared or vanished
LENGTH = -2  # the file grew or was cut


@dataclass
class Change:
    """Bytes within one page, or with `data` None a cut to `offset` bytes, that began and ended."""

    begin: int
    end: int
    offset: int
    data: bytes | None
    forsaken: bool = False  # a sync failed, and no later one will write this

    def covers(self, other: "Change") -> bool:
        """Whether this writes the page of `other` anew, or cuts it off."""
        if self.data is None:
            return other.offset >= self.offset
        return other.offset // PAGE == self.offset // PAGE

    def apply(self, content: bytearray) -> None:
        """Do to `content` what the page cache saw."""
        if self.data is None:
            _resize(content, self.offset)
            return
        _resize(content, max(len(content), self.offset))
        content[self.offset : self.offset + len(self.data)] = self.data

    def copy(
        self, cached: bytearray, disk: bytearray, unit: int, keeps: Callable[[int], bool]
    ) -> None:
        """Copy the units that this touched and `keeps` wants from the cache to the disk."""
        if self.data is None:
            return
        for number in range(self.offset // unit, (self.offset + len(self.data) - 1) // unit + 1):
            if keeps(number):
                piece = cached[number * unit : (number + 1) * unit]
                _resize(disk, max(len(disk), number * unit))
                disk[number * unit : number * unit + len(piece)] = piece


@dataclass
class File:
    """What is on the disk for certain, and the changes since then."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list[Change])

    def write(self, begin: int, end: int, offset: int, data: bytes) -> None:
        """Add a write, page by page."""
        while data:
            size = PAGE - offset % PAGE
            self.pending.append(Change(begin, end, offset, data[:size]))
            offset, data = offset + size, data[size:]

    def cut(self, begin: int, end: int, size: int) -> None:
        """Add a change of the length to `size`."""
        self.pending.append(Change(begin, end, size, None))

    def sync(self, begin: int) -> None:
        """Make durable what had returned before `begin`."""
        cached, waiting = bytearray(self.durable), list[Change]()
        for change in self.pending:
            if change.end >= begin:
                waiting.append(change)
                continue
            change.apply(cached)
            if change.forsaken:
                waiting.append(change)
                continue
            if change.data is None:
                change.apply(self.durable)
            else:
                change.copy(cached, self.durable, PAGE, lambda _: True)
            # What was forsaken no longer matters where its page is written anew or cut off.
            waiting = [other for other in waiting if not (other.forsaken and change.covers(other))]
        self.pending = waiting

    def forsake(self, begin: int) -> None:
        """Note that a sync failed: what had returned before `begin` stays unwritten."""
        for change in self.pending:
            change.forsaken |= change.data is not None and change.end < begin

    def image(self, keep: Keep) -> bytes:
        """Return the content after a cut."""
        cached, disk = bytearray(self.durable), bytearray(self.durable)
        for change in self.pending:
            change.apply(cached)
            if keep(change.begin, LENGTH):
                _resize(disk, len(cached) if change.data is None else max(len(disk), len(cached)))
            change.copy(cached, disk, SECTOR, partial(keep, change.begin))
        return bytes(disk)


@dataclass
class Naming:
    """Names that came (with their file) or went (with None), all of them at once."""

    begin: int
    end: int
    names: dict[str, File | None]


class Disk:
    """A folder: its files, and which names of them are durable."""

    def __init__(self, before: dict[str, bytes]) -> None:
        self._durable = {name: File(bytearray(content)) for name, content in before.items()}
        self._live = dict(self._durable)
        self._nameless: dict[str, File] = {}  # by the name that they had last
        self._pending: list[Naming] = []

    def file(self, name: str, *, deleted: bool = False) -> File:
        """Return the file that has this name, or had it last."""
        return self._nameless[name] if deleted else self._live[name]

    def create(self, begin: int, end: int, name: str) -> None:
        """Make an empty file, unless there is one with this name."""
        if name not in self._live:
            self._name(Naming(begin, end, {name: File()}))

    def unlink(self, begin: int, end: int, name: str) -> None:
        """Take the name away."""
        self._name(Naming(begin, end, {name: None}))

    def rename(self, begin: int, end: int, old: str, new: str) -> None:
        """Give the file `old` the name `new`."""
        self._name(Naming(begin, end, {old: None, new: self._live[old]}))

    def link(self, begin: int, end: int, old: str, new: str) -> None:
        """Give the file `old` the name `new` as well, unless that is taken."""
        if new not in self._live:
            self._name(Naming(begin, end, {new: self._live[old]}))

    def sync_names(self, begin: int) -> None:
        """Make durable the names that came or went before `begin`."""
        for naming in self._pending:
            if naming.end < begin:
                _rename(self._durable, naming)
        self._pending = [naming for naming in self._pending if naming.end >= begin]

    def image(self, keep: Keep) -> dict[str, bytes]:
        """Return the files that a cut now leaves, by name."""
        names = dict(self._durable)
        for naming in self._pending:
            if keep(naming.begin, NAME):
                _rename(names, naming)
        return {name: names[name].image(keep) for name in sorted(names)}

    def latest(self) -> int:
        """Return when the latest change began that is not durable yet, or -1."""
        return max((begin for begin in self._unsynced()), default=-1)

    def _unsynced(self) -> Iterator[int]:
        for naming in self._pending:
            yield naming.begin
        for file in (*self._durable.values(), *self._live.values()):
            for change in file.pending:
                yield change.begin

    def _name(self, naming: Naming) -> None:
        for name in naming.names:
            if name in self._live:
                self._nameless[name] = self._live[name]
        _rename(self._live, naming)
        self._pending.append(naming)


def _rename(names: dict[str, File], naming: Naming) -> None:
    for name, file in naming.names.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _resize(content: bytearray, size: int) -> None:
    """Cut `content`, or let it grow by zeros."""
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
