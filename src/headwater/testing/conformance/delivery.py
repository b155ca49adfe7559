"""Delivery: what is published arrives as it was, once per subscription, wherever one looks."""

import asyncio
import threading
from dataclasses import make_dataclass
from typing import Any

import pytest

from headwater import Context, current, event
from headwater.testing.conformance.engine import Engine
from headwater.testing.conformance.events import Elsewhere, Kept, Line, Noted, Order, numbered
from headwater.testing.conformance.seen import PATIENCE, Seen, publish_all, until

PUBLISHERS = 50
EACH = 20


class Delivery(Engine):
    """Rules 1 and 3."""

    async def test_an_event_arrives_as_it_was_published(self) -> None:
        """Rule 3: data, id, name, key, topic, headers, time and attempt survive the way."""
        bus, seen = self.bus(), Seen()
        order = Order(
            "o1",
            [Line("böök", 9.5), Line("\u0000\u2028", -0.0)],
            {"a": None},
            paid=True,
            total=2**53,
        )
        bus.subscribe(Order, seen.note, name="orders")
        async with bus:
            await bus.publish(order, headers={"trace": "00-1", "empty": ""}, id="o1-placed")
            await bus.idle(PATIENCE)
        [call] = seen.calls
        assert call.event == order
        assert type(call.event) is Order
        context = call.context
        assert (context.event_id, context.name) == ("o1-placed", "conformance.Order")
        assert (context.key, context.topic) == ("o1", "events")
        assert dict(context.headers) == {"trace": "00-1", "empty": ""}
        assert (context.attempt, context.depth, context.causation_id) == (1, 0, None)
        assert context.correlation_id == "o1-placed"
        assert context.position is not None
        assert not context.replaying
        assert context.transaction is None

    async def test_plain_data_under_a_name_needs_no_class(self) -> None:
        """Rule 3: any JSON may be published under a dotted name."""
        bus, seen = self.bus(), Seen()
        bus.subscribe("plain.data", seen.note, name="plain")
        data: dict[str, Any] = {"text": "æ😀", "list": [1, 2.5, None, True], "empty": {}}
        async with bus:
            await bus.publish("plain.data", data)
            await bus.idle(PATIENCE)
        assert seen.events == [data]

    async def test_sync_and_async_handlers_get_the_same_events(self) -> None:
        """Rule 13: sync handlers run in threads, async ones on the loop that entered the bus."""
        bus, threads, loops = self.bus(), list[int](), list[Any]()

        def sync(event: Noted) -> None:
            threads.append(threading.get_ident())

        async def colour(event: Noted) -> None:
            loops.append(asyncio.get_running_loop())

        bus.subscribe(Noted, sync, name="sync")
        bus.subscribe(Noted, colour, name="async")
        async with bus:
            await publish_all(bus, numbered(5))
            await bus.idle(PATIENCE)
        assert len(threads) == len(loops) == 5
        assert threading.get_ident() not in threads
        assert set(loops) == {asyncio.get_running_loop()}

    def test_sync_programs_need_no_loop(self) -> None:
        """Rule 1: in sync code publish is done when it returns; `with bus:` consumes."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="sync")
        bus.subscribe(Noted, seen.note_async, name="async")
        with bus:
            for event in numbered(5):
                bus.publish(event)
            bus.idle(PATIENCE)
        assert sorted(seen.numbers) == sorted([*range(5), *range(5)])

    async def test_in_quiet_every_event_comes_exactly_once(self) -> None:
        """Rule 3: where nothing fails and nobody dies, nothing is delivered twice."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note_async, name="notes", concurrency=16)
        async with bus:
            await publish_all(bus, numbered(500))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(500))
        assert set(seen.attempts) == {1}

    async def test_fifty_publishers_at_once_lose_nothing(self) -> None:
        """Rule 1: what was confirmed is delivered, however many publish at a time."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")

        async def publisher(first: int) -> None:
            for number in range(first, first + EACH):
                await bus.publish(Noted(number))

        async with bus:
            await asyncio.gather(*(publisher(one * EACH) for one in range(PUBLISHERS)))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(PUBLISHERS * EACH))

    async def test_threads_may_publish(self) -> None:
        """Rule 1: publish may be called in any thread."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")

        def publisher(first: int) -> None:
            for number in range(first, first + EACH):
                bus.publish(Noted(number)).wait(PATIENCE)

        async with bus:
            await asyncio.gather(*(asyncio.to_thread(publisher, one * EACH) for one in range(4)))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == list(range(4 * EACH))

    async def test_twenty_topics_do_not_mix(self) -> None:
        """Rule 4: a subscription reads its own topics only."""
        bus, classes, seen = self.bus(), list[type[Any]](), list[Seen]()
        for number in range(20):
            made: Any = make_dataclass(f"Topical{number}", [("number", int)], frozen=True)
            mark = event(name=f"conformance.topical{number}", topic=f"topic{number}")
            classes.append(mark(made))
            seen.append(Seen())
            bus.subscribe(classes[number], seen[number].note, name=f"topic {number}")
        async with bus:
            await publish_all(bus, [made(number) for number in range(10) for made in classes])
            await bus.idle(PATIENCE)
        assert [sorted(one.numbers) for one in seen] == [list(range(10))] * 20
        assert {call.context.topic for call in seen[7].calls} == {"topic7"}

    async def test_one_subscription_may_read_two_topics(self) -> None:
        """Rule 4: the topics of a subscription are those of what it wants."""
        bus, seen = self.bus(), Seen()
        bus.on(Noted, Elsewhere, name="both")(seen.note)
        async with bus:
            await bus.publish(Noted(1))
            await bus.publish(Elsewhere(2))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == [1, 2]

    async def test_what_where_refuses_is_settled_unhandled(self) -> None:
        """Rule 3: `where` is part of the interest; what it refuses does not come again."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="even", where=lambda event: event.number % 2 == 0)
        async with bus:
            await publish_all(bus, numbered(10))
            await bus.idle(PATIENCE)
        assert sorted(seen.numbers) == [0, 2, 4, 6, 8]

    async def test_an_event_nobody_wants_is_kept_and_hinders_nobody(self) -> None:
        """Rule 1: publishing does not depend on somebody who listens."""
        bus, seen = self.bus(), Seen()
        bus.subscribe(Noted, seen.note, name="notes")
        async with bus:
            await bus.publish("conformance.nobody", {"wants": "this"})
            await bus.publish(Elsewhere(1))
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert seen.numbers == [1]

    async def test_current_is_the_context_in_both_colours(self) -> None:
        """Rule 3: `headwater.current` is the handler's context, in threads and in tasks."""
        bus, found = self.bus(), list[bool]()

        def sync(event: Noted, context: Context) -> None:
            found.append(current() is context)

        async def colour(event: Noted, context: Context) -> None:
            found.append(current() is context)

        bus.subscribe(Noted, sync, name="sync")
        bus.subscribe(Noted, colour, name="async")
        async with bus:
            await bus.publish(Noted(1))
            await bus.idle(PATIENCE)
        assert found == [True, True]
        assert current() is None

    async def test_stream_and_wait_for_see_what_comes_from_now_on(self) -> None:
        """Section 1: a stream is an ephemeral subscription from its call on."""
        bus = self.bus()
        async with bus:
            await bus.publish(Kept("k", 0))
            stream = bus.stream(Kept)
            first = asyncio.ensure_future(bus.wait_for(Kept, timeout=PATIENCE))
            await asyncio.sleep(0)
            await publish_all(bus, [Kept("k", 1), Kept("k", 2)])
            got = [await anext(stream), await anext(stream)]
            assert (await first).number == 1
            await stream.aclose()
        assert [event.number for event in got] == [1, 2]

    @pytest.mark.parametrize("concurrency", [1, 3])
    async def test_concurrency_bounds_what_runs_at_once(self, concurrency: int) -> None:
        """Rule 4: a subscription handles up to `concurrency` events at once, and uses them all."""
        bus, running, most = self.bus(), 0, 0
        full = asyncio.Event()

        async def handler(event: Noted) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == concurrency:
                full.set()
            await full.wait()
            await asyncio.sleep(0)
            running -= 1

        bus.subscribe(Noted, handler, name="bounded", concurrency=concurrency)
        async with bus:
            await publish_all(bus, numbered(40))
            await until(full.is_set, f"{concurrency} at once")
            await bus.idle(PATIENCE)
        assert most == concurrency
