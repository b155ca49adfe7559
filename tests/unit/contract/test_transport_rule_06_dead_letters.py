"""Rule 6 on a transport, dead letters: always on, with everything that is known, for people."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed

from headwater import Bus, WouldDeadlock
from headwater.errors import InvalidOption, Unsupported


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def ship(event: Paid) -> None:
    """Fail, in one of two ways."""
    raise (ValueError if event.number % 2 else KeyError)(f"no {event.number}")


def with_letters(log: Log, count: int = 4) -> Bus:
    """A running bus with so many dead letters."""
    bus = log.bus()
    bus.subscribe(Paid, ship, name="ship")
    bus.start()
    for number in range(count):
        bus.publish(Paid(f"o{number % 2}", number), id=f"e{number}")
    bus.idle(PATIENCE)
    return bus


def test_a_letter_has_everything_that_is_known(log: Log) -> None:
    """Of the event, of the error, and of who gave it up."""
    bus = with_letters(log, 2)
    ((position,),) = log.ask("SELECT position FROM log WHERE id = 'e1'")
    (letter,) = bus.dead_letters.list(error="ValueError").result(PATIENCE)
    bus.close()
    assert (letter.event_id, letter.name, letter.key) == ("e1", "shop.Paid", "o1")
    assert (letter.subscription, letter.topic) == ("shop:ship", "events")
    assert (letter.kind, letter.error, letter.attempts) == ("ValueError", "no 1", 1)
    assert "raise (ValueError if event.number % 2 else KeyError)" in letter.traceback
    assert json.loads(letter.data) == {"order_id": "o1", "number": 1}
    assert letter.position == position
    assert (letter.parked, letter.waiting) == (False, 0)
    assert letter.time > 1.7e9


def test_letters_are_found_by_what_they_are(log: Log) -> None:
    """Latest first, and no more than were asked for."""
    bus = with_letters(log)
    find = bus.dead_letters.list
    events = {
        "all": [letter.event_id for letter in find().result(PATIENCE)],
        "limit": [letter.event_id for letter in find(limit=2).result(PATIENCE)],
        "error": [letter.event_id for letter in find(error="KeyError").result(PATIENCE)],
        "key": [letter.event_id for letter in find(key="o1").result(PATIENCE)],
        "name": [letter.event_id for letter in find(name="shop.Placed").result(PATIENCE)],
        "who": [letter.event_id for letter in find(subscription="shop:ship").result(PATIENCE)],
        "not": [letter.event_id for letter in find(subscription="ship").result(PATIENCE)],
        "old": [letter.event_id for letter in find(older_than=3600).result(PATIENCE)],
        "both": [e.event_id for e in find(error="KeyError", key="o1").result(PATIENCE)],
    }
    bus.close()
    assert sorted(events["all"]) == ["e0", "e1", "e2", "e3"]
    assert events["limit"] == events["all"][:2]
    assert sorted(events["error"]) == ["e0", "e2"]
    assert sorted(events["key"]) == ["e1", "e3"]
    assert sorted(events["who"]) == ["e0", "e1", "e2", "e3"]
    assert events["name"] == events["not"] == events["old"] == events["both"] == []


def test_one_letter_is_got_by_its_id(log: Log) -> None:
    """None if there is none."""
    bus = with_letters(log, 1)
    (letter,) = bus.dead_letters.list().result(PATIENCE)
    assert bus.dead_letters.get(letter.id).result(PATIENCE) == letter
    assert bus.dead_letters.get(letter.id + 99).result(PATIENCE) is None
    bus.close()


def test_what_is_meant_must_be_said(log: Log) -> None:
    """All letters of a log are not touched by leaving something out."""
    bus = with_letters(log, 2)
    for change in (bus.dead_letters.retry, bus.dead_letters.discard):
        with pytest.raises(InvalidOption, match="older_than=0"):
            change()
        with pytest.raises(InvalidOption, match="expected ids, ints"):
            change("e1")  # type: ignore[arg-type]
    assert len(bus.dead_letters.list().result(PATIENCE)) == 2
    assert bus.dead_letters.discard(older_than=0).result(PATIENCE) == 2
    assert bus.dead_letters.list().result(PATIENCE) == []
    bus.close()


def test_changes_say_how_many_they_changed(log: Log) -> None:
    """And what is not there is not changed."""
    bus = with_letters(log)
    letters = bus.dead_letters
    ids = {letter.event_id: letter.id for letter in letters.list().result(PATIENCE)}
    assert letters.discard(ids["e0"], ids["e2"], 9999).result(PATIENCE) == 2
    assert letters.discard(ids["e0"]).result(PATIENCE) == 0
    assert letters.edit(9999, {"order_id": "x"}).result(PATIENCE) is False
    assert letters.retry(ids["e1"], error="KeyError").result(PATIENCE) == 0
    assert len(letters.list().result(PATIENCE)) == 2
    bus.close()


def test_a_letter_that_fails_again_is_one_letter_again(log: Log) -> None:
    """From its first attempt, with the latest error."""
    bus = with_letters(log, 1)
    before = bus.dead_letters.list().result(PATIENCE)
    assert bus.dead_letters.retry(before[0].id).result(PATIENCE) == 1
    bus.idle(PATIENCE)
    (after,) = bus.dead_letters.list().result(PATIENCE)
    assert (after.event_id, after.attempts) == ("e0", 1)
    assert after.time >= before[0].time
    bus.close()


@pytest.mark.parametrize("data", [{"order_id": "o9", "number": 9}, b'{"order_id":"o9","number":9}'])
def test_a_letter_may_be_mended(log: Log, data: object) -> None:
    """With plain data, or the bytes themselves; the event in the log stays what it was."""
    bus = with_letters(log, 1)
    bus.close()
    seen = list[Paid]()
    bus = log.bus()
    bus.subscribe(Paid, seen.append, name="ship")
    with bus:
        (letter,) = bus.dead_letters.list().result(PATIENCE)
        assert bus.dead_letters.edit(letter.id, data).result(PATIENCE)
        bus.idle(PATIENCE)
        assert bus.dead_letters.list().result(PATIENCE) == []
    assert seen == [Paid("o9", 9)]
    assert json.loads(log.ask("SELECT data FROM log")[0][0]) == {"order_id": "o0", "number": 0}


def test_an_answer_is_awaited_where_a_loop_runs(log: Log) -> None:
    """To block it is refused; what has come may be taken."""

    async def run() -> None:
        bus = log.bus()
        async with bus:
            answer = bus.dead_letters.list()
            if "on its way" in repr(answer):
                with pytest.raises(WouldDeadlock, match="await it"):
                    answer.result()
            assert await answer == []
            assert answer.result() == []
            assert repr(answer) == "<Answer, there>"

    asyncio.run(run())


def test_letters_of_a_bus_that_does_not_consume_can_be_seen(log: Log) -> None:
    """The bus opens the log for it; a direct bus has none to open."""
    with_letters(log, 2).close()
    bus = log.bus()
    assert len(bus.dead_letters.list().result(PATIENCE)) == 2
    bus.close()
    with pytest.raises(Unsupported, match="Failed records"):
        _ = Bus().dead_letters


def test_bytes_that_do_not_decode_are_kept_as_they_are(log: Log) -> None:
    """At once, without a call, and without a traceback: no code of the user's is in it."""
    calls = list[object]()
    bus = log.bus()
    bus.subscribe(Placed, calls.append, name="ship")
    with bus:
        pass
    with log.bus("till") as till:
        till.publish(Placed(1), id="e1")
    log.ask("UPDATE log SET data = ?", b"\xff{nonsense")
    bus = log.bus()
    bus.subscribe(Placed, calls.append, name="ship")
    with bus:
        bus.idle(PATIENCE)
        (letter,) = bus.dead_letters.list().result(PATIENCE)
    assert calls == []
    assert (letter.kind, letter.data, letter.traceback) == ("Undecodable", b"\xff{nonsense", "")
    assert "shop.Placed e1, version 1" in letter.error
