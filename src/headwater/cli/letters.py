"""Dead letters by what they have in common: the subscription, the error, and the line it rose on.

The line is the last one of the traceback that belongs to neither headwater nor installed packages:
there the application's own code failed.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import headwater
from headwater.deadletters import DeadLetter

_FRAME = re.compile(
    r'^  File "(?P<path>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE
)
_OURS = str(Path(headwater.__file__).parent)
_FOREIGN = ("site-packages", "dist-packages", _OURS, "<frozen", "/lib/python")


class Group(NamedTuple):
    """Dead letters of one subscription that failed in one place with one error."""

    name: str
    subscription: str
    kind: str
    where: str
    letters: tuple[DeadLetter, ...]

    @property
    def first(self) -> float:
        """When the first one was given up."""
        return min(letter.time for letter in self.letters)

    @property
    def last(self) -> float:
        """When the last one was."""
        return max(letter.time for letter in self.letters)


def grouped(letters: Sequence[DeadLetter]) -> list[Group]:
    """The groups, the largest first."""
    found: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(name_of(letter), []).append(letter)
    groups = [
        Group(name, some[0].subscription, some[0].kind, where_of(some[0]), tuple(some))
        for name, some in found.items()
    ]
    return sorted(groups, key=lambda group: -len(group.letters))


def where_of(letter: DeadLetter) -> str:
    """``file.py:12 in function``; empty for what never reached a handler."""
    frames = list(_FRAME.finditer(letter.traceback))
    own = [frame for frame in frames if not any(part in frame["path"] for part in _FOREIGN)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f"{Path(frame['path']).name}:{frame['line']} in {frame['name']}"


def name_of(letter: DeadLetter) -> str:
    """The name of a letter's group: a digest of what its letters share."""
    frames = f"{letter.subscription}\n{letter.kind}\n{where_of(letter)}"
    return hashlib.blake2b(frames.encode(), digest_size=4).hexdigest()
