"""The power goes, or the disk fails, at any moment of a publisher: what it was told holds."""

import sys
from pathlib import Path

import pytest
from tests.faults import powercut, publisher
from tests.faults.injection import FAILING, FULL, KILL, Outcome, exhaust
from tests.faults.recording import Recording, record

PUBLISHER = (sys.executable, publisher.__file__)
FEW = (*PUBLISHER, "--rows=4")
ROWS = [str(number) for number in range(6)]

calls = pytest.mark.parametrize(
    "calls",
    [("fdatasync",), pytest.param((), marks=pytest.mark.slow)],
    ids=["each sync", "each call"],
)
"""Every call takes minutes; the syncs are where promises are made."""

pytestmark = pytest.mark.usefixtures("strace")


def recorded(folder: Path, *options: str) -> Recording:
    """What the publisher did."""
    recording = record((*PUBLISHER, *options), folder)
    assert recording.exit == 0, recording.stderr
    assert sorted(recording.acknowledged) == ROWS
    return recording


def cut(recording: Recording, folder: Path, limit: int) -> powercut.Report:
    """Cut the power beside every promise, and at some other moments."""
    cuts = powercut.moments(recording, limit)
    return powercut.check(recording, publisher.stored, folder, mixtures=2, cuts=cuts)


def test_what_was_confirmed_survives_every_power_cut(tmp_path: Path) -> None:
    """From the making of the file on; unsynced writes lost, kept, torn or mixed."""
    report = cut(recorded(tmp_path), tmp_path, 60)
    assert report.losses == []
    assert report.cuts > 30
    assert report.distinct > 60


def test_by_choice_a_power_cut_takes_the_latest_events_and_damages_nothing(tmp_path: Path) -> None:
    """The declared loss of ``synchronous=normal``, and no other."""
    report = cut(recorded(tmp_path, "--synchronous=normal"), tmp_path, 40)
    assert {row for loss in report.losses for row in loss.missing} == set(ROWS)
    assert not any(loss.damage for loss in report.losses)


def broken(outcomes: list[Outcome]) -> list[str]:
    """Return what is wrong, to be read in a failing test."""
    return [str(outcome) for outcome in outcomes if outcome.broken]


@calls
def test_a_kill_at_any_write_or_sync_loses_nothing(tmp_path: Path, calls: tuple[str, ...]) -> None:
    """Each call on the file is the last in one of the runs."""
    outcomes = exhaust(
        FEW, publisher.stored, tmp_path, effects=(KILL,), calls=calls, prepare=publisher.prepare
    )
    assert broken(outcomes) == []
    assert {len(outcome.recording.acknowledged) for outcome in outcomes} >= {0, 4}


@calls
def test_a_disk_that_fails_is_reported(tmp_path: Path, calls: tuple[str, ...]) -> None:
    """EIO at any write or sync: who was told ok has it, even if the power goes on top."""
    outcomes = exhaust(
        FEW, publisher.stored, tmp_path, effects=(FAILING,), calls=calls, prepare=publisher.prepare
    )
    assert broken(outcomes) == []
    assert any(outcome.surfaced for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.surfaced or len(outcome.recording.acknowledged) == 4, str(outcome)


@pytest.mark.slow
def test_a_disk_that_stays_full_is_reported(tmp_path: Path) -> None:
    """ENOSPC from a certain write on."""
    outcomes = exhaust(
        FEW, publisher.stored, tmp_path, effects=(FULL,), calls=("pwrite64",), lasting=True,
        prepare=publisher.prepare,
    )  # fmt: skip
    assert broken(outcomes) == []
    assert any(outcome.surfaced for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.surfaced or len(outcome.recording.acknowledged) == 4, str(outcome)
