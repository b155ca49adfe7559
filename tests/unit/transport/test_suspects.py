"""Suspects: events that may have ended the process run one at a time, and in the order of keys."""

from typing import Any, cast

from headwater.arrival import Arrival
from headwater.bookkeeping import Bookkeeping
from headwater.consumer import Consumer
from headwater.envelope import Envelope
from headwater.ledger import Entry, Put
from headwater.strand import Strand
from headwater.suspects import Suspects
from headwater.transport import Assigned, Lane, Received

LANE = Lane("shop:pack", "events", 0)


class Engine:
    """Counts the credit that it is given."""

    def credit(self, lane: Lane, more: int) -> None:
        """Nothing comes of it here."""


class Life:
    """Notes what begins."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def arrive_all(self, arrivals: list[Arrival]) -> None:
        """Begin them."""
        self.begun += [arrival.envelope.id for arrival in arrivals]

    def limit_of(self, arrival: Arrival) -> int:
        """As without a retry."""
        return 5


class Delivery:
    """As much of an arrival as a suspect needs."""

    finished = counted = alone = entered = False
    attempt = 1

    def __init__(self, strand: Strand, received: Received) -> None:
        self.strand, self.position, self.envelope = strand, received.position, received.envelope
        self.message = self.subscription = type(
            "Named", (), {"id": received.envelope.id, "name": LANE.subscription}
        )()


class Shelf(Consumer):
    """A consumer of plain deliveries."""

    def __init__(self, strand: Strand) -> None:
        self.name = LANE.subscription
        self.strands = {LANE: strand}
        self.held, self.loaded, self.blocking, self.admitted = set(), {}, {}, set()
        self.subscription = cast("Any", type("Named", (), {"name": self.name, "paused": False})())

    def arrival(self, strand: Strand, position: int, envelope: Envelope) -> Any:
        """A delivery."""
        return Delivery(strand, Received(position, envelope))

    def entry(self, arrival: Any, state: Any, **fields: Any) -> Entry:
        """What the ledger would keep."""
        attempts = fields.get("attempts", 0)
        return Entry(
            self.name, arrival.position, 0, state, 0, attempts, parked=False, kind="", error="",
            traceback="", time=0.0, envelope=arrival.envelope,
        )  # fmt: skip


def envelope(id: str, key: str = "k") -> Envelope:
    """An event."""
    return Envelope(id, "events", key, "Placed", 1, 0.0, None, None, 0, None, b"{}")


def crashed(*ids: str) -> tuple[Suspects, Shelf, Strand, Life]:
    """A lane whose owner has vanished, with these events in its reach."""
    strand = Strand(Assigned(LANE, 2, 0, len(ids), frozenset()), {})
    for position, id_ in enumerate(ids, start=1):
        strand.window.take(position)
        strand.queue.append(Received(position, envelope(id_)))
    life, shelf = Life(), Shelf(strand)
    books = Bookkeeping(cast("Any", Engine()), cast("Any", life))
    books.consumers[shelf.name] = shelf
    suspects = Suspects(books, cast("Any", life), lambda consumer, arrival: arrival, _never)
    suspects.add(shelf)
    suspects.run()
    return suspects, shelf, strand, life


def _never(arrival: Arrival, error: BaseException) -> None:
    raise AssertionError(error)


def stored(strand: Strand) -> list[tuple[str, str]]:
    """Store what is to be settled, and tell; what was put, as event and state."""
    settlement, told = strand.settlement()
    for tell in told:
        tell(None)
    return [(change.entry.envelope.id, change.entry.state) for change in settlement.changes
            if isinstance(change, Put)]  # fmt: skip


def test_one_runs_at_a_time_and_each_is_counted_first() -> None:
    """The next one begins when the one that runs alone has ended."""
    suspects, shelf, strand, life = crashed("a", "b")
    assert life.begun == []
    assert stored(strand) == [("a", "count")]
    assert life.begun == ["a"]
    suspects.run()
    assert stored(strand) == []
    (running,) = shelf.admitted
    suspects.ended(running)
    suspects.run()
    assert stored(strand) == [("b", "count")]
    assert life.begun == ["a", "b"]


def test_one_whose_key_is_held_while_it_is_counted_waits_behind_the_others() -> None:
    """An earlier event of its key has failed meanwhile, and waits in the ledger."""
    _, shelf, strand, life = crashed("a", "b")
    shelf.held.add(("events", "k"))
    assert stored(strand) == [("a", "count")]
    assert life.begun == []
    assert stored(strand) == [("a", "blocked"), ("b", "count")]
    assert life.begun == []
