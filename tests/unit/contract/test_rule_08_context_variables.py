"""Rule 8, context variables: captured at publish, copied for tasks and threads, shared inline."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Backoff, Bus, Context, Rate, Resequence, Retry, RetryLater, event
from headwater.testing import VirtualRuntime

PATIENCE = 10.0
"""Seconds after which a test that waits gives up."""

user: ContextVar[str] = ContextVar("user", default="nobody")

AWAY = ["async", "thread", "executor", "pump"]
"""Where a handler runs elsewhere than in the publisher's call."""


@event(key="key")
@dataclass(frozen=True)
class Placed:
    key: str | None = None
    number: int = 1


@dataclass(frozen=True)
class Paid:
    number: int = 1


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus in virtual time, and a context whose changes no other test sees."""
    with Bus(runtime=VirtualRuntime()) as bus:
        yield bus


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _nobody() -> Iterator[None]:
    token = user.set("nobody")
    yield
    user.reset(token)


def subscribe(
    bus: Bus, colour: str, pool: ThreadPoolExecutor, see: Callable[[], object], **options: Any
) -> None:
    """Have `see` called in a handler of the given colour."""

    async def handle(placed: Placed) -> None:
        see()

    where: dict[str, Any] = {"inline": {}, "executor": {"executor": pool}}
    if colour == "async":
        bus.subscribe(Placed, handle, **options)
    else:
        options |= where.get(colour, {"executor": colour})
        bus.subscribe(Placed, lambda placed: see(), **options)


def settle(bus: Bus) -> None:
    """Pump, and let time pass, until everything is handled."""
    runtime = bus._runtime
    assert isinstance(runtime, VirtualRuntime)
    for _ in range(10_000):
        bus.pump()
        runtime.advance(10)
        with contextlib.suppress(TimeoutError):
            bus.idle(0.001)
            return
    pytest.fail(f"not settled: {bus}")


# Inline.


def test_an_inline_handler_shares_the_publishers(bus: Bus) -> None:
    """It sees what the publisher set, and the publisher sees what it set."""
    seen = list[str]()

    def handle(placed: Placed) -> None:
        seen.append(user.get())
        user.set("handler")

    bus.subscribe(Placed, handle)
    user.set("publisher")
    bus.publish(Placed())
    assert (seen, user.get()) == (["publisher"], "handler")


def test_an_inline_handler_shares_the_publishers_where_a_loop_runs(bus: Bus) -> None:
    """It is the same in async code, beside handlers that get a copy."""
    seen = list[str]()

    def handle(placed: Placed) -> None:
        user.set("inline")

    async def handle_async(placed: Placed) -> None:
        seen.append(user.get())
        user.set("async")

    async def main() -> None:
        bus.subscribe(Placed, handle)
        bus.subscribe(Placed, handle_async)
        user.set("publisher")
        await bus.publish(Placed())
        assert user.get() == "inline"

    asyncio.run(main())
    assert seen == ["inline"]


def test_an_inline_handler_with_context_and_middleware_shares_them_too(bus: Bus) -> None:
    """A context argument and middleware are no reason for a copy."""

    @bus.middleware
    def around(placed: object) -> Iterator[None]:
        user.set(user.get() + " middleware")
        yield

    def handle(placed: Placed, context: Context) -> None:
        user.set(user.get() + " handler")

    bus.subscribe(Placed, handle)
    user.set("publisher")
    bus.publish(Placed())
    assert user.get() == "publisher middleware handler"


def test_what_an_inline_handler_left_to_await_sees_the_publishers(bus: Bus) -> None:
    """A lambda that returns a coroutine is inline, and the coroutine has a copy."""
    seen = list[str]()

    async def work() -> None:
        seen.append(user.get())
        user.set("coroutine")

    bus.subscribe(Placed, lambda placed: work())
    user.set("publisher")
    bus.publish(Placed())
    assert (seen, user.get()) == (["publisher"], "publisher")


# Elsewhere.


@pytest.mark.parametrize("colour", AWAY)
def test_a_handler_elsewhere_gets_a_copy(bus: Bus, pool: ThreadPoolExecutor, colour: str) -> None:
    """It sees what the publisher had set, and what it sets stays with it."""
    seen = list[str]()

    def see() -> None:
        seen.append(user.get())
        user.set("handler")

    subscribe(bus, colour, pool, see)
    subscribe(bus, colour, pool, see)
    user.set("publisher")
    bus.publish(Placed())
    settle(bus)
    assert (seen, user.get()) == (["publisher", "publisher"], "publisher")


@pytest.mark.parametrize("colour", AWAY)
def test_the_copy_is_made_at_publish(bus: Bus, pool: ThreadPoolExecutor, colour: str) -> None:
    """What the publisher sets afterwards is not seen, however late the handler runs."""
    seen, later = list[str](), threading.Event()

    def see() -> None:
        assert later.wait(PATIENCE)
        seen.append(user.get())

    async def main() -> None:
        user.set("before")
        bus.publish(Placed())
        user.set("after")

    if colour == "async":  # It would hold up the loop that it waits for.
        later.set()
    subscribe(bus, colour, pool, see)
    asyncio.run(main())
    later.set()
    settle(bus)
    assert seen == ["before"]


def test_an_async_handler_keeps_its_copy_while_it_awaits(bus: Bus) -> None:
    """Two publishes side by side do not see each other's, before and after an await."""
    seen = list[tuple[str, str]]()

    async def handle(placed: Placed) -> None:
        before = user.get()
        await asyncio.sleep(0)
        seen.append((before, user.get()))

    async def main() -> None:
        receipts = list[Awaitable[object]]()
        for name in ("Ada", "Grace"):
            user.set(name)
            receipts.append(bus.publish(Placed()))
        user.set("nobody")
        for receipt in receipts:
            await receipt

    bus.subscribe(Placed, handle)
    asyncio.run(main())
    assert seen == [("Ada", "Ada"), ("Grace", "Grace")]


