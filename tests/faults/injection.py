"""A program killed, or told that the disk failed or is full, at each of its calls on a database.

`exhaust` runs the program again and again and disturbs its first, second, third ... call of a kind,
until a run ends in which there was nothing left to disturb. After each run the database is opened
and must be sound and hold every acknowledged row. After an error it must also hold them when the
power goes: a write or a sync that failed made nothing durable, so a program that acknowledges all
the same is found even though the page cache still has the row.

strace counts the calls of each thread by itself. A run is disturbed where the first thread arrives
at the number, so this is exhaustive for a program that writes its database in one thread.
"""

import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path

from tests.faults import powercut
from tests.faults.powercut import Held, Loss, Reading
from tests.faults.recording import Program, Recording, record

Prepare = Callable[[Path], None]

KILL = "signal=SIGKILL"
FAILING = "error=EIO"
FULL = "error=ENOSPC"


@dataclass(frozen=True)
class Fault:
    """The `number`-th call of this name is disturbed; with `lasting`, all from there on."""

    call: str
    effect: str
    number: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call}:{self.effect}:when={self.number}{'+' * self.lasting}"


@dataclass(frozen=True)
class Outcome:
    """What a fault did: to the program, to the database, and to it in a power cut on top."""

    fault: Fault
    recording: Recording
    held: Held
    losses: tuple[Loss, ...]

    @property
    def hit(self) -> bool:
        """Whether there was a call to disturb."""
        return bool(self.recording.injected) or (self.killed and self.fault.effect == KILL)

    @property
    def killed(self) -> bool:
        """Whether a signal ended the program."""
        return self.recording.exit < 0

    @property
    def surfaced(self) -> bool:
        """Whether the program reported that something went wrong, by its exit code."""
        return self.recording.exit > 0

    @property
    def target(self) -> str:
        """The name of the file, or of the folder, whose call failed first."""
        return Path(self.recording.injected[0].place).name if self.recording.injected else ""

    @property
    def missing(self) -> tuple[str, ...]:
        """What was acknowledged and is not in the database."""
        return tuple(row for row in self.recording.acknowledged if row not in self.held.rows)

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.missing or self.held.damage or self.losses)

    def __str__(self) -> str:
        ending = "killed" if self.killed else "surfaced" if self.surfaced else "went on"
        parts = [f"{self.fault} {self.target}: {ending}"]
        parts += [f"missing {self.missing}"] * bool(self.missing)
        parts += [self.held.damage] * bool(self.held.damage)
        parts += [f"in a power cut before {loss.before!r}: {loss}" for loss in self.losses[:1]]
        return "; ".join(parts)


def exhaust(
    program: Program,
    reading: Reading,
    folder: Path,
    *,
    effects: Collection[str] = (KILL,),
    calls: Collection[str] = (),
    lasting: bool = False,
    prepare: Prepare = lambda database: None,
    workers: int = 2,
) -> list[Outcome]:
    """Disturb `program` at each of its calls on the database.

    Args:
        program: The command line, without the two paths.
        reading: What a database holds.
        folder: Where the runs have their databases; best on the disk that is to be tried.
        effects: What happens at a call.
        calls: Names of the calls to disturb; empty: all with which an undisturbed run changes or
            syncs the database.
        lasting: Disturb all later calls of that name as well, as a full disk does.
        prepare: Makes what a run begins with, given the path of its database.
        workers: Runs at the same time.

    Returns:
        What came of each disturbed call, by name and number.
    """
    prepare(_database(folder / "undisturbed"))
    names = calls or sorted(record(program, folder / "undisturbed").calls)
    outcomes = list[Outcome]()
    with ThreadPoolExecutor(workers) as pool:
        for name, effect in product(names, effects):
            for first in count(1, workers):
                numbers = range(first, first + workers)
                faults = [Fault(name, effect, number, lasting) for number in numbers]
                one = partial(inject, program, reading, folder, prepare=prepare)
                several = list(pool.map(one, faults))
                outcomes += [outcome for outcome in several if outcome.hit]
                if not all(outcome.hit for outcome in several):
                    break
    return outcomes


def inject(
    program: Program,
    reading: Reading,
    folder: Path,
    fault: Fault,
    *,
    prepare: Prepare = lambda database: None,
) -> Outcome:
    """Run `program` once with `fault` and look what is left."""
    home = folder / str(fault).replace(":", " ")
    prepare(_database(home))
    recording = record(program, home, inject=str(fault))
    losses = list[Loss]()
    if fault.effect != KILL:
        cuts = powercut.after_acknowledgements(recording)
        losses = powercut.check(recording, reading, home, cuts=cuts, only=("lost",)).losses
    held = powercut.look(home / "database" / recording.database, reading)
    shutil.rmtree(home)
    return Outcome(fault, recording, held, tuple(losses))


def _database(home: Path) -> Path:
    """Where `record` has its database."""
    path = home.resolve() / "database" / "log.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
