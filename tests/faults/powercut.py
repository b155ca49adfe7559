"""A power cut at every moment of a recorded program, on every kind of disk that it could leave.

`check` replays a recording. Before each step it asks what a cut there could leave: nothing that was
not synced, all of it, all but a torn last write, the last write alone, files that have grown but
hold no data, and seeded mixtures. Each image is opened as a restart would open it, and must be
sound and hold everything that had been acknowledged when the power went.
"""

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk import LENGTH, NAME, Disk, Keep
from tests.faults.recording import Recording

# Given the path of a database, what it holds, in the words of the acknowledgements. It must cope
# with a database in which nothing was ever stored. What it raises counts as damage.
Reading = Callable[[Path], Collection[str]]

Image = dict[str, bytes]


@dataclass(frozen=True)
class Held:
    """What a database holds, and what is wrong with it (empty: nothing)."""

    rows: frozenset[str]
    damage: str


@dataclass(frozen=True)
class Loss:
    """A cut that broke the promise: before which step, which changes survived, and what is gone."""

    step: int
    before: str
    survival: str
    missing: tuple[str, ...]
    damage: str


@dataclass
class Report:
    """How many cuts and images were tried, how many of these differed, and what was lost."""

    cuts: int = 0
    images: int = 0
    distinct: int = 0
    losses: list[Loss] = field(default_factory=list[Loss])


def check(
    recording: Recording,
    reading: Reading,
    folder: Path,
    *,
    seed: int = 0,
    mixtures: int = 3,
    cuts: Collection[int] | None = None,
    only: Collection[str] = (),
) -> Report:
    """Cut the power at each of `cuts` and look what is left.

    Args:
        recording: What the program did.
        reading: What a database holds.
        folder: Where the images are built, one at a time; best in memory.
        seed: Decides the random survivals.
        mixtures: Random survivals for each cut.
        cuts: Before which steps the power goes; None: before every step, and at the end.
        only: Names of the survivals to try; empty: all.

    Returns:
        The counts, and each loss.
    """
    report, known = Report(), dict[str, Held]()
    wanted = set(range(len(recording.steps) + 1) if cuts is None else cuts)
    for step, disk, acknowledged in _moments(recording):
        if step not in wanted:
            continue
        report.cuts += 1
        before = recording.steps[step].what if step < len(recording.steps) else "the end"
        for survival, keep in survivals(disk.latest(), f"{seed}/{step}", mixtures):
            if only and survival not in only:
                continue
            image = disk.image(keep)
            report.images += 1
            if (digest := _digest(image)) not in known:
                known[digest] = judge(image, recording.database, reading, folder)
            held = known[digest]
            missing = tuple(line for line in acknowledged if line not in held.rows)
            if missing or held.damage:
                report.losses.append(Loss(step, before, survival, missing, held.damage))
    report.distinct = len(known)
    return report


def moments(recording: Recording, limit: int, seed: int = 0) -> set[int]:
    """Return cuts beside every sync and acknowledgement, and seeded others up to `limit` in all."""
    steps = recording.steps
    chosen = {cut for at, step in enumerate(steps) if step.boundary for cut in (at, at + 1)}
    others = sorted(set(range(len(steps) + 1)) - chosen)
    room = max(0, min(len(others), limit - len(chosen)))
    return chosen | set(random.Random(seed).sample(others, room))


def after_acknowledgements(recording: Recording) -> set[int]:
    """Return the cuts right after an acknowledgement, and the end."""
    steps = recording.steps
    return {at + 1 for at, step in enumerate(steps) if step.acknowledged} | {len(steps)}


def survivals(latest: int, seed: str, mixtures: int) -> Iterator[tuple[str, Keep]]:
    """Yield by name the ways in which unsynced changes survive; the last began at `latest`."""
    yield "lost", lambda begin, sector: False
    if latest < 0:
        return  # all is synced: there is but one image
    yield "kept", lambda begin, sector: True
    chance = random.Random(seed)
    yield "torn", lambda begin, sector: begin < latest or sector < 0 or chance.random() < 0.5
    yield "last", lambda begin, sector: begin == latest or sector == NAME
    yield "hollow", lambda begin, sector: sector in (NAME, LENGTH)
    for number in range(mixtures):
        share = chance.choice((0.2, 0.5, 0.8))
        yield f"mixture {number}", _mixture(random.Random(f"{seed}/{number}"), share)


def judge(image: Image, database: str, reading: Reading, folder: Path) -> Held:
    """Put the files of `image` into a folder, open the database there and say what it holds."""
    home = folder / "image"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name, content in image.items():
        (home / name).write_bytes(content)
    return look(home / database, reading)


def look(database: Path, reading: Reading) -> Held:
    """Open `database` as a restart would, with everything that lies beside it."""
    try:
        rows = frozenset(reading(database))
        damage = "; ".join(_integrity(database))
    except Exception as error:
        return Held(frozenset(), f"{type(error).__name__}: {error}")
    return Held(rows, damage)


def _integrity(database: Path) -> Iterable[str]:
    """Return the complaints of SQLite about the file."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
    finally:
        connection.close()
    return [] if found == ["ok"] else found


def _moments(recording: Recording) -> Iterator[tuple[int, Disk, list[str]]]:
    """Yield before each step, and at the end, the disk and what has been acknowledged."""
    disk, acknowledged = Disk(recording.before), list[str]()
    for number, step in enumerate(recording.steps):
        yield number, disk, acknowledged
        if step.apply:
            step.apply(disk)
        acknowledged.extend(step.acknowledged)
    yield len(recording.steps), disk, acknowledged


def _mixture(chance: random.Random, share: float) -> Keep:
    """Keep whole calls or single sectors, about `share` of them."""
    fates: dict[int, float] = {}

    def keep(begin: int, sector: int) -> bool:
        fate = fates.setdefault(begin, chance.choice((0.0, 1.0, share)))
        return chance.random() < (share if sector < 0 else fate)

    return keep


def _digest(image: Image) -> str:
    total = hashlib.sha256()
    for name, content in image.items():
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
