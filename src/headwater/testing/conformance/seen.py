"""What handlers did, noted outside of the bus in the order it was done, and waits for it.

Nothing here sleeps for a fixed time: a test waits until something is true, and fails if it does
not become so in time. That nothing more comes is never proved by waiting, but by `Bus.idle`, or
by a later event that would have been overtaken.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from headwater import Bus, Context

T = TypeVar("T")

PATIENCE = float(os.environ.get("HEADWATER_PATIENCE", "10"))
"""Seconds after which a wait gives up; a slow machine or a far server may need more."""


async def until(
    condition: Callable[[], object], what: str | Callable[[], str], timeout: float = PATIENCE
) -> None:
    """Wait until `condition` is true.

    Args:
        condition: looked at again and again.
        what: what is awaited, for the text of the failure; a function says how far it came.
        timeout: seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 -- anything may be a condition
                await asyncio.sleep(0.005)
    except TimeoutError:
        text = what if isinstance(what, str) else what()
        raise AssertionError(f"not within {timeout:g} s: {text}") from None


async def found(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Look again and again, until something is there; that.

    Args:
        look: gives None as long as there is nothing.
        what: what is awaited, for the text of the failure.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while (it := await look()) is None:  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.005)
            return it
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from None


async def publish_all(bus: Bus, events: Iterable[object]) -> None:
    """Publish in order, and wait until the engine has confirmed all of them."""
    for receipt in [bus.publish(event) for event in events]:
        await receipt


@dataclass(frozen=True)
class Call:
    """One call of a handler."""

    event: Any
    context: Context


class Seen:
    """The calls of one handler."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def note(self, event: Any, context: Context) -> None:
        """A sync handler; an append is atomic, so that any thread may."""
        self.calls.append(Call(event, context))

    async def note_async(self, event: Any, context: Context) -> None:
        """An async handler that gives others the time to overtake it."""
        await asyncio.sleep(0)
        self.calls.append(Call(event, context))

    @property
    def events(self) -> list[Any]:
        """The events, in the order of the calls."""
        return [call.event for call in self.calls]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events, in the order of the calls."""
        return [call.event.number for call in self.calls]

    @property
    def ids(self) -> list[str]:
        """The ids of the events, in the order of the calls."""
        return [call.context.event_id for call in self.calls]

    @property
    def attempts(self) -> list[int]:
        """The attempts, in the order of the calls."""
        return [call.context.attempt for call in self.calls]

    def of(self, key: str) -> list[int]:
        """The numbers of the events with a key, in the order of the calls."""
        return [call.event.number for call in self.calls if call.event.key == key]

    @property
    def in_order(self) -> bool:
        """Whether each key's numbers rise."""
        keys = {event.key for event in self.events}
        return all(self.of(key) == sorted(self.of(key)) for key in keys)

    async def until(self, count: int) -> None:
        """Wait for so many calls."""
        await until(
            lambda: len(self.calls) >= count,
            lambda: f"{count} calls; there were {len(self.calls)}",
        )
