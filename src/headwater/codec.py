"""Data to events: the one place that knows msgspec, imported when first needed."""

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from headwater.errors import InvalidData
from headwater.policies.field import shown

T = TypeVar("T")


def build(data: object, cls: type[T], name: str) -> T:
    """Make an event of class `cls` from plain data; unknown fields are ignored.

    Args:
        data: an instance of `cls`, or a mapping of its fields.
        cls: a dataclass, msgspec Struct, attrs class, pydantic model or NamedTuple, whose fields
            are checked; or a class whose fields are the arguments of its constructor.
        name: the event's name, for the text of errors.

    Raises:
        InvalidData: the data does not fit.
    """
    with contextlib.suppress(TypeError):  # list[int] and TypedDicts know no instances.
        if isinstance(data, cls):
            return data
    try:
        return cast("T", _build(data, cls))
    except Exception as error:  # msgspec, pydantic and the class's own checks each have theirs.
        wanted = getattr(cls, "__qualname__", cls)
        raise InvalidData(
            f"{name}: expected data that makes a {wanted}, got {shown(data)}: {error}"
        ) from error


def _build(data: object, cls: Any) -> object:
    if inspect.isabstract(cls):
        raise TypeError("the class is abstract")
    if hasattr(cls, "model_validate"):
        return cls.model_validate(data)
    import msgspec

    if not isinstance(data, Mapping):
        return msgspec.convert(data, cls)
    fields = cast("Mapping[str, object]", data)
    if hasattr(cls, "_fields"):  # msgspec makes a NamedTuple from a list only.
        known = {name: value for name, value in fields.items() if name in cls._fields}
        return msgspec.convert(list(cls(**known)), cls)
    if _has_fields(cls):
        return msgspec.convert(fields, cls)
    return cls(**fields)


def _has_fields(cls: object) -> bool:
    """Whether the class tells which fields it has, and of which types."""
    if hasattr(cls, "__pydantic_validator__"):
        return False  # Those of a pydantic dataclass are checked by its constructor.
    marks = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__", "__total__")
    builtin = not isinstance(cls, type) or cls.__module__ == "builtins"
    return builtin or any(hasattr(cls, mark) for mark in marks)
