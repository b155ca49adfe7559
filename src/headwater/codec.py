"""Data to events: the one place that knows msgspec, imported when first needed."""

import contextlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

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


def encode_data(data: object) -> bytes:
    """Plain data as JSON.

    Raises:
        InvalidData: it holds something that has no JSON.
    """
    import msgspec

    try:
        encoded = msgspec.json.encode(data, enc_hook=_plain)
        if b"null" in encoded:
            _refuse_nan(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidData(f"expected data that can be written as JSON: {error}") from error
    return encoded


def decode_data(data: bytes) -> object:
    """JSON as plain data.

    Raises:
        ValueError: it is none.
    """
    import msgspec

    return msgspec.json.decode(data)


def encoder(cls: type[Any]) -> Callable[[Any], bytes]:
    """The function that writes an event of this class as a JSON object.

    It raises InvalidData for an event that holds something that has no JSON.
    """
    import msgspec

    if hasattr(cls, "model_dump_json"):
        return lambda event: cast("bytes", event.model_dump_json().encode())
    encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_plain).encode
    if hasattr(cls, "_asdict") and hasattr(cls, "_fields"):
        return _told(cls, lambda event: encode(event._asdict()))
    if not _has_fields(cls) and not hasattr(cls, "__pydantic_validator__"):
        return _told(cls, lambda event: encode(_attributes(event)))
    return _told(cls, encode)


def _told(cls: type[Any], encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    fields: Mapping[str, object] = getattr(cls, "__dataclass_fields__", {})
    count = 0 if hasattr(cls, "__slots__") else len(fields)

    def told(event: Any) -> bytes:
        if count and len(event.__dict__) < count:
            _complete(event, fields)
        try:
            data = encode(event)
            if b"null" in data:
                _refuse_nan(event)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidData(
                f"{cls.__qualname__}: expected fields that can be written as JSON: {error}"
            ) from error
        return data

    return told


def _complete(event: Any, fields: Mapping[str, object]) -> None:
    """Write defaults out: msgspec leaves them to the class, which may change them some day."""
    for name in fields:
        if name not in event.__dict__ and hasattr(event, name):
            object.__setattr__(event, name, getattr(event, name))


def _refuse_nan(value: object) -> None:
    """Refuse numbers that JSON does not have, and that would be written as null."""
    import msgspec

    ahead: list[object] = [msgspec.to_builtins(value, enc_hook=_plain)]
    while ahead:
        item = ahead.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{item} is no number of JSON's")
        if isinstance(item, Mapping):
            ahead.extend(cast("Mapping[object, object]", item).values())
        elif isinstance(item, list | tuple):
            ahead.extend(cast("list[object]", item))


def _attributes(event: object) -> dict[str, Any]:
    """The attributes of an event whose class tells no fields."""
    if isinstance(event, BaseException):
        return {"args": event.args, **vars(event)}
    return dict(vars(event)) if hasattr(event, "__dict__") else {}


def _plain(value: object) -> object:
    """What msgspec does not know by itself, inside an event."""
    dump: Any = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"{type(value).__qualname__} {shown(value)} has no JSON")


def decoder(cls: type[Any]) -> Callable[[bytes], object]:
    """The function that builds an event of this class from JSON; unknown fields are ignored."""
    decode = _decoders.get(cls)
    if decode is None:
        decode = _decoders[cls] = _make_decoder(cls)
    return decode


_decoders: "WeakKeyDictionary[type[Any], Callable[[bytes], object]]" = WeakKeyDictionary()


def _make_decoder(cls: type[Any]) -> Callable[[bytes], object]:
    import msgspec

    if hasattr(cls, "model_validate_json"):
        validate: Any = cls
        return cast("Callable[[bytes], object]", validate.model_validate_json)
    named = hasattr(cls, "_fields")
    if _has_fields(cls) and not named and not inspect.isabstract(cls):
        with contextlib.suppress(TypeError):  # A field's type that msgspec does not know.
            return msgspec.json.Decoder(cls).decode
    return lambda data: _build(msgspec.json.decode(data), cls)
