"""Streams: events as an async iterator, and the next event as an awaitable."""

import asyncio
import gc
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from headwater import Bus, StreamOverflow, Unsupported
from headwater.errors import InvalidOption
from headwater.stream import Stream

T = TypeVar("T")


@dataclass(frozen=True)
class Tick:
    number: int


class Late(Tick):
    pass


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it, for half a minute at most."""
    return asyncio.run(asyncio.wait_for(main, 30))


def listeners(bus: Bus) -> int:
    """How many subscriptions the bus has."""
    return len(bus.topology().reactions)


def test_a_stream_gives_what_is_published_after_the_call() -> None:
    """Not after the first look: what comes in between waits in it."""
    bus = Bus()

    async def main() -> list[int]:
        bus.publish(Tick(0))
        stream = bus.stream(Tick)
        bus.publish(Tick(1))
        bus.publish(Late(2))
        seen = [(await anext(stream)).number, (await anext(stream)).number]
        bus.publish(Tick(3))
        return [*seen, (await anext(stream)).number]

    with bus.capture(Tick):
        assert run(main()) == [1, 2, 3]


def test_a_stream_of_a_pattern_gives_classes_and_data() -> None:
    """Whatever matches by its name."""
    bus = Bus()

    async def main() -> list[object]:
        stream = bus.stream("**")
        bus.publish(Tick(1))
        bus.publish("order.placed", {"item": "book"})
        return [await anext(stream), await anext(stream)]

    assert run(main()) == [Tick(1), {"item": "book"}]


def test_a_stream_can_be_made_before_there_is_a_loop() -> None:
    """It only holds events; the loop that reads them comes later."""
    bus = Bus()
    stream = bus.stream(Tick)
    bus.publish(Tick(1))
    assert run(anext(stream)) == Tick(1)


def test_a_reader_that_waits_is_woken() -> None:
    """By an event that comes after it has begun to wait."""
    bus = Bus()

    async def main() -> Tick:
        stream = bus.stream(Tick)
        asyncio.get_running_loop().call_soon(bus.publish, Tick(1))
        return await anext(stream)

    assert run(main()) == Tick(1)


def test_two_streams_each_get_every_event() -> None:
    """They do not share."""
    bus = Bus()

    async def main() -> None:
        first, second = bus.stream(Tick), bus.stream(Tick)
        bus.publish(Tick(1))
        assert await anext(first) == Tick(1)
        assert await anext(second) == Tick(1)

    run(main())


def test_two_readers_of_one_stream_share_its_events() -> None:
    """Each event goes to one of them, none is lost."""
    bus = Bus()

    async def main() -> set[int]:
        stream = bus.stream(Tick)

        async def read() -> int:
            return (await anext(stream)).number

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        for number in range(3):
            asyncio.get_running_loop().call_soon(bus.publish, Tick(number))
        return set(await asyncio.gather(*readers))

    assert run(main()) == {0, 1, 2}


def test_a_cancelled_reader_takes_no_event_with_it() -> None:
    """The next one gets it."""
    bus = Bus()

    async def main() -> Tick:
        stream = bus.stream(Tick)
        reader = asyncio.create_task(stream._wait())
        asyncio.get_running_loop().call_soon(reader.cancel)
        with pytest.raises(asyncio.CancelledError):
            await reader
        bus.publish(Tick(1))
        return await anext(stream)

    assert run(main()) == Tick(1)


def test_an_overflow_closes_the_stream_after_what_it_holds() -> None:
    """Nothing that fitted is lost; then the reader is told, once, and it is the end."""
    bus = Bus()

    async def main() -> None:
        stream = bus.stream(Tick, buffer=2)
        for number in range(4):
            bus.publish(Tick(number))
        assert listeners(bus) == 0
        assert [await anext(stream), await anext(stream)] == [Tick(0), Tick(1)]
        with pytest.raises(StreamOverflow, match="held 2 events and one more came") as caught:
            await anext(stream)
        assert caught.value.buffer == 2
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    with bus.muted("nothing"):
        run(main())


def test_drop_oldest_keeps_the_newest() -> None:
    """As many as the buffer holds, and the stream goes on."""
    bus = Bus()

    async def main() -> None:
        stream = bus.stream(Tick, buffer=2, overflow="drop_oldest")
        for number in range(5):
            bus.publish(Tick(number))
        assert [await anext(stream), await anext(stream)] == [Tick(3), Tick(4)]
        bus.publish(Tick(5))
        assert await anext(stream) == Tick(5)

    run(main())


def test_block_would_hold_up_publishers_and_is_refused() -> None:
    """With what to use instead; nothing stays subscribed."""
    bus = Bus()
    with pytest.raises(Unsupported, match="'close' or 'drop_oldest'"):
        bus.stream(Tick, overflow="block")
    with pytest.raises(InvalidOption, match="int >= 1, got 0"):
        bus.stream(Tick, buffer=0)
    assert listeners(bus) == 0


def test_a_stream_that_nobody_holds_ends_its_subscription() -> None:
    """Dropped unread: the bus forgets it."""
    bus = Bus()
    stream = bus.stream(Tick)
    assert listeners(bus) == 1
    del stream
    gc.collect()
    assert listeners(bus) == 0


def test_a_loop_that_is_left_ends_the_subscription() -> None:
    """Whoever breaks out of ``async for`` need not close anything."""
    bus = Bus()

    async def main() -> None:
        bus_events = bus.stream(Tick)
        bus.publish(Tick(1))
        async for tick in bus_events:
            assert tick == Tick(1)
            break

    run(main())
    gc.collect()
    assert listeners(bus) == 0


def test_aclose_ends_the_loop_after_what_it_holds() -> None:
    """What was published before is still read, what comes later is not."""
    bus = Bus()

    async def main() -> list[Tick]:
        stream = bus.stream(Tick)
        bus.publish(Tick(1))
        await stream.aclose()
        await stream.aclose()  # Twice is once.
        with bus.muted(Tick):
            bus.publish(Tick(2))
        return [tick async for tick in stream]

    assert run(main()) == [Tick(1)]
    assert listeners(bus) == 0


def test_aclose_wakes_whoever_waits() -> None:
    """Every reader of it, and each finds the end."""
    bus = Bus()

    async def main() -> None:
        stream = bus.stream(Tick)

        async def read() -> list[Tick]:
            return [tick async for tick in stream]

        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(stream.aclose()))
        assert await asyncio.gather(*readers) == [[], []]

    run(main())


def test_a_stream_ends_with_its_block() -> None:
    """Also when the block ends in an error."""
    bus = Bus()

    async def main() -> None:
        async with bus.stream(Tick):
            assert listeners(bus) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert listeners(bus) == 0


def test_events_come_from_other_threads() -> None:
    """Four threads publish, one loop reads: all of it, each thread's in its order."""
    bus = Bus()
    each = 50

    def publish(start: int) -> None:
        for number in range(start, start + each):
            bus.publish(Tick(number))

    async def main() -> list[int]:
        stream = bus.stream(Tick, buffer=4 * each)
        threads = [threading.Thread(target=publish, args=(n * each,)) for n in range(4)]
        for thread in threads:
            thread.start()
        seen = [(await anext(stream)).number for _ in range(4 * each)]
        for thread in threads:
            thread.join(30)
        return seen

    seen = run(main())
    assert sorted(seen) == list(range(4 * each))
    for start in range(0, 4 * each, each):
        own = [number for number in seen if start <= number < start + each]
        assert own == list(range(start, start + each))


