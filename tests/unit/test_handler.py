"""Handlers: what is found out about a function once, when it is registered."""

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pytest

import headwater
from headwater import Bus, Context
from headwater.errors import InvalidHandler
from headwater.handler import Handler, weak_target

if TYPE_CHECKING:
    from headwater import Context as Seen


class OrderPlaced(NamedTuple):
    item: str = "apple"


class Shop:
    """Handlers of every kind, bound and not."""

    def reserve(self, order: OrderPlaced) -> str:
        return order.item

    async def notify(self, order: OrderPlaced) -> str:
        return order.item

    def trace(self, order: OrderPlaced, context: Context) -> Context:
        return context

    @classmethod
    def count(cls, order: OrderPlaced) -> str:
        return order.item

    @staticmethod
    def weigh(order: OrderPlaced) -> str:
        return order.item


class Courier:
    """A callable object."""

    def __call__(self, order: OrderPlaced) -> str:
        return order.item


class AsyncCourier:
    """A callable object that is awaited."""

    async def __call__(self, order: OrderPlaced) -> str:
        return order.item


def reserve(order: OrderPlaced) -> str:
    """A plain function."""
    return order.item


async def notify(order: OrderPlaced) -> str:
    """A coroutine function."""
    return order.item


def labelled(label: str, order: OrderPlaced) -> str:
    """For partials."""
    return f"{label} {order.item}"


async def labelled_soon(label: str, order: OrderPlaced) -> str:
    """For partials that are awaited."""
    return f"{label} {order.item}"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as everybody writes them."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def logged_soon(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what is awaited."""

    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> object:
        return await function(*args, **kwargs)

    return wrapper


SYNC: dict[str, Callable[..., Any]] = {
    "function": reserve,
    "lambda": lambda order: order.item,
    "bound method": Shop().reserve,
    "class method": Shop.count,
    "static method": Shop.weigh,
    "callable object": Courier(),
    "partial": functools.partial(labelled, "new"),
    "partial of a partial": functools.partial(functools.partial(labelled), "new"),
    "partial of a method": functools.partial(Shop.reserve, Shop()),
    "decorated": logged(reserve),
    "builtin": repr,
    "class": str,
    "varargs": lambda *events: events[0].item,
    "default": lambda order, retries=3: order.item,
    "only default": lambda order=None: order.item,
}
ASYNC: dict[str, Callable[..., Any]] = {
    "coroutine function": notify,
    "bound method": Shop().notify,
    "callable object": AsyncCourier(),
    "partial": functools.partial(labelled_soon, "new"),
    "partial of a partial": functools.partial(functools.partial(labelled_soon), "new"),
    "partial of a method": functools.partial(Shop.notify, Shop()),
    "decorated": logged_soon(notify),
}


@pytest.mark.parametrize("function", SYNC.values(), ids=SYNC)
def test_everything_that_takes_one_event_is_a_handler(function: Callable[..., Any]) -> None:
    """It is called with the event alone, and found to be sync."""
    handler = Handler(function)
    assert not handler.is_async
    assert handler.pass_context is None
    assert "apple" in handler.call(handler.function, OrderPlaced(), None)


@pytest.mark.parametrize("function", ASYNC.values(), ids=ASYNC)
def test_everything_that_is_awaited_is_found_to_be_async(function: Callable[..., Any]) -> None:
    """Coroutine functions are known through partials, methods, objects and decorators."""
    handler = Handler(function)
    assert handler.is_async
    assert handler.pass_context is None
    assert "apple" in asyncio.run(handler.call(function, OrderPlaced(), None))


def test_a_sync_wrapper_of_an_async_function_is_awaited_all_the_same() -> None:
    """What a sync handler returns is awaited when it turns out to be awaitable."""
    seen: list[str] = []

    async def remember(order: OrderPlaced) -> None:
        await asyncio.sleep(0)
        seen.append(order.item)

    with Bus() as bus:
        assert bus.subscribe(OrderPlaced, logged(remember)).colour == "inline"
        bus.publish(OrderPlaced())
    assert seen == ["apple"]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        pytest.param(reserve, "reserve", id="function"),
        pytest.param(Shop().reserve, "Shop.reserve", id="bound method"),
        pytest.param(Shop.count, "Shop.count", id="class method"),
        pytest.param(Courier(), "Courier", id="callable object"),
        pytest.param(functools.partial(labelled, "new"), "labelled", id="partial"),
        pytest.param(logged(reserve), "reserve", id="decorated"),
    ],
)
def test_a_handler_is_named_by_its_module_and_qualname(
    function: Callable[..., Any], name: str
) -> None:
    """Partials and decorators hide nothing; an object is named by its class."""
    handler = Handler(function)
    assert handler.name == f"{__name__}.{name}"
    file, _, line = handler.where.rpartition(":")
    assert file == __file__
    assert int(line) > 0


