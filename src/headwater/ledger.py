"""The seam for exceptions to plain success: where what is not simply handled is kept.

Success moves a cursor and leaves no trace here. An entry is made when an attempt fails and the
next one is far off, when an event waits behind another one of its key, and when an event is given
up. The order of a key is kept by an invariant: of all entries of a key that is held, the first one
is ``retry`` (it has a time) or a parked ``dead``, and the others are ``blocked`` behind it. Whoever
erases the first one arms the next.

On an engine that is a database the changes are part of a lane's settlement; elsewhere the ledger
is a database of its own, written before the engine is told.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from headwater.envelope import Envelope

State = Literal["count", "retry", "blocked", "dead"]


class Entry(NamedTuple):
    """One event that one subscription could not simply handle.

    Attributes:
        subscription: the durable name.
        position: the event's place in the log.
        lane: its lane's number.
        state: ``count``: only its attempts are counted, it is still on its way; ``retry``: to be
            handled at `due`; ``blocked``: waits behind others of its key; ``dead``: given up.
        due: seconds since 1970; 0 for what has no time.
        attempts: made so far.
        parked: given up, and its followers wait.
        error: the last one's text; `kind` its class, `traceback` where it came from.
        time: when this was written, seconds since 1970.
        envelope: the event itself.
        number: the entry's own, in order of entry; 0 before it is stored.
    """

    subscription: str
    position: int
    lane: int
    state: State
    due: float
    attempts: int
    parked: bool
    kind: str
    error: str
    traceback: str
    time: float
    envelope: Envelope
    number: int = 0


class Put(NamedTuple):
    """Write an entry, in place of an earlier one of the same subscription and event."""

    entry: Entry


class Erase(NamedTuple):
    """Forget an entry; if it held its key, arm the next entry of that key."""

    subscription: str
    event_id: str


class Handled(NamedTuple):
    """Forget which events of a lane were handled in transactions, up to a position."""

    subscription: str
    topic: str
    lane: int
    position: int


Change = Put | Erase | Handled


class Held(NamedTuple):
    """What a new owner of a lane must know: attempts by event id, and the keys that are held."""

    attempts: dict[str, int]
    keys: frozenset[str]


class Letters(NamedTuple):
    """Which dead letters are meant; None: whatever it is.

    Attributes:
        numbers: the entries' own numbers.
        subscription: the durable name.
        name: of the event.
        kind: the class of the error.
        key: of the event.
        before: given up before this time, in seconds since 1970.
    """

    numbers: tuple[int, ...] | None = None
    subscription: str | None = None
    name: str | None = None
    kind: str | None = None
    key: str | None = None
    before: float | None = None


class Ledger(Protocol):
    """Where entries are kept; called on the bus's I/O loop."""

    async def held(self, subscription: str, topic: str, lane: int) -> Held:
        """What is there when a lane gets an owner."""
        ...

    async def due(
        self, subscription: str, topic: str, lanes: Sequence[int], now: float, limit: int
    ) -> tuple[Sequence[Entry], float | None]:
        """Entries whose time has come, and when the next one's does."""
        ...

    async def followers(self, first: Entry, limit: int) -> Sequence[Entry]:
        """The entries blocked behind `first`, in order."""
        ...

    async def letters(self, which: Letters, limit: int) -> Sequence[Entry]:
        """Dead letters, latest first."""
        ...

    async def retry(self, which: Letters, now: float) -> int:
        """Let dead letters be handled again; returns how many."""
        ...

    async def discard(self, which: Letters) -> int:
        """Forget dead letters; returns how many."""
        ...

    async def edit(self, number: int, data: bytes, now: float) -> bool:
        """Give a dead letter other data and let it be handled again; false if there is none."""
        ...

    async def waiting(self, letter: Entry) -> int:
        """How many entries wait behind a parked dead letter."""
        ...
