"""Rule 6, lifetime: strong unless asked otherwise; the weak vanish without an error, and are seen.

CPython frees an object with its last reference, so each test says by itself when an owner dies;
where one dies in a cycle, the test runs the garbage collector.
"""

import asyncio
import contextlib
import functools
import gc
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Context, Receipt, event
from headwater.errors import HeadwaterError
from headwater.receipt import DONE
from headwater.records import Handled, Record, SubscriberDied

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""


@dataclass(frozen=True)
class Placed:
    number: int = 0


@event(key="order_id")
@dataclass(frozen=True)
class Paid:
    order_id: str = "o1"
    number: int = 0


class Display:
    """An owner of handlers, as windows and documents are."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    def show(self, event: object) -> None:
        self.seen.append(event)

    def show_labelled(self, label: str, event: object) -> None:
        self.seen.append((label, event))

    def show_with_context(self, event: object, context: Context) -> None:
        self.seen.append((context.name, event))

    async def show_later(self, event: object) -> None:
        await asyncio.sleep(0)
        self.seen.append(event)

    def __call__(self, event: object) -> None:
        self.seen.append(event)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What dies inside dies of its own."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# Strong by default.


def subscribe_a_lambda(bus: Bus, seen: list[object]) -> None:
    """What most of them are."""
    bus.subscribe(Placed, lambda placed: seen.append(Placed(placed.number)))


def subscribe_a_local_function(bus: Bus, seen: list[object]) -> None:
    """What nobody but its maker knows."""

    def handle(placed: Placed) -> None:
        seen.append(placed)

    bus.subscribe(Placed, handle)


def decorate_a_local_function(bus: Bus, seen: list[object]) -> None:
    """The same, by decorator."""

    @bus.on(Placed)
    def handle(placed: Placed) -> None:
        seen.append(placed)


def subscribe_a_method(bus: Bus, seen: list[object]) -> None:
    """A method of an object that nobody keeps."""
    bus.subscribe(Placed, Display(seen).show)


def subscribe_an_object(bus: Bus, seen: list[object]) -> None:
    """An object that nobody keeps."""
    bus.subscribe(Placed, Display(seen))


def subscribe_a_partial(bus: Bus, seen: list[object]) -> None:
    """A partial of a lambda."""
    bus.subscribe(Placed, functools.partial(lambda seen, placed: seen.append(placed), seen))


def subscribe_an_async_method(bus: Bus, seen: list[object]) -> None:
    """An async method of an object that nobody keeps."""
    bus.subscribe(Placed, Display(seen).show_later)


STRONG = [
    subscribe_a_lambda,
    subscribe_a_local_function,
    decorate_a_local_function,
    subscribe_a_method,
    subscribe_an_object,
    subscribe_a_partial,
    subscribe_an_async_method,
]


@pytest.mark.parametrize("subscribe", STRONG)
def test_a_handler_lives_as_long_as_its_subscription(
    subscribe: Callable[[Bus, list[object]], None],
) -> None:
    """Nobody else has to keep it, nor the subscription."""
    with Bus() as bus:
        seen = list[object]()
        subscribe(bus, seen)
        gc.collect()
        bus.publish(Placed())
        gc.collect()
        bus.publish(Placed())
    assert seen == [Placed(), Placed()]


# Weak where asked for.

WEAK: dict[str, Callable[[Display], Callable[..., Any]]] = {
    "method": lambda owner: owner.show,
    "method with context": lambda owner: owner.show_with_context,
    "async method": lambda owner: owner.show_later,
    "partial of a method": lambda owner: functools.partial(owner.show_labelled, "label"),
    "callable object": lambda owner: owner,
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_subscription_ends_with_the_life_of_its_owner(kind: str) -> None:
    """It works as long as the owner lives, keeps it from nothing, and then is gone at once."""
    with Bus() as bus:
        seen = list[object]()
        owner = Display(seen)
        reference = weakref.ref(owner)
        bus.subscribe(Placed, WEAK[kind](owner), weak=True)
        gc.collect()
        bus.publish(Placed(1))
        assert len(seen) == 1
        gc.collect()  # Of a delivery on a loop the collector takes the last traces.
        with no_garbage_collection():
            del owner
            assert reference() is None
        receipt = bus.publish(Placed(2))
        assert receipt is DONE
        assert len(seen) == 1


def test_a_weak_subscription_may_be_of_a_function_that_somebody_else_keeps() -> None:
    """A module's functions live as long as the module: until then nothing happens to it."""
    bus = Bus()
    subscription = bus.subscribe(Placed, module_function, weak=True)
    gc.collect()
    assert bus.publish(Placed()).errors == ()
    assert not subscription.closed


