"""From what a user publishes to a message on its way.

Everything that `Bus.publish` does beside the hot path: data is built into its class, the story
is counted, middleware is run, silence is made visible, and what is for later is put by.
"""

import functools
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from headwater import codec
from headwater.context import Context, Publisher
from headwater.delayed import Delayed
from headwater.dispatch import Direct
from headwater.errors import EventStorm, InvalidEvent, InvalidOption
from headwater.event import check_event, did_you_mean, name_of
from headwater.message import (
    CAUSE,
    DEPTH,
    EVENT,
    NO_HEADERS,
    STORY,
    Cause,
    Frame,
    Message,
    current_cause,
    lineage,
    message_of,
    path_of,
)
from headwater.middleware import Middleware, around
from headwater.observers import Observers
from headwater.policies.storm import Story, cycle
from headwater.receipt import DONE, Receipt
from headwater.records import Published, StormStopped, Unhandled
from headwater.registry import Registry, Route
from headwater.runtime import Runtime, running_loop
from headwater.sending import Sending, check_publish
from headwater.topic import check_name
from headwater.unfinished import Unfinished

log = logging.getLogger("headwater")

PLAIN = Sending()
FRESH_AFTER = 1.0
"""A delay of this many seconds begins a story's depth anew."""
MAX_WARNED = 10_000
"""Names without a handler that are remembered as warned about."""


