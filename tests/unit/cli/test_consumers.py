"""``consumers``: list, lag, pause, resume, reset, rename, drop."""

import sqlite3
from typing import Any

Shop = Any  # The fixture of conftest.py.


def consumer(shop: Shop, name: str) -> Any:
    """What `ls` says of one subscription."""
    found = shop.ok("consumers", "ls", "shop.db", "--json").json
    return next((each for each in found if each["name"] == name), None)


def rows(shop: Shop, query: str) -> list[tuple[Any, ...]]:
    """What is in the file."""
    connection = sqlite3.connect(shop.folder / "shop.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_ls_counts_what_is_behind_waits_and_is_dead(busy: Shop) -> None:
    """Only events that a subscription wants are counted."""
    busy.place("o4")
    assert consumer(busy, "shop:shop.bill")["lag"] == 1
    assert consumer(busy, "shop:shop.bill")["dead"] == 1
    assert consumer(busy, "shop:purchase")["lag"] == 0
    lines = busy.ok("consumers", "ls", "shop.db").out.splitlines()
    assert lines[0].split() == [
        "subscription", "lag", "waiting", "dead", "oldest", "processes", "state",
    ]  # fmt: skip
    assert lines[1].startswith("shop:purchase")
    assert lines[1].split()[-1] == "idle"


def test_lag_shows_every_lane(busy: Shop) -> None:
    """Topic, lane, position and how many events wait in it."""
    busy.place("o4")
    lanes = busy.ok("consumers", "lag", "shop.db", "shop:shop.bill", "--json").json
    places = lanes["shop:shop.bill"]
    assert len(places) == 8
    assert sum(place["lag"] for place in places) == 1


def test_paused_events_wait_until_it_is_resumed(shop: Shop) -> None:
    """For all processes; the others go on."""
    assert shop.ok("consumers", "pause", "shop.db", "shop:shop.bill", "--json").json["changed"]
    again = shop.ok("consumers", "pause", "shop.db", "shop:shop.bill", "--json").json
    assert again == {"name": "shop:shop.bill", "paused": True, "changed": False}
    assert consumer(shop, "shop:shop.bill")["paused"]
    shop.ok("consumers", "resume", "shop.db", "shop:shop.bill")
    shop.place("o1")
    shop.work()
    assert consumer(shop, "shop:shop.bill")["lag"] == 0


def test_reset_brings_events_again(busy: Shop) -> None:
    """Its dead letters beyond the new place are forgotten: they come, and fail, anew."""
    answer = busy.ok("consumers", "reset", "shop.db", "shop:shop.bill", "--to", "beginning", "-y",
                     "--json")  # fmt: skip
    assert answer.json == {"name": "shop:shop.bill", "position": 0, "forgotten": 1}
    assert consumer(busy, "shop:shop.bill")["lag"] == 3
    assert consumer(busy, "shop:shop.bill")["dead"] == 0
    busy.work()
    assert consumer(busy, "shop:shop.bill")["lag"] == 0
    assert consumer(busy, "shop:shop.bill")["dead"] == 1


def test_reset_forgets_its_inbox_beyond_the_place(busy: Shop) -> None:
    """Else the inbox would take what comes again for duplicates."""
    connection = sqlite3.connect(busy.folder / "shop.db")
    for number in (1, 2, 3):
        connection.execute(
            "INSERT INTO inbox VALUES('shop:shop.bill', ?, 'events', 0, ?)", (f"e{number}", number)
        )
    connection.commit()
    connection.close()
    busy.ok("consumers", "reset", "shop.db", "shop:shop.bill", "--to", "2", "-y")
    assert rows(busy, "SELECT position FROM inbox") == [(1,), (2,)]
    assert consumer(busy, "shop:shop.bill")["lag"] == 1


def test_reset_to_the_end_skips(shop: Shop) -> None:
    """And what was skipped is not called settled."""
    shop.place("o1")
    shop.ok("consumers", "reset", "shop.db", "shop:shop.bill", "--to", "end", "-y")
    assert consumer(shop, "shop:shop.bill")["lag"] == 0
    assert "shop:shop.bill  before its place" in shop.ok("get", "shop.db", "1").out


def test_reset_takes_no_place_that_is_not_there(shop: Shop) -> None:
    """Nor a subscription that is not: with a did-you-mean."""
    answer = shop("consumers", "reset", "shop.db", "shop:shop.bill", "--to", "77", "-y")
    assert answer.code == 1
    assert "up to 0" in answer.err
    answer = shop("consumers", "reset", "shop.db", "shop:shop.bil", "--to", "end", "-y")
    assert answer.code == 1
    assert "did you mean 'shop:shop.bill'" in answer.err


def test_what_is_consumed_is_not_moved_unless_forced(shop: Shop, until: Any) -> None:
    """Reset, rename and drop refuse; a forced reset takes the lanes from whoever has them."""
    running = shop.start("run", "shop:bus")
    try:
        until(lambda: consumer(shop, "shop:shop.bill")["processes"] == 1, "it consumes")
        shop.place("o1", item="Bad")
        until(lambda: consumer(shop, "shop:shop.bill")["dead"] == 1, "it has failed")
        for words in (
            ("reset", "shop.db", "shop:shop.bill", "--to", "beginning", "-y"),
            ("rename", "shop.db", "shop:shop.bill", "shop:other"),
            ("drop", "shop.db", "shop:shop.bill", "-y"),
        ):
            answer = shop("consumers", *words)
            assert answer.code == 1
            assert "a process consumes shop:shop.bill now" in answer.err
        shop.ok("consumers", "reset", "shop.db", "shop:shop.bill", "--to", "beginning", "-y",
                "--force")  # fmt: skip
        until(lambda: consumer(shop, "shop:shop.bill")["dead"] == 1, "it has failed again")
    finally:
        running.process.terminate()
        assert running.ended() == 0


def test_rename_takes_place_entries_and_inbox_along(busy: Shop) -> None:
    """The new name goes on where the old one was."""
    before = rows(busy, "SELECT topic, lane, position, done FROM cursor"
                        " WHERE subscription = 'shop:shop.bill'")  # fmt: skip
    busy.ok("consumers", "rename", "shop.db", "shop:shop.bill", "shop:billing")
    after = rows(busy, "SELECT topic, lane, position, done FROM cursor"
                       " WHERE subscription = 'shop:billing'")  # fmt: skip
    assert after == before
    assert consumer(busy, "shop:shop.bill") is None
    assert consumer(busy, "shop:billing")["dead"] == 1
    for table in ("cursor", "entry", "inbox", "reader"):
        names = [name for (name,) in rows(busy, f"SELECT subscription FROM {table}")]  # noqa: S608
        assert "shop:shop.bill" not in names


def test_rename_onto_another_place_must_be_forced(busy: Shop) -> None:
    """Then the new name goes on where the old one was, and keeps its own dead letters too."""
    busy.ok("consumers", "reset", "shop.db", "shop:shop.update", "--to", "beginning", "-y")
    words = ("consumers", "rename", "shop.db", "shop:shop.update", "shop:shop.bill")
    answer = busy(*words)
    assert answer.code == 1
    assert "has a place of its own" in answer.err
    busy.ok(*words, "--force")
    assert consumer(busy, "shop:shop.update") is None
    assert consumer(busy, "shop:shop.bill")["lag"] == 3
    assert consumer(busy, "shop:shop.bill")["dead"] == 1


def test_drop_refuses_to_lose_events(busy: Shop) -> None:
    """A backlog or a dead letter; forced, all of it goes."""
    answer = busy("consumers", "drop", "shop.db", "shop:purchase", "-y")
    assert answer.code == 1
    assert "unsettled events, dead letters included: 1" in answer.err
    answer = busy.ok("consumers", "drop", "shop.db", "shop:purchase", "-y", "--force", "--json")
    assert answer.json == {"name": "shop:purchase", "lost": 1}
    assert consumer(busy, "shop:purchase") is None
    busy.ok("consumers", "drop", "shop.db", "shop:shop.update", "--yes")
    assert busy("consumers", "drop", "shop.db", "shop:none", "--yes").code == 1


def test_a_refusal_changes_nothing(busy: Shop) -> None:
    """Not a byte of what the tables hold."""
    dump = "SELECT * FROM {} ORDER BY 1, 2, 3"
    tables = ("subscription", "cursor", "entry")
    before = [rows(busy, dump.format(table)) for table in tables]
    busy("consumers", "drop", "shop.db", "shop:purchase", "-y")
    busy("consumers", "rename", "shop.db", "shop:purchase", "shop:shop.bill")
    busy("consumers", "reset", "shop.db", "shop:purchase", "--to", "99", "-y")
    assert [rows(busy, dump.format(table)) for table in tables] == before
