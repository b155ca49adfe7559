"""Ids that follow from what an event follows from. Pure.

A handler that runs again publishes again; the log keeps an id once. So the id of what a handler
publishes is a digest of its cause, its subscription and its content. It is laid out as a UUID of
version 8 (RFC 9562: custom) behind the time of its cause, so that ids still grow with time and the
index over them is written at its end.
"""

import hashlib
import re

_TIME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-")
"""Where a UUIDv7 holds the milliseconds of its time."""
_STAMP = 12


def derived(cause: str, subscription: str, name: str, key: str | None, data: bytes) -> str:
    """The id of an event that a handler publishes.

    Args:
        cause: the id of the event that is handled.
        subscription: whose handler it is.
        name: of the new event.
        key: of the new event.
        data: its encoded payload.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (cause, subscription, name, "" if key is None else f"={key}"):
        text = part.encode()
        digest.update(len(text).to_bytes(4, "big"))
        digest.update(text)
    digest.update(data)
    digits = digest.hexdigest()
    time = _TIME.match(cause)  # A publisher may have given an id that is no UUID.
    stamp = digits[:_STAMP] if time is None else time[1] + time[2]
    variant = f"{int(digits[16], 16) & 3 | 8:x}"
    rest = digits[17:32] + "0"
    digits = f"{stamp}8{digits[13:16]}{variant}{rest[:15]}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
