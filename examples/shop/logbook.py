"""Watching the bus: an observer sees every record of what happened and can change none of it.

From the records come a tally per handler and the story of one order: which event caused which,
through which handler.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from headwater import current
from headwater.errors import BreakerOpen, EventStorm
from headwater.records import Failed, Handled, Published, Record, Retried, StormStopped

from .events import OrderPlaced

_STORIES_KEPT = 500  # enough to find a good one to tell; a year of orders must not fill the memory


@dataclass
class Tally:
    """What became of the deliveries to one handler.

    Attributes:
        handled: succeeded, at whichever attempt.
        failed: given up, the last attempt having failed.
        retried: attempts that failed and were made again.
        stopped: ended by the storm guard, or refused by an open breaker.
        seconds: how long each call took.
    """

    handled: int = 0
    failed: int = 0
    retried: int = 0
    stopped: int = 0
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
        handlers: the names of all handlers; one that is never called has a tally too.

    Attributes:
        handlers: a tally by the name of the handler.
        storms: by the names that went round in a circle, how often that was stopped.
    """

    def __init__(self, handlers: Iterable[str]) -> None:
        self.handlers = {name: Tally() for name in handlers}
        self.storms: defaultdict[str, int] = defaultdict(int)
        self._steps: dict[str, Step] = {}
        self._stories: list[Step] = []

    def note(self, record: Record) -> None:
        """Take a record in."""
        match record:
            case Published():
                self._begin(record)
            case Handled() | Failed() | Retried():
                self._count(record)
            case StormStopped():
                self.storms[" → ".join(record.path[-2:])] += 1
            case _:
                pass

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
            cause.delivery(context.subscription.name).caused.append(step)
        self._steps[record.event_id] = step

    def _count(self, record: Handled | Failed | Retried) -> None:
        tally = self.handlers[record.subscription]
        if not (isinstance(record, Failed | Retried) and isinstance(record.error, BreakerOpen)):
            tally.seconds.append(record.seconds)  # the handler was called, then
        match record:
            case Handled():
                tally.handled += 1
                outcome = "handled"
            case Retried():
                tally.retried += 1
                outcome = "retried"
            case Failed(error=EventStorm() | BreakerOpen()):
                tally.stopped += 1
                outcome = "stopped"
            case Failed():
                tally.failed += 1
                outcome = "failed"
        self._end(record.event_id, record.subscription, record.attempt, record.seconds, outcome)

    def _end(self, event_id: str, handler: str, attempt: int, seconds: float, outcome: str) -> None:
        step = self._steps.get(event_id)
        if step is not None:
            delivery = step.delivery(handler)
            delivery.attempts, delivery.outcome = attempt, outcome
            delivery.seconds += seconds
