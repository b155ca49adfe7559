"""One run under faults: shopkeepers on one database, and the verdict on what they did.

A `Shop` starts shopkeepers, in slots, and disturbs nothing by itself. When the faults are over,
`close` lets every slot finish and `judge` compares all that was recorded with what the database
holds.

The database tells more than its publishers may know. What is in the log was published, whatever
became of whoever published it, so every handler must have had it. And what handlers publish follows
from the sales: once all is settled, exactly that must be there.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from tests.faults import shopkeeper
from tests.faults.checker import Promise, Rules, Verdict, check
from tests.faults.history import (
    DeadLetter,
    Effect,
    History,
    Part,
    Phase,
    Publish,
    Record,
    Stored,
    load,
)

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds until something that has to happen is taken for never happening."""
PLAIN = ("pack", "invoice", "charge", "notify", "refuse", "hold", "ship")
SALE_HANDLERS = (*PLAIN, "stock", "account")
SALES = frozenset({"sale"})
CHANGES = frozenset({"shipped", "reserved"})


class Stuck(Exception):
    """Something that had to happen has not; the text says what, and what the programs said."""


class Keeper:
    """One process that runs the shopkeeper."""

    def __init__(
        self, slot: int, command: list[str], log: Path, environment: dict[str, str]
    ) -> None:
        self.slot = slot
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit code, negative for a signal; None: it runs."""
        return self._process.poll()

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def has_said(self, word: str) -> bool:
        """Whether a line that it printed begins with `word`, or it has ended."""
        lines = self.said.splitlines()
        return self.status is not None or any(line.startswith(word) for line in lines)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        self._process.send_signal(number)

    def kill(self) -> int:
        """End it at once; its status."""
        self._process.kill()
        return self._process.wait()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, but no longer; its status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait until it has ended; its status."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGUSR1)  # It says where it is.
            time.sleep(0.5)
            raise Stuck(f"{self.log} runs after {patience:g} s: {self.said[-2000:]}") from None


class Shop:
    """See the module; a context manager that leaves no process behind.

    Args:
        folder: for the database, the histories and what the programs print.
        publish: sales of each slot.
        keys: of each slot.
        seed: what they are follows from it.
        filler: bytes that most sales carry.
        settings: of the log, as in its URL.

    Attributes:
        extra: more for the command line of every shopkeeper.
        at_last: more for that of those who drain.
    """

    def __init__(
        self,
        folder: Path,
        *,
        publish: int = 150,
        keys: int = 8,
        seed: int = 1,
        filler: int = 200,
        settings: str = "lease=2",
    ) -> None:
        self.folder = folder
        self.database = folder / "shop.db"
        self.histories = folder / "histories"
        self.logs = folder / "logs"
        self.publish, self.keys, self.seed, self.filler = publish, keys, seed, filler
        self.settings = settings
        self.keepers = list[Keeper]()
        self.slots = set[int]()
        self.extra = list[str]()
        self.at_last = list[str]()
        for made in (folder, self.histories, self.logs):
            made.mkdir(exist_ok=True, parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for keeper in self.keepers:
            if keeper.status is None:
                keeper.kill()

    def open(self, slot: int = 0, *options: str, **environment: str) -> Keeper:
        """Start a shopkeeper.

        Args:
            slot: which; no two that run at the same time share one.
            options: more for its command line.
            environment: more variables.
        """
        command = [
            sys.executable, "-m", "tests.faults.shopkeeper", str(self.database),
            str(self.histories), f"--slot={slot}", f"--publish={self.publish}",
            f"--keys={self.keys}", f"--seed={self.seed}", f"--filler={self.filler}",
            f"--settings={self.settings}", *self.extra, *options,
        ]  # fmt: skip
        log = self.logs / f"slot{slot}-{len(self.keepers):04d}.txt"
        keeper = Keeper(slot, command, log, environment)
        self.keepers.append(keeper)
        self.slots.add(slot)
        return keeper

    def until(self, happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait for something.

        Raises:
            Stuck: it has not happened after `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while not happened():
            if time.monotonic() > deadline:
                raise Stuck(f"{what} has not happened after {patience:g} s: {self.said()}")
            time.sleep(0.01)

    def given_up(self, handler: str) -> list[tuple[str, int]]:
        """The dead letters of a handler: event and attempts."""
        if not self.database.exists():
            return []
        query = "SELECT id, attempts FROM entry WHERE state = 'dead' AND subscription = ?"
        with contextlib.closing(sqlite3.connect(self.database)) as log:
            return log.execute(query, (f"shop:{handler}",)).fetchall()

    def said(self) -> str:
        """The last that each program printed."""
        return "\n".join(f"{keeper.log.name}: {keeper.said[-600:]}" for keeper in self.keepers)

    def settle(self, patience: float = PATIENCE) -> None:
        """Let every slot finish its work; nothing runs any more afterwards.

        Raises:
            Stuck: it does not come to an end, or fails.
        """
        for keeper in self.keepers:
            if keeper.status is None:
                keeper.send(signal.SIGTERM)
                keeper.send(signal.SIGCONT)
        for keeper in self.keepers:
            keeper.ended()
        for slot in sorted(self.slots):
            keeper = self.open(slot, "--drain", f"--patience={patience}", *self.at_last)
            if keeper.ended(patience + 20) != 0:
                raise Stuck(f"{keeper.log} ended with {keeper.status}: {keeper.said[-3000:]}")

    def judge(self) -> Verdict:
        """What the run was worth, once it is settled."""
        promises = {name: Promise(fenced=False, names=SALES) for name in PLAIN}
        promises["stock"] = Promise(exactly_once=True, names=SALES)
        # Its transaction is in another database, which knows nothing of fences: once, but perhaps
        # by a process that stood still meanwhile.
        promises["account"] = Promise(exactly_once=True, fenced=False, names=SALES)
        promises["book"] = Promise(exactly_once=True, names=CHANGES)
        return check(self.history(), Rules(promises))

    def history(self) -> History:
        """All that was recorded, and what the database says."""
        told = load(sorted(self.histories.iterdir()))
        accounts = self.database.with_name("accounts.db")
        found = list[Record]()
        for database in (self.database, accounts):
            with contextlib.closing(sqlite3.connect(database)) as there:
                (sound,) = there.execute("PRAGMA integrity_check").fetchone()
                if sound != "ok":
                    raise Stuck(f"{database} is damaged: {sound}")
                found += [Effect(*row) for row in there.execute("SELECT * FROM effect")]
                if database != accounts:
                    found += self._found(there, told)
        effects = [effect for effect in told.effects if effect.handler != "killer"]
        return History.of([*told.publishes, *effects, *found])

    def _found(self, log: sqlite3.Connection, told: History) -> Iterator[Record]:
        yield from self._dead_letters(log)
        yield from self._stored(log)
        yield from self._published(log, told)
        for (id_,) in log.execute("SELECT event FROM receipt"):
            yield Part(id_, "row")

    def _dead_letters(self, log: sqlite3.Connection) -> Iterator[Record]:
        for name, id_ in log.execute("SELECT subscription, id FROM entry WHERE state = 'dead'"):
            if (short := name.partition(":")[2]) != "killer":
                yield DeadLetter(id_, short)

    def _stored(self, log: sqlite3.Connection) -> Iterator[Record]:
        """What is not settled: behind a cursor, in the ledger, or not due."""
        query = (
            "SELECT subscription, id, done, log.position FROM log JOIN topic ON log.topic = number"
            " JOIN cursor ON cursor.topic = topic.name AND cursor.lane = log.lane"
            " WHERE log.position > cursor.position AND names = 'sale'"
        )
        for name, id_, done, position in log.execute(query):
            short = name.partition(":")[2]
            if short in SALE_HANDLERS and str(position) not in done.split(","):
                yield Stored(id_, short)
        waiting = "SELECT subscription, id FROM entry WHERE state <> 'dead' AND name = 'sale'"
        for name, id_ in log.execute(waiting):
            yield Stored(id_, name.partition(":")[2])
        for (id_,) in log.execute("SELECT id FROM later"):
            yield from (Stored(id_, short) for short in SALE_HANDLERS)

    def _published(self, log: sqlite3.Connection, told: History) -> Iterator[Record]:
        """What is in the log was published, and with a sale all that follows from it."""
        attempts = [publish for publish in told.publishes if publish.phase == "invoke"]
        attempts.sort(key=lambda publish: publish.monotonic_ns, reverse=True)
        invoked = {publish.event: publish for publish in attempts}  # The first of each.
        planned = {
            one.id: one
            for slot in self.slots
            for one in shopkeeper.plan(slot, self.publish, self.keys, self.seed, self.filler)
        }
        for (id_,) in log.execute("SELECT id FROM log WHERE names = 'sale'").fetchall():
            first = invoked.get(id_)
            if first is None:
                yield Stored(id_, "a publish that nobody tried")
                continue
            yield _again(first, "invoke")
            yield _again(first, "ok")
            if planned[id_].way == "transaction":
                yield Part(id_, "event")
            for name, key, digest in shopkeeper.follows_from(planned[id_].sale):
                follower = Publish(
                    "invoke",
                    f"{id_}:{name}",
                    key,
                    first.key_seq,
                    digest,
                    "the log",
                    first.monotonic_ns,
                    name,
                )
                yield follower
                yield _again(follower, "ok")


def _again(publish: Publish, phase: Phase) -> Publish:
    return replace(publish, phase=phase, process="the log")
