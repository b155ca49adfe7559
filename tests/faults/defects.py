"""Defects to plant in a clean history, each of which makes exactly one thing wrong.

A defect takes a `Soil` and gives back a `Planted`; it raises `NoRoom` where the history has no
place for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import TypeVar

from tests.faults.checker import Rule
from tests.faults.history import DeadLetter, Effect, Part, Publish, Record, Stored
from tests.faults.simulation import PROMISES, Run

T = TypeVar("T")
Pair = tuple[str, str]  # An event's id and a handler.


class NoRoom(Exception):
    """There is no place for this defect in this history."""


@dataclass(frozen=True)
class Planted:
    """The records of a history with a defect, and what an example of the verdict must name."""

    records: list[Record]
    named: str


class Soil:
    """A clean run as a defect sees it, and the dice that choose its place."""

    def __init__(self, run: Run, dice: Random) -> None:
        self.dice = dice
        self.drained = run.rules.drained
        self.records = list(run.history)
        self.publishes = sorted(run.history.publishes, key=lambda publish: publish.monotonic_ns)
        self.effects = sorted(run.history.effects, key=lambda effect: effect.monotonic_ns)
        self.dead = {(d.event, d.handler): d for d in run.history.dead_letters}
        self.stored = {(s.event, s.handler): s for s in run.history.stored}
        self.parts = run.history.parts
        self.end = self.effects[-1].monotonic_ns
        self.first: dict[Pair, Effect] = {}
        for effect in self.effects:
            self.first.setdefault((effect.event, effect.handler), effect)

    def one(self, candidates: Iterable[T]) -> T:
        """One of the candidates, if there are any."""
        found = list(candidates)
        if not found:
            raise NoRoom
        return self.dice.choice(found)

    def attempts(self, event: str) -> list[Publish]:
        """Where publishers began to publish `event`, by time."""
        return [p for p in self.publishes if p.event == event and p.phase == "invoke"]

    def outcomes(self, event: str) -> list[str]:
        """What publishers were told of `event`."""
        return [p.phase for p in self.publishes if p.event == event and p.phase != "invoke"]

    def told(self, phase: str) -> list[Publish]:
        """What publishers were told in single attempts that ended with `phase`."""
        return [p for p in self.publishes if p.phase == phase and len(self.attempts(p.event)) == 1]

    def seen(self, event: str) -> bool:
        """Whether anything became of `event`."""
        return any(event == pair[0] for pair in (*self.first, *self.dead, *self.stored))

    def fence(self, effect: Effect) -> int:
        """The highest fence on the lane of `effect`, before it."""
        lane = (effect.handler, effect.lane)
        return max(
            e.fence or 0
            for e in self.effects
            if (e.handler, e.lane) == lane and e.monotonic_ns < effect.monotonic_ns
        )

    def in_order(self, effect: Effect) -> bool:
        """Whether the order of the key binds the first `effect` of an event."""
        again = self.attempts(effect.event)[-1].monotonic_ns
        later = [
            p.monotonic_ns
            for p in self.publishes
            if p.key == effect.key and p.key_seq > effect.key_seq
        ]
        retried = (effect.event, effect.handler) in self.dead
        bound = effect.key is not None and PROMISES[effect.handler].ordered
        return bound and not retried and all(again < time for time in later)

    def without(self, *gone: Record) -> list[Record]:
        """The records but these."""
        return [record for record in self.records if record not in gone]

    def instead(self, old: Record, new: Record) -> list[Record]:
        """The records with one changed."""
        return [new if record == old else record for record in self.records]

    def effects_of(self, pair: Pair) -> list[Effect]:
        """All effects of a handler for an event."""
        return [e for e in self.effects if (e.event, e.handler) == pair]


Defect = Callable[[Soil], Planted]

DEFECTS: list[tuple[Rule, Defect]] = []


def breaks(rule: Rule) -> Callable[[Defect], Defect]:
    """List a defect under the rule that it breaks."""

    def listed(defect: Defect) -> Defect:
        DEFECTS.append((rule, defect))
        return defect

    return listed


# Lost


@breaks("lost")
def a_handler_never_acts(soil: Soil) -> Planted:
    """An event reaches its other handlers only."""
    pair = soil.one(
        pair
        for pair in soil.first
        if "ok" in soil.outcomes(pair[0]) and pair not in {*soil.dead, *soil.stored}
    )
    return Planted(soil.without(*soil.effects_of(pair)), pair[0])


@breaks("lost")
def an_event_vanishes(soil: Soil) -> Planted:
    """A confirmed event leaves no trace at all."""
    told = soil.one(p for p in soil.told("ok") if soil.seen(p.event))
    return Planted(
        [r for r in soil.records if isinstance(r, Publish | Part) or r.event != told.event],
        told.event,
    )


@breaks("lost")
def a_dead_letter_vanishes(soil: Soil) -> Planted:
    """Somebody gave up on an event and kept no evidence."""
    dead = soil.one(_only_traces(soil, soil.dead))
    return Planted(soil.without(dead), dead.event)


@breaks("lost")
def a_retried_dead_letter_vanishes(soil: Soil) -> Planted:
    """A dead letter was sent back, and did not arrive."""
    dead = soil.one(_only_traces(soil, soil.dead))
    return Planted(soil.instead(dead, replace(dead, retried=True)), dead.event)


@breaks("lost")
def a_stored_event_vanishes(soil: Soil) -> Planted:
    """What waited in the store is not there any more."""
    stored = soil.one(_only_traces(soil, soil.stored))
    return Planted(soil.without(stored), stored.event)


def _only_traces(soil: Soil, found: dict[Pair, T]) -> list[T]:
    """What was found in the store and alone accounts for a confirmed event."""
    return [
        trace
        for pair, trace in found.items()
        if "ok" in soil.outcomes(pair[0]) and pair not in soil.first
    ]


@breaks("lost")
def a_confirmation_is_false(soil: Soil) -> Planted:
    """An event that was never stored is confirmed."""
    told = soil.one(p for p in soil.told("unknown") if not soil.seen(p.event))
    return Planted(soil.instead(told, replace(told, phase="ok")), told.event)


# Duplicated


@breaks("duplicated")
def an_effect_happens_twice(soil: Soil) -> Planted:
    """The same process acts a second time at once."""
    effect = soil.one(e for e in soil.effects if PROMISES[e.handler].exactly_once)
    return Planted(
        [*soil.records, replace(effect, monotonic_ns=effect.monotonic_ns + 1)], effect.event
    )


@breaks("duplicated")
def an_effect_happens_again_after_a_takeover(soil: Soil) -> Planted:
    """Another process, which owns the lane now, acts once more."""
    effect = soil.one(e for e in soil.effects if PROMISES[e.handler].exactly_once)
    return Planted(
        [
            *soil.records,
            replace(effect, process="heir", attempt=2, fence=1_000, monotonic_ns=soil.end + 1),
        ],
        effect.event,
    )


# Phantom


@breaks("phantom")
def an_effect_of_nothing(soil: Soil) -> Planted:
    """A handler acts on an event that nobody published."""
    effect = soil.dice.choice(soil.effects)
    return Planted([*soil.records, replace(effect, event="dreamt")], "dreamt")


@breaks("phantom")
def an_effect_of_a_failed_publish(soil: Soil) -> Planted:
    """What its publisher was told had failed is handled all the same."""
    told = soil.one(soil.told("failed"))
    return Planted(
        [
            *soil.records,
            Effect(told.event, "mail", told.key, told.key_seq, told.digest, 1, "p", soil.end + 1),
        ],
        told.event,
    )


@breaks("phantom")
def a_failure_is_false(soil: Soil) -> Planted:
    """The publisher of what was stored is told that it failed."""
    told = soil.one(p for p in soil.told("ok") if soil.seen(p.event))
    return Planted(soil.instead(told, replace(told, phase="failed")), told.event)


@breaks("phantom")
def an_effect_before_its_publish(soil: Soil) -> Planted:
    """A handler acts on an event that comes only later."""
    effect = soil.one(e for e in soil.effects if not PROMISES[e.handler].exactly_once)
    before = soil.attempts(effect.event)[0].monotonic_ns - 1
    return Planted([*soil.records, replace(effect, monotonic_ns=before)], effect.event)


@breaks("phantom")
def an_effect_of_a_handler_that_did_not_ask(soil: Soil) -> Planted:
    """An event goes to a handler that wants others."""
    effect = soil.one(e for e in soil.effects if e.handler == "stock")
    return Planted([*soil.records, replace(effect, handler="audit")], effect.event)


@breaks("phantom")
def an_effect_of_a_stranger(soil: Soil) -> Planted:
    """A handler acts that was never subscribed."""
    effect = soil.dice.choice(soil.effects)
    return Planted([*soil.records, replace(effect, handler="stranger")], "stranger")


@breaks("phantom")
def a_dead_letter_of_nothing(soil: Soil) -> Planted:
    """There is a dead letter of what was never published."""
    return Planted([*soil.records, DeadLetter("dreamt", "mail")], "dreamt")


@breaks("phantom")
def a_failed_publish_is_stored(soil: Soil) -> Planted:
    """What its publisher was told had failed waits in the store."""
    told = soil.one(soil.told("failed"))
    return Planted([*soil.records, Stored(told.event, "mail")], told.event)


# Altered


@breaks("altered")
def a_payload_changes(soil: Soil) -> Planted:
    """A handler sees another payload."""
    effect = soil.dice.choice(soil.effects)
    return Planted(soil.instead(effect, replace(effect, digest="0" * 16)), effect.event)


@breaks("altered")
def a_payload_is_that_of_a_neighbour(soil: Soil) -> Planted:
    """A handler sees the payload of another event under this one's id."""
    effect = soil.dice.choice(soil.effects)
    other = soil.one(e for e in soil.effects if e.event != effect.event)
    return Planted(soil.instead(effect, replace(effect, digest=other.digest)), effect.event)


