"""Bad input: refused where it is given, saying what was expected, what came, and where."""

import asyncio
import math
import types
import urllib.parse
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headwater import (
    Backoff,
    Breaker,
    Bus,
    Context,
    Handlers,
    HeadwaterError,
    Rate,
    Resequence,
    Retry,
    RetryLater,
    Unsupported,
    event,
)
from headwater.errors import (
    DuplicateName,
    InvalidData,
    InvalidEvent,
    InvalidHandler,
    InvalidName,
    InvalidOption,
    InvalidPolicy,
    UnknownTransport,
)


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str = "o1"
    quantity: int = 1


class Shop:
    def update(self, order: OrderPlaced) -> None:
        """A method, which is bound only on an object."""


class Slotted:
    __slots__ = ()

    def update(self, order: OrderPlaced) -> None:
        """A method of what cannot be weakly referenced."""


class Unprintable:
    """Its repr fails, and an error about it must not."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Elsewhere(Executor):
    """An executor, for handlers that may not have one."""


def handler(order: OrderPlaced) -> None:
    """A handler that is right."""


async def async_handler(order: OrderPlaced) -> None:
    """An async one."""


def no_event() -> None:
    """Cannot take an event."""


def two_events(first: OrderPlaced, second: OrderPlaced) -> None:
    """Wants two."""


def context_and_more(order: OrderPlaced, context: Context, more: int) -> None:
    """Wants more than there is."""


def only_keyword(*, order: OrderPlaced) -> None:
    """Wants the event by its name."""


def plain_middleware(order: OrderPlaced) -> None:
    """No generator."""


async def async_middleware(order: OrderPlaced) -> Any:
    """An async generator."""
    yield


def homonym(name: str) -> Any:
    """A class that has the name of another one."""
    return types.new_class(name, (), exec_body=lambda body: body.update(__module__="elsewhere"))


def where(function: Callable[..., Any]) -> str:
    """``file:line`` of a function."""
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno}"


class Case(NamedTuple):
    """One mistake.

    Attributes:
        make: makes it.
        error: the class of the error.
        text: what its text holds: what was expected, what came, where.
    """

    make: Callable[[Any], object]
    error: type[HeadwaterError]
    text: tuple[str, ...]


HANDLERS = {
    "no parameter": Case(
        lambda bus: bus.subscribe(OrderPlaced, no_event),
        InvalidHandler,
        ("no_event()", where(no_event), "expected (event) or (event, context)"),
    ),
    "two parameters": Case(
        lambda bus: bus.subscribe(OrderPlaced, two_events),
        InvalidHandler,
        ("two_events(first", where(two_events), "expected (event) or (event, context)"),
    ),
    "more than the context": Case(
        lambda bus: bus.subscribe(OrderPlaced, context_and_more),
        InvalidHandler,
        ("context_and_more(order", where(context_and_more), "more: int"),
    ),
    "keyword only": Case(
        lambda bus: bus.subscribe(OrderPlaced, only_keyword),
        InvalidHandler,
        ("only_keyword(*, order", where(only_keyword)),
    ),
    "an unbound method": Case(
        lambda bus: bus.subscribe(OrderPlaced, Shop.update),
        InvalidHandler,
        ("Shop.update(self", where(Shop.update), "not bound", "self.update"),
    ),
    "not callable": Case(
        lambda bus: bus.subscribe(OrderPlaced, 42), InvalidHandler, ("expected", "42")
    ),
    "None": Case(
        lambda bus: bus.subscribe(OrderPlaced, None), InvalidHandler, ("expected", "None")
    ),
    "a weak lambda": Case(
        lambda bus: bus.subscribe(OrderPlaced, lambda order: None, weak=True),
        InvalidHandler,
        ("weak=True", "<lambda>", "weak=False"),
    ),
    "a weak method of a built-in": Case(
        lambda bus: bus.subscribe(OrderPlaced, [].append, weak=True),
        InvalidHandler,
        ("weak=True", "append", "weak=False"),
    ),
    "a weak owner without weak references": Case(
        lambda bus: bus.subscribe(OrderPlaced, Slotted().update, weak=True),
        InvalidHandler,
        ("weak=True", "Slotted", "__weakref__"),
    ),
    "on without parentheses": Case(
        lambda bus: bus.on(handler), InvalidOption, ("@bus.on(OrderPlaced)", "handler")
    ),
}

WHATS = {
    "an empty token": Case(
        lambda bus: bus.subscribe("order..placed", handler),
        InvalidName,
        ("'order..placed'", "expected tokens joined by dots", "an empty one"),
    ),
    "an empty name": Case(lambda bus: bus.subscribe("", handler), InvalidName, ("''", "expected")),
    "a leading dot": Case(lambda bus: bus.on(".a")(handler), InvalidName, ("'.a'", "empty")),
    "white space": Case(
        lambda bus: bus.subscribe("order placed", handler),
        InvalidName,
        ("'order placed'", "white space"),
    ),
    "a control character": Case(
        lambda bus: bus.subscribe("order\x00", handler), InvalidName, ("control characters",)
    ),
    "a wildcard in a token": Case(
        lambda bus: bus.subscribe("order.pl*", handler),
        InvalidName,
        ("'order.pl*'", "whole token", "'pl*'"),
    ),
    "a rest that does not end": Case(
        lambda bus: bus.subscribe("**.placed", handler),
        InvalidName,
        ("'**.placed'", "only as the last token"),
    ),
    "a name without end": Case(
        lambda bus: bus.subscribe("a" * 256, handler), InvalidName, ("at most 255", "256")
    ),
    "an instance": Case(
        lambda bus: bus.subscribe(OrderPlaced(), handler),
        InvalidOption,
        ("expected an event class or a dotted name", "OrderPlaced(order_id='o1'"),
    ),
    "None": Case(lambda bus: bus.subscribe(None, handler), InvalidOption, ("expected", "None")),
    "nothing": Case(
        lambda bus: bus.on()(handler), InvalidOption, ("expected at least one", "got none")
    ),
    "a union": Case(
        lambda bus: bus.subscribe(OrderPlaced | Shop, handler), InvalidOption, ("on(A, B)",)
    ),
    "a generic alias": Case(
        lambda bus: bus.subscribe(list[int], handler), InvalidOption, ("type arguments",)
    ),
    "one bad among good ones": Case(
        lambda bus: bus.on(OrderPlaced, "good", "b..d")(handler), InvalidName, ("'b..d'",)
    ),
    "two classes with one name": Case(
        lambda bus: bus.on(OrderPlaced, homonym("OrderPlaced"))(handler),
        DuplicateName,
        ("elsewhere.OrderPlaced", f"{__name__}.OrderPlaced", "@event(name=...)"),
    ),
    "a stream of an empty token": Case(lambda bus: bus.stream("a."), InvalidName, ("'a.'",)),
    "a capture of an empty token": Case(
        lambda bus: bus.capture("a.").__enter__(), InvalidName, ("'a.'",)
    ),
    "muted None": Case(
        lambda bus: bus.muted(None).__enter__(), InvalidOption, ("expected", "None")
    ),
}


def option(expected: str, got: str, **options: Any) -> Case:
    """A subscription with options that make no sense."""
    return Case(
        lambda bus: bus.subscribe(OrderPlaced, handler, **options),
        InvalidOption,
        ("handler", next(iter(options)), expected, got),
    )


def refused(name: str, value: object) -> Case:
    """A subscription with an option that needs a transport."""
    return Case(
        lambda bus: bus.subscribe(OrderPlaced, handler, **{name: value}),
        Unsupported,
        ("handler", f"{name}=", "transport", "URL"),
    )


OPTIONS = {
    "unknown": option("unknown option 'retries'", "did you mean 'retry'?", retries=3),
    "retry": option("expected a Retry(...)", "got 5 (int)", retry=5),
    "breaker": option("expected a Breaker(...)", "got True", breaker=True),
    "rate": option("expected a Rate(...)", "got 10", rate=10),
    "resequence": option("expected a Resequence(...)", "got 'n'", resequence="n"),
    "a policy class": option("expected a Retry(...)", "class", retry=Retry),
    "once": option("expected True or False", "got 1 (int)", once=1),
    "weak": option("expected True or False", "got 'yes'", weak="yes"),
    "an empty name": option("expected printable text", "got ''", name=""),
    "a name of blanks": option("expected printable text", "got ' '", name=" "),
    "a name that is no text": option("expected printable text", "got 7", name=7),
    "a name of two lines": option("expected printable text", "got 'a\\nb'", name="a\nb"),
    "where": option("expected a sync function of the event", "got 'x'", where="x"),
    "an async where": option("expected a sync function", "async_handler", where=async_handler),
    "a where of two": option("expected a sync function", "two_events", where=two_events),
    "priority": option("expected an int", "got '1'", priority="1"),
    "a bool for priority": option("expected an int", "got True", priority=True),
    "concurrency of none": option("expected an int >= 1", "got 0", concurrency=0),
    "concurrency": option("expected an int >= 1", "got 1.5", concurrency=1.5),
    "executor": option("'thread', 'pump' or an Executor", "got 'threads'", executor="threads"),
    "an executor class": option("an Executor", "Elsewhere", executor=Elsewhere),
    "inline with retry": option("executor='thread'", "retry=", executor="inline", retry=Retry()),
    "inline with timeout": option("executor='thread'", "timeout=", executor="inline", timeout=1),
    "inline with rate": option("executor='thread'", "rate=", executor="inline", rate=Rate(1)),
    "inline with concurrency": option(
        "executor='thread'", "concurrency=", executor="inline", concurrency=2
    ),
    "timeout of none": Case(
        lambda bus: bus.subscribe(OrderPlaced, handler, timeout=0),
        InvalidPolicy,
        ("handler: timeout", "expected seconds", "above 0", "got 0 (int)"),
    ),
    "timeout": Case(
        lambda bus: bus.subscribe(OrderPlaced, handler, timeout="5"),
        InvalidPolicy,
        ("handler: timeout", "expected seconds", "got '5' (str)"),
    ),
    "timeout in the past": Case(
        lambda bus: bus.subscribe(OrderPlaced, handler, timeout=timedelta(seconds=-1)),
        InvalidPolicy,
        ("handler: timeout", "expected seconds", "got -1.0"),
    ),
    "an executor for an async handler": Case(
        lambda bus: bus.subscribe(OrderPlaced, async_handler, executor="thread"),
        InvalidOption,
        ("async_handler", "expected no executor=", "'thread'"),
    ),
    "what has no repr": option(
        "expected an int", "something of type Unprintable", priority=Unprintable()
    ),
    "start": refused("start", "beginning"),
    "when_dead": refused("when_dead", "park"),
    "transaction": refused("transaction", dict),
}


def published(error: type[HeadwaterError], *text: str, **options: Any) -> Case:
    """A publish with options that make no sense."""
    return Case(lambda bus: bus.publish(OrderPlaced(), **options), error, ("publish", *text))


PUBLISHED = {
    "None": Case(
        lambda bus: bus.publish(None),
        InvalidEvent,
        ("expected an event, got NoneType None", "publish('name', data)"),
    ),
    "a class": Case(
        lambda bus: bus.publish(OrderPlaced),
        InvalidEvent,
        ("expected an event, got the class OrderPlaced", "an instance"),
    ),
    "a number": Case(
        lambda bus: bus.publish(5), InvalidEvent, ("expected an event, got int 5", "name")
    ),
    "a dict": Case(
        lambda bus: bus.publish({"a": 1}), InvalidEvent, ("expected an event, got dict {'a': 1}",)
    ),
    "bytes": Case(lambda bus: bus.publish(b"a.b"), InvalidEvent, ("expected an event, got bytes",)),
    "an event and data": Case(
        lambda bus: bus.publish(OrderPlaced(), {"a": 1}),
        InvalidEvent,
        ("expected an event alone, or a name and data", "OrderPlaced"),
    ),
    "an empty token": Case(
        lambda bus: bus.publish("order..placed"), InvalidName, ("'order..placed'", "empty")
    ),
    "an empty name": Case(lambda bus: bus.publish(""), InvalidName, ("''", "expected")),
    "a pattern": Case(
        lambda bus: bus.publish("order.*", {}), InvalidName, ("'order.*'", "got a wildcard")
    ),
    "data that does not fit": Case(
        lambda bus: bus.publish("Known", {"quantity": "many"}),
        InvalidData,
        ("Known", "quantity", "int"),
    ),
    "data of another kind": Case(
        lambda bus: bus.publish("Known", [1, 2]), InvalidData, ("Known", "expected", "list")
    ),
    "an unknown option": published(
        InvalidOption, "unknown option 'header'", "did you mean 'headers'?", header={}
    ),
    "headers": published(
        InvalidOption, "headers: expected a mapping of str to str", "got 5", headers=5
    ),
    "a header's value": published(
        InvalidOption, "headers: expected a mapping of str to str", "{'a': 1}", headers={"a": 1}
    ),
    "a header's name": published(
        InvalidOption, "headers: expected a mapping of str to str", "{1: 'a'}", headers={1: "a"}
    ),
    "id": published(InvalidOption, "id: expected non-empty text", "got 7", id=7),
    "an empty id": published(InvalidOption, "id: expected non-empty text", "got ''", id=""),
    "a key that has no str": published(
        InvalidOption, "key: expected", "something of type Unprintable", key=Unprintable()
    ),
    "delay": published(InvalidPolicy, "delay: expected seconds", "got '1'", delay="1"),
    "a delay into the past": published(InvalidPolicy, "delay: expected", "got -1", delay=-1),
    "a delay without end": published(InvalidPolicy, "delay: expected", "got inf", delay=math.inf),
    "a delay that is no number": published(
        InvalidPolicy, "delay: expected", "got nan", delay=math.nan
    ),
    "at without a time zone": published(
        InvalidOption,
        "at: expected a datetime with a time zone",
        "got datetime",
        at=datetime(2030, 1, 1),  # noqa: DTZ001 -- that is the mistake
    ),
    "at": published(InvalidOption, "at: expected a datetime", "got 'noon'", at="noon"),
    "delay and at": published(InvalidOption, "expected delay= or at=", "got both", delay=1, at=1),
    "new_story": published(InvalidOption, "new_story: expected True or False", "1", new_story=1),
    "immediate": published(InvalidOption, "immediate: expected True", "'no'", immediate="no"),
    "transaction": published(Unsupported, "transaction=", "transport", transaction=object()),
}


def policy(make: Callable[[], object], *text: str) -> Case:
    """A policy with nonsense in it."""
    return Case(lambda _: make(), InvalidPolicy, text)


BAD: Any = "bad"  # Nonsense that type checkers would refuse.
NEVER: Any = -1
BAD_CLASS: Any = handler

POLICIES = {
    "no attempt": policy(
        lambda: Retry(max_attempts=0), "Retry.max_attempts", "an int of at least 1", "0"
    ),
    "attempts": policy(lambda: Retry(max_attempts=BAD), "Retry.max_attempts", "an int", "'bad'"),
    "a bool of attempts": policy(lambda: Retry(max_attempts=True), "Retry.max_attempts", "True"),
    "backoff": policy(lambda: Retry(backoff=BAD), "Retry.backoff", "a Backoff", "'bad'"),
    "on": policy(lambda: Retry(on=BAD), "Retry.on", "a subclass of Exception", "'bad'"),
    "give_up_on": policy(lambda: Retry(give_up_on=BAD), "Retry.give_up_on", "'bad'"),
    "initial": policy(lambda: Backoff(initial=-1), "Backoff.initial", "at least 0", "-1"),
    "factor": policy(lambda: Backoff(factor=0.5), "Backoff.factor", "at least 1", "0.5"),
    "maximum": policy(lambda: Backoff(maximum=math.inf), "Backoff.maximum", "finite", "inf"),
    "jitter": policy(lambda: Backoff(jitter=BAD), "Backoff.jitter", "bool", "'bad'"),
    "failures": policy(lambda: Breaker(failures=0), "Breaker.failures", "at least 1", "0"),
    "cooldown": policy(lambda: Breaker(cooldown=-1), "Breaker.cooldown", "seconds", "-1"),
    "limit": policy(lambda: Rate(limit=0), "Rate.limit", "0"),
    "limit of nan": policy(lambda: Rate(limit=NEVER * math.nan), "Rate.limit", "nan"),
    "per": policy(lambda: Rate(limit=1, per=0), "Rate.per", "above 0", "0"),
    "overflow": policy(lambda: Rate(limit=1, overflow=BAD), "Rate.overflow", "delay", "'bad'"),
    "max_delayed": policy(lambda: Rate(limit=1, max_delayed=NEVER), "Rate.max_delayed", "-1"),
    "by": policy(lambda: Resequence(by=NEVER), "Resequence.by", "-1"),
    "timeout": policy(
        lambda: Resequence(by="n", timeout=timedelta(-1)), "Resequence.timeout", "seconds"
    ),
    "first": policy(lambda: Resequence(by="n", first=BAD), "Resequence.first", "int", "'bad'"),
    "RetryLater": policy(lambda: RetryLater(-1), "RetryLater", ">= 0", "-1"),
    "RetryLater that never comes": policy(lambda: RetryLater(math.nan), "RetryLater", "nan"),
    "RetryLater of text": policy(lambda: RetryLater(BAD), "RetryLater", "'bad'"),
}

BUSES = {
    "max_pending": Case(
        lambda _: Bus(max_pending=0), InvalidOption, ("Bus: max_pending", "int >= 1", "got 0")
    ),
    "max_depth": Case(
        lambda _: Bus(max_depth=BAD), InvalidOption, ("Bus: max_depth", "int >= 1", "got 'bad'")
    ),
    "max_story": Case(
        lambda _: Bus(max_story=True), InvalidOption, ("Bus: max_story", "int >= 1", "got True")
    ),
    "max_workers": Case(
        lambda _: Bus(max_workers=-1), InvalidOption, ("Bus: max_workers", "int >= 1", "got -1")
    ),
    "drain_timeout": Case(
        lambda _: Bus(drain_timeout=-1), InvalidPolicy, ("Bus: drain_timeout", "seconds", "got -1")
    ),
    "name": Case(lambda _: Bus(name=""), InvalidOption, ("Bus: name", "expected text", "got ''")),
    "runtime": Case(
        lambda _: Bus(runtime=BAD), InvalidOption, ("Bus: runtime", "a Runtime", "got 'bad'")
    ),
    "on_error": Case(
        lambda _: Bus(on_error=BAD),
        InvalidOption,
        ("Bus: on_error", "'log', 'raise' or a function", "got 'bad'"),
    ),
    "a URL that is none": Case(
        lambda _: Bus("shop.db"),
        InvalidOption,
        ("expected a URL", "sqlite:///shop.db", "no scheme://"),
    ),
    "a URL that is no text": Case(
        lambda _: Bus(NEVER), InvalidOption, ("expected a URL", "got -1")
    ),
}


def transport_only(does: Callable[[Any], object], name: str) -> Case:
    """A call that needs a transport."""
    return Case(does, Unsupported, (name, "needs a transport", "direct Bus()"))


CALLS = {
    "replay": transport_only(lambda bus: bus.replay(OrderPlaced, into=handler), "replay()"),
    "dead_letters": transport_only(lambda bus: bus.dead_letters, "dead_letters"),
    "transaction": transport_only(lambda bus: bus.transaction(), "transaction()"),
    "an event whose name is taken": Case(
        lambda bus: (bus.publish(OrderPlaced()), bus.publish(homonym("OrderPlaced")())),
        DuplicateName,
        ("elsewhere.OrderPlaced", f"{__name__}.OrderPlaced", "'OrderPlaced'", "@event(name=...)"),
    ),
    "a stream that blocks": Case(
        lambda bus: bus.stream(OrderPlaced, overflow="block"),
        Unsupported,
        ("overflow='block'", "transport", "'drop_oldest'"),
    ),
    "a stream without room": Case(
        lambda bus: bus.stream(OrderPlaced, buffer=0),
        InvalidOption,
        ("stream: buffer", "int >= 1", "got 0"),
    ),
    "a stream's overflow": Case(
        lambda bus: bus.stream(OrderPlaced, overflow="drop"),
        InvalidOption,
        ("stream: overflow", "expected 'close', 'drop_oldest' or 'block'", "got 'drop'"),
    ),
    "a reply that is retried": Case(
        lambda bus: bus.reply(OrderPlaced, retry=Retry())(handler),
        Unsupported,
        ("reply", "not retried"),
    ),
    "a reply to a pattern": Case(
        lambda bus: bus.reply("a.*"), InvalidName, ("'a.*'", "got a wildcard")
    ),
    "a reply to an instance": Case(
        lambda bus: bus.reply(OrderPlaced()), InvalidOption, ("expected an event class", "got")
    ),
    "a replier without an event": Case(
        lambda bus: bus.reply(OrderPlaced)(no_event), InvalidHandler, ("no_event()",)
    ),
    "middleware that is no generator": Case(
        lambda bus: bus.middleware(plain_middleware),
        InvalidHandler,
        ("plain_middleware", where(plain_middleware), "expected a generator function"),
    ),
    "middleware around what there is not": Case(
        lambda bus: bus.middleware(on="subscribe"),
        InvalidOption,
        ("middleware: on", "expected 'handle' or 'publish'", "got 'subscribe'"),
    ),
    "async middleware around publish": Case(
        lambda bus: bus.middleware(on="publish")(async_middleware),
        InvalidHandler,
        ("middleware", "expected a sync generator"),
    ),
    "an observer of two": Case(
        lambda bus: bus.observe(two_events), InvalidHandler, ("two_events", where(two_events))
    ),
    "an async observer": Case(
        lambda bus: bus.observe(async_handler),
        InvalidHandler,
        ("observer", "async_handler", "expected a sync function of one record"),
    ),
    "forward to itself": Case(
        lambda bus: bus.forward("**", to=bus), InvalidOption, ("forward: to", "another Bus", "got")
    ),
    "forward to no bus": Case(
        lambda bus: bus.forward("**", to=BAD), InvalidOption, ("another Bus", "got 'bad'")
    ),
    "include no handlers": Case(
        lambda bus: bus.include([handler]), InvalidOption, ("include", "expected Handlers", "got [")
    ),
    "pump in the past": Case(
        lambda bus: bus.pump(-1), InvalidPolicy, ("pump: budget", "seconds", "got -1")
    ),
    "idle in the past": Case(
        lambda bus: bus.idle(-1), InvalidPolicy, ("idle: timeout", "seconds", "got -1")
    ),
    "stop in the past": Case(
        lambda bus: bus.stop(-1), InvalidPolicy, ("stop: timeout", "seconds", "got -1")
    ),
}

EVENTS = {
    "an empty token": Case(
        lambda _: event(name="a..b")(homonym("A")), InvalidName, ("'a..b'", "empty")
    ),
    "a key that is no attribute": Case(
        lambda _: event(key="order")(OrderPlaced),
        InvalidOption,
        ("key=", "attribute of OrderPlaced", "'order'", "did you mean 'order_id'?"),
    ),
    "a key that is no function": Case(
        lambda _: event(key=NEVER)(homonym("A")), InvalidOption, ("key=", "expected", "-1")
    ),
    "version": Case(
        lambda _: event(version=0)(homonym("A")), InvalidOption, ("version=", "int >= 1", "got 0")
    ),
    "upgrade": Case(
        lambda _: event(version=3, upgrade={1: dict})(homonym("A")),
        InvalidOption,
        ("upgrade=", "a function for each version", "version=3"),
    ),
    "aliases of text": Case(
        lambda _: event(aliases="old")(homonym("A")), InvalidOption, ("aliases=", "tuple", "'old'")
    ),
    "a topic with a blank": Case(
        lambda _: event(topic="my events")(homonym("A")), InvalidName, ("'my events'",)
    ),
    "a built-in class": Case(lambda _: event(int), InvalidOption, ("a class of yours", "int")),
    "a function": Case(
        lambda _: event(name="a")(BAD_CLASS),
        InvalidOption,
        ("@event", "expected a class", "handler"),
    ),
}

ALL = {
    f"{room}: {title}": case
    for room, cases in {
        "handler": HANDLERS,
        "what": WHATS,
        "option": OPTIONS,
        "publish": PUBLISHED,
        "policy": POLICIES,
        "bus": BUSES,
        "call": CALLS,
        "event": EVENTS,
    }.items()
    for title, case in cases.items()
}


@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
def test_a_mistake_is_refused_in_words(case: Case) -> None:
    """Of our tree and a TypeError or ValueError too; what was expected, what came, where."""
    bus = Bus()

    @bus.on("known")
    @event(name="Known")
    @dataclass
    class Known:
        quantity: int

    bus.subscribe(Known, lambda known: None)
    with pytest.raises(HeadwaterError) as caught:
        case.make(bus)
    assert type(caught.value) is case.error
    assert isinstance(caught.value, TypeError | ValueError)
    for part in case.text:
        assert part in str(caught.value)


REGISTRATIONS = {
    title: case for title, case in ALL.items() if title.startswith(("handler", "what", "option"))
}


DECLARATIONS = {
    title: case
    for title, case in REGISTRATIONS.items()
    if not title.startswith(("what: a stream", "what: a capture", "what: muted"))
}


@pytest.mark.parametrize("case", REGISTRATIONS.values(), ids=REGISTRATIONS.keys())
def test_what_is_refused_leaves_nothing_registered(case: Case) -> None:
    """No subscription, no name: the next event finds the bus as it was."""
    bus = Bus()
    with pytest.raises(HeadwaterError):
        case.make(bus)
    assert bus.topology().reactions == ()
    other = homonym("OrderPlaced")
    seen = list[object]()
    bus.subscribe(other, seen.append)  # The name is still free.
    bus.publish(other())
    assert len(seen) == 1


def test_a_mistake_in_a_publish_calls_no_handler() -> None:
    """It is found before anybody is started, and the bus goes on."""
    bus, seen = Bus(), list[object]()
    bus.subscribe("**", seen.append)
    bus.publish(OrderPlaced("first"))
    seen.clear()
    for case in PUBLISHED.values():
        if case.error is not InvalidData:
            with pytest.raises(HeadwaterError):
                case.make(bus)
    assert seen == []
    bus.publish(OrderPlaced("o2"))
    assert seen == [OrderPlaced("o2")]


def test_handlers_are_included_all_or_none() -> None:
    """The second one's class has a name that is taken: the first one is gone again."""
    bus, handlers = Bus(), Handlers()
    bus.subscribe(OrderPlaced, handler, name="mine")
    handlers.on("other")(handler)
    handlers.on(homonym("OrderPlaced"))(handler)
    with pytest.raises(DuplicateName):
        bus.include(handlers)
    assert [reaction.handler for reaction in bus.topology().reactions] == ["mine"]


