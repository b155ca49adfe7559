"""Who takes part: each library, set up the way its documentation recommends for its fastest use.

A contender is the statement that its user would write to publish one event, and the names in that
statement. Methods are bound beforehand, as a user in a hurry would do, and handlers live as long
as the contender does, so weak references (the default of blinker, PyDispatcher and Django) hold.
An async statement is over when every handler has finished, so nothing is measured that merely
puts work off. What cannot be awaited that way (psygnal's async slots, which one worker runs one
by one) does not take part.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from types import FunctionType
from typing import Any, Literal

from workloads import EVENT, OrderPlaced, Workload

# A row with a role is what a target speaks of; what is only shown has none.
Role = Literal["bare", "headwater", "peer", "shown"]

DISTRIBUTIONS = (
    "headwater",
    "blinker",
    "pyee",
    "pypubsub",
    "PyDispatcher",
    "psygnal",
    "Django",
    "reactivex",
    "bubus",
)

serial = count()


@dataclass(frozen=True)
class Contender:
    """One row: `statement` publishes one event to all of `handlers`.

    What `alive` holds lives as long as the contender. `close` ends what the library left running.
    """

    name: str
    statement: str
    names: dict[str, object]
    handlers: Sequence[FunctionType]
    role: Role = "peer"
    alive: object = None
    close: Callable[[], Coroutine[Any, Any, object]] | None = None

    @property
    def awaits(self) -> bool:
        """Whether the statement needs a running loop."""
        return "await " in self.statement


Setup = Callable[[Workload], Contender]


def load(module: str) -> Any:
    """Import a library that takes part.

    Raises:
        SystemExit: It is not installed; the text names what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if module == "headwater":
            raise SystemExit(f"{error}. Install this checkout first: pip install -e .") from None
        raise SystemExit(
            f"{error}. The libraries compared are the dependency group 'benchmarks': "
            "pip install --group benchmarks (or: uv sync --group benchmarks)"
        ) from None


def bare_loop(work: Workload) -> Contender:
    handlers = work.handlers()

    def publish(event: object) -> None:
        for handler in handlers:
            handler(event)

    names = {"publish": publish, "event": work.event}
    return Contender("bare loop", "publish(event)", names, handlers, "bare")


def headwater(work: Workload) -> Contender:
    handlers = work.handlers()
    bus = load("headwater").Bus()
    for handler in handlers:
        bus.subscribe(OrderPlaced, handler)
    statement = "publish(event)" if work.colour == "sync" else "await publish(event)"
    names = {"publish": bus.publish, "event": work.event}
    return Contender("headwater", statement, names, handlers, "headwater")


def headwater_awaited(work: Workload) -> Contender:
    """The same sync handlers, published from a coroutine."""
    made = headwater(work)
    statement = "await publish(event)"
    return Contender("headwater, awaited", statement, made.names, made.handlers, "shown")


def headwater_by_name(work: Workload) -> Contender:
    """The same event as data under a plain name, which needs no class."""
    handlers = work.handlers()
    bus = load("headwater").Bus()
    for handler in handlers:
        bus.subscribe("order.placed", handler)
    names = {"publish": bus.publish, "event": work.event}
    statement = "publish('order.placed', event)"
    return Contender("headwater, by name", statement, names, handlers, "shown")


def blinker(work: Workload) -> Contender:
    """The event is the sender: cheaper than a keyword, and the handler stays the same."""
    handlers = work.handlers()
    signal = load("blinker").Signal()
    for handler in handlers:
        signal.connect(handler)
    if work.colour == "async":
        names = {"send": signal.send_async, "event": work.event}
        return Contender("blinker (one after another)", "await send(event)", names, handlers)
    return Contender("blinker", "send(event)", {"send": signal.send, "event": work.event}, handlers)


def pyee(work: Workload) -> Contender:
    handlers = work.handlers()
    emitter = load("pyee").EventEmitter()
    for handler in handlers:
        emitter.on("placed", handler)
    names = {"emit": emitter.emit, "event": work.event}
    return Contender("pyee", "emit('placed', event)", names, handlers)


def pyee_asyncio(work: Workload) -> Contender:
    handlers = work.handlers()
    emitter = load("pyee.asyncio").AsyncIOEventEmitter()
    for handler in handlers:
        emitter.on("placed", handler)
    names = {"emit": emitter.emit, "finished": emitter.wait_for_complete, "event": work.event}
    return Contender("pyee", "emit('placed', event); await finished()", names, handlers)


def pypubsub(work: Workload) -> Contender:
    handlers = work.handlers()
    pub = load("pubsub.pub")
    # The topics are global, so every workload has its own.
    topic = f"placed_{next(serial)}"
    for handler in handlers:
        pub.subscribe(handler, topic)
    names = {"send": pub.sendMessage, "topic": topic, "event": work.event}
    return Contender("pypubsub", "send(topic, event=event)", names, handlers)


def pydispatcher(work: Workload) -> Contender:
    handlers = work.handlers()
    dispatcher = load("pydispatch.dispatcher")
    signal = f"placed_{next(serial)}"
    for handler in handlers:
        dispatcher.connect(handler, signal)
    names = {"send": dispatcher.send, "signal": signal, "event": work.event}
    return Contender("PyDispatcher", "send(signal, None, event)", names, handlers)


