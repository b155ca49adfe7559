"""The programs of the suite: what other processes do with the log.

    python -m headwater.testing.conformance.worker TASK '{"url": ..., "effects": ...}'

A task notes what it did in the file of effects, and runs until it is killed or gets SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from headwater import Backoff, Bus, Context, Retry
from headwater.records import Handled, Record
from headwater.testing.conformance.effects import Effects
from headwater.testing.conformance.events import Effect, Kept, Noted

QUICK = Retry(max_attempts=3, backoff=Backoff(initial=0))


def die() -> None:
    """End this process at once, as a machine that loses power would."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def note(effects: Effects, what: str, event: Any, context: Context) -> None:
    """Note one call of a handler."""
    effects.add(
        what, number=event.number, key=context.key, id=context.event_id, attempt=context.attempt
    )


async def run(bus: Bus, effects: Effects) -> None:
    """Consume until SIGTERM, then drain."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with bus:
        effects.add("ready")
        await stop.wait()
    effects.add("drained")


async def handle(bus: Bus, effects: Effects, pause: float = 0.0, concurrency: int = 8) -> None:
    """Handle events, each in `pause` seconds."""

    async def handler(event: Noted | Kept, context: Context) -> None:
        note(effects, "begun", event, context)
        await asyncio.sleep(pause)
        note(effects, "handled", event, context)

    bus.on(Noted, Kept, name="worker", concurrency=concurrency)(handler)
    await run(bus, effects)


async def die_once(bus: Bus, effects: Effects, number: int, step: str) -> None:
    """Handle events, but be killed at one of them, the first time it comes to `step`.

    The steps are ``before`` its effect, ``after`` its effect, and ``handled``: when the handler
    has returned and the event is not settled yet.
    """
    ids: dict[str, int] = {}

    def at(here: str, arrived: int) -> None:
        if here == step and arrived == number and effects.first_time("death"):
            die()

    async def handler(event: Noted | Kept, context: Context) -> None:
        ids[context.event_id] = event.number
        at("before", event.number)
        note(effects, "handled", event, context)
        await bus.publish(Effect(f"effect of {event.number}", event.number))
        at("after", event.number)

    @bus.observe
    def observer(record: Record) -> None:
        if isinstance(record, Handled):
            at("handled", ids.get(record.event_id, -1))

    bus.on(Noted, Kept, name="worker", retry=QUICK)(handler)
    await run(bus, effects)


async def die_always(bus: Bus, effects: Effects, number: int) -> None:
    """Handle events; one of them kills the process, however often it comes."""

    async def handler(event: Noted | Kept, context: Context) -> None:
        note(effects, "begun", event, context)
        if event.number == number:
            die()
        note(effects, "handled", event, context)

    bus.on(Noted, Kept, name="worker", retry=QUICK)(handler)
    await run(bus, effects)


async def fail_at_first(bus: Bus, effects: Effects) -> None:
    """Fail at every event, with a long time until the next attempt."""
    slow = Retry(max_attempts=3, backoff=Backoff(initial=2.0, jitter=False))

    def handler(event: Noted | Kept, context: Context) -> None:
        note(effects, "failed", event, context)
        raise RuntimeError("not this time")

    bus.on(Noted, Kept, name="worker", retry=slow)(handler)
    await run(bus, effects)


async def publish(bus: Bus, effects: Effects, keys: int = 8) -> None:
    """Publish one event after the other until killed; note each one that was confirmed."""
    for number in range(1_000_000):
        effects.add("published", number=number)
        await bus.publish(Kept(f"k{number % keys}", number))
        effects.add("confirmed", number=number)


async def publish_some(bus: Bus, effects: Effects, start: int, count: int) -> None:
    """Publish some events and end."""
    receipts = [bus.publish(Noted(number)) for number in range(start, start + count)]
    for receipt in receipts:
        await receipt
    effects.add("published")
    await bus.aclose()


async def insert(bus: Bus, effects: Effects, number: int) -> None:
    """Write a row for each event in the engine's own transaction; be killed at one, once."""

    def handler(event: Noted | Kept, context: Context) -> None:
        context.transaction.execute(
            f"insert into conformance_rows values ({int(event.number)})"  # noqa: S608
        )
        if event.number == number and effects.first_time("death"):
            die()

    bus.on(Noted, Kept, name="worker", transaction=True, retry=QUICK)(handler)
    await run(bus, effects)


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (handle, die_once, die_always, fail_at_first, publish, publish_some, insert)
}


def main() -> None:
    """Run the task that the command line names."""
    arguments: dict[str, Any] = json.loads(sys.argv[2])
    bus = Bus(arguments.pop("url"), name="shop")
    effects = Effects(arguments.pop("effects"))
    with suppress(KeyboardInterrupt):
        asyncio.run(TASKS[sys.argv[1]](bus, effects, **arguments))


if __name__ == "__main__":
    main()
