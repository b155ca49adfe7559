"""One subscription, as it reads from a transport: which events it wants, and what it holds back.

Touched on the bus's I/O loop alone.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from headwater.arrival import Arrival
from headwater.deliver import Deliverer
from headwater.envelope import Decode, Envelope, arrived, decoder_of, split_names, unseal
from headwater.errors import Undecodable
from headwater.event import name_of, spec_of
from headwater.ledger import Entry, State
from headwater.options import CONCURRENCY
from headwater.policies.storm import Story
from headwater.strand import Strand
from headwater.subscription import Subscription, What
from headwater.topic import matches
from headwater.transport import Lane

LONGEST_TRACEBACK = 20_000
MAX_KNOWN = 10_000


class Consumer:
    """One subscription of one bus; see the module.

    Args:
        subscription: it.
        driver: drives its deliveries.
        classes: event classes by name.
        now: the wall clock.
        story_of: finds a story by its correlation.

    Attributes:
        strands: the lanes that this process owns.
        held: keys whose events wait in the ledger.
        loaded: deliveries that came out of the ledger, by event id.
        blocking: by key, how many events are on their way into the ledger.
        admitted: how many are under way.
    """

    def __init__(
        self,
        subscription: Subscription,
        driver: Deliverer,
        classes: Callable[[], Mapping[str, type[Any]]],
        now: Callable[[], float],
        story_of: Callable[[str], Story],
    ) -> None:
        self.subscription = subscription
        self.name = subscription.name
        self.strands: dict[Lane, Strand] = {}
        self.held: set[tuple[str, str]] = set()
        self.loaded: dict[str, Arrival] = {}
        self.blocking: dict[tuple[str, str], int] = {}
        self.admitted: set[Arrival] = set()
        self.limit = subscription.options.concurrency or CONCURRENCY
        self.next_due: float | None = None
        self.checking = False
        self.check_again = False
        self.turn = 0
        self._driver = driver
        self._classes = classes
        self._now = now
        self._story_of = story_of
        self._wants: dict[str, bool] = {}
        self._decoders: dict[tuple[str, int], Decode] = {}
        self._known_classes: Mapping[str, type[Any]] = {}
        self._count = 0

    @property
    def under_way(self) -> int:
        """How many deliveries are under way, without those that wait behind one of their key."""
        intake = self.subscription.intake
        return len(self.admitted) - (0 if intake is None else intake.lanes.queued)

    def wants(self, envelope: Envelope) -> bool:
        """Whether its names match."""
        known = self._wants.get(envelope.names)
        if known is None:
            if len(self._wants) > MAX_KNOWN:
                self._wants.clear()
            known = wants(self.subscription.what, split_names(envelope.names))
            self._wants[envelope.names] = known
        return known

    def arrival(self, strand: Strand, position: int, envelope: Envelope) -> Arrival | None:
        """The delivery of an event; None if the subscription's ``where`` does not want it.

        What cannot be decoded is a delivery all the same, which carries its `Undecodable`.
        """
        error: Exception | None = None
        event: object = None
        try:
            event = unseal(envelope, self._decoder(envelope))
            where = self.subscription.options.where
            if where is not None and not where(event):
                return None
        except Exception as raised:
            error = raised
        message = arrived(envelope, event, self._now, self._story_of)
        arrival = Arrival(self._driver, message, self.subscription, envelope, position, strand)
        arrival.decode = self._decoder
        arrival.refused = error
        return arrival

    def _decoder(self, envelope: Envelope) -> Decode:
        classes = self._classes()
        if classes is not self._known_classes or len(classes) != self._count:
            self._decoders.clear()  # A class was registered since.
            self._known_classes, self._count = classes, len(classes)
        kind = envelope.names, envelope.version
        decode = self._decoders.get(kind)
        if decode is None:
            if len(self._decoders) > MAX_KNOWN:
                self._decoders.clear()
            decode = self._decoders[kind] = decoder_of(*kind, classes)
        return decode

    def holds(self, envelope: Envelope) -> bool:
        """Whether events of this key wait in the ledger."""
        return envelope.key is not None and (envelope.topic, envelope.key) in self.held

    def entry(
        self,
        arrival: Arrival,
        state: State,
        *,
        due: float = 0.0,
        attempts: int = 0,
        error: BaseException | None = None,
        parked: bool = False,
    ) -> Entry:
        """What the ledger keeps of a delivery."""
        return Entry(
            self.name,
            arrival.position,
            arrival.strand.lane.number,
            state,
            due,
            attempts,
            parked,
            "" if error is None else type(error).__name__,
            _text_of(error),
            _traceback_of(error),
            self._now(),
            arrival.envelope,
        )


def wants(whats: tuple[What, ...], names: tuple[str, ...]) -> bool:
    """Whether one of the classes, names and patterns matches one of an event's names."""
    for what in whats:
        if isinstance(what, str):
            if any(matches(what, name) for name in names):
                return True
        elif what is object or {name_of(what), *spec_of(what).aliases}.intersection(names):
            return True
    return False


def _text_of(error: BaseException | None) -> str:
    try:
        text = "" if error is None else str(error)[:LONGEST_TRACEBACK]
    except Exception as trouble:
        return f"it cannot be shown: {type(trouble).__name__}"
    return text.encode(errors="replace").decode()


def _traceback_of(error: BaseException | None) -> str:
    if error is None or isinstance(error, Undecodable):
        return ""
    try:
        text = "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]
        return text.encode(errors="replace").decode()
    except Exception as trouble:  # The error's own str() fails, perhaps.
        return f"it cannot be shown: {type(trouble).__name__}"
