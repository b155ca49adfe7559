"""Every ledger gives the same answers: the one in SQL and the one in memory, side by side."""

import sqlite3
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.envelope import Envelope
from headwater.ledger import Change, Entry, Erase, Handled, Held, Ledger, Letters, Put, State
from headwater.ledgers import sql
from headwater.ledgers.memory import MemoryLedger
from headwater.transports.sqlite.ledger import SqliteLedger

SHOP, MAIL = "shop:orders", "mail:orders"
LANES = (0, 1)


class Kept(Protocol):
    """A ledger, and what settlements and transactions write into it."""

    ledger: Ledger

    def apply(self, changes: Iterable[Change]) -> None:
        """Write changes."""

    def is_new(self, *handled: Any) -> bool:
        """Note in the inbox; false if it was there."""
        ...

    def close(self) -> None:
        """Let go."""


class InSql:
    """Tables in a database in memory."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.executescript(sql.TABLES)
        self.ledger: Ledger = SqliteLedger(self._run, self._run, frozenset)

    async def _run(self, work: Any) -> Any:
        return work(self._connection)

    def apply(self, changes: Iterable[Change]) -> None:
        sql.apply(self._connection, changes)

    def is_new(self, *handled: Any) -> bool:
        return sql.is_new(self._connection, *handled)

    def close(self) -> None:
        self._connection.close()


class InMemory:
    """Dictionaries."""

    def __init__(self) -> None:
        self.nudges = 0
        self._ledger = MemoryLedger(self._nudge)
        self.ledger: Ledger = self._ledger

    def _nudge(self) -> None:
        self.nudges += 1

    def apply(self, changes: Iterable[Change]) -> None:
        self._ledger.apply(changes)

    def is_new(self, *handled: Any) -> bool:
        if self._ledger.was_handled(*handled[:2]):
            return False
        self._ledger.note_handled(*handled)
        return True

    def close(self) -> None:
        pass


@pytest.fixture(params=[InSql, InMemory])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Each ledger in turn."""
    ledger: Kept = request.param()
    yield ledger
    ledger.close()


