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

    bus                          the face
    handlers  topology  stream   declaring; who reacts to what; events as an iterator
    request  publishing  drain   asking; from publish to message; the end
    dispatch  lifecycle          direct delivery; a delivery from its arrival to its end
    colours  task                where a handler runs; the task of an async one
    registry  notebook           who wants what; cells that are run again
    deliver  outcome             one attempt; what becomes of it
    subscription  intake  lanes  an interest; the way in; who may run now
    middleware  options  handler around a call; how it is wanted; the user's function
    observers  unfinished        who is shown what happened; what is accepted and not done
    context  receipt  message    what is known of an event, its fate, and itself on its way
    sending  delayed             how an event is published; one whose time has not come
    event  topic  codec          what makes a class an event; names; data to events
    policies  records  runtime   decisions; what happened; time, chance, threads
    errors                       everything that is raised
"""

from headwater import errors, records
from headwater.bus import Bus
from headwater.context import Context, current
from headwater.errors import (
    EventStorm,
    HeadwaterError,
    Overloaded,
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
