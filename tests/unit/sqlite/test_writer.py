"""The one thread that writes: what shares a commit, and what a failed one means."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.sqlite.logs import held, numbers, outgoing, writing

from headwater.errors import LogBusy, PublishFailed
from headwater.transports.sqlite.log import LANES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "shop.db"


def test_what_has_come_while_the_writer_was_busy_is_one_commit(path: Path) -> None:
    """Five hundred publishers pay for one sync."""
    with writing(path) as running:
        running.run(lambda connection: None)
        running.statements.clear()
        with held(path):
            for number in range(500):
                running.writer.publish(outgoing(number))
        running.until_confirmed(500)
        assert running.count("COMMIT") <= 2, "what came first may have gone alone"
        tokens = [token for tokens, _ in running.confirmed for token in tokens]
        assert tokens == list(range(500))
    assert numbers(path) == list(range(500))


def test_rows_are_written_many_at_once(path: Path) -> None:
    """A statement each would cost the interpreter's lock a thousand times."""
    with writing(path) as running:
        running.run(lambda connection: None)
        with held(path):
            running.writer.submit(lambda connection: None, lambda result, error: None)
            for number in range(1, 561):
                running.writer.publish(outgoing(number))
        running.until_confirmed(560)
        assert running.count("INSERT INTO log") <= 5, "250 + 250 + 50 + 10"
    assert numbers(path) == list(range(1, 561))


@pytest.mark.parametrize("count", [1, 9, 10, 11, 49, 50, 51, 249, 250, 251, 311])
def test_every_number_of_rows_is_written_in_order(path: Path, count: int) -> None:
    """However it is cut into statements."""
    with writing(path) as running:
        with held(path):
            for number in range(count):
                running.writer.publish(outgoing(number))
        running.until_confirmed(count)
    assert numbers(path) == list(range(count))


def test_an_id_is_stored_once(path: Path) -> None:
    """In one statement, in one transaction, and in a later one; and each is confirmed."""
    with writing(path) as running:
        with held(path):
            for number, id_ in enumerate(["a", "b", "a", *map(str, range(60)), "b", "59"]):
                running.writer.publish(outgoing(number, id=id_))
        assert set(running.until_confirmed(65)) == {None}
        running.writer.publish(outgoing(99, id="a"))
        assert set(running.until_confirmed(66)) == {None}
    assert numbers(path) == [0, 1, *range(3, 63)]


def test_positions_rise_in_the_order_of_commit(path: Path) -> None:
    """From several threads, each with its own order."""
    with writing(path) as running:

        def publish(start: int) -> None:
            for number in range(start, start + 100):
                running.writer.publish(outgoing(number))

        threads = [threading.Thread(target=publish, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        running.until_confirmed(400)
        positions = running.run(
            lambda connection: connection.execute("SELECT position FROM log").fetchall()
        )
    stored = numbers(path)
    assert [row[0] for row in positions] == sorted({row[0] for row in positions})
    for start in (0, 1000, 2000, 3000):
        own = [number for number in stored if start <= number < start + 1000]
        assert own == list(range(start, start + 100))


def test_a_key_has_one_lane_and_no_key_takes_them_in_turn(path: Path) -> None:
    """Ten keys, four hundred events."""
    with writing(path) as running:
        for number in range(400):
            running.writer.publish(outgoing(number, key=f"k{number % 10}" if number % 2 else None))
        running.until_confirmed(400)
        rows: list[tuple[str | None, int]] = running.run(
            lambda connection: connection.execute("SELECT key, lane FROM log").fetchall()
        )
    lanes: dict[str, set[int]] = {}
    for key, lane in rows:
        assert 0 <= lane < LANES
        if key is not None:
            lanes.setdefault(key, set()).add(lane)
    assert all(len(found) == 1 for found in lanes.values())
    turns = [lane for key, lane in rows if key is None]
    assert {turns.count(lane) for lane in range(LANES)} == {200 // LANES}


# What fails.


def boom(connection: sqlite3.Connection) -> None:
    """An operation that has written before it fails."""
    connection.execute("INSERT INTO meta VALUES('boom', 1)")
    raise ValueError("boom")


def test_a_failing_operation_is_undone_alone(path: Path) -> None:
    """It is told its error, nothing of it is stored, and what shares its turn is."""
    told = dict[str, tuple[Any, BaseException | None]]()

    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES('half', 1)")
        boom(connection)

    with writing(path) as running:
        running.run(lambda connection: None)
        with held(path):
            running.writer.submit(
                lambda c: c.execute("INSERT INTO meta VALUES('good', 1)").rowcount,
                lambda result, error: told.update(good=(result, error)),
            )
            running.writer.submit(half_done, lambda result, error: told.update(bad=(result, error)))
            running.writer.publish(outgoing(1))
        (error,) = running.until_confirmed(1)
        left = {row[0] for row in running.run(lambda c: c.execute("SELECT name FROM meta"))}
    assert error is None
    assert numbers(path) == [1]
    assert told["good"] == (1, None)
    result, failure = told["bad"]
    assert result is None
    assert repr(failure) == "ValueError('boom')"
    assert "good" in left
    assert "half" not in left


def test_a_full_disk_fails_what_does_not_fit_and_nothing_later(path: Path) -> None:
    """It is not stored, it is said so, and the writer goes on when there is space again."""
    with writing(path) as running:

        def limit(connection: sqlite3.Connection, more: int) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count={pages + more}").fetchone()

        running.run(lambda connection: limit(connection, 2))
        running.writer.publish(outgoing(1, data=b'{"number":1,"x":"' + b"x" * 100_000 + b'"}'))
        (error,) = running.until_confirmed(1)
        assert type(error) is PublishFailed
        assert "no space left" in str(error)
        assert str(path) in str(error)
        running.writer.publish(outgoing(2))
        assert running.until_confirmed(2)[1] is None
        running.run(lambda connection: limit(connection, 1000))
        running.writer.publish(outgoing(3))
        assert running.until_confirmed(3)[2] is None
    assert numbers(path) == [2, 3]


def test_a_lock_that_cannot_be_had_fails_the_turn(path: Path) -> None:
    """As busy, and nothing of it is stored; the next turn may have it."""
    with writing(path, timeout=0.03) as running:
        with held(path):
            running.writer.publish(outgoing(1))
            (error,) = running.until_confirmed(1)
        assert isinstance(error, LogBusy)
        running.writer.publish(outgoing(2))
        assert running.until_confirmed(2)[1] is None
    assert numbers(path) == [2]


def test_what_is_queued_when_the_writer_ends_is_written_first(path: Path) -> None:
    """Closing is no way to lose events."""
    with writing(path) as running, held(path):
        for number in range(100):
            running.writer.publish(outgoing(number))
        assert not running.writer.close(0.01), "it waits for the lock"
    assert numbers(path) == list(range(100))
    assert [error for _, error in running.confirmed] == [None] * len(running.confirmed)


def test_the_wal_does_not_grow_for_ever(path: Path) -> None:
    """It is copied into the file, and used again from its beginning."""
    wal = path.with_name("shop.db-wal")
    with writing(path) as running:
        largest = 0
        for number in range(30):
            data = b'{"number":%d,"x":"' % number + b"x" * 500_000 + b'"}'
            running.writer.publish(outgoing(number, data=data))
            running.until_confirmed(number + 1)
            largest = max(largest, wal.stat().st_size)
        assert largest < 8 << 20, "a checkpoint is due at 4 MiB"
        assert path.stat().st_size > 10 << 20
