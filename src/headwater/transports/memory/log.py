"""The log that the buses of one process share: events, places, and who reads which lane.

Every bus has its own I/O loop in its own thread, so a lock stands around everything; nothing waits
while it is held. Whoever has to know of a change is told on its own loop.

The lanes of a subscription are shared out evenly among the buses that read it. Whoever has more
than its share gives lanes up when it has finished what it began with them; each change of owner
counts the lane's epoch up, and nothing is accepted from an owner with an older one.
"""

import bisect
import heapq
import itertools
import weakref
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from headwater.envelope import Envelope
from headwater.errors import Fenced
from headwater.lane import (
    Assigned,
    Batch,
    Event,
    Interest,
    Lane,
    Lost,
    Nudge,
    Progress,
    Received,
    Revoking,
    Settlement,
)
from headwater.ledgers.memory import MemoryLedger
from headwater.runtime import Lock, Runtime, at_fork
from headwater.transports.memory.loan import Desk, MemoryLoan

LANES = 8


class Member(Protocol):
    """A bus that has the log open. What it is called for happens on its own loop, soon."""

    def tell(self, event: Event) -> None:
        """Something has happened to one of its lanes."""
        ...

    def wake(self) -> None:
        """There may be events for it."""
        ...

    def wait(self) -> None:
        """There may be another delayed event to wait for."""
        ...


class Cursor:
    """The place of a subscription in one lane, and whose that is.

    Attributes:
        lane: which.
        position, done, claim: as they were settled; see `Settlement`.
        owner, epoch: who reads it, and the how manieth owner that is.
        leaving: whether its owner was asked to give it up.
        credit: how many events may be handed out.
        next: the index of the next one, among those of the lane.
    """

    __slots__ = ("claim", "credit", "done", "epoch", "lane", "leaving", "next", "owner", "position")

    def __init__(self, lane: Lane, position: int) -> None:
        self.lane = lane
        self.position = self.claim = position
        self.done: Sequence[int] = ()
        self.owner: Member | None = None
        self.epoch = self.credit = self.next = 0
        self.leaving = False

    def free(self, *, clean: bool) -> None:
        """It has no owner any more; unless `clean`, events up to its claim are suspects."""
        self.owner = None
        self.credit = 0
        if clean:
            self.claim = self.position


class Group:
    """A subscription: its places, and the buses that share its lanes."""

    def __init__(self) -> None:
        self.cursors: list[Cursor] = []
        self.readers: list[Member] = []


