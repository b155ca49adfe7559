"""A shop under faults: whatever is killed, stopped, locked or full, every sale is accounted for.

Short versions, with fixed seeds, of what `scripts/torture` does for as long as one likes.
"""

import random
import signal
import sqlite3
from pathlib import Path

import pytest
from tests.faults import disturbances
from tests.faults.checker import Verdict
from tests.faults.disturbances import KILLED, Disturbance, foreign_lock, small_disk
from tests.faults.shop import Keeper, Shop, Stuck

from headwater.failpoint import POINTS

SECONDS = 2.0
"""For which each disturbance goes on."""
COUNTS = (1, 7)
"""At which of its visits to a named step a process is killed."""


def check(verdict: Verdict) -> None:
    """Nothing is wrong, and there was something to judge."""
    assert verdict.clean, str(verdict)
    assert verdict.totals["published ok"] > 0
    assert verdict.totals["effects"] > verdict.totals["published ok"]


def disturbed(folder: Path, disturbance: Disturbance, seed: int, publish: int = 80) -> Verdict:
    """What comes of a shop under a disturbance."""
    with Shop(folder, publish=publish, seed=seed) as shop:
        disturbance(shop, random.Random(seed), SECONDS)
        shop.settle()
        return shop.judge()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_named_step_loses_nothing(tmp_path: Path, point: str) -> None:
    """The one before was killed as well, so that there is something to take over."""
    filler = 30_000 if point.startswith("checkpoint") else 200
    with Shop(tmp_path, publish=40, keys=4, filler=filler) as shop:
        first = shop.open(0, HEADWATER_FAILPOINT="handle.before@25")
        assert first.ended() == KILLED
        reached = 0
        for count in COUNTS:
            keeper = shop.open(0, "--drain", HEADWATER_FAILPOINT=f"{point}@{count}")
            reached += keeper.ended() == KILLED
        assert reached, f"no process came to {point}: {shop.said()}"
        shop.settle()
        check(shop.judge())


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_any_moment_lose_nothing(tmp_path: Path, seed: int) -> None:
    """SIGKILL, three processes on one file, at moments that nobody chose."""
    check(disturbed(tmp_path, disturbances.kills, seed))


def test_many_processes_may_come_and_go(tmp_path: Path) -> None:
    """Two to eight share the work, and end well or not."""
    check(disturbed(tmp_path, disturbances.crowds, 3, publish=40))


def test_who_is_asked_to_end_settles_all_that_is_finished(tmp_path: Path) -> None:
    """SIGTERM while busy: exit 0, and not a single effect is there twice."""
    verdict = disturbed(tmp_path, disturbances.terminations, 4, publish=150)
    check(verdict)
    assert verdict.allowed["duplicated"] == 0


def test_who_sleeps_longer_than_its_lease_is_fenced(tmp_path: Path) -> None:
    """SIGSTOP, and SIGCONT when others have its lanes: no effect in a transaction is doubled."""
    with Shop(tmp_path, publish=200, settings="lease=0.5") as shop:
        keepers = [shop.open(slot) for slot in range(2)]
        shop.until(lambda: all(keeper.has_said("ready") for keeper in keepers), "two processes")
        while not sleeps(shop, keepers[0]):
            pass
        keepers[0].send(signal.SIGCONT)
        shop.until(lambda: members(shop) == 2, "its return")
        shop.settle()
        check(shop.judge())


def sleeps(shop: Shop, keeper: Keeper) -> bool:
    """Stop it until its lease has ended; false if it held the file's lock just then."""
    keeper.send(signal.SIGSTOP)
    try:
        shop.until(lambda: members(shop) == 1, "the end of the lease", 3.0)
    except Stuck:
        keeper.send(signal.SIGCONT)
        return False
    return True


def members(shop: Shop) -> int:
    """How many processes take part."""
    with sqlite3.connect(shop.database) as log:
        count: int = log.execute("SELECT count(*) FROM member").fetchone()[0]
    log.close()
    return count


def test_an_event_that_kills_is_given_up_and_its_neighbours_are_spared(tmp_path: Path) -> None:
    """After three attempts, of which one may be the death of a process that had it in reach."""
    with Shop(tmp_path, publish=100, seed=5) as shop:
        disturbances.killers(shop, random.Random(5), 15.0)
        ((_, attempts),) = shop.given_up("killer")
        assert attempts == 3
        deaths = sum(keeper.status == 9 for keeper in shop.keepers)
        assert 3 <= deaths <= 4
        shop.settle()
        check(shop.judge())


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    """By up to an hour, to and fro, beside a process whose clock does not."""
    check(disturbed(tmp_path, disturbances.clocks, 6))


def test_a_locked_file_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    """Held for longer than ``timeout``: publishers are told, and may try again."""
    with Shop(tmp_path, publish=400, settings="timeout=0.2") as shop:
        keeper = shop.open(0)
        shop.until(lambda: keeper.has_said("ready"), "the beginning")
        with foreign_lock(shop.database):
            shop.until(lambda: "publish: LogBusy" in keeper.said, "a named error")
        shop.until(lambda: keeper.has_said("published"), "the rest")
        shop.settle()
        check(shop.judge())


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    """Publishers are told; when there is room again the same process goes on."""
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("a file system of one's own cannot be mounted here")
        with Shop(tmp_path, publish=400) as shop:
            shop.database = disk / "shop.db"
            keeper = shop.open(0)
            shop.until(lambda: keeper.has_said("ready"), "the beginning")
            disturbances.fill(disk / "filler")
            shop.until(lambda: "there is no space left" in keeper.said, "a named error")
            (disk / "filler").unlink()
            shop.until(lambda: keeper.has_said("published"), "the rest")
            shop.settle()
            check(shop.judge())
