"""The seam for people: what they look at and move in a log, beside publishing and handling.

An engine that can do this has an attribute ``operations``. Looking never changes anything; what
moves places or forgets events is one transaction, and refuses where events would be lost or would
be handled again behind somebody's back, unless it is forced.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from headwater.envelope import Envelope
from headwater.errors import Unsupported
from headwater.ledger import Entry

Stage = Literal["settled", "underway", "waiting", "paused", "retry", "blocked", "dead", "skipped"]
"""How far one event is with one subscription.

``settled``: handled; ``underway``: handed to a process; ``waiting``: not begun, ``paused``: because
the subscription is; ``retry``: to be handled again; ``blocked``: behind another event of its key;
``dead``: given up; ``skipped``: it lies before the place where the subscription began.
"""

Level = Literal["fine", "note", "wrong"]


class Consumer(NamedTuple):
    """A stored subscription.

    Attributes:
        name: the durable name.
        what: the names and patterns it reacts to.
        created: when it was registered, seconds since 1970.
        paused: whether somebody has paused it for all processes.
        lag: events it wants and has not settled, counted up to a million.
        waiting: entries of its ledger that wait: retries, and what is blocked behind them.
        dead: its dead letters.
        oldest: when the oldest event of its lag was published; None: there is none.
        processes: how many living processes consume it.
    """

    name: str
    what: tuple[str, ...]
    created: float
    paused: bool
    lag: int
    waiting: int
    dead: int
    oldest: float | None
    processes: int


class Place(NamedTuple):
    """How far a subscription is in one lane; `owner` is the process that has it, or empty."""

    topic: str
    lane: int
    position: int
    lag: int
    owner: str


class Member(NamedTuple):
    """A process that consumes.

    Attributes:
        process: what it is called.
        alive: whether it lives and has renewed its lease.
        lanes: how many it owns.
    """

    process: str
    alive: bool
    lanes: int


class Step(NamedTuple):
    """What became of one event with one subscription; `entry` is its place in the ledger."""

    subscription: str
    stage: Stage
    entry: Entry | None = None


class Chapter(NamedTuple):
    """One event of a story.

    Attributes:
        position: its place in the log; 0 for one that is not due yet.
        due: when it enters the log, seconds since 1970; None: it is there.
        envelope: the event.
        steps: one for each subscription that wants it.
    """

    position: int
    due: float | None
    envelope: Envelope
    steps: tuple[Step, ...] = ()


class Finding(NamedTuple):
    """What a look at the log found: a level, what was looked at, how it is, what mends it."""

    level: Level
    subject: str
    text: str
    fix: str = ""


class Operations(Protocol):
    """What people do with a log; called on the bus's I/O loop.

    Whatever names a subscription raises NoSubscription if there is none of that name.
    """

    async def consumers(self) -> Sequence[Consumer]:
        """Every stored subscription, by name."""
        ...

    async def places(self, subscription: str) -> Sequence[Place]:
        """How far it is, lane by lane."""
        ...

    async def members(self) -> Sequence[Member]:
        """The processes that consume."""
        ...

    async def pause(self, subscription: str, *, paused: bool) -> bool:
        """Pause or resume it in all processes; false if it was so already."""
        ...

    async def reset(self, subscription: str, position: int, *, force: bool) -> int:
        """Move its place; returns how many entries of its ledger that ended.

        What lies after the position comes again: its entries and what the inbox knows of it are
        forgotten.

        Raises:
            Refused: somebody consumes it, and it is not forced.
        """
        ...

    async def rename(self, old: str, new: str, *, force: bool) -> None:
        """Give its place, its entries and its inbox to another name.

        Raises:
            Refused: somebody consumes one of them, or the new name has a place of its own, and it
                is not forced.
        """
        ...

    async def drop(self, subscription: str, *, force: bool) -> int:
        """Forget it; returns how many unsettled events it had.

        Raises:
            Refused: there are some, or somebody consumes it, and it is not forced.
        """
        ...

    async def find(self, id: str) -> Chapter | None:
        """The event with an id or, if that is a number, at a position."""
        ...

    async def story(self, correlation: str, limit: int) -> Sequence[Chapter]:
        """The events of a story, in order, and what became of each."""
        ...

    async def tally(self, after: int, end: int) -> Mapping[str, int]:
        """How many events there are after a position up to another, by their names."""
        ...

    async def prune(self, before: float, *, force: bool) -> int:
        """Remove some settled events that are older; returns how many, 0 when it is done.

        Forced, it removes unsettled ones too.
        """
        ...

    async def check(self, *, quick: bool) -> Sequence[Finding]:
        """Look whether the log is in order; `quick` leaves out what reads all of it."""
        ...


def operations_of(transport: object, name: str) -> Operations:
    """The operations of an engine.

    Raises:
        Unsupported: it has none.
    """
    found: Operations | None = getattr(transport, "operations", None)
    if found is None:
        raise Unsupported(
            f"{name} has nothing to look at from outside: this works on a log that is stored, such"
            f" as sqlite:///shop.db"
        )
    return found
