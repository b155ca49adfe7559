"""The options of a subscription: one TypedDict, checked in one place.

`OPTIONS` describes every option of a subscription: what it takes, what it means, and where it
makes sense. The table in the docs is made from it, so that the two cannot drift apart.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, NoReturn, TypedDict, TypeVar

from headwater.errors import InvalidOption, Unsupported
from headwater.event import did_you_mean
from headwater.policies import Breaker, Rate, Resequence, Retry
from headwater.policies.duration import Duration, seconds
from headwater.policies.field import shown, takes
from headwater.runtime import Executor

E = TypeVar("E")


class SubscribeOptions(TypedDict, Generic[E], total=False):
    """The options of `Bus.subscribe` and `Bus.on`; `OPTIONS` says what each one means."""

    name: str | None
    where: Callable[[E], bool] | None
    priority: int
    once: bool
    weak: bool
    executor: Literal["inline", "thread", "pump"] | Executor | None
    concurrency: int | None
    timeout: Duration | None
    retry: Retry | None
    breaker: Breaker | None
    rate: Rate | None
    resequence: Resequence | None
    start: Literal["new", "beginning"] | object
    when_dead: Literal["continue", "park"]
    transaction: object


class OptionDoc(NamedTuple):
    """One row of the table of options."""

    takes: str
    default: str
    meaning: str
    direct: str
    transport: str


OPTIONS: dict[str, OptionDoc] = {
    "name": OptionDoc("str", "module.qualname", "the subscription's name", "yes", "yes"),
    "where": OptionDoc("event -> bool", "None", "only events for which it is true", "yes", "yes"),
    "priority": OptionDoc("int", "0", "higher ones are started first", "yes", "refused"),
    "once": OptionDoc("bool", "False", "closes itself at its first event", "yes", "refused"),
    "weak": OptionDoc(
        "bool", "False", "ends with the life of the method's object", "yes", "refused"
    ),
    "executor": OptionDoc(
        "'inline', 'thread', 'pump', Executor",
        "None",
        "where a sync handler runs; None: inline if it has no retry, rate, timeout, resequence"
        " or concurrency, else in a worker thread",
        "yes",
        "a worker thread, an Executor",
    ),
    "concurrency": OptionDoc(
        "int >= 1", "None; 32", "events handled at once, by one process", "no bound", "32"
    ),
    "timeout": OptionDoc("seconds, timedelta", "None", "per attempt", "yes", "yes"),
    "retry": OptionDoc("Retry", "None", "tries again what failed", "in process", "yes"),
    "breaker": OptionDoc("Breaker", "None", "skips a handler that keeps failing", "yes", "yes"),
    "rate": OptionDoc("Rate", "None", "events handled per time", "yes", "yes"),
    "resequence": OptionDoc("Resequence", "None", "puts events back in order", "yes", "yes"),
    "start": OptionDoc(
        "'new', 'beginning', position", "'new'", "where it begins", "refused", "yes"
    ),
    "when_dead": OptionDoc(
        "'continue', 'park'", "'continue'", "after a dead letter", "refused", "yes"
    ),
    "transaction": OptionDoc("True, factory", "None", "exactly-once effects", "refused", "yes"),
}

TRANSPORT_ONLY = ("start", "when_dead", "transaction")
_DIRECT_ONLY = {
    "once": "ends a subscription in one process, and other processes share it",
    "weak": "ends a subscription with an object of one process, and its place is kept for all",
    "priority": "orders handlers within one publish, and on a transport each goes at its own pace",
}
CONCURRENCY = 32
"""Events that one process handles at once for one subscription on a transport."""
_NEEDS_ROOM = ("retry", "rate", "timeout", "resequence", "concurrency")
_POLICIES: dict[str, type] = {
    "retry": Retry,
    "breaker": Breaker,
    "rate": Rate,
    "resequence": Resequence,
}


class Options(NamedTuple):
    """The options of one subscription, checked; unset ones have their defaults."""

    name: str | None = None
    where: Callable[[Any], bool] | None = None
    priority: int = 0
    once: bool = False
    weak: bool = False
    executor: Literal["inline", "thread", "pump"] | Executor | None = None
    concurrency: int | None = None
    timeout: float | None = None
    retry: Retry | None = None
    breaker: Breaker | None = None
    rate: Rate | None = None
    resequence: Resequence | None = None
    start: Literal["new", "beginning"] | int = "new"
    when_dead: Literal["continue", "park"] = "continue"
    transaction: Any = None
    durable: bool = False


DEFAULTS = Options()
DURABLE_DEFAULTS = Options(concurrency=CONCURRENCY, durable=True)


def check_options(given: Mapping[str, Any], handler: str, *, durable: bool = False) -> Options:
    """The options of a subscription.

    Args:
        given: options by name, as the user wrote them.
        handler: the handler's name, for the text of errors.
        durable: whether the bus has a transport.

    Raises:
        InvalidOption: an unknown option, a value of the wrong kind, or two that contradict.
        InvalidPolicy: a timeout that is no duration.
        Unsupported: an option that needs a transport, or makes no sense on one.
    """
    if not given:
        return DURABLE_DEFAULTS if durable else DEFAULTS
    for name in given:
        if name not in OPTIONS:
            hint = did_you_mean(name, list(OPTIONS))
            raise InvalidOption(f"{handler}: unknown option {name!r}{hint}")
        if name in TRANSPORT_ONLY and not durable and given[name] is not None:
            raise Unsupported(
                f"{handler}: {name}= needs a transport that keeps events, and a direct Bus() keeps"
                f" none; leave it out, or give the bus a URL"
            )
    values = {name: value for name, value in given.items() if value is not None}
    _check_values(values, handler)
    if "timeout" in values:
        values["timeout"] = seconds(values["timeout"], f"{handler}: timeout", positive=True)
    if durable:
        _check_durable(values, handler)
        values.setdefault("concurrency", CONCURRENCY)
    options = Options(**values, durable=durable)
    _check_together(options, handler)
    return options


def _check_values(values: dict[str, Any], handler: str) -> None:
    for name, policy in _POLICIES.items():
        if name in values and not isinstance(values[name], policy):
            _refuse(handler, name, f"a {policy.__name__}(...)", values[name])
    for name in ("once", "weak"):
        if name in values and not isinstance(values[name], bool):
            _refuse(handler, name, "True or False", values[name])
    if "name" in values:
        _check_name(values["name"], handler)
    where = values.get("where", _every)
    if not takes(where, 1) or inspect.iscoroutinefunction(where):
        _refuse(handler, "where", "a sync function of the event", where)
    if "priority" in values and type(values["priority"]) is not int:
        _refuse(handler, "priority", "an int", values["priority"])
    concurrency = values.get("concurrency", 1)
    if type(concurrency) is not int or concurrency < 1:
        _refuse(handler, "concurrency", "an int >= 1", concurrency)
    executor = values.get("executor", "inline")
    if not isinstance(executor, Executor) and executor not in ("inline", "thread", "pump"):
        _refuse(handler, "executor", "'inline', 'thread', 'pump' or an Executor", executor)


def _check_durable(values: dict[str, Any], handler: str) -> None:
    """What a transport adds, and what it refuses.

    Raises:
        Unsupported: an option that makes sense in one process only.
        InvalidOption: a value of the wrong kind.
    """
    for name, why in _DIRECT_ONLY.items():
        if values.get(name):
            raise Unsupported(f"{handler}: {name}= {why}; leave it out, or use a direct Bus()")
    if values.get("executor") in ("inline", "pump"):
        raise Unsupported(
            f"{handler}: executor={values['executor']!r} runs handlers in their publisher's"
            f" program; on a transport they run in workers: leave it out"
        )
    start = values.get("start", "new")
    if start not in ("new", "beginning") and (type(start) is not int or start < 0):
        _refuse(handler, "start", "'new', 'beginning' or a position", start)
    if values.get("when_dead", "continue") not in ("continue", "park"):
        _refuse(handler, "when_dead", "'continue' or 'park'", values["when_dead"])
    transaction = values.get("transaction", True)
    if transaction is False:
        values.pop("transaction")
    elif transaction is not True and not callable(transaction):
        _refuse(handler, "transaction", "True, or a factory of context managers", transaction)


def _check_name(name: object, handler: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        _refuse(handler, "name", "printable text", name)


def _every(event: object) -> bool:
    return True


def _check_together(options: Options, handler: str) -> None:
    if options.executor == "inline":
        for name in _NEEDS_ROOM:
            if getattr(options, name) is not None:
                raise InvalidOption(
                    f"{handler}: executor='inline' runs in the publisher's thread, which {name}="
                    f" would hold up; use executor='thread', or leave executor out"
                )


def _refuse(handler: str, name: str, expected: str, got: object) -> NoReturn:
    raise InvalidOption(f"{handler}: {name}: expected {expected}, got {shown(got)}")
