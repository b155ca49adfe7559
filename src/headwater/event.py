"""What makes a class an event: its name, topic, key and version.

Any class can be an event as it is; `@event` only says more about it. What it says is kept on
the class itself, so that it survives decorators that make the class anew, in either order.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast, overload

from headwater.errors import InvalidEvent, InvalidOption
from headwater.policies.field import shown, takes
from headwater.topic import check_name

ATTRIBUTE = "__headwater_event__"
DEFAULT_TOPIC = "events"

# Classes that are no facts of anybody's: their names are nothing to subscribe to.
_BASES = frozenset({"builtins", "abc", "typing", "typing_extensions", "msgspec", "pydantic"})

E = TypeVar("E")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


class EventSpec(NamedTuple):
    """What `@event` said about a class.

    Attributes:
        name: the name on the wire; None: the class's ``__qualname__``.
        key: the attribute, or a function of the event, whose ``str`` orders it; None: no key.
        topic: where its messages travel; None: inherited, in the end ``events``.
        version: the version of its fields, from 1.
        upgrade: by old version, the function that makes its plain data one version newer.
        aliases: older names under which its messages may still come.
    """

    name: str | None = None
    key: str | Callable[[Any], object] | None = None
    topic: str | None = None
    version: int = 1
    upgrade: Mapping[int, Upgrade] = MappingProxyType({})
    aliases: tuple[str, ...] = ()


@overload
def event(cls: type[E], /) -> type[E]: ...
@overload
def event(
    *,
    name: str | None = None,
    key: str | Callable[[Any], object] | None = None,
    topic: str | None = None,
    version: int = 1,
    upgrade: Mapping[int, Upgrade] | None = None,
    aliases: Iterable[str] = (),
) -> Callable[[type[E]], type[E]]: ...
def event(
    cls: type[E] | None = None,
    /,
    *,
    name: str | None = None,
    key: str | Callable[[Any], object] | None = None,
    topic: str | None = None,
    version: int = 1,
    upgrade: Mapping[int, Upgrade] | None = None,
    aliases: Iterable[str] = (),
) -> type[E] | Callable[[type[E]], type[E]]:
    """Say more about an event class; every argument is optional.

    Args:
        cls: the class, when used without arguments.
        name: its dotted name, instead of the class's ``__qualname__``; not inherited.
        key: the name of an attribute, or a function of the event; events with equal
            ``str(key)`` are handled in order. Inherited.
        topic: where its messages travel; inherited, ``events`` by default.
        version: the version of its fields, from 1.
        upgrade: ``{1: function}``: plain data of version 1 to plain data of version 2, chained.
        aliases: older names of it.

    Returns:
        The class itself.

    Raises:
        InvalidName: a name, topic or alias that is not dotted tokens.
        InvalidOption: a key that is no attribute of the class, a version below 1, an upgrade
            that is no function or does not lead to `version`.
    """
    spec = EventSpec(
        name=None if name is None else check_name(name),
        key=key,
        topic=None if topic is None else check_name(topic),
        version=version,
        upgrade=_check_upgrade({} if upgrade is None else upgrade, version),
        aliases=_check_aliases(aliases),
    )

    def mark(target: type[E]) -> type[E]:
        _check_spec(spec, target)
        try:
            setattr(target, ATTRIBUTE, spec)
        except (AttributeError, TypeError) as error:
            raise InvalidOption(f"@event: expected a class of yours, got {target!r}") from error
        return target

    return mark if cls is None else mark(cls)


def spec_of(cls: type) -> EventSpec:
    """What `@event` said about this very class; an empty spec if nothing."""
    return vars(cls).get(ATTRIBUTE) or EventSpec()


def name_of(cls: type) -> str:
    """The event name of a class."""
    return spec_of(cls).name or cls.__qualname__


def names_of(cls: type) -> tuple[str, ...]:
    """The names of a class and of the classes it derives from, leaf to root."""
    return tuple(
        name_of(base)
        for base in cls.__mro__
        if base is cls or base.__module__.partition(".")[0] not in _BASES
    )


def topic_of(cls: type) -> str:
    """The topic of a class: its own, or the nearest one it inherits, or ``events``."""
    topics = (spec_of(base).topic for base in cls.__mro__)
    return next(filter(None, topics), DEFAULT_TOPIC)


def key_function(cls: type) -> Callable[[Any], object] | None:
    """The function that gives the key of an event of this class, or None if it has none."""
    keys = (spec_of(base).key for base in cls.__mro__)
    key = next((key for key in keys if key is not None), None)
    if not isinstance(key, str):
        return key
    attribute = key
    return lambda event: getattr(event, attribute)


def check_event(event: object) -> None:
    """Refuse what cannot be an event of its own class.

    Raises:
        InvalidEvent: None, a class, or a value of a built-in type (which has no name of its own).
    """
    fix = "publish an instance of a class, or a dotted name with data: publish('name', data)"
    if isinstance(event, type):
        raise InvalidEvent(f"expected an event, got the class {event.__qualname__}: {fix}")
    cls = type(event)
    if cls.__module__ == "builtins" and not isinstance(event, BaseException):
        raise InvalidEvent(f"expected an event, got {cls.__name__} {event!r:.80}: {fix}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    import difflib  # noqa: PLC0415 -- only errors and warnings need it

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _check_spec(spec: EventSpec, cls: object) -> None:
    if not isinstance(cls, type):
        raise InvalidOption(f"@event: expected a class, got {shown(cls)}")
    if isinstance(spec.key, str):
        if not hasattr(cls, spec.key) and spec.key not in _attributes(cls):
            hint = did_you_mean(spec.key, _attributes(cls))
            raise InvalidOption(
                f"@event(key=...): expected an attribute of {cls.__qualname__},"
                f" got {spec.key!r}{hint}"
            )
    elif spec.key is not None and not takes(spec.key, 1):
        raise InvalidOption(
            f"@event(key=...): expected a name or a function of the event, got {shown(spec.key)}"
        )


def _check_aliases(aliases: object) -> tuple[str, ...]:
    if isinstance(aliases, str) or not isinstance(aliases, Iterable):
        raise InvalidOption(f"@event(aliases=...): expected a tuple of names, got {shown(aliases)}")
    return tuple(check_name(alias) for alias in cast("Iterable[str]", aliases))


def _check_upgrade(upgrade: object, version: object) -> Mapping[int, Upgrade]:
    """The upgrades to `version`: a function for each version from the oldest known on."""
    if type(version) is not int or version < 1:
        raise InvalidOption(f"@event(version=...): expected an int >= 1, got {shown(version)}")
    if not isinstance(upgrade, Mapping):
        raise InvalidOption(f"@event(upgrade=...): expected a dict, got {shown(upgrade)}")
    functions = cast("Mapping[int, Upgrade]", upgrade)
    known = range(version - len(functions), version)
    if set(functions) != set(known) or 0 in known or not all(map(callable, functions.values())):
        raise InvalidOption(
            f"@event(upgrade=...): expected a function for each version up to {version - 1},"
            f" the last one before version={version}, got {shown(functions)}"
        )
    return dict(functions)


def _annotations(cls: type) -> Iterable[str]:
    if sys.version_info >= (3, 14):  # Evaluated when asked for, which a forward name would fail.
        from annotationlib import Format, get_annotations  # noqa: PLC0415

        return get_annotations(cls, format=Format.FORWARDREF)
    return cast("Iterable[str]", vars(cls).get("__annotations__", ()))


def _attributes(cls: type) -> list[str]:
    found: list[str] = []
    for base in cls.__mro__:
        found.extend(_annotations(base))
        found.extend(name for name in vars(base) if not name.startswith("_"))
    return found