def test_what_a_thread_handler_left_to_await_sees_a_copy(bus: Bus) -> None:
    """It runs on a loop while its thread may still be busy with the call, again and again."""
    seen = list[str]()

    async def work() -> None:
        seen.append(user.get())

    def handle(placed: Placed) -> Awaitable[None]:
        user.set(user.get() + "!")
        return work()

    bus.subscribe(Placed, handle, executor="thread")
    for number in range(100):
        user.set(str(number))
        assert bus.publish(Placed()).errors == ()
    assert seen == [f"{number}!" for number in range(100)]


@pytest.mark.parametrize("colour", AWAY)
def test_middleware_around_a_handler_elsewhere_works_on_the_copy(
    bus: Bus, pool: ThreadPoolExecutor, colour: str
) -> None:
    """The handler sees what middleware set, and the publisher does not."""
    seen = list[str]()

    @bus.middleware
    def around(placed: object) -> Iterator[None]:
        user.set(user.get() + " middleware")
        yield
        seen.append(user.get())

    subscribe(bus, colour, pool, lambda: user.set(user.get() + " handler"))
    user.set("publisher")
    bus.publish(Placed())
    settle(bus)
    assert (seen, user.get()) == (["publisher middleware handler"], "publisher")


# Later.


@pytest.mark.parametrize("colour", ["inline", *AWAY])
def test_a_delayed_event_has_the_variables_of_its_publisher(
    bus: Bus, pool: ThreadPoolExecutor, colour: str
) -> None:
    """Not those of whoever lets time pass."""
    seen = list[str]()
    subscribe(bus, colour, pool, lambda: seen.append(user.get()))
    user.set("publisher")
    bus.publish(Placed(), delay=5)
    user.set("clock")
    settle(bus)
    assert (seen, user.get()) == (["publisher"], "clock")


