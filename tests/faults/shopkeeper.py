"""The program that the faults hit: it publishes sales into a durable log, and reacts to them.

    python -m tests.faults.shopkeeper DATABASE HISTORIES [OPTIONS]

Several may run on one database, each in a slot of its own. A shopkeeper publishes the sales of its
slot, which follow from the seed and the slot alone, and takes part in handling everybody's. It may
be killed at any moment: run again in the same slot it publishes what was not confirmed, under the
same ids, and goes on. With ``--drain`` it ends when everything is handled; else SIGTERM ends it.

What it was told and what its handlers did goes into a file of its own under HISTORIES. The handlers
with a transaction leave their effects as rows in the database instead, where a rollback takes them
back. What handlers publish is not recorded: it follows from the sales (see `shop`).
"""

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast
from uuid import NAMESPACE_URL, uuid5

from tests.faults import history
from tests.faults.history import Effect, Recorder, digest

from headwater import Backoff, Bus, Context, Reject, Retry, event
from headwater.arrival import Arrival
from headwater.errors import HeadwaterError, PublishUnknown
from headwater.message import current_cause
from headwater.runtime import Runtime

Note = Callable[["Sale", Context], None]

SHORT = Retry(max_attempts=4, backoff=Backoff(initial=0.01, jitter=False))
LONG = Retry(max_attempts=4, backoff=Backoff(initial=1.1, factor=1, jitter=False))
THRICE = Retry(max_attempts=3, backoff=Backoff(initial=0.01, jitter=False))
AGAIN = 0.05
"""Seconds between two attempts to publish one sale."""

EFFECTS = (
    "CREATE TABLE IF NOT EXISTS effect(event TEXT, handler TEXT, key TEXT, key_seq INTEGER,"
    " digest TEXT, attempt INTEGER, process TEXT, monotonic_ns INTEGER, lane INTEGER,"
    " fence INTEGER)"
)
RECEIPTS = "CREATE TABLE IF NOT EXISTS receipt(event TEXT PRIMARY KEY)"
"""Of our own, in the same file. An effect may stand there twice: then that is found."""


@event(key="key", name="sale")
@dataclass(frozen=True)
class Sale:
    """Something was sold; `key` is whose shelf it came from, `key_seq` counts its sales."""

    number: int
    key: str | None
    key_seq: int
    filler: str


@event(key="key", name="shipped")
@dataclass(frozen=True)
class Shipped:
    """A sale has left the house."""

    number: int
    key: str | None
    key_seq: int


@event(key="key", name="reserved")
@dataclass(frozen=True)
class Reserved:
    """A sale was taken off the stock."""

    number: int
    key: str | None
    key_seq: int


Way = Literal["await", "thread", "transaction", "delay", "outbox"]


@dataclass(frozen=True)
class Planned:
    """One sale that a slot publishes, and how."""

    id: str
    sale: Sale
    way: Way
    delay: float = 0.0


def plan(slot: int, count: int, keys: int, seed: int, filler: int = 200) -> list[Planned]:
    """The sales of a slot, in order; most carry `filler` bytes of nothing."""
    chance = random.Random(f"{seed}/{slot}")
    planned, counts = list[Planned](), dict[str, int]()
    for place in range(count):
        number = slot * 1_000_000 + place
        id_ = str(uuid5(NAMESPACE_URL, f"{seed}/{number}"))
        nothing = "x" * chance.choice((0, filler, filler, filler, filler, 25 * filler))
        if place % 10 == 7:
            sale = Sale(number, None, place, nothing)
            way: Way = chance.choice(("delay", "outbox"))
            planned.append(Planned(id_, sale, way, chance.choice((0.0, 0.1, 0.5))))
            continue
        key = f"{slot}-{chance.randrange(keys)}"
        counts[key] = counts.get(key, -1) + 1
        way = chance.choice(("await", "await", "await", "thread", "transaction"))
        planned.append(Planned(id_, Sale(number, key, counts[key], nothing), way))
    return planned


