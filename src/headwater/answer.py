"""What a call that asks the engine something gives back: awaited in async code, else asked for."""

import asyncio
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from headwater.errors import WouldDeadlock
from headwater.policies.duration import Duration, seconds
from headwater.runtime import Future, running_loop

T = TypeVar("T")


class Answer(Generic[T]):
    """The answer of the engine: ``await`` it, or take its `result` in sync code."""

    def __init__(self, future: "Future[T]") -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for it.

        Args:
            timeout: seconds, or a timedelta; None waits for as long as it takes.

        Raises:
            TimeoutError: it has not come by then.
            WouldDeadlock: a loop runs in this thread: await the answer instead.
        """
        if running_loop() is not None and not self._future.done():
            raise WouldDeadlock("result() would stop the loop that runs in this thread: await it")
        return self._future.result(None if timeout is None else seconds(timeout, "result: timeout"))

    def __repr__(self) -> str:
        return f"<Answer, {'there' if self._future.done() else 'on its way'}>"