def psygnal_shop(handlers: Sequence[FunctionType]) -> Any:
    shop: Any = type("Shop", (), {"placed": load("psygnal").Signal(OrderPlaced)})()
    for handler in handlers:
        shop.placed.connect(handler)
    return shop


def psygnal(work: Workload) -> Contender:
    handlers = work.handlers()
    shop = psygnal_shop(handlers)
    names = {"emit": shop.placed.emit, "event": work.event}
    return Contender("psygnal", "emit(event)", names, handlers, alive=shop)


def psygnal_fast(work: Workload) -> Contender:
    """The documented shortcut without checks, lock or sender: shown, not a target."""
    handlers = work.handlers()
    shop = psygnal_shop(handlers)
    names = {"emit_fast": shop.placed.emit_fast, "event": work.event}
    name = "psygnal, unchecked"
    return Contender(name, "emit_fast(event)", names, handlers, "shown", alive=shop)


def django(work: Workload) -> Contender:
    """A cached signal, as Django's own model signals are. Its receivers must take keywords."""
    handlers = work.handlers("event, **named")
    signal = load("django.dispatch").Signal(use_caching=True)
    for handler in handlers:
        signal.connect(handler)
    names = {"send": signal.send, "sender": OrderPlaced, "event": work.event}
    if work.colour == "async":
        names["send"] = signal.asend
        return Contender("Django", "await send(sender, event=event)", names, handlers)
    return Contender("Django", "send(sender, event=event)", names, handlers)


def reactivex(work: Workload) -> Contender:
    handlers = work.handlers()
    subject = load("reactivex").Subject()
    for handler in handlers:
        subject.subscribe(handler)
    names = {"on_next": subject.on_next, "event": work.event}
    return Contender("reactivex", "on_next(event)", names, handlers)


def bubus(work: Workload) -> Contender:
    """A dispatched event is spent, so each is made anew; sync handlers too need a running loop."""
    handlers = work.handlers()
    library = load("bubus")
    placed = load("pydantic").create_model(
        "OrderPlaced",
        __base__=library.BaseEvent,
        order_id=(str, ...),
        item=(str, ...),
        quantity=(int, ...),
    )
    bus = library.EventBus(name=f"bench_{next(serial)}")
    for handler in handlers:
        bus.on(placed, handler)
    names = {"dispatch": bus.dispatch, "OrderPlaced": placed}
    values = f"order_id='o1', item={EVENT.item!r}, quantity=1"
    statement = f"await dispatch(OrderPlaced({values}))"
    return Contender("bubus", statement, names, handlers, close=bus.stop)


def bare_task(work: Workload) -> Contender:
    """What a careful asyncio user writes: a task for one handler, gather for more."""
    handlers = work.handlers()
    names: dict[str, object] = {"asyncio": asyncio, "event": work.event}
    if work.count == 1:
        names["handler"] = handlers[0]
        statement = "await asyncio.create_task(handler(event))"
        return Contender("asyncio.create_task", statement, names, handlers, "bare")
    names["handlers"] = handlers
    statement = "await asyncio.gather(*[handler(event) for handler in handlers])"
    return Contender("asyncio.gather", statement, names, handlers, "bare")


def eager_task(work: Workload) -> Contender:
    """The same with tasks that start at once (Python 3.12): shown, and not a target."""
    handlers = work.handlers()
    names: dict[str, object] = {"asyncio": asyncio, "event": work.event, "handlers": handlers}
    start = "asyncio.Task(handler(event), loop=loop, eager_start=True)"
    statement = (
        "loop = asyncio.get_running_loop(); "
        f"await asyncio.gather(*[{start} for handler in handlers])"
    )
    if work.count == 1:
        names["handler"] = handlers[0]
        statement = f"loop = asyncio.get_running_loop(); await {start}"
    return Contender("asyncio, eager", statement, names, handlers, "shown")


def bare_await(work: Workload) -> Contender:
    """No task at all, one handler after another: shown as the floor, and not a target."""
    handlers = work.handlers()

    async def publish(event: object) -> None:
        for handler in handlers:
            await handler(event)

    names = {"publish": publish, "event": work.event}
    return Contender("bare loop, no tasks", "await publish(event)", names, handlers, "shown")


SYNC: Sequence[Setup] = (
    bare_loop,
    headwater,
    headwater_awaited,
    headwater_by_name,
    blinker,
    pyee,
    pypubsub,
    pydispatcher,
    psygnal,
    psygnal_fast,
    django,
    reactivex,
    bubus,
)
EAGER: Sequence[Setup] = (eager_task,) if sys.version_info >= (3, 12) else ()
ASYNC: Sequence[Setup] = (
    bare_task,
    headwater,
    *EAGER,
    bare_await,
    blinker,
    pyee_asyncio,
    django,
    bubus,
)


def contenders(work: Workload) -> list[Contender]:
    """Set up everyone who can do this work, the bare way first."""
    return [setup(work) for setup in (SYNC if work.colour == "sync" else ASYNC)]
