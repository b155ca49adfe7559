"""Rule 9, causation: an event published inside a handler knows what it follows from."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Context, Receipt, RetryLater, current
from headwater.records import Published, Record
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

COLOURS = ["inline", "async", "thread", "executor", "pump"]


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Paid:
    number: int = 0


@dataclass(frozen=True)
class Sent:
    number: int = 0


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus in virtual time."""
    with Bus(runtime=VirtualRuntime()) as bus:
        yield bus


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user, with a single thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def subscribe(
    bus: Bus, colour: str, pool: ThreadPoolExecutor, what: type, work: Callable[[Context], Any]
) -> None:
    """Have `work` called with the Context, and what it returns awaited if the colour can."""

    async def handle(event: object, context: Context) -> None:
        receipt = work(context)
        if receipt is not None:
            await receipt

    def handle_sync(event: object, context: Context) -> None:
        work(context)

    if colour == "async":
        bus.subscribe(what, handle)
    else:
        where: Any = pool if colour == "executor" else colour
        bus.subscribe(what, handle_sync, executor=where)


def settle(bus: Bus) -> None:
    """Pump, and let time pass, until everything is handled."""
    runtime = bus._runtime
    assert isinstance(runtime, VirtualRuntime)
    for _ in range(10_000):
        bus.pump()
        runtime.advance(10_000)
        with contextlib.suppress(TimeoutError):
            bus.idle(0.001)
            return
    pytest.fail(f"not settled: {bus}")


def follows(effect: Context, cause: Context) -> bool:
    """Whether `effect` says that it follows from `cause`."""
    return (
        effect.causation_id == cause.event_id
        and effect.correlation_id == cause.correlation_id
        and effect.depth == cause.depth + 1
        and effect.event_id != cause.event_id
    )


# Stories.


def test_the_first_event_of_a_story_has_no_cause(bus: Bus) -> None:
    """Its correlation is its own id; the next one begins a story of its own."""
    seen = list[Context]()
    bus.subscribe(Placed, lambda placed, context: seen.append(context))
    bus.publish(Placed())
    bus.publish(Placed())
    for context in seen:
        assert (context.causation_id, context.depth) == (None, 0)
        assert context.correlation_id == context.event_id
    assert seen[0].correlation_id != seen[1].correlation_id


@pytest.mark.parametrize("cause_in", COLOURS)
@pytest.mark.parametrize("effect_in", COLOURS)
def test_an_effect_carries_causation_correlation_and_depth(
    bus: Bus, pool: ThreadPoolExecutor, cause_in: str, effect_in: str
) -> None:
    """From every colour of handler to every other."""
    seen = list[Context]()

    def publish_next(context: Context) -> Receipt:
        seen.append(context)
        return bus.publish(Paid() if context.name == "Placed" else Sent())

    subscribe(bus, cause_in, pool, Placed, publish_next)
    subscribe(bus, effect_in, pool, Paid, publish_next)
    subscribe(bus, cause_in, pool, Sent, seen.append)
    bus.publish(Placed())
    settle(bus)
    placed, paid, sent = seen
    assert (placed.depth, paid.depth, sent.depth) == (0, 1, 2)
    assert follows(paid, placed)
    assert follows(sent, paid)


@pytest.mark.parametrize("colour", COLOURS)
def test_siblings_have_one_cause(bus: Bus, pool: ThreadPoolExecutor, colour: str) -> None:
    """Two effects of one handler, and those of its neighbour, are equally deep."""
    causes, effects = list[Context](), list[Context]()

    def publish_two(context: Context) -> None:
        causes.append(context)
        bus.publish(Paid())
        bus.publish(Paid())

    for _ in range(2):
        subscribe(bus, colour, pool, Placed, publish_two)
    subscribe(bus, colour, pool, Paid, effects.append)
    bus.publish(Placed())
    settle(bus)
    assert len(effects) == 4
    assert all(follows(effect, causes[0]) for effect in effects)
    assert len({context.event_id for context in causes}) == 1


def test_fifty_stories_side_by_side_are_not_mixed_up() -> None:
    """Each effect belongs to its own cause, however their tasks take turns."""
    bus, causes, effects = Bus(), dict[int, Context](), dict[int, Context]()

    async def pay(placed: Placed, context: Context) -> None:
        causes[placed.number] = context
        await asyncio.sleep(0)
        await bus.publish(Paid(placed.number))

    async def note(paid: Paid, context: Context) -> None:
        await asyncio.sleep(0)
        effects[paid.number] = context

    async def main() -> None:
        async with bus:
            for number in range(50):
                bus.publish(Placed(number))
            await bus.idle(PATIENCE)

    bus.subscribe(Placed, pay)
    bus.subscribe(Paid, note)
    asyncio.run(main())
    assert len({context.correlation_id for context in causes.values()}) == 50
    assert all(follows(effects[number], causes[number]) for number in range(50))


