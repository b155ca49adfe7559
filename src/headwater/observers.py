"""Observers: functions that are shown every record and can alter nothing."""

import logging
from collections.abc import Callable

from headwater.errors import InvalidHandler
from headwater.handler import Handler
from headwater.notebook import Cells
from headwater.records import Record

log = logging.getLogger("headwater.observers")

Observer = Callable[[Record], object]


class Observers:
    """The observers of one bus."""

    __slots__ = ("_cells", "all")

    def __init__(self) -> None:
        self._cells: Cells[Observer] = Cells()
        self.all: tuple[Observer, ...] = ()
        """Who is shown records; empty, and then no record need be made."""

    def add(self, observer: Observer) -> None:
        """Show it every record from now on.

        Raises:
            InvalidHandler: it cannot be called with one record, or is async.
        """
        known = Handler(observer)
        if known.is_async or known.pass_context is not None:
            raise InvalidHandler(
                f"observer {known.name} at {known.where}: expected a sync function of one record"
            )
        self.all = self._cells.placed(self.all, observer, known.name, known.where)

    def emit(self, record: Record) -> None:
        """Show a record to all; what an observer raises is logged and goes no further."""
        for observer in self.all:
            try:
                observer(record)
            except Exception:
                log.exception("observer_failed observer=%r record=%s", observer, type(record))
