"""The checkers are awake: they refuse what is wrong without any help of headwater."""

from typing import assert_type


def double(number: int) -> int:
    return 2 * number


assert_type(double(1), int)
double("1")  # E: arg-type
assert_type(double(1), str)  # E
