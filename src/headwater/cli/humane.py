"""Times and numbers as people write and read them."""

import re
from datetime import UTC, datetime

from headwater.cli.failure import usage

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)?", re.ASCII)
_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_TWICE, _COARSE, _FINE = 2, 10, 0.01


def duration(text: str, option: str) -> float:
    """Seconds in ``90``, ``90s``, ``5m``, ``2h``, ``7d`` or ``1w``.

    Raises:
        Failure: it is nothing of the kind.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise usage(f"{option}: expected a duration such as 30s, 5m, 2h or 7d, got {text!r}")
    return float(found[1]) * _UNITS[found[2] or "s"]


def moment(text: str, option: str, now: float) -> float:
    """The time that ``5m`` (so long ago) or ``2026-11-23T10:00`` (local time) means."""
    if _DURATION.fullmatch(text.strip()):
        return now - duration(text, option)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise usage(
            f"{option}: expected a duration such as 5m, or a time such as 2026-11-23T10:00, got"
            f" {text!r}"
        ) from None


def span(seconds: float) -> str:
    """A duration in one number and a unit."""
    for size, unit in _STEPS:
        if seconds >= _TWICE * size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= _COARSE:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= _FINE else f"{seconds * 1000:.2g} ms"


def ago(time: float | None, now: float) -> str:
    """How long ago a time was."""
    return "-" if time is None else f"{span(max(0.0, now - time))} ago"


def stamp(time: float) -> str:
    """A time, in the place where the reader is."""
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}"


def clock(time: float) -> str:
    """The time of the day, to the millisecond."""
    there = datetime.fromtimestamp(time).astimezone()
    return f"{there:%H:%M:%S}.{there.microsecond // 1000:03}"


def iso(time: float | None) -> str | None:
    """A time for programs: UTC."""
    if time is None:
        return None
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def plural(number: int, noun: str, nouns: str = "") -> str:
    """``1 event``, ``2,000 events``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
