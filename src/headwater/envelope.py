"""A message on the wire: its data as bytes, and everything else about it as plain values.

`Wire` is what is found out once about an event class, so that sealing one of its events is no more
than a call of an encoder. `unseal` goes the other way: it finds the most derived class that this
program knows among the names the message carries, brings old data up to its version, and builds
the event.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from headwater import codec
from headwater.errors import InvalidEvent, Undecodable
from headwater.event import name_of, names_of, spec_of
from headwater.message import NO_HEADERS, Message
from headwater.policies.storm import Story


class Envelope(NamedTuple):
    """One message, ready to be stored.

    Attributes:
        id: UUIDv7, or what its publisher gave.
        topic: where it travels.
        key: what orders it, or None.
        names: its names, leaf to root, joined by spaces.
        version: of the fields of its class.
        time: when it was published, seconds since 1970, UTC.
        correlation: the id of the first message of its story; None: its own.
        causation: the id of the message whose handler published it, or None.
        depth: the length of the chain of causes.
        headers: a JSON object, or None.
        data: JSON.
    """

    id: str
    topic: str
    key: str | None
    names: str
    version: int
    time: float
    correlation: str | None
    causation: str | None
    depth: int
    headers: bytes | None
    data: bytes

    @property
    def name(self) -> str:
        """The most derived of its names."""
        return self.names.partition(" ")[0]

    def pack(self) -> bytes:
        """All of it as bytes, for a ledger."""
        head = [*self[:9], None if self.headers is None else self.headers.decode()]
        return json.dumps(head).encode() + b"\n" + self.data

    @classmethod
    def unpack(cls, packed: bytes) -> "Envelope":
        """The envelope that was packed."""
        head, _, data = packed.partition(b"\n")
        fields: list[Any] = json.loads(head)
        headers = fields.pop()
        return cls._make([*fields, None if headers is None else headers.encode(), data])


class Wire(NamedTuple):
    """What is known of an event class, or of a plain name, on the wire."""

    names: str
    topic: str
    version: int
    encode: Callable[[Any], bytes]


def wire_of(what: type | str, topic: str) -> Wire:
    """Find out how events of a class, or under a plain name, are sent.

    Raises:
        InvalidEvent: a local class without a name that another process could know.
    """
    if isinstance(what, str):
        return Wire(what, topic, 1, codec.encode_data)
    spec = spec_of(what)
    if spec.name is None and "<locals>" in what.__qualname__:
        raise InvalidEvent(
            f"{what.__qualname__} is a local class: on a transport other processes must know it"
            f" by name, so give it one with @event(name=...)"
        )
    return Wire(" ".join(names_of(what)), topic, spec.version, codec.encoder(what))


def encode_headers(headers: Mapping[str, str]) -> bytes | None:
    """Headers as JSON; None where there are none.

    Raises:
        InvalidEvent: a header holds what is no text: half of a surrogate pair.
    """
    if not headers:
        return None
    try:
        return json.dumps(dict(headers), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"headers: expected text that has an encoding: {error}") from error


class Arrived(Message):
    """A message that came out of a log; its story is shared with others of its correlation."""

    __slots__ = ("stories",)

    stories: Callable[[str], Story] | None


def arrived(
    envelope: Envelope,
    event: object,
    now: Callable[[], float],
    stories: Callable[[str], Story],
) -> Arrived:
    """The message in an envelope whose event has been built."""
    headers: Mapping[str, str] = NO_HEADERS
    if envelope.headers is not None:
        headers = MappingProxyType(json.loads(envelope.headers))
    names = split_names(envelope.names)
    topic, key, depth = envelope.topic, envelope.key, envelope.depth
    message = Arrived(event, names, topic, key, headers, None, depth, now)
    message.id = envelope.id
    message.time = envelope.time
    message.correlation_id = envelope.correlation or envelope.id
    message.causation_id = envelope.causation
    message.stories = stories
    return message


MAX_KNOWN = 10_000
_split: dict[str, tuple[str, ...]] = {}


def split_names(names: str) -> tuple[str, ...]:
    """The names, leaf to root."""
    found = _split.get(names)
    if found is None:
        if len(_split) > MAX_KNOWN:
            _split.clear()
        found = _split[names] = tuple(names.split(" "))
    return found


Decode = Callable[[bytes], object]


def decoder_of(names: str, version: int, classes: Mapping[str, type[Any]]) -> Decode:
    """The function that builds events with these names, of this version.

    Args:
        names: as in an envelope.
        version: the same.
        classes: what this program knows, by name and alias.

    Returns:
        A function from the bytes to an instance of the most derived class that is known, or to
        plain data. It raises whatever is wrong with them.
    """
    every = split_names(names)
    cls = next((classes[name] for name in every if name in classes), None)
    if cls is None:
        return codec.decode_data
    cls = _most_derived(cls, every)
    spec = spec_of(cls)
    leaf = every[0] == name_of(cls) or every[0] in spec.aliases
    if leaf and spec.upgrade and version < spec.version:
        upgraded: type[Any] = cls
        return lambda data: _upgraded(data, version, upgraded)
    return codec.decoder(cls)


def _most_derived(cls: type[Any], names: Sequence[str]) -> type[Any]:
    """The class with the first of these names, among a class and those that derive from it.

    A subclass that was never subscribed to is known to its base all the same. Without this look, a
    handler of the base would get another class before this process has published the subclass.
    """
    found = names.index(name) if (name := name_of(cls)) in names else len(names)
    for derived in cls.__subclasses__():
        below = _most_derived(derived, names)
        if (name := name_of(below)) in names and names.index(name) < found:
            cls, found = below, names.index(name)
    return cls


def unseal(envelope: Envelope, decode: Decode) -> object:
    """Build the event in an envelope.

    Args:
        envelope: as it came.
        decode: from `decoder_of`.

    Raises:
        Undecodable: the bytes are no JSON, or do not make the class; the cause says why.
    """
    try:
        return decode(envelope.data)
    except Exception as error:
        raise Undecodable(
            f"{envelope.name} {envelope.id}, version {envelope.version}: got {len(envelope.data)}"
            f" bytes that this program cannot decode: {error}"
        ) from error


def _upgraded(encoded: bytes, version: int, cls: type[Any]) -> object:
    spec = spec_of(cls)
    data = cast("dict[str, Any]", codec.decode_data(encoded))
    for number in range(version, spec.version):
        if number not in spec.upgrade:
            raise ValueError(f"there is no upgrade from version {number}")
        data = spec.upgrade[number](data)
    return codec.build(data, cls, name_of(cls))
