"""What a settlement writes: a place in a lane, and all that goes along with it, or nothing."""

import sqlite3

from headwater.ledgers import sql
from headwater.transport import Outgoing, Settlement
from headwater.transports.sqlite import membership
from headwater.transports.sqlite.log import Appender


def settle(
    connection: sqlite3.Connection, appender: Appender, settlement: Settlement
) -> BaseException | None:
    """Settle in one lane; returns `Fenced` if another process has it, and writes nothing then."""
    lane = settlement.lane
    done = ",".join(map(str, settlement.done))
    changed = connection.execute(
        "UPDATE cursor SET position = max(position, ?), done = ?, claim = max(claim, ?)"
        " WHERE subscription = ? AND topic = ? AND lane = ? AND fence = ?",
        (settlement.position, done, settlement.claim, *lane, settlement.epoch),
    )
    if changed.rowcount == 0:
        return membership.fenced(lane)
    appender.append([Outgoing(envelope, due, None) for envelope, due in settlement.publishes])
    sql.apply(connection, settlement.changes)
    return None
