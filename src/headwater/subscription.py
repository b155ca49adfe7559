"""A subscription: one handler's interest in events, and the switch to end it."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, Self

from headwater.errors import InvalidHandler, InvalidOption
from headwater.handler import Handler, weak_target
from headwater.intake import Intake
from headwater.options import Options
from headwater.policies.breaker import BreakerState
from headwater.runtime import Lock, shares_memory

What = type[Any] | str
Colour = Literal["inline", "async", "thread", "pump", "executor", "process"]


class Owner(Protocol):
    """Who holds subscriptions: the registry."""

    def remove(self, subscription: "Subscription") -> None:
        """Forget it."""
        ...

    def changed(self, subscription: "Subscription") -> None:
        """It was paused or resumed."""
        ...

    def died(self, subscription: "Subscription") -> None:
        """Its weak owner is gone; said inside the garbage collector."""
        ...


class Subscription:
    """One handler's interest in events. As a context manager it ends with the block.

    Attributes:
        name: ``module.qualname`` of the handler, or what ``name=`` said.
        what: the classes, names and patterns it is interested in.
        handler: what is known about its function.
        options: its options, checked.
        colour: how its handler is run.
        closed: whether it has ended.
        paused: whether its events are held back.
        call: what the hot path calls; replaced when the subscription ends, so that a publish
            that is under way in any thread does not call the handler any more.
    """

    __slots__ = (
        "__weakref__",
        "_claims",
        "_owner",
        "_target",
        "breaker",
        "call",
        "choosy",
        "closed",
        "colour",
        "durable",
        "handler",
        "intake",
        "lock",
        "name",
        "options",
        "order",
        "paused",
        "prepared",
        "probe",
        "simple",
        "swift",
        "takes_turns",
        "what",
    )

    def __init__(
        self,
        owner: Owner,
        what: tuple[What, ...],
        function: Callable[..., Any],
        options: Options,
        order: int,
        *,
        probe: bool = False,
    ) -> None:
        self._owner = owner
        self.what = what
        self.handler = Handler(function)
        self.options = options
        self.name = options.name or self.handler.name
        self.order = order
        self.probe = probe
        self.durable = options.durable and not probe
        """Whether its events come out of a log."""
        self.prepared = False
        """Whether it belongs to the bus's own tools: seen by nobody, fed even when muted."""
        self.closed = False
        self.paused = False
        self.colour: Colour = _colour(self.handler, options)
        self.intake: Intake[Any] | None = None
        self.breaker = BreakerState(options.breaker) if options.breaker is not None else None
        self.lock = Lock() if self.colour != "inline" or self.breaker is not None else None
        self.takes_turns = bool(options.concurrency or options.rate or options.resequence)
        """Whether events without a key pass its intake too."""
        self._claims = [None] if options.once else None
        self._target: Callable[[], Callable[..., Any] | None] | None = None
        if options.weak:
            self._target = weak_target(function, self._died)
            self.handler.forget()
        self.simple = (
            self._target is None and self.handler.pass_context is None and options.timeout is None
        )
        """Whether an attempt is nothing but a call of the function with the event."""
        self.swift = (
            self.colour == "async"
            and self.breaker is None
            and options.retry is None
            and not self.takes_turns
        )
        """Whether an event without a key is started at once, on the loop."""
        self.choosy = bool(options.where or options.once or options.weak)
        """Whether it may refuse an event while it is open."""
        self.call: Callable[[Any], Any] = skip

    def replace(self, handler: Handler) -> None:
        """Call its handler by way of something that takes ``(event, context)``."""
        self.handler, self.simple = handler, False

    def function(self) -> Callable[..., Any] | None:
        """The handler's function; None when its owner is gone."""
        return self.handler.function if self._target is None else self._target()

    @property
    def dead(self) -> bool:
        """Whether it was weak and its owner is gone."""
        return self._target is not None and self._target() is None

    @property
    def plain(self) -> bool:
        """Whether an inline call is nothing but a call of the function with the event."""
        return (
            self._target is None
            and self._claims is None
            and self.breaker is None
            and self.options.where is None
            and self.handler.pass_context is None
        )

    def admits(self, event: object) -> bool:
        """Whether the handler is to be called with `event`; with ``once``, true only once."""
        if self.closed:
            return False
        if self.dead:
            self.close()
            return False
        where = self.options.where
        if where is not None and not where(event):
            return False
        if self._claims is None:
            return True
        try:
            self._claims.pop()  # Atomic: of all threads that come here, one gets it.
        except IndexError:
            return False
        self.close()
        return True

    @property
    def may_run(self) -> bool:
        """Whether a delivery that was admitted may still call the handler."""
        return not self.closed or self._claims is not None

    @property
    def holds(self) -> bool:
        """Whether what comes is kept for later: it is paused, and will go on."""
        return self.paused and self.may_run

    def close(self) -> None:
        """End it. Its handler is not called any more, not by this event either; twice is once."""
        if not self.closed:
            self.closed = True
            self.call = skip
            self._owner.remove(self)

    def pause(self) -> None:
        """Hold its events back, in order, until `resume`; they count as unfinished."""
        if not self.paused and not self.closed:
            self.paused = True
            self._owner.changed(self)

    def resume(self) -> None:
        """Handle what was held back, then go on."""
        if self.paused:
            self.paused = False
            self._owner.changed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else self.colour
        return f"<Subscription {self.name} to {describe(self.what)}, {state}>"

    def _died(self) -> None:
        """Mark that the weak owner is gone; whoever meets the mark next cleans up.

        This runs inside the garbage collector, perhaps while this very thread holds a lock.
        """
        self.call = self._reap
        self._owner.died(self)

    def _reap(self, event: object) -> None:
        self.close()


def skip(event: object) -> None:
    """What a closed subscription does with an event."""


def describe(what: tuple[What, ...]) -> str:
    """Classes, names and patterns, for people."""
    return ", ".join(item if isinstance(item, str) else item.__qualname__ for item in what)


def _colour(handler: Handler, options: Options) -> Colour:
    executor = options.executor
    if handler.is_generator:
        raise InvalidHandler(
            f"handler {handler.name} at {handler.where}: expected a function, got a generator"
            f" function, whose body a call does not run"
        )
    if handler.is_async:
        if executor is not None:
            raise InvalidOption(
                f"{handler.name}: an async handler runs on the loop; expected no executor=,"
                f" got {executor!r}"
            )
        return "async"
    if executor is None:
        needs_room = (
            options.retry
            or options.rate
            or options.resequence
            or options.timeout is not None
            or options.concurrency is not None
            or options.durable
        )
        return "thread" if needs_room else "inline"
    if isinstance(executor, str):
        return executor
    if shares_memory(executor):
        return "executor"
    if handler.pass_context is not None:
        raise InvalidHandler(
            f"{handler.name}: a Context cannot travel to another process; take only the event"
        )
    return "process"
