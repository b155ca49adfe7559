"""Dotted names, and the patterns that match them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidName
from headwater.topic import MAX_NAME, check_name, check_pattern, is_pattern, matches

TOKEN = st.text(
    st.characters(exclude_characters=".*", categories=["L", "N"]), min_size=1, max_size=5
)
NAME = st.lists(TOKEN, min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("order", "order"),
        ("order.placed", "order.placed"),
        ("order.*", "order.placed"),
        ("*.placed", "order.placed"),
        ("*", "order"),
        ("order.*.paid", "order.o1.paid"),
        ("**", "order"),
        ("**", "order.placed.today"),
        ("order.**", "order.placed"),
        ("order.**", "order.placed.today"),
        ("*.**", "order.placed.today"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    """`*` stands for one token, a final `**` for the rest, which is at least one."""
    assert matches(check_pattern(pattern), check_name(name))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("order", "Order"),
        ("order", "order.placed"),
        ("order.*", "order"),
        ("order.*", "order.placed.today"),
        ("*", "order.placed"),
        ("order.**", "order"),
        ("order.**", "orders.placed"),
        ("*.**", "order"),
        ("*.placed", "order.cancelled"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, name: str) -> None:
    """Case, the number of tokens, and whole tokens count."""
    assert not matches(check_pattern(pattern), check_name(name))


@given(NAME)
def test_a_name_matches_itself_and_its_own_patterns(name: str) -> None:
    """Whatever the tokens are."""
    tokens = name.split(".")
    assert matches(check_pattern(name), check_name(name))
    assert matches("**", name)
    assert matches(".".join("*" for _ in tokens), name)
    for place in range(1, len(tokens)):
        assert matches(".".join([*tokens[:place], "**"]), name)
        assert matches(".".join([*tokens[:place], "*", *tokens[place + 1 :]]), name)
    assert not matches(f"{name}.**", name)
    assert not matches(f"{name}.*", name)


@given(NAME, NAME)
def test_a_plain_name_matches_no_other(one: str, other: str) -> None:
    """Without wildcards, matching is being equal."""
    assert matches(one, other) == (one == other)


def test_many_wildcards_do_not_make_matching_slow() -> None:
    """One walk over the tokens: nothing is tried again, however long the name."""
    pattern, name = ".".join("*" * 127), ".".join("a" * 127)
    assert matches(check_pattern(pattern), name)
    assert not matches(check_pattern(pattern), name + ".a")


@pytest.mark.parametrize(
    "name", ["order", "OrderPlaced", "Shop.<locals>.Order", "注文.受注", "a-b_c/d"]
)
def test_a_token_may_hold_any_printable_character(name: str) -> None:
    """Qualnames of local classes and other alphabets included."""
    assert check_name(name) == name
    assert check_pattern(name) == name
    assert not is_pattern(name)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_an_empty_token_is_refused(name: str) -> None:
    """In names and in patterns, at either end and in the middle."""
    for check in (check_name, check_pattern):
        with pytest.raises(InvalidName, match="expected tokens joined by dots, got an empty one"):
            check(name)


@pytest.mark.parametrize("name", ["a b", "a.\tb", "a\n", "a.b\x00", "\u2028"])
def test_white_space_and_control_characters_are_refused(name: str) -> None:
    """They would not be seen in a log."""
    for check in (check_name, check_pattern):
        with pytest.raises(InvalidName, match="no white space or control characters"):
            check(name)


@pytest.mark.parametrize("name", ["*", "**", "order.*", "order*", "*.order"])
def test_a_name_holds_no_wildcard(name: str) -> None:
    """What is published, and what a class is called, is plain."""
    assert is_pattern(name)
    with pytest.raises(InvalidName, match="expected a plain name, got a wildcard"):
        check_name(name)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("order*", "'\\*' or '\\*\\*' to be a whole token, got 'order\\*'"),
        ("*order.a", "to be a whole token"),
        ("a.***", "to be a whole token"),
        ("**.placed", "'\\*\\*' only as the last token"),
        ("a.**.b", "only as the last token"),
        ("**.**", "only as the last token"),
    ],
)
def test_a_wildcard_in_the_wrong_place_is_refused(pattern: str, words: str) -> None:
    """The text shows the pattern and what is wrong with it."""
    with pytest.raises(InvalidName, match=words) as caught:
        check_pattern(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("name", [None, 42, b"order", ["order"], object])
def test_a_name_is_text(name: object) -> None:
    """The text tells the type that came."""
    for check in (check_name, check_pattern):
        with pytest.raises(InvalidName, match=f"expected a str, got {type(name).__name__} "):
            check(name)  # type: ignore[arg-type]


def test_a_name_has_an_end() -> None:
    """255 characters are allowed, and not one more."""
    assert MAX_NAME == 255
    assert check_name("a" * 255)
    with pytest.raises(InvalidName, match="at most 255 characters, got 256"):
        check_name("a" * 256)
    with pytest.raises(InvalidName, match="at most 255 characters, got 257"):
        check_pattern("a." * 127 + "abc")
