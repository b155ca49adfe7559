"""A file in which processes note what they did: one line of JSON each, appended in one write.

A line that was written stays when its writer is killed, and nothing here takes out duplicates: it
is the independent witness of what handlers did.
"""

import json
import os
from pathlib import Path
from typing import Any

from headwater.testing.conformance.seen import PATIENCE, until


class Effects:
    """The file of effects at `path`, which need not exist yet."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def add(self, what: str, **fields: Any) -> None:
        """Append one line: what happened, in which process, and more."""
        line = json.dumps({"what": what, "pid": os.getpid(), **fields}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def lines(self, what: str) -> list[dict[str, Any]]:
        """All whole lines of one kind, in the order they were written."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [line for line in map(json.loads, whole) if line["what"] == what]

    def numbers(self, what: str) -> list[int]:
        """The numbers of the events, in the order they were written."""
        return [line["number"] for line in self.lines(what)]

    def pids(self, what: str) -> set[int]:
        """The processes that wrote lines of one kind."""
        return {line["pid"] for line in self.lines(what)}

    async def until(self, what: str, count: int, timeout: float = PATIENCE) -> None:
        """Wait for so many different numbers."""
        await until(
            lambda: len(set(self.numbers(what))) >= count,
            lambda: f"{count} events {what}; there were {len(set(self.numbers(what)))}",
            timeout,
        )

    async def until_lines(self, what: str, count: int = 1) -> None:
        """Wait for so many lines."""
        await until(lambda: len(self.lines(what)) >= count, f"{count} lines {what}")

    def first_time(self, name: str) -> bool:
        """Whether nobody, in any process, has asked for `name` before."""
        try:
            os.close(os.open(f"{self.path}.{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def first_of_each(numbers: list[int]) -> list[int]:
    """The numbers without their repetitions."""
    return list(dict.fromkeys(numbers))