class Log:
    """See the module."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(self._nudge)
        self.lock = self.ledger.lock
        self.desk = Desk(self.lock, self.check_fence, self.ledger.was_handled, self._commit)
        self.events: list[Received] = []
        self.members: list[Member] = []
        self.cursors: dict[Lane, Cursor] = {}
        self._groups: dict[str, Group] = {}
        self._lanes: defaultdict[tuple[str, int], list[Received]] = defaultdict(list)
        self._turn = itertools.count(1)
        self._ids: set[str] = set()
        self._later: list[tuple[float, int, Envelope]] = []
        self._numbers = itertools.count()

    # Events.

    def append(self, events: Iterable[tuple[Envelope, float | None]]) -> None:
        """Store events, or put them by until they are due; an id that is there is passed over."""
        with self.lock:
            for envelope, due in events:
                if envelope.id in self._ids:
                    continue
                self._ids.add(envelope.id)
                if due is None:
                    self._append(envelope)
                else:
                    heapq.heappush(self._later, (due, next(self._numbers), envelope))
            self._tell_all()

    def _tell_all(self) -> None:
        for member in self.members:
            member.wake()
            if self._later:
                member.wait()

    def _append(self, envelope: Envelope) -> None:
        key = envelope.key
        lane = next(self._turn) if key is None else zlib.crc32(key.encode())
        received = Received(len(self.events) + 1, envelope)
        self.events.append(received)
        self._lanes[envelope.topic, lane % LANES].append(received)

    @property
    def next_due(self) -> float | None:
        """When the next delayed event is due."""
        with self.lock:
            return self._later[0][0] if self._later else None

    def move_due(self, now: float) -> None:
        """Store the delayed events whose time has come."""
        with self.lock:
            while self._later and self._later[0][0] <= now:
                self._append(heapq.heappop(self._later)[2])
            self._tell_all()

    def locate(self, time: float | None) -> int:
        """The position before the first event of a time, or the last one there is."""
        with self.lock:
            if time is None:
                return len(self.events)
            return bisect.bisect_left(self.events, time, key=lambda it: it.envelope.time)

    # Subscriptions.

    def register(self, interest: Interest) -> bool:
        """Remember a subscription and where it begins; true if it was not known."""
        with self.lock:
            new = interest.subscription not in self._groups
            group = self._groups.setdefault(interest.subscription, Group())
            place = interest.start
            position = len(self.events) if place == "new" else 0 if place == "beginning" else place
            for topic in interest.topics:
                for number in range(LANES):
                    lane = Lane(interest.subscription, topic, number)
                    if lane not in self.cursors:
                        self.cursors[lane] = Cursor(lane, position)
                        group.cursors.append(self.cursors[lane])
            group.cursors.sort(key=lambda cursor: (cursor.lane.number, cursor.lane.topic))
            return new

    def names(self) -> list[str]:
        """The subscriptions that are registered."""
        with self.lock:
            return sorted(self._groups)

    def progress(self, subscription: str) -> Progress:
        """How far a subscription is; what is delayed waits, as what is to be tried again does."""
        with self.lock:
            group, first, lag = self._groups.get(subscription, Group()), list[Received](), 0
            for cursor in group.cursors:
                rows = self._rows(cursor)
                left = len(rows) - _index(rows, cursor.position) - len(cursor.done)
                lag += left
                if left:
                    first.append(self._oldest(cursor))
            waiting, dead = self.ledger.open(subscription)
            topics = {cursor.lane.topic for cursor in group.cursors}
            waiting += sum(envelope.topic in topics for _, _, envelope in self._later)
            oldest = min(first).envelope.time if first else None
            return Progress(subscription, lag, waiting, dead, paused=False, oldest=oldest)

    def _oldest(self, cursor: Cursor) -> Received:
        rows = self._rows(cursor)
        left = itertools.islice(rows, _index(rows, cursor.position), None)
        return next(row for row in left if row.position not in cursor.done)

    def _rows(self, cursor: Cursor) -> list[Received]:
        return self._lanes[cursor.lane.topic, cursor.lane.number]

    # Who reads what.

    def read(self, subscription: str, member: Member) -> None:
        """Compete for the lanes of a subscription from now on."""
        with self.lock:
            readers = self._groups[subscription].readers
            if member not in readers:
                readers.append(member)
            self._share_out(subscription)

    def read_no_more(self, subscription: str, member: Member) -> None:
        """Compete for them no longer; lanes that it has are its own until it gives them back."""
        with self.lock:
            group = self._groups.get(subscription)
            if group is not None and member in group.readers:
                group.readers.remove(member)
                self._share_out(subscription)

    def release(self, lane: Lane, epoch: int, member: Member) -> None:
        """Give a lane back, with nothing under way in it."""
        with self.lock:
            cursor = self.cursors[lane]
            if cursor.owner is member and cursor.epoch == epoch:
                cursor.free(clean=True)
                # Who gives it back without being asked does not want it.
                self._share_out(lane.subscription, None if cursor.leaving else member)

    def leave(self, member: Member, *, clean: bool) -> None:
        """Give everything back that a bus has, which is closed; or, not `clean`, has vanished."""
        with self.lock:
            if member not in self.members:
                return
            self.members.remove(member)
            for cursor in self.cursors.values():
                if cursor.owner is member:
                    cursor.free(clean=clean)
                    if not clean:
                        member.tell(Lost(cursor.lane, cursor.epoch))
            for subscription in self._groups:
                self.read_no_more(subscription, member)

    def _share_out(self, subscription: str, unwilling: Member | None = None) -> None:
        """Give each reader its share: ask for what is too much, hand out what is free."""
        group = self._groups[subscription]
        if not group.readers:
            return
        share, more = divmod(len(group.cursors), len(group.readers))
        for number, reader in enumerate(group.readers):
            quota = share + (number < more)
            held = [cursor for cursor in group.cursors if cursor.owner is reader]
            for cursor in held[quota:]:
                if not cursor.leaving:
                    cursor.leaving = True
                    reader.tell(Revoking(cursor.lane, cursor.epoch))
            if reader is not unwilling:
                free = (cursor for cursor in group.cursors if cursor.owner is None)
                for cursor in list(itertools.islice(free, max(0, quota - len(held)))):
                    self._assign(cursor, reader)

    def _assign(self, cursor: Cursor, reader: Member) -> None:
        cursor.owner, cursor.epoch = reader, cursor.epoch + 1
        cursor.credit, cursor.leaving = 0, False
        cursor.next = _index(self._rows(cursor), cursor.position)
        reader.tell(
            Assigned(
                cursor.lane,
                cursor.epoch,
                cursor.position,
                max(cursor.claim, cursor.position),
                frozenset(cursor.done),
            )
        )

    # Hand out and settle.

    def take(self, member: Member) -> list[Batch]:
        """What there is for a bus, as far as its credit goes."""
        with self.lock:
            mine = [cursor for cursor in self.cursors.values()
                    if cursor.owner is member and cursor.credit and not cursor.leaving]  # fmt: skip
            return [batch for batch in map(self._take, mine) if batch.received]

    def _take(self, cursor: Cursor) -> Batch:
        rows, end = self._rows(cursor), len(self.events)
        received = rows[cursor.next : cursor.next + cursor.credit]
        cursor.next += len(received)
        cursor.credit -= len(received)
        if cursor.next < len(rows):
            end = rows[cursor.next].position - 1
        return Batch(cursor.lane, cursor.epoch, received, end)

    def check_fence(self, lane: Lane, epoch: int) -> Fenced | None:
        """What is wrong with who settles as an owner of so long ago; None: nothing."""
        cursor = self.cursors.get(lane)
        if cursor is not None and cursor.epoch == epoch:
            return None
        return Fenced(
            f"{lane.subscription}: another bus has taken over {lane.topic}, lane {lane.number}"
        )

    def settle(self, settlement: Settlement) -> Fenced | None:
        """Settle all of it, or nothing and say why."""
        with self.lock:
            error = self.check_fence(settlement.lane, settlement.epoch)
            if error is None:
                cursor = self.cursors[settlement.lane]
                cursor.position = max(cursor.position, settlement.position)
                cursor.done = settlement.done
                cursor.claim = max(cursor.claim, settlement.claim)
                self.append(settlement.publishes)
                self.ledger.apply(settlement.changes)
            return error

    def _commit(self, loan: MemoryLoan) -> None:
        self.append(loan.published)
        for handled in loan.handled:
            self.ledger.note_handled(*handled)

    def _nudge(self) -> None:
        with self.lock:
            for member in self.members:
                member.tell(Nudge())


def _index(rows: Sequence[Received], position: int) -> int:
    """Where the events after a position begin."""
    return bisect.bisect_right(rows, position, key=lambda row: row.position)


class Shelf:
    """Where logs are found: those with a name, and those of buses that are closed for a while."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, as in the child of a fork: what was there is the parent's."""
        self._lock = Lock()
        self._named: weakref.WeakValueDictionary[str, Log] = weakref.WeakValueDictionary()
        self._kept: weakref.WeakKeyDictionary[Runtime, dict[str, Log]] = weakref.WeakKeyDictionary()

    def take(self, name: str, runtime: Runtime, process: str) -> Log:
        """The log of a name; without one, that which a bus has just left here, or a new one."""
        with self._lock:
            if not name:
                return self._kept.get(runtime, {}).pop(process, None) or Log()
            log = self._named.get(name)
            if log is None:
                log = self._named[name] = Log()
            return log

    def keep(self, log: Log, runtime: Runtime, process: str) -> None:
        """A bus is closed; its next transport, which is made at once, shall find its own log."""
        with self._lock:
            self._kept.setdefault(runtime, {})[process] = log


SHELF = Shelf()
at_fork(SHELF.clear)
