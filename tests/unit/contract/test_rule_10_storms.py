"""Rule 10, storms: a story that feeds on itself is ended, whole, and says what went in circles."""

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest

from headwater import Bus, Context, EventStorm, Receipt
from headwater.records import Failed, Record, StormStopped
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

MAX_DEPTH = 64


@dataclass(frozen=True)
class A:
    number: int = 0


@dataclass(frozen=True)
class B:
    number: int = 0


@dataclass(frozen=True)
class C:
    number: int = 0


@pytest.fixture
def records() -> list[Record]:
    """What observers of `bus` are shown."""
    return []


@pytest.fixture
def bus(records: list[Record]) -> Iterator[Bus]:
    """A bus in virtual time, observed."""
    with Bus(runtime=VirtualRuntime()) as bus:
        bus.observe(records.append)
        yield bus


def settle(bus: Bus) -> None:
    """Let time pass until everything is handled."""
    runtime = bus._runtime
    assert isinstance(runtime, VirtualRuntime)
    for _ in range(10_000):
        runtime.advance(100)
        with contextlib.suppress(TimeoutError):
            bus.idle(0.001)
            return
    pytest.fail(f"not settled: {bus}")


def storms(records: list[Record]) -> list[EventStorm]:
    """What handlers failed with because their story was ended."""
    failed = (record.error for record in records if isinstance(record, Failed))
    return [error for error in failed if isinstance(error, EventStorm)]


# Depth.


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_circle_is_stopped_at_max_depth(bus: Bus, executor: str) -> None:
    """64 causes may stand in line before an event, so that a circle is handled 65 times."""
    depths = list[int]()

    def handle(event: A, context: Context) -> None:
        depths.append(context.depth)
        bus.publish(A())

    bus.subscribe(A, handle, executor="thread" if executor == "thread" else "inline")
    bus.publish(A())
    assert depths == list(range(MAX_DEPTH + 1))


def test_a_circle_of_async_handlers_is_stopped_at_max_depth(bus: Bus) -> None:
    """Awaited or not."""
    depths = list[int]()

    async def handle(event: A, context: Context) -> None:
        depths.append(context.depth)
        receipt = bus.publish(A())
        if event.number:
            await receipt

    async def main() -> None:
        bus.publish(A(0))
        bus.publish(A(1))
        await bus.idle(PATIENCE)

    bus.subscribe(A, handle)
    asyncio.run(main())
    assert sorted(depths) == sorted(2 * list(range(MAX_DEPTH + 1)))


def test_a_chain_that_ends_in_time_is_no_storm(bus: Bus) -> None:
    """Exactly max_depth effects are fine."""
    depths = list[int]()

    def handle(event: A, context: Context) -> None:
        depths.append(context.depth)
        if event.number < MAX_DEPTH:
            bus.publish(A(event.number + 1))

    bus.subscribe(A, handle)
    assert bus.publish(A()).errors == ()
    assert depths[-1] == MAX_DEPTH


@pytest.mark.parametrize("max_depth", [1, 2, 200])
def test_max_depth_is_the_users(max_depth: int) -> None:
    """More or less than 64, as the program needs it."""
    handled = count()
    bus = Bus(max_depth=max_depth)

    def handle(event: A) -> None:
        next(handled)
        bus.publish(A())

    bus.subscribe(A, handle)
    bus.publish(A())
    assert next(handled) == max_depth + 1


def test_the_error_prints_the_circle(bus: Bus, records: list[Record]) -> None:
    """The shortest run of names that repeats, closed."""
    bus.subscribe(A, lambda event: bus.publish(B()))
    bus.subscribe(B, lambda event: bus.publish(C()))
    bus.subscribe(C, lambda event: bus.publish(A()))
    bus.publish(A())
    error = storms(records)[0]
    assert "C was refused" in str(error)
    assert "max_depth=64" in str(error)
    assert ": A → B → C → A;" in str(error)
    assert "new_story=True" in str(error)
    assert error.path == ("A", "B", "C") * 22


