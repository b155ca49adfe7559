"""The ledger in memory: the same answers as `ledgers.sql` gives, from dictionaries.

Entries stand in the order of their numbers, since a dictionary keeps the place of what is written
again. What waits behind one key is found by that key, so that a long line behind a dead letter is
not searched from its beginning at every step.

Several buses of one process may share it, each on a thread of its own: a lock stands around
everything.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

from headwater.ledger import Change, Entry, Erase, Held, Letters, Put
from headwater.runtime import Lock

Place = tuple[str, str]
"""A subscription, and the id of an event."""
Key = tuple[str, str, str]
"""A subscription, a topic, and a key of its events."""


class MemoryLedger:
    """See `headwater.ledger.Ledger`.

    Args:
        changed: called when people have changed something, and entries may be due.

    Attributes:
        lock: reentrant; held while anything is read or written.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.lock = Lock()
        self._changed = changed
        self._entries: dict[Place, Entry] = {}
        self._armed: dict[Place, None] = {}
        self._lines: dict[Key, dict[Place, None]] = {}
        self._inbox: dict[Place, tuple[str, int, int]] = {}
        self._numbers = itertools.count(1)

    # What settlements and transactions write.

    def apply(self, changes: Iterable[Change]) -> None:
        """Write changes, in order."""
        with self.lock:
            for change in changes:
                if isinstance(change, Put):
                    self._put(change.entry)
                elif isinstance(change, Erase):
                    self._erase(change.subscription, change.event_id)
                else:
                    self._forget_handled(*change)

    def was_handled(self, subscription: str, event_id: str) -> bool:
        """Whether an event was handled in a transaction."""
        with self.lock:
            return (subscription, event_id) in self._inbox

    def note_handled(
        self, subscription: str, event_id: str, topic: str, lane: int, position: int
    ) -> None:
        """Note in the inbox that an event was handled in a transaction."""
        with self.lock:
            self._inbox.setdefault((subscription, event_id), (topic, lane, position))

    def _forget_handled(self, subscription: str, topic: str, lane: int, position: int) -> None:
        """Forget what cannot come again; what is in the ledger can, wherever its lane is by now."""
        past = [
            place
            for place, (its_topic, its_lane, its_position) in self._inbox.items()
            if (place[0], its_topic, its_lane) == (subscription, topic, lane)
            and its_position <= position
            and place not in self._entries
        ]
        for place in past:
            del self._inbox[place]

    def _put(self, entry: Entry) -> None:
        place = entry.subscription, entry.envelope.id
        earlier = self._entries.get(place)
        if earlier is not None:  # Where it came from stays as it was first written.
            position, lane, envelope = earlier.position, earlier.lane, earlier.envelope
            self._write(entry._replace(
                position=position, lane=lane, envelope=envelope, number=earlier.number
            ))  # fmt: skip
        else:
            self._write(entry._replace(number=next(self._numbers)))
        key = _key_of(self._entries[place])
        if key is None:
            return
        if earlier is None:
            self._lines.setdefault(key, {})[place] = None
        if entry.state == "blocked":  # What it was to wait behind may be gone by now.
            self._arm(key)

    def _erase(self, subscription: str, event_id: str) -> None:
        place = subscription, event_id
        self._armed.pop(place, None)
        entry = self._entries.pop(place, None)
        key = None if entry is None else _key_of(entry)
        if entry is None or key is None:
            return
        line = self._lines[key]
        del line[place]
        if not line:
            del self._lines[key]
        elif entry.state != "count":
            self._arm(key)

    def _arm(self, key: Key) -> None:
        """Let the first entry of a key be handled, if it waited for one that is gone."""
        for entry in self._line(key):
            if entry.state == "count" or (entry.state == "dead" and not entry.parked):
                continue
            if entry.state == "blocked":
                self._write(entry._replace(state="retry", due=0.0))
            return

    def _write(self, entry: Entry) -> None:
        place = entry.subscription, entry.envelope.id
        self._entries[place] = entry
        if entry.state == "retry":
            self._armed[place] = None
        else:
            self._armed.pop(place, None)

    def _line(self, key: Key | None) -> Iterable[Entry]:
        """The entries of a key, in order."""
        return (self._entries[place] for place in self._lines.get(key, ())) if key else ()

    # What the core asks.

    async def held(self, subscription: str, topic: str, lane: int) -> Held:
        """What a new owner of a lane must know."""
        with self.lock:
            here = [entry for entry in self._entries.values() if _is_of(entry, subscription, topic)
                    and entry.lane == lane]  # fmt: skip
        return Held(
            {entry.envelope.id: entry.attempts for entry in here if entry.state == "count"},
            frozenset(
                entry.envelope.key
                for entry in here
                if entry.envelope.key is not None
                and (entry.state in ("retry", "blocked") or entry.parked)
            ),
        )

    async def due(
        self, subscription: str, topic: str, lanes: Sequence[int], now: float, limit: int
    ) -> tuple[Sequence[Entry], float | None]:
        """Entries whose time has come, and when the next one's does."""
        with self.lock:
            armed = [self._entries[place] for place in self._armed]
        waiting = [entry for entry in armed if _is_of(entry, subscription, topic)
                   and entry.lane in lanes]  # fmt: skip
        come = sorted((entry for entry in waiting if entry.due <= now), key=_due_of)
        later = min((entry.due for entry in waiting if entry.due > now), default=None)
        return come[:limit], later

    async def followers(self, first: Entry, limit: int) -> Sequence[Entry]:
        """The entries blocked behind `first`, in order."""
        with self.lock:
            behind = (entry for entry in self._line(_key_of(first))
                      if entry.number > first.number and entry.state == "blocked")  # fmt: skip
            return list(itertools.islice(behind, limit))

    async def waiting(self, letter: Entry) -> int:
        """How many entries wait behind a parked dead letter."""
        with self.lock:
            return sum(entry.state == "blocked" for entry in self._line(_key_of(letter)))

    def open(self, subscription: str) -> tuple[int, int]:
        """How many entries of a subscription are to be handled yet, and how many are dead."""
        with self.lock:
            states = [e.state for e in self._entries.values() if e.subscription == subscription]
        return states.count("retry") + states.count("blocked"), states.count("dead")

    # What people do.

    async def letters(self, which: Letters, limit: int) -> Sequence[Entry]:
        """Dead letters, latest first."""
        with self.lock:
            return self._meant(which)[: -limit - 1 : -1]

    async def retry(self, which: Letters, now: float) -> int:
        """Let dead letters be handled again, from their first attempt."""
        with self.lock:
            found = self._meant(which)
            for entry in found:
                self._write(entry._replace(state="retry", due=now, attempts=0))
        self._changed()
        return len(found)

    async def discard(self, which: Letters) -> int:
        """Forget dead letters; what waited behind one goes on."""
        with self.lock:
            found = self._meant(which)
            for entry in found:
                self._erase(entry.subscription, entry.envelope.id)
        self._changed()
        return len(found)

    async def edit(self, number: int, data: bytes, now: float) -> bool:
        """Give a dead letter other data and let it be handled again."""
        with self.lock:
            found = self._meant(Letters(numbers=(number,)))
            for entry in found:
                envelope = entry.envelope._replace(data=data)
                self._write(entry._replace(envelope=envelope, state="retry", due=now, attempts=0))
        self._changed()
        return bool(found)

    def _meant(self, which: Letters) -> list[Entry]:
        return [e for e in self._entries.values() if e.state == "dead" and _is_meant(e, which)]


def _is_of(entry: Entry, subscription: str, topic: str) -> bool:
    return entry.subscription == subscription and entry.envelope.topic == topic


def _is_meant(entry: Entry, which: Letters) -> bool:
    return (
        (which.numbers is None or entry.number in which.numbers)
        and which.subscription in (None, entry.subscription)
        and which.name in (None, entry.envelope.name)
        and which.kind in (None, entry.kind)
        and which.key in (None, entry.envelope.key)
        and (which.before is None or entry.time < which.before)
    )


def _key_of(entry: Entry) -> Key | None:
    envelope = entry.envelope
    return None if envelope.key is None else (entry.subscription, envelope.topic, envelope.key)


def _due_of(entry: Entry) -> tuple[float, int]:
    return entry.due, entry.number
