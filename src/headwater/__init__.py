"""Events for Python, from a function call to a cluster: one API, one written contract.

::

    from dataclasses import dataclass
    from headwater import Bus


    @dataclass(frozen=True)
    class OrderPlaced:
        order_id: str


    bus = Bus()


    @bus.on(OrderPlaced)
    def update_inventory(order: OrderPlaced) -> None:
        print("reserved", order.order_id)


    bus.publish(OrderPlaced("o1"))

The house, top down; imports point down only::

    bus                            the face
    transports                     engines: memory, sqlite
    handlers  topology  stream     declaring; who reacts to what; events as an iterator
    request  forward               asking; from one bus to another
    durable  naming                a bus on an engine; the names that last
    drain  deadletters  replay     the end; what was given up; the past again
    guarantees  tail  relay        promises in words; what comes from now on; the user's outboxes
    consume                        from an engine: receive, decode, begin
    endings  settler               what handlers' ends lead to; the way back to the engine
    suspects  redelivery           one at a time after a crash; out of the ledger
    bookkeeping  outbox            lanes and keys under way; publishing to an engine
    consumer  settling  inbox      one subscription; a delivery's life; once in a transaction
    publishing                     from publish to message
    dispatch  lifecycle            direct delivery; a delivery from its arrival to its end
    arrival  strand  window        a delivery from a log; a lane; its unfinished events
    colours  task                  where a handler runs; the task of an async one
    registry  notebook             who wants what; cells that are run again
    deliver  outcome               one attempt; what becomes of it
    subscription  intake  lanes    an interest; the way in; who may run now
    middleware  options  handler   around a call; how it is wanted; the user's function
    observers  unfinished          who is shown what happened; what is accepted and not done
    publication  answer  store     the receipt of an engine; what it says; tables of the user's
    transactions  operations       lent ones; what people do with a log
    transport  lane  lending       the seam to engines; lanes; transactions lent
    capabilities                   what an engine can do
    ledger  ledgers                the seam for exceptions; memory, sql
    envelope                       a message on the wire
    context  receipt  message      what is known of an event, its fate, and itself on its way
    sending  delayed               how an event is published; one whose time has not come
    event  topic  codec            what makes a class an event; names; data to events and back
    policies  records  runtime     decisions; what happened; time, chance, threads
    foreign  failpoint             other people's transactions; where tests may kill
    errors                         everything that is raised
"""

from headwater import errors, records
from headwater.bus import Bus
from headwater.context import Context, current
from headwater.errors import (
    EventStorm,
    HeadwaterError,
    Overloaded,
    PublishFailed,
    PublishUnknown,
    Reject,
    RemoteError,
    RequestTimeout,
    RetryLater,
    StreamOverflow,
    Unsupported,
    UsedAfterFork,
    WouldDeadlock,
)
from headwater.event import event
from headwater.handlers import Handlers
from headwater.policies import Backoff, Breaker, Rate, Resequence, Retry
from headwater.receipt import Receipt
from headwater.subscription import Subscription

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Breaker",
    "Bus",
    "Context",
    "EventStorm",
    "Handlers",
    "HeadwaterError",
    "Overloaded",
    "PublishFailed",
    "PublishUnknown",
    "Rate",
    "Receipt",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "Resequence",
    "Retry",
    "RetryLater",
    "StreamOverflow",
    "Subscription",
    "Unsupported",
    "UsedAfterFork",
    "WouldDeadlock",
    "current",
    "errors",
    "event",
    "records",
]
