"""Who owns which lane: shared out evenly, fenced at each change, freed when somebody is gone."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sqlite.logs import connected

from headwater.errors import Fenced
from headwater.transport import Assigned, Interest, Lane, Lost, Revoking
from headwater.transports.sqlite import membership, schema
from headwater.transports.sqlite.log import LANES

SHIP = "shop:ship"


class Member:
    """One process, as far as membership goes: it does what it is told."""

    _bytes = itertools.count(1)

    def __init__(self, connection: sqlite3.Connection, name: str, boot: str = "boot") -> None:
        self.connection = connection
        self.me = membership.Me(name, next(self._bytes), 4000, boot, name)
        self.mine: dict[Lane, int] = {}
        self.assigned = list[Assigned]()
        self.lost = list[Lost]()
        membership.renew(connection, self.me, 100.0)
        membership.read(connection, SHIP, name)

    def look(self) -> bool:
        """Share out once, and follow; whether anything has changed."""
        events = membership.share_out(self.connection, self.me.owner, [SHIP], self.mine)
        for event in events:
            if isinstance(event, Assigned):
                assert event.lane not in self.mine
                self.mine[event.lane] = event.epoch
                self.assigned.append(event)
            elif isinstance(event, Revoking):
                epoch = self.mine.pop(event.lane)
                membership.release(self.connection, event.lane, self.me.owner, epoch)
            elif isinstance(event, Lost):
                del self.mine[event.lane]
                self.lost.append(event)
        return bool(events)


def settle_down(members: list[Member]) -> None:
    """Let all of them look until nothing changes any more."""
    for _ in range(20):
        if not sum(member.look() for member in members):
            return
    raise AssertionError("lanes go to and fro for ever")


def owners(connection: sqlite3.Connection) -> dict[int, str | None]:
    """The owner of each lane."""
    return dict(connection.execute("SELECT lane, owner FROM cursor ORDER BY lane").fetchall())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A log with one subscription."""
    with connected(tmp_path / "shop.db") as connection:
        membership.register(connection, Interest(SHIP, ("events",), ("Placed",)), 1.0)
        yield connection


# Sharing.


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_lanes_are_shared_out_evenly(log: sqlite3.Connection, count: int) -> None:
    """Whoever comes gets its part of what the others had: nobody has two more than another."""
    members = list[Member]()
    for number in range(count):
        members.append(Member(log, f"m{number}"))
        settle_down(members)
        held = [len(member.mine) for member in members]
        assert sum(held) == LANES
        assert max(held) - min(held) <= 1
    assert owners(log) == {
        lane.number: member.me.owner for member in members for lane in member.mine
    }


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_lanes_are_shared_out_evenly_whoever_comes_and_goes(steps: list[bool]) -> None:
    """In any order; those who leave take nothing with them."""
    log = sqlite3.connect(":memory:", isolation_level=None)
    log.executescript(schema.TABLES)
    membership.register(log, Interest(SHIP, ("events",), ("Placed",)), 1.0)
    members = list[Member]()
    names = itertools.count()
    for comes in steps:
        if comes or not members:
            members.append(Member(log, f"m{next(names)}"))
        else:
            membership.leave(log, members.pop(0).me.owner)
        settle_down(members)
        if members:
            held = [len(member.mine) for member in members]
            assert sum(held) == LANES
            assert max(held) - min(held) <= 1
    log.close()


def test_a_look_that_does_not_write_takes_nothing(log: sqlite3.Connection) -> None:
    """It says what would change."""
    member = Member(log, "m0")
    events = membership.share_out(log, "m0", [SHIP], {}, write=False)
    assert len(events) == LANES
    assert set(owners(log).values()) == {None}
    settle_down([member])
    assert membership.share_out(log, "m0", [SHIP], member.mine, write=False) == []


# Takeover.


def test_every_change_of_owner_counts_the_fence_up(log: sqlite3.Connection) -> None:
    """By release, by leaving, and by death."""
    first = Member(log, "first")
    settle_down([first])
    assert set(first.mine.values()) == {1}
    second = Member(log, "second")
    settle_down([first, second])
    assert sorted(first.mine.values()) == [1] * 4
    assert sorted(second.mine.values()) == [2] * 4
    membership.leave(log, "second")
    settle_down([first])
    assert sorted(first.mine.values()) == [1] * 4 + [3] * 4
    third = Member(log, "third")
    membership.bury(log, third.me, 0.0, lambda byte: byte != first.me.byte)
    settle_down([third])
    assert sorted(third.mine.values()) == [2] * 4 + [4] * 4


def test_who_takes_over_knows_how_far_the_one_before_may_have_got(log: sqlite3.Connection) -> None:
    """Its position, what it had settled beyond, and its claim."""
    first = Member(log, "first")
    settle_down([first])
    log.execute("UPDATE cursor SET position = 10, done = '12,15', claim = 40 WHERE lane = 3")
    second = Member(log, "second")
    membership.bury(log, second.me, 0.0, lambda byte: byte != first.me.byte)
    settle_down([second])
    (taken,) = [event for event in second.assigned if event.lane.number == 3]
    assert (taken.position, taken.suspect, taken.done) == (10, 40, frozenset({12, 15}))


