"""The context: what a handler may know of the event, and of itself."""

import asyncio
import gc
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Context, Retry, current, event
from headwater.testing import VirtualRuntime


@event(name="order.placed", key="number", topic="orders")
@dataclass(frozen=True)
class Placed:
    number: int = 7


@dataclass(frozen=True)
class Reserved:
    number: int = 0


def test_it_tells_all_there_is_to_know() -> None:
    """Of an event published outside of handlers, with everything said about it."""
    bus, seen = Bus(runtime=VirtualRuntime(start=1000.0)), list[Context]()
    subscription = bus.subscribe(Placed, lambda _, context: seen.append(context))
    bus.publish(Placed(), headers={"tenant": "a"}, id="e1")
    (context,) = seen
    assert context.event_id == context.correlation_id == context.message.id == "e1"
    assert (context.name, context.key, context.topic) == ("order.placed", "7", "orders")
    assert (context.time, context.attempt, context.depth) == (1000.0, 1, 0)
    assert context.headers == {"tenant": "a"}
    assert context.causation_id is None
    assert context.bus is bus
    assert context.subscription is subscription
    assert context.state == {}
    assert (
        repr(context) == f"<Context of order.placed e1 handled by {subscription.name}, attempt 1>"
    )


def test_what_belongs_to_transports_is_empty() -> None:
    """There, so that handlers need no second version, and None."""
    bus, seen = Bus(), list[Context]()
    bus.subscribe(Placed, lambda _, context: seen.append(context))
    bus.publish(Placed())
    (context,) = seen
    assert (context.sequence, context.position, context.transaction) == (None, None, None)
    assert context.replaying is False


def test_headers_cannot_be_altered_by_handlers() -> None:
    """All handlers of an event see the same ones."""
    bus = Bus()

    @bus.on(Placed)
    def alter(order: Placed, context: Context) -> None:
        context.headers["tenant"] = "b"

    assert isinstance(bus.publish(Placed()).errors[0], TypeError)


def test_the_attempt_counts_from_one() -> None:
    """Each try has a context of its own, with an empty state."""
    runtime, seen = VirtualRuntime(), list[Context]()
    bus = Bus(runtime=runtime)

    @bus.on(Placed, retry=Retry(max_attempts=3), executor="pump")
    def fail(order: Placed, context: Context) -> None:
        seen.append(context)
        context.state["tries"] = context.state.get("tries", 0) + 1
        raise ValueError

    bus.publish(Placed())
    for _ in range(4):
        bus.pump()
        runtime.advance(60)
    assert [context.attempt for context in seen] == [1, 2, 3]
    assert [context.state for context in seen] == [{"tries": 1}] * 3
    assert len({context.event_id for context in seen}) == 1


def test_current_is_the_context_of_the_handler_that_runs() -> None:
    """Anywhere below it, whether it takes a context or not."""
    bus, seen = Bus(), list[Context | None]()

    def helper() -> None:
        seen.append(current())

    bus.subscribe(Placed, lambda _: helper())

    @bus.on(Placed)
    def compare(order: Placed, context: Context) -> None:
        helper()
        seen.append(context)

    assert current() is None
    bus.publish(Placed(), id="e1")
    assert current() is None
    plain, below, given = seen
    assert plain is not None
    assert (plain.event_id, plain.attempt, plain.bus) == ("e1", 1, bus)
    assert plain.subscription is not None
    assert "<lambda>" in plain.subscription.name
    assert below is given


def test_current_tells_which_of_the_handlers_runs() -> None:
    """Each inline handler finds its own subscription, before and after a nested publish."""
    bus, seen = Bus(), list[str]()

    def look() -> None:
        context = current()
        assert context is not None
        assert context.subscription is not None
        seen.append(f"{context.subscription.name} {context.name}")

    def nest(_: Placed) -> None:
        look()
        bus.publish(Reserved())
        look()

    bus.subscribe(Placed, lambda _: look(), name="first")
    bus.subscribe(Placed, nest, name="second")
    bus.subscribe(Placed, lambda _: look(), name="third", priority=1)
    bus.subscribe(Reserved, lambda _: look(), name="inner")
    bus.publish(Placed())
    assert seen == [
        "third order.placed",
        "first order.placed",
        "second order.placed",
        "inner Reserved",
        "second order.placed",
    ]


