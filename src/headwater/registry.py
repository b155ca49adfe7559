"""Who wants what.

Publishers read two dictionaries and take no lock. Every change happens under the registry's own
lock and ends by putting new dictionaries in place of the old ones, without the entries that the
change affects. A publisher that builds an entry puts it into the dictionary it read before it
looked, so that what it saw of the past never lands among what is true now.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import UnionType
from typing import Any, NamedTuple, Union, get_origin

from headwater.errors import DuplicateName, InvalidOption
from headwater.event import key_function, name_of, names_of, spec_of, topic_of
from headwater.notebook import Cells, running_cell
from headwater.options import Options
from headwater.policies.field import shown
from headwater.runtime import Lock
from headwater.subscription import Subscription, What
from headwater.topic import check_pattern, is_pattern, matches

MAX_ROUTES = 1 << 16
"""Routes kept at most; past that they are built anew, so that names made up without end cost
time and not memory."""

Route_ = type[Any] | str


class Route(NamedTuple):
    """All there is to know to deliver one class or name of event.

    Attributes:
        names: leaf to root.
        topic: where it travels.
        key: the function that gives its key, or None.
        subscriptions: those that match, in the order they are started.
        pending: how many of them do not run inline, or are paused; with none it is the hot path.
        swift: whether all of them are async handlers that an event without a key starts at once.
        silent: nobody is interested, and nobody muted it either.
        muted: somebody muted it.
    """

    names: tuple[str, ...]
    topic: str
    key: Callable[[Any], object] | None
    subscriptions: tuple[Subscription, ...]
    pending: int
    swift: bool
    silent: bool
    muted: bool


Hit = tuple[Subscription, ...] | None
"""What the hot path's dictionary gives for an event class."""


class Hot(dict[type, Hit]):
    """The hot path's dictionary: a class that is not in it gives None.

    A subscript costs the publisher a third less than a call of ``get``.
    """

    __slots__ = ()

    def __missing__(self, key: type) -> None:
        return None


