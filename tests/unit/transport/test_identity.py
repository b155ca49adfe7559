"""Derived ids: a function of what an event follows from, laid out as a UUID."""

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.policies.identity import derived
from headwater.runtime import new_id

UUIDS = st.uuids().map(str)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CAUSES = st.one_of(UUIDS, TEXT, st.text("xyz-0", min_size=36, max_size=36))
PARTS = st.tuples(CAUSES, TEXT, TEXT, st.none() | TEXT, st.binary())


@given(PARTS)
def test_the_same_parts_give_the_same_id(parts: tuple[str, str, str, str | None, bytes]) -> None:
    """A handler that runs again repeats its events' ids."""
    assert derived(*parts) == derived(*parts)


@given(PARTS)
def test_it_is_a_uuid_of_version_8(parts: tuple[str, str, str, str | None, bytes]) -> None:
    """Whatever the cause's id was: publishers may give ids of their own."""
    text = derived(*parts)
    made = UUID(text)
    assert str(made) == text
    assert (made.version, made.variant) == (8, RFC_4122)


@given(st.lists(PARTS, min_size=2, max_size=20, unique=True))
def test_different_parts_give_different_ids(
    many: list[tuple[str, str, str, str | None, bytes]],
) -> None:
    """No key is not an empty key, and no part flows into the next."""
    assert len({derived(*parts) for parts in many}) == len(many)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("s", "ab", "c", None, b""), ("s", "a", "bc", None, b"")),
        (("s", "a", "n", None, b""), ("s", "a", "n", "", b"")),
        (("s", "a", "n", "k", b"x"), ("s", "a", "n", "kx", b"")),
        (("s", "a", "n", None, b"=k"), ("s", "a", "n", "k", b"")),
    ],
)
def test_parts_that_look_alike_when_joined_are_told_apart(
    one: tuple[str, str, str, str | None, bytes], other: tuple[str, str, str, str | None, bytes]
) -> None:
    """Each part is digested with its length."""
    assert derived(*one) != derived(*other)


@given(UUIDS, st.lists(st.binary(), min_size=1, max_size=5))
def test_it_begins_with_the_time_of_its_cause(cause: str, payloads: list[bytes]) -> None:
    """So that ids go on growing with time, and the index over them grows at its end."""
    for payload in payloads:
        made = derived(cause, "shop:ship", "Shipped", None, payload)
        assert made.replace("-", "")[:12] == cause.replace("-", "")[:12]


def test_ids_are_ordered_by_the_milliseconds_of_their_causes() -> None:
    """Effects of a later cause come later, those of the same one together."""
    causes = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(1, 200, 7)]
    made = [derived(cause, "shop:ship", "Shipped", "k", b"data") for cause in causes]
    assert made == sorted(made)
    assert derived(new_id(), "s", "n", None, b"")[:8] <= new_id()[:8]