class JumpingRuntime(Runtime):
    """Its wall clock jumps to and fro, by up to `seconds`, while its steady clock does not.

    It is `ahead` at first, so many seconds.
    """

    def __init__(self, seconds: float, ahead: float, seed: int) -> None:
        super().__init__()
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._offset = ahead

    def now(self) -> float:
        """The wall clock."""
        if self._seconds and self._chance.random() < 0.02:
            self._offset = self._chance.uniform(-self._seconds, self._seconds)
        return super().now() + self._offset


class Publisher:
    """Publishes what a slot has planned, and records how that ended."""

    def __init__(
        self, bus: Bus, accounts: "Accounts", recorder: Recorder, known: dict[str, bool]
    ) -> None:
        self._bus = bus
        self._accounts = accounts
        self._recorder = recorder
        self._known = known  # By id, whether it was confirmed to an earlier run.

    async def publish_all(self, planned: list[Planned]) -> None:
        """Publish what is not confirmed: each key in order, keys beside each other."""
        by_key: dict[str, list[Planned]] = {}
        for one in planned:
            if not self._known.get(one.id):
                by_key.setdefault(one.sale.key or f"{one.sale.number}", []).append(one)
        await asyncio.gather(*(self._publish_key(several) for several in by_key.values()))

    async def _publish_key(self, planned: list[Planned]) -> None:
        for one in planned:
            while not await self._attempt(one):  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(AGAIN)

    async def _attempt(self, one: Planned) -> bool:
        """Publish it once; true if it is confirmed."""
        sale = one.sale
        invoked = self._recorder.invoke(
            one.id,
            key=sale.key,
            key_seq=sale.key_seq,
            digest=digest(asdict(sale)),
            name="sale",
        )
        try:
            await self._publish(one)
        except (PublishUnknown, sqlite3.Error) as error:  # The latter comes from the accounts.
            self._complain(error)
            self._recorder.ended(invoked, "unknown")
            return False
        except HeadwaterError as error:
            self._complain(error)
            self._recorder.ended(invoked, "failed")
            return False
        self._recorder.ended(invoked, "ok")
        return True

    async def _publish(self, one: Planned) -> None:
        bus, sale = self._bus, one.sale
        if one.way == "await":
            await bus.publish(sale, id=one.id)
        elif one.way == "delay":
            await bus.publish(sale, id=one.id, delay=one.delay)
        elif one.way == "thread":
            await asyncio.to_thread(bus.publish, sale, id=one.id)
        elif one.way == "outbox":
            await asyncio.to_thread(self._publish_by_outbox, one)
        else:
            async with bus.transaction() as transaction:
                transaction.execute("INSERT OR IGNORE INTO receipt VALUES(?)", (one.id,))
                bus.publish(sale, id=one.id, transaction=transaction)

    def _publish_by_outbox(self, one: Planned) -> None:
        """In a transaction of another database, from where it is relayed."""
        with self._accounts() as connection:
            self._bus.publish(one.sale, id=one.id, transaction=connection)

    def _complain(self, error: BaseException) -> None:
        sys.stderr.write(f"publish: {type(error).__name__}: {error}\n")


