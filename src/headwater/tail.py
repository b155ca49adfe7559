"""The end of a log, as one reader in this process sees it: `Bus.stream` and `Bus.wait_for`.

Nothing of it is stored, and nobody else is told: it begins where the log ends at the call, reads
on whenever something may have come, whoever published it, and is gone with its reader. Every
reader sees every event, whether or not its bus consumes.

It runs on the bus's I/O loop and looks at one chunk of the log after the other. A reader that has
no room left (``overflow="block"``) is offered the same event again when it has, and until then
nothing more is read: the log itself is the buffer.
"""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from headwater.envelope import Envelope, decoder_of, unseal
from headwater.errors import Undecodable
from headwater.runtime import Rarely, next_turn
from headwater.transport import Received, Transport

log = logging.getLogger("headwater")

CHUNK = 256
"""Positions of the log that are read at once."""


class Reader(Protocol):
    """Who takes the events; only a weak reference to it is kept."""

    def offer(self, event: Any) -> bool:
        """Take an event; false if there is no room for it now."""
        ...

    def end(self) -> None:
        """There will be no more."""
        ...


class Tail:
    """One reader of the end of a log; made and run on the I/O loop.

    Args:
        transport: the engine, opened.
        position: where to begin.
        wants: which events are meant.
        classes: event classes by name.
        reader: takes the events.
    """

    def __init__(
        self,
        transport: Transport,
        position: int,
        wants: Callable[[Envelope], bool],
        classes: Callable[[], Mapping[str, type[Any]]],
        reader: Reader,
    ) -> None:
        self._transport = transport
        self._position = position
        self._wants = wants
        self._classes = classes
        self._reader = weakref.ref(reader, lambda _: self.close())
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._rarely = Rarely(10.0)
        self._blocked = False
        self._ending = False
        self._unwatch = transport.watch(self._bell.set)
        self._task = self._loop.create_task(self._run())

    # Any thread.

    def close(self) -> None:
        """End it, in the midst of what it does."""
        with contextlib.suppress(RuntimeError):  # The loop is closed, and the tail gone with it.
            self._loop.call_soon_threadsafe(self._task.cancel)

    def go_on(self) -> None:
        """The reader has room again."""
        if self._blocked:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._bell.set)

    # The I/O loop.

    async def finish(self) -> None:
        """The bus stops: read what is there, as far as there is room, and tell the reader."""
        self._ending = True
        self._bell.set()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while True:
                self._bell.clear()
                if await self._read_on():
                    await next_turn()  # The loop has others to serve too.
                elif self._ending:
                    break
                else:
                    await self._bell.wait()
        finally:
            self._unwatch()
            reader = self._reader()
            if reader is not None:
                reader.end()

    async def _read_on(self) -> bool:
        """Hand over one chunk; false if there was nothing, or no room."""
        try:
            received, covered = await self._transport.read(None, self._position, None, CHUNK)
            classes = self._classes()
        except Exception as error:
            if self._rarely():
                log.warning("stream_trouble error=%r the stream goes on when it can", error)
            return False
        before = self._position
        if not await self._hand_over(received, classes):
            return False
        self._position = max(covered, self._position)
        return self._position > before

    async def _hand_over(
        self, received: Sequence[Received], classes: Mapping[str, type[Any]]
    ) -> bool:
        for position, envelope in received:
            if self._wants(envelope) and not await self._give(envelope, classes):
                return False
            self._position = position
        return True

    async def _give(self, envelope: Envelope, classes: Mapping[str, type[Any]]) -> bool:
        """Hand one event over, as soon as there is room; false if there will be none."""
        try:
            decode = decoder_of(envelope.names, envelope.version, classes)
            event = unseal(envelope, decode)
        except Undecodable as error:
            log.warning("stream_undecodable event=%s id=%s %s", envelope.name, envelope.id, error)
            return True
        while not self._taken(event):
            if self._ending:
                return False
            self._bell.clear()
            self._blocked = True
            # Once more: who made room in between has not seen that somebody waits for it.
            if self._taken(event):
                break
            await self._bell.wait()
        self._blocked = False
        return True

    def _taken(self, event: object) -> bool:
        reader = self._reader()
        return reader is None or reader.offer(event)
