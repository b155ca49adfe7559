"""The checks that every policy makes on its fields, and the words of their refusal."""

import math
from datetime import timedelta

import pytest

from headwater.errors import HeadwaterError, InvalidPolicy
from headwater.policies.duration import seconds
from headwater.policies.field import finite, instance, refused, shown, whole

NOT_FINITE = (math.nan, math.inf, -math.inf, 10**400)


class Secretive:
    def __repr__(self) -> str:
        raise RuntimeError("not for your eyes")


def test_a_refusal_names_the_field_what_was_expected_and_what_came() -> None:
    """One line is enough to mend the policy, and it is a ValueError of our tree."""
    error = refused("Breaker.failures", "an int of at least 1", 0)
    assert str(error) == "Breaker.failures: expected an int of at least 1, got 0 (int)"
    assert isinstance(error, ValueError)
    assert isinstance(error, HeadwaterError)


def test_a_value_is_shown_with_its_type() -> None:
    """The string "5" and the number 5 look different in an error."""
    assert shown("5") == "'5' (str)"
    assert shown(5) == "5 (int)"


def test_a_long_value_is_cut() -> None:
    """An error text stays one short line whatever came."""
    assert shown("x" * 1000) == "'" + "x" * 119 + "... (str)"


def test_a_value_that_cannot_be_shown_is_described() -> None:
    """A repr that raises, as that of an int with thousands of digits does, hides no refusal."""
    assert shown(Secretive()) == "something of type Secretive"
    assert shown(10**5000) == "something of type int"


def test_a_count_is_returned_as_it_came() -> None:
    """From the least allowed number upward every int passes, and with None every int at all."""
    assert whole(1, "f") == 1
    assert whole(10**400, "f") == 10**400
    assert whole(0, "f", least=0) == 0
    assert whole(-7, "f", least=None) == -7


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, math.nan, [1]])
@pytest.mark.parametrize("least", [1, None])
def test_a_count_is_an_int_and_nothing_else(value: object, least: int | None) -> None:
    """A bool, a float without a fraction and a numeral are no counts."""
    with pytest.raises(InvalidPolicy, match=r"f: expected an int.*, got"):
        whole(value, "f", least=least)


def test_a_count_below_the_least_is_refused() -> None:
    """The error says what the least is."""
    with pytest.raises(InvalidPolicy, match="f: expected an int of at least 1, got 0"):
        whole(0, "f")


def test_a_number_is_returned_as_a_float() -> None:
    """Ints and floats pass from the least allowed upward."""
    assert finite(0, "f") == 0.0
    assert isinstance(finite(3, "f"), float)
    assert finite(1.0, "f", least=1.0) == 1.0
    assert finite(5e-324, "f", positive=True) == 5e-324


@pytest.mark.parametrize("value", [True, "1", None, 1j, *NOT_FINITE])
def test_a_number_is_finite_and_no_bool(value: object) -> None:
    """What compares always true or always false is refused, and so is what cannot be a float."""
    with pytest.raises(InvalidPolicy, match="f: expected a finite number of at least 0, got"):
        finite(value, "f")


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1])
def test_a_positive_number_is_above_zero(value: float) -> None:
    """Zero itself is refused where a number has to be positive."""
    with pytest.raises(InvalidPolicy, match="f: expected a finite number above 0, got"):
        finite(value, "f", positive=True)


def test_a_number_below_the_least_is_refused() -> None:
    """The error says what the least is."""
    with pytest.raises(InvalidPolicy, match=r"f: expected a finite number of at least 1, got 0\.9"):
        finite(0.9, "f", least=1)


def test_a_value_of_another_type_is_refused() -> None:
    """The error names the type that was expected."""
    instance(5, "f", int)
    with pytest.raises(InvalidPolicy, match=r"f: expected a bool, got 1 \(int\)"):
        instance(1, "f", bool)


def test_a_duration_is_seconds_or_a_timedelta() -> None:
    """Both become float seconds."""
    assert seconds(2, "f") == 2.0
    assert isinstance(seconds(2, "f"), float)
    assert seconds(0, "f") == 0.0
    assert seconds(timedelta(minutes=1, milliseconds=500), "f") == 60.5
    assert seconds(timedelta.max, "f") == timedelta.max.total_seconds()


@pytest.mark.parametrize("value", [True, "5", None, -1, timedelta(seconds=-1), *NOT_FINITE])
def test_nonsense_is_no_duration(value: object) -> None:
    """Time that runs backwards, never ends, or is no time at all, is refused by name."""
    with pytest.raises(InvalidPolicy, match=r"timeout: expected seconds \(a finite number or a ti"):
        seconds(value, "timeout")


@pytest.mark.parametrize("value", [0, timedelta(0)])
def test_no_time_is_refused_where_a_duration_has_to_be_positive(value: object) -> None:
    """A rate per nothing has no meaning."""
    with pytest.raises(InvalidPolicy, match="above 0, got"):
        seconds(value, "per", positive=True)
