"""Watching the bus: an observer sees every record of what happened and can change none of it.

From the records come a tally per handler and the story of one order: which event caused which,
through which handler.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from headwater import RetryLater, current
from headwater.errors import BreakerOpen
from headwater.records import Failed, Handled, Published, Record, Retried
from headwater.topology import Topology

from .events import OrderPlaced

_STORIES_KEPT = 500  # enough to find a good one to tell; a year of orders must not fill the memory

Failures = dict[tuple[str, str], list[str]]
"""By handler and class of the error: the text of each delivery that was given up."""


@dataclass
class Tally:
    """What one handler did in this process.

    Attributes:
        handled: deliveries that succeeded, at whichever attempt.
        retried: attempts that failed and were made again.
        seconds: how long each call took.
    """

    handled: int = 0
    retried: int = 0
    seconds: "array[float]" = field(default_factory=lambda: array("d"))

    def percentile(self, percent: float) -> float | None:
        """Return the time in milliseconds that `percent` of all calls stayed within, if any."""
        if not self.seconds:
            return None
        ranked = sorted(self.seconds)
        rank = max(1, -(-len(ranked) * percent // 100))  # rounded up: the nearest rank
        return ranked[int(rank) - 1] * 1_000


@dataclass
class Delivery:
    """What one handler did about one event."""

    handler: str
    attempts: int = 0
    seconds: float = 0.0
    outcome: str = "handled"
    caused: "list[Step]" = field(default_factory=list["Step"])


@dataclass
class Step:
    """One event of a story, with everything that came of it."""

    name: str
    event: object
    deliveries: dict[str, Delivery] = field(default_factory=dict[str, Delivery])

    def delivery(self, handler: str) -> Delivery:
        """Return what `handler` did about this event, so far."""
        return self.deliveries.setdefault(handler, Delivery(handler))

    def events(self) -> "Iterator[Step]":
        """Yield this event and all that came of it, causes first."""
        yield self
        for delivery in self.deliveries.values():
            for step in delivery.caused:
                yield from step.events()

    def interest(self) -> tuple[bool, int, int]:
        """How well this story is told: it ends well, much happens in it, and it is short."""
        steps = list(self.events())
        deliveries = [each for step in steps for each in step.deliveries.values()]
        ends_well = all(each.outcome == "handled" for each in deliveries)
        recovered = ends_well and any(each.attempts > 1 for each in deliveries)
        return ends_well, len({step.name for step in steps}) + recovered, -len(steps)


class Logbook:
    """Subscribe `note` with ``bus.observe``.

    Args:
        topology: who reacts to what; a handler that is never called has a tally too.

    Attributes:
        handlers: a tally by the name of the handler.
        events: how many events were published for each handler.
        failures: what was given up.
    """

    def __init__(self, topology: Topology) -> None:
        self.handlers = {short(reaction.handler): Tally() for reaction in topology.reactions}
        self.events = Counter[str]()
        self.failures: Failures = {}
        self._wanted_by: defaultdict[str, list[str]] = defaultdict(list)
        for reaction in topology.reactions:
            self._wanted_by[reaction.event].append(short(reaction.handler))
        self._steps: dict[str, Step] = {}
        self._stories: list[Step] = []

    def note(self, record: Record) -> None:
        """Take a record in."""
        match record:
            case Published():
                self.events.update(self.receivers(record.event))
                self._begin(record)
            case Handled() | Failed() | Retried():
                self._count(record)
            case _:
                pass

    def receivers(self, event: object) -> Iterator[str]:
        """Yield the handlers that an event is for: those of its class, and of its bases."""
        for cls in type(event).__mro__:
            yield from self._wanted_by.get(cls.__name__, ())

    def story(self) -> Step | None:
        """Return the order with the most to see among the first ones, if there was any."""
        return max(self._stories, key=Step.interest, default=None)

    def _begin(self, record: Published) -> None:
        step = Step(record.name, record.event)
        if record.causation_id is None:
            if not isinstance(record.event, OrderPlaced) or len(self._stories) == _STORIES_KEPT:
                return
            self._stories.append(step)
        else:
            cause, context = self._steps.get(record.causation_id), current()
            if cause is None or context is None or context.subscription is None:
                return
            cause.delivery(short(context.subscription.name)).caused.append(step)
        self._steps[record.event_id] = step

    def _count(self, record: Handled | Failed | Retried) -> None:
        handler, outcome = short(record.subscription), "handled"
        tally = self.handlers[handler]
        error = None if isinstance(record, Handled) else record.error
        if not isinstance(error, BreakerOpen | RetryLater):
            tally.seconds.append(record.seconds)  # the handler was called, then
            tally.retried += isinstance(record, Retried)
        if error is None:
            tally.handled += 1
        elif isinstance(record, Failed):
            outcome = "given up"
            self.failures.setdefault((handler, type(error).__name__), []).append(str(error))
        else:
            outcome = "retried"
        self._end(record.event_id, handler, record.attempt, record.seconds, outcome)

    def _end(self, event_id: str, handler: str, attempt: int, seconds: float, outcome: str) -> None:
        step = self._steps.get(event_id)
        if step is not None:
            delivery = step.delivery(handler)
            delivery.attempts, delivery.outcome = attempt, outcome
            delivery.seconds += seconds


def short(name: str) -> str:
    """Return a handler's name without its bus's, which a durable name begins with."""
    return name.rpartition(":")[2]
