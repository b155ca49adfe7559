"""Past events again, into one handler."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from headwater.context import Context, Publisher
from headwater.envelope import Decode, Envelope, arrived, decoder_of, unseal
from headwater.errors import ReplayFailed
from headwater.handler import Handler
from headwater.message import current_cause, replaying
from headwater.policies.storm import Story
from headwater.runtime import next_turn
from headwater.transport import Received

CHUNK = 1_000

Read = Callable[[int], Awaitable[tuple[Sequence[Received], int]]]


class Replay:
    """One replay.

    Args:
        bus: for contexts.
        wants: whether an event is meant.
        read: reads events after a position, and says up to where it has read.
        classes: event classes by name.
        now: the wall clock.
        into: the handler.
        may_publish: whether it may publish.
    """

    def __init__(
        self,
        bus: Publisher,
        wants: Callable[[Envelope], bool],
        read: Read,
        classes: Mapping[str, type[Any]],
        now: Callable[[], float],
        into: Callable[..., Any],
        *,
        may_publish: bool,
    ) -> None:
        self._bus = bus
        self._wants = wants
        self._read = read
        self._classes = classes
        self._now = now
        self._handler = Handler(into)
        self._may_publish = may_publish
        self._decoders: dict[tuple[str, int], Decode] = {}
        self.handled = 0

    async def run(self, after: int, end: int, told: Callable[[int, int], None] | None) -> int:
        """Hand over every event after a position up to another one.

        Returns:
            How many there were.

        Raises:
            ReplayFailed: the handler failed; says on which event.
        """
        position = after
        token = replaying.set(not self._may_publish)
        ahead = asyncio.ensure_future(self._read(position))
        try:
            while position < end:
                received, covered = await ahead
                position = max(covered, position + 1)
                if position < end:
                    ahead = asyncio.ensure_future(self._read(covered))
                if covered > end:
                    received = [each for each in received if each.position <= end]
                await self._hand_over(received)
                if told is not None:
                    told(min(position, end), self.handled)
                await next_turn()  # The loop has others to serve too.
        finally:
            replaying.reset(token)
            ahead.cancel()
        return self.handled

    async def _hand_over(self, received: Sequence[Received]) -> None:
        function: Any = self._handler.function
        plain = self._handler.pass_context is None and not self._handler.is_async
        for position, envelope in received:
            if not self._wants(envelope):
                continue
            try:
                event = unseal(envelope, self._decoder(envelope))
                result = function(event) if plain else self._call(position, envelope, event)
                if result is not None and inspect.isawaitable(result):
                    await result
            except Exception as error:
                raise ReplayFailed(
                    f"{self._handler.name} failed on {envelope.name} {envelope.id} at position"
                    f" {position}, after {self.handled} events: {error!r}; go on with"
                    f" start={position - 1}",
                    position - 1,
                    self.handled,
                ) from error
            self.handled += 1

    def _decoder(self, envelope: Envelope) -> Decode:
        kind = envelope.names, envelope.version
        decode = self._decoders.get(kind)
        if decode is None:
            decode = self._decoders[kind] = decoder_of(*kind, self._classes)
        return decode

    def _call(self, position: int, envelope: Envelope, event: object) -> Any:
        message = arrived(envelope, event, self._now, lambda correlation: Story())
        context = Context(message, self._bus, None)
        context.position, context.replaying = position, True
        token = current_cause.set(context)
        try:
            return self._handler.call(self._handler.function, event, context)
        finally:
            current_cause.reset(token)
