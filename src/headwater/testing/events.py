"""What a bus publishes, for tests to look at and to wait for."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar, overload

from headwater.bus import Bus
from headwater.event import name_of
from headwater.policies.duration import Duration, seconds
from headwater.records import Published, Record
from headwater.registry import check_what
from headwater.runtime import Future, Lock, running_loop, within
from headwater.topic import matches

E = TypeVar("E")

PATIENCE = 5.0
"""Seconds that `Events.wait_for` waits."""


class Events(Sequence[Any]):
    """The events that a bus publishes from now on, in order; grows while a test looks at it.

    It equals a list of the same events. What handlers publish is in it too, also while it is
    staged; what other processes and other buses publish is not.

    Args:
        bus: whose events.
    """

    def __init__(self, bus: Bus) -> None:
        self._records: list[Published] = []
        self._waiting: list[tuple[Callable[[Published], bool], Future[Any]]] = []
        self._lock = Lock()
        bus.observe(self._note)

    @property
    def names(self) -> list[str]:
        """The name of each event."""
        return [record.name for record in self._records]

    @overload
    def of(self, what: type[E]) -> list[E]: ...
    @overload
    def of(self, what: str) -> list[Any]: ...
    def of(self, what: type[Any] | str) -> list[Any]:
        """Those of a class, or with a name, or whose names match a pattern."""
        wanted = _wanting(what, None)
        return [record.event for record in tuple(self._records) if wanted(record)]

    def wait_for(
        self,
        what: type[Any] | str,
        *,
        where: Callable[[Any], bool] | None = None,
        timeout: Duration = PATIENCE,
    ) -> Any:
        """The first event that matches, among those that are there and those to come.

        Args:
            what: a class, or a name or pattern.
            where: only an event for which this is true.
            timeout: seconds, or a timedelta.

        Returns:
            The event; where a loop runs, a coroutine that gives it.

        Raises:
            TimeoutError: none came in time; says what did.
        """
        limit = seconds(timeout, "wait_for: timeout")
        future: Future[Any] = Future()
        with self._lock:
            waiter = _wanting(what, where), future
            if not any(_try(waiter, record) for record in self._records):
                self._waiting.append(waiter)
        if running_loop() is not None:
            return self._await(what, future, limit)
        try:
            return future.result(limit)
        except TimeoutError:
            raise self._too_late(what, limit) from None

    def _await(
        self, what: type[Any] | str, future: "Future[Any]", limit: float
    ) -> Coroutine[Any, Any, Any]:
        async def wait() -> Any:
            try:
                async with within(limit):
                    return await asyncio.wrap_future(future)
            except TimeoutError:
                raise self._too_late(what, limit) from None

        return wait()

    def _too_late(self, what: type[Any] | str, limit: float) -> TimeoutError:
        name = what if isinstance(what, str) else name_of(what)
        seen = ", ".join(self.names[-10:]) or "nothing"
        return TimeoutError(f"no {name} within {limit:g} s; published was: {seen}")

    def _note(self, record: Record) -> None:
        if not isinstance(record, Published):
            return
        with self._lock:
            self._records.append(record)
            self._waiting = [waiter for waiter in self._waiting if not _try(waiter, record)]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [record.event for record in self._records[index]]
        return self._records[index].event

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return iter([record.event for record in self._records])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Events):
            return NotImplemented
        return list(self) == [*other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def _wanting(
    what: type[Any] | str, where: Callable[[Any], bool] | None
) -> Callable[[Published], bool]:
    (wanted,) = check_what([what])

    def wants(record: Published) -> bool:
        meant = (
            matches(wanted, record.name)
            if isinstance(wanted, str)
            else isinstance(record.event, wanted)
        )
        return meant and (where is None or where(record.event))

    return wants


def _try(waiter: tuple[Callable[[Published], bool], "Future[Any]"], record: Published) -> bool:
    """Give an event to a waiter if it is the one; true if it waits no longer."""
    wants, future = waiter
    try:
        if not wants(record):
            return False
    except Exception as error:  # Of the test's own `where`: it is told to the test.
        future.set_exception(error)
    else:
        future.set_result(record.event)
    return True
