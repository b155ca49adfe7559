"""What passes the seam between the core and a transport: lanes, what comes by them, settlements.

A transport tells of lanes that this process owns (`Assigned`), what came by them (`Batch`), and
that it shall give them up or has lost them. The core tells what is settled (`Settlement`).
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from headwater.envelope import Envelope
from headwater.ledger import Change


class Lane(NamedTuple):
    """One ordered strand of a topic, as one subscription reads it."""

    subscription: str
    topic: str
    number: int


class Interest(NamedTuple):
    """A subscription, as an engine sees it: its durable name, its topics and where it begins."""

    subscription: str
    topics: tuple[str, ...]
    what: tuple[str, ...]
    start: int | Literal["new", "beginning"] = "new"


class Outgoing(NamedTuple):
    """An event to be stored, now or once `due` (seconds since 1970) has come."""

    envelope: Envelope
    due: float | None
    token: Any


class Received(NamedTuple):
    """An event and its place in the log."""

    position: int
    envelope: Envelope


class Assigned(NamedTuple):
    """This process owns a lane from now on, and reads on after `position`.

    Up to `suspect` the owner before may have been at work when it vanished; `done` are positions
    that were settled beyond `position`.
    """

    lane: Lane
    epoch: int
    position: int
    suspect: int
    done: frozenset[int]


class Batch(NamedTuple):
    """Events of a lane, in order; all of the lane up to `end` has been handed out then."""

    lane: Lane
    epoch: int
    received: Sequence[Received]
    end: int


class Revoking(NamedTuple):
    """Another process shall have this lane: finish what runs, settle, and `release` it."""

    lane: Lane
    epoch: int


class Lost(NamedTuple):
    """Another process has this lane; what is under way here does not count any more."""

    lane: Lane
    epoch: int


class Nudge(NamedTuple):
    """Something in the ledger may have come due."""


Event = Assigned | Batch | Revoking | Lost | Nudge


class Settlement(NamedTuple):
    """What is done in a lane, all of it or, on a stale epoch, nothing.

    Attributes:
        lane, epoch: whose, and as which owner.
        position: everything up to here is settled.
        done: positions that are settled beyond it.
        claim: up to here events may be handled before the next settlement.
        publishes: events that handlers have published, each now or when it is due.
        changes: to the ledger.
    """

    lane: Lane
    epoch: int
    position: int
    done: Sequence[int]
    claim: int
    publishes: Sequence[tuple[Envelope, float | None]] = ()
    changes: Sequence[Change] = ()


class Progress(NamedTuple):
    """How far a subscription is: events it has not settled, and entries open in its ledger."""

    subscription: str
    lag: int
    waiting: int
    dead: int
    paused: bool
    oldest: float | None
