"""Where a handler runs: on a loop, in a worker, in the user's executor, when pumped.

`Colours.start` makes one attempt happen in the right place, and `report` is called when it has
ended, once: each start has a ticket of its own, and whoever ends the attempt (the handler, its
timeout, a cancelled task) takes what is in it. Who finds it empty comes too late.

It is a little longer than other files, so that all who may end an attempt stand side by side.
"""

import asyncio
import contextlib
import contextvars
import functools
from asyncio import AbstractEventLoop, CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from headwater.deliver import LOST, RIGHT, Delivery, Ticket, attempt, attempt_async
from headwater.errors import HandlerTimeout
from headwater.message import current_cause
from headwater.middleware import Middleware, around
from headwater.observers import Observers
from headwater.receipt import delivery_of, to_await
from headwater.runtime import Executor, Future, Runtime, running_loop
from headwater.task import EAGER, deep_task, is_deep, new_task, raise_on


class Driver(Protocol):
    """Who is told what becomes of attempts, in whatever thread that is."""

    def ended(self, delivery: Delivery, error: BaseException | None, result: object) -> None:
        """An attempt has ended."""
        ...

    def handled(self, delivery: Delivery, result: object) -> None:
        """An attempt has succeeded, on its loop."""
        ...

    def gone_on(self, delivery: Delivery) -> None:
        """A handler goes on after its timeout."""
        ...