class Registry:
    """The subscriptions of one bus.

    Attributes:
        hot: by event class, the subscriptions of an event whose handlers all run inline.
        swift: by event class, the route of an event of which some handlers do not. Both are
            short ways through the bus, and empty while `watched` is true.
        classes: event classes by name.
    """

    def __init__(self, prepare: Callable[[Subscription], Callable[[Any], Any]]) -> None:
        self.hot = Hot()
        self.swift: dict[type, Route] = {}
        self.classes: dict[str, type[Any]] = {}
        self.watched = True
        self.on_change: Callable[[Subscription], None] = lambda subscription: None
        self._prepare = prepare
        self._routes: dict[Route_, Route] = {}
        self._dependents: dict[Route_, set[Route_]] = {}
        self._exact: dict[Route_, tuple[Subscription, ...]] = {}
        self._patterns: tuple[tuple[str, Subscription], ...] = ()
        self._muted: tuple[What, ...] = ()
        self._orders = itertools.count()
        self._died: deque[Subscription] = deque()
        self._cells: Cells[Subscription] = Cells()
        self._lock = Lock()

    # Asked by publishers, without a lock.

    def route(self, what: Route_) -> Route:
        """The route of an event class, or of a plain name that has no class."""
        routes, hot, swift = self._routes, self.hot, self.swift
        route = routes.get(what)
        if route is None:
            if isinstance(what, type):
                self.claim(what)
            route = self._build(what)
            if len(routes) >= MAX_ROUTES:
                self._forget(None)
            routes[what] = route
            if isinstance(what, type) and not self.watched and not route.silent:
                if route.pending:
                    hot[what] = None  # Found and nothing: cheaper than not found.
                    swift[what] = route
                else:
                    hot[what] = route.subscriptions
        return route

    def knows(self, name: str) -> bool:
        """Whether the name was published before, and so need not be checked again."""
        return name in self._routes

    def __iter__(self) -> Iterator[Subscription]:
        """All subscriptions of users, in order of registration."""
        every = {sub for subs in tuple(self._exact.values()) for sub in subs}
        every.update(sub for _, sub in self._patterns)
        return iter(sorted((sub for sub in every if not sub.probe), key=lambda sub: sub.order))

    def known_names(self) -> set[str]:
        """Names that somebody subscribed to, for did-you-mean."""
        names = set(self.classes)
        return names | {what for what in tuple(self._exact) if isinstance(what, str)}

    # Changes.

    def subscribe(
        self,
        what: Iterable[object],
        function: Callable[..., Any],
        options: Options,
        *,
        probe: bool = False,
    ) -> Subscription:
        """Add a subscription, whole or not at all."""
        wanted = check_what(what)
        order = next(self._orders)
        subscription = Subscription(self, wanted, function, options, order, probe=probe)
        subscription.call = self._prepare(subscription)
        self.claim(*(item for item in wanted if isinstance(item, type)))
        with self._lock:
            self._replace(subscription)
            for item in wanted:
                if isinstance(item, str) and is_pattern(item):
                    self._patterns = (*self._patterns, (item, subscription))
                else:
                    self._exact[item] = (*self._exact.get(item, ()), subscription)
            self._forget(wanted)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        with self._lock:
            for item in subscription.what:
                left = tuple(s for s in self._exact.get(item, ()) if s is not subscription)
                if left:
                    self._exact[item] = left
                else:
                    self._exact.pop(item, None)
            self._patterns = tuple(p for p in self._patterns if p[1] is not subscription)
            self._cells.forget(subscription)
            self._forget(subscription.what if self._exact or self._patterns else None)
            if not self._exact and not self._patterns:
                self.classes = {}
        self.on_change(subscription)

    def died(self, subscription: Subscription) -> None:
        """Note that the owner of a weak subscription is gone.

        The garbage collector says so, in the midst of anything: it is only noted.
        """
        self._died.append(subscription)

    def changed(self, subscription: Subscription) -> None:
        """A subscription was paused or resumed."""
        with self._lock:
            self._forget(subscription.what)
        self.on_change(subscription)

    def watch(self, *, watched: bool) -> None:
        """Send every event past the watchers, or only as far as it must go."""
        with self._lock:
            self.watched = watched
            self._forget(None)

    def prepare_again(self) -> None:
        """Middleware was added: every call has to be made anew."""
        with self._lock:
            for subscription in self:
                if not subscription.closed:
                    subscription.call = self._prepare(subscription)
            self._forget(None)

    def mute(self, what: tuple[What, ...]) -> Callable[[], None]:
        """Keep matching events from everybody's handlers; returns the way back."""
        wanted = check_what(what)
        with self._lock:
            self._muted = (*self._muted, *wanted)
            self._forget(None)

        def unmute() -> None:
            with self._lock:
                left = list(self._muted)
                for item in wanted:
                    left.remove(item)
                self._muted = tuple(left)
                self._forget(None)

        return unmute

    def reap(self) -> None:
        """Remove the subscriptions whose weak owners are gone."""
        while self._died:
            with contextlib.suppress(IndexError):  # Another thread took the last one.
                self._died.popleft().close()

    def claim(self, *classes: type) -> None:
        """Note the names of event classes, all of them or none.

        Raises:
            DuplicateName: another class has one of them.
        """
        claims: dict[str, type] = {}
        for cls in classes:
            for name in (name_of(cls), *spec_of(cls).aliases):
                _check_same(name, cls, self.classes.get(name) or claims.get(name) or cls)
                claims[name] = cls
        for name, cls in claims.items():
            known = self.classes.setdefault(name, cls)
            if known is not cls:
                _check_same(name, cls, known)
                with self._lock:
                    self.classes[name] = cls
                    self._rename(known, cls)

    def after_fork(self) -> None:
        """In the child of a fork: a lock that another thread of the parent held is nobody's."""
        self._lock = Lock()
        self.watched = True
        self._forget(None)

    # Inside.

    def _build(self, what: Route_) -> Route:
        names = names_of(what) if isinstance(what, type) else (what,)
        bases: tuple[Route_, ...] = what.__mro__ if isinstance(what, type) else ()
        interests: tuple[Route_, ...] = (*bases, *names)
        found: dict[Subscription, None] = {}
        for interest in interests:
            if interest is not what:
                self._dependents.setdefault(interest, set()).add(what)
            found.update(dict.fromkeys(self._exact.get(interest, ())))
        for pattern, subscription in self._patterns:
            if any(matches(pattern, name) for name in names):
                found[subscription] = None
        muted = any(_wants(item, what, names) for item in self._muted)
        chosen = sorted(
            (sub for sub in found if sub.probe or not muted),
            key=lambda sub: (not sub.probe, -sub.options.priority, sub.order),
        )
        return Route(
            names=names,
            topic=topic_of(what) if isinstance(what, type) else "events",
            key=key_function(what) if isinstance(what, type) else None,
            subscriptions=tuple(chosen),
            pending=sum(sub.colour != "inline" or sub.paused for sub in chosen),
            swift=all(sub.swift and not sub.choosy and not sub.paused for sub in chosen),
            silent=not muted and all(sub.probe for sub in chosen),
            muted=muted,
        )

    def _forget(self, what: Iterable[What] | None) -> None:
        """Put new dictionaries in place, without the routes that depend on `what` (None: all)."""
        affected: set[Route_] | None = None
        items = () if what is None else tuple(what)
        if what is not None and not any(isinstance(i, str) and is_pattern(i) for i in items):
            affected = set(items)
            for item in items:
                affected |= self._dependents.get(item, set())
        if affected is None:
            self._dependents, self._routes, self.hot, self.swift = {}, {}, Hot(), {}
            return
        routes, hot, swift = self._routes.copy(), Hot(self.hot), self.swift.copy()
        for key in affected:
            routes.pop(key, None)
            if isinstance(key, type):
                hot.pop(key, None)
                swift.pop(key, None)
        self._routes, self.hot, self.swift = routes, hot, swift

    def _replace(self, new: Subscription) -> None:
        """In a notebook, a handler that is defined again takes the place of the earlier one."""
        labels = (what if isinstance(what, str) else name_of(what) for what in new.what)
        for old in self._cells.replaced_by(new, new.handler.name, new.handler.where, *labels):
            old.close()

    def _rename(self, old: type, new: type) -> None:
        subscriptions = self._exact.pop(old, ())
        for subscription in subscriptions:
            subscription.what = tuple(new if w is old else w for w in subscription.what)
        self._exact[new] = (*self._exact.get(new, ()), *subscriptions)
        self._forget(None)


