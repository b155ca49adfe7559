"""Middleware: generators around a handler call, or around a publish.

A middleware is a generator function of ``(event)`` or ``(event, context)``. What stands before
its ``yield`` runs before the call, what stands after it afterwards; the ``yield`` gives the
result, or raises the error, of what it surrounds; a return before the ``yield`` skips the call.
One definition serves sync and async handlers. An async generator serves async handlers and
those in worker threads.
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, cast

from headwater.context import Context
from headwater.errors import InvalidHandler
from headwater.handler import Handler


class Middleware:
    """One middleware, looked at once.

    Attributes:
        is_async: it is an async generator.

    Raises:
        InvalidHandler: it is no generator function, or cannot take ``(event)`` or
            ``(event, context)``.
    """

    __slots__ = ("_handler", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._handler = Handler(function)
        core = function if inspect.isroutine(function) else type(function).__call__
        self.is_async = inspect.isasyncgenfunction(core)
        if not self.is_async and not inspect.isgeneratorfunction(core):
            raise InvalidHandler(
                f"middleware {self._handler.name} at {self._handler.where}: expected a generator"
                f" function with one yield, got {function!r}"
            )

    @property
    def name(self) -> str:
        """``module.qualname`` of its function."""
        return self._handler.name

    @property
    def where(self) -> str:
        """``file:line`` of its function."""
        return self._handler.where

    def start(self, event: object, context: Context) -> Any:
        """A new generator around one call."""
        return self._handler.call(self._handler.function, event, context)

    def yielded_twice(self) -> InvalidHandler:
        """The error of a middleware that has a second yield."""
        return InvalidHandler(
            f"middleware {self._handler.name} at {self._handler.where}: expected one yield, got two"
        )


def around(
    chain: Sequence[Middleware], event: object, context: Context, call: Callable[[], Any]
) -> Any:
    """`call` inside the generators of `chain`, the first one outermost.

    Returns:
        What `call` returned; None if a middleware skipped it or swallowed its error.
    """
    if not chain:
        return call()
    middleware = chain[0]
    generator = cast("Generator[None, Any, None]", middleware.start(event, context))
    try:
        next(generator)
    except StopIteration:
        return None
    try:
        result = around(chain[1:], event, context, call)
    except BaseException as error:
        try:
            generator.throw(error)
        except StopIteration:
            return None
    else:
        try:
            generator.send(result)
        except StopIteration:
            return result
    generator.close()
    raise middleware.yielded_twice()


async def around_async(
    chain: Sequence[Middleware],
    event: object,
    context: Context,
    call: Callable[[], Awaitable[Any]],
) -> Any:
    """The same for what has to be awaited; sync and async generators may be mixed."""
    if not chain:
        return await call()
    middleware = chain[0]
    generator = _Steps(middleware, event, context)
    if not await generator.begin():
        return None
    try:
        result = await around_async(chain[1:], event, context, call)
    except BaseException as error:
        if await generator.throw(error):
            return None
    else:
        if await generator.send(result):
            return result
    await generator.close()
    raise middleware.yielded_twice()


class _Steps:
    """The steps of a sync or async generator, awaited alike."""

    def __init__(self, middleware: Middleware, event: object, context: Context) -> None:
        self._sync: Generator[None, Any, None] | None = None
        self._async: AsyncGenerator[None, Any] | None = None
        if middleware.is_async:
            self._async = middleware.start(event, context)
        else:
            self._sync = middleware.start(event, context)

    async def begin(self) -> bool:
        """Run to the yield; false if there was none to run to."""
        return not await self.send(None)

    async def send(self, value: Any) -> bool:
        """Go on with a value; true when the generator has ended."""
        try:
            if self._async is not None:
                await self._async.asend(value)
            elif self._sync is not None:
                self._sync.send(value)
        except (StopIteration, StopAsyncIteration):
            return True
        return False

    async def throw(self, error: BaseException) -> bool:
        """Raise `error` at the yield; true when the generator swallowed it and ended."""
        try:
            if self._async is not None:
                await self._async.athrow(error)
            elif self._sync is not None:
                self._sync.throw(error)
        except (StopIteration, StopAsyncIteration):
            return True
        return False

    async def close(self) -> None:
        """Close the generator."""
        if self._async is not None:
            await self._async.aclose()
        elif self._sync is not None:
            self._sync.close()