def test_a_builtin_has_no_source_and_is_placed_by_its_name() -> None:
    """Where there is no file, the name stands for it."""
    handler = Handler(print)
    assert (handler.name, handler.where) == ("builtins.print", "builtins.print")
    assert repr(handler) == "<Handler builtins.print at builtins.print>"


def test_a_decorated_handler_is_placed_where_the_user_wrote_it() -> None:
    """`functools.wraps` leads back to the function, not to the decorator."""
    assert Handler(logged(reserve)).where == Handler(reserve).where


# The context.


def by_name(order: OrderPlaced, context: Any) -> Any:
    """Known by its name."""
    return context


def by_annotation(order: OrderPlaced, seen: Context) -> Any:
    """Known by its annotation."""
    return seen


def by_string(order: OrderPlaced, seen: "Context") -> Any:
    """Known by the text of its annotation."""
    return seen


def by_dotted_string(order: OrderPlaced, seen: "headwater.Context") -> Any:
    """Known by the text of its annotation, wherever it is imported from."""
    return seen


def optional(order: OrderPlaced, seen: Context | None = None) -> Any:
    """A default does not keep the context away."""
    return seen


def optional_string(order: OrderPlaced, seen: "Context | None" = None) -> Any:
    """The same in text."""
    return seen


def annotated(order: OrderPlaced, seen: Annotated[Context, "whatever"]) -> Any:
    """Annotations may be annotated."""
    return seen


def keyword_only(order: OrderPlaced, *, context: Context) -> Any:
    """By keyword."""
    return context


def keyword_only_by_annotation(order: OrderPlaced, *, seen: Context) -> Any:
    """By keyword, of any name."""
    return seen


def positional_only(order: OrderPlaced, context: Context, /) -> Any:
    """By position."""
    return context


def third(order: OrderPlaced, retries: int = 3, context: Context | None = None) -> Any:
    """Behind a default."""
    assert retries == 3
    return context


def before(context: Context, order: OrderPlaced) -> Any:
    """In front of the event."""
    assert isinstance(order, OrderPlaced)
    return context


CONTEXTS: dict[str, Callable[..., Any]] = {
    "by name": by_name,
    "by annotation": by_annotation,
    "by string": by_string,
    "by dotted string": by_dotted_string,
    "optional": optional,
    "optional string": optional_string,
    "annotated": annotated,
    "keyword-only": keyword_only,
    "keyword-only by annotation": keyword_only_by_annotation,
    "positional-only": positional_only,
    "third": third,
    "before": before,
    "method": Shop().trace,
    "partial": functools.partial(third, retries=3),
    "partial of a method": functools.partial(Shop.trace, Shop()),
    "decorated": logged(by_name),
}


@pytest.mark.parametrize("function", CONTEXTS.values(), ids=CONTEXTS)
def test_the_context_goes_where_it_is_wanted(function: Callable[..., Any]) -> None:
    """A parameter annotated Context or named context gets it, wherever it stands."""
    handler, given = Handler(function), []
    bus = Bus()

    @bus.on(OrderPlaced)
    def call(order: OrderPlaced, context: Context) -> None:
        given.extend([handler.call(function, order, context), context])

    bus.publish(OrderPlaced())
    got, context = given
    assert got is context


class NotOurs:
    """Somebody else's class of the same name."""

    class Context:
        """As others have one too."""


def someone_elses(order: OrderPlaced, seen: NotOurs.Context | None = None) -> Any:
    """Annotated with a class that only has the same name."""
    return seen


ELSEWHERE: dict[str, Callable[..., Any]] = {
    "someone else's": someone_elses,
    "default": lambda order, retries=None: retries,
    "rest": lambda order, *rest: rest or None,
    "rest named context": lambda order, *context: context or None,
    "keywords named context": lambda order, **context: context or None,
    "similar name": lambda order, contexts=None: contexts,
}