def check_what(what: Iterable[object]) -> tuple[What, ...]:
    """What to subscribe to, checked: at least one event class, name or pattern.

    Raises:
        InvalidOption: nothing, or something that is neither a class nor a str.
        InvalidName: a pattern that is not dotted tokens.
    """
    wanted: list[What] = []
    for item in what:
        if isinstance(item, str):
            wanted.append(check_pattern(item))
        elif isinstance(item, type):
            wanted.append(item)
        else:
            raise InvalidOption(
                f"what: expected an event class or a dotted name, got {shown(item)}{_hint(item)}"
            )
    if not wanted:
        raise InvalidOption("what: expected at least one event class or dotted name, got none")
    return tuple(dict.fromkeys(wanted))


def _hint(what: object) -> str:
    """How to say what was meant by `A | B` or `Changed[int]`."""
    origin = get_origin(what)
    if origin in (Union, UnionType):
        return "; give the classes one by one, as in on(A, B)"
    return "" if origin is None else "; an event does not know its type arguments: give the class"


def _wants(item: What, what: Route_, names: tuple[str, ...]) -> bool:
    if isinstance(item, type):
        return isinstance(what, type) and issubclass(what, item)
    return any(matches(item, name) for name in names)


def _check_same(name: str, cls: type, known: type) -> None:
    """Refuse a second class of one name, unless a notebook defines its class again."""
    if known is cls:
        return
    if running_cell() is None or known.__module__ != "__main__" or cls.__module__ != "__main__":
        raise DuplicateName(
            f"{_source(cls)} and {_source(known)} are both named {name!r}: give one of them"
            f" another name with @event(name=...)"
        )


def _source(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
