"""Handlers declared without a bus, and the decorator that both know.

The overloads link the class to the handler: a handler of another event is refused by the type
checker, and `on(A, B)` takes a handler of ``A | B``.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, Never, Protocol, TypeVar, Unpack, overload

from headwater.context import Context
from headwater.errors import InvalidOption
from headwater.handler import Handler
from headwater.options import TRANSPORT_ONLY, SubscribeOptions, check_options
from headwater.registry import check_what

E_contra = TypeVar("E_contra", contravariant=True)
E = TypeVar("E")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

Declaration = tuple[tuple[object, ...], Callable[..., Any], SubscribeOptions[Any]]
"""What to subscribe to, the handler, its options."""


class TakesContext(Protocol[E_contra]):
    """A handler whose context is a keyword."""

    def __call__(self, event: E_contra, /, *, context: Context) -> object:
        """Handle an event."""
        ...


class Decorator(Protocol[E]):
    """What `on` returns: takes a handler of `E`, registers it, gives it back."""

    @overload
    def __call__(self, handler: Callable[[E], R], /) -> Callable[[E], R]: ...
    @overload
    def __call__(self, handler: Callable[[E, Context], R], /) -> Callable[[E, Context], R]: ...
    @overload
    def __call__(self, handler: TakesContext[E], /) -> TakesContext[E]: ...


class Declaring(Generic[R]):
    """`subscribe` and `on`, for the bus and for `Handlers`; `R` is what subscribing gives."""

    def _subscribe(
        self, what: tuple[object, ...], handler: Callable[..., Any], options: SubscribeOptions[Any]
    ) -> R:
        raise NotImplementedError

    @overload
    def subscribe(
        self,
        what: type[E],
        handler: Callable[[E], object],
        **options: Unpack[SubscribeOptions[E]],
    ) -> R: ...
    @overload
    def subscribe(
        self,
        what: type[E],
        handler: Callable[[E, Context], object],
        **options: Unpack[SubscribeOptions[E]],
    ) -> R: ...
    @overload
    def subscribe(
        self, what: type[E], handler: TakesContext[E], **options: Unpack[SubscribeOptions[E]]
    ) -> R: ...
    # A lambda with a default is the first of these two for pyright, and the second for mypy.
    @overload
    def subscribe(
        self,
        what: str,
        handler: Callable[[Any], object],
        **options: Unpack[SubscribeOptions[Any]],
    ) -> R: ...
    @overload
    def subscribe(
        self,
        what: str,
        handler: Callable[[Any], object] | Callable[[Any, Context], object],
        **options: Unpack[SubscribeOptions[Any]],
    ) -> R: ...
    @overload
    def subscribe(
        self, what: str, handler: TakesContext[Never], **options: Unpack[SubscribeOptions[Any]]
    ) -> R: ...
    def subscribe(
        self, what: Any, handler: Callable[..., Any], **options: Unpack[SubscribeOptions[Any]]
    ) -> R:
        """Have `handler` called with events, from the next one on.

        Args:
            what: an event class (its subclasses too), or a dotted name, in which ``*`` stands
                for one token and a final ``**`` for the rest; names match class events too.
            handler: takes ``(event)`` or ``(event, context)``; sync or async.
            options: see `headwater.options.OPTIONS`, or the table in the docs.

        Returns:
            The `Subscription`, to close, pause and resume it, also as a context manager;
            None from `Handlers`.

        Raises:
            InvalidHandler: the handler cannot be called with one event, or not held weakly.
            InvalidName: a name or pattern that is not dotted tokens.
            InvalidOption, InvalidPolicy: an option that is unknown or makes no sense.
            DuplicateName: another class has this class's name.
            Unsupported: an option that needs a transport.
        """
        return self._subscribe((what,), handler, options)

    # The first four tell classes from what else is allowed, which mypy calls overlapping.
    @overload
    def on(  # type: ignore[overload-overlap]
        self, what: type[A], /, **options: Unpack[SubscribeOptions[A]]
    ) -> Decorator[A]: ...
    @overload
    def on(  # type: ignore[overload-overlap]
        self, what: type[A], other: type[B], /, **options: Unpack[SubscribeOptions[A | B]]
    ) -> Decorator[A | B]: ...
    @overload
    def on(  # type: ignore[overload-overlap]
        self,
        what: type[A],
        other: type[B],
        third: type[C],
        /,
        **options: Unpack[SubscribeOptions[A | B | C]],
    ) -> Decorator[A | B | C]: ...
    @overload
    def on(  # type: ignore[overload-overlap]
        self,
        what: type[A],
        other: type[B],
        third: type[C],
        fourth: type[D],
        /,
        **options: Unpack[SubscribeOptions[A | B | C | D]],
    ) -> Decorator[A | B | C | D]: ...
    @overload
    def on(
        self, *what: type[Any] | str, **options: Unpack[SubscribeOptions[Any]]
    ) -> Callable[[F], F]: ...
    def on(self, *what: object, **options: Unpack[SubscribeOptions[Any]]) -> Any:
        """Decorate a handler: `subscribe` for one or more classes, names and patterns.

        An event that several of them match is handled once. All or nothing: an error leaves
        nothing subscribed.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            As for `subscribe`, at the decoration.
        """
        for item in what:
            if inspect.isroutine(item):
                raise InvalidOption(
                    f"on: expected event classes or names, as in @bus.on(OrderPlaced), got {item!r}"
                )

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            self._subscribe(what, handler, options)
            return handler

        return decorate


class Handlers(Declaring[None]):
    """Handlers declared without a bus; `Bus.include` subscribes them, all or none.

    For libraries, routers and applications that do not own the bus.
    """

    def __init__(self) -> None:
        self._declared: list[Declaration] = []

    def _subscribe(
        self, what: tuple[object, ...], handler: Callable[..., Any], options: SubscribeOptions[Any]
    ) -> None:
        check_what(what)
        # Which bus it will be is not known yet: what only a transport can do is for that to refuse.
        durable = any(options.get(name) is not None for name in TRANSPORT_ONLY)
        check_options(options, Handler(handler).name, durable=durable)
        self._declared.append((what, handler, options))

    def __iter__(self) -> Iterator[Declaration]:
        return iter(tuple(self._declared))

    def __len__(self) -> int:
        return len(self._declared)
