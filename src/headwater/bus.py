"""The bus: the face of headwater. Subscribe, publish, run, drain.

It is longer than other files because it is the face: most of it is the signatures and texts of what
users call, and each method hands over to the room that does the work. Only the hot path is
written out here, in `Bus.publish`: an event whose handlers all run inline is delivered without
another call, lock or object than a list.
"""

import asyncio
import atexit
import contextlib
import functools
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, get_origin, overload

from headwater import message as messages
from headwater.deliver import inline_call
from headwater.dispatch import Direct
from headwater.drain import Drain
from headwater.errors import (
    BusClosed,
    InvalidHandler,
    InvalidOption,
    Unsupported,
    UsedAfterFork,
    WouldDeadlock,
)
from headwater.forward import Forward, durable_name
from headwater.handlers import Declaring, Decorator, Handlers
from headwater.lifecycle import Lifecycle
from headwater.message import Frame, Message, current_cause
from headwater.middleware import Middleware
from headwater.notebook import Cells
from headwater.observers import Observers
from headwater.options import DEFAULTS, Options, SubscribeOptions, check_options
from headwater.outcome import OnError, Outcomes
from headwater.policies.duration import Duration, seconds
from headwater.policies.field import shown
from headwater.policies.storm import MAX_DEPTH, MAX_STORY
from headwater.publishing import Publishing
from headwater.receipt import DONE, Receipt, delivery_of
from headwater.records import Record, SubscriberDied
from headwater.registry import Hit, Registry
from headwater.request import Asking, Repliers, answer, name_of_request, too_late
from headwater.runtime import Runtime, at_fork, new_id, running_loop, within
from headwater.sending import PublishOptions
from headwater.stream import Overflow, Stream, next_event, next_of
from headwater.subscription import Subscription, describe
from headwater.topology import Topology
from headwater.unfinished import Unfinished

if TYPE_CHECKING:  # What only a bus with a URL needs is imported when there is one.
    from headwater import transports
    from headwater.capabilities import Capabilities
    from headwater.deadletters import DeadLetters
    from headwater.durable import Durable
    from headwater.transactions import TransactionBlock

E = TypeVar("E")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
G = TypeVar("G", bound=Callable[..., Any])

GUARANTEES = """\
A direct bus, in this process, keeping nothing:
- order: handlers start by priority, then in order of registration; events with a key reach
  each async or thread handler one at a time, in the order they were published
- isolation: a failing handler stops neither the others nor the publisher
- retries: in this process; what is waiting when the process ends is lost
- a crash of the process loses what was not handled yet
- storms: a chain of causes is stopped at max_depth, a story at max_story
"""
DRAIN_TIMEOUT = 25.0
MAX_PENDING = 10_000
WAIT_BUFFER = 256
"""Events of a log that `Bus.wait_for` looks at together."""

_set_cause = current_cause.set
_reset_cause = current_cause.reset
_get_cause = current_cause.get

_buses: "weakref.WeakSet[Bus]" = weakref.WeakSet()