@breaks("altered")
def a_key_changes(soil: Soil) -> Planted:
    """A handler sees another key."""
    effect = soil.dice.choice(soil.effects)
    return Planted(soil.instead(effect, replace(effect, key=f"{effect.key}?")), effect.event)


@breaks("altered")
def a_number_changes(soil: Soil) -> Planted:
    """A handler sees another number within the key."""
    effect = soil.dice.choice(soil.effects)
    number = effect.key_seq + soil.dice.choice([-1, 1, 1_000])
    return Planted(soil.instead(effect, replace(effect, key_seq=number)), effect.event)


# Reordered


@breaks("reordered")
def two_effects_of_a_key_change_places(soil: Soil) -> Planted:
    """A later event comes where an earlier one should, and the other way round."""
    pairs = (
        (early, late)
        for early, late in combinations(soil.first.values(), 2)
        if (early.handler, early.key) == (late.handler, late.key)
        and early.key_seq < late.key_seq
        and soil.attempts(late.event)[0].monotonic_ns < early.monotonic_ns
        and soil.in_order(early)
    )
    early, late = soil.one(pairs)
    return Planted([*soil.without(early, late), _at(early, late), _at(late, early)], early.event)


def _at(place: Effect, of: Effect) -> Effect:
    """The effect `of` an event, at the place and time of another's."""
    return replace(of, monotonic_ns=place.monotonic_ns, process=place.process, fence=place.fence)