def test_current_works_in_threads_and_on_loops() -> None:
    """The same object that the handler was given."""
    seen: list[bool] = []

    async def soon(order: Placed, context: Context) -> None:
        await asyncio.sleep(0)
        seen.append(current() is context)

    def later(order: Placed, context: Context) -> None:
        seen.append(current() is context)

    with Bus() as bus:
        bus.subscribe(Placed, soon)
        bus.subscribe(Placed, later, executor="thread")
        bus.publish(Placed())
    assert seen == [True, True]


def test_a_thread_that_a_handler_started_is_outside() -> None:
    """Plain threads begin without context variables."""
    bus, seen = Bus(), list[Any]()

    @bus.on(Placed)
    def start(order: Placed) -> None:
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join(10)

    bus.publish(Placed())
    assert seen == [None]


def test_what_a_handler_left_behind_publishes_as_its_effect() -> None:
    """A task goes on after its handler has returned: no handler runs, and the cause is known."""

    async def main() -> None:
        bus, seen, tasks = Bus(), list[Context](), list[asyncio.Task[None]]()

        async def left_behind() -> None:
            await asyncio.sleep(0)
            assert current() is None
            await bus.publish(Reserved())

        @bus.on(Placed)
        def leave(order: Placed) -> None:
            tasks.append(asyncio.get_running_loop().create_task(left_behind()))

        bus.subscribe(Reserved, lambda _, context: seen.append(context))
        await bus.publish(Placed(), id="e1")
        await asyncio.gather(*tasks)
        assert seen[0].causation_id == "e1"

    asyncio.run(main())


def test_a_handler_publishes_through_its_context() -> None:
    """`context.bus` is the bus, so that handlers in libraries need no global one."""
    bus, seen = Bus(), list[str | None]()
    bus.subscribe(Placed, lambda _, context: context.bus.publish(Reserved(), key="k"))
    bus.subscribe(Reserved, lambda _, context: seen.append(context.key))
    bus.publish(Placed())
    assert seen == ["k"]


def test_a_handler_may_close_its_own_subscription() -> None:
    """By way of its context, while it runs."""
    bus, seen = Bus(), list[int]()

    @bus.on(Placed)
    def only_once(order: Placed, context: Context) -> None:
        seen.append(order.number)
        assert context.subscription is not None
        context.subscription.close()

    bus.publish(Placed(1))
    bus.publish(Placed(2))
    assert seen == [1]


def test_middleware_leaves_things_in_the_state() -> None:
    """What it put there is the handler's to read, for this call only."""
    bus, seen = Bus(), list[dict[str, Any]]()

    @bus.middleware
    def session(order: object, context: Context) -> Any:
        context.state["session"] = "open"
        yield
        context.state["session"] = "closed"

    bus.subscribe(Placed, lambda _, context: seen.append(dict(context.state)))
    bus.subscribe(Placed, lambda _, context: seen.append(dict(context.state)))
    bus.publish(Placed())
    assert seen == [{"session": "open"}, {"session": "open"}]


@pytest.mark.parametrize("nested", [True, False], ids=["in a handler", "outside"])
def test_an_event_is_not_kept_by_the_bus(*, nested: bool) -> None:
    """Nothing of an event stays when its handlers have returned."""

    class Big:
        """An event that can be weakly referenced."""

    bus, kept = Bus(), list[Any]()
    bus.subscribe(Big, lambda _, context: kept.append(weakref.ref(context.message.event)))
    if nested:
        bus.subscribe(Placed, lambda _: bus.publish(Big()))
        bus.publish(Placed())
    else:
        bus.publish(Big())
    gc.collect()
    assert kept[0]() is None
