"""The task of an attempt at an async handler."""

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Any

from headwater.deliver import Delivery
from headwater.runtime import running_loop


class HandlerTask(asyncio.Task[None]):
    """The task of an attempt.

    A task that is cancelled before its first step never runs its coroutine, which then cannot
    report how it ended. A done-callback would tell, at the price of one more turn of the loop
    for every handler; hearing of the cancellation itself costs nothing.
    """

    __slots__ = ("delivery",)

    delivery: Delivery

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, and say so if the handler has not begun."""
        asked = super().cancel(msg)
        # An eager task may cancel itself in its first step, before it is told its delivery.
        delivery = getattr(self, "delivery", None)
        if asked and delivery is not None and not delivery.begun:
            # Its one step is waiting on the loop already; this comes after it.
            self.add_done_callback(self._say_cancelled)
        return asked

    def _say_cancelled(self, task: "asyncio.Task[None]") -> None:
        self.delivery.cancelled()


EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""From Python 3.12 on, a task can take its first step at once, inside publish."""

EAGER_STEPS = 8
"""Every so many events deep in a story a task waits for the loop all the same, so that a long
chain of eager handlers does not use up the stack."""

deep_task: Callable[..., HandlerTask] = HandlerTask
new_task = functools.partial(HandlerTask, **EAGER) if EAGER else deep_task


def is_deep(depth: int) -> bool:
    """Whether a task for an event at this depth waits for the loop."""
    return depth % EAGER_STEPS == EAGER_STEPS - 1


def raise_on(error: BaseException) -> None:
    """Cancellation goes on to the task, KeyboardInterrupt and SystemExit to the loop."""
    if isinstance(error, Exception):
        return
    task = asyncio.current_task() if running_loop() is not None else None
    if task is not None:  # The error is on the receipt: asyncio need not report it once more.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    raise error
