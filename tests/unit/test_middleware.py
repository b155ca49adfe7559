"""Middleware: generators around each handler call, and around each publish."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from headwater import Bus, Context, Retry, current
from headwater.errors import InvalidHandler
from headwater.testing import VirtualRuntime

T = TypeVar("T")
Around = Generator[None, Any, None]
AsyncAround = AsyncGenerator[None, Any]


@dataclass(frozen=True)
class Tick:
    number: int = 0


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it, for half a minute at most."""
    return asyncio.run(asyncio.wait_for(main, 30))


def publish(bus: Bus, event: object) -> tuple[BaseException, ...]:
    """Publish on a loop, wait, and tell what failed."""

    async def main() -> tuple[BaseException, ...]:
        receipt = bus.publish(event)
        await receipt
        return receipt.errors

    return run(main())


COLOURS = ("inline", "thread", "async")


def subscribe(bus: Bus, colour: str, handler: Any) -> None:
    """Subscribe a sync function of the event, to be run in one of three ways."""

    async def later(event: Tick) -> Any:
        return handler(event)

    if colour == "async":
        bus.subscribe(Tick, later)
    else:
        executor: Any = colour
        bus.subscribe(Tick, handler, executor=executor)


@pytest.mark.parametrize("colour", COLOURS)
def test_middleware_goes_around_the_call_the_first_one_outermost(colour: str) -> None:
    """Before and after, in the order of registration; one definition for every colour."""
    with Bus() as bus:
        seen = list[str]()

        @bus.middleware
        def outer(event: Tick) -> Around:
            seen.append("outer before")
            yield
            seen.append("outer after")

        @bus.middleware(on="handle")
        def inner(event: Tick) -> Around:
            seen.append("inner before")
            yield
            seen.append("inner after")

        subscribe(bus, colour, lambda event: seen.append("handler"))
        assert publish(bus, Tick()) == ()
    assert seen == ["outer before", "inner before", "handler", "inner after", "outer after"]


@pytest.mark.parametrize("colour", ["thread", "async"])
def test_sync_and_async_middleware_nest(colour: str) -> None:
    """In the order of registration."""
    with Bus() as bus:
        seen = list[str]()

        @bus.middleware
        async def outer(event: Tick) -> AsyncAround:
            seen.append("outer before")
            result = yield
            seen.append(f"outer after {result}")

        @bus.middleware
        def inner(event: Tick) -> Around:
            seen.append("inner before")
            result = yield
            seen.append(f"inner after {result}")

        def handler(event: Tick) -> int:
            seen.append("handler")
            return 7

        subscribe(bus, colour, handler)
        assert publish(bus, Tick()) == ()
    assert seen == ["outer before", "inner before", "handler", "inner after 7", "outer after 7"]


def test_middleware_added_later_goes_around_what_was_subscribed_before() -> None:
    """From the next event on."""
    bus, seen = Bus(), list[object]()
    bus.subscribe(Tick, seen.append)
    bus.publish(Tick(1))

    @bus.middleware
    def note(event: Tick) -> Around:
        seen.append("around")
        yield

    bus.publish(Tick(2))
    assert seen == [Tick(1), "around", Tick(2)]


def test_middleware_goes_around_each_handler_of_an_event() -> None:
    """Once for each call, not for what is not called."""
    bus, around = Bus(), list[object]()

    @bus.middleware
    def note(event: Tick, context: Context) -> Around:
        assert context.subscription is not None
        around.append(context.subscription.name)
        yield

    for name in ("a", "b"):
        bus.subscribe(Tick, lambda event: None, name=name)
    bus.subscribe(Tick, lambda event: None, name="c", where=lambda event: event.number > 0)
    bus.publish(Tick())
    assert around == ["a", "b"]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_return_before_the_yield_skips_the_handler(colour: str) -> None:
    """And what stands inside; those outside go on as after a success."""
    with Bus() as bus:
        seen = list[object]()

        @bus.middleware
        def outer(event: Tick) -> Around:
            seen.append((yield))

        @bus.middleware
        def only_even(event: Tick) -> Around:
            if event.number % 2:
                return
            yield

        def handler(event: Tick) -> int:
            seen.append(event)
            return 7

        subscribe(bus, colour, handler)
        for number in (1, 2):
            assert publish(bus, Tick(number)) == ()
    assert seen == [None, Tick(2), 7]


