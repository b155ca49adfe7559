"""Requests and replies: one replier per name, and the way back of what it says."""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from headwater import codec
from headwater.errors import DuplicateName, NoReplier, RemoteError, RequestTimeout, Unsupported
from headwater.event import did_you_mean, name_of
from headwater.notebook import Cells
from headwater.options import Options
from headwater.receipt import Pending, Receipt
from headwater.registry import check_what
from headwater.subscription import Subscription
from headwater.topic import check_name

R = TypeVar("R")


class Repliers:
    """Who replies to which request, one for each name.

    Args:
        prepare: makes what is called for an inline replier.
    """

    def __init__(self, prepare: Callable[[Subscription], Callable[[Any], Any]]) -> None:
        self._prepare = prepare
        self._by_name: dict[str, Subscription] = {}
        self._cells: Cells[Subscription] = Cells()
        self._orders = itertools.count()

    def add(self, what: type | str, function: Callable[..., Any], options: Options) -> Subscription:
        """Let `function` reply to `what`.

        Raises:
            DuplicateName: somebody replies to it already.
            Unsupported: ``retry``: a request is never retried.
        """
        if options.retry is not None:
            raise Unsupported("reply: a request is not retried: whoever asks may ask again")
        name = name_of_request(what)
        replier = Subscription(self, (what,), function, options, next(self._orders))
        replier.call = self._prepare(replier)
        self._replace(name, replier)
        known = self._by_name.setdefault(name, replier)
        if known is not replier:
            self._cells.forget(replier)
            raise DuplicateName(
                f"{replier.name} and {known.name} both reply to {name!r}: expected one replier"
            )
        return replier

    def _replace(self, name: str, new: Subscription) -> None:
        """Make room for `new` where its owner is gone, or a notebook defines it again."""
        handler = new.handler
        again = self._cells.replaced_by(new, handler.name, handler.where, name)
        known = self._by_name.get(name)
        if known is not None and (known.dead or known in again):
            known.close()

    def made(self, event: object, data: object) -> tuple[object, object]:
        """A request as it was given; made of data where its name is that of a class.

        Raises:
            InvalidData: the data does not make the class that is replied to.
        """
        replier = self._by_name.get(event) if isinstance(event, str) else None
        what = None if replier is None else replier.what[0]
        if not isinstance(what, type):
            return event, data
        made: object = codec.build({} if data is None else data, what, name_of(what))
        return made, None

    def find(self, names: tuple[str, ...]) -> Subscription:
        """The replier for a request with these names, leaf to root.

        Raises:
            NoReplier: there is none.
        """
        for name in names:
            replier = self._by_name.get(name)
            if replier is not None and not replier.dead:
                return replier
        hint = did_you_mean(names[0], self._by_name)
        raise NoReplier(f"nobody replies to {names[0]!r}{hint}")

    def remove(self, subscription: Subscription) -> None:
        """A replier was closed."""
        for name, replier in tuple(self._by_name.items()):
            if replier is subscription:
                self._by_name.pop(name, None)
        self._cells.forget(subscription)

    def died(self, subscription: Subscription) -> None:
        """The owner of a weak replier is gone: `find` passes it over."""

    def changed(self, subscription: Subscription) -> None:
        """A replier was paused or resumed: requests are not held back, they expire."""


def name_of_request(what: object) -> str:
    """The name that is replied to: a class's own, or a plain name.

    Raises:
        InvalidOption: neither a class nor a str.
        InvalidName: a name that is not dotted tokens, or a pattern.
    """
    (wanted,) = check_what([what])
    return check_name(wanted) if isinstance(wanted, str) else name_of(wanted)


class Asking(Receipt):
    """The receipt of a request: whoever asks waits for the answer, deferred or not."""

    def defer(self, delivery: Pending) -> bool:
        """A reply that comes later is still waited for."""
        return False


def answer(errors: tuple[BaseException, ...], result: object, returns: type[R] | None) -> Any:
    """What the replier said.

    Args:
        errors: what it failed with.
        result: what it returned.
        returns: what was expected; data of another shape is made into it.

    Raises:
        RemoteError: it failed.
        InvalidData: it returned something that does not make a `returns`.
    """
    if errors:
        kind = type(errors[0]).__name__
        raise RemoteError(f"the replier failed with {kind}: {errors[0]}", kind) from errors[0]
    return result if returns is None else codec.build(result, returns, "reply")


def too_late(name: str, timeout: float) -> RequestTimeout:
    """The error of a request whose reply did not come in time."""
    return RequestTimeout(f"{name}: no reply within {timeout:g} s")
