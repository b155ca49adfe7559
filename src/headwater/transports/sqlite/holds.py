"""The lanes that this process owns, and what it hands out of them.

Each is read at its own pace, as far as the core has given it credit. On the bus's I/O loop.
"""

from collections.abc import Callable, Collection

from headwater import failpoint
from headwater.transport import Assigned, Batch, Event, Lane, Lost, Received, Revoking
from headwater.transports.sqlite.blocks import Blocks

SPAN = 20_000
"""Positions that one look at the log covers at most, so that it stays short."""
FAR_BEHIND = 5_000
"""Positions without an event of a lane, after which the core is told how far it was read."""


class Hold:
    """A lane that this process owns, as far as it was handed to the core."""

    __slots__ = ("credit", "epoch", "fetched", "lane", "leaving", "told")

    def __init__(self, assigned: Assigned) -> None:
        self.lane = assigned.lane
        self.epoch = assigned.epoch
        self.fetched = assigned.position
        self.told = assigned.position
        self.credit = 0
        self.leaving = False


class Holds:
    """The lanes of one process.

    Args:
        tell: tells the core of an event.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._holds: dict[Lane, Hold] = {}

    @property
    def epochs(self) -> dict[Lane, int]:
        """The lanes, and as which owner each is held."""
        return {lane: hold.epoch for lane, hold in self._holds.items()}

    def credit(self, lane: Lane, more: int) -> bool:
        """Hand out so many events more; false if the lane is not held."""
        hold = self._holds.get(lane)
        if hold is not None:
            hold.credit += more
        return hold is not None

    def drop(self, lane: Lane) -> None:
        """It is given up."""
        self._holds.pop(lane, None)

    def is_known(self, event: Event) -> bool:
        """Whether the core has been told already."""
        if isinstance(event, Revoking):
            hold = self._holds.get(event.lane)
            return hold is None or hold.leaving
        return False

    def change(self, event: Event) -> None:
        """A lane has come, has to be given up, or is lost."""
        if self.is_known(event):
            return
        if isinstance(event, Assigned):
            self._holds[event.lane] = Hold(event)
        elif isinstance(event, Lost):
            self.drop(event.lane)
        elif isinstance(event, Revoking):
            self._holds[event.lane].leaving = True
        self._tell(event)

    def hand_out(self, blocks: Blocks, head: int, paused: Collection[str]) -> bool:
        """Hand out what there is up to `head`, as far as there is credit.

        Returns:
            Whether there is more to hand out at once.
        """
        more = False
        for lane, hold in self._holds.items():
            able = hold.credit > 0 and not hold.leaving and hold.fetched < head
            if able and lane.subscription not in paused:
                more |= self._hand_out(hold, blocks, head)
        return more

    def _hand_out(self, hold: Hold, blocks: Blocks, head: int) -> bool:
        place, received = (hold.lane.topic, hold.lane.number), list[Received]()
        position, credit = hold.fetched, hold.credit
        last = position + SPAN
        while credit > 0 and position < min(head, last):
            block = blocks.at(position, head)
            rows = block.after(place, position, credit)
            received += rows
            credit -= len(rows)
            position = block.scanned if credit > 0 else rows[-1].position
        hold.fetched, hold.credit = position, credit
        if received or position - hold.told > FAR_BEHIND:
            failpoint.reach("batch.fetched")
            hold.told = position
            self._tell(Batch(hold.lane, hold.epoch, received, position))
        return credit > 0 and position < head
