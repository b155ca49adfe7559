"""The checks that every policy makes on its fields.

A policy is written once and used for years, so nonsense in it is refused where it is written and
not where it first bites. Each check takes the value and the name of the field, returns the value
in the one form the rest of the house works with, and otherwise raises an error that says which
field it was, what was expected and what came. A bool is an int to Python and never one to a
policy: `Retry(max_attempts=True)` is a mistake. Numbers that are not finite are refused as well,
because a comparison with them is silently always true or always false.
"""

import inspect
import math

from headwater.errors import InvalidPolicy

LONGEST_SHOWN = 120
"""How many characters of a refused value an error shows."""


def refused(name: str, expected: str, value: object) -> InvalidPolicy:
    """Build the error for a field that holds something else than expected.

    Args:
        name: The field, as in `Breaker.cooldown`.
        expected: What it may hold, as in "an int of at least 1".
        value: What came instead.

    Returns:
        The error, to be raised by the caller.
    """
    return InvalidPolicy(f"{name}: expected {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """Describe a value in one short line for an error text, with its type.

    The description itself never fails: a `__repr__` of a user may raise, and so does that of an
    int with thousands of digits.
    """
    kind = type(value).__name__
    try:
        text = repr(value)
    except Exception:  # what a user's __repr__ raises is anybody's guess
        return f"something of type {kind}"
    if len(text) > LONGEST_SHOWN:
        text = text[:LONGEST_SHOWN] + "..."
    return f"{text} ({kind})"


def whole(value: object, name: str, *, least: int | None = 1) -> int:
    """Check a field that counts something.

    Args:
        value: What the field holds.
        name: The field, for the error.
        least: The smallest number allowed, default 1; None allows every int.

    Returns:
        The value, known to be an int.

    Raises:
        InvalidPolicy: If it is no int, is a bool, or is less than `least`.
    """
    expected = "an int" if least is None else f"an int of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused(name, expected, value)
    if least is not None and value < least:
        raise refused(name, expected, value)
    return value


def finite(
    value: object,
    name: str,
    *,
    least: float = 0.0,
    positive: bool = False,
    kind: str = "a finite number",
) -> float:
    """Check a field that measures something.

    Args:
        value: What the field holds.
        name: The field, for the error.
        least: The smallest number allowed, default 0.
        positive: Whether 0 is refused too, default False.
        kind: What the error calls such a value.

    Returns:
        The value as a float.

    Raises:
        InvalidPolicy: If it is no int or float, is a bool, not finite, or too small.
    """
    expected = f"{kind} above 0" if positive else f"{kind} of at least {least:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(name, expected, value)
    try:
        number = float(value)
    except OverflowError as error:
        raise refused(name, expected, value) from error
    if not math.isfinite(number) or number < least or (positive and number <= 0):
        raise refused(name, expected, value)
    return number


def takes(function: object, count: int) -> bool:
    """Tell whether a function can be called with `count` arguments, as far as it says."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except Exception:  # some built-ins have none, and annotations may not exist
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def instance(value: object, name: str, kind: type) -> None:
    """Check a field that holds a value of one type.

    Raises:
        InvalidPolicy: If it is of another type.
    """
    if not isinstance(value, kind):
        raise refused(name, f"a {kind.__name__}", value)