# What handlers set going.


def test_a_task_that_a_handler_left_behind_carries_its_cause(bus: Bus) -> None:
    """It goes on after the handler has returned, and what it publishes follows from its event."""
    causes, effects = list[Context](), list[Context]()
    tasks = list[asyncio.Task[None]]()

    async def later() -> None:
        await asyncio.sleep(0)
        await bus.publish(Paid())

    async def handle(placed: Placed, context: Context) -> None:
        causes.append(context)
        tasks.append(asyncio.create_task(later()))

    async def main() -> None:
        await bus.publish(Placed())
        await tasks[0]

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: effects.append(context))
    asyncio.run(main())
    assert follows(effects[0], causes[0])


def test_a_thread_that_a_handler_gives_its_context_carries_its_cause(bus: Bus) -> None:
    """`asyncio.to_thread` copies the context variables, and the cause is one of them."""
    causes, effects = list[Context](), list[Context]()

    async def handle(placed: Placed, context: Context) -> None:
        causes.append(context)
        await asyncio.to_thread(bus.publish, Paid())

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: effects.append(context))
    bus.publish(Placed())
    assert follows(effects[0], causes[0])


def test_what_is_published_after_a_handler_returned_is_not_its_effect(bus: Bus) -> None:
    """Neither by the publisher, nor by a thread pool whose thread a handler has used."""
    seen = list[Context]()
    bus.subscribe(Placed, lambda placed: None)
    bus.subscribe(Placed, lambda placed: None, executor="thread")
    bus.subscribe(Paid, lambda paid, context: seen.append(context), executor="thread")
    bus.publish(Placed())
    bus.publish(Paid())
    assert (seen[0].causation_id, seen[0].depth) == (None, 0)


def test_a_handler_that_fails_leaves_no_cause_behind(bus: Bus) -> None:
    """Nor does a KeyboardInterrupt that goes through the publisher."""
    seen = list[Context]()

    def handle(placed: Placed) -> None:
        raise KeyboardInterrupt if placed.number else LookupError

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: seen.append(context))
    bus.publish(Placed(0))
    with pytest.raises(KeyboardInterrupt):
        bus.publish(Placed(1))
    bus.publish(Paid())
    assert (seen[0].causation_id, seen[0].depth) == (None, 0)


# Options, and other ways.


def test_a_new_story_begins_correlation_and_depth_anew(bus: Bus) -> None:
    """It is the first event of its own story, and still says which event it comes from."""
    seen = list[Context]()

    def handle(placed: Placed, context: Context) -> None:
        seen.append(context)
        bus.publish(Paid(), new_story=True)

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: seen.append(context))
    bus.publish(Placed())
    placed, paid = seen
    assert (paid.causation_id, paid.depth) == (placed.event_id, 0)
    assert paid.correlation_id == paid.event_id != placed.correlation_id


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("delay", "depth"), [(0.5, 1), (1, 0), (3600, 0)])
def test_a_delayed_effect_carries_causation_and_correlation(
    bus: Bus, pool: ThreadPoolExecutor, colour: str, delay: float, depth: int
) -> None:
    """The story goes on; only the depth begins anew with a delay of a second or more."""
    seen = list[Context]()

    def handle(context: Context) -> None:
        seen.append(context)
        bus.publish(Paid(), delay=delay)

    subscribe(bus, colour, pool, Placed, handle)
    subscribe(bus, colour, pool, Paid, seen.append)
    bus.publish(Placed())
    settle(bus)
    placed, paid = seen
    assert paid.causation_id == placed.event_id
    assert paid.correlation_id == placed.correlation_id
    assert paid.depth == depth


def test_every_attempt_is_the_same_event(bus: Bus) -> None:
    """What two attempts publish are two effects of one event."""
    causes, effects = list[Context](), list[Context]()

    def handle(placed: Placed, context: Context) -> None:
        causes.append(context)
        bus.publish(Paid())
        if len(causes) == 1:
            raise RetryLater(1)

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: effects.append(context))
    bus.publish(Placed())
    settle(bus)
    assert len(causes) == len(effects) == 2
    assert causes[0].event_id == causes[1].event_id
    assert all(follows(effect, causes[0]) for effect in effects)
    assert effects[0].event_id != effects[1].event_id


def test_a_pause_keeps_the_cause(bus: Bus) -> None:
    """An effect that was held follows from its cause, not from whoever resumes."""
    seen = list[Context]()

    def handle(placed: Placed, context: Context) -> None:
        seen.append(context)
        bus.publish(Paid())

    bus.subscribe(Placed, handle)
    held = bus.subscribe(Paid, lambda paid, context: seen.append(context))
    bus.subscribe(Sent, lambda sent: held.resume())
    held.pause()
    bus.publish(Placed())
    bus.publish(Sent())
    placed, paid = seen
    assert follows(paid, placed)


