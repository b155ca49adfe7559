"""Notebooks: where cells are run again, and what they define takes the place of what it was.

Elsewhere nothing is ever replaced. A named function is known by its name. What has no name of
its own (a lambda, ``_``, a closure) is known by its cell, where the notebook tells which one that
is, and otherwise by where it stands, which stays the same while its text does. Within one
execution of a cell everything is separate, so that a loop registers as often as it turns.
"""

import sys
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Cell(NamedTuple):
    """One execution of a cell: its number, and the id of the cell, if the notebook tells."""

    number: int
    id: str | None


def running_cell() -> Cell | None:
    """The execution under way; None outside IPython and Jupyter.

    Never imports IPython: where it runs, it is loaded already.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return None
    parent: Any = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return Cell(int(shell.execution_count), parent.get("metadata", {}).get("cellId"))


class Cells(Generic[T]):
    """What the cells of a notebook have made; empty elsewhere."""

    def __init__(self) -> None:
        self._made: list[tuple[T, int, Hashable]] = []

    def replaced_by(self, new: T, name: str, where: str, *label: Hashable) -> list[T]:
        """What an earlier execution made, and `new` is now.

        Args:
            new: what the running cell makes.
            name: of its function, ``module.qualname``.
            where: its function stands, ``file:line``.
            label: what else tells it from others.
        """
        cell = running_cell()
        if cell is None:
            return []
        nameless = "<" in name or name.endswith("._")
        definition = (name, (cell.id or where) if nameless else None, label)
        old = [
            item
            for item, number, its_definition in self._made
            if number != cell.number and its_definition == definition
        ]
        for item in old:
            self.forget(item)
        self._made.append((new, cell.number, definition))
        return old

    def placed(
        self, chain: tuple[T, ...], new: T, name: str, where: str, *label: Hashable
    ) -> tuple[T, ...]:
        """`chain` with `new` in the place of what it is now, or else at its end."""
        old = self.replaced_by(new, name, where, *label)
        place = next((n for n, item in enumerate(chain) if item in old), len(chain))
        left, right = chain[:place], chain[place:]
        return (*left, new, *(item for item in right if item not in old))

    def forget(self, item: T) -> None:
        """It is no longer there to be replaced."""
        self._made = [made for made in self._made if made[0] is not item]
