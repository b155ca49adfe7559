"""The parts of the log that are being read, each read from the file once.

Several subscriptions, and several lanes of each, read the same stretch of the log at their own
pace. It is read in blocks of positions, sorted by lane, and what was read lately is kept, up to a
number of bytes.
"""

import sqlite3
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from headwater.transport import Received
from headwater.transports.sqlite.log import scan, topic_names

SIZE = 512
"""Positions in a block."""
MOST_BYTES = 16 << 20
ROW_BYTES = 600
"""What a row takes in memory beside its data, roughly."""

Place = tuple[str, int]


class Block:
    """The events of a stretch of positions, by topic and lane.

    Attributes:
        end: its last position.
        scanned: up to where it was read.
        bytes: what it takes in memory.
    """

    __slots__ = ("_positions", "_rows", "bytes", "end", "scanned")

    def __init__(self, number: int) -> None:
        self.scanned = number * SIZE
        self.end = self.scanned + SIZE
        self.bytes = 0
        self._rows: dict[Place, list[Received]] = {}
        self._positions: dict[Place, list[int]] = {}

    def read_on(self, connection: sqlite3.Connection, topics: dict[int, str], head: int) -> None:
        """Read what has come since."""
        end = min(self.end, head)
        for topic, lane, received in scan(connection, topics, self.scanned, end):
            place = (topic, lane)
            rows = self._rows.get(place)
            if rows is None:
                rows = self._rows[place] = []
                self._positions[place] = []
            rows.append(received)
            self._positions[place].append(received[0])
            self.bytes += len(received[1].data) + ROW_BYTES
        self.scanned = end

    def after(self, place: Place, position: int, most: int) -> Sequence[Received]:
        """Events of a lane after a position, at most so many."""
        positions = self._positions.get(place)
        if positions is None:
            return ()
        first = bisect_right(positions, position)
        return self._rows[place][first : first + most]


class Blocks:
    """The blocks that were read lately.

    Args:
        connection: reads the log.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._topics = topic_names(connection)
        self._kept: OrderedDict[int, Block] = OrderedDict()
        self._bytes = 0

    def at(self, position: int, head: int) -> Block:
        """The block that holds what comes after a position, as far as the log goes."""
        number = position // SIZE
        block = self._kept.get(number)
        if block is None:
            block = self._kept[number] = Block(number)
        else:
            self._kept.move_to_end(number)
        if block.scanned < min(block.end, head):
            before = block.bytes
            block.read_on(self._connection, self._topics, head)
            self._bytes += block.bytes - before
            while self._bytes > MOST_BYTES and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.bytes
        return block
