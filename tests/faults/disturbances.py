"""What can happen to a shop: each is a function that lets some of it happen, for some time.

Every choice comes from the `Random` that is passed in. Afterwards the shop is settled and judged by
the caller; what a disturbance can tell by itself (an exit code, say) it checks here.
"""

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.shop import Keeper, Shop, Stuck

from headwater.failpoint import POINTS

Disturbance = Callable[[Shop, random.Random, float], None]
"""Called with an empty shop, chance, and how many seconds it may take."""

KILLED = -signal.SIGKILL


def kills(shop: Shop, chance: random.Random, seconds: float, processes: int = 3) -> None:
    """SIGKILL at any moment; whoever is killed begins again."""
    keepers = [shop.open(slot) for slot in range(processes)]
    for _ in _moments(chance, seconds, 0.02, 0.9):
        place = chance.randrange(processes)
        keepers[place].kill()
        keepers[place] = shop.open(place)


def failpoints(shop: Shop, chance: random.Random, seconds: float) -> None:
    """SIGKILL at a named step, again and again, beside a process that is left alone."""
    shop.open(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        point = f"{chance.choice(POINTS)}@{chance.choice((1, 2, 5, 20, 100))}"
        keeper = shop.open(1, HEADWATER_FAILPOINT=point)
        if keeper.wait(2.0) is None:
            keeper.kill()
        elif keeper.status != KILLED:
            raise Stuck(f"{keeper.log} ended with {keeper.status} at {point}: {keeper.said}")


def pauses(shop: Shop, chance: random.Random, seconds: float) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT: its lanes have another owner by then."""
    shop.settings = "lease=0.5"
    keepers = [shop.open(slot) for slot in range(2)]
    for keeper in keepers:
        shop.until(lambda keeper=keeper: keeper.has_said("ready"), "ready")  # type: ignore[misc]
    for _ in _moments(chance, seconds, 0.05, 0.3):
        keeper = chance.choice(keepers)
        keeper.send(signal.SIGSTOP)
        time.sleep(chance.uniform(0.6, 1.2))
        keeper.send(signal.SIGCONT)


def terminations(shop: Shop, chance: random.Random, seconds: float, processes: int = 2) -> None:
    """SIGTERM while busy: it drains, and ends with success."""
    keepers = [shop.open(slot) for slot in range(processes)]
    for _ in _moments(chance, seconds, 0.05, 0.4):
        place = chance.randrange(processes)
        end(shop, keepers[place])
        keepers[place] = shop.open(place)
    for keeper in keepers:
        end(shop, keeper)


def end(shop: Shop, keeper: Keeper) -> None:
    """SIGTERM, once it has begun; it must end well."""
    shop.until(lambda: keeper.has_said("ready"), "ready")
    keeper.send(signal.SIGTERM)
    if keeper.ended() != 0:
        raise Stuck(f"{keeper.log} ended with {keeper.status} on SIGTERM: {keeper.said}")


def crowds(shop: Shop, chance: random.Random, seconds: float, most: int = 8) -> None:
    """Up to eight processes come and go, some of them by SIGKILL."""
    keepers: dict[int, Keeper] = {0: shop.open(0)}
    for _ in _moments(chance, seconds, 0.02, 0.5):
        slot = chance.randrange(most)
        if slot not in keepers:
            keepers[slot] = shop.open(slot)
        elif chance.random() < 0.5:
            keepers.pop(slot).kill()
        else:
            end(shop, keepers.pop(slot))


def clocks(shop: Shop, chance: random.Random, seconds: float) -> None:
    """The wall clock jumps to and fro by an hour, beside one that does not; and a SIGKILL."""
    shop.at_last = ["--ahead=7200"]  # A retry may have been noted for an hour later.
    keepers = [shop.open(0), shop.open(1, "--jump=3600")]
    for _ in _moments(chance, seconds, 0.1, 1.0):
        keepers[1].kill()
        keepers[1] = shop.open(1, "--jump=3600")


def locks(shop: Shop, chance: random.Random, seconds: float) -> None:
    """Another program holds the file for longer than the timeout."""
    shop.settings = "lease=2&timeout=0.2"
    keeper = shop.open(0)
    shop.until(lambda: keeper.has_said("ready"), "ready")
    for _ in _moments(chance, seconds, 0.05, 0.2):
        with foreign_lock(shop.database):
            time.sleep(chance.uniform(0.1, 1.0))
    if keeper.status is not None:
        raise Stuck(f"{keeper.log} ended with {keeper.status}: {keeper.said}")


@contextlib.contextmanager
def foreign_lock(database: Path) -> Iterator[None]:
    """Hold SQLite's own write lock, as a program would that knows nothing of the log's."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=5)) as foreign:
        foreign.execute("PRAGMA wal_autocheckpoint=0")
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.execute("ROLLBACK")


def full_disks(shop: Shop, chance: random.Random, seconds: float) -> None:
    """There is no room on the disk; then there is again."""
    keeper = shop.open(0)
    shop.until(lambda: keeper.has_said("ready"), "ready")
    filler = shop.database.parent / "filler"
    for _ in _moments(chance, seconds, 0.05, 0.3):
        fill(filler)
        time.sleep(chance.uniform(0.1, 0.6))
        filler.unlink()
    if keeper.status is not None:
        raise Stuck(f"{keeper.log} ended with {keeper.status}: {keeper.said}")


def fill(path: Path) -> None:
    """Leave no room on the disk of `path`."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "32m") -> Iterator[Path | None]:
    """A file system of its own in `folder`; None where one may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = (
        shutil.which("mount") or "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={size}",
        "none",
        str(folder),
    )
    with contextlib.suppress(OSError):
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run((shutil.which("umount") or "umount", "-l", str(folder)), check=False)
            return
    yield None


def killers(shop: Shop, chance: random.Random, seconds: float) -> None:
    """One event kills whoever handles it; whoever is killed begins again."""
    number = chance.randrange(min(60, shop.publish))
    number += number % 10 == 7  # That one would be delayed.
    shop.extra = [f"--killer={number}"]
    deadline = time.monotonic() + max(seconds, 10.0)
    keepers = [shop.open(slot) for slot in range(2)]
    while time.monotonic() < deadline and not shop.given_up("killer"):
        for place, keeper in enumerate(keepers):
            if keeper.status is not None:
                keepers[place] = shop.open(place)
        time.sleep(0.02)


ALL: dict[str, Disturbance] = {
    "SIGKILL at any moment": kills,
    "SIGKILL at a named step": failpoints,
    "SIGSTOP beyond the lease": pauses,
    "SIGTERM while busy": terminations,
    "processes come and go": crowds,
    "an event that kills": killers,
    "clock jumps": clocks,
    "locked file": locks,
    "full disk": full_disks,
}


def _moments(
    chance: random.Random, seconds: float, shortest: float, longest: float
) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(shortest, longest))
        yield