def test_a_request_and_what_the_replier_publishes_belong_to_the_story(bus: Bus) -> None:
    """Asking is publishing."""
    seen = list[Context]()

    @bus.reply(Paid)
    async def reply(paid: Paid, context: Context) -> bool:
        seen.append(context)
        await bus.publish(Sent())
        return True

    async def handle(placed: Placed, context: Context) -> None:
        seen.append(context)
        assert await bus.request(Paid(), timeout=PATIENCE)

    bus.subscribe(Placed, handle)
    bus.subscribe(Sent, lambda sent, context: seen.append(context))
    assert bus.publish(Placed()).errors == ()
    placed, paid, sent = seen
    assert follows(paid, placed)
    assert follows(sent, paid)


def test_a_story_goes_on_from_one_bus_to_another() -> None:
    """A handler of one bus that publishes on another one is the cause there."""
    seen = list[Context]()
    with Bus() as orders, Bus() as payments:

        def handle(placed: Placed, context: Context) -> None:
            seen.append(context)
            payments.publish(Paid())

        orders.subscribe(Placed, handle)
        payments.subscribe(Paid, lambda paid, context: seen.append(context))
        orders.publish(Placed())
    placed, paid = seen
    assert follows(paid, placed)


def test_a_forwarded_event_is_the_same_event() -> None:
    """It keeps its id, its time and its story, and its effects follow from it."""
    seen = list[Context]()
    with Bus() as here, Bus() as there:
        here.forward(Placed, to=there)
        here.subscribe(Placed, lambda placed, context: seen.append(context))
        there.subscribe(Placed, lambda placed, context: seen.append(context))
        there.subscribe(Placed, lambda placed: there.publish(Paid()))
        there.subscribe(Paid, lambda paid, context: seen.append(context))
        here.publish(Placed())
    contexts = {(context.name, context.bus is there): context for context in seen}
    first, second = contexts["Placed", False], contexts["Placed", True]
    assert (first.event_id, first.time) == (second.event_id, second.time)
    assert (first.correlation_id, first.depth) == (second.correlation_id, second.depth)
    assert follows(contexts["Paid", True], second)


def test_observers_are_shown_the_story(bus: Bus) -> None:
    """A Published record says what the event follows from, for whoever draws the tree."""
    records = list[Record]()
    bus.observe(records.append)
    bus.subscribe(Placed, lambda placed: bus.publish(Paid()))
    bus.subscribe(Paid, lambda paid: None)
    bus.publish(Placed())
    placed, paid = (record for record in records if isinstance(record, Published))
    assert (placed.causation_id, placed.depth) == (None, 0)
    assert placed.correlation_id == placed.event_id == paid.correlation_id == paid.causation_id
    assert (paid.name, paid.depth) == ("Paid", 1)


# current().


@pytest.mark.parametrize("colour", COLOURS)
def test_current_is_the_context_of_the_handler(
    bus: Bus, pool: ThreadPoolExecutor, colour: str
) -> None:
    """Anywhere below it, without being passed along; before and after it there is none."""
    seen = list[tuple[Context, Context | None]]()
    subscribe(bus, colour, pool, Placed, lambda context: seen.append((context, current())))
    assert current() is None
    bus.publish(Placed())
    settle(bus)
    assert current() is None
    given, found = seen[0]
    assert found is not None
    assert found.subscription is given.subscription
    assert (found.event_id, found.attempt) == (given.event_id, given.attempt)


def test_current_inside_a_nested_publish_is_the_inner_one(bus: Bus) -> None:
    """And the outer one again when it has returned."""
    names = list[str]()

    def note() -> None:
        context = current()
        names.append(context.name if context is not None else "none")

    def handle(placed: Placed) -> None:
        note()
        bus.publish(Paid())
        note()

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid: note())
    bus.publish(Placed())
    note()
    assert names == ["Placed", "Paid", "Placed", "none"]


def test_a_thread_of_its_own_without_the_context_begins_a_story(bus: Bus) -> None:
    """What is started with an empty context follows from nothing."""
    seen = list[Context]()

    def handle(placed: Placed) -> None:
        thread = threading.Thread(target=contextvars.Context().run, args=(bus.publish, Paid()))
        thread.start()
        thread.join(PATIENCE)

    bus.subscribe(Placed, handle)
    bus.subscribe(Paid, lambda paid, context: seen.append(context))
    bus.publish(Placed())
    assert (seen[0].causation_id, seen[0].depth) == (None, 0)