class Bus(Declaring[Subscription]):
    """Publish and subscribe.

    Without a URL the bus is direct: handlers are called in this process. With one, events go
    through an engine that keeps them. It opens at its first event, or when it is started or
    entered; on an engine, publishing alone handles nothing: handlers run from `start` on.

    Args:
        url: where events are kept: ``sqlite:///shop.db``, ``memory://``; None: nowhere, a direct
            bus.
        name: the application's name, which the durable names of its subscriptions begin with;
            an engine needs one.
        on_error: what to do with a handler's error beside isolating it: ``log``; ``raise`` an
            ExceptionGroup to whoever waits; or a function of ``(error, context)`` that returns
            ``log``, ``raise`` or ``ignore``.
        max_pending: unfinished deliveries, and unconfirmed events, the bus may have.
        max_depth: how long a chain of causes may be.
        max_story: how many events one story may have in this process.
        max_workers: worker threads; None: ``min(32, cores + 4)``.
        drain_timeout: seconds that unfinished work is given when the bus stops.
        outbox: a factory of connections to a database of yours whose ``headwater_outbox`` the bus
            relays while it runs: what ``publish(event, transaction=...)`` has put there.
        runtime: time, timers and threads; None: the real ones. Tests pass
            `headwater.testing.VirtualRuntime`.

    Raises:
        InvalidOption: an argument that makes no sense.
        UnknownTransport: there is no transport for the URL.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str | None = None,
        on_error: OnError = "log",
        max_pending: int = MAX_PENDING,
        max_depth: int = MAX_DEPTH,
        max_story: int = MAX_STORY,
        max_workers: int | None = None,
        drain_timeout: Duration = DRAIN_TIMEOUT,
        outbox: Callable[[], Any] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        engine = None if url is None else _find_engine(url)
        _check_bus_options(
            name,
            runtime,
            max_pending=max_pending,
            max_depth=max_depth,
            max_story=max_story,
            max_workers=1 if max_workers is None else max_workers,
        )
        if url is not None and name is None:
            raise InvalidOption(
                "Bus: name: expected one, since the places of its subscriptions are kept under it:"
                " Bus(url, name='shop')"
            )
        _check_outbox(outbox, url)
        self.name = name
        self._id = name or f"bus-{new_id()}"
        self._state: Literal["new", "open", "closed", "forked"] = "new"
        self._drain_timeout = seconds(drain_timeout, "Bus: drain_timeout")
        self._runtime = runtime or Runtime(max_workers)
        self._observers = Observers()
        self._unfinished: Unfinished[Any] = Unfinished(max_pending)
        self._outcomes = Outcomes(self, self._runtime, self._observers, on_error)
        life = Lifecycle if engine is None else engine.life
        rooms = self, self._runtime, self._observers, self._outcomes, self._unfinished
        self._life = life(*rooms)
        # On an engine, requests are still answered in process, and their deliveries live as such.
        self._direct = Direct(*rooms, self._life if engine is None else Lifecycle(*rooms))
        self._registry = Registry(self._prepare)
        self._registry.on_change = self._subscription_changed
        self._repliers = Repliers(self._prepare)
        self._cells: Cells[Middleware] = Cells()
        publishing = Publishing if engine is None else engine.publishing
        self._publishing = publishing(
            self,
            self._runtime,
            self._registry,
            self._direct,
            self._observers,
            self._unfinished,
            max_depth,
            max_story,
        )
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._drain = Drain(self._runtime, self._life, self._unfinished)
        self._durable: Durable | None = None
        if engine is not None and name is not None:
            self._durable = engine.durable(
                self, name, self._runtime, self._registry, self._life, self._publishing,
                self._unfinished, outbox,
            )  # fmt: skip
        self._stops: list[Callable[[], object]] = []
        weakref.finalize(self, self._runtime.close).atexit = False
        _buses.add(self)

    # Publish.

    def publish(
        self, event: object, data: object = None, **options: Unpack[PublishOptions]
    ) -> Receipt:
        """Publish an event to everybody who subscribed to it.

        In sync code it is done when this returns. Where a loop runs, it returns at once and the
        receipt may be awaited. On an engine, done means that the event is stored; inside a
        handler it is stored when the handler has succeeded.

        Args:
            event: an instance of an event class; or a dotted name.
            data: with a name, the event's data: any value, or the fields of the class that is
                registered under that name.
            options: see `PublishOptions`: key, headers, id, delay, at, new_story, immediate,
                transaction.

        Returns:
            The `Receipt`; with inline handlers only, a shared one that is done already.

        Raises:
            InvalidEvent, InvalidName, InvalidData: what is published is no event.
            InvalidOption: an unknown option, or a value that makes no sense.
            EventStorm: its story grew past ``max_depth`` or ``max_story``.
            Overloaded: there are ``max_pending`` unfinished deliveries.
            ExceptionGroup: handlers failed, and the bus was made with ``on_error="raise"``.
            PublishFailed, PublishUnknown: the engine did not store it, or may not have; from
                whoever waits.
            TooLarge: it is larger than the engine takes.
            BusClosed, UsedAfterFork: the bus cannot be used any more.
        """
        if data is None and not options:
            subscriptions: Hit = self._registry.hot[type(event)]
            if subscriptions is not None:
                cause = _get_cause()
                calls = iter(subscriptions)
                frame: Frame = [self, event, cause, calls]
                if cause is not None:
                    frame.extend(self._publishing.admit(cause, type(event)))
                token = _set_cause(frame)
                try:
                    try:
                        for subscription in calls:
                            call = subscription.call
                            result = call(event)
                            if result is not None and result is not DONE:
                                break
                        else:
                            return DONE
                    except Exception as error:
                        at = subscription  # pyright: ignore[reportPossiblyUnboundVariable]
                        return self._direct.go_on(frame, at, error, None)
                    return self._direct.go_on(frame, subscription, None, result)
                finally:
                    _reset_cause(token)
            route = self._registry.swift.get(type(event))
            if route is not None:
                return self._publishing.at_once(event, route)
        self._open()
        return self._publishing.publish(event, data, options)

    def _prepare(self, subscription: Subscription) -> Callable[[Any], Any]:
        durable: Durable | None = getattr(self, "_durable", None)
        if durable is not None and subscription.durable and not subscription.prepared:
            durable.prepare(subscription)
        middleware = self._life.colours.middleware
        if any(around.is_async for around in middleware):
            _refuse_async_middleware(subscription)
        now, tell = self._runtime.monotonic, self._life.tell
        return inline_call(subscription, self, middleware, now, tell)

    def message_of_frame(self, frame: Frame) -> Message:
        """For `headwater.message`: the message of a publish that took the hot path."""
        return self._publishing.message_of_frame(frame)

    # Subscribe.

    def _subscribe(
        self, what: tuple[object, ...], handler: Callable[..., Any], options: SubscribeOptions[Any]
    ) -> Subscription:
        self._reap()
        checked = _checked(options, handler, durable=self._durable is not None)
        subscription = self._registry.subscribe(what, handler, checked)
        if self._durable is not None:
            self._durable.added(subscription)
        return subscription

    def include(self, handlers: Handlers) -> tuple[Subscription, ...]:
        """Subscribe handlers that were declared without a bus; all of them or, on error, none."""
        _check_handlers(handlers)
        done: list[Subscription] = []
        try:
            for what, handler, options in handlers:
                done.append(self._subscribe(what, handler, options))
        except BaseException:
            for subscription in done:
                subscription.close()
            raise
        return tuple(done)

    def _subscription_changed(self, subscription: Subscription) -> None:
        if self._durable is not None:
            self._durable.changed(subscription)
        elif not subscription.holds:
            self._direct.resume(subscription)
        if subscription.dead and self._observers.all:
            self._observers.emit(
                SubscriberDied(
                    time=self._runtime.now(),
                    name=describe(subscription.what),
                    event_id="",
                    subscription=subscription.name,
                )
            )

    def _reap(self) -> None:
        self._registry.reap()

    # Ask and answer.

    @overload
    def reply(self, what: type[E], **options: Unpack[SubscribeOptions[E]]) -> Decorator[E]: ...
    @overload
    def reply(self, what: str, **options: Unpack[SubscribeOptions[Any]]) -> Callable[[F], F]: ...
    def reply(self, what: type[Any] | str, **options: Unpack[SubscribeOptions[Any]]) -> Any:
        """Decorate the one handler that replies to `what`; what it returns is the reply.

        Args:
            what: the class, or the name, of the request.
            options: as for `subscribe`, without ``retry``: a request is never retried.

        Raises:
            DuplicateName: somebody replies to it already, or another class has its name.
            InvalidHandler, InvalidName, InvalidOption, Unsupported: as for `subscribe`; a
                pattern is no name.
        """
        name_of_request(what)

        def decorate(handler: F) -> F:
            self._repliers.add(what, handler, _checked(options, handler))
            return handler

        return decorate

    @overload
    async def request(
        self,
        event: object,
        data: object = None,
        *,
        returns: type[R],
        timeout: Duration = 5.0,
        **options: Unpack[PublishOptions],
    ) -> R: ...
    @overload
    async def request(
        self,
        event: object,
        data: object = None,
        *,
        returns: None = None,
        timeout: Duration = 5.0,
        **options: Unpack[PublishOptions],
    ) -> Any: ...
    async def request(
        self,
        event: object,
        data: object = None,
        *,
        returns: type[Any] | None = None,
        timeout: Duration = 5.0,
        **options: Unpack[PublishOptions],
    ) -> Any:
        """Ask, and wait for the reply.

        Args:
            event: an instance of the request's class; or its name, with `data`.
            data: as for `publish`.
            returns: the class of the reply; plain data is made into it. None: as it comes.
            timeout: seconds, or a timedelta, after which the request expires.
            options: as for `publish`, without delay and at.

        Returns:
            What the replier returned.

        Raises:
            NoReplier: nobody replies to it.
            RemoteError: the replier failed.
            RequestTimeout: no reply within `timeout`.
            InvalidData: the reply does not make a `returns`.
        """
        self._open()
        _check_returns(returns)
        limit = seconds(timeout, "request: timeout", positive=True)
        event, data = self._repliers.made(event, data)
        message = self._publishing.request(event, data, options)
        delivery = self._direct.ask(message, self._repliers.find(message.names), Asking())
        try:
            async with within(limit):
                with contextlib.suppress(ExceptionGroup):  # Its error is on the receipt.
                    await delivery.receipt
        except TimeoutError as error:
            self._direct.life.abandon(delivery)
            raise too_late(message.name, limit) from error
        return answer(delivery.receipt.errors, delivery.result, returns)

    @overload
    def stream(
        self, what: type[E], buffer: int = 256, overflow: Overflow = "close"
    ) -> Stream[E]: ...
    @overload
    def stream(self, what: str, buffer: int = 256, overflow: Overflow = "close") -> Stream[Any]: ...
    def stream(
        self, what: type[Any] | str, buffer: int = 256, overflow: Overflow = "close"
    ) -> Stream[Any]:
        """Events from now on, as an async iterator.

        On a direct bus it gives what is published here; on an engine, what any process stores
        from the call on, whether or not this bus consumes. Nothing of it is durable: it ends
        with the bus.

        Args:
            what: a class, or a name or pattern.
            buffer: events it may hold that nobody has read yet.
            overflow: ``close`` ends it with `StreamOverflow`; ``drop_oldest`` forgets the
                oldest one; ``block``, on an engine, leaves in the log what there is no room for.

        Raises:
            InvalidOption: a buffer below 1, or an unknown overflow.
            Unsupported: ``block`` on a direct bus, where it would hold up publishers.
        """
        if self._durable is not None:
            return self._log_stream(self._durable, what, buffer, overflow)

        def subscribe(handler: Callable[[Any], None]) -> Subscription:
            return self._subscribe((what,), handler, {"name": "stream", "weak": True})

        stream: Stream[Any] = Stream.of_publishes(subscribe, buffer, overflow)
        self._streams.add(stream)
        return stream

    def _log_stream(
        self, durable: "Durable", what: type[Any] | str, buffer: int, overflow: Overflow
    ) -> Stream[Any]:
        self._open()
        follow = functools.partial(durable.follow, what)
        stream: Stream[Any] = Stream.of_log(follow, buffer, overflow)
        self._streams.add(stream)
        return stream

    @overload
    def wait_for(
        self,
        what: type[E],
        *,
        where: Callable[[E], bool] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, E]: ...
    @overload
    def wait_for(
        self,
        what: str,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def wait_for(
        self,
        what: type[Any] | str,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """The next matching event, counted from the call.

        Args:
            what: a class, or a name or pattern.
            where: only an event for which this is true.
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: none came in time; the subscription is gone then.
            BusClosed: on an engine, the bus was stopped before it came.
        """
        limit = None if timeout is None else seconds(timeout, "wait_for: timeout")
        if self._durable is not None:
            stream = self._log_stream(self._durable, what, WAIT_BUFFER, "block")
            return next_of(stream, where, limit)

        def subscribe(handler: Callable[[Any], None]) -> Subscription:
            options: SubscribeOptions[Any] = {"name": "wait_for", "once": True, "where": where}
            return self._subscribe((what,), handler, options)

        return next_event(subscribe, limit)

    # Around and beside.

    @overload
    def middleware(self, function: G, /) -> G: ...
    @overload
    def middleware(self, /, *, on: Literal["handle", "publish"] = "handle") -> Callable[[G], G]: ...
    def middleware(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        on: Literal["handle", "publish"] = "handle",
    ) -> Any:
        """Decorate a generator that goes around each handler call, or around each publish.

        It takes ``(event)`` or ``(event, context)`` and yields once; `headwater.middleware` tells
        the rest. Middleware added first is outermost. On publish, ``context.headers`` may be
        added to.

        Raises:
            InvalidHandler: no generator; or an async one where handlers run inline, or on publish.
            InvalidOption: an `on` that is neither.
        """
        if on not in ("handle", "publish"):
            raise InvalidOption(f"middleware: on: expected 'handle' or 'publish', got {on!r}")

        def decorate(function: G) -> G:
            middleware = Middleware(function)
            if on == "publish":
                self._add_publish_middleware(middleware)
            else:
                self._add_handle_middleware(middleware)
            return function

        return decorate if function is None else decorate(function)

    def _add_publish_middleware(self, middleware: Middleware) -> None:
        if middleware.is_async:
            raise InvalidHandler("middleware: publish is not awaited; expected a sync generator")
        self._publishing.middleware = self._cells.placed(
            self._publishing.middleware, middleware, middleware.name, middleware.where, "publish"
        )
        self._watch()

    def _add_handle_middleware(self, middleware: Middleware) -> None:
        if middleware.is_async:
            for subscription in self._registry:
                _refuse_async_middleware(subscription)
        colours = self._life.colours
        colours.middleware = self._cells.placed(
            tuple(colours.middleware), middleware, middleware.name, middleware.where, "handle"
        )
        self._direct.life.colours.middleware = colours.middleware
        self._registry.prepare_again()

    def observe(self, observer: Callable[[Record], R]) -> Callable[[Record], R]:
        """Decorate a function that is shown every record (`headwater.records`) from now on.

        It is called where things happen, in any thread, and should be quick. It cannot alter
        anything; what it raises is logged.
        """
        self._observers.add(observer)
        self._watch()
        return observer

    @overload
    def capture(self, what: type[E]) -> contextlib.AbstractContextManager[list[E]]: ...
    @overload
    def capture(self, what: str) -> contextlib.AbstractContextManager[list[Any]]: ...
    @contextlib.contextmanager
    def capture(self, what: type[Any] | str) -> Generator[list[Any]]:
        """For tests: a list of the matching events that are published inside the block."""
        seen: list[Any] = []
        probe = self._registry.subscribe((what,), seen.append, DEFAULTS, probe=True)
        try:
            yield seen
        finally:
            probe.close()

    @contextlib.contextmanager
    def muted(self, what: type[Any] | str) -> Generator[None]:
        """For tests: no handler gets the matching events that are published inside the block.

        For the whole bus, in all threads; blocks may be nested.
        """
        unmute = self._registry.mute((what,))
        try:
            yield
        finally:
            unmute()

    def forward(self, what: type[Any] | str, to: "Bus") -> Subscription:
        """Publish matching events on another bus too, with the same id and story.

        The header ``path`` names the buses an event has been on, and stops cycles. On an engine
        it is a subscription with a durable name, which an event leaves when the other bus has
        it: it arrives there at least once, and is stored once where ids are deduplicated.

        Raises:
            InvalidOption: `to` is no other bus; or it has no name, and this bus is on an engine.
        """
        _check_bus(to, self)
        durable = self._durable is not None
        name = durable_name(what, to.name) if durable else f"forward to {to._id}"
        relay = Forward(self._id, to._id, to._relay, durable=durable)
        return self._subscribe((what,), relay, {"name": name})

    def _relay(self, message: Message, headers: Mapping[str, str]) -> Receipt:
        self._open()
        return self._publishing.relay(message, headers)

    def pump(self, budget: Duration | None = None) -> int:
        """Run what waits for ``executor="pump"``, in this thread.

        Args:
            budget: seconds after which no further handler is begun; None: everything that
                waits when the call begins.

        Returns:
            How many handlers were run.
        """
        limit = None if budget is None else seconds(budget, "pump: budget")
        return self._direct.life.colours.pump(limit)

    def topology(self) -> Topology:
        """Who reacts to what; prints as text, shows as a picture in notebooks."""
        self._reap()
        return Topology(self._registry)

    @property
    def capabilities(self) -> "Capabilities | None":
        """What its engine can do, as values; None for a direct bus."""
        return None if self._durable is None else self._durable.transport.capabilities

    def guarantees(self) -> str:
        """What this bus promises, in plain words."""
        return GUARANTEES if self._durable is None else self._durable.guarantees()

    # What needs an engine.

    def replay(
        self,
        what: type[Any] | str,
        *,
        start: object = "beginning",
        end: object = None,
        into: Callable[..., Any],
        progress: Callable[[int, int], None] | None = None,
        may_publish: bool = False,
    ) -> Coroutine[Any, Any, int]:
        """Past events again, into one handler, in this loop; no subscription takes part.

        In the handler ``context.replaying`` is true, and publishing is an error unless it is
        allowed.

        Args:
            what: a class, or a name or pattern.
            start: ``beginning``; a position, after which it starts; or a datetime.
            end: a position, or a datetime; None: what is there now.
            into: the handler, sync or async.
            progress: called now and then with the position and the number of events so far.
            may_publish: whether the handler may publish.

        Returns:
            A coroutine that gives the number of events.

        Raises:
            ReplayFailed: the handler failed; says where to go on.
            Unsupported: on a direct bus, and on engines that keep no past events.
        """
        durable = self._needs_engine("replay()", "keeps events")
        self._open()
        return durable.replay(what, start, end, into, progress, may_publish=may_publish)

    @property
    def dead_letters(self) -> "DeadLetters":
        """Events that handlers have given up; needs an engine that keeps them.

        Raises:
            Unsupported: on a direct bus.
        """
        what = "keeps what was given up; observe Failed records"
        return self._needs_engine("dead_letters", what).dead_letters

    def transaction(self) -> "TransactionBlock":
        """A transaction of the log, for ``with`` or ``async with``; needs an engine that has one.

        What the block does through it, and publishes with ``transaction=``, is stored together
        at its end, or not at all. It holds the log's write lock meanwhile.

        Raises:
            Unsupported: on a direct bus, and on engines that are no database.
        """
        durable = self._needs_engine("transaction()", "stores events in a database")
        self._open()
        return durable.transaction()

    def _needs_engine(self, what: str, does: str) -> "Durable":
        if self._state == "forked":
            self._open()  # Which says so.
        if self._durable is None:
            raise Unsupported(f"{what} needs a transport that {does}; a direct Bus() has none")
        return self._durable

    # Run.

    def start(self) -> None:
        """Open the bus, also after it was closed; on an engine, handle events from now on.

        Async handlers run on the loop that runs here, if there is one.
        """
        if self._state == "closed":
            self._state = "new"
        self._open()
        if self._durable is not None:
            self._durable.call(self._durable.consume(running_loop()))

    def stop(self, timeout: Duration | None = None) -> None:
        """End `run`, let what is unfinished finish, and end the bus's threads.

        Inside a handler, or where a loop runs, it only asks `run` to end, unless there is
        nothing left to finish.

        Args:
            timeout: seconds; None: the bus's ``drain_timeout``. What is not finished then, or
                waits for a later time, is given up with an `Abandoned` record.

        Raises:
            WouldDeadlock: a loop runs in this thread that has work of the bus to do, and there
                is no `run` to end: use ``await bus.aclose()``.
            ExceptionGroup: errors that ``on_error="raise"`` left uncollected.
        """
        limit = self._timeout(timeout)
        asked = self._ask_run_to_end()
        if delivery_of(_get_cause()) is not None:
            return
        if asked and self._durable is not None:
            return
        if running_loop() is not None and len(self._unfinished):
            if asked:
                return
            raise WouldDeadlock(
                "stop() would stop the loop that runs in this thread; use 'await bus.aclose()',"
                " or 'async with bus:'"
            )
        if self._durable is None:
            self._drain.block(limit)
        else:
            self._durable.call(self._durable.wind_down(limit))
        self._let_go()

    def close(self) -> None:
        """`stop`, and refuse what is published later."""
        try:
            self.stop()
        finally:
            self._shut()

    async def aclose(self) -> None:
        """`close`, without blocking the loop."""
        self._ask_run_to_end()
        await self._wait_for_drain()
        self._shut()
        self._let_go(wait=False)

    async def _wait_for_drain(self) -> None:
        if self._durable is None:
            await self._drain.wait(self._drain_timeout)
            return
        wound_down = self._durable.submit(self._durable.wind_down(self._drain_timeout))
        await asyncio.shield(asyncio.wrap_future(wound_down))

    async def run(self) -> None:
        """Run until `stop` is called, or this task is cancelled; then drain."""
        self.start()
        stop = asyncio.Event()
        # Threadsafe also because a signal handler of this thread must wake the loop from its sleep.
        ask = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        self._stops.append(ask)
        try:
            await stop.wait()
        finally:
            self._stops.remove(ask)
            await self._wait_for_drain()
            self._let_go(wait=False)

    def idle(self, timeout: Duration | None = None) -> Awaitable[None]:
        """Wait until everything published here has been handled, deferred work included.

        Blocks in sync code; where a loop runs, await it.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: something is unfinished after `timeout`.
            WouldDeadlock: called in a handler of this bus, which is itself unfinished.
            ExceptionGroup: errors that ``on_error="raise"`` left uncollected.
        """
        limit = None if timeout is None else seconds(timeout, "idle: timeout")
        if delivery_of(_get_cause()) is not None:
            raise WouldDeadlock("idle() in a handler would wait for that very handler")
        self._reap()
        if self._durable is not None:
            return self._idle_engine(self._durable, limit)
        self._drain.bury()
        if running_loop() is not None:
            return self._idle(limit)
        self._unfinished.empty().wait(limit)
        self._outcomes.collect()
        return _DONE_NOTHING

    def _idle_engine(self, durable: "Durable", limit: float | None) -> Awaitable[None]:
        self._open()
        settled = durable.submit(durable.idle(limit))
        if running_loop() is not None:
            return self._idle_settled(asyncio.wrap_future(settled))
        settled.result()
        durable.collect()
        self._outcomes.collect()
        return _DONE_NOTHING

    async def _idle_settled(self, settled: Awaitable[None]) -> None:
        await settled
        if self._durable is not None:
            self._durable.collect()
        self._outcomes.collect()

    async def _idle(self, limit: float | None) -> None:
        async with within(limit):
            await self._unfinished.empty()
        self._outcomes.collect()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Bus {self.name or 'direct'}, {self._state}, {len(self._unfinished)} unfinished>"

    # Inside.

    def _open(self) -> None:
        if self._state == "open":
            return
        if self._state == "closed":
            raise BusClosed("the bus is closed: start() opens it again")
        if self._state == "forked":
            raise UsedAfterFork(
                "the bus was opened before this process was forked, and its threads did not come"
                " along: make the bus, or publish for the first time, after the fork"
            )
        if self._durable is not None:
            self._durable.open()
        self._state = "open"
        self._watch()

    def _watch(self) -> None:
        """Let events take the hot path only if nobody has to be shown them on the way."""
        quiet = (
            self._state == "open"
            and self._durable is None
            and not self._observers.all
            and not self._publishing.middleware
        )
        self._registry.watch(watched=not quiet)

    def _ask_run_to_end(self) -> bool:
        stops = tuple(self._stops)
        for stop in stops:
            with contextlib.suppress(RuntimeError):  # Its loop is closed: it has ended.
                stop()
        return bool(stops)

    def _shut(self) -> None:
        if self._state != "forked":
            self._state = "closed"
        for stream in tuple(self._streams):
            stream.end()
        self._watch()

    def _let_go(self, *, wait: bool = True) -> None:
        if self._state == "open":
            self._state = "new"
        self._watch()
        self._life.let_go()
        self._direct.life.let_go()
        if self._durable is not None:
            self._runtime.close_io()
        self._runtime.close(wait=wait)
        if self._durable is not None:
            self._durable.collect()
        self._outcomes.collect()

    def _timeout(self, timeout: Duration | None) -> float:
        return self._drain_timeout if timeout is None else seconds(timeout, "stop: timeout")

    def _finish_at_exit(self) -> None:
        if self._state == "open" and (len(self._unfinished) or self._durable is not None):
            with contextlib.suppress(Exception):
                self.stop()

    def _forked(self) -> None:
        """In the child of a fork: what was open can go on only in the parent."""
        self._registry.after_fork()
        self._runtime.after_fork()
        if self._durable is not None:
            self._durable.after_fork()
        if self._state == "open":
            self._state = "forked"
            for stream in tuple(self._streams):
                stream.abandon()
            self._unfinished.items.clear()  # It is finished there.


def _find_engine(url: str) -> "transports.Engine":
    from headwater import transports  # noqa: PLC0415  # Only a bus with a URL needs it.

    return transports.find(url)


def _checked(
    options: SubscribeOptions[Any], handler: Callable[..., Any], *, durable: bool = False
) -> Options:
    """The options of a handler; what is wrong with them is said with its name."""
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return check_options(options, name, durable=durable)


def _check_returns(returns: object) -> None:
    if returns is not None and not isinstance(returns, type) and get_origin(returns) is None:
        raise InvalidOption(f"request: returns: expected a class, got {shown(returns)}")


def _check_bus(to: object, other: Bus) -> None:
    if not isinstance(to, Bus) or to is other:
        raise InvalidOption(f"forward: to: expected another Bus, got {shown(to)}")


def _check_handlers(handlers: object) -> None:
    if not isinstance(handlers, Handlers):
        raise InvalidOption(f"include: expected Handlers, got {shown(handlers)}")


def _check_outbox(outbox: object, url: str | None) -> None:
    if outbox is not None and not callable(outbox):
        raise InvalidOption(f"Bus: outbox: expected a factory of connections, got {shown(outbox)}")
    if outbox is not None and url is None:
        raise Unsupported(
            "Bus: outbox= is relayed into a log that keeps events, and a direct Bus() keeps none:"
            " give it a URL"
        )


def _check_bus_options(name: object, runtime: object, **limits: object) -> None:
    if name is not None and (not isinstance(name, str) or not name.strip() or "," in name):
        raise InvalidOption(f"Bus: name: expected text without commas, got {shown(name)}")
    if runtime is not None and not isinstance(runtime, Runtime):
        raise InvalidOption(f"Bus: runtime: expected a Runtime, got {shown(runtime)}")
    for limit, value in limits.items():
        if type(value) is not int or value < 1:
            raise InvalidOption(f"Bus: {limit}: expected an int >= 1, got {shown(value)}")


def _refuse_async_middleware(subscription: Subscription) -> None:
    if subscription.colour not in ("async", "thread"):
        raise InvalidHandler(
            f"{subscription.name} at {subscription.handler.where} runs {subscription.colour},"
            f" and async middleware has to be awaited: use executor='thread', or make the"
            f" middleware a sync generator"
        )


class _Done:
    """An awaitable that is done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE_NOTHING: Awaitable[None] = _Done()


def _in_child() -> None:
    messages.after_fork()
    for bus in tuple(_buses):
        bus._forked()  # pyright: ignore[reportPrivateUsage]


def _at_exit() -> None:
    """The program ends: what is unfinished may finish, as if the bus had been stopped."""
    for bus in tuple(_buses):
        bus._finish_at_exit()  # pyright: ignore[reportPrivateUsage]


at_fork(_in_child)
atexit.register(_at_exit)
