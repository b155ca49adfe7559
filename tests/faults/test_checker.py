"""The checker, checked: what is clean it calls clean, and it finds every planted defect."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import pytest
from tests.faults.checker import RULES, Promise, Rule, Rules, Verdict, check
from tests.faults.defects import DEFECTS, Defect, NoRoom, Soil
from tests.faults.history import (
    BadHistory,
    DeadLetter,
    Effect,
    History,
    Part,
    Phase,
    Publish,
    Record,
)
from tests.faults.simulation import PROMISES, simulate

RUNS = 500
PLANTED_PER_DEFECT = 100  # Fewer than runs: not every history has room for every defect.

clean = cache(simulate)  # The histories are frozen, so the tests below may share them.

MAIL = Rules({"mail": Promise()})


def test_every_run_without_a_fault_of_the_bus_is_clean() -> None:
    """Kills, duplicates where they are allowed, and unknown outcomes are no violations."""
    for seed in range(RUNS):
        verdict = check(clean(seed).history, clean(seed).rules)
        assert verdict.clean, f"seed {seed}: {verdict}"


def test_the_clean_runs_hold_everything_that_is_allowed() -> None:
    """Otherwise it would mean little that they are clean."""
    allowed: Counter[Rule] = Counter()
    totals: Counter[str] = Counter()
    seen: Counter[bool] = Counter()
    for seed in range(20):
        history = clean(seed).history
        verdict = check(history, clean(seed).rules)
        allowed.update(verdict.allowed)
        totals.update(verdict.totals)
        acted = {effect.event for effect in history.effects}
        seen.update(p.event in acted for p in history.publishes if p.phase == "unknown")
        totals["sent back"] += sum(dead.retried for dead in history.dead_letters)
    assert all(allowed[rule] > 5 for rule in ("duplicated", "stale", "undrained")), allowed
    assert min(totals.values()) > 5, totals
    assert min(seen[True], seen[False]) > 5, "unknown publishes with and without effects"


def test_every_rule_has_its_defects() -> None:
    """And together they are planted in more than a thousand histories."""
    assert {rule for rule, _ in DEFECTS} == set(RULES)
    assert len(DEFECTS) * PLANTED_PER_DEFECT > 1_000


@pytest.mark.parametrize(
    ("rule", "defect"), [pytest.param(*entry, id=entry[1].__name__) for entry in DEFECTS]
)
def test_a_planted_defect_is_found_under_its_rule_and_no_other(rule: Rule, defect: Defect) -> None:
    """In each of many histories, and the verdict names the event."""
    planted_so_far = 0
    for seed in range(RUNS):
        run = clean(seed)
        try:
            planted = defect(Soil(run, Random(seed)))
        except NoRoom:
            continue
        verdict = check(History.of(planted.records), replace(run.rules, examples=1_000))
        assert {found for found in RULES if verdict.counts[found]} == {rule}, f"{seed}: {verdict}"
        words = re.findall(r"[\w-]+", " ".join(verdict.examples[rule]))
        assert planted.named in words
        planted_so_far += 1
        if planted_so_far == PLANTED_PER_DEFECT:
            return
    pytest.fail(f"only {planted_so_far} histories had room for this defect")


def test_every_violation_is_counted() -> None:
    """Of ten pairs of event and handler that nothing became of, ten are lost."""
    run = clean(0)
    soil = Soil(run, Random(0))
    sound = [
        pair
        for pair in soil.first
        if "ok" in soil.outcomes(pair[0]) and pair not in {*soil.dead, *soil.stored}
    ]
    gone = [effect for pair in sound[:10] for effect in soil.effects_of(pair)]
    verdict = check(History.of(soil.without(*gone)), run.rules)
    assert verdict.counts["lost"] == 10
    assert len(verdict.examples["lost"]) == run.rules.examples == 5


def test_what_is_allowed_is_a_violation_where_it_is_declared_one() -> None:
    """The same duplicates, stale effects and leftovers, judged by stricter promises."""
    strict = {
        name: replace(promise, exactly_once=True, fenced=True) for name, promise in PROMISES.items()
    }
    for seed in range(50):
        run = clean(seed)
        before = check(run.history, run.rules)
        after = check(run.history, Rules(strict))
        assert {rule: after.counts[rule] for rule in before.allowed} == dict(before.allowed)
        assert not any(after.allowed.values())


# The corner cases, by hand: events of one key, and one handler.


def told(phase: Phase, event: str, number: int, at: int, process: str = "web") -> Publish:
    """A record of an event whose payload is its id."""
    return Publish(phase, event, "k", number, event, process, at)


def acted(event: str, number: int, at: int, fence: int = 1) -> Effect:
    """An effect of such an event."""
    return Effect(event, "mail", "k", number, event, 1, f"worker-{fence}", at, 0, fence)


def judged(*records: Record, rules: Rules = MAIL) -> Verdict:
    """The verdict on `records`."""
    return check(History.of(records), rules)


def violations(*records: Record, rules: Rules = MAIL) -> dict[str, int]:
    """The rules that `records` violate, and how often."""
    return {rule: count for rule, count in judged(*records, rules=rules).counts.items() if count}


def test_a_publish_whose_end_nobody_recorded_is_unknown() -> None:
    """Its process was killed: the event may be handled or not, and is not lost."""
    assert judged(told("invoke", "e", 1, 1)).totals["unknown"] == 1
    assert violations(told("invoke", "e", 1, 1)) == {}
    assert violations(told("invoke", "e", 1, 1), acted("e", 1, 2)) == {}


def test_one_failure_beside_an_unknown_attempt_leaves_the_event_unknown() -> None:
    """Only if every attempt has failed must the event never be seen."""
    killed, failed = told("invoke", "e", 1, 1), told("failed", "e", 1, 4)
    assert violations(told("invoke", "e", 1, 3), failed, acted("e", 1, 5)) == {"phantom": 1}
    assert violations(killed, told("invoke", "e", 1, 3), failed, acted("e", 1, 5)) == {}


def test_one_confirmation_makes_an_event_ok_whatever_else_was_told() -> None:
    """A later failure to publish it again takes nothing back."""
    attempts = (told("invoke", "e", 1, 1), told("ok", "e", 1, 2))
    again = (told("invoke", "e", 1, 3), told("failed", "e", 1, 4))
    assert violations(*attempts, *again) == {"lost": 1}
    assert violations(*attempts, *again, acted("e", 1, 5)) == {}


def test_a_redelivered_earlier_event_is_no_inversion() -> None:
    """A kill brings back what was handled and not settled: only first effects are in order."""
    published = [told("invoke", f"e{number}", number, number) for number in (1, 2)]
    again = (acted("e1", 1, 5, fence=2), acted("e2", 2, 6, fence=2))
    first = (acted("e1", 1, 3), acted("e2", 2, 4))
    assert judged(*published, *first, *again).allowed["duplicated"] == 2
    assert violations(*published, *first, *again) == {}
    assert violations(*published, first[1], *again) == {"reordered": 1}


def test_a_publisher_that_breaks_its_own_order_is_not_held_against_the_bus() -> None:
    """Event 1 was published again after event 2; had it been before, it would have come first."""
    first, second = told("invoke", "e1", 1, 1), told("invoke", "e2", 2, 5)
    effects = (acted("e2", 2, 20), acted("e1", 1, 21))
    assert violations(first, second, told("invoke", "e1", 1, 9), *effects) == {}
    assert violations(first, second, told("invoke", "e1", 1, 4), *effects) == {"reordered": 1}


def test_a_publisher_may_break_its_order_with_any_later_event() -> None:
    """Event 1 was published again after event 3, though before event 2."""
    times = (("e1", 1, 1), ("e3", 3, 2), ("e1", 1, 3), ("e2", 2, 5))
    published = [told("invoke", event, number, at) for event, number, at in times]
    assert violations(*published, acted("e3", 3, 20), acted("e1", 1, 21)) == {}


def test_a_key_orders_within_its_topic() -> None:
    """Two topics go at their own pace, whether in handling or in publishing again."""
    one, two = told("invoke", "e1", 1, 1), told("invoke", "e2", 2, 5)
    effects = (acted("e2", 2, 20), acted("e1", 1, 21))
    other = (replace(one, topic="till"), two, effects[0], replace(effects[1], topic="till"))
    assert violations(*other) == {}
    three, first = told("invoke", "e3", 3, 2), told("invoke", "e1", 1, 3)
    elsewhere = replace(three, topic="till")
    assert violations(one, elsewhere, first, two, *effects) == {"reordered": 1}


def test_an_event_without_a_key_has_no_order() -> None:
    """Nor has a handler that nobody promised one."""
    published = [told("invoke", f"e{number}", number, number) for number in (1, 2)]
    effects = [acted("e2", 2, 5), acted("e1", 1, 6)]
    assert violations(*published, *effects) == {"reordered": 1}
    free = [replace(publish, key=None) for publish in published]
    assert violations(*free, *(replace(effect, key=None) for effect in effects)) == {}
    assert violations(*published, *effects, rules=Rules({"mail": Promise(ordered=False)})) == {}


def test_a_fence_is_that_of_a_lane_a_topic_and_a_handler() -> None:
    """A lower fence elsewhere says nothing, and neither does an unknown one."""
    published = [told("invoke", f"e{number}", number, number) for number in (1, 2)]
    high, low = acted("e1", 1, 5, fence=7), acted("e2", 2, 6, fence=3)
    assert violations(*published, high, low) == {"stale": 1}
    assert violations(*published, high, replace(low, lane=1)) == {}
    assert violations(*published, high, replace(low, fence=None)) == {}
    elsewhere = (replace(published[1], topic="till"), replace(low, topic="till"))
    assert violations(published[0], high, *elsewhere) == {}


def test_a_dead_letter_accounts_for_an_event_until_it_is_sent_back() -> None:
    """Then it must have its effect, in whatever order."""
    published = [told("invoke", "e1", 1, 1), told("ok", "e1", 1, 2), told("invoke", "e2", 2, 3)]
    assert violations(*published, DeadLetter("e1", "mail")) == {}
    late = (acted("e2", 2, 4), acted("e1", 1, 5))
    assert violations(*published, *late, DeadLetter("e1", "mail")) == {"reordered": 1}
    sent_back = DeadLetter("e1", "mail", retried=True)
    assert violations(*published, late[0], sent_back) == {"lost": 1}
    assert violations(*published, *late, sent_back) == {}


def test_both_parts_of_a_transaction_are_there_or_neither() -> None:
    """A part may be there twice: that is for other rules."""
    row, event = Part("t", "row"), Part("t", "event")
    assert violations(row, event, row) == {}
    assert violations(row) == violations(event) == {"torn": 1}


def test_a_history_that_contradicts_itself_is_refused() -> None:
    """Nobody could judge the bus by it."""
    invoked = told("invoke", "e", 1, 1)
    with pytest.raises(BadHistory, match="two events have one id"):
        judged(invoked, replace(invoked, digest="other"))
    with pytest.raises(BadHistory, match="ended that never began"):
        judged(invoked, told("ok", "e", 1, 2), told("ok", "e", 1, 3))


def test_a_verdict_reads_like_a_report() -> None:
    """What was looked at, what is allowed, and examples of what is wrong."""
    published = [told(phase, f"e{n}", n, n) for n in range(1, 4) for phase in ("invoke", "ok")]
    effects = (acted("e1", 1, 10), acted("e1", 1, 11, fence=2))
    rules = replace(MAIL, examples=1)
    assert str(judged(*published, *effects, rules=rules)).splitlines() == [
        "2 violations",
        "  in 3 published ok, 0 failed, 0 unknown, 2 effects, 0 dead letters, 0 stored",
        "  allowed: 1 duplicated",
        "lost: 2",
        "  event e2 (key k, number 2): web was told ok, and mail never saw it",
        "  and 1 more",
    ]
    assert str(judged()).startswith("clean\n")