@breaks("reordered")
def an_event_comes_behind_its_key(soil: Soil) -> Planted:
    """All effects of an event come at the very end, behind a later event of its key."""
    behind = soil.one(
        pair
        for pair, effect in soil.first.items()
        if soil.in_order(effect)
        and any(
            (e.handler, e.key) == (effect.handler, effect.key) and e.key_seq > effect.key_seq
            for e in soil.first.values()
        )
    )
    moved = soil.effects_of(behind)
    last = [replace(e, monotonic_ns=e.monotonic_ns + soil.end, fence=1_000) for e in moved]
    return Planted([*soil.without(*moved), *last], behind[0])


# Stale


@breaks("stale")
def a_fence_falls(soil: Soil) -> Planted:
    """A process acts in a lane that belongs to another by now."""
    effect = soil.one(e for e in _behind_others(soil) if PROMISES[e.handler].fenced)
    stale = replace(effect, fence=soil.fence(effect) - 1)
    return Planted(soil.instead(effect, stale), effect.event)


@breaks("stale")
def a_stopped_process_goes_on(soil: Soil) -> Planted:
    """A process acts once more, on what its heir has done already."""
    effect = soil.one(e for e in _behind_others(soil) if e.handler == "mail")
    late = replace(effect, monotonic_ns=soil.end + 1)
    return Planted([*soil.records, replace(late, fence=soil.fence(late) - 1)], effect.event)


def _behind_others(soil: Soil) -> list[Effect]:
    """The effects that are not the first on their lane."""
    lanes: set[tuple[str, int | None]] = set()
    behind: list[Effect] = []
    for effect in soil.effects:
        lane = (effect.handler, effect.lane)
        behind += [effect] if lane in lanes else []
        lanes.add(lane)
    return behind


# Torn


@breaks("torn")
def one_part_of_a_transaction_is_missing(soil: Soil) -> Planted:
    """A business row without the event published with it, or the event without the row."""
    part = soil.one(soil.parts)
    return Planted(soil.without(part), part.transaction)


# Undrained


@breaks("undrained")
def an_event_sticks(soil: Soil) -> Planted:
    """An event waits for ever, and its handler never acts."""
    pair = soil.one(soil.first if soil.drained else ())
    return Planted([*soil.without(*soil.effects_of(pair)), Stored(*pair)], pair[0])


@breaks("undrained")
def an_effect_is_never_settled(soil: Soil) -> Planted:
    """A handler has acted, and the event waits for it all the same."""
    pair = soil.one(soil.first if soil.drained else ())
    return Planted([*soil.records, Stored(*pair)], pair[0])