@pytest.mark.parametrize("case", DECLARATIONS.values(), ids=DECLARATIONS.keys())
def test_handlers_without_a_bus_refuse_the_same_at_the_declaration(case: Case) -> None:
    """All that can be known without a bus is said where it is written; nothing is declared."""
    handlers = Handlers()
    try:
        case.make(handlers)
    except case.error:
        assert len(handlers) == 0
        return
    bus = Bus()
    with pytest.raises(case.error):  # It needs the other subscriptions, or the object itself.
        bus.include(handlers)
    assert bus.topology().reactions == ()


def test_a_replier_that_is_refused_replies_to_nothing() -> None:
    """The place is still free for one that can."""
    bus = Bus()
    with pytest.raises(InvalidHandler):
        bus.reply("price")(no_event)
    bus.reply("price")(lambda data: 7)
    assert asyncio.run(bus.request("price", timeout=30)) == 7


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda bus: bus.request(None), InvalidEvent, "got NoneType None"),
        (lambda bus: bus.request("a..b"), InvalidName, "'a..b'"),
        (lambda bus: bus.request("a", returns=5), InvalidOption, "returns: expected a class"),
        (lambda bus: bus.request("a", timeout=0), InvalidPolicy, "timeout: expected seconds"),
        (lambda bus: bus.request("a", delay=1), InvalidOption, "expected no delay= or at="),
        (lambda bus: bus.request("a", keys=1), InvalidOption, "did you mean 'key'?"),
    ],
)
def test_a_mistake_in_a_request_is_refused(
    make: Callable[[Any], Any], error: type[HeadwaterError], text: str
) -> None:
    """Before anybody is asked."""
    bus, seen = Bus(), list[object]()
    bus.reply("a")(seen.append)
    with pytest.raises(error) as caught:
        asyncio.run(make(bus))
    assert isinstance(caught.value, TypeError | ValueError)
    assert text in str(caught.value)
    assert seen == []


