"""Publishing on a transport: events are sealed in the publisher's thread and handed to the engine.

Inside a handler nothing leaves at once: what it publishes is staged on its delivery, and stored
together with the settlement of its own event once it has succeeded. The id of a staged event is
derived from what it follows from, so that a handler that runs again repeats its events with the
same ids, and the log keeps them once.
"""

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

from headwater import failpoint, foreign
from headwater.arrival import Arrival
from headwater.envelope import Envelope, Wire, encode_headers, wire_of
from headwater.errors import InvalidEvent, PublishUnknown, TooLarge, Unsupported, WouldDeadlock
from headwater.event import topic_of
from headwater.message import Message, current_cause, replaying
from headwater.policies.storm import Story
from headwater.publication import STAGED, Fate, Publication, Unwritten, confirm
from headwater.publishing import Publishing
from headwater.receipt import DONE, Receipt
from headwater.registry import Route
from headwater.runtime import Lock, new_id, running_loop
from headwater.sending import Sending, check_publish
from headwater.store import keep
from headwater.transactions import Transaction, current_transaction
from headwater.transport import Guests, Outgoing

log = logging.getLogger("headwater")

MAX_STORIES = 10_000
MAX_LOST = 1_000
MAX_KNOWN = 10_000


class Outbox(Publishing):
    """Publishing on one bus that has a transport; see `Publishing` for the arguments.

    Attributes:
        send: hands an event to the transport; set when that is open.
        max_bytes: how large an encoded event may be.
        max_delay: seconds for which an event may be put by.
        lost: failures of publishes that nobody waited for.
        name: the bus's name, under which its events wait in outboxes.
        guests: who may write to the log beside its writer; None if nobody can.
    """

    send: Callable[[Outgoing], None]
    max_bytes = 1 << 20
    max_delay = 0.0
    name = ""
    guests: "Guests | None" = None

    def prepare(self) -> None:
        """Set up what a direct bus has no use for."""
        self.lost: list[BaseException] = []
        self._wires: dict[type | str, tuple[Route, Wire, tuple[Any, ...]]] = {}
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._stories_lock = Lock()

    def publish(self, event: object, data: object, options: Mapping[str, Any]) -> Receipt:
        """Publish an event; see `Bus.publish`."""
        if replaying.get():
            raise Unsupported(
                "publish: this code replays the past, and what it published then is in the log"
                " already: replay(..., may_publish=True) allows it, publishing on a direct bus is"
                " free"
            )
        if options or data is not None or self.middleware or current_cause.get() is not None:
            return super().publish(event, data, options)
        what = type(event)
        route = self._registry.route(what)
        known = self._wires.get(what)
        if known is None or known[0] is not route or self._observers.all:
            return super().publish(event, data, options)
        names, topic, version, encode = known[1]
        key = None if route.key is None else self._key(route, event)
        # As `Envelope(...)`, without the call in between: this is done for every event.
        envelope: Envelope = _new(
            Envelope,
            (new_id(), topic, key, names, version, self._runtime.now(), None, None, 0, None,
             encode(event)),
        )  # fmt: skip
        return self._hand_over(envelope, None)

    def _sending(self, options: Mapping[str, Any]) -> Sending:
        sending = check_publish(options, self._runtime.now, stores=True)
        if sending.wait is not None and sending.wait > self.max_delay:
            raise Unsupported(
                f"publish: delay: expected at most {self.max_delay:g} s, which is what the engine"
                f" can do, got {sending.wait:g} s"
            )
        if sending.transaction is not None and not isinstance(sending.transaction, Transaction):
            foreign.check_open(sending.transaction)
        return sending

    def _key(self, route: Route, event: object) -> str | None:
        assert route.key is not None
        try:
            key = route.key(event)
        except Exception as error:
            raise InvalidEvent(f"{route.names[0]}: its key cannot be read: {error!r}") from error
        return None if key is None else checked(str(key), "key")

    def _send(self, message: Message, what: type | str, sending: Sending) -> Receipt:
        route, wire, probes = self._wire(what)
        data = wire.encode(message.event)
        stage = self._stage(sending)
        if stage is not None and sending.id is None:
            message.id = stage.derived_id(message.name, message.key, data)
            if sending.new_story:
                message.correlation_id = message.id
        envelope = self._seal(message, wire, data)
        self._show(message, route, probes)
        if route.muted:
            return DONE
        due = None
        if sending.wait is not None and sending.wait > 0:
            due = self._runtime.calendar() + sending.wait
        if isinstance(sending.transaction, Transaction):
            sending.transaction.publish(envelope, due)
            return STAGED
        own = stage is not None and sending.transaction is stage.transaction
        if stage is not None and (own or sending.transaction is None):
            stage.stage(envelope, due)
            return STAGED
        if sending.transaction is not None:
            return self._keep(envelope, due, sending.transaction)
        return self._hand_over(envelope, due)

    def _keep(self, envelope: Envelope, due: float | None, given: Any) -> Receipt:
        """Put an event into the outbox of a transaction that is not the log's."""
        steps = self._kept(envelope, due, given)
        if foreign.is_awaited(given):
            return Unwritten(lambda: foreign.run_async(steps), envelope.id, _publishing_line())
        foreign.run(steps)
        return STAGED

    def _kept(self, envelope: Envelope, due: float | None, given: Any) -> foreign.Steps[None]:
        guests = self.guests
        own = guests is not None and guests.admits((yield from foreign.file_of(given)))
        if own and guests is not None and guests.append(given, envelope, due):
            return
        yield from keep(given, self.name, envelope, due, self._runtime.now())

    def _stage(self, sending: Sending) -> Arrival | None:
        """The delivery whose handler publishes here, if the event waits for its success."""
        cause = current_cause.get()
        lent = isinstance(sending.transaction, Transaction)
        if lent or sending.immediate or not isinstance(cause, Arrival):
            return None
        return cause if cause.staging(self._bus) else None

    def _show(self, message: Message, route: Route, probes: tuple[Any, ...]) -> None:
        """Let captures and observers see an event, stored or muted."""
        for probe in probes:
            probe.call(message.event)
        if self._observers.all:
            self._emit_published(message, route)

    def _wire(self, what: type | str) -> tuple[Route, Wire, tuple[Any, ...]]:
        route = self._registry.route(what)
        known = self._wires.get(what)
        if known is None or known[0] is not route:
            topic = topic_of(what) if isinstance(what, type) else route.topic
            probes = tuple(sub for sub in route.subscriptions if sub.probe)
            known = (route, wire_of(what, topic), probes)
            if not probes and not route.muted:
                if len(self._wires) > MAX_KNOWN:
                    self._wires.clear()
                self._wires[what] = known
        return known

    def _seal(self, message: Message, wire: Wire, data: bytes) -> Envelope:
        own = message.correlation_id == message.id
        envelope = Envelope(
            checked(message.id, "id"),
            wire.topic,
            None if message.key is None else checked(message.key, "key"),
            wire.names,
            wire.version,
            message.time,
            None if own else message.correlation_id,
            message.causation_id,
            message.depth,
            encode_headers(message.headers),
            data,
        )
        self._check_size(envelope)
        return envelope

    def _check_size(self, envelope: Envelope) -> None:
        size = len(envelope.data) + (len(envelope.headers) if envelope.headers else 0)
        if size > self.max_bytes:
            raise TooLarge(
                f"{envelope.name}: expected at most {self.max_bytes:,} bytes, got {size:,}: keep"
                f" large data elsewhere and publish where it is, or raise max_bytes in the URL",
                envelope.id,
            )

    def resend(self, envelope: Envelope, due: float | None) -> Receipt:
        """Give an event to the engine that has waited in an outbox.

        Raises:
            TooLarge, Overloaded: not this one, or not now.
        """
        self._check_size(envelope)
        self._unfinished.check_room(1)
        fate = Fate(envelope.id)
        self._unfinished.add(fate)
        publication = Publication(fate, _publishing_line())
        self.send(Outgoing(envelope, due, fate))
        return publication

    def _hand_over(self, envelope: Envelope, due: float | None) -> Receipt:
        """Give an event to the engine; in sync code, wait until it is stored."""
        if len(envelope.data) > self.max_bytes:
            self._check_size(envelope)
        if current_transaction.get() is not None:
            raise WouldDeadlock(
                f"{envelope.name}: this code holds the log's write lock in a transaction, and the"
                f" event would wait for it: publish with transaction=, or after the transaction"
            )
        failpoint.reach("publish.encoded")
        unfinished = self._unfinished
        if len(unfinished.items) >= unfinished.limit:
            unfinished.check_room(1)
        fate = Fate(envelope.id)
        unfinished.add(fate)
        publication = Publication(fate, _publishing_line())
        self.send(_new(Outgoing, (envelope, due, fate)))
        failpoint.reach("publish.queued")
        if running_loop() is None:
            publication.wait()
        return publication

    def relay(self, message: Message, headers: Mapping[str, str]) -> Receipt:
        """Publish another bus's message here: the same event, id, time and story."""
        plain = message.event is None or type(message.event).__module__ == "builtins"
        what = message.name if plain else type(message.event)
        route, wire, probes = self._wire(what)
        cause = current_cause.get()
        if isinstance(cause, Arrival) and cause.message is message:
            envelope = cause.envelope  # As it came, with what this program does not know of it.
        else:
            envelope = self._seal(message, wire, wire.encode(message.event))
        self._show(message, route, probes)
        if route.muted:
            return DONE
        return self._hand_over(envelope._replace(headers=encode_headers(headers)), None)

    # In the transport's threads.

    def confirmed(self, fates: Sequence[Fate | None], error: BaseException | None) -> None:
        """The engine has stored events, or refused them."""
        confirm(fates, error, self._nobody_waits)
        unfinished = self._unfinished
        unfinished.items.difference_update(fates)
        if unfinished.gates and not unfinished.items:
            unfinished.open()

    def _nobody_waits(self, fate: Fate, error: BaseException) -> None:
        log.error("publish_failed id=%s error=%s", fate.id, error)
        if len(self.lost) < MAX_LOST:
            self.lost.append(error)

    def abandon(self) -> None:
        """In the child of a fork: only the parent will know what became of these."""
        for fate in tuple(self._unfinished.items):
            if isinstance(fate, Fate):
                fate.error = PublishUnknown(
                    "this process was forked before the engine had confirmed the event: the parent"
                    " will know", fate.id,
                )  # fmt: skip
                fate.done = True

    # Stories.

    def story_of(self, correlation_id: str) -> Story:
        """The story of a correlation, as far as this process has seen it."""
        with self._stories_lock:
            story = self._stories.get(correlation_id)
            if story is None:
                story = self._stories[correlation_id] = Story()
                if len(self._stories) > MAX_STORIES:
                    self._stories.popitem(last=False)
            else:
                self._stories.move_to_end(correlation_id)
        return story


def checked(text: str, noun: str) -> str:
    """Refuse what cannot be stored as text.

    Raises:
        InvalidEvent: half of a surrogate pair, say.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = ascii(text)[:80]
        raise InvalidEvent(f"{noun}: expected text that has an encoding, got {shown}") from error
    return text


def _publishing_line() -> tuple[CodeType, int]:
    """Where publish was called: the nearest code outside this package, and how far in it."""
    frame = sys._getframe(4)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__package__") == "headwater":
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