def module_function(event: object) -> None:
    """Kept by this module."""


class Slotted:
    """Cannot be weakly referenced."""

    __slots__ = ()

    def handle(self, event: object) -> None:
        pass


def a_local_function() -> Callable[[object], None]:
    """A function that only its maker's caller knows."""

    def handle(event: object) -> None:
        pass

    return handle


REFUSED: dict[str, Callable[..., Any]] = {
    "lambda": lambda event: None,
    "local function": a_local_function(),
    "partial of a function": functools.partial(module_function),
    "owner with slots": Slotted().handle,
    "method of a list": list[object]().append,
    "method of a deque": deque[object]().append,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_weak_is_refused_where_nothing_could_keep_the_handler_alive(kind: str) -> None:
    """A TypeError at registration that says what to do; better than to vanish at once."""
    bus = Bus()
    with pytest.raises(TypeError, match=r"weak=False") as caught:
        bus.subscribe(Placed, REFUSED[kind], weak=True)
    assert isinstance(caught.value, HeadwaterError)
    bus.subscribe(Placed, REFUSED[kind])


def test_weak_is_refused_before_anything_is_subscribed() -> None:
    """All or nothing."""
    bus = Bus()
    with pytest.raises(TypeError):
        bus.on(Placed, Paid, weak=True)(lambda event: None)
    assert list(bus._registry) == []


# Its death, at any moment.


def test_a_dead_subscriber_is_observed(caplog: pytest.LogCaptureFixture) -> None:
    """One record says whose subscription has ended, and to what; nothing is logged as an error."""
    bus, records = Bus(), list[Record]()
    owner = Display([])
    bus.observe(records.append)
    bus.subscribe(Placed, owner.show, weak=True, name="display")
    bus.subscribe(Placed, lambda placed: None)
    bus.publish(Placed(1))
    del owner
    bus.publish(Placed(2))
    bus.publish(Placed(3))
    (died,) = (record for record in records if isinstance(record, SubscriberDied))
    assert (died.subscription, died.name) == ("display", "Placed")
    assert sum(isinstance(record, Handled) for record in records) == 4
    assert caplog.records == []


def test_a_death_is_observed_even_if_nothing_is_published() -> None:
    """Whoever asks the bus for its state has it look."""
    bus, records = Bus(), list[Record]()
    owner = Display([])
    bus.observe(records.append)
    bus.subscribe(Placed, owner.show, weak=True)
    del owner
    bus.topology()
    assert [type(record) for record in records] == [SubscriberDied]


@pytest.mark.parametrize("observed", [False, True], ids=["unseen", "observed"])
def test_an_owner_that_dies_between_the_look_at_the_subscriptions_and_the_call(
    observed: bool,  # noqa: FBT001  parametrized
) -> None:
    """An earlier handler of the same event drops the last reference: skipped, without an error."""
    bus, seen, after = Bus(), list[object](), list[object]()
    if observed:
        bus.observe(lambda record: None)
    owners = [Display(seen)]
    bus.publish(Placed(0))
    bus.subscribe(Placed, lambda placed: owners.clear() if placed.number == 2 else None)
    bus.subscribe(Placed, owners[0].show, weak=True)
    bus.subscribe(Placed, after.append)
    for number in (1, 2, 3):
        assert bus.publish(Placed(number)) is DONE
    assert seen == [Placed(1)]
    assert after == [Placed(1), Placed(2), Placed(3)]


def test_an_owner_that_dies_while_its_task_waits_for_its_first_step() -> None:
    """Skipped without an error; where tasks start eagerly the handler keeps its owner alive."""

    async def main() -> None:
        owner = Display(seen)
        bus.subscribe(Placed, owner.show_later, weak=True)
        receipt = bus.publish(Placed())
        del owner
        gc.collect()
        await receipt
        assert (receipt.done, receipt.errors) == (True, ())
        handled = [record for record in records if isinstance(record, Handled)]
        assert len(handled) == len(seen)

    bus, seen, records = Bus(), list[object](), list[Record]()
    bus.observe(records.append)
    asyncio.run(main())


@pytest.mark.parametrize("executor", ["thread", "pool"])
def test_an_owner_that_dies_while_its_event_waits_for_a_thread(executor: str) -> None:
    """The only thread is busy when the owner goes: skipped, without an error, and not handled."""

    async def main() -> None:
        owner = Display(seen)
        bus.subscribe(Placed, hold, executor=where)
        bus.subscribe(Placed, owner.show, executor=where, weak=True)
        receipt = bus.publish(Placed())
        assert busy.wait(PATIENCE)
        del owner
        gate.set()
        await receipt
        assert receipt.errors == ()

    def hold(placed: Placed) -> None:
        busy.set()
        assert gate.wait(PATIENCE)

    busy, gate, seen = threading.Event(), threading.Event(), list[object]()
    records = list[Record]()
    with ThreadPoolExecutor(1) as pool, Bus(max_workers=1) as bus:
        where: Any = pool if executor == "pool" else executor
        bus.observe(records.append)
        asyncio.run(main())
    assert seen == []
    assert sum(isinstance(record, Handled) for record in records) == 1


def test_an_owner_that_dies_while_its_event_waits_for_a_pump() -> None:
    """A window that is gone when its turn comes: skipped, without an error."""
    bus, seen = Bus(), list[object]()
    owner = Display(seen)
    bus.subscribe(Placed, owner.show, executor="pump", weak=True)
    receipt = bus.publish(Placed())
    del owner
    bus.pump()
    bus.idle(PATIENCE)
    assert (seen, receipt.errors) == ([], ())


def test_an_owner_that_dies_while_its_events_wait_in_a_lane() -> None:
    """The handler that runs keeps its owner; nothing is left behind in the lane after it."""

    async def main() -> None:
        class Patient(Display):
            async def show_later(self, event: object) -> None:
                await gate.wait()
                self.seen.append(event)

        gate = asyncio.Event()
        owner = Patient(seen)
        reference = weakref.ref(owner)
        bus.subscribe(Paid, owner.show_later, weak=True)
        receipts = [bus.publish(Paid(number=number)) for number in range(3)]
        await asyncio.sleep(0)
        del owner
        gc.collect()
        assert reference() is not None
        gate.set()
        await bus.idle(PATIENCE)
        assert [receipt.errors for receipt in receipts] == [(), (), ()]
        gc.collect()
        assert reference() is None

    bus, seen = Bus(), list[object]()
    asyncio.run(main())
    assert seen[:1] == [Paid(number=0)]


def test_an_owner_that_dies_in_a_cycle_found_by_the_collector_inside_a_handler() -> None:
    """The collector may run at any line, and what it tells the bus then waits for no lock."""
    bus, seen, records = Bus(), list[object](), list[Record]()
    bus.subscribe(Placed, lambda placed: gc.collect() and None)
    owner = Display(seen)
    owner.myself = owner  # type: ignore[attr-defined]
    bus.subscribe(Placed, owner.show, weak=True)
    with no_garbage_collection():
        del owner
        bus.publish(Placed(1))
    bus.observe(records.append)
    bus.publish(Placed(2))
    assert seen == []


def test_owners_may_die_while_the_registry_is_being_changed() -> None:
    """Handlers come and go in one thread, owners die in another, events in a third: no error."""
    bus, errors, stop = Bus(), list[BaseException](), threading.Event()

    def churn(step: Callable[[], object]) -> None:
        try:
            barrier.wait(PATIENCE)
            while not stop.is_set():
                step()
        except BaseException as error:
            errors.append(error)

    def owners_die() -> None:
        owner = Display([])
        owner.myself = owner  # type: ignore[attr-defined]
        bus.subscribe(Placed, owner.show, weak=True)
        bus.subscribe("**", owner.show, weak=True)
        del owner
        gc.collect(0)

    def change() -> None:
        bus.subscribe(Placed, module_function).close()
        if next(counted) > 300:
            stop.set()

    counted = iter(range(10_000))
    steps = [owners_die, change, lambda: bus.publish(Placed())]
    barrier = threading.Barrier(len(steps))
    threads = [threading.Thread(target=churn, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
    gc.collect()
    assert bus.publish(Placed()) is DONE


# What ends is forgotten.


@pytest.mark.parametrize("options", [{}, {"once": True}, {"executor": "thread"}, {"where": bool}])
def test_a_closed_subscription_lets_go_of_its_handler(options: dict[str, Any]) -> None:
    """The bus keeps nothing of it, whoever published before and after."""
    with Bus() as bus:

        def handle(placed: Placed) -> None:
            pass

        reference = weakref.ref(handle)
        subscription = bus.subscribe(Placed, handle, **options)
        bus.publish(Placed())
        subscription.close()
        bus.publish(Placed())
        del handle, subscription
        gc.collect()
        assert reference() is None


def test_when_all_have_unsubscribed_nothing_is_left_in_the_books() -> None:
    """Neither classes nor names, patterns or routes: the class itself can go."""

    def use_a_class() -> "weakref.ref[type]":
        @dataclass
        class Passing:
            number: int = 0

        subscriptions = [
            bus.subscribe(Passing, module_function),
            bus.subscribe("passing.*", module_function),
            bus.subscribe("passing.by", module_function),
        ]
        bus.publish(Passing())
        bus.publish("passing.by", {})
        for subscription in subscriptions:
            subscription.close()
        return weakref.ref(Passing)

    bus = Bus()
    reference = use_a_class()
    gc.collect()
    assert reference() is None
    registry = bus._registry
    books = (registry._exact, registry._patterns, registry._routes, registry._dependents)
    assert [len(book) for book in (*books, registry.hot, registry.classes)] == [0] * 6


def test_a_bus_that_nobody_keeps_is_forgotten_with_its_loop_and_its_workers() -> None:
    """Once its work is done: it need not be closed."""

    async def handle(placed: Placed) -> None:
        pass

    async def nothing() -> None:
        pass

    bus, done = Bus(max_workers=1), threading.Event()
    bus.subscribe(Placed, module_function)
    bus.subscribe(Placed, module_function, executor="thread")
    bus.subscribe(Placed, handle)
    bus.publish(Placed())
    reference, loop, workers = weakref.ref(bus), bus._runtime.loop, bus._runtime.workers
    del bus
    # Its threads may still be on their way back from the last handler: give them something else.
    asyncio.run_coroutine_threadsafe(nothing(), loop).result(PATIENCE)
    workers.submit(done.set)
    assert done.wait(PATIENCE)
    gc.collect()
    assert reference() is None
    assert loop.is_closed()


def test_a_bus_with_unfinished_work_lives_until_it_is_finished() -> None:
    """Even if nobody keeps it: what it has accepted it does."""
    seen = list[object]()
    reached, gate = threading.Event(), threading.Event()

    def hold(paid: Paid) -> None:
        seen.append(paid)
        reached.set()
        assert gate.wait(PATIENCE)

    async def main() -> "weakref.ref[Bus]":
        bus = Bus(max_workers=1)
        bus.subscribe(Paid, hold, executor="thread")
        receipts.extend(bus.publish(Paid(number=number)) for number in range(3))
        return weakref.ref(bus)

    receipts = list[Receipt]()
    reference = asyncio.run(main())
    assert reached.wait(PATIENCE)
    gc.collect()
    assert reference() is not None
    gate.set()
    for receipt in receipts:
        receipt.wait(PATIENCE)
    assert seen == [Paid(number=number) for number in range(3)]