def test_wait_for_gives_the_next_event_after_the_call() -> None:
    """It listens before it is awaited."""
    bus = Bus()

    async def main() -> Tick:
        waiting = bus.wait_for(Tick)
        bus.publish(Tick(1))
        bus.publish(Late(2))
        return await waiting

    with bus.capture(Tick):
        assert run(main()) == Tick(1)
    assert listeners(bus) == 0


def test_wait_for_passes_over_what_is_not_meant() -> None:
    """Until one comes for which where is true."""
    bus = Bus()

    async def main() -> Tick:
        waiting = bus.wait_for(Tick, where=lambda tick: tick.number > 1)
        for number in range(4):
            bus.publish(Tick(number))
        return await waiting

    with bus.capture(Tick):
        assert run(main()) == Tick(2)
    assert listeners(bus) == 0


def test_wait_for_gives_up_after_its_timeout() -> None:
    """And its subscription is gone."""
    bus = Bus()

    async def main() -> None:
        waiting = bus.wait_for(Tick, timeout=0)
        assert listeners(bus) == 1
        with pytest.raises(TimeoutError):
            await waiting

    run(main())
    assert listeners(bus) == 0


def test_a_cancelled_wait_for_leaves_nothing() -> None:
    """Whoever gives up waiting takes the subscription along."""
    bus = Bus()

    async def main() -> None:
        task = asyncio.ensure_future(bus.wait_for(Tick))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert listeners(bus) == 0


def test_wait_for_hears_other_threads() -> None:
    """The event comes to the loop that waits."""
    bus = Bus()

    async def main() -> Tick:
        waiting = bus.wait_for(Tick, timeout=30)
        thread = threading.Thread(target=bus.publish, args=(Tick(1),))
        thread.start()
        try:
            return await waiting
        finally:
            thread.join(30)

    assert run(main()) == Tick(1)


def test_a_where_that_fails_is_the_publishers_receipt_and_nobody_elses() -> None:
    """Whoever waits goes on waiting."""
    bus = Bus()

    async def main() -> None:
        waiting = bus.wait_for(Tick, where=lambda tick: 1 // tick.number > 0)
        receipt = bus.publish(Tick(0))
        assert [type(error) for error in receipt.errors] == [ZeroDivisionError]
        bus.publish(Tick(1))
        assert await waiting == Tick(1)

    run(main())


def test_a_bus_that_is_closed_ends_its_streams() -> None:
    """Whoever reads gets what is there, and then goes on."""

    async def main() -> list[Tick]:
        bus = Bus()
        stream = bus.stream(Tick)
        reading = asyncio.ensure_future(read(stream))
        await asyncio.sleep(0)
        await bus.publish(Tick(1))
        await bus.aclose()
        return await reading

    async def read(stream: Stream[Tick]) -> list[Tick]:
        return [tick async for tick in stream]

    assert run(main()) == [Tick(1)]
