"""What came of the orders: read from the log and from the accounts when all is done.

A durable bus has it all in its file, so that it does not matter how often the process was killed
on the way. A direct bus keeps nothing: there the logbook has to do.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from headwater import Bus

from .accounts import Accounts
from .audit import Audit
from .logbook import Failures, Logbook, short

Number = Decimal | int

_BOOKS = ("orders", "cancellations", "units", "revenue", "notified", "shipped")


@dataclass
class Share:
    """One handler's share: the events it had to handle, and how many of these it did or did not."""

    events: int = 0
    handled: int = 0
    given_up: int = 0


class Reason(NamedTuple):
    """Why a handler gave up some events."""

    handler: str
    kind: str  # the class of the error
    events: int
    example: str


@dataclass
class Outcome:
    """What came of the orders.

    Attributes:
        books: orders, cancellations, units, revenue, notified and shipped.
        moved: pieces by stock code, net of what came back.
        boxes: boxes of the supplier by stock code.
        handlers: every handler's share.
        reasons: why events were given up.
        kept: whether these are dead letters, which the log keeps.
        differences: where this is not what the orders add up to, one line each.
    """

    books: dict[str, Decimal]
    moved: dict[str, int]
    boxes: dict[str, int]
    handlers: dict[str, Share]
    reasons: list[Reason]
    kept: bool
    differences: list[str] = field(default_factory=list[str])


async def find_outcome(bus: Bus, accounts: Accounts, logbook: Logbook, audit: Audit) -> Outcome:
    """Return what came of the orders; everything is done by now."""
    kept = bus.capabilities is not None
    events = await _events(bus, logbook) if kept else logbook.events
    failures = await _dead_letters(bus) if kept else logbook.failures
    handlers: dict[str, Share] = {}
    for name, tally in logbook.handlers.items():
        given_up = sum(len(texts) for (handler, _), texts in failures.items() if handler == name)
        # Everything in the log is settled: what is no dead letter has been handled.
        handled = events[name] - given_up if kept else tally.handled
        handlers[name] = Share(events[name], handled, given_up)
    books = await accounts.read("books")
    outcome = Outcome(
        books={item: books.get(item, Decimal(0)) for item in _BOOKS},
        moved={code: int(amount) for code, amount in (await accounts.read("moved")).items()},
        boxes={code: int(amount) for code, amount in (await accounts.read("boxes")).items()},
        handlers=handlers,
        reasons=[
            Reason(handler, kind, len(texts), min(texts))
            for (handler, kind), texts in sorted(failures.items())
        ],
        kept=kept,
    )
    outcome.differences.extend(_differences(outcome, audit))
    return outcome


async def _events(bus: Bus, logbook: Logbook) -> Counter[str]:
    """Count the events in the log by the handlers that they are for."""
    events = Counter[str]()

    def count(event: object) -> None:
        events.update(logbook.receivers(event))

    await bus.replay("**", into=count)
    return events


async def _dead_letters(bus: Bus) -> Failures:
    failures: Failures = {}
    for letter in await bus.dead_letters.list(limit=1_000_000):
        failures.setdefault((short(letter.subscription), letter.kind), []).append(letter.error)
    return failures


def _differences(outcome: Outcome, audit: Audit) -> Iterator[str]:
    """Yield what is not as it must be."""
    books, handlers = outcome.books, outcome.handlers
    events: dict[str, Number] = dict(audit.events)
    events["analytics"] = sum(books[item] for item in _BOOKS if item not in {"units", "revenue"})
    wanted: dict[str, Number] = dict(audit.books)
    wanted["shipped"] = handlers["courier"].handled
    yield from _unequal("", books, wanted)
    yield from _unequal("stock of ", outcome.moved, audit.moved)
    yield from _unequal("boxes of ", outcome.boxes, audit.boxes)
    had: dict[str, Number] = {name: share.events for name, share in handlers.items()}
    yield from _unequal("events for ", had, events)
    done: dict[str, Number] = {
        name: share.handled + share.given_up for name, share in handlers.items()
    }
    yield from _unequal("events done by ", done, had)


def _unequal(what: str, found: Mapping[str, Number], wanted: Mapping[str, Number]) -> Iterator[str]:
    for name in sorted({*found, *wanted}):
        is_now, must_be = found.get(name, 0), wanted.get(name, 0)
        if is_now != must_be:
            yield f"{what}{name}: {is_now:,}, and the orders add up to {must_be:,}"
