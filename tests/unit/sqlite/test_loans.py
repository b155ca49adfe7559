"""Transactions that are lent: kept or undone as a whole, and over when they are over."""

import threading
from pathlib import Path

import pytest
from tests.unit.sqlite.logs import PATIENCE, Running, envelope, held, numbers, outgoing, writing

from headwater.errors import Fenced, TransactionOver
from headwater.transports.sqlite.loan import SqliteLoan


class Borrowed:
    """One loan, taken by this thread."""

    def __init__(self, running: Running, error: Exception | None = None) -> None:
        self.errors = list[BaseException | None]()
        self._granted = threading.Event()
        self._done = threading.Event()
        self.answer: SqliteLoan | BaseException | None = None

        def fenced(connection: object) -> None:
            if error is not None:
                raise error

        running.writer.lend(SqliteLoan(self._grant, fenced))

    def _grant(self, answer: SqliteLoan | BaseException) -> None:
        self.answer = answer
        self._granted.set()

    def loan(self) -> SqliteLoan:
        """Wait until it is granted."""
        assert self._granted.wait(PATIENCE)
        assert isinstance(self.answer, SqliteLoan), self.answer
        return self.answer

    def refusal(self) -> BaseException:
        """Wait until it is refused."""
        assert self._granted.wait(PATIENCE)
        assert isinstance(self.answer, BaseException)
        return self.answer

    def give_back(self, *, commit: bool) -> BaseException | None:
        """End it, and wait until that is safe."""

        def done(error: BaseException | None) -> None:
            self.errors.append(error)
            self._done.set()

        self.loan().give_back(commit=commit, done=done)
        assert self._done.wait(PATIENCE)
        assert len(self.errors) == 1
        return self.errors[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "shop.db"


def stock(running: Running) -> list[int]:
    """What the table of the tests holds."""
    rows = running.run(lambda c: c.execute("SELECT number FROM stock ORDER BY 1").fetchall())
    return [row[0] for row in rows]


def make_table(running: Running) -> None:
    """A table of the user's."""
    running.run(lambda c: c.execute("CREATE TABLE stock(number INTEGER)").fetchall())


def test_what_is_committed_is_there_with_its_events(path: Path) -> None:
    """Rows and events together."""
    with writing(path) as running:
        make_table(running)
        borrowed = Borrowed(running)
        loan = borrowed.loan()
        loan.connection.execute("INSERT INTO stock VALUES(?)", (1,))
        loan.connection.executemany("INSERT INTO stock VALUES(?)", [(2,), (3,)])
        loan.publish(envelope(7))
        assert loan.connection.cursor().execute("SELECT count(*) FROM stock").fetchone() == (3,)
        assert borrowed.give_back(commit=True) is None
        assert stock(running) == [1, 2, 3]
    assert numbers(path) == [7]


def test_what_is_rolled_back_was_never_there(path: Path) -> None:
    """Neither rows nor events, nor a topic's name, nor a place in the log."""
    with writing(path) as running:
        make_table(running)
        borrowed = Borrowed(running)
        borrowed.loan().connection.execute("INSERT INTO stock VALUES(1)")
        borrowed.loan().publish(envelope(7, topic="elsewhere"))
        assert borrowed.give_back(commit=False) is None
        again = Borrowed(running)
        again.loan().publish(envelope(8, topic="elsewhere"))
        assert again.give_back(commit=True) is None
        assert stock(running) == []
        assert running.run(lambda c: c.execute("SELECT name FROM topic").fetchall()) == [
            ("elsewhere",)
        ]
    assert numbers(path) == [8]


def test_one_that_is_undone_does_not_touch_the_others_of_its_turn(path: Path) -> None:
    """Each has a savepoint of its own; they share the commit."""
    with writing(path) as running:
        make_table(running)
        with held(path):
            all_of_them = [Borrowed(running) for _ in range(3)]
            running.writer.publish(outgoing(9))
        for number, borrowed in enumerate(all_of_them):
            loan = borrowed.loan()
            loan.connection.execute("INSERT INTO stock VALUES(?)", (number,))
            loan.publish(envelope(number))
            loan.give_back(commit=number != 1, done=borrowed.errors.append)
        running.until_confirmed(1)
        assert stock(running) == [0, 2]
        assert [borrowed.errors for borrowed in all_of_them] == [[None]] * 3
    assert sorted(numbers(path)) == [0, 2, 9]


def test_a_loan_that_is_over_refuses_everything(path: Path) -> None:
    """A handler that goes on after its timeout cannot touch the next one's transaction."""
    with writing(path) as running:
        borrowed = Borrowed(running)
        connection = borrowed.loan().connection
        borrowed.give_back(commit=True)
        for use in (
            lambda: connection.execute("SELECT 1"),
            lambda: connection.executemany("SELECT ?", [(1,)]),
            connection.cursor,
            lambda: connection.total_changes,
            lambda: borrowed.loan().publish(envelope(1)),
            lambda: borrowed.loan().is_new("s", "e", "t", 0, 1),
        ):
            with pytest.raises(TransactionOver, match="has ended"):
                use()
    assert numbers(path) == []


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "END", "commit", " /* x */ COMMIT"])
def test_a_borrower_cannot_end_the_transaction(path: Path, word: str) -> None:
    """Others share it; after an attempt at it nothing of the turn is kept or confirmed."""
    with writing(path) as running:
        make_table(running)
        borrowed = Borrowed(running)
        connection = borrowed.loan().connection
        connection.execute("INSERT INTO stock VALUES(1)")
        try:
            connection.execute(word)
        except Exception:
            ended = False
        else:
            ended = True
        error = borrowed.give_back(commit=True)
        assert (error is None) == (not ended)
        running.writer.publish(outgoing(5))
        assert running.until_confirmed(1) == [None]
        if not ended:
            assert stock(running) == [1]
    assert numbers(path) == [5]


def test_who_has_lost_the_lane_gets_no_transaction(path: Path) -> None:
    """The fence is looked at in the transaction itself."""
    with writing(path) as running:
        borrowed = Borrowed(running, Fenced("lost"))
        assert isinstance(borrowed.refusal(), Fenced)
        running.writer.publish(outgoing(1))
        assert running.until_confirmed(1) == [None]
    assert numbers(path) == [1]


def test_an_event_is_new_once(path: Path) -> None:
    """For each subscription; what was rolled back is new again."""
    with writing(path) as running:
        first = Borrowed(running)
        assert first.loan().is_new("s", "e1", "events", 3, 10)
        assert first.loan().is_new("other", "e1", "events", 3, 10)
        assert not first.loan().is_new("s", "e1", "events", 3, 10)
        first.give_back(commit=True)
        second = Borrowed(running)
        assert not second.loan().is_new("s", "e1", "events", 3, 10)
        assert second.loan().is_new("s", "e2", "events", 3, 11)
        second.give_back(commit=False)
        third = Borrowed(running)
        assert third.loan().is_new("s", "e2", "events", 3, 11)
        third.give_back(commit=True)


def test_borrowers_of_a_turn_that_fails_are_told(path: Path) -> None:
    """What they did is not there."""
    with writing(path) as running:
        make_table(running)

        def fail(connection: object) -> None:
            raise ValueError("boom")

        with held(path):
            borrowed = Borrowed(running)
            running.writer.submit(fail, lambda result, error: None)
        borrowed.loan().connection.execute("INSERT INTO stock VALUES(1)")
        error = borrowed.give_back(commit=True)
        kept = stock(running)
        assert (error is None) == (kept == [1])
