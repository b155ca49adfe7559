"""The long run: every fault again and again, and a table of what came of it.

    scripts/torture --minutes 30 [--seed 1] [--processes 3] [--markdown FILE] [--folder FOLDER]

Each run is a shop of its own, disturbed for some seconds, settled and judged (`shop`, `checker`);
the seed of a run follows from the seed of the whole and its number. It ends with exit code 1 if
anything was lost, doubled, reordered, altered, phantom, stale or torn, or did not come to an end;
such a run leaves its database, its histories and what its programs said behind.
"""

import argparse
import contextlib
import functools
import os
import platform
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import disturbances, powercut, publisher
from tests.faults.checker import Verdict
from tests.faults.disturbances import Disturbance, small_disk
from tests.faults.history import BadHistory
from tests.faults.recording import record
from tests.faults.shop import Shop, Stuck
from tests.faults.strace import why_absent

import headwater

SALES = 150
"""That each process publishes in one run."""
SHORTEST, LONGEST = 2.0, 8.0
"""Seconds for which a run is disturbed."""
COLUMNS = ("lost", "duplicated", "reordered", "altered", "phantom", "stale", "torn", "undrained")


@dataclass
class Row:
    """What came of all runs under one fault."""

    fault: str
    runs: int = 0
    events: int = 0
    effects: int = 0
    redelivered: int = 0
    dead: int = 0
    declared: int = 0
    found: Counter[str] = field(default_factory=Counter[str])
    failed: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count one run."""
        self.runs += 1
        self.events += verdict.totals["published ok"]
        self.effects += verdict.totals["effects"]
        self.dead += verdict.totals["dead letters"]
        self.redelivered += verdict.allowed["duplicated"]
        self.found.update({rule: count for rule, count in verdict.counts.items() if count})


@dataclass
class Torture:
    """All of it.

    Attributes:
        seed: of the whole.
        processes: that publish at the same time, where the fault does not say how many.
        folder: where the runs are.
        rows: by fault.
        left: where runs lie that failed.
    """

    seed: int
    processes: int
    folder: Path
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    left: list[Path] = field(default_factory=list[Path])

    def run(self, number: int, fault: str, disturbance: Disturbance) -> str:
        """One run; what is to be said of it."""
        row = self.rows.setdefault(fault, Row(fault))
        seed = self.seed * 1_000_003 + number
        home = self.folder / f"run-{number:05d}"
        with contextlib.ExitStack() as stack:
            place = home / "database"
            needs_disk = disturbance is disturbances.full_disks
            if needs_disk and stack.enter_context(small_disk(place, "24m")) is None:
                return "skipped: a file system of its own cannot be mounted here"
            try:
                verdict = self._disturbed(home, place, seed, disturbance)
            except (Stuck, BadHistory) as error:
                row.runs += 1
                row.failed += 1
                self._keep(home, place, f"{fault}, seed {seed}: {error}")
                return f"FAILED: {str(error)[:200]}"
            row.add(verdict)
            if not verdict.clean:
                self._keep(home, place, f"{fault}, seed {seed}: {verdict}")
                return f"FAILED: {verdict}"
        shutil.rmtree(home, ignore_errors=True)
        return f"{verdict.totals['effects']:,} effects"

    def _disturbed(self, home: Path, place: Path, seed: int, disturbance: Disturbance) -> Verdict:
        chance = random.Random(seed)
        place.mkdir(parents=True, exist_ok=True)
        with Shop(home, publish=SALES, seed=seed, keys=chance.choice((1, 4, 12, 40))) as shop:
            shop.database = place / "shop.db"
            disturbance(shop, chance, chance.uniform(SHORTEST, LONGEST))
            shop.settle(120.0)
            return shop.judge()

    def _keep(self, home: Path, place: Path, why: str) -> None:
        (home / "why.txt").write_text(why)
        shutil.copytree(place, home / "kept", dirs_exist_ok=True)  # A mount goes away.
        self.left.append(home)

    def cut_power(self, number: int, synchronous: str) -> str:
        """Record a publisher, and cut the power at any moment of it."""
        fault = f"power cut, synchronous={synchronous}"
        row = self.rows.setdefault(fault, Row(fault))
        home = self.folder / f"run-{number:05d}"
        rows = 3 + number % 40
        program = (sys.executable, publisher.__file__, f"--rows={rows}",
                   f"--synchronous={synchronous}")  # fmt: skip
        recording = record(program, home)
        cuts = powercut.moments(recording, 60, seed=number)
        report = powercut.check(recording, publisher.stored, home, seed=number, cuts=cuts)
        row.runs += 1
        row.events += len(recording.acknowledged)
        row.effects += report.images
        damaged = [loss for loss in report.losses if loss.damage]
        lost = [loss for loss in report.losses if loss.missing]
        if synchronous == "normal":  # That a cut may take the latest ones is what it declares.
            row.declared, lost = row.declared + len(lost), []
        row.found.update({"lost": len(lost), "torn": len(damaged)})
        if lost or damaged or recording.exit:
            self._keep(home, home / "database", f"{fault}: {report.losses[:5]} {recording.stderr}")
            return f"FAILED: {report.losses[:1]}"
        shutil.rmtree(home, ignore_errors=True)
        return f"{report.images} images of {report.cuts} cuts"


Run = Callable[[Torture, int], str]


def faults(processes: int) -> dict[str, Run]:
    """All there is to be done, by name."""
    several: dict[str, Disturbance] = {
        **disturbances.ALL,
        "SIGKILL at any moment": functools.partial(disturbances.kills, processes=processes),
        "SIGTERM while busy": functools.partial(disturbances.terminations, processes=processes),
    }
    runs: dict[str, Run] = {
        name: lambda torture, number, name=name, one=one: torture.run(number, name, one)  # type: ignore[misc]
        for name, one in several.items()
    }
    if why_absent() is None:
        for synchronous in ("full", "normal"):
            runs[f"power cut, synchronous={synchronous}"] = functools.partial(
                Torture.cut_power, synchronous=synchronous
            )
    return runs


def table(torture: Torture) -> str:
    """What came of it, as Markdown."""
    lines = [
        "| fault | runs | events | effects | " + " | ".join(COLUMNS) + " | stuck"
        " | redelivered | dead letters |",
        "| --- |" + " ---: |" * (6 + len(COLUMNS)),
    ]
    for row in torture.rows.values():
        found = " | ".join(f"{row.found[rule]:,}" for rule in COLUMNS)
        if row.declared:
            found = found.replace("0", f"0 ({row.declared:,} as declared)", 1)
        lines.append(
            f"| {row.fault} | {row.runs:,} | {row.events:,} | {row.effects:,} | {found}"
            f" | {row.failed:,} | {row.redelivered:,} | {row.dead:,} |"
        )
    return "\n".join(lines)


def report(torture: Torture, command: str, seconds: float) -> str:
    """The whole page: how it was made, the table, and what it is worth."""
    rows = torture.rows.values()
    events, runs = sum(row.events for row in rows), sum(row.runs for row in rows)
    bound = f"{3 / runs:.2g}" if runs else "none"
    return f"""\