def now(answer: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def entry(
    id: str,
    state: State = "blocked",
    *,
    key: str | None = "k",
    due: float = 0.0,
    subscription: str = SHOP,
    **fields: Any,
) -> Entry:
    """An entry of an event."""
    topic, lane = fields.pop("topic", "orders"), fields.pop("lane", 0)
    envelope = Envelope(
        id, topic, key, f"order.{id} order", 1, 1.5, None, None, 0, b'{"a": "b"}', b"{}"
    )
    whole: dict[str, Any] = {
        "position": 1, "attempts": 0, "parked": False, "kind": "", "error": "", "traceback": "",
        "time": 1.0, **fields,
    }  # fmt: skip
    return Entry(subscription=subscription, lane=lane, state=state, due=due, envelope=envelope,
                 **whole)  # fmt: skip


def ids(entries: Sequence[Entry]) -> list[str]:
    """The ids of the events."""
    return [each.envelope.id for each in entries]


def due(kept: Kept, at: float, limit: int = 10) -> tuple[list[str], float | None]:
    """What is due, and when the next one is."""
    entries, later = now(kept.ledger.due(SHOP, "orders", LANES, at, limit))
    return ids(entries), later


def test_an_entry_is_given_back_as_it_was_written(kept: Kept) -> None:
    """All of it, the event's own bytes included."""
    put = entry("a", "dead", parked=True, attempts=3, kind="E", error="no", traceback="T", time=9.5)
    kept.apply([Put(put)])
    (found,) = now(kept.ledger.letters(Letters(), 10))
    assert found.number > 0
    assert found._replace(number=0) == put


def test_writing_again_keeps_what_the_event_is_and_its_place(kept: Kept) -> None:
    """An entry is one for each subscription and event; it stays where it stood in its line."""
    kept.apply([Put(entry("a", "retry", due=5)), Put(entry("b"))])
    again = entry("a", "dead", key="other", position=9, lane=1, attempts=2, parked=True)
    kept.apply([Put(again)])
    (found,) = now(kept.ledger.letters(Letters(), 10))
    assert (found.envelope.key, found.position, found.lane) == ("k", 1, 0)
    assert (found.state, found.attempts, found.parked) == ("dead", 2, True)
    assert ids(now(kept.ledger.followers(found, 10))) == ["b"]


def test_erasing_the_first_arms_the_next(kept: Kept) -> None:
    """The order of a key: whoever erases what holds it lets the next one go."""
    kept.apply([Put(entry("a", "retry", due=5)), Put(entry("b")), Put(entry("c"))])
    assert due(kept, 9) == (["a"], None)
    kept.apply([Erase(SHOP, "a")])
    assert due(kept, 0) == (["b"], None)
    kept.apply([Erase(SHOP, "b")])
    assert due(kept, 0) == (["c"], None)


def test_erasing_a_follower_arms_nothing(kept: Kept) -> None:
    """As long as the first one holds the key."""
    kept.apply([Put(entry("a", "dead", parked=True)), Put(entry("b")), Put(entry("c"))])
    kept.apply([Erase(SHOP, "b"), Erase(SHOP, "unknown")])
    assert due(kept, 9) == ([], None)
    assert now(kept.ledger.waiting(entry("a"))) == 1


def test_counts_and_letters_that_are_not_parked_hold_no_key(kept: Kept) -> None:
    """What is only counted is on its way, and what was given up is out of it."""
    kept.apply(
        [
            Put(entry("a", "count", attempts=2)),
            Put(entry("b", "dead")),
            Put(entry("c", "retry", due=5)),
            Put(entry("d")),
        ]
    )
    assert now(kept.ledger.held(SHOP, "orders", 0)) == Held({"a": 2}, frozenset({"k"}))
    kept.apply([Erase(SHOP, "a"), Erase(SHOP, "c")])
    assert due(kept, 0) == (["d"], None)


def test_erasing_a_count_arms_nothing(kept: Kept) -> None:
    """It held nobody up; what is blocked waits for something else."""
    kept.apply([Put(entry("a", "dead", parked=True)), Put(entry("c", "blocked"))])
    kept.apply([Put(entry("b", "count")), Erase(SHOP, "b")])
    assert due(kept, 9) == ([], None)


def test_what_is_blocked_behind_nothing_is_armed(kept: Kept) -> None:
    """What it was to wait behind has gone while it was on its way here."""
    kept.apply([Put(entry("a", "blocked"))])
    assert due(kept, 9) == (["a"], None)


def test_followers_come_after_the_first(kept: Kept) -> None:
    """Not what stands before it, and not what is armed itself; so many at most."""
    kept.apply([Put(entry("a")), Put(entry("b", "retry")), Put(entry("c")), Put(entry("d"))])
    (first,), _ = now(kept.ledger.due(SHOP, "orders", LANES, 9, 1))
    assert ids(now(kept.ledger.followers(first, 10))) == ["c", "d"]
    assert ids(now(kept.ledger.followers(first, 1))) == ["c"]


def test_events_without_a_key_follow_nobody(kept: Kept) -> None:
    """No key is not a key."""
    kept.apply([Put(entry("a", "dead", key=None, parked=True)), Put(entry("b", key=None))])
    letter = now(kept.ledger.letters(Letters(), 1))[0]
    assert ids(now(kept.ledger.followers(letter, 10))) == []
    assert now(kept.ledger.waiting(letter)) == 0
    kept.apply([Erase(SHOP, "a")])
    assert due(kept, 9) == ([], None)
    assert now(kept.ledger.held(SHOP, "orders", 0)) == Held({}, frozenset())


def test_what_is_due_comes_in_the_order_of_its_time(kept: Kept) -> None:
    """Of the lanes that are asked for, so many at most; and when to ask again."""
    kept.apply(
        [
            Put(entry("c", "retry", key="3", due=3)),
            Put(entry("a", "retry", key="1", due=1)),
            Put(entry("b", "retry", key="2", due=1)),
            Put(entry("d", "retry", key="4", due=8)),
            Put(entry("e", "retry", key="5", due=1, lane=7)),
            Put(entry("f", "retry", key="6", due=1, topic="other")),
            Put(entry("g", "retry", key="7", due=1, subscription=MAIL)),
        ]
    )
    assert due(kept, 3) == (["a", "b", "c"], 8)
    assert due(kept, 3, limit=2) == (["a", "b"], 8)
    assert due(kept, 0) == ([], 1)
    assert now(kept.ledger.due(SHOP, "orders", (), 9, 10)) == ([], None)


def test_letters_are_found_by_what_they_are(kept: Kept) -> None:
    """Latest first, each filter by itself and all together."""
    kept.apply(
        [
            Put(entry("a", "dead", kind="KeyError", key="1", time=1)),
            Put(entry("b", "dead", kind="ValueError", key="2", time=2)),
            Put(entry("c", "dead", kind="KeyError", key="2", time=3, subscription=MAIL)),
            Put(entry("d", "retry", kind="KeyError")),
        ]
    )

    def found(limit: int = 10, **which: Any) -> list[str]:
        return ids(now(kept.ledger.letters(Letters(**which), limit)))

    assert found() == ["c", "b", "a"]
    assert found(limit=2) == ["c", "b"]
    assert found(limit=0) == []
    assert found(subscription=MAIL) == ["c"]
    assert found(name="order.b") == ["b"]
    assert found(kind="KeyError") == ["c", "a"]
    assert found(key="2") == ["c", "b"]
    assert found(before=2) == ["a"]
    assert found(kind="KeyError", subscription=SHOP) == ["a"]
    assert found(numbers=()) == []


def test_a_letter_may_be_retried_from_its_first_attempt(kept: Kept) -> None:
    """A parked one goes on holding its key until it is handled."""
    kept.apply([Put(entry("a", "dead", parked=True, attempts=5)), Put(entry("b"))])
    assert now(kept.ledger.retry(Letters(key="k"), 7.0)) == 1
    assert now(kept.ledger.retry(Letters(key="k"), 7.0)) == 0
    (first,), _ = now(kept.ledger.due(SHOP, "orders", LANES, 7.0, 10))
    assert (first.envelope.id, first.attempts, first.due) == ("a", 0, 7.0)
    assert now(kept.ledger.held(SHOP, "orders", 0)).keys == {"k"}
    assert ids(now(kept.ledger.followers(first, 10))) == ["b"]


def test_a_letter_may_be_given_other_data(kept: Kept) -> None:
    """Everything else about the event stays."""
    kept.apply([Put(entry("a", "dead", attempts=5)), Put(entry("b", "retry", key="2", due=1))])
    number = now(kept.ledger.letters(Letters(), 1))[0].number
    assert now(kept.ledger.edit(number, b"[1]", 7.0))
    assert not now(kept.ledger.edit(number, b"[2]", 7.0))
    assert not now(kept.ledger.edit(number + 1, b"[2]", 7.0))
    entries, _ = now(kept.ledger.due(SHOP, "orders", LANES, 7.0, 10))
    assert [each.envelope.data for each in entries] == [b"{}", b"[1]"]
    assert entries[1].envelope == entry("a").envelope._replace(data=b"[1]")


def test_discarding_a_letter_lets_its_followers_go(kept: Kept) -> None:
    """It is as if it had been handled."""
    kept.apply([Put(entry("a", "dead", parked=True)), Put(entry("b")), Put(entry("c"))])
    assert now(kept.ledger.discard(Letters(subscription=SHOP))) == 1
    assert due(kept, 0) == (["b"], None)


def test_the_number_of_a_letter_is_never_given_to_another(kept: Kept) -> None:
    """Somebody may still hold it, and would retry what they have never seen."""
    kept.apply([Put(entry("a", "dead"))])
    number = now(kept.ledger.letters(Letters(), 1))[0].number
    now(kept.ledger.discard(Letters(numbers=(number,))))
    kept.apply([Put(entry("b", "dead"))])
    assert now(kept.ledger.letters(Letters(numbers=(number,)), 1)) == []


def test_an_event_is_new_once(kept: Kept) -> None:
    """For each subscription, until its lane has left it behind for good."""
    place = ("orders", 0, 4)
    assert kept.is_new(SHOP, "a", *place)
    assert not kept.is_new(SHOP, "a", *place)
    assert kept.is_new(MAIL, "a", *place)
    kept.apply([Handled(SHOP, "orders", 0, 3), Handled(SHOP, "orders", 1, 9)])
    assert not kept.is_new(SHOP, "a", *place)
    kept.apply([Handled(SHOP, "orders", 0, 4)])
    assert kept.is_new(SHOP, "a", *place)
    assert not kept.is_new(MAIL, "a", *place)


def test_what_is_in_the_ledger_stays_known_as_handled(kept: Kept) -> None:
    """It may come again although its lane is past it."""
    kept.apply([Put(entry("a", "retry"))])
    assert kept.is_new(SHOP, "a", "orders", 0, 4)
    kept.apply([Handled(SHOP, "orders", 0, 9)])
    assert not kept.is_new(SHOP, "a", "orders", 0, 4)
    kept.apply([Erase(SHOP, "a"), Handled(SHOP, "orders", 0, 9)])
    assert kept.is_new(SHOP, "a", "orders", 0, 4)


def test_what_people_change_is_told() -> None:
    """So that whoever waits for entries looks again."""
    kept = InMemory()
    kept.apply([Put(entry("a", "dead"))])
    assert kept.nudges == 0
    now(kept.ledger.retry(Letters(), 1.0))
    now(kept.ledger.discard(Letters()))
    now(kept.ledger.edit(1, b"", 1.0))
    assert kept.nudges == 3


# The same random work for both, and the same answers.


class Retry(NamedTuple):
    """Retry letters."""

    which: Letters
    now: float


class Discard(NamedTuple):
    """Discard letters."""

    which: Letters


class Edit(NamedTuple):
    """Edit the letter that many from the latest."""

    place: int
    data: bytes


class Look(NamedTuple):
    """Note in the inbox."""

    subscription: str
    id: str
    lane: int
    position: int


Step = Put | Erase | Handled | Retry | Discard | Edit | Look

KEYS = {"a": "k", "b": "k", "c": "k", "d": "l", "e": "l", "f": None}
SUBSCRIPTIONS = st.sampled_from([SHOP, SHOP, SHOP, MAIL])
IDS = st.sampled_from(sorted(KEYS))
TIMES = st.integers(0, 4).map(float)
POSITIONS = st.integers(1, 4)
LETTERS = st.builds(
    Letters,
    numbers=st.none(),
    subscription=st.none() | SUBSCRIPTIONS,
    name=st.none() | IDS.map("order.{}".format),
    kind=st.none() | st.sampled_from(["", "E"]),
    key=st.none() | st.sampled_from(["k", "l"]),
    before=st.none() | TIMES,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry of one of a few events."""
    which = draw(IDS)
    return entry(
        which,
        draw(st.sampled_from(["count", "retry", "blocked", "blocked", "dead"])),
        key=KEYS[which],
        due=draw(TIMES),
        subscription=draw(SUBSCRIPTIONS),
        topic=draw(st.sampled_from(["orders", "orders", "other"])),
        lane=draw(st.sampled_from(LANES)),
        position=draw(POSITIONS),
        attempts=draw(st.integers(0, 3)),
        parked=draw(st.booleans()),
        kind=draw(st.sampled_from(["", "E"])),
        time=draw(TIMES),
    )


STEPS: st.SearchStrategy[Step] = st.one_of(
    entries().map(Put),
    entries().map(Put),
    st.builds(Erase, SUBSCRIPTIONS, IDS),
    st.builds(Handled, SUBSCRIPTIONS, st.just("orders"), st.sampled_from(LANES), POSITIONS),
    st.builds(Retry, LETTERS, TIMES),
    st.builds(Discard, LETTERS),
    st.builds(Edit, st.integers(0, 2), st.just(b"[]")),
    st.builds(Look, SUBSCRIPTIONS, IDS, st.sampled_from(LANES), POSITIONS),
)


def do(kept: Kept, step: Step) -> object:
    """Do one step; what it answers."""
    if isinstance(step, Put | Erase | Handled):
        kept.apply([step])
        return None
    if isinstance(step, Retry):
        return now(kept.ledger.retry(step.which, step.now))
    if isinstance(step, Discard):
        return now(kept.ledger.discard(step.which))
    if isinstance(step, Look):
        return kept.is_new(step.subscription, step.id, "orders", step.lane, step.position)
    letters = now(kept.ledger.letters(Letters(), 10))[step.place : step.place + 1]
    return [now(kept.ledger.edit(letter.number, step.data, 2.0)) for letter in letters]


def plain(entries: Iterable[Entry]) -> list[Entry]:
    """Without their numbers, which are each ledger's own."""
    return [each._replace(number=0) for each in entries]


def everything(kept: Kept) -> list[object]:
    """All that can be asked."""
    ledger, answers = kept.ledger, list[object]()
    letters = now(ledger.letters(Letters(), 20))
    answers += [plain(letters), plain(now(ledger.letters(Letters(), 2)))]
    answers += [now(ledger.waiting(letter)) for letter in letters]
    firsts = list(letters)
    for subscription in (SHOP, MAIL):
        for topic in ("orders", "other"):
            answers += [now(ledger.held(subscription, topic, lane)) for lane in LANES]
            for at, limit in ((0.0, 9), (2.0, 9), (9.0, 9), (9.0, 1)):
                entries, later = now(ledger.due(subscription, topic, LANES, at, limit))
                answers += [plain(entries), later]
            firsts += now(ledger.due(subscription, topic, LANES, 9.0, 20))[0]
    answers += [plain(now(ledger.followers(first, 9))) for first in firsts]
    answers += [plain(now(ledger.followers(first, 1))) for first in firsts]
    return answers


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_both_ledgers_are_one_and_the_same(steps: list[Step]) -> None:
    """Whatever is done, in whatever order, they answer alike."""
    in_sql, in_memory = InSql(), InMemory()
    try:
        for step in steps:
            assert do(in_memory, step) == do(in_sql, step)
            assert everything(in_memory) == everything(in_sql)
    finally:
        in_sql.close()