def test_the_error_of_an_event_that_causes_itself_prints_that(
    bus: Bus, records: list[Record]
) -> None:
    """The smallest circle of all."""
    bus.subscribe(A, lambda event: bus.publish(A()))
    bus.publish(A())
    assert ": A → A;" in str(storms(records)[0])


def test_the_error_is_raised_where_the_refused_event_was_published(bus: Bus) -> None:
    """The handler that went too far may catch it; it says which story was ended."""
    caught, story = list[EventStorm](), list[str]()

    def handle(event: A, context: Context) -> None:
        story.append(context.correlation_id)
        try:
            bus.publish(A())
        except EventStorm as error:
            caught.append(error)

    bus.subscribe(A, handle)
    bus.publish(A())
    (error,) = caught
    assert error.correlation_id == story[0]


def test_a_storm_is_observed_and_logged_once(
    bus: Bus, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    """Not once for every handler that runs into its end."""

    def handle(event: A) -> None:
        for _ in range(3):
            with contextlib.suppress(EventStorm):
                bus.publish(A())

    bus.subscribe(A, handle)
    bus.publish(A())
    (record,) = (record for record in records if isinstance(record, StormStopped))
    assert (record.name, record.depth) == ("A", MAX_DEPTH + 1)
    assert record.path == ("A",) * (MAX_DEPTH + 2)
    logged = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert [entry.getMessage().split()[0] for entry in logged] == ["story_ended"]
    assert record.correlation_id in logged[0].getMessage()


# The whole story.


def test_a_storm_ends_its_whole_story(bus: Bus) -> None:
    """Whatever belongs to it is refused from then on, however shallow it is."""
    refused = list[str]()

    def loop(event: A) -> None:
        bus.publish(A())

    def go_on(event: A, context: Context) -> None:
        if context.depth == 0:
            try:
                bus.publish(B())
            except EventStorm as error:
                refused.append(str(error))

    bus.subscribe(A, loop, priority=1)
    bus.subscribe(A, go_on)
    bus.subscribe(B, lambda event: refused.append("B was handled"))
    bus.publish(A())
    assert len(refused) == 1
    assert refused[0].startswith("B was refused")


def test_a_task_left_behind_by_an_ended_story_is_refused_too(bus: Bus) -> None:
    """Its correlation is the same, so that it cannot start the storm again."""
    refused, tasks = list[EventStorm](), list[asyncio.Task[None]]()
    ended = asyncio.Event()

    async def later() -> None:
        await ended.wait()
        try:
            await bus.publish(B())
        except EventStorm as error:
            refused.append(error)

    async def handle(event: A, context: Context) -> None:
        if context.depth == 0:
            tasks.append(asyncio.create_task(later()))
        await bus.publish(A())

    async def main() -> None:
        await bus.publish(A())
        ended.set()
        await tasks[0]

    bus.subscribe(A, handle)
    asyncio.run(main())
    assert len(refused) == 1


def test_other_stories_go_on(bus: Bus) -> None:
    """A storm is nobody's business but its own; the bus is as good as before."""
    handled = list[int]()

    def handle(event: A) -> None:
        if event.number == 0:
            bus.publish(A())
        handled.append(event.number)

    bus.subscribe(A, handle)
    for number in range(3):
        bus.publish(A(number))
    assert handled[-2:] == [1, 2]


def test_the_first_publisher_is_not_hurt(bus: Bus, records: list[Record]) -> None:
    """The error stays where the storm was; it failed one handler, which is isolated."""
    bus.subscribe(A, lambda event: bus.publish(A()))
    receipt = bus.publish(A())
    assert receipt.errors == ()
    assert len(storms(records)) == 1


def test_with_on_error_raise_the_storm_reaches_the_first_publisher() -> None:
    """Through one ExceptionGroup inside the other, one for each depth."""
    bus = Bus(on_error="raise", max_depth=4)
    bus.subscribe(A, lambda event: bus.publish(A()))
    with pytest.raises(ExceptionGroup) as raised:
        bus.publish(A())
    error: BaseException = raised.value
    depth = 0
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
        depth += 1
    assert isinstance(error, EventStorm)
    assert depth == 5


# Number.


def test_a_story_is_stopped_at_max_story(records: list[Record]) -> None:
    """The first event counts; a broad storm is as bad as a deep one."""
    handled, bus = count(), Bus(max_story=100)
    bus.observe(records.append)

    def spread(event: A) -> None:
        for number in range(1000):
            bus.publish(B(number))

    bus.subscribe(A, spread)
    bus.subscribe(B, lambda event: next(handled))
    bus.publish(A())
    assert 1 + next(handled) == 100
    assert "more than max_story=100 events" in str(storms(records)[0])


def test_max_story_holds_for_each_story() -> None:
    """Any number of events may be published outside handlers."""
    handled, bus = list[A](), Bus(max_story=3)
    bus.subscribe(A, handled.append)
    for number in range(10):
        bus.publish(A(number))
    assert len(handled) == 10


def test_max_story_counts_in_all_threads_and_tasks() -> None:
    """One story in many places is still one story."""
    handled, refused, bus = list[int](), list[int](), Bus(max_story=150)

    async def handle(event: B) -> None:
        await asyncio.sleep(0)
        handled.append(event.number)

    def spread(event: A) -> None:
        for number in range(100):
            try:
                bus.publish(B(number))
            except EventStorm:
                refused.append(number)

    with bus:
        for _ in range(4):
            bus.subscribe(A, spread, executor="thread")
        bus.subscribe(B, handle)
        bus.publish(A())
    assert (1 + len(handled), len(refused)) == (150, 400 - 149)


# Ways out.


def test_a_new_story_begins_depth_anew(bus: Bus) -> None:
    """What is meant to go round may, if it says so."""
    depths = list[int]()

    async def handle(event: A, context: Context) -> None:
        depths.append(context.depth)
        if event.number < 200:
            bus.publish(A(event.number + 1), new_story=event.number % 50 == 49)

    bus.subscribe(A, handle)
    bus.publish(A())
    bus.idle(PATIENCE)
    assert depths == [*(4 * [*range(50)]), 0]


def test_a_new_story_can_be_begun_in_one_that_was_ended(bus: Bus) -> None:
    """Whoever is stopped can still say so with an event."""
    seen = list[str]()

    def handle(event: A) -> None:
        try:
            bus.publish(A())
        except EventStorm as error:
            bus.publish("shop.stormy", str(error), new_story=True)

    bus.subscribe(A, handle)
    bus.subscribe("shop.stormy", seen.append)
    bus.publish(A())
    assert len(seen) == 1


@pytest.mark.parametrize("delay", [1, 60.0, timedelta(seconds=1)])
def test_a_delay_of_a_second_or_more_begins_depth_anew(
    bus: Bus, records: list[Record], delay: float | timedelta
) -> None:
    """What takes its time is no storm: a clock may tick for ever."""
    depths = list[int]()

    def tick(event: A, context: Context) -> None:
        depths.append(context.depth)
        if event.number < 80:
            bus.publish(A(event.number + 1), delay=delay)

    bus.subscribe(A, tick)
    bus.publish(A())
    settle(bus)
    assert depths == [0] * 81
    assert storms(records) == []


def test_a_point_in_time_begins_depth_anew_if_it_is_a_second_away(bus: Bus) -> None:
    """`at=` is a delay too."""
    depths = list[int]()

    def tick(event: A, context: Context) -> None:
        depths.append(context.depth)
        if event.number < 2:
            bus.publish(A(event.number + 1), at=bus._runtime.now() + event.number * 2)

    bus.subscribe(A, tick)
    bus.publish(A())
    settle(bus)
    assert depths == [0, 1, 0]


def test_a_delay_of_less_than_a_second_goes_deeper(bus: Bus, records: list[Record]) -> None:
    """Otherwise a storm would only have to wait a moment."""
    depths = list[int]()

    def tick(event: A, context: Context) -> None:
        depths.append(context.depth)
        bus.publish(A(), delay=0.9)

    bus.subscribe(A, tick)
    bus.publish(A())
    settle(bus)
    assert depths == list(range(MAX_DEPTH + 1))
    assert len(storms(records)) == 1


def test_the_deepest_handler_may_publish_for_later(bus: Bus, records: list[Record]) -> None:
    """Where nothing more may be published at once, a delay is the way that the error names."""
    depths = list[int]()

    def handle(event: A, context: Context) -> None:
        depths.append(context.depth)
        if len(depths) <= MAX_DEPTH:
            bus.publish(A())
        elif len(depths) == MAX_DEPTH + 1:
            bus.publish(A(), delay=1)

    bus.subscribe(A, handle)
    bus.publish(A())
    settle(bus)
    assert depths == [*range(MAX_DEPTH + 1), 0]
    assert storms(records) == []


def test_a_clock_does_not_hold_its_past() -> None:
    """A tick keeps neither the ticks before it nor their events, and knows its story."""

    class Tick:
        pass

    ticks, alive, stories = list[weakref.ref[Tick]](), list[Tick | None](), set[str]()
    with Bus(runtime=VirtualRuntime()) as bus:

        def tick(event: Tick, context: Context) -> None:
            ticks.append(weakref.ref(event))
            if len(ticks) < 20:
                bus.publish(Tick(), delay=1)
            else:
                gc.collect()
                alive.extend(event() for event in ticks)
            stories.add(context.correlation_id)

        bus.subscribe(Tick, tick)
        bus.publish(Tick())
        settle(bus)
    assert alive[:-2] == [None] * 18  # The last one, and perhaps the one that published it, live.
    assert len(stories) == 1


def test_a_request_is_part_of_the_story(bus: Bus) -> None:
    """Handlers that ask each other in circles are stopped as well."""
    depths = list[int]()

    async def ask(event: A, context: Context) -> None:
        depths.append(context.depth)
        await bus.request(A(), timeout=PATIENCE)

    bus.reply(A)(ask)

    async def main() -> None:
        with pytest.raises(Exception, match="replier failed"):
            await bus.request(A(), timeout=PATIENCE)

    asyncio.run(main())
    assert depths == list(range(MAX_DEPTH + 1))


def test_a_forward_back_and_forth_is_no_storm() -> None:
    """Buses connected in a circle deliver once each."""
    seen = list[str]()
    with Bus(name="north") as north, Bus(name="south") as south:
        for bus, other in ((north, south), (south, north)):
            bus.forward("**", to=other)
            bus.subscribe(A, noting(seen, bus.name or ""))
        assert north.publish(A()).errors == ()
    assert sorted(seen) == ["north", "south"]


def noting(seen: list[str], name: str) -> Callable[[A], Receipt | None]:
    """A handler that notes its name."""

    def handle(event: A) -> None:
        seen.append(name)

    return handle


def test_a_story_that_uses_up_the_stack_is_ended() -> None:
    """Where middleware makes every step long, Python's own limit comes first: that is a storm."""
    handled, bus = count(), Bus(max_depth=10_000)
    for _ in range(10):

        @bus.middleware
        def around(event: object) -> Iterator[None]:
            yield

    def handle(event: A) -> None:
        next(handled)
        bus.publish(A())
        bus.publish(A())

    bus.subscribe(A, handle)
    (error,) = bus.publish(A()).errors
    assert isinstance(error, EventStorm)
    assert "deeper than Python's stack" in str(error)
    assert next(handled) < 1000
    assert bus.publish(B()).errors == ()


def test_a_handler_with_a_recursion_of_its_own_ends_no_story(bus: Bus) -> None:
    """Its RecursionError is one failure like any other."""
    seen = list[B]()

    def endless(event: A) -> None:
        endless(event)

    bus.subscribe(A, endless)
    bus.subscribe(A, lambda event: bus.publish(B()))
    bus.subscribe(B, seen.append)
    (error,) = bus.publish(A()).errors
    assert isinstance(error, RecursionError)
    assert len(seen) == 1


def test_a_long_chain_of_async_handlers_does_not_use_up_the_stack() -> None:
    """However eagerly each step begins, hundreds of them are fine."""
    handled, bus = count(), Bus(max_depth=1000)

    async def handle(event: A) -> None:
        if next(handled) < 1000:
            await bus.publish(A())

    async def main() -> None:
        assert (await bus.publish(A())).errors == ()

    bus.subscribe(A, handle)
    asyncio.run(main())
    assert next(handled) == 1001