class Publishing:
    """Publishing on one direct bus.

    Args:
        bus: the bus.
        runtime: its clock and timers.
        registry: who wants what.
        direct: delivers.
        observers: who is shown records.
        unfinished: what is accepted and not finished.
        max_depth: how long a chain of causes may be.
        max_story: how many events a story may have.
    """

    def __init__(
        self,
        bus: Publisher,
        runtime: Runtime,
        registry: Registry,
        direct: Direct,
        observers: Observers,
        unfinished: "Unfinished[Any]",
        max_depth: int,
        max_story: int,
    ) -> None:
        self.middleware: tuple[Middleware, ...] = ()
        self._bus = bus
        self._runtime = runtime
        self._registry = registry
        self._direct = direct
        self._observers = observers
        self._unfinished = unfinished
        self._max_depth = max_depth
        self._max_story = max_story
        self._warned: set[str] = set()

    def publish(self, event: object, data: object, options: Mapping[str, Any]) -> Receipt:
        """Publish an event, or data under a name; see `Bus.publish`."""
        sending = self._sending(options) if options else PLAIN
        event, what = self.resolve(event, data)
        message = self.message(event, what, sending)
        if not self.middleware:
            return self._send(message, what, sending)
        headers = dict(message.headers)
        context = Context(message, self._bus, None, headers=headers)
        message.headers = MappingProxyType(headers)
        send = functools.partial(self._send, message, what, sending)
        receipt: Receipt | None = around(self.middleware, event, context, send)
        return DONE if receipt is None else receipt

    def _sending(self, options: Mapping[str, Any]) -> Sending:
        return check_publish(options, self._runtime.now)

    def at_once(self, event: object, route: Route) -> Receipt:
        """Publish an event by its swift route: nobody has to be shown it on the way."""
        cause = current_cause.get()
        depth = 0 if cause is None else self.admit(cause, type(event))[1]
        key = None if route.key is None else _key(route, event)
        now = self._runtime.now
        message = Message(event, route.names, route.topic, key, NO_HEADERS, cause, depth, now)
        unfinished, loop = self._unfinished, running_loop()
        if len(unfinished.items) + route.pending > unfinished.limit:
            unfinished.check_room(route.pending)
        if route.swift and key is None and loop is not None:
            return self._direct.start_all(message, route.subscriptions, loop)
        frame = [self._bus, event, cause, iter(route.subscriptions), None, depth, message]
        token = current_cause.set(frame)
        try:
            return self._direct.deliver(frame, None)
        finally:
            current_cause.reset(token)

    def request(self, event: object, data: object, options: Mapping[str, Any]) -> Message:
        """The message of a request: as for a publish, but never for later.

        Raises:
            InvalidOption: ``delay`` or ``at``.
        """
        sending = check_publish(options, self._runtime.now) if options else PLAIN
        if sending.wait is not None:
            raise InvalidOption("request: expected no delay= or at=: a request is answered now")
        event, what = self.resolve(event, data)
        self._unfinished.check_room(1)
        return self.message(event, what, sending)

    def resolve(self, event: object, data: object) -> tuple[object, type[Any] | str]:
        """The event itself, and its class; its name if it has no class.

        Raises:
            InvalidEvent: neither an event nor a name with data.
            InvalidName: a name that is not dotted tokens.
            InvalidData: data that does not make the class that is registered under the name.
        """
        if not isinstance(event, str):
            check_event(event)
            if data is not None:
                raise InvalidEvent(
                    f"expected an event alone, or a name and data, got a"
                    f" {type(event).__qualname__} and data"
                )
            return event, type(event)
        registry = self._registry
        if not registry.knows(event):
            check_name(event)
        cls = registry.classes.get(event)
        if cls is None:
            return data, str(event)
        made: object = codec.build({} if data is None else data, cls, event)
        return made, cls

    def message(self, event: object, what: type | str, sending: Sending) -> Message:
        """A message for an event published here and now.

        Raises:
            EventStorm: its story has come to its end.
            DuplicateName: two classes have its name.
        """
        cause = current_cause.get()
        wait, own = sending.wait, sending.new_story
        fresh = wait is not None and wait >= FRESH_AFTER
        depth = 0 if cause is None or own else self.admit(cause, what, fresh=fresh)[1]
        route = self._registry.route(what)
        key = sending.key if sending.key is not None else _key(route, event)
        headers = NO_HEADERS if sending.headers is None else MappingProxyType(sending.headers)
        now = self._runtime.now
        message = Message(event, route.names, route.topic, key, headers, cause, depth, now)
        if sending.id is not None:
            message.id = sending.id
        if own:
            message.begin_story()
        if fresh or own:
            message.detach()
        return message

    def message_of_frame(self, frame: Frame) -> Message:
        """The message of a publish that took the hot path."""
        event: object = frame[EVENT]
        cause = frame[CAUSE]
        route = self._registry.route(type(event))
        key, now, depth = _key(route, event), self._runtime.now, frame[DEPTH]
        message = Message(event, route.names, route.topic, key, NO_HEADERS, cause, depth, now)
        message.story = frame[STORY]
        return message

    def admit(self, cause: Cause, what: type | str, *, fresh: bool = False) -> tuple[Story, int]:
        """Count one more event of the story of `cause`; a `fresh` one begins depth anew.

        Returns:
            The story, and the event's depth in it.

        Raises:
            EventStorm: the story has come to its end.
        """
        story, depth = lineage(cause)
        depth = 0 if fresh else depth + 1
        first = story.ended is None
        why = story.admit(depth, self._max_depth, self._max_story)
        if why is None:
            return story, depth
        self._stop(cause, what, depth, why, log_it=first)

    def _stop(
        self, cause: Cause, what: type | str, depth: int, why: str, *, log_it: bool
    ) -> NoReturn:
        parent = message_of(cause)
        name = what if isinstance(what, str) else name_of(what)
        path = (*path_of(cause), name)
        text = (
            f"{name} was refused: its story is {why}: {' → '.join(cycle(path))}; publish with"
            f" new_story=True, or with a delay of a second or more, if it is meant to go on"
        )
        if log_it:
            log.error("story_ended event=%s correlation=%s %s", name, parent.correlation_id, text)
            if self._observers.all:
                self._observers.emit(
                    StormStopped(
                        time=self._runtime.now(),
                        name=name,
                        event_id=parent.id,
                        correlation_id=parent.correlation_id,
                        depth=depth,
                        path=path,
                    )
                )
        raise EventStorm(text, parent.correlation_id, path)

    def relay(self, message: Message, headers: Mapping[str, str]) -> Receipt:
        """Publish another bus's message here: the same event, id, time and story."""
        what = type(message.event) if message.name == _name(message.event) else message.name
        route = self._registry.route(what)
        copy = Message(
            message.event,
            message.names,
            message.topic,
            message.key,
            headers,
            message.cause,
            message.depth,
            self._runtime.now,
        )
        for attribute in ("id", "time", "correlation_id", "causation_id", "story"):
            setattr(copy, attribute, getattr(message, attribute))
        return self._deliver(copy, route, None)

    def _send(self, message: Message, what: type | str, sending: Sending) -> Receipt:
        if sending.wait is not None:
            return self._put_by(message, what, sending.wait)
        return self._deliver(message, self._registry.route(what), None)

    def _deliver(self, message: Message, route: Route, receipt: Receipt | None) -> Receipt:
        self._unfinished.check_room(route.pending)
        if self._observers.all:
            self._emit_published(message, route)
        if route.silent:
            self._say_unhandled(message)
            if not route.subscriptions:
                return DONE
        calls = iter(route.subscriptions)
        # Not the message's cause: one that begins a story has none, and is waited for all the same.
        here = current_cause.get()
        frame = [self._bus, message.event, here, calls, None, message.depth, message]
        token = current_cause.set(frame)
        try:
            return self._direct.deliver(frame, receipt)
        finally:
            current_cause.reset(token)

    # Later.

    def _put_by(self, message: Message, what: type | str, wait: float) -> Receipt:
        self._unfinished.check_room(1)
        delayed = Delayed(message, what, self._runtime.monotonic() + max(0.0, wait))
        self._unfinished.add(delayed)
        delayed.timer = self._runtime.call_at(delayed.until, functools.partial(self._due, delayed))
        return delayed.receipt

    def _due(self, delayed: Delayed) -> None:
        """Its time has come: deliver on the publisher's loop, or else in a worker."""
        deliver = functools.partial(self._deliver_delayed_in, delayed)
        loop = delayed.loop
        if loop is not None and loop.is_running():
            if running_loop() is loop:
                deliver()
                return
            try:
                loop.call_soon_threadsafe(deliver)
            except RuntimeError:  # The publisher's loop was closed meanwhile.
                self._runtime.workers.submit(deliver)
        else:
            self._runtime.workers.submit(deliver)

    def _deliver_delayed_in(self, delayed: Delayed) -> None:
        delayed.variables.run(self._deliver_delayed, delayed)

    def _deliver_delayed(self, delayed: Delayed) -> None:
        try:
            route = self._registry.route(delayed.what)
            self._deliver(delayed.message, route, delayed.receipt)
        except Exception as error:
            # Nobody called: the error is kept for idle() and the end of the bus.
            delayed.receipt.fail(error)
            log.exception("delayed_failed event=%s", delayed.message.name)
        finally:
            self._unfinished.discard(delayed)

    # Seen.

    def _emit_published(self, message: Message, route: Route) -> None:
        self._observers.emit(
            Published(
                time=message.time,
                name=message.name,
                event_id=message.id,
                event=message.event,
                key=message.key,
                correlation_id=message.correlation_id,
                causation_id=message.causation_id,
                depth=message.depth,
                receivers=sum(not sub.probe for sub in route.subscriptions),
            )
        )

    def _say_unhandled(self, message: Message) -> None:
        name = message.name
        if name not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(name)
            hint = did_you_mean(name, self._registry.known_names() - {name})
            log.warning("event_unhandled event=%s nobody subscribed to it%s", name, hint)
        else:
            log.debug("event_unhandled event=%s", name)
        if self._observers.all:
            self._observers.emit(
                Unhandled(time=self._runtime.now(), name=name, event_id=message.id)
            )


def _key(route: Route, event: object) -> str | None:
    if route.key is None:
        return None
    try:
        key = route.key(event)
    except Exception as error:
        raise InvalidEvent(f"{route.names[0]}: its key cannot be read: {error!r}") from error
    return None if key is None else str(key)


def _name(event: object) -> str | None:
    return name_of(type(event)) if type(event).__module__ != "builtins" else None
