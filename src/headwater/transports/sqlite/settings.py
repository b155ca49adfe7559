"""What the URL of a log says.

``sqlite:///shop.db`` is a file in the current folder, ``sqlite:////var/lib/shop.db`` an absolute
path. After a question mark come settings.
"""

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater.errors import InvalidOption
from headwater.event import did_you_mean

LARGEST = 1e12
_SYNCHRONOUS = ("full", "normal")


class Settings(NamedTuple):
    """The settings of a log.

    Attributes:
        path: of the file, absolute.
        synchronous: ``full``: what is confirmed survives a power cut; ``normal``: it survives the
            end of the process, and a power cut may take the latest events back.
        lease: seconds after which a process that hangs loses its lanes.
        timeout: seconds to wait for another process's write lock.
        poll: seconds between two looks at the file, should a wake-up have been lost.
        retain: seconds for which settled events are kept; 0: for ever.
        max_bytes: how large an encoded event may be.
    """

    path: str
    synchronous: str = "full"
    lease: float = 10.0
    timeout: float = 5.0
    poll: float = 0.1
    retain: float = 0.0
    max_bytes: int = 1 << 20


def settings_of(url: str) -> Settings:
    """Read a URL.

    Raises:
        InvalidOption: no path, an unknown setting, or a value that makes no sense.
    """
    parts = urlsplit(url)
    if parts.netloc:
        raise InvalidOption(
            f"Bus: expected sqlite:///file.db, or sqlite:////absolute/path.db, got sqlite://"
            f"{parts.netloc}{parts.path}: the third slash is missing"
        )
    path = unquote(parts.path.removeprefix("/"))
    if not path:
        raise InvalidOption("Bus: expected sqlite:///file.db, got no path")
    values = dict[str, object](path=os.path.abspath(path))
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        values[name] = _value(name, text)
    return Settings(**values)  # type: ignore[arg-type]


def _value(name: str, text: str) -> object:
    known = [field for field in Settings._fields if field != "path"]
    if name not in known:
        raise InvalidOption(f"Bus: sqlite: unknown setting {name!r}{did_you_mean(name, known)}")
    if name == "synchronous":
        if text.lower() not in _SYNCHRONOUS:
            raise InvalidOption(f"Bus: sqlite: synchronous: expected full or normal, got {text!r}")
        return text.lower()
    kind = int if name == "max_bytes" else float
    try:
        value = kind(text)
    except ValueError:
        value = -1
    smallest = 0 if name == "retain" else 1 if kind is int else 0.001
    if not smallest <= value < LARGEST:
        raise InvalidOption(f"Bus: sqlite: {name}: expected a number >= {smallest}, got {text!r}")
    return value
