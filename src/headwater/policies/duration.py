"""Durations: seconds inside, seconds or a timedelta at the edge.

Everything in the house that lasts is counted in float seconds, because clocks and timers are.
Whoever writes a policy may say `timedelta(minutes=5)` where that reads better; `seconds` is the
one place where it becomes a number.
"""

from datetime import timedelta
from typing import TypeAlias

from headwater.policies.field import finite

Duration: TypeAlias = float | timedelta
"""What a user may write for a duration: seconds, or a timedelta."""


def seconds(value: object, name: str, *, positive: bool = False) -> float:
    """Turn a duration into float seconds.

    Args:
        value: Seconds as an int or float, or a timedelta.
        name: What the duration is called where it was written, for the error.
        positive: Whether a duration of 0 is refused, default False.

    Returns:
        The duration in seconds, finite and not negative.

    Raises:
        InvalidPolicy: If it is no duration, is a bool, not finite, negative, or 0 with `positive`.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    return finite(number, name, positive=positive, kind="seconds (a finite number or a timedelta)")