@pytest.mark.parametrize("function", ELSEWHERE.values(), ids=ELSEWHERE)
def test_the_context_goes_nowhere_else(function: Callable[..., Any]) -> None:
    """A default, the rest of the arguments, and a namesake keep what they have."""
    handler = Handler(function)
    assert handler.pass_context is None
    assert handler.call(function, OrderPlaced(), None) is None


def test_an_annotation_that_only_type_checkers_can_read_does_no_harm() -> None:
    """It cannot be looked up, and the parameter is known by its name."""

    def traced(order: "Unknown", context: "Seen") -> object:  # type: ignore[name-defined]  # noqa: F821
        return context

    assert Handler(traced).pass_context is not None


# Refused.


class Unbound:
    """Methods before there is an object."""

    def reserve(self, order: OrderPlaced) -> None:
        """Take an order."""

    def alone(self) -> None:
        """Take nothing, and an event would be taken for `self`."""


def no_event() -> None:
    """Take nothing."""


def two_events(order: OrderPlaced, other: OrderPlaced) -> None:
    """Take two."""


def keyword_event(*, order: OrderPlaced) -> None:
    """Take no positional argument."""


def needs_more(order: OrderPlaced, context: Context, shelf: str) -> None:
    """Need something that nobody has."""


def only_context(context: Context) -> None:
    """Take no event."""


@pytest.mark.parametrize(
    "function",
    [no_event, two_events, keyword_event, needs_more, only_context],
    ids=lambda function: function.__name__,
)
def test_what_cannot_take_one_event_is_refused_with_its_signature(
    function: Callable[..., Any],
) -> None:
    """The text tells the handler, its signature, where it stands, and what is expected."""
    with pytest.raises(InvalidHandler) as caught:
        Handler(function)
    text = str(caught.value)
    assert f"{__name__}.{function.__name__}(" in text
    assert f"{__file__}:{function.__code__.co_firstlineno}" in text
    assert "expected (event) or (event, context)" in text


@pytest.mark.parametrize("function", [Unbound.reserve, Unbound.alone], ids=["one", "none"])
def test_an_unbound_method_is_refused_with_the_fix(function: Callable[..., Any]) -> None:
    """Even one that could be called with one argument: the event is no `self`."""
    with pytest.raises(InvalidHandler, match=r"not bound to an object.*self\.(reserve|alone)\)"):
        Handler(function)


@pytest.mark.parametrize("function", [None, 42, "reserve", OrderPlaced(), [reserve]], ids=repr)
def test_what_is_not_callable_is_refused(function: Any) -> None:
    """The text shows what came."""
    with pytest.raises(InvalidHandler, match="expected something callable, got"):
        Handler(function)


# Held weakly.


def test_a_weak_target_lives_as_long_as_its_owner() -> None:
    """A bound method, a partial of one, and an object kept by somebody else."""
    shop, courier = Shop(), Courier()
    died: list[str] = []
    method = weak_target(shop.reserve, lambda: died.append("method"))
    partial = weak_target(functools.partial(shop.reserve), lambda: died.append("partial"))
    instance = weak_target(courier, lambda: died.append("instance"))
    found = [target() for target in (method, partial, instance)]
    assert [function and function(OrderPlaced("pear")) for function in found] == ["pear"] * 3
    del shop, courier, found
    gc.collect()
    assert [target() for target in (method, partial, instance)] == [None, None, None]
    assert sorted(died) == ["instance", "method", "partial"]


def test_a_weak_target_may_be_a_function_of_a_module() -> None:
    """Its module keeps it."""
    target = weak_target(reserve, lambda: None)
    assert target() is reserve


class Slotted:
    """Without room for weak references."""

    __slots__ = ()

    def reserve(self, order: OrderPlaced) -> None:
        """Take an order."""


def test_what_would_vanish_at_once_cannot_be_held_weakly() -> None:
    """Lambdas, local functions, partials of functions, and owners without weak references."""

    def local(order: OrderPlaced) -> None: ...

    cases: list[tuple[Callable[..., Any], str]] = [
        (lambda order: None, "<lambda> alive, it would vanish at once"),
        (local, "local alive, it would vanish at once"),
        (functools.partial(labelled, "new"), "alive, it would vanish at once"),
        (Slotted().reserve, "Slotted cannot be weakly referenced"),
    ]
    for function, words in cases:
        with pytest.raises(InvalidHandler, match=words):
            weak_target(function, lambda: None)