@pytest.mark.parametrize("colour", ["inline", *AWAY])
def test_an_event_held_by_a_pause_has_the_variables_of_its_publisher(
    bus: Bus, pool: ThreadPoolExecutor, colour: str
) -> None:
    """Not those of whoever resumes."""
    seen = list[str]()

    def see() -> None:
        seen.append(user.get())
        user.set("handler")

    subscribe(bus, colour, pool, see)
    (subscription,) = bus._registry
    subscription.pause()
    user.set("publisher")
    bus.publish(Placed())
    user.set("resumer")
    subscription.resume()
    settle(bus)
    assert (seen, user.get()) == (["publisher"], "resumer")


def test_what_an_inline_handler_left_to_await_after_a_pause_sees_a_copy(bus: Bus) -> None:
    """The held call runs inside the copy, and so does its coroutine, on the same loop."""
    seen = list[str]()

    async def work() -> None:
        seen.append(user.get())

    async def main() -> None:
        subscription = bus.subscribe(Placed, lambda placed: work())
        subscription.pause()
        user.set("publisher")
        bus.publish(Placed())
        user.set("resumer")
        subscription.resume()
        await bus.idle(PATIENCE)

    asyncio.run(main())
    assert seen == ["publisher"]


@pytest.mark.parametrize("colour", ["async", "thread", "executor"])
@pytest.mark.parametrize(
    "options",
    [{"concurrency": 1}, {"rate": Rate(1)}, {"resequence": Resequence(by="number", timeout=5)}],
    ids=["concurrency", "rate", "resequence"],
)
def test_an_event_that_waited_its_turn_has_the_variables_of_its_publisher(
    bus: Bus, pool: ThreadPoolExecutor, colour: str, options: dict[str, Any]
) -> None:
    """Not those of the event that let it go."""
    seen = list[str]()

    def publish(name: str, number: int) -> None:
        user.set(name)
        bus.publish(Placed("o1", number))

    subscribe(bus, colour, pool, lambda: seen.append(user.get()), **options)
    publish("first", 1)
    for name, number in (("fourth", 4), ("third", 3), ("second", 2)):
        contextvars.copy_context().run(publish, name, number)
    settle(bus)
    assert sorted(seen) == ["first", "fourth", "second", "third"]


@pytest.mark.parametrize("colour", AWAY)
def test_each_attempt_begins_with_the_variables_of_the_publisher(
    bus: Bus, pool: ThreadPoolExecutor, colour: str
) -> None:
    """What a failed attempt set is gone with it."""
    seen = list[str]()

    def see() -> None:
        seen.append(user.get())
        user.set("first attempt")
        if len(seen) < 3:
            raise LookupError

    subscribe(bus, colour, pool, see, retry=Retry(backoff=Backoff(initial=1)))
    user.set("publisher")
    bus.publish(Placed())
    settle(bus)
    assert seen == ["publisher"] * 3


def test_an_inline_handler_that_asks_for_later_gets_a_copy_then(bus: Bus) -> None:
    """Its second call is made elsewhere, with the variables it was published with."""
    seen = list[str]()

    def handle(placed: Placed) -> None:
        seen.append(user.get())
        if len(seen) == 1:
            raise RetryLater(1)
        user.set("handler")

    bus.subscribe(Placed, handle)
    user.set("publisher")
    bus.publish(Placed())
    user.set("after")
    settle(bus)
    assert (seen, user.get()) == (["publisher", "publisher"], "after")


def test_an_effect_has_the_variables_of_the_handler_that_published_it(bus: Bus) -> None:
    """A copy of a copy: what the first handler set reaches the second one."""
    seen = list[str]()

    def handle(placed: Placed) -> None:
        user.set("handler")
        bus.publish(Paid())

    bus.subscribe(Placed, handle, executor="thread")
    bus.subscribe(Paid, lambda paid: seen.append(user.get()), executor="thread")
    user.set("publisher")
    bus.publish(Placed())
    assert (seen, user.get()) == (["handler"], "publisher")