class Accounts:
    """Connections to a database of its own, beside the log; a factory for ``transaction=``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def __call__(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=20)) as connection:
            connection.execute("PRAGMA synchronous=OFF")  # A kill takes nothing back.
            with connection:
                yield connection

    def make(self) -> None:
        """Make the table."""
        with contextlib.suppress(sqlite3.OperationalError), self() as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # Not while others do it, too.
        with self() as connection:
            connection.execute(EFFECTS)

    def waiting(self) -> int:
        """How many events its outbox has."""
        with self() as connection:
            there = "SELECT 1 FROM sqlite_master WHERE name = 'headwater_outbox'"
            if connection.execute(there).fetchone() is None:
                return 0
            count: int = connection.execute("SELECT count(*) FROM headwater_outbox").fetchone()[0]
            return count


def subscribe(
    bus: Bus, accounts: Accounts, recorder: Recorder, options: argparse.Namespace
) -> None:
    """Subscribe all that react."""

    def note(sale: Sale, context: Context) -> None:
        recorder.effect(
            context.event_id,
            _short(context),
            key=context.key,
            key_seq=sale.key_seq,
            digest=digest(asdict(sale)),
            attempt=context.attempt,
        )

    _subscribe_retried(bus, note)
    _subscribe_refusing(bus, note, stubborn=not options.drain)
    _subscribe_transactions(bus, accounts, recorder)
    if options.killer is not None:
        _subscribe_killer(bus, note, recorder, options.killer)


def _subscribe_retried(bus: Bus, note: Note) -> None:
    """Subscribe those that succeed, some of them not at first."""

    @bus.on(Sale, name="pack", concurrency=16)
    async def pack(sale: Sale, context: Context) -> None:
        if sale.number % 3 == 0:
            await asyncio.sleep(0.001 * (sale.number % 5))
        note(sale, context)

    @bus.on(Sale, name="invoice")
    def invoice(sale: Sale, context: Context) -> None:
        note(sale, context)

    @bus.on(Sale, name="charge", retry=SHORT)
    async def charge(sale: Sale, context: Context) -> None:
        _fail(sale, context, every=7)
        note(sale, context)

    @bus.on(Sale, name="notify", retry=LONG)
    def notify(sale: Sale, context: Context) -> None:
        _fail(sale, context, every=41)
        note(sale, context)


def _subscribe_refusing(bus: Bus, note: Note, *, stubborn: bool) -> None:
    """Subscribe two that give events up, one of them not for ever; and one that publishes."""

    @bus.on(Sale, name="refuse")
    async def refuse(sale: Sale, context: Context) -> None:
        if sale.number % 37 == 5:
            raise Reject("it is not for sale")
        note(sale, context)

    @bus.on(Sale, name="hold", when_dead="park")
    async def hold(sale: Sale, context: Context) -> None:
        if sale.number % 53 == 3 and stubborn:
            raise Reject("not today")
        note(sale, context)

    @bus.on(Sale, name="ship")
    async def ship(sale: Sale, context: Context) -> None:
        await context.bus.publish(Shipped(sale.number, _strand(sale.key, "s"), sale.key_seq))
        note(sale, context)


def _subscribe_transactions(bus: Bus, accounts: Accounts, recorder: Recorder) -> None:
    """Subscribe those whose effects happen once."""

    @bus.on(Sale, name="stock", transaction=True, retry=LONG)
    def stock(sale: Sale, context: Context) -> None:
        _insert(sale, context, recorder.process)
        context.bus.publish(Reserved(sale.number, _strand(sale.key, "r"), sale.key_seq))
        _fail(sale, context, every=31)

    @bus.on(Shipped, Reserved, name="book", transaction=True, retry=SHORT)
    async def book(change: Shipped | Reserved, context: Context) -> None:
        _insert(change, context, recorder.process)
        _fail(change, context, every=29)

    @bus.on(Sale, name="account", transaction=accounts, retry=SHORT, concurrency=1)
    def account(sale: Sale, context: Context) -> None:
        _insert(sale, context, recorder.process)
        _fail(sale, context, every=23)


def _subscribe_killer(bus: Bus, note: Note, recorder: Recorder, number: int) -> None:
    """Subscribe one that ends its process whenever a certain sale comes."""

    @bus.on(Sale, name="killer", retry=THRICE)
    async def killer(sale: Sale, context: Context) -> None:
        if sale.number == number:
            os._exit(9)
        note(sale, context)


def _strand(key: str | None, what: str) -> str | None:
    return None if key is None else f"{key}/{what}"


def _short(context: Context) -> str:
    assert context.subscription is not None
    return context.subscription.name.partition(":")[2]


def _fail(change: Sale | Shipped | Reserved, context: Context, every: int) -> None:
    """Fail at first, for some."""
    if change.number % every == 2 and context.attempt == 1:
        raise RuntimeError("not at the first attempt")


def _insert(change: Sale | Shipped | Reserved, context: Context, process: str) -> None:
    """Leave an effect as a row, with the lane's owner's token as this process knows it."""
    arrival = cast("Arrival", current_cause.get())
    strand = arrival.strand
    id_ = context.event_id if isinstance(change, Sale) else f"{context.causation_id}:{context.name}"
    now = time.monotonic_ns()
    effect = Effect(
        id_, _short(context), context.key, change.key_seq, digest(asdict(change)),
        context.attempt, process, now, strand.lane.number, strand.epoch,
    )  # fmt: skip
    context.transaction.execute(
        "INSERT INTO effect VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            effect.event, effect.handler, effect.key, effect.key_seq, effect.digest,
            effect.attempt, effect.process, effect.monotonic_ns, effect.lane, effect.fence,
        ),
    )  # fmt: skip


def follows_from(sale: Sale) -> Iterator[tuple[str, str | None, str]]:
    """What follows from a sale: name, key, digest."""
    for cls, letter in ((Shipped, "s"), (Reserved, "r")):
        follower = cls(sale.number, _strand(sale.key, letter), sale.key_seq)
        yield cls.__name__.lower(), follower.key, digest(asdict(follower))


async def keep_shop(options: argparse.Namespace) -> None:
    """Publish and handle, until there is nothing more to do or somebody says stop."""
    recorder, known = _recorder(options.histories, options.slot)
    runtime = None
    if options.jump or options.ahead:
        runtime = JumpingRuntime(options.jump, options.ahead, options.seed)
    bus = Bus(_url(options), name="shop", runtime=runtime, drain_timeout=10)
    accounts = Accounts(options.database.with_name("accounts.db"))
    accounts.make()
    subscribe(bus, accounts, recorder, options)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await _make_tables(bus)
    bus.start()
    try:
        _say("ready")
        planned = plan(options.slot, options.publish, options.keys, options.seed, options.filler)
        publisher = Publisher(bus, accounts, recorder, known)
        work = asyncio.create_task(publisher.publish_all(planned))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            _say("published")
            if options.drain:
                await _drain(bus, accounts, options)
                stopped.set()
        await waiting
        work.cancel()
        await asyncio.wait((work,))
    finally:
        await bus.aclose()
    recorder.close()


async def _drain(bus: Bus, accounts: Accounts, options: argparse.Namespace) -> None:
    """Wait until all is handled: what is parked, what is delayed and what is to be relayed too."""
    async with asyncio.timeout(options.patience):
        while True:
            await bus.dead_letters.retry(subscription="shop:hold")
            await bus.idle()
            async with bus.transaction() as log:
                left = log.execute("SELECT count(*) FROM later").fetchone()[0]
            left += await asyncio.to_thread(accounts.waiting)
            if not left and not await bus.dead_letters.list(subscription="shop:hold"):
                return
            await asyncio.sleep(0.02)


async def _make_tables(bus: Bus) -> None:
    async with bus.transaction() as transaction:
        for statement in (EFFECTS, RECEIPTS):
            transaction.execute(statement)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _url(options: argparse.Namespace) -> str:
    return f"sqlite:///{options.database}?{options.settings}"


def _recorder(folder: Path, slot: int) -> tuple[Recorder, dict[str, bool]]:
    """A recorder for this run, and what earlier runs in this slot knew of each event."""
    files = sorted(folder.glob(f"slot{slot}-*"))
    known: dict[str, bool] = {}
    for publish in history.load(files).publishes:
        known[publish.event] = known.get(publish.event, False) or publish.phase == "ok"
    name = f"slot{slot}-{len(files):04d}"
    return Recorder(folder / name, name), known


def main() -> None:
    """Run one shopkeeper."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("histories", type=Path)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--publish", type=int, default=200)
    parser.add_argument("--keys", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--filler", type=int, default=200, help="bytes that a sale carries")
    parser.add_argument("--settings", default="", help="of the URL: lease=1&timeout=2")
    parser.add_argument("--killer", type=int, help="the number of a sale that kills its handler")
    parser.add_argument("--jump", type=float, default=0.0, help="seconds the wall clock jumps by")
    parser.add_argument("--ahead", type=float, default=0.0, help="seconds it is ahead at first")
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--drain", action="store_true")
    options = parser.parse_args()
    faulthandler.register(signal.SIGUSR1)  # Tells whoever asks what it is doing.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(keep_shop(options))


if __name__ == "__main__":
    main()
