"""Whether a run under faults kept its promises: a pure function of its history.

`check` compares what publishers were told with what handlers did. An event's outcome is one of
three. ``ok``: an attempt to publish it was confirmed. ``failed``: every attempt was refused, so it
must never be seen. ``unknown``: anything else, such as an attempt whose process was killed; it may
be seen or not, and is never lost.

Whatever is wrong falls under one of these rules; one defect falls under one rule.

- lost: ok, and for a handler neither an effect nor a dead letter nor still stored.
- duplicated: more than one effect of a handler for an event.
- phantom: an effect, a dead letter or a stored event that no publish explains, or only a failed
  one, or which its handler did not ask for.
- altered: a handler saw another key, number, topic or payload than was published.
- reordered: an event's first effect came after that of a later event of its key.
- stale: an effect under a lower fence than had already acted on that lane for that handler.
- torn: of a business row and the event published with it, there is only one.
- undrained: still stored for a handler at the end.

A publisher may break its own order, by publishing an event again after a later one of its key; then
their order is not judged. It costs one sort: O(n log n).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, get_args

from tests.faults.history import BadHistory, Effect, History, Publish

Rule = Literal[
    "lost", "duplicated", "phantom", "altered", "reordered", "stale", "torn", "undrained"
]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Promise:
    """What holds for a handler's effects. What is no violation is counted all the same.

    Attributes:
        exactly_once: whether a second effect of an event is a violation.
        ordered: whether first effects must come in the order of their key.
        fenced: whether an effect under a superseded fence is a violation. Nobody can promise that
            of a handler without a transaction whose process may be stopped and go on later.
        names: the names of the events that it wants; all of them if None.
    """

    exactly_once: bool = False
    ordered: bool = True
    fenced: bool = True
    names: frozenset[str] | None = None

    def wants(self, name: str) -> bool:
        """Whether events called `name` are for this handler."""
        return self.names is None or name in self.names


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run is judged by.

    Attributes:
        promises: for each handler. All were subscribed before the first publish; an effect of any
            other handler is a phantom.
        drained: whether the run was given the time to settle everything.
        examples: how many violations of each rule are described.
    """

    promises: Mapping[str, Promise]
    drained: bool = True
    examples: int = 5


@dataclass(frozen=True)
class Verdict:
    """What `check` found.

    Attributes:
        counts: violations of every rule, zeros included.
        examples: a sentence for each of the first few violations of each rule.
        allowed: what the rules permit and a reader wants to know: duplicated and stale effects,
            and events still stored.
        totals: the size of the history: publishes by outcome, effects, dead letters, stored.
    """

    counts: Mapping[Rule, int]
    examples: Mapping[Rule, tuple[str, ...]]
    allowed: Mapping[Rule, int]
    totals: Mapping[str, int]

    @property
    def clean(self) -> bool:
        """Whether no rule was violated. An empty history is clean: look at `totals` as well."""
        return not any(self.counts.values())

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        violations = sum(self.counts.values())
        yield "clean" if self.clean else f"{violations:,} violation{'s' * (violations != 1)}"
        yield "  in " + ", ".join(f"{count:,} {what}" for what, count in self.totals.items())
        if any(self.allowed.values()):
            allowed = ", ".join(f"{n:,} {rule}" for rule, n in self.allowed.items() if n)
            yield f"  allowed: {allowed}"
        for rule, count in self.counts.items():
            if count:
                yield f"{rule}: {count:,}"
                yield from (f"  {example}" for example in self.examples[rule])
                if count > len(self.examples[rule]):
                    yield f"  and {count - len(self.examples[rule]):,} more"


def check(history: History, rules: Rules) -> Verdict:
    """Judge `history` by `rules`.

    Raises:
        BadHistory: the history contradicts itself in a way that no bus can cause.
    """
    return _Check(history, rules).verdict()


@dataclass(slots=True)
class _Event:
    """An event as its publishers tell of it, all attempts together."""

    told: Publish  # Any attempt: they agree on everything but phase, process and time.
    first: int  # When the first and the last attempt began.
    last: int
    attempts: int = 0
    ended: int = 0
    ok: int = 0
    failed: int = 0
    overtaken: bool = False  # Published again, after a later event of its key.

    @property
    def outcome(self) -> Literal["ok", "failed", "unknown"]:
        if self.ok:
            return "ok"
        return "failed" if self.failed == self.attempts else "unknown"

    def __str__(self) -> str:
        told = self.told
        return f"event {told.event} (key {told.key}, number {told.key_seq})"


