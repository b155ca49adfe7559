"""One owned lane: claims that grow with the speed, and settlements that are never lost."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.envelope import Envelope
from headwater.errors import Fenced
from headwater.ledger import Erase
from headwater.strand import LARGEST_CLAIM, NARROWEST, QUICK, SMALLEST_CLAIM, WIDEST, Strand
from headwater.transport import Assigned, Lane, Received

LANE = Lane("shop:ship", "events", 3)
ENVELOPE = Envelope("e1", "events", None, "Placed", 1, 1.0, None, None, 0, None, b"{}")


def strand(position: int = 100, suspect: int = 100, done: frozenset[int] = frozenset()) -> Strand:
    """A lane that was just assigned."""
    return Strand(Assigned(LANE, 7, position, suspect, done), {})


def commit(owned: Strand) -> None:
    """Settle, and be told that it is stored."""
    settlement, _ = owned.settlement()
    owned.claim = max(owned.claim, settlement.claim)


def test_nothing_may_begin_before_it_is_claimed() -> None:
    """A lane begins with the claim of the owner before, and none of its own."""
    fresh = strand(position=100, suspect=140)
    assert (fresh.claim, fresh.suspect, fresh.claiming) == (140, 140, 0)
    assert not fresh.dirty
    fresh.want_claim(141, 1000.0)
    assert fresh.dirty
    assert fresh.claim == 140, "it counts only when it is stored"
    assert fresh.settlement()[0].claim == 141 + SMALLEST_CLAIM


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(0, 1_000_000))
def test_claims_reach_ahead_within_their_bounds(pauses: list[float], start: int) -> None:
    """Quick lanes claim twice as far each time, slow ones as little as at first."""
    owned, now, position = strand(start, start), 1000.0, start
    expected = SMALLEST_CLAIM
    for number, pause in enumerate(pauses):
        before = now
        now += pause
        quick = number > 0 and now - before < QUICK
        expected = min(expected * 2, LARGEST_CLAIM) if quick else SMALLEST_CLAIM
        position = owned.claim + 1
        owned.want_claim(position, now)
        assert owned.claiming == position + expected
        commit(owned)
    assert owned.claim >= start


def test_a_settlement_never_takes_a_claim_back() -> None:
    """Settling what is done says the claim again."""
    owned = strand()
    owned.want_claim(101, 5.0)
    commit(owned)
    claimed = owned.claim
    owned.window.take(101)
    owned.window.finish(101)
    owned.dirty = True
    assert owned.settlement()[0].claim == claimed


def test_a_settlement_is_everything_there_is_and_leaves_nothing() -> None:
    """Place, gaps, publishes, changes, and who wants to know."""
    owned = strand(done=frozenset({103}))
    told = list[str]()
    for place in (101, 102):
        owned.window.take(place)
    owned.window.pass_over(110)
    owned.window.finish(102)
    change = Erase("shop:ship", "e1")
    owned.add([], [change], lambda error: told.append(f"stored, {error}"))
    settlement, tell = owned.settlement()
    assert settlement == (LANE, 7, 100, [102, 103], 100, [], [change])
    for each in tell:
        each(None)
    assert told == ["stored, None"]
    assert not owned.dirty
    again, tell = owned.settlement()
    assert (again.publishes, again.changes, tell) == ([], [], [])


@given(st.lists(st.integers(0, 99), max_size=5), st.lists(st.integers(0, 99), max_size=5))
def test_what_was_not_stored_goes_in_front_of_what_came_since(
    first: list[int], second: list[int]
) -> None:
    """The order of effects outlives a failure to store them."""
    owned, told = strand(), list[int]()

    def add(number: int) -> None:
        due = float(number)
        change = Erase("s", str(number))
        owned.add([(ENVELOPE, due)], [change], lambda error: told.append(number))

    for number in first:
        add(number)
    failed = owned.settlement()
    for number in second:
        add(number)
    owned.put_back(*failed)
    assert owned.dirty
    settlement, tell = owned.settlement()
    assert [due for _, due in settlement.publishes] == first + second
    assert list(settlement.changes) == [Erase("s", str(number)) for number in first + second]
    for each in tell:
        each(None)
    assert told == first + second


def test_who_waits_for_a_lane_that_is_lost_is_told() -> None:
    """Once, and nothing is begun any more."""
    owned, told = strand(), list[BaseException | None]()
    owned.queue.append(Received(101, ENVELOPE))
    owned.add([], [], told.append)
    lost = Fenced("lost")
    owned.give_up(lost)
    owned.give_up(lost)
    assert told == [lost]
    assert owned.gone
    assert not owned.queue
    assert owned.room() == 0


@given(st.lists(st.tuples(st.integers(0, 3 << 20), st.integers(1, 300), st.floats(0, 1))))
def test_a_lane_takes_few_large_events_or_many_small_ones(
    batches: list[tuple[int, int, float]],
) -> None:
    """What is here and what was asked for stays within its width, which has its own bounds."""
    owned, position = strand(), 100
    for size, most, part in batches:
        width = owned.width
        more = owned.room()
        owned.asked += more
        assert more == 0 or more + len(owned.window) <= max(width, len(owned.window))
        large = ENVELOPE._replace(data=bytes(size))
        batch = [Received(position + n, large) for n in range(1, min(most, owned.asked) + 1)]
        for received in batch:
            owned.window.take(received.position)
        position += len(batch)
        owned.window.pass_over(position)
        owned.weigh(batch)
        assert NARROWEST <= owned.width <= WIDEST
        assert owned.asked >= 0
        assert len(owned.window) <= WIDEST
        for received in batch[: int(len(batch) * part)]:
            owned.window.finish(received.position)
