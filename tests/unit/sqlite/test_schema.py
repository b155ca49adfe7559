"""How a file becomes a log: whole or not at all, by one of many; and how it grows newer."""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from tests.unit.sqlite.logs import connected, line_of, numbers, program

from headwater.errors import BadLog
from headwater.transports.sqlite import schema


def identity(path: Path) -> str:
    """What tells a log from every other."""
    with connected(path) as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'log'").fetchone()
    return str(row[0])


def test_a_new_log_is_ours_in_wal_mode_and_alone_in_its_folder(tmp_path: Path) -> None:
    """No draft is left, and SQLite finds nothing to complain about."""
    path = tmp_path / "shop.db"
    schema.create(str(path))
    assert list(tmp_path.iterdir()) == [path]
    assert schema.look_at(str(path))
    with connected(path) as connection:
        assert schema.check(connection, str(path)) == schema.VERSION
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """Who comes second uses the first one's."""
    path = tmp_path / "shop.db"
    schema.create(str(path))
    first = identity(path)
    schema.create(str(path))
    assert identity(path) == first
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_that_make_a_log_at_once_one_does(tmp_path: Path) -> None:
    """And all of them end up with the same."""
    path, begin, seen = tmp_path / "shop.db", threading.Barrier(6), set[str]()

    def make() -> None:
        begin.wait()
        schema.create(str(path))
        seen.add(identity(path))

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert not list(tmp_path.glob("*.new-*"))


PUBLISHER = """
import sys
from headwater import Bus
path, start = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with Bus(f"sqlite:///{path}", name="shop") as bus:
    for number in range(start, start + 20):
        bus.publish("order.placed", {"number": number})
print("done", flush=True)
"""


def test_processes_that_start_at_once_share_the_log_that_one_of_them_makes(tmp_path: Path) -> None:
    """No event goes into a log that then loses its name."""
    path = tmp_path / "shop.db"
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(program(PUBLISHER, str(path), str(100 * n)))
                   for n in range(3)]  # fmt: skip
        assert [line_of(process) for process in started] == ["ready"] * 3
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [line_of(process) for process in started] == ["done"] * 3
    assert sorted(numbers(path)) == [100 * n + number for n in range(3) for number in range(20)]


@pytest.mark.parametrize("step", ["link", "fsync"])
def test_a_log_that_cannot_be_made_whole_is_not_made(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left beside its place either."""

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(BadLog, match=r"shop\.db cannot be made: No space left on device"):
        schema.create(str(tmp_path / "shop.db"))
    assert list(tmp_path.iterdir()) == []


# Newer versions.

STEPS = {
    1: "ALTER TABLE log ADD COLUMN colour TEXT; CREATE TABLE extra(id INTEGER PRIMARY KEY)",
    2: "INSERT INTO extra VALUES(7); UPDATE log SET colour = 'red'",
}


def tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Everything that the schema says."""
    return dict(connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_schema"))


def test_steps_lead_from_any_version_to_the_newest(tmp_path: Path) -> None:
    """One after the other; a log of today is not touched."""
    with connected(tmp_path / "shop.db") as connection:
        before = tables(connection)
        schema.migrate(connection, 1, 1, {})
        assert tables(connection) == before
        schema.migrate(connection, 1, 3, STEPS)
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("SELECT id FROM extra").fetchall() == [(7,)]
        assert "colour" in tables(connection)["log"]


def test_all_steps_are_one_transaction(tmp_path: Path) -> None:
    """A crash in the midst leaves the old version."""
    with connected(tmp_path / "shop.db") as connection:
        said = list[str]()
        connection.set_trace_callback(said.append)
        schema.migrate(connection, 1, 3, STEPS)
        words = [statement.split()[0].rstrip(";") for statement in said]
        assert words[0] == "BEGIN"
        assert words[-1] == "COMMIT"
        assert (words.count("BEGIN"), words.count("COMMIT")) == (1, 1)


@pytest.mark.parametrize(
    "broken", ["UPDATE nothing SET x = 1", "INSERT INTO meta VALUES('log', 'again')", "nonsense"]
)
def test_a_step_that_fails_undoes_those_before_it(broken: str, tmp_path: Path) -> None:
    """The log is as it was, of its old version, and can be used by the old program."""
    path = tmp_path / "shop.db"
    with connected(path) as connection:
        before = tables(connection)
        with pytest.raises(sqlite3.Error):
            schema.migrate(connection, 1, 3, {**STEPS, 2: f"INSERT INTO extra VALUES(1); {broken}"})
        assert not connection.in_transaction
        assert tables(connection) == before
        assert schema.check(connection, str(path)) == 1
        schema.migrate(connection, 1, 3, STEPS)
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
