"""A log in one SQLite file, for one process or many on one machine.

- `settings`: what the URL says.        - `files`, `schema`: the file and its tables.
- `locks`: who may write, who lives.    - `writer`, `loan`: the one thread that writes.
- `log`: rows in and out.               - `membership`: who owns which lane.
- `ledger`: exceptions.                 - `operations`: progress, pruning.
- `people`, `lookout`, `moves`, `checkup`: what people look at and move.
- `engine`: all of it behind the seam (`headwater.transport`).
"""

from headwater.transports.sqlite.engine import SqliteTransport

__all__ = ["SqliteTransport"]