class Colours:
    """Starts attempts.

    Args:
        runtime: clock, timers, loop and workers.
        driver: is told how each attempt ended.
        observers: calls are timed for them.

    Attributes:
        middleware: around each call.
    """

    def __init__(self, runtime: Runtime, driver: Driver, observers: Observers) -> None:
        self.middleware: Sequence[Middleware] = ()
        self._observers = observers
        self._runtime = runtime
        self._driver = driver
        self._pumped: deque[tuple[Delivery, Ticket]] = deque()
        self._inside: MutableMapping[Executor, set[Delivery]] = WeakKeyDictionary()

    def start(self, delivery: Delivery) -> None:
        """Make one attempt at `delivery` happen."""
        subscription = delivery.subscription
        ticket = delivery.ticket = [RIGHT]
        delivery.begun = delivery.timed_out = False
        delivery.started = self._runtime.monotonic()
        colour = subscription.colour
        if colour == "async":
            self._on_loop(delivery, self._run_async, ticket)
        elif colour == "pump":
            self._pumped.append((delivery, ticket))
            delivery.defer("pump")
        elif colour in ("executor", "process"):
            self._submit(delivery, ticket)
        elif any(middleware.is_async for middleware in self.middleware):
            self._on_loop(delivery, self._run_in_worker, ticket)
        else:
            variables = _variables(delivery)
            self._runtime.workers.submit(lambda: variables.run(self.run_sync, delivery, ticket))

    def pump(self, budget: float | None) -> int:
        """Run what waits for a pump, in this thread.

        Args:
            budget: seconds after which no further handler is begun; None: no bound, but what
                was not waiting when the call began is left for the next one.

        Returns:
            How many were run.
        """
        until = None if budget is None else self._runtime.monotonic() + budget
        ran = 0
        for _ in range(len(self._pumped)):
            if until is not None and self._runtime.monotonic() >= until:
                break
            try:
                delivery, ticket = self._pumped.popleft()
            except IndexError:
                break  # Another thread pumps too.
            self._run_for_caller(delivery, ticket)
            ran += 1
        return ran

    def run_here(self, delivery: Delivery) -> None:
        """Make one attempt in this thread, now."""
        ticket = delivery.ticket = [RIGHT]
        self._run_for_caller(delivery, ticket)

    def _run_for_caller(self, delivery: Delivery, ticket: Ticket) -> None:
        """What ends everything is raised to the caller, and so need not be collected any more."""
        try:
            _variables(delivery).run(self.run_sync, delivery, ticket)
        except BaseException as error:
            delivery.receipt.raised(error)
            raise

    def run_sync(self, delivery: Delivery, ticket: Ticket) -> None:
        """One attempt of a sync handler, in this thread and context."""
        if not ticket:
            return  # It timed out, or was abandoned, before a thread was free.
        delivery.begun = True
        delivery.started = self._runtime.monotonic()
        current_cause.set(delivery)
        self._limit(delivery, ticket, None)
        error: BaseException | None = None
        result: object = None
        try:
            result = attempt(delivery, self.middleware)
        except BaseException as raised:
            error = raised
        if error is None and result is not None and to_await(result):
            delivery.variables = delivery.variables.copy()  # A context is entered only once.
            self._await(delivery, ticket, result)
        else:
            self._end(delivery, ticket, error, result)
        if error is not None and not isinstance(error, Exception):
            raise error  # Never swallowed: on the receipt, and on in this thread.

    def adopt(self, delivery: Delivery, result: Awaitable[Any]) -> None:
        """Await what an inline handler returned, as one attempt at a new delivery."""
        ticket = delivery.ticket = [RIGHT]
        delivery.started = self._runtime.monotonic()
        self._await(delivery, ticket, result)

    def _await(self, delivery: Delivery, ticket: Ticket, result: Awaitable[Any]) -> None:
        """Await what a sync handler returned, on the loop."""

        async def run(delivery: Delivery, ticket: Ticket) -> None:
            await self._awaited(delivery, ticket, _awaiting(result))

        self._on_loop(delivery, run, ticket)

    def cancel(self, delivery: Delivery) -> bool:
        """Take the attempt under way from its handler; true if nobody has ended it before."""
        taken = delivery.ticket is None or self._leave(delivery, delivery.ticket)
        if delivery.task is not None:
            self._cancel_task(delivery.task)
        return taken

    # Loops.

    def _on_loop(
        self,
        delivery: Delivery,
        run: Callable[[Delivery, Ticket], Any],
        ticket: Ticket,
    ) -> None:
        loop, here = delivery.loop, running_loop()
        if loop is not None and loop is here:
            self._spawn(loop, delivery, run, ticket)
            return
        if loop is None or not loop.is_running():
            loop = self._runtime.loop
            if here is loop:
                self._spawn(loop, delivery, run, ticket)
                return
        try:
            loop.call_soon_threadsafe(self._spawn, loop, delivery, run, ticket)
        except RuntimeError:  # The publisher's loop was closed meanwhile.
            own = self._runtime.loop
            own.call_soon_threadsafe(self._spawn, own, delivery, run, ticket)

    def spawn(self, delivery: Delivery, loop: AbstractEventLoop) -> None:
        """Make the first attempt at an async handler, on the loop that runs in this thread."""
        ticket = delivery.ticket = [RIGHT]
        run = self._run_async(delivery, ticket)
        make = deep_task if EAGER and is_deep(delivery.message.depth) else new_task
        delivery.task = task = make(run, loop=loop, context=delivery.variables)
        task.delivery = delivery
        if EAGER and task.done():  # It got to its end already, and has reported.
            delivery.task = None

    def _spawn(
        self,
        loop: AbstractEventLoop,
        delivery: Delivery,
        run: Callable[[Delivery, Ticket], Any],
        ticket: Ticket,
    ) -> None:
        if not ticket:
            return  # It was abandoned while the loop was busy.
        delivery.begun = False
        variables = _variables(delivery)
        make = deep_task if EAGER and is_deep(delivery.message.depth) else new_task
        delivery.task = task = make(run(delivery, ticket), loop=loop, context=variables)
        task.delivery = delivery
        if EAGER and task.done():
            delivery.task = None

    def end(self, delivery: Delivery, error: BaseException) -> None:
        """End an attempt that could not report by itself."""
        if delivery.ticket is not None:
            self._end(delivery, delivery.ticket, error, None)

    async def _run_async(self, delivery: Delivery, ticket: Ticket) -> None:
        delivery.begun = True
        subscription = delivery.subscription
        if self.middleware or not subscription.simple or subscription.closed:
            await self._awaited(delivery, ticket, attempt_async(delivery, self.middleware))
            return
        # The same without its two layers: most async handlers are just a function of the event.
        if self._observers.all:
            delivery.started = self._runtime.monotonic()
        current_cause.set(delivery)
        handle: Any = subscription.handler.function
        try:
            result: object = await handle(delivery.message.event)
            ticket.pop()
        except BaseException as error:
            self._end(delivery, ticket, error, None)
            raise_on(error)
        else:
            delivery.task = None
            self._driver.handled(delivery, result)

    async def _run_in_worker(self, delivery: Delivery, ticket: Ticket) -> None:
        """A sync handler inside async middleware: the generators here, the call in a worker."""

        def call(function: Callable[[], Any]) -> Awaitable[Any]:
            future: Future[Any] = Future()
            variables = delivery.variables.copy()
            variables.run(current_cause.set, delivery)
            self._runtime.workers.submit(lambda: _settle(future, variables.run, function))
            return asyncio.wrap_future(future)

        await self._awaited(delivery, ticket, attempt_async(delivery, self.middleware, call))

    async def _awaited(self, delivery: Delivery, ticket: Ticket, coroutine: Awaitable[Any]) -> None:
        delivery.begun = True
        delivery.started = self._runtime.monotonic()
        current_cause.set(delivery)
        if delivery.subscription.options.timeout is not None:
            self._limit(delivery, ticket, asyncio.get_running_loop())
        error: BaseException | None = None
        result: object = None
        try:
            result = await coroutine
        except BaseException as raised:
            error = raised
        if delivery.timed_out and isinstance(error, CancelledError):
            error = self._timeout(delivery)
        self._end(delivery, ticket, error, result)
        if error is not None:
            raise_on(error)

    # Executors.

    def _submit(self, delivery: Delivery, ticket: Ticket) -> None:
        executor = delivery.subscription.options.executor
        assert isinstance(executor, Executor)
        if _runs_in(executor, delivery):
            delivery.defer("executor")  # All of its threads may be waiting for this very event.
        process = delivery.subscription.colour == "process"
        try:
            if not process:
                run = _variables(delivery).run
                future = executor.submit(run, self._run_inside, executor, delivery, ticket)
                future.add_done_callback(functools.partial(self._let_down, delivery, ticket))
            elif self.middleware:
                variables = _variables(delivery)
                self._runtime.workers.submit(
                    lambda: variables.run(self._run_remote, executor, delivery, ticket)
                )
            else:
                self._limit(delivery, ticket, None)
                function: Any = delivery.subscription.function()
                done: Future[Any] = executor.submit(function, delivery.message.event)
                done.add_done_callback(functools.partial(self._future_done, delivery, ticket))
        except Exception as error:  # Shut down, broken, or the event cannot be pickled.
            self._end(delivery, ticket, error, None)

    def _run_inside(self, executor: Executor, delivery: Delivery, ticket: Ticket) -> None:
        """One attempt in a thread of the user's executor, which others may be waiting for."""
        inside = self._inside.setdefault(executor, set())
        inside.add(delivery)
        try:
            self.run_sync(delivery, ticket)
        finally:
            inside.discard(delivery)

    def inside(self, executor: Executor) -> Collection[Delivery]:
        """The deliveries that occupy threads of `executor`."""
        return tuple(self._inside.get(executor, ()))

    def _let_down(self, delivery: Delivery, ticket: Ticket, future: "Future[Any]") -> None:
        """An executor that is shut down or broken lets go of what it has not begun."""
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._end(delivery, ticket, error, None)

    def _future_done(self, delivery: Delivery, ticket: Ticket, future: "Future[Any]") -> None:
        if future.cancelled():
            self._end(delivery, ticket, CancelledError(), None)
            return
        error = future.exception()
        self._end(delivery, ticket, error, None if error is not None else future.result())

    def _run_remote(self, executor: Executor, delivery: Delivery, ticket: Ticket) -> None:
        """A handler in another process inside middleware: the generators here, the call there."""
        current_cause.set(delivery)
        self._limit(delivery, ticket, None)
        function, event = delivery.subscription.function(), delivery.message.event
        error: BaseException | None = None
        result: object = None
        if function is not None:
            call = functools.partial(executor.submit, function, event)
            try:
                result = around(self.middleware, event, delivery.context, lambda: call().result())
            except BaseException as raised:
                error = raised
        self._end(delivery, ticket, error, result)

    # Ends.

    def _limit(self, delivery: Delivery, ticket: Ticket, loop: AbstractEventLoop | None) -> None:
        timeout = delivery.subscription.options.timeout
        if timeout is not None:
            when = self._runtime.monotonic() + timeout
            time_out = functools.partial(self._time_out, delivery, ticket)
            delivery.timer = self._runtime.call_at(when, time_out, loop)

    def _time_out(self, delivery: Delivery, ticket: Ticket) -> None:
        if not ticket:
            return
        delivery.timed_out = True
        if delivery.task is not None:
            self._cancel_task(delivery.task)  # Its coroutine ends the attempt.
        elif self._leave(delivery, ticket):
            self._driver.gone_on(delivery)
            self._ended(delivery, self._timeout(delivery), None)

    def _leave(self, delivery: Delivery, ticket: Ticket) -> bool:
        """Take the right from a handler that cannot be stopped; its worker is not counted on."""
        in_worker = delivery.begun and delivery.subscription.colour == "thread"
        if in_worker:
            ticket.insert(0, LOST)  # First: a worker that ends just now finds one of the two.
        if _take(ticket) is not RIGHT:
            return False
        if in_worker:
            self._runtime.workers.lost()
        return True

    def _timeout(self, delivery: Delivery) -> HandlerTimeout:
        subscription = delivery.subscription
        return HandlerTimeout(subscription.name, subscription.options.timeout or 0.0)

    def _cancel_task(self, task: "asyncio.Task[None]") -> None:
        with contextlib.suppress(RuntimeError):  # A closed loop has ended its tasks already.
            task.get_loop().call_soon_threadsafe(task.cancel)

    def _end(
        self, delivery: Delivery, ticket: Ticket, error: BaseException | None, result: object
    ) -> None:
        """Report the end of an attempt, unless somebody has."""
        right = _take(ticket)
        if right is RIGHT:
            self._ended(delivery, error, result)
        elif right is LOST:
            self._runtime.workers.found()

    def _ended(self, delivery: Delivery, error: BaseException | None, result: object) -> None:
        if delivery.timer is not None:
            delivery.timer.cancel()
            delivery.timer = None
        delivery.task = None
        self._driver.ended(delivery, error, result)


def _take(ticket: Ticket) -> str | None:
    try:
        return ticket.pop()
    except IndexError:
        return None


def _variables(delivery: Delivery) -> contextvars.Context:
    """The context to run in: the publisher's as it was, for each attempt anew."""
    if delivery.subscription.options.retry is None:
        return delivery.variables
    return delivery.variables.copy()


def _runs_in(executor: Executor, delivery: Delivery) -> bool:
    """Whether one of the causes of `delivery` occupies a thread of `executor`."""
    cause = delivery_of(delivery.message.cause)
    while isinstance(cause, Delivery):
        if cause.subscription.options.executor is executor and not cause.finished:
            return True
        cause = delivery_of(cause.message.cause)
    return False


def _settle(future: "Future[Any]", run: Callable[..., Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(run(function))
    except BaseException as error:
        future.set_exception(error)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
