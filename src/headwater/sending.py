"""How one event is to be published: the options of a publish, checked in one place."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, NoReturn, TypedDict, cast

from headwater.errors import InvalidOption, Unsupported
from headwater.event import did_you_mean
from headwater.policies.duration import Duration, seconds
from headwater.policies.field import shown


class PublishOptions(TypedDict, total=False):
    """The options of `Bus.publish`.

    Attributes:
        key: orders this event among others; instead of the class's ``key=``.
        headers: text by name, on the message's way.
        id: the event's id, instead of a new UUIDv7.
        delay: seconds, or a timedelta, before it is delivered.
        at: when to deliver it: a datetime with a time zone, or seconds since 1970.
        new_story: true makes it the first of a story of its own, not an effect of the running
            handler.
        immediate: on a transport, publish now and not when the handler has succeeded; on a
            direct bus that is always so.
        transaction: on a transport, the connection whose transaction stores it.
    """

    key: object
    headers: Mapping[str, str] | None
    id: str | None
    delay: Duration | None
    at: datetime | float | None
    new_story: bool
    immediate: bool
    transaction: object


class Sending(NamedTuple):
    """The checked options of one publish; `wait` is in seconds from now, None for at once."""

    key: str | None = None
    headers: Mapping[str, str] | None = None
    id: str | None = None
    wait: float | None = None
    new_story: bool = False
    immediate: bool = False
    transaction: Any = None


_NAMES = sorted(PublishOptions.__annotations__)


def check_publish(
    given: Mapping[str, Any], now: Callable[[], float], *, stores: bool = False
) -> Sending:
    """The options of a publish.

    Args:
        given: options by name, as the user wrote them.
        now: the wall clock.
        stores: whether the bus has a transport.

    Raises:
        InvalidOption: an unknown option, or a value of the wrong kind.
        InvalidPolicy: a delay that is no duration.
        Unsupported: ``transaction=`` on a direct bus.
    """
    for name in given:
        if name not in _NAMES:
            raise InvalidOption(f"publish: unknown option {name!r}{did_you_mean(name, _NAMES)}")
    if given.get("transaction") is not None and not stores:
        raise Unsupported(
            "publish: transaction= needs a transport that stores events in a database, and a"
            " direct Bus() stores none; publish after the commit, or give the bus a URL"
        )
    key, event_id = given.get("key"), given.get("id")
    if event_id is not None and (not isinstance(event_id, str) or not event_id):
        _refuse("id", "non-empty text", event_id)
    for name in ("new_story", "immediate"):
        if not isinstance(given.get(name, False), bool):
            _refuse(name, "True or False", given[name])
    return Sending(
        key=None if key is None else _text(key),
        headers=_check_headers(given.get("headers")),
        id=event_id,
        wait=_wait(given.get("delay"), given.get("at"), now),
        new_story=given.get("new_story", False),
        immediate=given.get("immediate", False),
        transaction=given.get("transaction"),
    )


def _text(key: object) -> str:
    try:
        return str(key)
    except Exception as error:  # What a user's __str__ raises is anybody's guess.
        raise InvalidOption(
            f"publish: key: expected something that has a str, got {shown(key)}"
        ) from error


def _check_headers(headers: object) -> Mapping[str, str] | None:
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        _refuse("headers", "a mapping of str to str", headers)
    for name, value in cast("Mapping[object, object]", headers).items():
        if not isinstance(name, str) or not isinstance(value, str):
            _refuse("headers", "a mapping of str to str", {name: value})
    return dict(cast("Mapping[str, str]", headers))


def _wait(delay: object, at: object, now: Callable[[], float]) -> float | None:
    if delay is None and at is None:
        return None
    if delay is not None and at is not None:
        raise InvalidOption("publish: expected delay= or at=, got both")
    if delay is not None:
        return seconds(delay, "publish: delay")
    if isinstance(at, datetime):
        if at.tzinfo is None:
            _refuse("at", "a datetime with a time zone", at)
        return at.timestamp() - now()
    if isinstance(at, int | float) and not isinstance(at, bool):
        return seconds(at, "publish: at") - now()
    _refuse("at", "a datetime with a time zone, or seconds since 1970", at)


def _refuse(name: str, expected: str, got: object) -> NoReturn:
    raise InvalidOption(f"publish: {name}: expected {expected}, got {shown(got)}")
