"""Engines behind the seam (`headwater.transport`), one room each, found by the scheme of a URL."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from headwater.context import Publisher
from headwater.durable import Durable
from headwater.errors import InvalidOption, UnknownTransport
from headwater.event import did_you_mean
from headwater.lifecycle import Lifecycle
from headwater.outbox import Outbox
from headwater.publishing import Publishing
from headwater.registry import Registry
from headwater.runtime import Runtime
from headwater.settling import SettlingLife
from headwater.transport import Transport
from headwater.unfinished import Unfinished

Make = Callable[[str, Runtime, str], Transport]

ENTRY_POINTS = "headwater.transports"
"""Other packages register theirs under this group: ``scheme = "module:Class"``."""
_ENGINES = {
    "memory": "headwater.transports.memory:MemoryTransport",
    "sqlite": "headwater.transports.sqlite:SqliteTransport",
}


class Engine:
    """What a bus is made of for a URL: the kinds of its rooms, and the engine room.

    Args:
        make: makes the transport.
        url: where it is.
    """

    life = SettlingLife
    publishing = Outbox

    def __init__(self, make: Make, url: str) -> None:
        self._make = make
        self._url = url

    def durable(
        self,
        bus: Publisher,
        name: str,
        runtime: Runtime,
        registry: Registry,
        life: Lifecycle,
        publishing: Publishing,
        unfinished: "Unfinished[Any]",
        outbox: Callable[[], Any] | None,
    ) -> Durable:
        """The engine room of a bus whose rooms are of these kinds."""
        assert isinstance(life, SettlingLife)
        assert isinstance(publishing, Outbox)
        publishing.prepare()
        make = partial(self._make, self._url, runtime, name)
        return Durable(bus, name, make, runtime, registry, life, publishing, unfinished, outbox)


def _registered(scheme: str) -> str | None:
    """Where the transport is that another package has registered for a scheme."""
    found = list(entry_points(group=ENTRY_POINTS, name=scheme))
    return found[0].value if found else None


def find(url: object) -> Engine:
    """The engine for a URL.

    Raises:
        InvalidOption: it is no URL.
        UnknownTransport: no engine has its scheme.
    """
    if not isinstance(url, str):
        raise InvalidOption(f"Bus: expected a URL, or nothing for a direct bus, got {url!r}")
    scheme, separator, _ = url.partition("://")  # The rest may hold a password.
    if not separator or not scheme.replace("+", "").isalnum():
        raise InvalidOption("Bus: expected a URL such as 'sqlite:///shop.db', got no scheme://")
    place = _ENGINES.get(scheme) or _registered(scheme)
    if place is None:
        known = ", ".join(f"{name}://" for name in _ENGINES)
        raise UnknownTransport(
            f"Bus: there is no transport for {scheme}://{did_you_mean(scheme, _ENGINES)}; this"
            f" version has {known}"
        )
    module, _, name = place.partition(":")
    make: Make = getattr(import_module(module), name)
    return Engine(make, url)