def test_a_mistake_in_wait_for_is_refused_at_the_call() -> None:
    """Not where it is awaited, and no subscription stays."""
    bus: Any = Bus()

    async def main() -> None:
        with pytest.raises(InvalidPolicy, match="wait_for: timeout: expected seconds"):
            bus.wait_for(OrderPlaced, timeout=-1)
        with pytest.raises(InvalidOption, match="where: expected a sync function of the event"):
            bus.wait_for(OrderPlaced, where="late")
        with pytest.raises(InvalidName, match="an empty one"):
            bus.wait_for("a..b")

    asyncio.run(main())
    assert bus.topology().reactions == ()


SECRET = "s3cr3t-p@ss"

URLS = (
    "kafka://user:{secret}@localhost:9092",
    "postgresql://user:{secret}@db/shop?password={secret}",
    "amqp://{secret}@localhost",
    "sqlite:///shop.db?key={secret}",
    "user:{secret}@localhost/shop",
    "user:{secret}@localhost://shop",
    "{secret}",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("secret", [SECRET, urllib.parse.quote(SECRET)])
def test_a_password_in_a_url_is_never_shown(url: str, secret: str) -> None:
    """Not in the text, the repr, the arguments or the causes of the error."""
    with pytest.raises((InvalidOption, UnknownTransport)) as caught:
        Bus(url.format(secret=secret))
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in f"{error} {error!r} {error.args} {vars(error)}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("scheme", ["kafka", "amqp", "nats", "redis", "postgresql"])
def test_a_transport_that_is_not_there_yet_is_named(scheme: str) -> None:
    """By its scheme, with what works instead."""
    with pytest.raises(UnknownTransport) as caught:
        Bus(f"{scheme}://somewhere", name="shop")
    assert isinstance(caught.value, ValueError)
    assert f"{scheme}://" in str(caught.value)
    assert "this version has memory://, sqlite://" in str(caught.value)


async def _yields_later(event: object) -> AsyncIterator[object]:
    yield event


@pytest.mark.parametrize("handler", [lambda event: (yield event), _yields_later])
def test_a_generator_is_no_handler(handler: Callable[[object], object]) -> None:
    """Calling it would run nothing, and nobody would notice."""
    bus = Bus()
    with pytest.raises(InvalidHandler, match="generator function"):
        bus.subscribe("order.placed", handler)
    assert not bus.topology().reactions
