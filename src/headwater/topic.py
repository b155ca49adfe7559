"""Dotted names and the patterns that match them.

A name is one or more tokens joined by dots: ``order.placed``, ``OrderPlaced``. A pattern may
hold ``*`` for exactly one token and end with ``**`` for the rest, at least one token. Matching
walks the tokens once, so that no name can make it slow.
"""

from headwater.errors import InvalidName

MAX_NAME = 255
"""Characters a name or pattern may have."""


def check_name(name: str) -> str:
    """Return `name` if it is a plain dotted name.

    Raises:
        InvalidName: an empty token, white space, a wildcard, or more than 255 characters.
    """
    if any("*" in token for token in _tokens(name, "name")):
        raise InvalidName(f"name {name!r}: expected a plain name, got a wildcard")
    return name


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it is a dotted name that may hold ``*`` and end with ``**``.

    Raises:
        InvalidName: as for `check_name`, a ``*`` inside a token, or ``**`` before the end.
    """
    tokens = _tokens(pattern, "pattern")
    for place, token in enumerate(tokens):
        if token == "**" and place != len(tokens) - 1:
            raise InvalidName(f"pattern {pattern!r}: expected '**' only as the last token")
        if "*" in token and token not in ("*", "**"):
            raise InvalidName(
                f"pattern {pattern!r}: expected '*' or '**' to be a whole token, got {token!r}"
            )
    return pattern


def is_pattern(name: str) -> bool:
    """Whether `name` holds a wildcard."""
    return "*" in name


def matches(pattern: str, name: str) -> bool:
    """Whether the checked `pattern` matches the plain `name`."""
    wanted, given = pattern.split("."), name.split(".")
    if wanted[-1] == "**":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in ("*", token) for want, token in zip(wanted, given, strict=True)
    )


def _tokens(name: object, noun: str) -> list[str]:
    if not isinstance(name, str):
        raise InvalidName(f"{noun}: expected a str, got {type(name).__name__} {name!r:.80}")
    if len(name) > MAX_NAME:
        raise InvalidName(f"{noun}: expected at most {MAX_NAME} characters, got {len(name)}")
    tokens = name.split(".")
    for token in tokens:
        if not token:
            raise InvalidName(f"{noun} {name!r}: expected tokens joined by dots, got an empty one")
        if any(character.isspace() or not character.isprintable() for character in token):
            raise InvalidName(f"{noun} {name!r}: expected no white space or control characters")
    return tokens
