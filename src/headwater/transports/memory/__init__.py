"""A log in memory, for the buses of one process: the reference for every other engine.

It keeps the whole contract and needs nothing, so that tests and small programs run on it what
elsewhere runs on a database or a broker. ``memory://`` belongs to one bus and lasts as long as
that, however often it is closed and started; ``memory://name`` is shared by all buses of the
process that name it. Nothing survives the process.

- `log`: events, places, and who reads which lane.      - `loan`: transactions.
- `engine`: all of it behind the seam (`headwater.transport`).
"""

from headwater.transports.memory.engine import MemoryTransport

__all__ = ["MemoryTransport"]
