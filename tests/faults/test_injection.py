"""The injection tool: it disturbs every call of a real program, and finds what breaks a promise."""

import sys
from pathlib import Path

import pytest
from tests.faults import writer
from tests.faults.injection import FAILING, FULL, KILL, Outcome, exhaust

WRITER = (sys.executable, writer.__file__, "--rows=4")
ROWS = [str(position) for position in range(4)]

pytestmark = pytest.mark.usefixtures("strace")


def broken(outcomes: list[Outcome]) -> list[str]:
    """Return what is wrong, to be read in a failing test."""
    return [str(outcome) for outcome in outcomes if outcome.broken]


def rows(outcomes: list[Outcome]) -> set[str]:
    """Return the rows that were acknowledged and lost, at once or in a power cut."""
    at_once = {row for outcome in outcomes for row in outcome.missing}
    return at_once | {row for one in outcomes for loss in one.losses for row in loss.missing}


def test_a_kill_at_any_call_loses_nothing(tmp_path: Path) -> None:
    """Each write, cut, sync and removal is the last in one of the runs."""
    outcomes = exhaust(WRITER, writer.stored, tmp_path, effects=(KILL,))
    assert broken(outcomes) == []
    assert all(outcome.killed for outcome in outcomes)
    assert len(outcomes) > 45
    assert {len(outcome.recording.acknowledged) for outcome in outcomes} == {0, 1, 2, 3, 4}


def test_a_kill_between_acknowledgement_and_commit_is_found(tmp_path: Path) -> None:
    """The planted defect, for each row."""
    program = (*WRITER, "--early")
    outcomes = exhaust(program, writer.stored, tmp_path, effects=(KILL,), calls=("pwrite64",))
    assert rows(outcomes) == set(ROWS)


def test_a_disk_that_fails_once_is_reported_or_harmless(tmp_path: Path) -> None:
    """Whoever was told nothing has all its rows, even if the power goes."""
    outcomes = exhaust(WRITER, writer.stored, tmp_path, effects=(FAILING,))
    assert broken(outcomes) == []
    silent = [outcome for outcome in outcomes if not outcome.surfaced]
    assert all(outcome.recording.acknowledged == ROWS for outcome in silent)
    assert len(outcomes) - len(silent) > 30


def test_a_disk_that_stays_full_is_reported(tmp_path: Path) -> None:
    """From a certain write on there is no room."""
    calls = ("ftruncate", "pwrite64")
    outcomes = exhaust(WRITER, writer.stored, tmp_path, effects=(FULL,), calls=calls, lasting=True)
    assert broken(outcomes) == []
    silent = [outcome for outcome in outcomes if not outcome.surfaced]
    assert all(outcome.recording.acknowledged == ROWS for outcome in silent)
    assert len(outcomes) - len(silent) > 20


def test_an_error_that_is_acknowledged_is_found(tmp_path: Path) -> None:
    """The planted defect: the program goes on as if the commit had succeeded."""
    program = (*WRITER, "--stubborn")
    outcomes = exhaust(program, writer.stored, tmp_path, effects=(FAILING,), calls=("fdatasync",))
    assert rows(outcomes) == set(ROWS)


def test_an_error_that_sqlite_keeps_to_itself_is_found_in_a_power_cut(tmp_path: Path) -> None:
    """Without its own checks a program never learns that it has no WAL, or one without a name."""
    program = (*WRITER, "--trusting")
    outcomes = exhaust(program, writer.stored, tmp_path, effects=(FAILING,), calls=("fdatasync",))
    found = [outcome for outcome in outcomes if outcome.broken]
    assert {outcome.target for outcome in found} >= {"log.db-journal", "database"}
    assert not any(outcome.surfaced or outcome.missing for outcome in found)
