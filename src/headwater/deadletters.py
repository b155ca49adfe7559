"""Dead letters: events that were given up, with everything that is known about why."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from headwater import codec
from headwater.answer import Answer
from headwater.errors import InvalidOption, Unsupported
from headwater.event import did_you_mean
from headwater.ledger import Entry, Ledger, Letters
from headwater.policies.duration import Duration, seconds

TOO_LARGE = 1 << 63

Run = Callable[[Coroutine[Any, Any, Any]], Answer[Any]]


@dataclass(frozen=True)
class DeadLetter:
    """An event that one subscription has given up.

    Attributes:
        id: of the letter itself: what `retry`, `edit` and `discard` take.
        event_id: of the event.
        name: of the event.
        subscription: who has given it up.
        key: what orders the event, or None.
        topic: where it travelled.
        position: its place in the log.
        error: the last error's text.
        kind: the last error's class.
        traceback: where that came from; empty for what never reached a handler.
        attempts: how many were made.
        time: when it was given up, seconds since 1970, UTC.
        data: the event's data as it came, in bytes.
        parked: whether events of its key wait behind it.
        waiting: how many do.
    """

    id: int
    event_id: str
    name: str
    subscription: str
    key: str | None
    topic: str
    position: int
    error: str
    kind: str
    traceback: str
    attempts: int
    time: float
    data: bytes
    parked: bool
    waiting: int


class Filters(TypedDict, total=False):
    """Which dead letters are meant.

    Attributes:
        subscription: its durable name.
        name: of the event.
        error: the name of the error's class.
        key: of the event.
        older_than: seconds, or a timedelta, since it was given up.
    """

    subscription: str | None
    name: str | None
    error: str | None
    key: str | None
    older_than: Duration | None


class DeadLetters:
    """The dead letters of a bus; `Bus.dead_letters`.

    Letters are meant by their ids, by `Filters`, or both. Each call gives an `Answer`: await it, or
    take its ``result()``.
    """

    def __init__(self, ledger: Callable[[], Ledger], run: Run, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._run = run
        self._now = now

    def list(self, *, limit: int = 100, **filters: Unpack[Filters]) -> Answer[Sequence[DeadLetter]]:
        """The letters that match, latest first, `limit` at most."""
        return self._run(self._list(self._which((), filters), limit))

    def get(self, letter: int) -> Answer[DeadLetter | None]:
        """One letter; None if there is no such letter any more."""

        async def get() -> DeadLetter | None:
            found = await self._list(Letters(numbers=(letter,)), 1)
            return found[0] if found else None

        return self._run(get())

    def retry(self, *letters: int, **filters: Unpack[Filters]) -> Answer[int]:
        """Let handlers have them again, from the first attempt; those that are parked in order.

        Returns:
            How many.

        Raises:
            InvalidOption: neither ids nor filters.
        """
        return self._run(self._retry(self._some(letters, filters)))

    def edit(self, letter: int, data: object) -> Answer[bool]:
        """Give one letter's event other data, and let its handler have it again.

        Args:
            letter: its id.
            data: plain data, or bytes of JSON.

        Returns:
            Whether there was such a letter.
        """
        encoded = data if isinstance(data, bytes) else codec.encode_data(data)
        return self._run(self._edit(letter, encoded))

    def discard(self, *letters: int, **filters: Unpack[Filters]) -> Answer[int]:
        """Forget them; what waits behind one goes on.

        Returns:
            How many.

        Raises:
            InvalidOption: neither ids nor filters.
        """
        return self._run(self._discard(self._some(letters, filters)))

    def _some(self, letters: tuple[int, ...], filters: Filters) -> Letters:
        """Those that are meant; not all of them by mistake."""
        which = self._which(letters, filters)
        if which == Letters():
            raise InvalidOption(
                "dead_letters: expected ids or filters; for all of them say older_than=0"
            )
        return which

    def _which(self, letters: tuple[int, ...], filters: Filters) -> Letters:
        for name in filters:
            if name not in Filters.__annotations__:
                hint = did_you_mean(name, Filters.__annotations__)
                raise InvalidOption(f"dead_letters: unknown filter {name!r}{hint}")
        for letter in letters:
            if type(letter) is not int or letter >= TOO_LARGE:
                raise InvalidOption(f"dead_letters: expected ids, ints, got {letter!r}")
        older_than = filters.get("older_than")
        before = None
        if older_than is not None:
            before = self._now() - seconds(older_than, "dead_letters: older_than")
        return Letters(
            letters or None,
            filters.get("subscription"),
            filters.get("name"),
            filters.get("error"),
            filters.get("key"),
            before,
        )

    async def _list(self, which: Letters, limit: int) -> Sequence[DeadLetter]:
        ledger = self._ledger()
        found = list[DeadLetter]()
        for entry in await ledger.letters(which, limit):
            waiting = await ledger.waiting(entry) if entry.parked else 0
            found.append(letter_of(entry, waiting))
        return found

    async def _retry(self, which: Letters) -> int:
        return await self._ledger().retry(which, self._now())

    async def _edit(self, letter: int, data: bytes) -> bool:
        return await self._ledger().edit(letter, data, self._now())

    async def _discard(self, which: Letters) -> int:
        return await self._ledger().discard(which)


def letter_of(entry: Entry, waiting: int) -> DeadLetter:
    """An entry of the ledger, for people."""
    envelope = entry.envelope
    return DeadLetter(
        id=entry.number,
        event_id=envelope.id,
        name=envelope.name,
        subscription=entry.subscription,
        key=envelope.key,
        topic=envelope.topic,
        position=entry.position,
        error=entry.error,
        kind=entry.kind,
        traceback=entry.traceback,
        attempts=entry.attempts,
        time=entry.time,
        data=envelope.data,
        parked=entry.parked,
        waiting=waiting,
    )


def needs_ledger(name: str) -> Unsupported:
    """The error of a bus whose engine keeps no dead letters."""
    return Unsupported(f"dead_letters need a ledger, and {name} has none: give the bus ledger=")