# Under torture

A shop of several processes on one log is disturbed for some seconds, settled, and judged by a
checker over effects that were recorded outside of the bus: see [tests/faults](../tests/faults).

`{command}`, seed {torture.seed}, {seconds / 60:.0f} minutes, headwater {headwater.__version__},
SQLite {sqlite3.sqlite_version}, Python {platform.python_version()}, {platform.system()}
{platform.release()} {platform.machine()}, {os.cpu_count()} processors.

{table(torture)}

{runs:,} runs, {events:,} confirmed events. What was found in none of these runs happens in at most
{bound} of all runs, with 95 % confidence (zero in N: at most 3/N). A run is one shop with several
processes, disturbed for some seconds; for power cuts it is one recorded program, and the column
*effects* counts the images of the disk that were made from it and opened. *Duplicated* counts
second effects of handlers with a transaction, which are promised once; *redelivered* counts second
calls of the others, which are promised at least once. *Torn* counts halves of transactions, and
damaged files.
"""


def main() -> None:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(prog="scripts/torture")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=3, help="that publish at the same time")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--folder", type=Path, help="where the runs are; else a temporary one")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    torture = Torture(options.seed, options.processes, folder)
    runs = {name: run for name, run in faults(options.processes).items() if options.only in name}
    begun = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        _loop(torture, runs, begun + options.minutes * 60)
    page = report(torture, _command(options), time.monotonic() - begun)
    _say(f"\n{page}")
    if options.markdown is not None:
        options.markdown.write_text(page)
    for home in torture.left:
        _say(f"left behind: {home}")
    if not torture.left:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if torture.left else 0)


def _loop(torture: Torture, runs: dict[str, Run], deadline: float) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    number = 0
    while time.monotonic() < deadline:
        for name, run in runs.items():
            number += 1
            begun = time.monotonic()
            said = run(torture, number)
            left = max(0.0, deadline - time.monotonic())
            took = time.monotonic() - begun
            _say(f"{number:5d}  {name:32s} {took:5.1f} s  {left / 60:5.1f} min left  {said}")
            if time.monotonic() >= deadline:
                return


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _command(options: argparse.Namespace) -> str:
    only = f" --only '{options.only}'" if options.only else ""
    return (
        f"scripts/torture --minutes {options.minutes:g} --seed {options.seed}"
        f" --processes {options.processes}{only}"
    )


if __name__ == "__main__":
    main()
