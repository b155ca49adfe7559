"""The whole suite, as one class to derive from."""

from headwater.testing.conformance.dead_letters import DeadLetters
from headwater.testing.conformance.delivery import Delivery
from headwater.testing.conformance.evolution import Evolution, Undecodable
from headwater.testing.conformance.failure import Attempts, Failure
from headwater.testing.conformance.kills import Kills
from headwater.testing.conformance.leases import Leases
from headwater.testing.conformance.lifecycle import Draining, Life
from headwater.testing.conformance.limits import Limits
from headwater.testing.conformance.order import Ordering
from headwater.testing.conformance.outages import Outages
from headwater.testing.conformance.parking import Parking
from headwater.testing.conformance.patterns import Patterns
from headwater.testing.conformance.processes import Processes
from headwater.testing.conformance.publishing import Delays, Publishing, Receipts
from headwater.testing.conformance.refusals import Refusals
from headwater.testing.conformance.replay import Replay
from headwater.testing.conformance.sharing import Sharing
from headwater.testing.conformance.staging import Staging
from headwater.testing.conformance.stories import Stories
from headwater.testing.conformance.transactions import Transactions


class Conformance(
    Refusals,
    Outages,
    Leases,
    Kills,
    Processes,
    Draining,
    Life,
    Limits,
    Replay,
    Transactions,
    Undecodable,
    Evolution,
    Stories,
    Staging,
    Delays,
    Receipts,
    Publishing,
    Parking,
    DeadLetters,
    Attempts,
    Failure,
    Ordering,
    Patterns,
    Sharing,
    Delivery,
):
    """Everything that an engine must do; derive, and write `url`.

    A single group can be derived from as well, such as
    `headwater.testing.conformance.order.Ordering`.
    """