@dataclass
class _Check:
    """One judgement: the history, an index of its events, and what was found so far."""

    history: History
    rules: Rules
    counts: dict[Rule, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    examples: dict[Rule, list[str]] = field(default_factory=lambda: {rule: [] for rule in RULES})
    allowed: dict[Rule, int] = field(
        default_factory=lambda: dict.fromkeys(("duplicated", "stale", "undrained"), 0)
    )

    def verdict(self) -> Verdict:
        self.events = _events(self.history.publishes)
        effects = self._explained_effects()
        first = self._first_effects(effects)
        self._check_payloads(effects)
        self._check_order(first)
        self._check_fences(effects)
        self._check_leftovers()
        self._check_losses({(effect.event, effect.handler) for effect in first})
        self._check_parts()
        return Verdict(
            counts=self.counts,
            examples={rule: tuple(said) for rule, said in self.examples.items()},
            allowed=self.allowed,
            totals=self._totals(),
        )

    def _found(self, rule: Rule, example: str, *, allowed: bool = False) -> None:
        if allowed:
            self.allowed[rule] += 1
            return
        self.counts[rule] += 1
        if len(self.examples[rule]) < self.rules.examples:
            self.examples[rule].append(example)

    def _explained_effects(self) -> list[Effect]:
        """The effects that a publish explains, by time; the others are phantoms."""
        explained: list[Effect] = []
        for effect in sorted(self.history.effects, key=attrgetter("monotonic_ns")):
            why_not = self._unexplained(effect.event, effect.handler)
            if why_not is None and effect.monotonic_ns < self.events[effect.event].first:
                why_not = "before it was published"
            if why_not is None:
                explained.append(effect)
            else:
                self._found("phantom", f"{_acted(effect)} for event {effect.event}, {why_not}")
        return explained

    def _unexplained(self, event_id: str, handler: str) -> str | None:
        """Why `handler` should not have come to know of an event; None if it should."""
        event = self.events.get(event_id)
        if event is None:
            return "which nobody published"
        if event.outcome == "failed":
            return f"which {event.told.process} was told had failed"
        promise = self.rules.promises.get(handler)
        if promise is None:
            return "and was never subscribed"
        return None if promise.wants(event.told.name) else "which it did not ask for"

    def _first_effects(self, effects: Iterable[Effect]) -> list[Effect]:
        """The first effect of each event and handler; any other is a duplicate."""
        first: dict[tuple[str, str], Effect] = {}
        for effect in effects:
            before = first.setdefault((effect.event, effect.handler), effect)
            if before is not effect:
                self._found(
                    "duplicated",
                    f"{self.events[effect.event]}: {_acted(before)}, then {_acted(effect)}",
                    allowed=not self.rules.promises[effect.handler].exactly_once,
                )
        return list(first.values())

    def _check_payloads(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            event = self.events[effect.event]
            if (told := _identity(event.told)) != (seen := _identity(effect)):
                self._found("altered", f"{event}: {told} was published, {_acted(effect)} on {seen}")

    def _check_order(self, first: Iterable[Effect]) -> None:
        """Walk each key's first effects with the latest event seen so far at hand."""
        retried = {(dead.event, dead.handler) for dead in self.history.dead_letters if dead.retried}
        latest: dict[tuple[str, str, str], _Event] = {}
        for effect in first:
            event, handler = self.events[effect.event], effect.handler
            if event.told.key is None or not self.rules.promises[handler].ordered:
                continue
            strand = (handler, event.told.topic, event.told.key)
            ahead = latest.setdefault(strand, event)
            if event.told.key_seq >= ahead.told.key_seq:
                latest[strand] = event
            elif not event.overtaken and (effect.event, handler) not in retried:
                self._found("reordered", f"{event}: {_acted(effect)}, after {ahead}")

    def _check_fences(self, effects: Iterable[Effect]) -> None:
        highest: dict[tuple[str, str, int], Effect] = {}
        for effect in effects:
            if effect.lane is None or effect.fence is None:
                continue
            owned = (effect.handler, effect.topic, effect.lane)
            holder = highest.setdefault(owned, effect)
            if effect.fence >= (holder.fence or 0):
                highest[owned] = effect
            else:
                self._found(
                    "stale",
                    f"{self.events[effect.event]}: {_acted(effect)}, after {_acted(holder)}",
                    allowed=not self.rules.promises[effect.handler].fenced,
                )

    def _check_leftovers(self) -> None:
        """What lies in the store must have been published; if drained, nothing waits there."""
        for dead in self.history.dead_letters:
            if why_not := self._unexplained(dead.event, dead.handler):
                self._found("phantom", f"a dead letter of {dead.handler}: {dead.event}, {why_not}")
        for stored in self.history.stored:
            if why_not := self._unexplained(stored.event, stored.handler):
                self._found("phantom", f"stored for {stored.handler}: {stored.event}, {why_not}")
            else:
                self._found(
                    "undrained",
                    f"{self.events[stored.event]} still waits for {stored.handler}",
                    allowed=not self.rules.drained,
                )

    def _check_losses(self, reached: set[tuple[str, str]]) -> None:
        accounted = reached | {(stored.event, stored.handler) for stored in self.history.stored}
        accounted |= {
            (dead.event, dead.handler) for dead in self.history.dead_letters if not dead.retried
        }
        for event in self.events.values():
            if event.outcome != "ok":
                continue
            for handler, promise in self.rules.promises.items():
                pair = (event.told.event, handler)
                if promise.wants(event.told.name) and pair not in accounted:
                    told = f"{event.told.process} was told ok"
                    self._found("lost", f"{event}: {told}, and {handler} never saw it")

    def _check_parts(self) -> None:
        parts: dict[str, set[str]] = defaultdict(set)
        for part in self.history.parts:
            parts[part.transaction].add(part.part)
        for transaction, present in parts.items():
            if len(present) == 1:
                self._found(
                    "torn", f"of transaction {transaction} only the {present.pop()} is there"
                )

    def _totals(self) -> dict[str, int]:
        outcomes = [event.outcome for event in self.events.values()]
        return {
            "published ok": outcomes.count("ok"),
            "failed": outcomes.count("failed"),
            "unknown": outcomes.count("unknown"),
            "effects": len(self.history.effects),
            "dead letters": sum(not dead.retried for dead in self.history.dead_letters),
            "stored": len(self.history.stored),
        }


def _events(publishes: Iterable[Publish]) -> dict[str, _Event]:
    """Gather the attempts to publish each event, in the order of first attempts."""
    events: dict[str, _Event] = {}
    # At one instant, `invoke` comes before the end of the attempt.
    for publish in sorted(publishes, key=lambda p: (p.monotonic_ns, p.phase != "invoke")):
        now = publish.monotonic_ns
        event = events.setdefault(publish.event, _Event(publish, now, now))
        if _identity(event.told) != _identity(publish) or event.told.name != publish.name:
            raise BadHistory(f"two events have one id: {event.told} and {publish}")
        if publish.phase == "invoke":
            event.attempts += 1
            event.last = now
        else:
            event.ended += 1
            event.ok += publish.phase == "ok"
            event.failed += publish.phase == "failed"
        if event.ended > event.attempts:
            raise BadHistory(f"an attempt ended that never began: {publish}")
    _mark_overtaken(events.values())
    return events


def _mark_overtaken(events: Iterable[_Event]) -> None:
    """Find the events that were published again after a later one of their key was published."""
    strands: dict[tuple[str, str], list[_Event]] = defaultdict(list)
    for event in events:
        if event.told.key is not None:
            strands[event.told.topic, event.told.key].append(event)
    for strand in strands.values():
        strand.sort(key=lambda event: event.told.key_seq, reverse=True)
        earliest = math.inf  # When the first of the later events was published.
        for event in strand:
            event.overtaken = event.last > earliest
            earliest = min(earliest, event.first)


def _identity(record: Publish | Effect) -> tuple[str, str | None, int, str]:
    return record.topic, record.key, record.key_seq, record.digest


def _acted(effect: Effect) -> str:
    """Who did what, as the middle of a sentence."""
    where = "" if effect.lane is None else f", lane {effect.lane}, fence {effect.fence}"
    return f"{effect.handler} acted in {effect.process} (attempt {effect.attempt}{where})"