@pytest.mark.parametrize("colour", COLOURS)
def test_middleware_may_swallow_an_error(colour: str) -> None:
    """Then nothing has failed."""
    with Bus() as bus:
        seen = list[object]()

        @bus.middleware
        def swallow(event: Tick) -> Around:
            try:
                yield
            except ZeroDivisionError as error:
                seen.append(type(error))

        subscribe(bus, colour, lambda event: 1 // event.number)
        assert publish(bus, Tick(0)) == ()
    assert seen == [ZeroDivisionError]


@pytest.mark.parametrize("colour", COLOURS)
def test_an_error_passes_middleware_that_leaves_it(colour: str) -> None:
    """Its finally runs, and the error is on the receipt."""
    with Bus() as bus:
        seen = list[str]()

        @bus.middleware
        def cleanup(event: Tick) -> Around:
            try:
                yield
            finally:
                seen.append("cleaned up")

        subscribe(bus, colour, lambda event: 1 // event.number)
        (error,) = publish(bus, Tick(0))
    assert isinstance(error, ZeroDivisionError)
    assert seen == ["cleaned up"]


@pytest.mark.parametrize("colour", COLOURS)
def test_middleware_may_raise_another_error(colour: str) -> None:
    """That one is on the receipt, with the first one as its cause."""
    with Bus() as bus:

        @bus.middleware
        def translate(event: Tick) -> Around:
            try:
                yield
            except ZeroDivisionError as error:
                raise ValueError("in other words") from error

        subscribe(bus, colour, lambda event: 1 // event.number)
        (error,) = publish(bus, Tick(0))
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_error_of_middleware_is_the_handlers(colour: str, moment: str) -> None:
    """Isolated like any other: the next handler is called all the same."""
    with Bus() as bus:
        others = list[object]()

        @bus.middleware
        def broken(event: Tick, context: Context) -> Around:
            assert context.subscription is not None
            mine = context.subscription.name != "other"
            if mine and moment == "before":
                raise LookupError("before")
            yield
            if mine:
                raise LookupError("after")

        subscribe(bus, colour, lambda event: None)
        bus.subscribe(Tick, others.append, name="other")
        (error,) = publish(bus, Tick())
    assert isinstance(error, LookupError)
    assert str(error) == moment
    assert others == [Tick()]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("divisor", [1, 0])
def test_two_yields_are_refused(colour: str, divisor: int) -> None:
    """Each call with such a middleware fails, after a success and after an error."""
    with Bus() as bus:
        closed = list[str]()

        @bus.middleware
        def twice(event: Tick) -> Around:
            try:
                try:
                    yield
                except ZeroDivisionError:
                    closed.append("caught")
                yield
            finally:
                closed.append("closed")

        subscribe(bus, colour, lambda event: 1 // divisor)
        (error,) = publish(bus, Tick())
    assert isinstance(error, InvalidHandler)
    assert "twice" in str(error)
    assert "expected one yield, got two" in str(error)
    assert closed == (["closed"] if divisor else ["caught", "closed"])


def test_two_yields_of_an_async_generator_are_refused() -> None:
    """As those of a sync one."""
    bus = Bus()

    @bus.middleware
    async def twice(event: Tick) -> AsyncAround:
        yield
        yield

    @bus.on(Tick)
    async def handler(event: Tick) -> None:
        pass

    (error,) = publish(bus, Tick())
    assert isinstance(error, InvalidHandler)


def test_async_middleware_and_inline_handlers_refuse_each_other() -> None:
    """Whichever comes first; what was refused is not there."""
    bus, seen = Bus(), list[object]()

    async def middleware(event: object) -> AsyncAround:
        seen.append("around")
        yield

    inline = bus.subscribe(Tick, seen.append, name="inline")
    with pytest.raises(InvalidHandler, match=r"inline at .* use executor='thread'"):
        bus.middleware(middleware)
    bus.publish(Tick())
    assert seen == [Tick()]
    inline.close()
    bus.middleware(middleware)
    with pytest.raises(InvalidHandler, match="async middleware has to be awaited"):
        bus.subscribe(Tick, seen.append)
    assert bus.topology().reactions == ()


def test_middleware_leaves_state_for_the_handler() -> None:
    """On the context of this handling, and no other's."""
    bus, seen = Bus(), list[object]()

    @bus.middleware
    def session(event: Tick, context: Context) -> Around:
        assert context.state == {}
        context.state["session"] = f"session {event.number}"
        yield

    def handler(event: Tick, context: Context) -> None:
        assert current() is context
        seen.append(context.state["session"])

    async def later(event: Tick, context: Context) -> None:
        handler(event, context)

    bus.subscribe(Tick, handler)
    bus.subscribe(Tick, later)
    publish(bus, Tick(1))
    publish(bus, Tick(2))
    assert seen == ["session 1", "session 1", "session 2", "session 2"]


def test_middleware_goes_around_every_attempt() -> None:
    """It sees the number of each."""
    runtime = VirtualRuntime()
    bus, attempts = Bus(runtime=runtime), list[int]()

    @bus.middleware
    def note(event: Tick, context: Context) -> Around:
        attempts.append(context.attempt)
        yield

    @bus.on(Tick, retry=Retry(max_attempts=2))
    def flaky(event: Tick, context: Context) -> None:
        if context.attempt == 1:
            raise ConnectionError

    bus.publish(Tick())
    runtime.advance(60)
    bus.idle(timeout=30)
    bus.close()
    assert attempts == [1, 2]


def test_publish_middleware_goes_around_the_whole_publish() -> None:
    """It may add headers, which all handlers then see, and its result is the receipt."""
    bus, seen = Bus(), list[object]()

    @bus.middleware(on="publish")
    def tenant(event: object, context: Context) -> Around:
        assert context.subscription is None
        headers: Any = context.headers
        headers["tenant"] = "north"
        seen.append(f"before {context.name}")
        receipt = yield
        seen.append(f"after, done: {receipt.done}")

    def handler(event: Tick, context: Context) -> None:
        seen.append(dict(context.headers))

    bus.subscribe(Tick, handler)
    given = {"user": "7"}
    bus.publish(Tick(), headers=given)
    assert seen == ["before Tick", {"user": "7", "tenant": "north"}, "after, done: True"]
    assert given == {"user": "7"}


def test_publish_middleware_may_skip_a_publish() -> None:
    """The receipt is done, and nobody was called."""
    bus, seen = Bus(), list[object]()

    @bus.middleware(on="publish")
    def only_even(event: Tick) -> Around:
        if event.number % 2 == 0:
            yield

    bus.subscribe(Tick, seen.append)
    assert bus.publish(Tick(1)).done
    assert bus.publish(Tick(2)).done
    assert seen == [Tick(2)]


def test_an_error_of_publish_middleware_is_the_publishers() -> None:
    """It is what the call raises."""
    bus, seen = Bus(), list[object]()

    @bus.middleware(on="publish")
    def refuse(event: Tick) -> Around:
        raise PermissionError("not today")
        yield

    bus.subscribe(Tick, seen.append)
    with pytest.raises(PermissionError, match="not today"):
        bus.publish(Tick())
    assert seen == []


def test_two_yields_around_a_publish_are_refused() -> None:
    """By the call, after everybody has got the event."""
    bus = Bus()

    @bus.middleware(on="publish")
    def twice(event: Tick) -> Around:
        yield
        yield

    bus.subscribe(Tick, lambda event: None)
    with pytest.raises(InvalidHandler, match="expected one yield, got two"):
        bus.publish(Tick())


def test_a_middleware_stays_what_it_was() -> None:
    """The decorator gives back the function, and a callable object will do as well."""
    bus, seen = Bus(), list[object]()

    def function(event: Tick) -> Around:
        yield

    class Counting:
        def __call__(self, event: Tick) -> Around:
            seen.append("counted")
            yield

    assert bus.middleware(function) is function
    assert bus.middleware(on="publish")(function) is function
    bus.middleware(Counting())
    bus.subscribe(Tick, seen.append)
    bus.publish(Tick())
    assert seen == ["counted", Tick()]
