"""Who takes part: libraries that keep events or jobs in one SQLite file.

Each is used as its documentation says, with its fastest settings that keep the durability asked
for, and without what it does not need: no thread to hop to, no second connection to wait for. All
of them are synchronous, so a publisher blocks the loop while it stores: to send them through
threads would be slower, because SQLite commits one transaction after the other.

Settling is done in two phases, first all is stored, then all is handled: to do both at once
would make two threads wait for each other. Every event is taken and acknowledged by itself; none of
them offers to acknowledge many at once.
"""

from collections.abc import Sequence
from dataclasses import asdict
from threading import Event
from time import perf_counter
from typing import Any, cast
from uuid import uuid4

from durable_log import DurableLog
from order import OrderPlaced, decode, encode
from peers import load
from raw_log import number

DEFAULT_POLL = 0.1
"""The seconds after which a worker of huey looks again."""


class Peer(DurableLog):
    """A library whose calls block."""

    def put(self, event: OrderPlaced) -> None:
        """Store an event."""
        raise NotImplementedError

    def consume(self, count: int) -> None:
        """Take, handle and acknowledge this many events, one by one."""
        raise NotImplementedError

    async def publish(self, event: OrderPlaced) -> object:
        self.put(event)
        return None

    async def settle(self, events: Sequence[OrderPlaced], publishers: int) -> float:
        started = perf_counter()
        for event in events:
            self.put(event)
        self.consume(len(events))
        return perf_counter() - started


class LiteQueue(Peer):
    name = "litequeue"
    distribution = "litequeue"
    used = "put(data); pop() and done(id)"
    lacks = "handlers, retries, keys, waiting: a consumer polls"
    synchronous = ("full", "normal")

    async def open(self) -> None:
        self.queue = load("litequeue").LiteQueue(self.path)
        self.queue.conn.execute(f"PRAGMA synchronous = {self.chosen}")  # It begins with NORMAL.

    async def close(self) -> None:
        self.queue.close()

    def put(self, event: OrderPlaced) -> None:
        self.queue.put(encode(event).decode())

    def consume(self, count: int) -> None:
        for _ in range(count):
            message = self.queue.pop()
            self.handle(decode(message.data))
            self.queue.done(message.message_id)

    async def level(self) -> int | None:
        return number(self.queue.conn.execute("PRAGMA synchronous"))

    async def stored(self) -> int | None:
        return number(self.queue.conn.execute("SELECT count(*) FROM Queue"))


class Huey(Peer):
    name = "huey"
    distribution = "huey"
    used = "SqliteHuey(fsync=True, results=False); a task, run by a Worker"
    lacks = "an acknowledgement: a task leaves the file before it runs, and dies with its worker"

    async def open(self) -> None:
        self.huey = load("huey").SqliteHuey(filename=str(self.path), results=False, fsync=True)
        self.task = order_task(self.huey, lambda data: self.handle(decode(data)))

    async def close(self) -> None:
        self.huey.storage.close()

    def put(self, event: OrderPlaced) -> None:
        self.task(encode(event))

    def consume(self, count: int) -> None:
        make = load("huey.consumer").Worker
        worker = make(self.huey, Event(), DEFAULT_POLL, DEFAULT_POLL, 1.0)
        for _ in range(count):
            worker.loop()

    async def level(self) -> int | None:
        return number(self.huey.storage.conn.execute("PRAGMA synchronous"))

    async def stored(self) -> int | None:
        return int(self.huey.storage.queue_size())


def order_task(huey: Any, function: Any) -> Any:
    """Register a task under the same name in every process; it gets the event as JSON."""
    function.__module__ = __name__
    return huey.task(name="order_placed")(function)


class PersistQueue(Peer):
    name = "persist-queue"
    distribution = "persist-queue"
    used = "SQLiteAckQueue(auto_commit=True): put(data); get() and ack(id)"
    lacks = "handlers, retries, keys; another process is noticed by polling"

    async def open(self) -> None:
        self.queue = load("persistqueue").SQLiteAckQueue(str(self.path.parent))

    async def close(self) -> None:
        self.queue.close()

    def put(self, event: OrderPlaced) -> None:
        self.queue.put(encode(event))

    def consume(self, count: int) -> None:
        for _ in range(count):
            taken = self.queue.get(block=False, raw=True)
            self.handle(decode(taken["data"]))
            self.queue.ack(id=taken["pqid"])

    async def level(self) -> int | None:
        return number(self.queue._putter.execute("PRAGMA synchronous"))

    async def stored(self) -> int | None:
        return int(self.queue.size)


class EventSourcing(Peer):
    name = "eventsourcing"
    distribution = "eventsourcing"
    used = "Application.save(event); a Follower pulls, and records its place after each event"
    lacks = "several processes at once, retries, async; a follower stops at the first error"
    replays = True

    async def open(self) -> None:
        self.environment = {
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(self.path),
        }
        application = load("eventsourcing.application").Application
        self.application = type("Orders", (application,), {})(env=self.environment)
        self.event_class = event_class()

    async def close(self) -> None:
        self.application.close()

    def put(self, event: OrderPlaced) -> None:
        made = self.event_class(
            originator_id=uuid4(),
            originator_version=1,
            timestamp=self.event_class.create_timestamp(),
            **asdict(event),
        )
        self.application.save(made)

    def consume(self, count: int) -> None:
        kind = load("eventsourcing.system").Follower

        def policy(follower: object, event: object, processing: object) -> None:
            self.handle(event)

        follower = type("Counting", (kind,), {"policy": policy})(env=self.environment)
        follower.follow("Orders", self.application.notification_log)
        follower.pull_and_process("Orders")
        follower.close()

    async def replay(self) -> None:
        application, after = self.application, 0
        while found := application.recorder.select_notifications(after + 1, 1000):
            for notification in found:
                self.handle(application.mapper.to_domain_event(notification))
            after = found[-1].id

    async def level(self) -> int | None:
        with self.application.recorder.datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            return number(cursor)

    async def stored(self) -> int | None:
        return int(self.application.recorder.max_notification_id() or 0)


def event_class() -> Any:
    """Return the event as a domain event; a module's name, so that its topic can be resolved."""
    if "StoredOrder" not in globals():
        domain = load("eventsourcing.domain")
        fields = dict(OrderPlaced.__annotations__)
        names = {"__annotations__": fields, "__module__": __name__, "__qualname__": "StoredOrder"}
        globals()["StoredOrder"] = type("StoredOrder", (domain.DomainEvent,), names)
    return cast("Any", globals()["StoredOrder"])


PEERS: tuple[type[DurableLog], ...] = (LiteQueue, Huey, PersistQueue, EventSourcing)