def test_a_clean_release_leaves_nothing_suspect(log: sqlite3.Connection) -> None:
    """Nothing was under way: the next owner need not be careful."""
    first = Member(log, "first")
    settle_down([first])
    log.execute("UPDATE cursor SET position = 10, claim = 40")
    for lane, epoch in first.mine.items():
        membership.release(log, lane, "first", epoch)
    first.mine.clear()
    settle_down([first])
    assert {event.suspect for event in first.assigned[LANES:]} == {10}


def test_the_dead_are_buried_and_the_living_are_not(log: sqlite3.Connection) -> None:
    """Gone, hanging beyond its lease, or of a run of the machine before this one."""
    here = Member(log, "here")
    alive, gone, hanging = Member(log, "alive"), Member(log, "gone"), Member(log, "hanging")
    Member(log, "before", boot="an earlier one")
    membership.renew(log, hanging.me, 4.0)
    buried = membership.bury(log, here.me, 5.0, lambda byte: byte != gone.me.byte)
    assert sorted(buried) == ["before", "gone", "hanging"]
    names = {row[0] for row in log.execute("SELECT owner FROM member")}
    assert names == {"here", "alive"} == {row[0] for row in log.execute("SELECT owner FROM reader")}
    assert membership.bury(log, alive.me, 5.0, lambda byte: True) == []


def test_nobody_buries_himself(log: sqlite3.Connection) -> None:
    """However late it is."""
    here = Member(log, "here")
    assert membership.bury(log, here.me, 1e9, lambda byte: False) == []


def test_who_was_taken_for_dead_gets_its_part_again(log: sqlite3.Connection) -> None:
    """It is told what it has lost, and shares in the work as before."""
    sleeper, other = Member(log, "sleeper"), Member(log, "other")
    settle_down([sleeper, other])
    assert membership.bury(log, other.me, 200.0, lambda byte: True) == ["sleeper"]
    settle_down([other])
    assert len(other.mine) == LANES
    membership.renew(log, sleeper.me, 300.0, [SHIP])
    settle_down([sleeper, other])
    assert len(sleeper.lost) == LANES // 2
    assert len(sleeper.mine) == len(other.mine) == LANES // 2


# Fences.


def test_a_stale_release_changes_nothing(log: sqlite3.Connection) -> None:
    """Neither under an older fence, nor in another's name."""
    first = Member(log, "first")
    settle_down([first])
    lane, epoch = next(iter(first.mine.items()))
    before = owners(log)
    membership.release(log, lane, "first", epoch - 1)
    membership.release(log, lane, "second", epoch)
    assert owners(log) == before


@pytest.mark.parametrize("epoch", [0, 2, 99])
def test_a_stale_fence_is_refused(log: sqlite3.Connection, epoch: int) -> None:
    """With who, and which lane."""
    first = Member(log, "first")
    settle_down([first])
    lane = next(iter(first.mine))
    membership.check_fence(log, lane, 1)
    with pytest.raises(Fenced, match=rf"shop:ship.*events, lane {lane.number}"):
        membership.check_fence(log, lane, epoch)
    with pytest.raises(Fenced):
        membership.check_fence(log, Lane(SHIP, "gone", 0), 1)


# Registering.


def test_a_subscription_begins_where_it_was_first_registered(log: sqlite3.Connection) -> None:
    """Registering again moves nothing, wherever it says it begins."""
    log.execute("INSERT INTO meta VALUES('head', 50)")

    def places(name: str) -> set[int]:
        rows = log.execute("SELECT position FROM cursor WHERE subscription = ?", (name,))
        return {row[0] for row in rows}

    starts: list[tuple[str, int]] = [("new", 50), ("beginning", 0)]
    for start, position in starts:
        interest = Interest(f"shop:{start}", ("events",), ("Placed",), start)  # type: ignore[arg-type]
        assert membership.register(log, interest, 2.0)
        assert places(f"shop:{start}") == {position}
        assert not membership.register(log, interest._replace(start=33), 2.0)
        assert not membership.register(log, interest._replace(start=33, what=("Other",)), 3.0)
        assert places(f"shop:{start}") == {position}
    assert membership.register(log, Interest("shop:at", ("events",), ("Placed",), 33), 2.0)
    assert places("shop:at") == {33}


def test_a_topic_that_is_added_later_begins_where_the_log_stands_then(
    log: sqlite3.Connection,
) -> None:
    """The others keep their places."""
    log.execute("INSERT INTO meta VALUES('head', 50)")
    membership.register(log, Interest(SHIP, ("events", "orders"), ("Placed",)), 2.0)
    rows = log.execute("SELECT topic, position, count(*) FROM cursor GROUP BY 1, 2").fetchall()
    assert rows == [("events", 0, LANES), ("orders", 50, LANES)]


def test_stored_subscriptions_without_code_are_found(log: sqlite3.Connection) -> None:
    """Those of this application alone."""
    for name in ("shop:old", "shop:new", "shopping:other", "mail:notify"):
        membership.register(log, Interest(name, ("events",), ("Placed",)), 2.0)
    assert membership.unknown(log, "shop:", [SHIP, "shop:new"]) == ["shop:old"]
