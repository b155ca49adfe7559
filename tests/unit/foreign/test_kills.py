"""Killed between the user's commit and the settlement: nothing is lost, nothing doubled."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.foreign.databases import Database
from tests.unit.foreign.program import CAUSES, MORE

ROOT = Path(__file__).parents[3]

PLACES = [
    ("sqlite3", "inbox.committed"),
    ("sqlite3", "outbox.relayed"),
    ("async_sessionmaker", "inbox.committed"),
    *(
        pytest.param("sqlite3", place, marks=pytest.mark.slow)
        for place in ("inbox.noted", "stage.before", "settle.before", "settle.after")
    ),
]


def run(folder: Path, way: str, failpoint: str = "") -> int:
    """Run the program; its exit code."""
    environment = {"PYTHONPATH": str(ROOT / "src"), "HEADWATER_FAILPOINT": failpoint}
    if not failpoint:
        del environment["HEADWATER_FAILPOINT"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.foreign.program", str(folder), way],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(("way", "place"), PLACES)
def test_a_kill_leaves_every_effect_once(tmp_path: Path, way: str, place: str) -> None:
    """Killed once, and then left to finish."""
    assert run(tmp_path, way, f"{place}@1") == -signal.SIGKILL
    assert run(tmp_path, way) == 0
    database = Database(tmp_path / "app.db")
    expected = list(range(CAUSES))
    assert database.effects == [*expected, *(number + MORE for number in expected)]
    assert database.outbox == 0
