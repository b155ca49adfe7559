"""What an engine can do, as values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do, as values; what it cannot is an error when it is asked for.

    Attributes:
        name: of the engine, for people.
        persistent: whether events survive the end of the process.
        shared: whether several processes may use one log.
        ordered: ``key``: events of a key are handled in order; ``none``: in any order.
        deduplicates: for how long an id is stored once, in words; empty: not at all.
        delay: the longest delay, in seconds; 0: none.
        replay: whether past events can be read again.
        transaction: whether it has transactions of its own for ``transaction=True``.
        ledger: whether it keeps far retries, parked events and dead letters itself.
        max_bytes: how large an encoded event may be.
        survives: what an acknowledged event survives.
        notes: what else its users must know.
    """

    name: str
    persistent: bool
    shared: bool
    ordered: Literal["key", "none"]
    deduplicates: str
    delay: float
    replay: bool
    transaction: bool
    ledger: bool
    max_bytes: int
    survives: tuple[Literal["client kill", "broker kill", "power cut", "node loss"], ...]
    notes: tuple[str, ...] = ()
