"""Drain: let what is accepted finish, for a while, and give up on the rest with a record."""

from typing import Any

from headwater.delayed import Delayed
from headwater.deliver import Delivery
from headwater.errors import Abandonment
from headwater.lifecycle import Lifecycle
from headwater.outcome import log
from headwater.runtime import Runtime, within
from headwater.unfinished import Unfinished


class Drain:
    """Ends the unfinished work of one bus.

    What is only waiting for a time beyond the deadline, or for somebody to resume it, is given
    up at once: waiting would not help it.
    """

    def __init__(self, runtime: Runtime, life: Lifecycle, unfinished: "Unfinished[Any]") -> None:
        self._runtime = runtime
        self._life = life
        self._unfinished = unfinished

    def block(self, timeout: float) -> None:
        """Drain in a thread without a loop."""
        self.bury()
        self._life.colours.pump(None)
        self._give_up(self._runtime.monotonic() + timeout)
        try:
            self._unfinished.empty().wait(timeout)
        except TimeoutError:
            self._give_up(None)

    async def wait(self, timeout: float) -> None:
        """Drain on a loop."""
        self.bury()
        self._life.colours.pump(None)
        self._give_up(self._runtime.monotonic() + timeout)
        try:
            async with within(timeout):
                await self._unfinished.empty()
        except TimeoutError:
            self._give_up(None)

    def bury(self) -> None:
        """End what ran on a loop that was closed: as asyncio would have cancelled it."""
        for item in self._unfinished:
            if isinstance(item, Delivery) and item.orphaned:
                self._life.cancelled(item)

    def _give_up(self, deadline: float | None) -> None:
        """Give up on what is not done by `deadline`; None: on everything."""
        for item in self._unfinished:
            if deadline is not None and not _hopeless(item, deadline):
                continue
            if isinstance(item, Delivery):
                self._life.abandon(item)
            else:
                self._forget(item)

    def _forget(self, delayed: Delayed) -> None:
        if delayed.timer is not None:
            delayed.timer.cancel()
        log.warning(
            "event_abandoned event=%s id=%s its time had not come when the bus stopped",
            delayed.message.name, delayed.message.id,
        )  # fmt: skip
        delayed.receipt.fail(Abandonment(f"{delayed.message.name}: the bus was stopped"))
        self._unfinished.discard(delayed)


def _hopeless(item: "Delivery | Delayed", deadline: float) -> bool:
    if isinstance(item, Delayed):
        return item.until > deadline
    if item.subscription.paused and item.ticket is None:
        return True
    intake = item.subscription.intake
    if intake is not None and item in intake.waiting:
        due = intake.deadline()
        return due is not None and due > deadline
    return item.resting and item.until > deadline
